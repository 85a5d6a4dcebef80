//! The filter of log lines: a level, or one for each module, as in `log.level` and `LOCKGATE_LOG`.

use tracing_subscriber::EnvFilter;

use super::names::{list, nearest};

const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

/// The targets of the gateway's own lines, and of plugins' output.
const OWN_TARGETS: [&str; 2] = ["lockgate", "guest"];

/// Parses a filter, or gives the fault and its remedy. Errors are logged for modules that the text does not name.
///
/// A word alone is a level: as a module's name, which tracing would take it for, a misspelt level would silence
/// everything.
pub(crate) fn filter(text: &str) -> Result<String, (String, String)> {
    let directives: Vec<_> = text.split(',').map(str::trim).collect();
    let mut for_all = false;
    for directive in &directives {
        if directive.contains('[') {
            continue; // tracing judges fields and spans.
        }
        let Some((module, level)) = directive.rsplit_once('=') else {
            for_all = true;
            check_level(directive)?;
            continue;
        };
        check_level(level)?;
        let root = module.split("::").next().unwrap_or_default();
        if let Some(near) = nearest(root, &OWN_TARGETS)
            && near != root
        {
            return Err((
                format!("{module:?} is no module of the gateway"),
                format!("did you mean {near:?}?"),
            ));
        }
    }
    let rest = if for_all { "" } else { "error," };
    let filter = format!("{rest}{}", directives.join(","));
    match EnvFilter::builder().parse(&filter) {
        Ok(_) => Ok(filter),
        Err(error) => Err((
            format!("{text:?} cannot be understood: {error}"),
            format!("write {}, or module=level", list(&LEVELS)),
        )),
    }
}

fn check_level(word: &str) -> Result<(), (String, String)> {
    let known = |level: &&str| word.eq_ignore_ascii_case(level);
    if LEVELS.iter().any(known) || matches!(word, "0" | "1" | "2" | "3" | "4" | "5") {
        return Ok(());
    }
    let remedy = if word.contains("::") || OWN_TARGETS.contains(&word) {
        format!("give it a level, as in \"{word}=debug\"")
    } else {
        match nearest(word, &LEVELS) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("write {}, or module=level", list(&LEVELS)),
        }
    };
    Err((format!("{word:?} is no level"), remedy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, &str>) {
        let found = filter(text).map_err(|(message, remedy)| format!("{message}; {remedy}"));
        assert_eq!(
            found.as_deref().map_err(String::as_str),
            expected,
            "{text:?}"
        );
    }

    #[test]
    fn levels_for_all_or_for_modules_are_filters_and_errors_are_never_lost() {
        for text in [
            "info",
            "WARN",
            "off",
            "2",
            "info,lockgate::session=debug",
            "off,guest=info",
        ] {
            check(text, Ok(text));
        }
        check("lockgate=debug", Ok("error,lockgate=debug"));
        check(
            "hyper=trace, reqwest=debug",
            Ok("error,hyper=trace,reqwest=debug"),
        );
        check("[request]=debug", Ok("error,[request]=debug"));
    }

    #[test]
    fn misspelt_level_is_refused_with_the_nearest() {
        check("inof", Err("\"inof\" is no level; did you mean \"info\"?"));
        check(
            "warning",
            Err("\"warning\" is no level; did you mean \"warn\"?"),
        );
        check(
            "lockgate=debg",
            Err("\"debg\" is no level; did you mean \"debug\"?"),
        );
        check(
            "info,",
            Err(
                "\"\" is no level; write \"error\", \"warn\", \"info\", \"debug\", \"trace\" or \"off\", or module=level",
            ),
        );
        check(
            "lockgate::session",
            Err(
                "\"lockgate::session\" is no level; give it a level, as in \"lockgate::session=debug\"",
            ),
        );
        check(
            "lokgate=debug",
            Err("\"lokgate\" is no module of the gateway; did you mean \"lockgate\"?"),
        );
        check(
            "9",
            Err(
                "\"9\" is no level; write \"error\", \"warn\", \"info\", \"debug\", \"trace\" or \"off\", or module=level",
            ),
        );
    }
}
