//! The identity of a client, as an authorizer gives it.

use std::fmt;
use std::sync::Arc;

/// Longest name of a client in bytes. An OIDC subject has 255 at most; a certificate's may be longer.
pub(crate) const MAX_PRINCIPAL: usize = 1_024;

/// Bytes of principal, values and scopes together, as in API Gateway, whose authorizers answer with 8 KB at most. Each
/// connection holds them as long as it is open.
pub(crate) const MAX_IDENTITY: usize = 8 << 10;

/// Bytes that a value or a scope counts beside its text: what it takes in memory, more or less.
const ENTRY_BYTES: usize = 32;

/// Who a client is, and what it may do. The bounds of [`Identity::new`] hold.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct Identity {
    /// The client's name. One line; logs show it.
    pub(crate) principal: Option<Box<str>>,
    /// The issuer of the token that says so (`iss`), if it is a token: two issuers may give one name to two clients.
    pub(crate) issuer: Option<Arc<str>>,
    /// What else handlers are to know, ordered by name. May be confidential: no log shows it.
    pub(crate) values: Vec<(Box<str>, Value)>,
    /// What the client may do, ordered.
    pub(crate) scopes: Vec<Box<str>>,
    /// When it no longer holds, in milliseconds since the Unix epoch; none is never.
    pub(crate) expires_at: Option<u64>,
}

/// A value that an authorizer gives.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Text(Box<str>),
    /// Finite.
    Number(f64),
    Flag(bool),
}

/// Why an authorizer's answer is no identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IdentityError {
    #[error("the principal is empty")]
    EmptyPrincipal,
    #[error("the principal has {0} bytes, and {MAX_PRINCIPAL} are the limit")]
    LongPrincipal(usize),
    #[error("the principal has a control character")]
    Unprintable,
    #[error("a value or a scope has no name")]
    EmptyName,
    #[error("the value {0:?} occurs twice")]
    Twice(Box<str>),
    #[error("the value {0:?} is not a finite number")]
    NotFinite(Box<str>),
    #[error(
        "principal, values and scopes have {0} bytes, each entry counted as {ENTRY_BYTES} more than it has, and \
         {MAX_IDENTITY} are the limit"
    )]
    TooLarge(usize),
}

impl Identity {
    /// Checks what an authorizer other than an issuer of tokens says, and brings values and scopes into order. A scope may be named twice.
    pub(crate) fn new(
        principal: Option<Box<str>>,
        mut values: Vec<(Box<str>, Value)>,
        mut scopes: Vec<Box<str>>,
        expires_at: Option<u64>,
    ) -> Result<Self, IdentityError> {
        if let Some(principal) = &principal {
            if principal.is_empty() {
                return Err(IdentityError::EmptyPrincipal);
            }
            if principal.len() > MAX_PRINCIPAL {
                return Err(IdentityError::LongPrincipal(principal.len()));
            }
            if principal.chars().any(char::is_control) {
                return Err(IdentityError::Unprintable);
            }
        }
        let names = values.iter().map(|(name, _)| name).chain(&scopes);
        if names.into_iter().any(|name| name.is_empty()) {
            return Err(IdentityError::EmptyName);
        }
        values.sort_by(|(one, _), (other, _)| one.cmp(other));
        for pair in values.windows(2) {
            if let [(one, _), (other, _)] = pair
                && one == other
            {
                return Err(IdentityError::Twice(one.clone()));
            }
        }
        for (name, value) in &values {
            if let Value::Number(number) = value
                && !number.is_finite()
            {
                return Err(IdentityError::NotFinite(name.clone()));
            }
        }
        scopes.sort();
        scopes.dedup();
        let identity = Self {
            principal,
            issuer: None,
            values,
            scopes,
            expires_at,
        };
        match identity.bytes() {
            bytes if bytes > MAX_IDENTITY => Err(IdentityError::TooLarge(bytes)),
            _ => Ok(identity),
        }
    }

    /// Whether both are of one client.
    pub(crate) fn is_same_client(&self, other: &Self) -> bool {
        (&self.principal, &self.issuer) == (&other.principal, &other.issuer)
    }

    fn bytes(&self) -> usize {
        let principal = self.principal.as_ref().map_or(0, |name| name.len());
        let values = self.values.iter().map(|(name, value)| {
            let text = match value {
                Value::Text(text) => text.len(),
                Value::Number(_) | Value::Flag(_) => 0,
            };
            ENTRY_BYTES + name.len() + text
        });
        let scopes = self.scopes.iter().map(|scope| ENTRY_BYTES + scope.len());
        principal + values.chain(scopes).sum::<usize>()
    }

    /// The text of a value; none if there is no such value, or it is no text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let mut values = self.values.iter().filter(|(other, _)| **other == *name);
        match values.next()? {
            (_, Value::Text(text)) => Some(text),
            (_, Value::Number(_) | Value::Flag(_)) => None,
        }
    }

    /// Whether it no longer holds at `now`, in milliseconds since the Unix epoch.
    pub(crate) fn has_expired(&self, now: u64) -> bool {
        self.expires_at.is_some_and(|expires_at| expires_at <= now)
    }
}

/// Shows the principal alone: values may be confidential.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("principal", &self.principal)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(principal: &str) -> Result<Identity, IdentityError> {
        Identity::new(Some(principal.into()), vec![], vec![], None)
    }

    fn with(values: &[(&str, Value)]) -> Result<Identity, IdentityError> {
        let values = values
            .iter()
            .map(|(name, value)| ((*name).into(), value.clone()));
        Identity::new(None, values.collect(), vec![], None)
    }

    #[test]
    fn principal_is_one_short_line() {
        assert!(named("ada").is_ok());
        assert!(named(&"a".repeat(MAX_PRINCIPAL)).is_ok());
        assert_eq!(named(""), Err(IdentityError::EmptyPrincipal));
        let long = named(&"a".repeat(MAX_PRINCIPAL + 1));
        assert_eq!(long, Err(IdentityError::LongPrincipal(MAX_PRINCIPAL + 1)));
        for text in ["a\nb", "a\0", "\u{1b}[31m", "\u{85}"] {
            assert_eq!(named(text), Err(IdentityError::Unprintable), "{text:?}");
        }
    }

    #[test]
    fn values_are_named_once_and_finite_and_ordered() {
        let identity = with(&[("b", Value::Number(1.5)), ("a", Value::Flag(true))]).unwrap();
        let names: Vec<_> = identity.values.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["a", "b"]);
        let twice = with(&[("a", Value::Flag(true)), ("a", Value::Flag(true))]);
        assert_eq!(twice, Err(IdentityError::Twice("a".into())));
        for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let odd = with(&[("n", Value::Number(number))]);
            assert_eq!(odd, Err(IdentityError::NotFinite("n".into())));
        }
        assert_eq!(
            with(&[("", Value::Flag(true))]),
            Err(IdentityError::EmptyName)
        );
    }

    #[test]
    fn scopes_are_a_set() {
        let scopes = ["write", "read", "write"].map(Box::from).to_vec();
        let identity = Identity::new(None, vec![], scopes, None).unwrap();
        assert_eq!(identity.scopes, ["read", "write"].map(Box::from));
    }

    #[test]
    fn identity_has_a_bound() {
        let text = |bytes: usize| Value::Text("x".repeat(bytes).into());
        let room = MAX_IDENTITY - ENTRY_BYTES - 1;
        assert!(with(&[("a", text(room))]).is_ok());
        let over = with(&[("a", text(room + 1))]);
        assert_eq!(over, Err(IdentityError::TooLarge(MAX_IDENTITY + 1)));
        let many = vec!["s".into(); MAX_IDENTITY];
        assert!(Identity::new(None, vec![], many, None).is_ok(), "one scope");
    }

    #[test]
    fn identity_expires_at_its_moment() {
        let at = |expires_at| Identity {
            expires_at,
            ..Identity::default()
        };
        assert!(!at(None).has_expired(u64::MAX));
        assert!(!at(Some(10)).has_expired(9));
        assert!(at(Some(10)).has_expired(10));
    }

    #[test]
    fn debug_shows_no_value() {
        let identity = with(&[("token", Value::Text("canary".into()))]).unwrap();
        assert!(!format!("{identity:?}").contains("canary"));
    }
}
