//! JSON as a dialogue expects it: keys in any order, places for values, `...` for more of them.

mod compare;
mod read;

use std::fmt::{self, Write as _};

use serde_json::Value;

use super::expected::Text;
use super::holes::Captures;
use compare::Comparison;
pub(crate) use read::read;

/// Differences that a report lists.
const MAX_DIFFERENCES: usize = 8;

/// The words at the start of a list whose elements may come in any order.
const ANY_ORDER: &str = "in any order:";

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json {
    /// Null, a boolean, or a number.
    Scalar(Value),
    Text(Text),
    /// Any value.
    Hole(String),
    List {
        items: Vec<Self>,
        any_order: bool,
        /// More elements may follow.
        more: bool,
    },
    Object {
        fields: Vec<(String, Self)>,
        /// There may be more keys.
        more: bool,
    },
}

/// A difference between the expected message and the one that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    /// The place in the message, such as `members[1].name`; empty for the whole.
    path: String,
    text: String,
}

impl Difference {
    pub(crate) fn note(text: String) -> Self {
        let path = String::new();
        Self { path, text }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.text)
    }
}

impl Json {
    pub(crate) fn names(&self) -> Vec<String> {
        match self {
            Self::Scalar(_) => Vec::new(),
            Self::Text(text) => text.names(),
            Self::Hole(name) => vec![name.clone()],
            Self::List { items, .. } => items.iter().flat_map(Self::names).collect(),
            Self::Object { fields, .. } => {
                let values = fields.iter().map(|(_, value)| value);
                values.flat_map(Self::names).collect()
            }
        }
    }

    /// Whether it is JSON as a client may send it: with nothing left open.
    pub(crate) fn is_definite(&self) -> bool {
        match self {
            Self::Scalar(_) | Self::Text(_) | Self::Hole(_) => true,
            Self::List {
                items,
                any_order,
                more,
            } => !any_order && !more && items.iter().all(Self::is_definite),
            Self::Object { fields, more } => {
                !more && fields.iter().all(|(_, value)| value.is_definite())
            }
        }
    }

    /// Whether a value is the expected one. Fills the captures as it goes, also if it is not.
    pub(crate) fn fits(
        &self,
        value: &Value,
        captures: &mut Captures,
    ) -> Result<(), Vec<Difference>> {
        let mut differences = Comparison::new(captures).differences(self, value);
        if differences.is_empty() {
            return Ok(());
        }
        let others = differences.len().saturating_sub(MAX_DIFFERENCES);
        differences.truncate(MAX_DIFFERENCES);
        if others > 0 {
            differences.push(Difference::note(format!("and {others} more")));
        }
        Err(differences)
    }

    /// The value as a dialogue writes it, with the values of places that are known.
    pub(crate) fn show(&self, captures: &Captures) -> String {
        let mut shown = String::new();
        self.write(captures, &mut shown);
        shown
    }

    fn write(&self, captures: &Captures, to: &mut String) {
        // Writing to a string cannot fail.
        let _ = match self {
            Self::Scalar(value) => write!(to, "{value}"),
            Self::Text(text) => write!(to, "{}", Value::from(text.show(captures))),
            Self::Hole(name) => match captures.get(name) {
                Some(value) => write!(to, "{value}"),
                None => write!(to, "${{{name}}}"),
            },
            Self::List {
                items,
                any_order,
                more,
            } => {
                to.push('[');
                if *any_order {
                    *to += ANY_ORDER;
                    to.push(' ');
                }
                for (index, item) in items.iter().enumerate() {
                    *to += if index > 0 { ", " } else { "" };
                    item.write(captures, to);
                }
                *to += end_of(*more, items.is_empty());
                to.write_char(']')
            }
            Self::Object { fields, more } => {
                to.push('{');
                for (index, (key, value)) in fields.iter().enumerate() {
                    *to += if index > 0 { ", " } else { "" };
                    let _ = write!(to, "{}: ", Value::from(key.as_str()));
                    value.write(captures, to);
                }
                *to += end_of(*more, fields.is_empty());
                to.write_char('}')
            }
        };
    }
}

fn end_of(more: bool, empty: bool) -> &'static str {
    match (more, empty) {
        (false, _) => "",
        (true, true) => "...",
        (true, false) => ", ...",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(written: &str) -> Json {
        let (json, length) = read(written).unwrap_or_else(|fault| panic!("{written}: {fault:?}"));
        assert_eq!(length, written.len(), "{written}");
        json
    }

    #[test]
    fn value_fits_whatever_the_order_of_its_keys() {
        let known = Captures::from([("id".to_owned(), json!("x"))]);
        for (written, value, expected) in [
            (
                r#"{"a": 1, "b": [true, null]}"#,
                json!({"b": [true, null], "a": 1}),
                true,
            ),
            (r#"{"a": 1}"#, json!({"a": 1, "b": 2}), false),
            (r#"{"a": 1, ...}"#, json!({"a": 1, "b": 2}), true),
            (r#"{...}"#, json!({}), true),
            (r#"{...}"#, json!([]), false),
            (r#"[1, ...]"#, json!([1, 2]), true),
            (r#"[1, ...]"#, json!([2, 1]), false),
            (r#"[in any order: 1, 2]"#, json!([2, 1]), true),
            (r#"[in any order: 1, 2]"#, json!([2, 1, 3]), false),
            (r#"[in any order: 3, ...]"#, json!([2, 1, 3]), true),
            (r#"[in any order: ${a}, 2]"#, json!([2, 1]), true),
            (
                r#"[in any order: {"id": "${id}"}, {"id": "${b}"}]"#,
                json!([{"id": "y"}, {"id": "x"}]),
                true,
            ),
            (r#"{"id": "${id}"}"#, json!({"id": "x"}), true),
            (r#"{"id": "${id}"}"#, json!({"id": "y"}), false),
            (r#"{"id": ${id}}"#, json!({"id": "x"}), true),
            (r#"{"id": "${a}"}"#, json!({"id": 7}), false),
            (r#"{"id": ${a}}"#, json!({"id": 7}), true),
            (
                r#"{"id": "no-${a}", "again": "${a}"}"#,
                json!({"id": "no-7", "again": "7"}),
                true,
            ),
            (r#"1.0"#, json!(1), true),
            (
                r#"9007199254740993"#,
                json!(9_007_199_254_740_992_u64),
                false,
            ),
            (r#""a\nb""#, json!("a\nb"), true),
        ] {
            let mut captures = known.clone();
            let fits = of(written).fits(&value, &mut captures);
            assert_eq!(fits.is_ok(), expected, "{written}: {fits:?}");
        }
    }

    #[test]
    fn differences_name_their_places() {
        let written = r#"{"a": {"b": [1, "x"]}, "c": 1}"#;
        let value = json!({"a": {"b": [2]}, "d": null});
        let differences = of(written).fits(&value, &mut Captures::new()).unwrap_err();
        let texts: Vec<_> = differences.iter().map(Difference::to_string).collect();
        let expected = [
            "a.b[0]: expected 1, came 2",
            "a.b[1]: expected \"x\", missing",
            "c: expected 1, missing",
            "d: not expected, came null",
        ];
        assert_eq!(texts, expected);
    }

    #[test]
    fn shown_json_is_read_as_it_was() {
        for written in [
            r#"{"a": 1, "b": [true, "x\ny", ${any}], ...}"#,
            r#"[in any order: "no-${a}", ...]"#,
            "[...]",
            "{}",
        ] {
            assert_eq!(of(written).show(&Captures::new()), written);
        }
    }
}
