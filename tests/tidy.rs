//! What `docs` and reviewers would otherwise have to watch: which module knows which, how long files are, what
//! the README's map names, and which versions are too old.

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails where it stands"
)]

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// Libraries that only these modules name.
const NAMED_IN: [(&str, &[&str]); 10] = [
    ("wasmtime", &["plugin"]),
    ("tungstenite", &["fuzz", "handshake", "transport"]),
    (
        "hyper",
        &["fuzz", "cli", "listener", "management", "handshake"],
    ),
    ("rustls", &["listener", "handshake", "signature"]),
    ("axum", &["management"]),
    ("wasmparser", &["plugin"]),
    ("rustix", &["handover", "plugin", "net", "telemetry"]),
    ("sd_notify", &["cli"]),
    ("reqwest", &["registry"]),
    ("aws_lc_rs", &["listener", "signature", "net"]),
];

/// What these modules must not name at all: `route` is pure, and `connections` has no socket.
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
        &["tokio::net", "hyper", "std::fs", "std::net::Tcp"],
    ),
];

/// Lines of the longest source file.
const LONGEST: usize = 600;

/// A number of the configuration that bounds nothing.
const NO_LIMIT: &str = "integrations.*.mock.status";

/// The oldest version of each crate without a known defect that concerns a gateway. `.ci/run dependencies` checks all
/// advisories, but only where it can fetch their database; these hold everywhere.
const FLOORS: [(&str, [u64; 3]); 18] = [
    ("aws-lc-sys", [0, 39, 0]),
    ("bytes", [1, 11, 1]),
    ("crossbeam-channel", [0, 5, 15]),
    ("h2", [0, 4, 16]),
    ("idna", [1, 0, 0]),
    ("prometheus-client", [0, 25, 2]),
    ("rustls", [0, 23, 46]),
    ("rustls-webpki", [0, 103, 13]),
    ("slab", [0, 4, 11]),
    ("tar", [0, 4, 45]),
    ("time", [0, 3, 47]),
    ("tokio-rustls", [0, 26, 6]),
    ("tokio-tungstenite", [0, 30, 0]),
    ("tracing-subscriber", [0, 3, 20]),
    ("tungstenite", [0, 30, 0]),
    ("wasmtime", [48, 0, 8]),
    ("wasmtime-wasi", [48, 0, 8]),
    ("wasmtime-wasi-io", [48, 0, 8]),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The files below `folder` with this ending, but for what is built or fetched.
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

/// Each source file of the host with the module that it belongs to, and its text without comments.
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

/// The modules that come right after `crate::` in some code, alone or in braces.
fn known(code: &str) -> Vec<&str> {
    let mut known = Vec::new();
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
            known.push(&name[..end.unwrap_or(name.len())]);
        }
    }
    known
}

/// The modules of the host in the order of `lib.rs`: each knows only those after it.
fn modules() -> Vec<String> {
    let map = fs::read_to_string(root().join("host/src/lib.rs")).unwrap();
    let names = map.lines().filter_map(|line| {
        let line = line.trim_start_matches("pub ");
        line.strip_prefix("mod ")?.strip_suffix(';')
    });
    names.map(str::to_owned).collect()
}

#[test]
fn modules_know_only_those_below_them() {
    let (modules, mut seen) = (modules(), Vec::new());
    for (path, module, code) in sources() {
        if ["main", "lib"].contains(&module.as_str()) {
            continue;
        }
        let Some(height) = modules.iter().position(|name| *name == module) else {
            panic!("{module} is not in the list of modules, host/src/lib.rs")
        };
        for name in known(&code) {
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

/// The map of `host/README.md` is the list of `lib.rs`, in its order.
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
fn a_library_is_named_only_where_it_belongs() {
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
fn no_file_is_too_long() {
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
fn the_readme_maps_the_tree() {
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

/// A page or a section that a reader cannot open says nothing: every page that is named is in the repository, and only
/// RFCs are cited by section.
#[test]
fn cited_pages_are_in_the_repository() {
    let mut cited = 0;
    for ending in [".rs", ".md", ".toml", ".wit", ".js", ".cjs", ".mjs", ".py"] {
        for path in files(root(), ending) {
            // A client's answer or a corpus is bytes, and no prose.
            let Ok(text) = fs::read_to_string(&path) else {
                continue;
            };
            let is_of_path = |c: char| c.is_alphanumeric() || "._-/".contains(c);
            for page in text.split(|c| !is_of_path(c)) {
                let is_page = page.ends_with(".md") && page.len() > 3 && !page.starts_with('/');
                if is_page {
                    let beside = path.parent().unwrap().join(page);
                    assert!(
                        beside.exists() || root().join(page).exists(),
                        "{}: there is no {page}",
                        path.display()
                    );
                    cited += 1;
                }
            }
            for line in text.lines().filter(|line| line.contains('\u{a7}')) {
                assert!(
                    line.contains("RFC"),
                    "{}: of which page? {line}",
                    path.display()
                );
            }
        }
    }
    assert!(cited > 30, "{cited}");
}

#[test]
fn no_dependency_is_older_than_its_fix() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let mut checked = 0;
    for package in lock.split("[[package]]") {
        let field = |name: &str| {
            let line = package
                .lines()
                .find_map(|line| line.strip_prefix(&format!("{name} = \"")))?;
            line.strip_suffix('"')
        };
        let (Some(name), Some(version)) = (field("name"), field("version")) else {
            continue;
        };
        let Some((_, floor)) = FLOORS.iter().find(|(crate_name, _)| *crate_name == name) else {
            continue;
        };
        let release = version.split(['-', '+']).next().unwrap();
        let numbers: Vec<u64> = release
            .split('.')
            .map(|number| number.parse().unwrap())
            .collect();
        assert!(
            numbers.as_slice() >= floor.as_slice(),
            "{name} {version} is older than {floor:?}"
        );
        checked += 1;
    }
    assert!(
        checked >= 9,
        "only {checked} of the crates with a floor were found"
    );
}

/// The dependencies, one a line, as `cargo tree` finds them with these arguments.
fn dependencies(arguments: &[&str]) -> String {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--prefix", "none", "--locked", "--offline"])
        .args(arguments)
        .current_dir(root())
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&tree.stderr);
    assert!(tree.status.success(), "{error}");
    // What it marks so has been listed with its own dependencies before.
    String::from_utf8(tree.stdout).unwrap().replace(" (*)", "")
}

/// A package that `-p lockgate` builds with other features than `--workspace` does is compiled once more, and with it
/// all that needs it: wasmtime takes minutes.
#[test]
fn the_gateway_alone_is_built_with_the_features_of_the_workspace() {
    for edges in ["normal,build,dev", "no-dev"] {
        let features = ["--edges", edges, "--format", "{p} {f}"];
        let workspace = dependencies(&[&["--workspace"], &features[..]].concat());
        let alone = dependencies(&[&["--package", "lockgate"], &features[..]].concat());
        let workspace: HashSet<_> = workspace.lines().collect();
        let others: BTreeSet<_> = alone
            .lines()
            .filter(|package| !workspace.contains(package))
            .collect();
        assert!(
            others.is_empty(),
            "--workspace has other features of {others:#?}: name them in host/Cargo.toml"
        );
        assert!(workspace.len() > 100, "{workspace:?}");
    }
}

/// Only what is built counts: the lock file names `ring` for a feature of a feature that nobody asks for.
#[test]
fn one_cryptography_library_is_built() {
    let tree = dependencies(&["--workspace", "--edges", "all", "--target", "all"]);
    let is_built = |name: &str| {
        tree.lines()
            .any(|line| line.starts_with(&format!("{name} v")))
    };
    assert!(is_built("aws-lc-rs"), "{tree}");
    for other in ["ring", "openssl", "openssl-sys", "boring", "rsa"] {
        assert!(
            !is_built(other),
            "{other} is built too: `cargo tree --invert {other}`"
        );
    }
}

/// The table of limits in `host/README.md` has every number of the configuration, with the default and the bounds that
/// the schema gives it.
#[test]
fn the_table_of_limits_agrees_with_the_schema() {
    let schema = Command::new(env!("CARGO_BIN_EXE_lockgate"))
        .args(["config", "schema"])
        .output()
        .unwrap();
    let schema = serde_json::from_slice(&schema.stdout).unwrap();
    let mut numbers = BTreeMap::new();
    find_numbers(&schema, "", &mut numbers);

    let readme = fs::read_to_string(root().join("host/README.md")).unwrap();
    let (_, table) = readme.split_once("## Limits").unwrap();
    let mut told = BTreeSet::new();
    for row in table.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let [_, _, keys, defaults, bounds, ..] = cells.as_slice() else {
            panic!("not five columns: {row}")
        };
        let keys = paths(keys);
        // Of several keys in a row, each has a part of the cells; what follows a semicolon explains.
        let part = |cell: &str, number: usize| {
            let (cell, _) = cell.split_once(';').unwrap_or((cell, ""));
            cell.split(", ").nth(number).map(str::to_owned)
        };
        for (number, key) in keys.iter().enumerate() {
            let Some(schema) = numbers.get(key) else {
                panic!("the schema has no {key}: {row}")
            };
            let default = part(defaults, number).unwrap_or_else(|| panic!("no default: {row}"));
            let bounds = part(bounds, number).unwrap_or_else(|| panic!("no bounds: {row}"));
            schema.check(&default, &bounds, &numbers, key);
            told.insert(key.clone());
        }
    }
    let is_missing = |key: &&String| !told.contains(*key) && key.as_str() != NO_LIMIT;
    let missing: Vec<_> = numbers.keys().filter(is_missing).collect();
    assert!(
        missing.is_empty(),
        "host/README.md has no row for {missing:?}"
    );
    assert!(told.len() >= 40, "{told:?}");
}

/// A number of the configuration, as the schema has it.
struct Number {
    default: Option<u64>,
    minimum: u64,
    maximum: u64,
}

impl Number {
    /// Fails unless the two cells say what the schema does. A default is a number, `off` for 0, or words where the
    /// schema has none; an upper bound may be the key that it follows.
    fn check(&self, default: &str, bounds: &str, all: &BTreeMap<String, Self>, key: &str) {
        let said = match default {
            "off" if self.minimum == 0 => Some(0),
            _ => number(default),
        };
        assert!(
            said == self.default || (default == "off" && self.default.is_none()),
            "host/README.md says that {key} is {default:?} by default, and the schema {:?}",
            self.default
        );
        let Some((minimum, maximum)) = bounds.split_once(" – ") else {
            panic!("{key}: {bounds:?} are no bounds")
        };
        let maximum = match maximum.strip_prefix('`') {
            Some(other) => {
                let (table, _) = key.rsplit_once('.').unwrap();
                let other = format!("{table}.{}", other.trim_end_matches('`'));
                all.get(&other).map(|other| other.maximum)
            }
            None => number(maximum),
        };
        assert_eq!(
            (number(minimum), maximum),
            (Some(self.minimum), Some(self.maximum)),
            "{key}: host/README.md says {bounds:?}"
        );
    }
}

/// Collects the numbers below `schema`, by their path in a file; `*` is any name.
fn find_numbers(schema: &Value, path: &str, numbers: &mut BTreeMap<String, Number>) {
    let below = |name: &str| match path {
        "" => name.to_owned(),
        _ => format!("{path}.{name}"),
    };
    let field = |name: &str| schema.get(name).and_then(Value::as_u64);
    if let (Some(minimum), Some(maximum)) = (field("minimum"), field("maximum")) {
        let default = field("default");
        let number = Number {
            default,
            minimum,
            maximum,
        };
        numbers.insert(path.to_owned(), number);
    }
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        find_numbers(schema, &below(name), numbers);
    }
    if schema["additionalProperties"].is_object() {
        find_numbers(&schema["additionalProperties"], &below("*"), numbers);
    }
    let several = ["anyOf", "oneOf"].map(|name| schema[name].as_array());
    for schema in several
        .into_iter()
        .flatten()
        .flatten()
        .chain(schema.get("items"))
    {
        find_numbers(schema, path, numbers);
    }
}

/// The keys in a cell: `` `limits.drain_s` ``, ``stage `groups` ``, ``plugin `rollback.calls`, `within_s` ``.
fn paths(cell: &str) -> Vec<String> {
    let mut folder = "";
    let names = cell.split('`').skip(1).step_by(2);
    let paths = names.map(|name| {
        let (inside, name) = name.rsplit_once('.').unwrap_or((folder, name));
        folder = inside;
        let table = match cell.split(' ').next() {
            Some("stage") => "apis.*.stages.*.",
            Some("plugin") => "plugins.*.",
            _ => "",
        };
        let inside = if inside.is_empty() { "limits" } else { inside };
        format!("{table}{inside}.{name}")
    });
    paths.collect()
}

/// The number at the start of some text, thousands apart by commas.
fn number(text: &str) -> Option<u64> {
    let text = text.split(' ').next()?;
    text.replace(',', "").parse().ok()
}
