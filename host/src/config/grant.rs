//! The capabilities that a plugin may be granted.

use std::collections::BTreeSet;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A capability that a plugin may be granted.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Grant {
    /// Send to any connection, close it, keep attributes with it.
    Connections,
    /// Join and leave groups, publish to them.
    Groups,
}

impl Grant {
    pub(crate) const ALL: [Self; 2] = [Self::Connections, Self::Groups];
}

/// The grants of a plugin; none by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Grants(BTreeSet<Grant>);

impl Grants {
    /// Every capability.
    pub(crate) fn all() -> Self {
        Self(Grant::ALL.into())
    }

    /// Adds a grant. Gives false if it was there already.
    pub(crate) fn add(&mut self, grant: Grant) -> bool {
        self.0.insert(grant)
    }

    pub(crate) fn has(&self, grant: Grant) -> bool {
        self.0.contains(&grant)
    }
}

/// Writes its name in the configuration.
impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// Writes them as the configuration does: `["connections", "groups"]`.
impl fmt::Display for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(Grant::to_string);
        f.debug_list().entries(names).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_those_of_the_schema() {
        let schema = schemars::schema_for!(Grant).to_value().to_string();
        assert_eq!(schema.matches("\"const\"").count(), Grant::ALL.len());
        for grant in Grant::ALL {
            assert!(schema.contains(&format!("\"{grant}\"")), "{schema}");
        }
        assert_eq!(Grants::all().to_string(), r#"["connections", "groups"]"#);
    }
}
