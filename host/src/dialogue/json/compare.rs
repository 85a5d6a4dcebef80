//! The comparison of a value that came with the one that is expected.

use serde_json::{Map, Value};

use super::{Difference, Json};
use crate::dialogue::holes::{ANY, Captures};

/// Attempts to fit elements that may come in any order.
const MAX_ATTEMPTS: u32 = 10_000;

pub(super) struct Comparison<'a> {
    captures: &'a mut Captures,
    differences: Vec<Difference>,
    attempts: u32,
}

impl<'a> Comparison<'a> {
    pub(super) fn new(captures: &'a mut Captures) -> Self {
        Self {
            captures,
            differences: Vec::new(),
            attempts: MAX_ATTEMPTS,
        }
    }

    pub(super) fn differences(mut self, expected: &Json, came: &Value) -> Vec<Difference> {
        self.compare(expected, came, "");
        self.differences
    }

    fn differ(&mut self, path: &str, text: String) {
        let path = path.to_owned();
        self.differences.push(Difference { path, text });
    }

    fn compare(&mut self, expected: &Json, came: &Value, path: &str) {
        match (expected, came) {
            (Json::Hole(name), _) if name == ANY => {}
            (Json::Hole(name), _) => match self.captures.get(name) {
                Some(known) if known == came => {}
                Some(_) => self.mismatch(expected, came, path),
                None => drop(self.captures.insert(name.clone(), came.clone())),
            },
            (Json::Scalar(value), _) if is_same(value, came) => {}
            (Json::Text(text), Value::String(came_text)) => {
                let mut filled = self.captures.clone();
                if text.fits(came_text, &mut filled) {
                    *self.captures = filled;
                } else {
                    self.mismatch(expected, came, path);
                }
            }
            (
                Json::List {
                    items,
                    any_order: false,
                    more,
                },
                Value::Array(values),
            ) => self.compare_lists(items, *more, values, path),
            (Json::List { items, more, .. }, Value::Array(values)) => {
                let enough = items.len() == values.len() || *more && items.len() < values.len();
                let mut used = vec![false; values.len()];
                if !enough || !self.fits_in_any_order(items, values, &mut used) {
                    self.mismatch(expected, came, path);
                }
            }
            (Json::Object { fields, more }, Value::Object(values)) => {
                self.compare_objects(fields, *more, values, path);
            }
            (
                Json::Scalar(_) | Json::Text(_) | Json::List { .. } | Json::Object { .. },
                Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::String(_)
                | Value::Array(_)
                | Value::Object(_),
            ) => self.mismatch(expected, came, path),
        }
    }

    fn mismatch(&mut self, expected: &Json, came: &Value, path: &str) {
        let expected = expected.show(self.captures);
        self.differ(path, format!("expected {expected}, came {came}"));
    }

    fn compare_lists(&mut self, items: &[Json], more: bool, values: &[Value], path: &str) {
        for (index, (item, value)) in items.iter().zip(values).enumerate() {
            self.compare(item, value, &format!("{path}[{index}]"));
        }
        for (index, item) in items.iter().enumerate().skip(values.len()) {
            let expected = item.show(self.captures);
            self.differ(
                &format!("{path}[{index}]"),
                format!("expected {expected}, missing"),
            );
        }
        if !more {
            for (index, value) in values.iter().enumerate().skip(items.len()) {
                self.differ(
                    &format!("{path}[{index}]"),
                    format!("not expected, came {value}"),
                );
            }
        }
    }

    fn compare_objects(
        &mut self,
        fields: &[(String, Json)],
        more: bool,
        values: &Map<String, Value>,
        path: &str,
    ) {
        let inside = |key: &str| {
            if path.is_empty() {
                key.to_owned()
            } else {
                format!("{path}.{key}")
            }
        };
        for (key, expected) in fields {
            match values.get(key) {
                Some(value) => self.compare(expected, value, &inside(key)),
                None => {
                    let expected = expected.show(self.captures);
                    self.differ(&inside(key), format!("expected {expected}, missing"));
                }
            }
        }
        let known = |key: &String| fields.iter().any(|(name, _)| name == key);
        for (key, value) in values.iter().filter(|(key, _)| !more && !known(key)) {
            self.differ(&inside(key), format!("not expected, came {value}"));
        }
    }

    /// Whether each item fits a value of its own.
    fn fits_in_any_order(&mut self, items: &[Json], values: &[Value], used: &mut [bool]) -> bool {
        let Some((item, others)) = items.split_first() else {
            return true;
        };
        for (index, value) in values.iter().enumerate() {
            if used.get(index) != Some(&false) {
                continue;
            }
            let Some(left) = self.attempts.checked_sub(1) else {
                return false;
            };
            self.attempts = left;
            let (before, known) = (self.differences.len(), self.captures.clone());
            self.compare(item, value, "");
            let fits = self.differences.len() == before;
            self.differences.truncate(before);
            if fits {
                mark(used, index, true);
                if self.fits_in_any_order(others, values, used) {
                    return true;
                }
                mark(used, index, false);
            }
            *self.captures = known;
        }
        false
    }
}

fn mark(used: &mut [bool], index: usize, is: bool) {
    if let Some(mark) = used.get_mut(index) {
        *mark = is;
    }
}

/// Whether two values are the same; numbers by their value, however they are written.
fn is_same(expected: &Value, came: &Value) -> bool {
    match (expected, came) {
        (Value::Number(expected), Value::Number(came)) => {
            expected == came
                || expected.as_f64() == came.as_f64() && !(expected.is_i64() && came.is_i64())
        }
        _ => expected == came,
    }
}
