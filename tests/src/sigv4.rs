//! A signer of requests by AWS Signature Version 4, written apart from the gateway's verifier.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::{
    digest::{SHA256, digest},
    hmac::{HMAC_SHA256, Key, sign},
};

/// An access key that signs.
#[derive(Clone)]
pub struct Signer {
    pub id: String,
    pub secret: String,
    /// Seconds that the signer's clock is ahead.
    pub ahead: i64,
    /// Whether `x-amz-content-sha256` declares the hash of the body.
    pub declares_hash: bool,
}

impl Signer {
    #[must_use]
    pub fn new(id: &str, secret: &str) -> Self {
        Self {
            id: id.to_owned(),
            secret: secret.to_owned(),
            ahead: 0,
            declares_hash: false,
        }
    }

    /// The headers that sign a request without a query.
    #[must_use]
    pub fn sign(&self, method: &str, path: &str, host: &str, body: &[u8]) -> Vec<(String, String)> {
        let time = self.time();
        let body_hash = hex(digest(&SHA256, body).as_ref());
        let mut headers = vec![("host".to_owned(), host.to_owned())];
        if self.declares_hash {
            headers.push(("x-amz-content-sha256".to_owned(), body_hash.clone()));
        }
        headers.push(("x-amz-date".to_owned(), time.clone()));
        let names: Vec<_> = headers.iter().map(|(name, _)| name.as_str()).collect();
        let names = names.join(";");
        let lines: String = headers
            .iter()
            .map(|(name, value)| format!("{name}:{value}\n"))
            .collect();
        let path = encoded(path);
        let canonical = format!("{method}\n{path}\n\n{lines}\n{names}\n{body_hash}");
        let (id, scope) = (&self.id, scope(&time));
        let signature = self.signature(&time, &canonical);
        let value = format!(
            "AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}"
        );
        headers.push(("authorization".to_owned(), value));
        headers.remove(0);
        headers
    }

    /// The query that signs a `GET` for some seconds. A query of the request's own, sorted before `X`, comes first.
    #[must_use]
    pub fn presign(&self, path: &str, query: &str, host: &str, seconds: u32) -> String {
        let (time, path) = (self.time(), encoded(path));
        let credential = format!("{}/{}", self.id, scope(&time)).replace('/', "%2F");
        let own = if query.is_empty() { "" } else { "&" };
        let query = format!(
            "{query}{own}X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={credential}&X-Amz-Date={time}\
             &X-Amz-Expires={seconds}&X-Amz-SignedHeaders=host"
        );
        let body_hash = hex(digest(&SHA256, b"").as_ref());
        let canonical = format!("GET\n{path}\n{query}\nhost:{host}\n\nhost\n{body_hash}");
        let signature = self.signature(&time, &canonical);
        format!("{query}&X-Amz-Signature={signature}")
    }

    fn signature(&self, time: &str, canonical: &str) -> String {
        let scope = scope(time);
        let hash = hex(digest(&SHA256, canonical.as_bytes()).as_ref());
        let message = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{hash}");
        let mut key = format!("AWS4{}", self.secret).into_bytes();
        for part in scope.split('/').chain([message.as_str()]) {
            key = sign(&Key::new(HMAC_SHA256, &key), part.as_bytes())
                .as_ref()
                .to_vec();
        }
        hex(&key)
    }

    /// `YYYYMMDDTHHMMSSZ`.
    fn time(&self) -> String {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let now = now.checked_add_signed(self.ahead).unwrap();
        let (days, seconds) = (now / 86_400, now % 86_400);
        let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
        let (mut year, mut left) = (1970, days);
        let is_leap = |year: u64| {
            year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
        };
        while left >= 365 + u64::from(is_leap(year)) {
            left -= 365 + u64::from(is_leap(year));
            year += 1;
        }
        let february = 28 + u64::from(is_leap(year));
        let mut month = 1;
        for days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
            if left < days {
                break;
            }
            left -= days;
            month += 1;
        }
        format!(
            "{year:04}{month:02}{:02}T{hour:02}{minute:02}{second:02}Z",
            left + 1
        )
    }
}

/// The path encoded once more, as far as these tests need it.
fn encoded(path: &str) -> String {
    path.replace('%', "%25")
        .replace('@', "%40")
        .replace('=', "%3D")
}

fn scope(time: &str) -> String {
    format!("{}/eu-central-1/execute-api/aws4_request", &time[..8])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
