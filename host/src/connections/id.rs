//! The ids of connections and of requests: making, writing and reading them.

use std::cell::Cell;
use std::fmt;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};

/// Characters of an id as text: twelve bytes in base64url, or eleven and a `=`, as API Gateway writes ids.
const LENGTH: usize = 16;

/// The id of a connection: 96 random bits, so that no one can guess another's, or 88 in an id that is padded.
///
/// Written as 16 characters of the base64url alphabet (RFC 4648 §5), which need no escaping in a URL but for a `=`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ConnectionId([u8; LENGTH]);

impl ConnectionId {
    /// A new id from the operating system's random numbers.
    pub(crate) fn random() -> Self {
        Self::random_of::<12>()
    }

    /// A new id in API Gateway's form, which ends with `=`.
    pub(crate) fn random_padded() -> Self {
        Self::random_of::<11>()
    }

    /// An id that does not begin with `-`: commands, ours and AWS's, would take it for an option.
    fn random_of<const BYTES: usize>() -> Self {
        let mut bytes = [0; BYTES];
        loop {
            getrandom::fill(&mut bytes).expect("the operating system has random numbers");
            let id = encode(&bytes);
            if !id.starts_with(b"-") {
                return Self(id);
            }
        }
    }

    /// Parses an id from a handler or a client; none if it is malformed.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; LENGTH] = text.as_bytes().try_into().ok()?;
        let [digits @ .., last] = &bytes;
        let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (digits.iter().all(is_digit) && (is_digit(last) || *last == b'=')).then_some(Self(bytes))
    }

    pub(crate) fn as_str(&self) -> &str {
        str::from_utf8(&self.0).expect("base64url is ASCII")
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The id of an invocation, in logs and in error frames. Unique, not secret: a prefix drawn when the process starts,
/// and a counter. Formatted only when it is shown. Its highest bit says that it is written in API Gateway's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestId(u64);

static PROCESS: LazyLock<[u8; 4]> = LazyLock::new(|| {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).expect("the operating system has random numbers");
    bytes
});
static NEXT_NUMBERS: AtomicU64 = AtomicU64::new(0);

/// The bit of an id that is padded.
const PADDED: u64 = 1 << 63;

/// Numbers that a thread takes at a time: threads that share a counter for each number slow each other down.
const NUMBERS: u64 = 1 << 10;

thread_local! {
    static NUMBER: Cell<u64> = const { Cell::new(0) };
}

impl RequestId {
    /// Whether it is chosen, as one id in `count` is; none for 0.
    pub(crate) fn is_one_in(self, count: u32) -> bool {
        count > 0 && (self.0 & !PADDED).is_multiple_of(count.into())
    }

    /// The number that no other request of the process has.
    pub(crate) fn number(self) -> u64 {
        self.0 & !PADDED
    }

    pub(crate) fn next() -> Self {
        let mut number = NUMBER.get();
        if number.is_multiple_of(NUMBERS) {
            number = NEXT_NUMBERS.fetch_add(NUMBERS, Ordering::Relaxed);
        }
        NUMBER.set(number + 1);
        Self(number)
    }

    /// The id in API Gateway's form, which ends with `=`, if `padded`.
    pub(crate) fn padded(self, padded: bool) -> Self {
        Self(self.0 | if padded { PADDED } else { 0 })
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_id(f, *PROCESS, self.0)
    }
}

/// The last requests of a connection, for an operator who looks for them in the log. The connection's session alone
/// notes them, so that each costs two stores to memory that is its own.
#[derive(Debug, Default)]
pub(super) struct LastRequests {
    /// Each is the number of a request and 1; 0 is none.
    numbers: [AtomicU64; 4],
    count: AtomicUsize,
}

impl LastRequests {
    pub(super) fn note(&self, request: RequestId) {
        let count = self.count.load(Ordering::Relaxed);
        if let Some(place) = self.numbers.get(count % self.numbers.len()) {
            place.store(request.0.wrapping_add(1), Ordering::Relaxed);
        }
        self.count.store(count.wrapping_add(1), Ordering::Relaxed);
    }

    /// Newest first.
    pub(super) fn all(&self) -> Vec<RequestId> {
        let (count, places) = (self.count.load(Ordering::Relaxed), self.numbers.len());
        let newest_first = (1..=places).map(|back| count.wrapping_add(places - back) % places);
        let numbers = newest_first.filter_map(|place| self.numbers.get(place));
        let numbers = numbers.map(|number| number.load(Ordering::Relaxed));
        let noted = numbers.filter_map(|number| number.checked_sub(1));
        noted.map(RequestId).collect()
    }
}

/// The id of a message, in API Gateway's events beside the id of its request. It is made of that, so that a message on
/// its way carries one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MessageId(RequestId);

impl From<RequestId> for MessageId {
    fn from(request: RequestId) -> Self {
        Self(request)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No process has counted so far that the two meet.
        write_id(f, *PROCESS, self.0.0 ^ !PADDED)
    }
}

fn write_id(f: &mut fmt::Formatter<'_>, process: [u8; 4], number: u64) -> fmt::Result {
    let mut bytes = [0; 12];
    let (prefix, serial) = bytes.split_at_mut(4);
    prefix.copy_from_slice(&process);
    // The digits that differ most come first, for readers who compare ids.
    serial.copy_from_slice(&(number & !PADDED).to_le_bytes());
    let [_, eleven @ ..] = &bytes;
    let text = match number & PADDED {
        0 => encode(&bytes),
        _ => encode(eleven),
    };
    f.write_str(str::from_utf8(&text).expect("base64url is ASCII"))
}

/// Writes eleven or twelve bytes.
fn encode(bytes: &[u8]) -> [u8; LENGTH] {
    let mut text = [0; LENGTH];
    let engine = match bytes.len() {
        12 => URL_SAFE_NO_PAD,
        _ => URL_SAFE,
    };
    engine
        .encode_slice(bytes, &mut text)
        .expect("they are sixteen characters");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_id_is_parsed_as_it_was_written() {
        let id = ConnectionId::random();
        assert_eq!(ConnectionId::parse(id.as_str()), Some(id));
        assert_ne!(ConnectionId::random(), id);
        let padded = ConnectionId::random_padded();
        assert!(padded.as_str().ends_with('='), "{padded}");
        assert_eq!(ConnectionId::parse(padded.as_str()), Some(padded));
    }

    #[test]
    fn connection_id_does_not_begin_as_an_option_does() {
        for _ in 0..2_000 {
            let ids = [ConnectionId::random(), ConnectionId::random_padded()];
            assert!(
                ids.iter().all(|id| !id.as_str().starts_with('-')),
                "{ids:?}"
            );
        }
    }

    #[test]
    fn malformed_id_is_no_connection_id() {
        for text in [
            "",
            "short",
            "sixteen chars!!!",
            "seventeen-letters",
            "L0SM9cOFvHcCIh==",
            "=0SM9cOFvHcCIhww",
        ] {
            assert_eq!(ConnectionId::parse(text), None, "{text}");
        }
    }

    #[test]
    fn request_ids_differ() {
        for padded in [false, true] {
            let next = || RequestId::next().padded(padded).to_string();
            let (first, second) = (next(), next());
            assert_ne!(first, second);
            assert_eq!(first.len(), LENGTH);
            assert_eq!(first.ends_with('='), padded, "{first}");
        }
    }

    #[test]
    fn last_requests_are_the_newest_four() {
        let last = LastRequests::default();
        assert_eq!(last.all(), []);
        let requests: Vec<_> = (0..6).map(|_| RequestId::next()).collect();
        for (noted, request) in requests.iter().enumerate() {
            last.note(*request);
            let newest = requests.iter().take(noted + 1).rev().take(4);
            assert_eq!(last.all(), newest.copied().collect::<Vec<_>>());
        }
    }

    #[test]
    fn message_id_is_another_value_than_its_requests() {
        for padded in [false, true] {
            let request = RequestId::next().padded(padded);
            let message = MessageId::from(request).to_string();
            assert_eq!(message.len(), LENGTH);
            assert_eq!(message.ends_with('='), padded, "{message}");
            assert_ne!(message, request.to_string());
            let next = RequestId::next().padded(padded);
            assert_ne!(message, MessageId::from(next).to_string());
        }
    }
}
