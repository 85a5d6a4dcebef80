//! The tables of limits in the pages agree with the schema.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
};

use serde_json::Value;

use super::root;

/// A number of the configuration that is no limit.
const NO_LIMIT: &str = "integrations.*.mock.status";

/// The table in `host/README.md` has every number of the configuration, with the default and the bounds of the schema.
#[test]
fn table_of_limits_agrees_with_the_schema() {
    let numbers = numbers();
    let mut told = BTreeSet::new();
    for row in table("host/README.md") {
        let [_, _, keys, defaults, bounds, ..] = row.as_slice() else {
            panic!("not five columns: {row:?}")
        };
        let scope = match keys.split(' ').next() {
            Some("api") => API,
            Some("stage") => STAGE,
            Some("plugin") => PLUGIN,
            Some("authorizer") => AUTHORIZER,
            Some("plan") => PLAN,
            _ => GATEWAY,
        };
        for (place, key) in paths(scope, keys).into_iter().enumerate() {
            let number = find(&numbers, &key);
            number.check_default(&key, part(defaults, place));
            number.check_bounds(&key, part(bounds, place), &numbers);
            told.insert(key);
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

/// The table in `docs/serve.md` gives the defaults of the schema.
#[test]
fn limits_in_the_serving_guide_have_the_defaults_of_the_schema() {
    let numbers = numbers();
    let (mut scope, mut told) = (GATEWAY, 0);
    for row in table("docs/serve.md") {
        let [_, of, keys, defaults, ..] = row.as_slice() else {
            panic!("not three columns: {row:?}")
        };
        // An empty cell repeats the one of the row above.
        if of.contains("`apis.") {
            scope = STAGE;
        } else if of.contains("`plugins.") {
            scope = PLUGIN;
        }
        for (place, key) in paths(scope, keys).into_iter().enumerate() {
            find(&numbers, &key).check_default(&key, part(defaults, place));
            told += 1;
        }
    }
    assert!(told >= 15, "{told}");
}

/// The paths of the tables with limits in a configuration.
const GATEWAY: &str = "";
const API: &str = "apis.*.";
const STAGE: &str = "apis.*.stages.*.";
const PLUGIN: &str = "plugins.*.";

/// The path of an authorizer, whose limits have no table of their own.
const AUTHORIZER: &str = "authorizers.*.";

/// The path of a usage plan.
const PLAN: &str = "usage_plans.*.";

/// The rows of the first table below the heading "Limits" of a page, as cells; its heading has no keys.
fn table(page: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(root().join(page)).unwrap();
    let (_, below) = text.split_once("## Limits").unwrap();
    let rows = below
        .lines()
        .skip_while(|line| !line.starts_with("| "))
        .take_while(|line| line.starts_with("| "));
    rows.map(|row| row.split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

/// The part of a cell for one of several keys: its own part, or the whole for all. Text after a semicolon explains.
fn part(cell: &str, place: usize) -> &str {
    let (cell, _) = cell.split_once(';').unwrap_or((cell, ""));
    cell.split(", ").nth(place).unwrap_or(cell)
}

fn find<'n>(numbers: &'n BTreeMap<String, Number>, key: &str) -> &'n Number {
    numbers
        .get(key)
        .unwrap_or_else(|| panic!("the schema has no {key}"))
}

/// A number of the configuration, as the schema has it.
struct Number {
    default: Option<u64>,
    minimum: u64,
    maximum: u64,
}

impl Number {
    /// Fails unless `said` is the default: a number, `off` for 0, or words where the schema has none.
    fn check_default(&self, key: &str, said: &str) {
        let default = match said {
            "off" if self.minimum == 0 => Some(0),
            _ => number(said),
        };
        assert!(
            default == self.default || (said == "off" && self.default.is_none()),
            "a page says that {key} is {said:?} by default, and the schema {:?}",
            self.default
        );
    }

    /// Fails unless `said` are the bounds; the upper one may be the key that it follows.
    fn check_bounds(&self, key: &str, said: &str, all: &BTreeMap<String, Self>) {
        let Some((minimum, maximum)) = said.split_once(" – ") else {
            panic!("{key}: {said:?} are no bounds")
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
            "{key}: host/README.md says {said:?}"
        );
    }
}

/// The numbers of the configuration, by their path in a file, where `*` is any name.
fn numbers() -> BTreeMap<String, Number> {
    let schema = Command::new(env!("CARGO_BIN_EXE_lockgate"))
        .args(["config", "schema"])
        .output()
        .unwrap();
    let schema = serde_json::from_slice(&schema.stdout).unwrap();
    let mut numbers = BTreeMap::new();
    find_numbers(&schema, "", &mut numbers);
    numbers
}

/// Collects the numbers below `schema`, which is that of `path`.
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

/// The keys that a cell names in backquotes, such as `limits.drain_s`, `groups`, or `rollback.calls`. One without a
/// table is in that of the key before it, or else in `limits`; an API's and an authorizer's are in their own. Text after
/// a colon explains.
fn paths(scope: &str, cell: &str) -> Vec<String> {
    let (cell, _) = cell.split_once(':').unwrap_or((cell, ""));
    let mut table = match scope {
        API | AUTHORIZER | PLAN => "",
        _ => "limits",
    };
    let names = cell.split('`').skip(1).step_by(2);
    let paths = names.map(|name| {
        let (of, name) = name.rsplit_once('.').unwrap_or((table, name));
        table = of;
        match table {
            "" => format!("{scope}{name}"),
            _ => format!("{scope}{table}.{name}"),
        }
    });
    paths.collect()
}

/// The number at the start of some text, thousands apart by commas.
fn number(text: &str) -> Option<u64> {
    let text = text.split(' ').next()?;
    text.replace(',', "").parse().ok()
}
