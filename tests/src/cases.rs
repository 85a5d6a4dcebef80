//! A test target whose tests need tools: tests without their tool are shown as ignored, with the reason, and the tools
//! to install are listed at the end. The harness of `cargo test` itself would show them as `ok`.

use std::{
    collections::BTreeSet,
    env,
    io::{self, Write as _},
    path::Path,
    pin::Pin,
    process::ExitCode,
};

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::Tool;

/// A test and the tools that it needs.
pub struct Case {
    pub name: &'static str,
    pub needs: &'static [Tool],
    /// Whether it runs with `--ignored` only, since it takes minutes.
    pub long: bool,
    pub test: fn() -> Pin<Box<dyn Future<Output = ()>>>,
}

/// The cases of async functions: `cases![module::function: Tool, Tool; …]`.
#[macro_export]
macro_rules! cases {
    ($($test:path: $($tool:ident),*;)*) => {
        vec![$($crate::Case {
            name: stringify!($test),
            needs: &[$($crate::Tool::$tool),*],
            long: false,
            test: || Box::pin($test()),
        }),*]
    };
}

/// Marks cases that take minutes.
#[must_use]
pub fn long(cases: Vec<Case>) -> Vec<Case> {
    let cases = cases.into_iter();
    cases.map(|case| Case { long: true, ..case }).collect()
}

/// The `main` of a test target: runs the cases that the command line selects. Under `CI=true` a missing tool fails its
/// tests.
#[must_use]
pub fn run(target: &Path, cases: Vec<Case>) -> ExitCode {
    let arguments = Arguments::from_args();
    let everything = env::var_os("CI").is_some_and(|value| value == "true");
    let needed: BTreeSet<_> = cases.iter().flat_map(|case| case.needs).collect();
    let missing: BTreeSet<Tool> = needed
        .into_iter()
        .copied()
        .filter(|tool| !tool.is_there(target))
        .collect();
    let trials = cases.into_iter().map(|case| {
        let lacks = case.needs.iter().find(|tool| missing.contains(tool));
        let lacks = lacks.map(|tool| format!("{} is missing", tool.name()));
        Trial::ignorable_test(case.name, move || match lacks {
            None => {
                complete(case.test);
                Ok(Completion::Completed)
            }
            Some(lacks) if everything => Err(Failed::from(lacks)),
            Some(lacks) => Ok(Completion::ignored_with(lacks)),
        })
        .with_ignored_flag(case.long)
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    if !missing.is_empty() && conclusion.num_ignored > 0 && !arguments.list {
        let names: Vec<_> = missing.iter().map(|tool| tool.name()).collect();
        let _ = writeln!(
            io::stdout(),
            "{} tests did not run. Missing: {}. `.ci/run` installs what can be installed.\n",
            conclusion.num_ignored,
            names.join("; ")
        );
    }
    conclusion.exit_code()
}

fn complete(test: fn() -> Pin<Box<dyn Future<Output = ()>>>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test());
}
