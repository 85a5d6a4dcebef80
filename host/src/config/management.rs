//! The management listener: beyond this machine, nobody uses it without TLS and a token.

use super::address::ADMIN_MODE;
use super::check::{BoundAddresses, certificate_files, listener_address};
use super::file;
use super::model::{Management, Secret};
use super::report::Report;

/// Characters of the shortest token: with fewer, one that people choose could be guessed.
const MIN_TOKEN: usize = 32;

pub(super) fn management(
    written: file::Management,
    bound: &mut BoundAddresses,
    report: &mut Report<'_>,
) -> Option<Management> {
    let keys = ("management.address".into(), "management.mode".into());
    let mode = (written.mode.as_deref(), ADMIN_MODE);
    let address = listener_address(&keys, &written.address, mode, bound, report);
    let tls = written.tls.as_ref();
    let tls = tls.map(|files| certificate_files("management.tls", files, report));
    let tokens = tokens(written.tokens, report);
    let audit = written.audit.as_deref();
    let audit = audit.map(|audit| report.path("management.audit", audit));
    let address = address?;
    // What is written with a mistake is not missing.
    let lacks_tls = tls.is_none() && report.is_clean("management.tls");
    let lacks_tokens = tokens.is_empty() && report.is_clean("management.tokens");
    if !address.is_local() && (lacks_tls || lacks_tokens) {
        let missing = match (lacks_tls, lacks_tokens) {
            (true, true) => "neither tls nor tokens are",
            (true, false) => "tls is not",
            (false, _) => "tokens are not",
        };
        report.problem(
            &keys.0,
            format!("{address} is not a loopback address, so that other machines can connect, and {missing} set"),
            format!(
                "add tls = {{ certificate = \"…\", key = \"…\" }} and tokens = [\"${{ADMIN_TOKEN}}\"], or write \"127.0.0.1:{}\"",
                address.ip().map_or(9_090, |address| address.port())
            ),
        );
    }
    Some(Management {
        address,
        tls,
        tokens,
        audit,
    })
}

/// Reads the tokens. No problem shows one.
fn tokens(written: Vec<String>, report: &mut Report<'_>) -> Vec<Secret> {
    for (place, token) in written.iter().enumerate() {
        let key = format!("management.tokens[{place}]");
        let make = "make one with `openssl rand -base64 32`";
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            let message = "a token has printable characters of ASCII, and no spaces";
            report.problem(&key, message, make);
        } else if token.len() < MIN_TOKEN {
            let length = token.len();
            let message = format!(
                "the token has {length} characters, and could be guessed: {MIN_TOKEN} are needed"
            );
            report.problem(&key, message, make);
        } else if written.iter().take(place).any(|other| other == token) {
            report.problem(&key, "the token is there twice", "remove one");
        }
    }
    let written = written.into_iter().enumerate();
    written
        .map(|(place, token)| report.secret(&format!("management.tokens[{place}]"), token))
        .collect()
}
