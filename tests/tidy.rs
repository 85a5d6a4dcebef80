//! Rules that reviewers would otherwise have to check: imports between modules, the length of files, paths in pages,
//! the tables of limits, and the dependencies.

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails where it stands"
)]

#[path = "tidy/dependencies.rs"]
mod dependencies;
#[path = "tidy/limits.rs"]
mod limits;
#[path = "tidy/pages.rs"]
mod pages;

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Each library, with the only modules that may name it.
const NAMED_IN: [(&str, &[&str]); 12] = [
    ("wasmtime", &["plugin"]),
    (
        "tungstenite",
        &["fuzz", "dialogue", "handshake", "transport"],
    ),
    (
        "hyper",
        &[
            "fuzz",
            "cli",
            "dialogue",
            "listener",
            "management",
            "handshake",
            "http3",
            "net",
        ],
    ),
    ("quinn", &["listener", "http3"]),
    ("octets", &["http3"]),
    (
        "rustls",
        &["listener", "handshake", "signature", "auth", "net"],
    ),
    ("axum", &["management"]),
    ("wasmparser", &["plugin"]),
    ("rustix", &["handover", "plugin", "net", "output"]),
    ("sd_notify", &["cli"]),
    (
        "reqwest",
        &["authorizer", "config", "net", "otlp", "registry"],
    ),
    (
        "aws_lc_rs",
        &["auth", "listener", "management", "signature", "net"],
    ),
];

/// Each module, with the paths that it must not name: `route` is pure, and `connections` has neither socket nor
/// protocol.
const PURE: [(&str, &[&str]); 2] = [
    (
        "route",
        &[
            "tokio",
            "std::time",
            "std::sync",
            "std::thread",
            "std::fs",
            "std::net",
            "tracing",
        ],
    ),
    (
        "connections",
        &[
            "tokio::io",
            "tokio::net",
            "tokio::task",
            "tokio_util::io",
            "http",
            "hyper",
            "serde_json",
            "std::fs",
            "std::io",
            "std::net::Tcp",
        ],
    ),
];

/// The largest number of lines in a source file.
const LONGEST: usize = 600;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The files below `folder` with this ending, without built and fetched ones.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            if !name.starts_with('.') && !["target", "node_modules"].contains(&name) {
                found.extend(files(&path, ending));
            }
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
    found
}

/// Each source file of the host, with its top module and its text without comments.
fn sources() -> Vec<(PathBuf, String, String)> {
    let host = root().join("host/src");
    let sources = files(&host, ".rs").into_iter().map(|path| {
        let inside = path.strip_prefix(&host).unwrap();
        let first = inside.iter().next().unwrap().to_str().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let code: Vec<_> = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect();
        let module = first.trim_end_matches(".rs").to_owned();
        (path, module, code.join("\n"))
    });
    sources.collect()
}

/// The modules right after `crate::` in some code, alone or in braces.
fn imported(code: &str) -> Vec<&str> {
    let mut imported = Vec::new();
    for (place, _) in code.match_indices("crate::") {
        let rest = &code[place + "crate::".len()..];
        let names = match rest.strip_prefix('{') {
            Some(list) => list
                .split_once('}')
                .map_or(list, |(list, _)| list)
                .split(',')
                .collect(),
            None => vec![rest],
        };
        for name in names {
            let name = name.trim_start();
            let end = name.find(|character: char| !character.is_alphanumeric() && character != '_');
            imported.push(&name[..end.unwrap_or(name.len())]);
        }
    }
    imported
}

/// The modules of the host in the order of `lib.rs`: each imports only those after it.
fn modules() -> Vec<String> {
    let map = fs::read_to_string(root().join("host/src/lib.rs")).unwrap();
    let names = map.lines().filter_map(|line| {
        let line = line.trim_start_matches("pub ");
        line.strip_prefix("mod ")?.strip_suffix(';')
    });
    names.map(str::to_owned).collect()
}

#[test]
fn modules_import_only_those_below_them() {
    let (modules, mut seen) = (modules(), Vec::new());
    for (path, module, code) in sources() {
        if ["main", "lib"].contains(&module.as_str()) {
            continue;
        }
        let Some(height) = modules.iter().position(|name| *name == module) else {
            panic!("{module} is not in the list of modules, host/src/lib.rs")
        };
        for name in imported(&code) {
            let Some(place) = modules.iter().position(|other| other == name) else {
                panic!("{}: crate::{name} is no module", path.display())
            };
            assert!(
                place >= height,
                "{}: {module} must not know {name}, which is above it",
                path.display()
            );
            seen.push(name.to_owned());
        }
    }
    assert!(
        seen.len() > modules.len(),
        "hardly any imports were found: {seen:?}"
    );
}

/// The map in `host/README.md` is the list of `lib.rs`, in its order.
#[test]
fn readme_of_the_host_has_the_modules_in_the_order_of_the_library() {
    let readme = fs::read_to_string(root().join("host/README.md")).unwrap();
    let (_, table) = readme.split_once("| module | its one job |").unwrap();
    let (table, _) = table.split_once("\n\n").unwrap();
    let rows = table.lines().filter_map(|row| row.strip_prefix("| `"));
    let named: Vec<_> = rows
        .map(|row| row.split(['`', '/']).next().unwrap())
        .collect();
    assert_eq!(named, modules());
}

#[test]
fn library_is_named_only_in_its_modules() {
    for (path, module, code) in sources() {
        for (library, modules) in NAMED_IN {
            let named = code.lines().any(|line| names(line, library));
            assert!(
                !named || modules.contains(&module.as_str()),
                "{} names {library}",
                path.display()
            );
        }
        for (pure, libraries) in PURE {
            for library in libraries {
                let named = code.lines().any(|line| names(line, library));
                assert!(
                    !(named && module == pure),
                    "{} names {library}",
                    path.display()
                );
            }
        }
    }
    let all: String = sources().into_iter().map(|(_, _, code)| code).collect();
    for (library, _) in NAMED_IN {
        assert!(
            all.lines().any(|line| names(line, library)),
            "nothing names {library} any more"
        );
    }
}

/// Whether a line has a path that starts with `library`, or goes through it.
fn names(line: &str, library: &str) -> bool {
    line.match_indices(library).any(|(place, _)| {
        let before = line[..place].chars().next_back();
        let after = &line[place + library.len()..];
        before.is_none_or(|before| !before.is_alphanumeric() && before != '"')
            && (after.starts_with("::") || after.starts_with('_') || after.starts_with(';'))
    })
}

#[test]
fn files_are_no_longer_than_the_limit() {
    for folder in ["host", "guest-sdk", "plugins", "tests"] {
        for ending in [".rs", ".js", ".cjs", ".mjs", ".py"] {
            for path in files(&root().join(folder), ending) {
                let lines = fs::read_to_string(&path).unwrap().lines().count();
                assert!(
                    lines <= LONGEST,
                    "{} has {lines} lines: split it",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn readme_names_every_folder() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    for entry in fs::read_dir(root()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            assert!(
                readme.contains(&format!("`{name}/`")),
                "README.md does not name `{name}/`"
            );
        }
    }
}
