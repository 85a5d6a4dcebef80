//! The expansion of `${VAR}` and `${VAR:-default}` in string values.
//!
//! It runs on parsed strings: a variable's value cannot add keys, and is not expanded again.

use std::env::VarError;

/// The reason why a string does not expand.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unexpandable {
    #[error("the environment variable {0} is not set")]
    Unset(String),
    #[error("the environment variable {0} does not hold UTF-8 text")]
    NotUnicode(String),
    #[error("{0:?} is not the name of an environment variable")]
    Name(String),
    #[error("the default of {0} contains a variable, which does not expand")]
    Nested(String),
    #[error("\"${{\" has no closing \"}}\"")]
    Unclosed,
}

impl Unexpandable {
    /// The text that corrects it.
    pub(super) fn remedy(&self) -> String {
        match self {
            // A default would stand in the file, and the gateway would start without what protects it.
            Self::Unset(name) if is_secret(name) => {
                "set it where the gateway is started".to_owned()
            }
            Self::Unset(name) => format!("set it, or give a default: \"${{{name}:-…}}\""),
            Self::NotUnicode(name) => format!("set {name} to text"),
            Self::Nested(name) => format!(
                "write a default without \"${{\", and give {name} its other value where the gateway is started"
            ),
            Self::Name(_) | Self::Unclosed => {
                "write \"${NAME}\" or \"${NAME:-default}\"; \"$${\" is a literal \"${\"".to_owned()
            }
        }
    }
}

/// Expands the variables in `text`. As in a shell, the default also replaces an empty variable. `unset_value` is what one
/// without a default is that is not set; without it, that is an error.
pub(super) fn expand(
    text: &str,
    variable: impl Fn(&str) -> Result<String, VarError>,
    unset_value: Option<&str>,
) -> Result<String, Unexpandable> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            expanded.push_str(before);
            expanded.push_str("${");
            rest = after;
            continue;
        }
        expanded.push_str(before);
        let (inside, after) = after.split_once('}').ok_or(Unexpandable::Unclosed)?;
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        if !is_variable(name) {
            return Err(Unexpandable::Name(name.to_owned()));
        }
        if default.is_some_and(|default| default.contains("${")) {
            return Err(Unexpandable::Nested(name.to_owned()));
        }
        match (variable(name), default) {
            (Ok(value), Some(default)) if value.is_empty() => expanded.push_str(default),
            (Ok(value), _) => expanded.push_str(&value),
            (Err(VarError::NotPresent), default) => {
                let unset = || Unexpandable::Unset(name.to_owned());
                expanded.push_str(default.or(unset_value).ok_or_else(unset)?);
            }
            (Err(VarError::NotUnicode(_)), _) => {
                return Err(Unexpandable::NotUnicode(name.to_owned()));
            }
        }
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// Whether `expanded`, which `text` gives, stands in the text itself: no variable has given any of it.
pub(super) fn is_literal(text: &str, expanded: &str) -> bool {
    let without = expand(text, |_| Err(VarError::NotPresent), Some(""));
    without.is_ok_and(|without| without == expanded)
}

/// Whether a name, as of a variable, tells of a secret.
pub(super) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let words = [
        "SECRET",
        "TOKEN",
        "KEY",
        "PASSWORD",
        "PASSWD",
        "PASSPHRASE",
        "CREDENTIAL",
    ];
    // As a word: COMPASS is none.
    let has_pass = || {
        let mut parts = name.split(|letter: char| !letter.is_ascii_alphanumeric());
        parts.any(|word| word == "PASS")
    };
    !name.contains("PUBLIC") && (words.iter().any(|word| name.contains(word)) || has_pass())
}

/// Whether it can name an environment variable.
pub(super) fn is_variable(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, Unexpandable>) {
        let variable = |name: &str| match name {
            "HOST" => Ok("example.com".to_owned()),
            "EMPTY" => Ok(String::new()),
            "TRICK" => Ok("${HOST}\"\nkey = 1".to_owned()),
            "BYTES" => Err(VarError::NotUnicode("x".into())),
            _ => Err(VarError::NotPresent),
        };
        assert_eq!(expand(text, variable, None), expected.map(str::to_owned));
    }

    #[test]
    fn variables_expand() {
        check("", Ok(""));
        check("plain $ { } $HOST", Ok("plain $ { } $HOST"));
        check("${HOST}", Ok("example.com"));
        check("wss://${HOST}/${EMPTY}x", Ok("wss://example.com/x"));
        check("${HOST:-other}", Ok("example.com"));
        check("${EMPTY:-other}", Ok("other"));
        check("${UNSET:-other:-more}", Ok("other:-more"));
        check("${UNSET:-}", Ok(""));
        check("$${HOST}", Ok("${HOST}"));
        check("$$${HOST}", Ok("$${HOST}"));
        check("${TRICK}", Ok("${HOST}\"\nkey = 1"));
    }

    #[test]
    fn value_of_unset_variables_is_for_those_without_a_default() {
        let variable = |name: &str| match name {
            "EMPTY" => Ok(String::new()),
            _ => Err(VarError::NotPresent),
        };
        let expanded = expand("${UNSET}/${UNSET:-x}/${EMPTY}", variable, Some("dev"));
        assert_eq!(expanded, Ok("dev/x/".to_owned()));
    }

    #[test]
    fn text_is_literal_if_no_variable_gives_any_of_it() {
        for (text, expanded, literal) in [
            ("secret", "secret", true),
            ("$${secret}", "${secret}", true),
            ("${SECRET}", "secret", false),
            ("Bearer ${SECRET}", "Bearer secret", false),
            ("${SECRET:-secret}", "other", false),
            // The default is in use.
            ("${SECRET:-secret}", "secret", true),
        ] {
            assert_eq!(is_literal(text, expanded), literal, "{text} {expanded}");
        }
    }

    #[test]
    fn default_is_advised_where_the_name_is_of_no_secret() {
        for (name, advised) in [
            ("HOST", true),
            ("TICKET_SECRET", false),
            ("api_key", false),
            ("ACCESS_TOKEN", false),
            ("DB_PASSWORD", false),
            ("DB_PASS", false),
            ("COMPASS", true),
            ("TICKET_PUBLIC_KEY", true),
        ] {
            let remedy = Unexpandable::Unset(name.to_owned()).remedy();
            assert_eq!(remedy.contains("default"), advised, "{remedy}");
            assert!(remedy.starts_with("set it"), "{remedy}");
        }
    }

    #[test]
    fn unexpandable_variable_is_named() {
        check("${UNSET}", Err(Unexpandable::Unset("UNSET".to_owned())));
        check(
            "${BYTES:-x}",
            Err(Unexpandable::NotUnicode("BYTES".to_owned())),
        );
        check("${HOST", Err(Unexpandable::Unclosed));
        check(
            "${UNSET:-${HOST}}",
            Err(Unexpandable::Nested("UNSET".to_owned())),
        );
        check("${}", Err(Unexpandable::Name(String::new())));
        check("${1ST}", Err(Unexpandable::Name("1ST".to_owned())));
        check("${HOST-x}", Err(Unexpandable::Name("HOST-x".to_owned())));
    }
}
