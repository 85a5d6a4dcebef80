//! The refusals of a registry: when to retry, and the reason.

use std::time::Duration;

use http::header::RETRY_AFTER;
use reqwest::{Response, StatusCode};
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

/// Bytes of an error's body that are read, and characters of it that are shown.
const LONGEST_ERROR: u64 = 8 << 10;
const MAX_SHOWN: usize = 200;

/// The shortest wait before a retry.
const MIN_WAIT: Duration = Duration::from_secs(1);

/// The wait that a registry asks for before a retry.
pub(super) fn retry_after(response: &Response) -> Option<Duration> {
    let may_retry = matches!(
        response.status(),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
    );
    let after = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match after.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let then = OffsetDateTime::parse(after, &Rfc2822).ok()?;
            (then - OffsetDateTime::now_utc())
                .try_into()
                .unwrap_or_default()
        }
    };
    may_retry.then_some(wait.max(MIN_WAIT))
}

/// The text of an error's body, after a colon: the codes and messages of the distribution specification, or those of
/// a token service. It is foreign: cut short, and put on one line.
pub(super) async fn error_text(mut response: Response) -> String {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        errors: Vec<Item>,
        #[serde(alias = "details", alias = "error")]
        message: Option<String>,
    }
    #[derive(Deserialize)]
    struct Item {
        code: Option<String>,
        message: Option<String>,
    }
    let mut content = Vec::new();
    while let Ok(Some(bytes)) = response.chunk().await {
        content.extend_from_slice(&bytes);
        if content.len() as u64 > LONGEST_ERROR {
            return String::new();
        }
    }
    let Ok(body) = serde_json::from_slice::<Body>(&content) else {
        return String::new();
    };
    let words = match body.errors.into_iter().next() {
        Some(Item { code, message }) => code.into_iter().chain(message).collect::<Vec<_>>(),
        None => body.message.into_iter().collect(),
    };
    let words = words.join(": ");
    let short = words.chars().take(MAX_SHOWN).flat_map(char::escape_debug);
    let short: String = short.collect();
    if short.is_empty() {
        short
    } else {
        format!(": {short}")
    }
}
