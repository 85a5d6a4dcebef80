//! The gateway's check of a handler's answer in `$connect`.

use crate::{Acceptance, Refusal};

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
