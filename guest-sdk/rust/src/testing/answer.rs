//! The gateway's check of the answers in `$connect`: a handler's, and an authorizer's.

use std::collections::BTreeSet;

use crate::context::Value;
use crate::{Acceptance, Identity, Refusal};

// The bounds of an identity.
const PRINCIPAL: usize = 1_024;
const IDENTITY: usize = 8 << 10;
/// Bytes that a value or a scope counts beside its text.
const ENTRY: usize = 32;

/// The answer, or the refusal that a client gets in place of an invalid answer.
pub(super) fn checked(
    answer: Result<Acceptance, Refusal>,
    offered: &[String],
) -> Result<Acceptance, Refusal> {
    match answer {
        Ok(acceptance) => match flaw(&acceptance, offered) {
            None => Ok(acceptance),
            Some(flaw) => Err(bad_answer(&flaw)),
        },
        Err(refusal) if (300..=599).contains(&refusal.status) => Err(refusal),
        Err(Refusal { status, .. }) => Err(bad_answer(&format!(
            "the status {status}, and 300 to 599 refuse"
        ))),
    }
}

/// The identity, or the refusal that a client gets in place of an invalid answer.
pub(super) fn identity(answer: Result<Identity, Refusal>) -> Result<Identity, Refusal> {
    match answer {
        Ok(identity) => match identity_flaw(&identity).or_else(|| identity_excess(&identity)) {
            None => Ok(identity),
            Some(flaw) => Err(Refusal::new(500).cause(flaw)),
        },
        Err(refusal) if (300..=599).contains(&refusal.status) => Err(refusal),
        Err(Refusal { status, .. }) => Err(Refusal::new(500).cause(format!(
            "an authorizer refuses with a status from 300 to 599, and it answered {status}"
        ))),
    }
}

/// The rule that an identity breaks, its size apart.
pub(super) fn identity_flaw(identity: &Identity) -> Option<String> {
    if let Some(principal) = &identity.principal {
        let is_name = !principal.is_empty() && !principal.chars().any(char::is_control);
        if principal.len() > PRINCIPAL || !is_name {
            return Some(format!(
                "the principal has 1 to {PRINCIPAL} bytes, and no control character"
            ));
        }
    }
    let mut names: Vec<_> = identity.values.iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    if let Some([twice, _]) = names
        .windows(2)
        .find(|pair| matches!(pair, [one, next] if one == next))
    {
        return Some(format!("the value {twice:?} occurs twice"));
    }
    if names
        .iter()
        .copied()
        .chain(&identity.scopes)
        .any(|name| name.is_empty())
    {
        return Some("a value or a scope has no name".to_owned());
    }
    let mut values = identity.values.iter();
    let odd =
        values.find(|(_, value)| matches!(value, Value::Number(number) if !number.is_finite()));
    odd.map(|(name, _)| format!("the value {name:?} is not a finite number"))
}

/// By how much an identity is too large.
pub(super) fn identity_excess(identity: &Identity) -> Option<String> {
    let principal = identity.principal.as_ref().map_or(0, String::len);
    let values = identity.values.iter().map(|(name, value)| {
        let text = match value {
            Value::Text(text) => text.len(),
            Value::Number(_) | Value::Flag(_) => 0,
        };
        ENTRY + name.len() + text
    });
    let scopes: BTreeSet<_> = identity.scopes.iter().collect();
    let scopes = scopes.iter().map(|scope| ENTRY + scope.len());
    let bytes = principal + values.chain(scopes).sum::<usize>();
    (bytes > IDENTITY).then(|| {
        format!(
            "principal, values and scopes have {bytes} bytes, each entry counted as {ENTRY} more than it has, and {IDENTITY} \
             are the limit"
        )
    })
}

fn bad_answer(what: &str) -> Refusal {
    Refusal::new(502).cause(format!(
        "the $connect handler answered what cannot be sent: {what}"
    ))
}

fn flaw(acceptance: &Acceptance, offered: &[String]) -> Option<String> {
    if let Some(chosen) = &acceptance.subprotocol
        && !offered.contains(chosen)
    {
        return Some(format!(
            "the subprotocol {chosen:?}, which the client does not offer"
        ));
    }
    let wrong = |(name, value): &&(String, String)| !may_set(name) || !is_value(value);
    let (name, _) = acceptance.headers.iter().find(wrong)?;
    Some(format!(
        "the header {name:?}, which it may not set or which is malformed"
    ))
}

/// Whether `name` is a header's name (RFC 9110 §5.6.2), and not one of the gateway's own.
fn may_set(name: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let name = name.to_ascii_lowercase();
    let ours = [
        "connection",
        "upgrade",
        "content-length",
        "transfer-encoding",
    ];
    !name.is_empty()
        && name.bytes().all(is_token)
        && !ours.contains(&&*name)
        && !name.starts_with("sec-websocket-")
}

fn is_value(value: &str) -> bool {
    value
        .bytes()
        .all(|byte| matches!(byte, b'\t' | b' '..=b'~'))
}
