//! Counts in words, for people.

use std::fmt::Display;

/// A count with the name of what is counted: `1 line`, `2 lines`.
pub(crate) fn count_of(count: impl Copy + Display + PartialEq + From<u8>, name: &str) -> String {
    let plural = if count == 1.into() { "" } else { "s" };
    format!("{count} {name}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_no_plural() {
        let counts = [0, 1, 2].map(|count: u64| count_of(count, "line"));
        assert_eq!(counts, ["0 lines", "1 line", "2 lines"]);
    }
}
