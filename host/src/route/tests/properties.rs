//! Properties of every expression and every message, some of them compared with a tree.

use std::borrow::Cow;

use proptest::prelude::*;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::{check, parse};
use crate::route::Selection;

proptest! {
    #[test]
    fn arbitrary_text_causes_no_panic(expression in ".*", body in ".*") {
        if let Ok(selection) = Selection::parse(&expression) {
            let _ = selection.evaluate(&body);
        }
    }

    #[test]
    fn text_like_an_expression_causes_no_panic(
        expression in r#"(\$\{?request\.body|\.{1,2}[a-c*]?|\[[-0-2:,'"a?*( ]{0,5}\]?|\}|\\|[$x]){0,8}"#,
        body in r#"([\[\]{}:,"]|"[a-c]":|\\u[0-9d]{3}|[0-9.e-]|null|"x"){0,24}"#,
        valid in value(),
    ) {
        if let Ok(selection) = Selection::parse(&expression) {
            let json = serde_json::from_str::<Value>(&body).is_ok();
            prop_assert!(!json || selection.evaluate(&body).is_some());
            prop_assert!(selection.evaluate(&valid.to_string()).is_some());
        }
    }

    #[test]
    fn path_selects_what_a_json_tree_has_there(body in value(), steps in prop::collection::vec(step(), 0..4)) {
        let path: String = steps.iter().map(Step::written).collect();
        let mut at = Some(&body);
        for step in &steps {
            at = at.and_then(|value| step.below(value));
        }
        let expected = at.map_or_else(String::new, text);
        for written in [body.to_string(), format!("{body:#}")] {
            // If the text repeats the message's own spacing, only the compact one is comparable.
            if matches!(at, Some(Value::Object(_) | Value::Array(_))) && written.contains('\n') {
                continue;
            }
            check(&format!("$request.body{path}"), &written, &*expected);
            check(&format!("<${{request.body{path}}}>"), &written, &*format!("<{expected}>"));
        }
    }

    #[test]
    fn search_selects_what_a_json_tree_has_there(body in value()) {
        fn search<'v>(value: &'v Value, found: &mut Vec<&'v Value>) {
            found.extend(value.get("a"));
            match value {
                Value::Object(members) => members.values().for_each(|below| search(below, found)),
                Value::Array(elements) => elements.iter().for_each(|below| search(below, found)),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        let mut found = Vec::new();
        search(&body, &mut found);
        let found = Value::from_iter(found.into_iter().cloned());
        check("$request.body..a", &body.to_string(), &*text(&found));
    }

    #[test]
    fn text_is_json_exactly_when_serde_json_reads_it(
        body in value(),
        pretty in any::<bool>(),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0..3_usize, broken_piece()), 0..3),
    ) {
        let mut text = if pretty { format!("{body:#}") } else { body.to_string() };
        for (at, cut, put) in cuts {
            let characters: Vec<char> = text.chars().collect();
            let at = at.index(characters.len() + 1);
            let (before, after) = characters.split_at(at);
            let after = after.iter().skip(cut);
            text = before.iter().copied().chain(put.chars()).chain(after.copied()).collect();
        }
        let expected = serde_json::from_str::<IgnoredAny>(&text).is_ok();
        let selection = parse("$request.body");
        let whole = selection.evaluate(&text);
        prop_assert_eq!(whole.is_some(), expected, "{}", &text);
        prop_assert_eq!(parse("key").evaluate(&text).is_some(), expected, "{}", &text);
        prop_assert_eq!(parse("$request.body.a").evaluate(&text).is_some(), expected, "{}", &text);
        if let Some(Cow::Borrowed(whole)) = whole && !whole.is_empty() && !text.contains('"') {
            prop_assert_eq!(whole, text.trim_matches([' ', '\t', '\n', '\r']));
        }
    }

    #[test]
    fn literal_selects_itself(literal in ".+") {
        check(&literal.replace('$', r"\$"), "{}", &*literal);
    }

    #[test]
    fn escaped_message_selects_the_same(body in value(), steps in prop::collection::vec(step(), 0..3)) {
        // Objects and nested arrays show how the message writes them, so only a string is compared.
        let path: String = steps.iter().map(Step::written).collect();
        let at = steps.iter().try_fold(&body, |value, step| step.below(value));
        if let None | Some(Value::String(_)) = at {
            let plain = body.to_string();
            let ascii = escaped(&plain);
            let selection = parse(&format!("$request.body{path}"));
            prop_assert_eq!(selection.evaluate(&ascii), selection.evaluate(&plain));
        }
    }
}

/// A step of a definite path, for the oracle.
#[derive(Clone, Debug)]
enum Step {
    Name(String),
    Index(usize),
    FromEnd(usize),
}

impl Step {
    fn written(&self) -> String {
        match self {
            Self::Name(name) if name.chars().all(|c| c.is_ascii_alphanumeric()) => {
                format!(".{name}")
            }
            Self::Name(name) => {
                format!("['{}']", name.replace('\\', r"\\").replace('\'', r"\'"))
            }
            Self::Index(index) => format!("[{index}]"),
            Self::FromEnd(index) => format!("[-{index}]"),
        }
    }

    fn below<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        match self {
            Self::Name(name) => value.get(name),
            Self::Index(index) => value.get(index),
            Self::FromEnd(index) => value.get(value.as_array()?.len().checked_sub(*index)?),
        }
    }
}

/// The text of a value, from its tree.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(elements) => {
            let item = |value: &Value| {
                value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned)
            };
            format!(
                "[{}]",
                elements.iter().map(item).collect::<Vec<_>>().join(", ")
            )
        }
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

/// What turns JSON into something that is nearly JSON, or into other JSON.
fn broken_piece() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => r#"[\[\]{}:,"\\ \t]{0,2}"#,
        2 => r#"[-+0-9.eE]{0,3}"#,
        1 => r#"\\(u[0-9a-fA-Fg]{2,5}|["/bfnrtx])"#,
        1 => "tru|true|false|nul|null|nan|[\u{0}-\u{20}\u{7f}]|.",
    ]
}

/// A name that two steps or a step and a value often share.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[a-c]", 1 => "[^$]{1,3}"]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => name().prop_map(Step::Name),
        1 => (0_usize..3).prop_map(Step::Index),
        1 => (1_usize..4).prop_map(Step::FromEnd),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(|value| json!(value)),
        any::<i64>().prop_map(|value| json!(value)),
        any::<f64>().prop_map(|value| json!(value)),
        ".*".prop_map(|value| json!(value)),
    ];
    leaf.prop_recursive(4, 32, 4, |below| {
        prop_oneof![
            prop::collection::vec(below.clone(), 0..4).prop_map(Value::from_iter),
            prop::collection::btree_map(name(), below, 0..4).prop_map(Value::from_iter),
        ]
    })
}

/// The same JSON in ASCII, with every letter inside a string as its escape.
fn escaped(json: &str) -> String {
    let mut escaped = String::new();
    let mut in_string = false;
    let mut characters = json.chars();
    while let Some(character) = characters.next() {
        in_string ^= character == '"';
        match character {
            '\\' => escaped.extend(['\\'].into_iter().chain(characters.next())),
            // The digits of an escape that is there already stay.
            'g'..='z' | 'G'..='Z' | '\u{80}'.. if in_string => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    escaped.push_str(&format!("\\u{unit:04x}"));
                }
            }
            _ => escaped.push(character),
        }
    }
    escaped
}
