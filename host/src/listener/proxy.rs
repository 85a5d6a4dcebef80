//! The PROXY protocol, versions 1 and 2: the header in which a proxy names the client whose connection it passes on.
//!
//! No byte behind the header is read: TLS or HTTP begins there.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The first bytes of a header of version 2. No version 1, TLS or HTTP begins so.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Longest header of version 1 in bytes, by its specification.
const MAX_V1_BYTES: usize = 107;

/// Longest header of version 2 in bytes, behind its length field. Addresses take at most 216; the rest is for
/// extensions, of which proxies send some hundred bytes.
const MAX_V2_BYTES: usize = 1 << 10;

/// Types of extensions: TLS between client and proxy, and the checksum.
const TYPE_SSL: u8 = 0x20;
const TYPE_CRC32C: u8 = 0x03;

/// The content of a header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProxyHeader {
    /// The client. None if the proxy speaks for itself, as in a health check, or does not know the client.
    pub(crate) client: Option<SocketAddr>,
    /// The client speaks TLS, which ends at the proxy.
    pub(crate) tls: bool,
}

/// The reason why there is no header.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoHeader {
    #[error("it does not begin with a PROXY header")]
    Absent,
    #[error("its PROXY header is malformed: {0}")]
    Malformed(&'static str),
    #[error("it ended within its PROXY header: {0}")]
    Ended(#[from] io::Error),
}

/// Reads a header, and no byte behind it.
pub(crate) async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Result<ProxyHeader, NoHeader> {
    let mut start = [0; SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    if start == SIGNATURE {
        let mut rest = [0; 4];
        stream.read_exact(&mut rest).await?;
        let [version_and_command, family, length @ ..] = rest;
        let length = usize::from(u16::from_be_bytes(length));
        if length > MAX_V2_BYTES {
            return Err(NoHeader::Malformed("it is longer than 1 KiB"));
        }
        let mut header = [&SIGNATURE[..], &rest].concat();
        let fixed = header.len();
        header.resize(fixed + length, 0);
        let (_, body) = header.split_at_mut(fixed);
        stream.read_exact(body).await?;
        return version_2(version_and_command, family, &header, fixed);
    }
    if !start.starts_with(b"PROXY ") {
        return Err(NoHeader::Absent);
    }
    let mut line = start.to_vec();
    while !line.ends_with(b"\r\n") {
        // Reads only bytes that certainly belong to the header.
        let missing = if line.ends_with(b"\r") { 1 } else { 2 };
        let have = line.len();
        if have + missing > MAX_V1_BYTES || line.contains(&b'\n') {
            return Err(NoHeader::Malformed("a line of version 1 has no end"));
        }
        line.resize(have + missing, 0);
        let (_, more) = line.split_at_mut(have);
        stream.read_exact(more).await?;
    }
    version_1(&line)
}

/// Parses a header of version 1: a whole line, its end included.
fn version_1(line: &[u8]) -> Result<ProxyHeader, NoHeader> {
    let line = str::from_utf8(line).ok();
    let line = line.and_then(|line| line.strip_suffix("\r\n"));
    let line = line.ok_or(NoHeader::Malformed("it is not a line of text"))?;
    let words: Vec<_> = line.split(' ').collect();
    let client = match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => None,
        ["PROXY", "TCP4", client, server, ports @ ..] => {
            let _: Ipv4Addr = address(server)?;
            Some(SocketAddr::new(IpAddr::V4(address(client)?), port(ports)?))
        }
        ["PROXY", "TCP6", client, server, ports @ ..] => {
            let _: Ipv6Addr = address(server)?;
            Some(SocketAddr::new(IpAddr::V6(address(client)?), port(ports)?))
        }
        _ => return Err(NoHeader::Malformed("it is none of TCP4, TCP6 and UNKNOWN")),
    };
    Ok(ProxyHeader { client, tls: false })
}

fn address<A: FromStr>(text: &str) -> Result<A, NoHeader> {
    let address = text.parse();
    address.map_err(|_| NoHeader::Malformed("an address is not one of its family"))
}

/// Parses both ports; gives the client's.
fn port(words: &[&str]) -> Result<u16, NoHeader> {
    let [client, server] = words else {
        return Err(NoHeader::Malformed(
            "there are not two addresses and two ports",
        ));
    };
    let number = |text: &str| {
        let canonical = text == "0" || text.starts_with(|first: char| matches!(first, '1'..='9'));
        let number = text.parse().ok().filter(|_: &u16| canonical);
        number.ok_or(NoHeader::Malformed("a port is not a number up to 65535"))
    };
    number(server)?;
    number(client)
}

/// Parses a header of version 2, whose addresses begin behind its `fixed` part.
fn version_2(
    version_and_command: u8,
    family: u8,
    header: &[u8],
    fixed: usize,
) -> Result<ProxyHeader, NoHeader> {
    let body = header.get(fixed..).unwrap_or_default();
    match version_and_command {
        // LOCAL: the proxy speaks for itself, and the specification ignores the rest.
        0x20 => return Ok(ProxyHeader::default()),
        0x21 => {}
        _ => return Err(NoHeader::Malformed("its version or command is unknown")),
    }
    let short = || NoHeader::Malformed("it is shorter than its addresses");
    let (client, extensions) = match family {
        // IPv4: two addresses and two ports.
        0x11 => {
            let (addresses, rest) = body.split_first_chunk::<12>().ok_or_else(short)?;
            let [a, b, c, d, _, _, _, _, port @ .., _, _] = *addresses;
            let client = IpAddr::from([a, b, c, d]);
            (
                Some(SocketAddr::new(client, u16::from_be_bytes(port))),
                rest,
            )
        }
        // IPv6.
        0x21 => {
            let (client, rest) = body.split_first_chunk::<16>().ok_or_else(short)?;
            let (_, rest) = rest.split_first_chunk::<16>().ok_or_else(short)?;
            let (port, rest) = rest.split_first_chunk::<2>().ok_or_else(short)?;
            let (_, rest) = rest.split_first_chunk::<2>().ok_or_else(short)?;
            let client = IpAddr::from(*client);
            (
                Some(SocketAddr::new(client, u16::from_be_bytes(*port))),
                rest,
            )
        }
        // Unix sockets have no addresses that limits or handlers know.
        0x31 => (None, body.get(216..).ok_or_else(short)?),
        0x00 => (None, &[][..]),
        _ => {
            return Err(NoHeader::Malformed(
                "it is about something else than a stream",
            ));
        }
    };
    let tls = read_extensions(extensions, header)?;
    Ok(ProxyHeader { client, tls })
}

/// Reads the extensions: whether the client speaks TLS with the proxy. A checksum must be right.
fn read_extensions(mut extensions: &[u8], header: &[u8]) -> Result<bool, NoHeader> {
    const CUT: NoHeader = NoHeader::Malformed("an extension is longer than the header");
    let mut tls = false;
    while let Some((&[kind, length @ ..], rest)) = extensions.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes(length));
        let (value, rest) = rest.split_at_checked(length).ok_or(CUT)?;
        match (kind, value) {
            (TYPE_SSL, [flags, ..]) => tls = flags & 1 == 1,
            (TYPE_CRC32C, value) => {
                let given = <[u8; 4]>::try_from(value).ok().map(u32::from_be_bytes);
                let offset = header.len() - rest.len() - length;
                if given != Some(crc32c(header, offset)) {
                    return Err(NoHeader::Malformed("its checksum is wrong"));
                }
            }
            _ => {}
        }
        extensions = rest;
    }
    if extensions.is_empty() {
        Ok(tls)
    } else {
        Err(CUT)
    }
}

/// The CRC32c checksum (RFC 4960 appendix B) of a header, with the four bytes at `offset` taken as zeros.
fn crc32c(header: &[u8], offset: usize) -> u32 {
    let bytes = header.iter().enumerate();
    let bytes = bytes.map(|(at, byte)| {
        if (offset..offset + 4).contains(&at) {
            0
        } else {
            *byte
        }
    });
    !bytes.fold(!0_u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| {
            if sum & 1 == 1 {
                (sum >> 1) ^ 0x82f6_3b78
            } else {
                sum >> 1
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use proptest::prelude::*;

    use super::*;

    /// Reads bytes. Gives the result, and the count of bytes left.
    fn given(mut bytes: &[u8]) -> (Result<ProxyHeader, NoHeader>, usize) {
        let read = pin!(read(&mut bytes)).poll(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(read) = read else {
            panic!("a slice is always ready")
        };
        (read, bytes.len())
    }

    #[track_caller]
    fn check(header: &[u8], client: Option<&str>, tls: bool) {
        let client = client.map(|client| client.parse().expect("an address"));
        for behind in [
            &b""[..],
            b"\x16\x03\x01",
            b"GET / HTTP/1.1\r\n\r\n",
            b"\r\n",
        ] {
            let (read, left) = given(&[header, behind].concat());
            assert_eq!(
                read.expect("it is a header"),
                ProxyHeader { client, tls },
                "{header:?}"
            );
            assert_eq!(left, behind.len(), "{header:?}");
        }
    }

    #[track_caller]
    fn check_refused(header: &[u8]) {
        let (read, _) = given(header);
        assert!(
            read.is_err(),
            "{:?}: {read:?}",
            String::from_utf8_lossy(header)
        );
    }

    fn version_2_of(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len())
            .expect("it is short")
            .to_be_bytes();
        [&SIGNATURE[..], &[0x20 | command, family], &length, body].concat()
    }

    const V4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0xdd, 0xd5, 1, 0xbb];

    #[test]
    fn headers_of_version_1_name_the_client() {
        check(
            b"PROXY TCP4 192.0.2.1 198.51.100.2 56789 443\r\n",
            Some("192.0.2.1:56789"),
            false,
        );
        check(
            b"PROXY TCP6 2001:db8::1 ::1 1 65535\r\n",
            Some("[2001:db8::1]:1"),
            false,
        );
        check(b"PROXY UNKNOWN\r\n", None, false);
        check(b"PROXY UNKNOWN anything at all\r\n", None, false);
        for header in [
            "PROXYx TCP4 192.0.2.1 198.51.100.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 +1 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 01 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 1 65536\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 1\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 1 2 3\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 1 2 \r\n",
            "PROXY TCP4  192.0.2.1 198.51.100.2 1 2\r\n",
            "PROXY TCP4 192.0.2.01 198.51.100.2 1 2\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP6 192.0.2.1 198.51.100.2 1 2\r\n",
            "PROXY TCP5 192.0.2.1 198.51.100.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 1 2\n",
            "proxy TCP4 192.0.2.1 198.51.100.2 1 2\r\n",
            "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "PROXY \u{e4}\r\n\r\n\r\n",
            "",
        ] {
            check_refused(header.as_bytes());
        }
        // 107 bytes and no more.
        let long = |bytes: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(bytes - 16));
        check(long(107).as_bytes(), None, false);
        check_refused(long(108).as_bytes());
    }

    #[test]
    fn headers_of_version_2_name_the_client() {
        check(&version_2_of(1, 0x11, &V4), Some("192.0.2.1:56789"), false);
        let v6 = ["2001:db8::1", "::1"]
            .map(|text| text.parse::<Ipv6Addr>().expect("an address").octets());
        let v6 = [&v6.concat()[..], &[0, 7, 0, 8]].concat();
        check(&version_2_of(1, 0x21, &v6), Some("[2001:db8::1]:7"), false);
        check(&version_2_of(1, 0x31, &[0; 216]), None, false);
        check(&version_2_of(1, 0x00, &[1, 2, 3]), None, false);
        check(&version_2_of(0, 0x00, &[]), None, false);
        check(&version_2_of(0, 0x11, &V4), None, false);
        check(&version_2_of(0, 0xff, &[1, 2, 3]), None, false);
        for (family, body) in [(0x11, &V4[..]), (0x21, &v6), (0x31, &[0; 216])] {
            check_refused(&version_2_of(1, family, &body[..body.len() - 1]));
        }
        check_refused(&version_2_of(2, 0x11, &V4));
        check_refused(&version_2_of(0x11, 0x11, &V4));
        check_refused(&version_2_of(1, 0x12, &V4));
        check_refused(&version_2_of(1, 0x41, &V4));
        check(&version_2_of(1, 0, &[0; MAX_V2_BYTES]), None, false);
        check_refused(&version_2_of(1, 0, &[0; MAX_V2_BYTES + 1]));
    }

    #[test]
    fn extension_tells_of_tls_and_wrong_checksum_is_refused() {
        let with = |extensions: &[u8]| version_2_of(1, 0x11, &[&V4, extensions].concat());
        let client = Some("192.0.2.1:56789");
        check(&with(&[0xea, 0, 2, 7, 7]), client, false);
        check(&with(&[0x20, 0, 5, 1, 0, 0, 0, 0]), client, true);
        check(&with(&[0x20, 0, 5, 0, 0, 0, 0, 0]), client, false);
        check_refused(&with(&[0x20, 0, 6, 1, 0, 0, 0, 0]));
        check_refused(&with(&[0x20, 0]));
        let mut summed = with(&[3, 0, 4, 0, 0, 0, 0]);
        check_refused(&summed);
        let offset = summed.len() - 4;
        let sum = crc32c(&summed, offset);
        summed.splice(offset.., sum.to_be_bytes());
        check(&summed, client, false);
        assert_eq!(crc32c(b"123456789", 9), 0xe306_9283);
    }

    #[test]
    fn header_that_ends_early_is_refused() {
        let line = b"PROXY TCP4 192.0.2.1 198.51.100.2 56789 443\r\n";
        for header in [&line[..], &version_2_of(1, 0x11, &V4)] {
            for end in 0..header.len() {
                let (read, left) = given(&header[..end]);
                assert!(matches!(read, Err(NoHeader::Ended(_))), "{read:?}");
                assert_eq!(left, 0);
            }
        }
    }

    proptest! {
        #[test]
        fn client_address_reads_back_as_written(client: SocketAddr, server: SocketAddr, behind: Vec<u8>) {
            let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
            prop_assume!(client.is_ipv4() == server.is_ipv4());
            let line = format!("PROXY {family} {} {} {} {}\r\n", client.ip(), server.ip(), client.port(), server.port());
            let (read, left) = given(&[line.as_bytes(), &behind].concat());
            let expected = SocketAddr::new(client.ip(), client.port());
            prop_assert_eq!(read.expect("it is a header").client, Some(expected));
            prop_assert_eq!(left, behind.len());
        }

        #[test]
        fn arbitrary_bytes_cause_no_panic(
            start in prop::sample::select(vec![&b"PROXY TCP4 "[..], b"PROXY ", &SIGNATURE, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x20"]),
            rest: Vec<u8>,
        ) {
            let bytes = [start, &rest].concat();
            let (read, left) = given(&bytes);
            prop_assert!(read.is_err() || left < bytes.len());
        }
    }
}
