//! Settings (RFC 9114 §7.2.4): what each side says of itself first.

use super::code::Code;
use super::{MAX_HEAD, frame, varint};

const MAX_FIELD_SECTION_SIZE: u64 = 0x06;
/// RFC 9220 §3.
const ENABLE_CONNECT_PROTOCOL: u64 = 0x08;
/// RFC 9297 §2.1.1.
const H3_DATAGRAM: u64 = 0x33;
/// WebTransport of draft 02, which browsers ask for, and its number of sessions.
const ENABLE_WEBTRANSPORT: u64 = 0x2b60_3742;
const MAX_SESSIONS_02: u64 = 0x2b60_3743;
/// The same of drafts 07 to 12.
const MAX_SESSIONS_07: u64 = 0xc671_706a;

/// Sessions that a client may have on one connection: as many as WebSockets.
const MAX_SESSIONS: u64 = 100;

/// Settings of HTTP/2 that HTTP/3 has not, and that must not come (RFC 9114 §7.2.4.1).
const OF_HTTP_2: [u64; 4] = [0x02, 0x03, 0x04, 0x05];

/// Makes the gateway's own frame. Without a setting for it, the client's QPACK has no dynamic table.
pub(super) fn own() -> Vec<u8> {
    let mut settings = Vec::new();
    for (id, value) in [
        (MAX_FIELD_SECTION_SIZE, MAX_HEAD as u64),
        (ENABLE_CONNECT_PROTOCOL, 1),
        // Datagrams are part of WebTransport for clients, whether or not a stage takes them.
        (H3_DATAGRAM, 1),
        (ENABLE_WEBTRANSPORT, 1),
        (MAX_SESSIONS_02, MAX_SESSIONS),
        (MAX_SESSIONS_07, MAX_SESSIONS),
    ] {
        varint::put(&mut settings, id);
        varint::put(&mut settings, value);
    }
    let mut out = Vec::new();
    frame::put(&mut out, frame::SETTINGS, &settings);
    out
}

/// Judges the client's settings. Gives whether it takes datagrams; the gateway depends on nothing else of them.
pub(super) fn check(mut payload: &[u8]) -> Result<bool, Code> {
    let (mut seen, mut datagrams) = (Vec::new(), false);
    while !payload.is_empty() {
        let setting = (varint::take(&mut payload), varint::take(&mut payload));
        let (Some(id), Some(value)) = setting else {
            return Err(Code::Frame);
        };
        let is_flag = matches!(
            id,
            ENABLE_CONNECT_PROTOCOL | H3_DATAGRAM | ENABLE_WEBTRANSPORT
        );
        if OF_HTTP_2.contains(&id) || is_flag && value > 1 {
            return Err(Code::Settings);
        }
        datagrams |= id == H3_DATAGRAM && value == 1;
        seen.push(id);
    }
    seen.sort_unstable();
    let twice = seen.windows(2).any(|pair| matches!(pair, [a, b] if a == b));
    if twice {
        return Err(Code::Settings);
    }
    Ok(datagrams)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn judge(settings: &[(u64, u64)], expected: Result<bool, Code>) {
        let mut payload = Vec::new();
        for (id, value) in settings {
            varint::put(&mut payload, *id);
            varint::put(&mut payload, *value);
        }
        assert_eq!(check(&payload), expected, "{settings:?}");
    }

    #[test]
    fn settings_are_judged() {
        judge(&[], Ok(false));
        judge(
            &[(MAX_FIELD_SECTION_SIZE, 1), (0x21, 7), (H3_DATAGRAM, 1)],
            Ok(true),
        );
        judge(&[(H3_DATAGRAM, 0)], Ok(false));
        judge(&[(0x21, 7), (0x42, 1), (0x21, 7)], Err(Code::Settings));
        judge(&[(0x03, 100)], Err(Code::Settings));
        judge(&[(ENABLE_CONNECT_PROTOCOL, 2)], Err(Code::Settings));
        assert_eq!(check(&[0x06]), Err(Code::Frame));
    }
}
