//! The check of TOML text against the schema: gives the valid values, and a problem for each other one.
//!
//! Invalid values are left out, so that one run finds as much as it can.

use std::ops::Range;

use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeArray, DeInteger, DeTable, DeValue};

use super::LoadMode;
use super::expand::{expand, is_literal};
use super::names::{list, nearest};
use super::report::{Report, join};
use super::schema::{VERBATIM, ValueKind, alternative, example, remedy, strings, words};

/// The parser's message for a key that is written twice; it does not name the key.
const DUPLICATE: &str = "duplicate key";

/// What a plugin sees in development of a variable that is not set. To serve others, it has to be.
const FOR_DEVELOPMENT: &str = "for development only";

/// Reads the report's text against `schema`. `None` if it is not TOML.
pub(super) fn read(
    text: &str,
    schema: &Value,
    mode: LoadMode,
    report: &mut Report<'_>,
) -> Option<Value> {
    match DeTable::parse(text) {
        Ok(table) => Reader { report, mode }.table("", schema, table.get_ref()),
        Err(error) => {
            let span = error.span().unwrap_or_default();
            let said = error.message().replace('\n', "; ");
            let (message, remedy) = match text.get(span.clone()) {
                Some(key) if said == DUPLICATE => (
                    format!("the key \"{}\" is written twice", key.trim_matches('"')),
                    "remove one of the two",
                ),
                Some(_) | None => (
                    format!("this is not TOML: {said}"),
                    match unquoted(text, span.start) {
                        true => {
                            "put a key that begins with \"$\" in quotes, as in [apis.NAME.routes.\"$default\"]"
                        }
                        false => {
                            "correct the line; strings stand in quotes, tables begin with [name]"
                        }
                    },
                ),
            };
            report.problem_at(span.start, "", message, remedy);
            None
        }
    }
}

/// Whether a dollar sign is what is wrong at the byte `offset`: no key has one outside quotes.
fn unquoted(text: &str, offset: usize) -> bool {
    text.get(offset..).is_some_and(|rest| rest.starts_with('$'))
}

struct Reader<'r, 'a> {
    report: &'r mut Report<'a>,
    mode: LoadMode,
}

impl Reader<'_, '_> {
    /// Gives the valid part of `table`; `None` if a required key is missing or wrong.
    fn table(&mut self, key: &str, schema: &Value, table: &DeTable<'_>) -> Option<Value> {
        let known = schema.get("properties").and_then(Value::as_object);
        let other = schema.get("additionalProperties").filter(|s| s.is_object());
        let mut valid = Map::new();
        for (name, value) in table {
            let inner = join(key, name.get_ref());
            let schema = known.and_then(|known| known.get(name.get_ref().as_ref()));
            let Some(schema) = schema.or(other) else {
                if let Some(near) = self.unknown(&inner, name, known)
                    && !table.contains_key(near)
                {
                    self.meant(&join(key, near), name.span().start, value.get_ref());
                }
                continue;
            };
            let Range { start, .. } = if value.get_ref().is_table() {
                name.span()
            } else {
                value.span()
            };
            self.report.note_key(&inner, start);
            if let Some(value) = self.value(&inner, schema, value.get_ref()) {
                valid.insert(name.get_ref().clone().into_owned(), value);
            }
        }
        for name in strings(schema.get("required")) {
            if !table.contains_key(name) && !self.report.is_meant(&join(key, name)) {
                let schema = known.and_then(|known| known.get(name));
                let about = schema.and_then(|schema| schema.get("description")?.as_str());
                let remedy = match schema.and_then(example) {
                    Some(example) => format!("add {example}"),
                    None => format!("add it: {}", first_sentence(about.unwrap_or(name))),
                };
                let message = format!("the key {name:?} is missing");
                self.report.problem(&join(key, name), message, remedy);
            }
        }
        strings(schema.get("required"))
            .all(|name| valid.contains_key(name))
            .then_some(Value::Object(valid))
    }

    /// Reports an unknown key, and gives the known one that it probably misspells.
    fn unknown<'k>(
        &mut self,
        key: &str,
        name: &Spanned<impl AsRef<str>>,
        known: Option<&'k Map<String, Value>>,
    ) -> Option<&'k str> {
        let written = name.get_ref().as_ref();
        let mut known: Vec<&'k str> = known
            .map(|known| known.keys().map(String::as_str).collect())
            .unwrap_or_default();
        known.sort_unstable();
        let near = nearest(written, &known);
        let remedy = match near {
            Some(near) => format!("did you mean {near:?}?"),
            None if known.is_empty() => "remove it: this table has no keys".to_owned(),
            None => format!("the keys here are {}", list(&known)),
        };
        let message = format!("there is no key {written:?} here");
        self.report
            .problem_at(name.span().start, key, message, remedy);
        near
    }

    /// Notes the keys that a misspelt one at the byte `offset` means, with all inside it.
    fn meant(&mut self, key: &str, offset: usize, value: &DeValue<'_>) {
        self.report.note_meant(key, offset);
        for (name, value) in value.as_table().into_iter().flatten() {
            self.meant(
                &join(key, name.get_ref()),
                name.span().start,
                value.get_ref(),
            );
        }
    }

    fn value(&mut self, key: &str, schema: &Value, value: &DeValue<'_>) -> Option<Value> {
        let kind = ValueKind::of(value);
        let Some(schema) = alternative(schema, kind) else {
            self.wrong_kind(key, schema, kind);
            return None;
        };
        match value {
            DeValue::Table(table) => self.table(key, schema, table),
            DeValue::Array(array) => self.array(key, schema, array),
            DeValue::String(text) => self.string(key, schema, text),
            DeValue::Integer(integer) => self.integer(key, schema, integer),
            DeValue::Boolean(boolean) => Some(Value::Bool(*boolean)),
            DeValue::Float(_) | DeValue::Datetime(_) => None,
        }
    }

    /// Leaves out a whole array with a wrong element, so that the others keep their indices.
    fn array(&mut self, key: &str, schema: &Value, array: &DeArray<'_>) -> Option<Value> {
        let items = schema.get("items")?;
        let mut valid = Vec::new();
        for (index, item) in array.iter().enumerate() {
            let inner = format!("{key}[{index}]");
            self.report.note_key(&inner, item.span().start);
            valid.push(self.value(&inner, items, item.get_ref()));
        }
        valid
            .into_iter()
            .collect::<Option<Vec<_>>>()
            .map(Value::Array)
    }

    fn string(&mut self, key: &str, schema: &Value, text: &str) -> Option<Value> {
        if schema.get(VERBATIM).is_some() {
            return Some(Value::from(text));
        }
        let unset_value =
            (self.mode == LoadMode::Develop && is_of_plugin(key)).then_some(FOR_DEVELOPMENT);
        let written = text;
        let text = match expand(written, |name| std::env::var(name), unset_value) {
            Ok(text) => text,
            Err(error) => {
                self.report.problem(key, error.to_string(), error.remedy());
                return None;
            }
        };
        if is_literal(written, &text) {
            self.report.note_literal(key);
        }
        let words = words(schema);
        if !words.is_empty() && !words.contains(&text.as_str()) {
            let remedy = match nearest(&text, &words) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("write {}", list(&words)),
            };
            let message = format!("{text:?} is not known here");
            self.report.problem(key, message, remedy);
            return None;
        }
        Some(Value::String(text))
    }

    fn integer(&mut self, key: &str, schema: &Value, integer: &DeInteger<'_>) -> Option<Value> {
        let bound = |name| schema.get(name).and_then(Value::as_i64);
        let (minimum, maximum) = (bound("minimum")?, bound("maximum")?);
        let number = i64::from_str_radix(integer.as_str(), integer.radix());
        let too_small = match number {
            Ok(number) if (minimum..=maximum).contains(&number) => {
                return Some(Value::from(number));
            }
            Ok(number) => number < minimum,
            Err(_) => integer.as_str().starts_with('-'),
        };
        let message = if too_small {
            format!("{integer} is below the minimum, {minimum}")
        } else {
            format!("{integer} is above the maximum, {maximum}")
        };
        self.report.problem(key, message, remedy(schema));
        None
    }

    fn wrong_kind(&mut self, key: &str, schema: &Value, found: ValueKind) {
        let expected: Vec<&str> = ValueKind::ALL
            .iter()
            .filter(|kind| alternative(schema, **kind).is_some())
            .map(|kind| kind.in_words())
            .collect();
        let message = format!(
            "expected {}, found {}",
            expected.join(" or "),
            found.in_words()
        );
        self.report.problem(key, message, remedy(schema));
    }
}

/// Whether a key is that of an environment variable which a plugin sees.
fn is_of_plugin(key: &str) -> bool {
    let inside = key.strip_prefix("plugins.");
    inside.is_some_and(|inside| inside.contains(".environment."))
}

/// Gives the first sentence of a description, for the end of a remedy.
fn first_sentence(description: &str) -> String {
    let line = description.replace('\n', " ");
    let sentence = line.split(". ").next().unwrap_or(&line);
    sentence.trim_end_matches('.').to_owned()
}
