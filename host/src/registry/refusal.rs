//! What a registry says when it does not answer: when to come again, and why not.

use std::time::Duration;

use http::header::RETRY_AFTER;
use reqwest::{Response, StatusCode};
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

/// Bytes of an error's body that are read, and characters of it that are told.
const LONGEST_ERROR: u64 = 8 << 10;
const TOLD: usize = 200;

/// The shortest time between a request that came too early and the next.
const PAUSE: Duration = Duration::from_secs(1);

/// How long a registry wants to be left alone, if it says so.
pub(super) fn wait(response: &Response) -> Option<Duration> {
    let early = matches!(
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
    early.then_some(wait.max(PAUSE))
}

/// What the body of an error says, behind a colon: the codes and words of the distribution specification, or those of a
/// token service. It comes from outside: it is short, and of one line.
pub(super) async fn said(mut response: Response) -> String {
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
    let short = words.chars().take(TOLD).flat_map(char::escape_debug);
    let short: String = short.collect();
    if short.is_empty() {
        short
    } else {
        format!(": {short}")
    }
}
