//! The JSON Schema made from `file`, and queries on it.

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::Value;
use toml::de::DeValue;

use super::file;
use super::names::list;

/// The schema's mark on a string whose environment variables do not expand.
pub(super) const VERBATIM: &str = "x-verbatim";

/// The schema's mark on a key: the example for an error about a missing or wrong value.
pub(super) const EXAMPLE: &str = "x-example";

/// Makes the schema of a configuration file.
pub(super) fn schema() -> Value {
    SchemaSettings::draft2020_12()
        .with(|settings| settings.inline_subschemas = true)
        .with_transform(RecursiveTransform(without_null))
        .into_generator()
        .into_root_schema_for::<file::File>()
        .to_value()
}

/// Removes `null`, which schemars writes for an optional key: TOML has none, and such a key is left out.
fn without_null(schema: &mut Schema) {
    let Some(schema) = schema.as_object_mut() else {
        return;
    };
    if schema.get("default").is_some_and(Value::is_null) {
        schema.remove("default");
    }
    if let Some(Value::Array(kinds)) = schema.get_mut("type") {
        kinds.retain(|kind| kind != "null");
        if let [kind] = kinds.as_slice() {
            let kind = kind.clone();
            schema.insert("type".to_owned(), kind);
        }
    }
    if let Some(Value::Array(alternatives)) = schema.get_mut("anyOf") {
        alternatives
            .retain(|alternative| alternative.get("type").is_none_or(|kind| kind != "null"));
        if alternatives.len() == 1
            && let Some(Value::Object(only)) = alternatives.pop()
        {
            schema.remove("anyOf");
            for (name, value) in only {
                schema.entry(name).or_insert(value);
            }
        }
    }
}

/// The kinds of TOML values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ValueKind {
    String,
    Integer,
    Boolean,
    Array,
    Table,
    Float,
    Date,
}

impl ValueKind {
    pub(super) const ALL: [Self; 7] = [
        Self::String,
        Self::Integer,
        Self::Boolean,
        Self::Array,
        Self::Table,
        Self::Float,
        Self::Date,
    ];

    pub(super) fn of(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::String(_) => Self::String,
            DeValue::Integer(_) => Self::Integer,
            DeValue::Boolean(_) => Self::Boolean,
            DeValue::Array(_) => Self::Array,
            DeValue::Table(_) => Self::Table,
            DeValue::Float(_) => Self::Float,
            DeValue::Datetime(_) => Self::Date,
        }
    }

    pub(super) fn in_words(self) -> &'static str {
        match self {
            Self::String => "a string",
            Self::Integer => "an integer",
            Self::Boolean => "a boolean",
            Self::Array => "a list",
            Self::Table => "a table",
            Self::Float => "a fraction",
            Self::Date => "a date",
        }
    }

    /// The schema's word for it; none for the two kinds that no key takes.
    fn in_schema(self) -> Option<&'static str> {
        match self {
            Self::String => Some("string"),
            Self::Integer => Some("integer"),
            Self::Boolean => Some("boolean"),
            Self::Array => Some("array"),
            Self::Table => Some("object"),
            Self::Float | Self::Date => None,
        }
    }
}

/// Finds the part of `schema` for values of this kind: the schema itself, or one of its alternatives. Words (`oneOf`)
/// stay together.
pub(super) fn alternative(schema: &Value, kind: ValueKind) -> Option<&Value> {
    let kind_in_schema = kind.in_schema()?;
    let is_of_kind = |schema: &Value| schema.get("type").is_some_and(|t| t == kind_in_schema);
    if is_of_kind(schema) || alternatives(schema, "oneOf").any(is_of_kind) {
        return Some(schema);
    }
    alternatives(schema, "anyOf").find_map(|inner| alternative(inner, kind))
}

fn alternatives<'s>(schema: &'s Value, name: &str) -> impl Iterator<Item = &'s Value> {
    schema
        .get(name)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

/// Lists the words that `schema` allows; empty if it takes any string or none.
pub(super) fn words(schema: &Value) -> Vec<&str> {
    alternatives(schema, "oneOf")
        .chain(alternatives(schema, "anyOf").flat_map(|inner| alternatives(inner, "oneOf")))
        .filter_map(|word| word.get("const")?.as_str())
        .collect()
}

/// The example in the schema of a key.
pub(super) fn example(schema: &Value) -> Option<&str> {
    schema.get(EXAMPLE).and_then(Value::as_str)
}

/// The remedy for a value of the wrong kind or size.
pub(super) fn remedy(schema: &Value) -> String {
    if let Some(example) = example(schema) {
        return format!("write {example}");
    }
    let words = words(schema);
    let bound = |name| schema.get(name).and_then(Value::as_i64);
    if let (Some(minimum), Some(maximum)) = (bound("minimum"), bound("maximum")) {
        let default = schema.get("default").and_then(Value::as_i64);
        let default =
            default.map_or_else(String::new, |number| format!("; the default is {number}"));
        format!("write a number from {minimum} to {maximum}{default}")
    } else if !words.is_empty() && alternative(schema, ValueKind::Table).is_some() {
        format!("write {}, or a table {{ … }}", list(&words))
    } else if !words.is_empty() {
        format!("write {}", list(&words))
    } else if alternative(schema, ValueKind::Boolean).is_some() {
        "write true or false".to_owned()
    } else if schema
        .pointer("/items/type")
        .is_some_and(|kind| kind == "object")
    {
        "write it as [[name]], once for each".to_owned()
    } else if alternative(schema, ValueKind::Array).is_some() {
        "put it in brackets: [ … ]".to_owned()
    } else if alternative(schema, ValueKind::Table).is_some()
        && alternative(schema, ValueKind::String).is_some()
    {
        "put it in quotes, or make it a table { … }".to_owned()
    } else if alternative(schema, ValueKind::Table).is_some() {
        "make it a table: [name] above its keys, or { … }".to_owned()
    } else {
        "put it in quotes".to_owned()
    }
}

pub(super) fn strings(value: Option<&Value>) -> impl Iterator<Item = &str> {
    value
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}
