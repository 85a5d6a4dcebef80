//! The part of X.509 (RFC 5280) that a server needs of its own certificates: version, age, key, names. Checks no
//! signature. Refuses a certificate if a part that is read is not DER.

use std::net::IpAddr;

use time::{Date, Month};

use super::distinguished_name;

/// Tags of DER types.
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;
/// `version` and `extensions` of a TBSCertificate.
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
/// `rfc822Name`, `dNSName`, `uniformResourceIdentifier` and `iPAddress` of a GeneralName.
const MAIL: u8 = 0x81;
const DNS_NAME: u8 = 0x82;
const URI: u8 = 0x86;
const IP_ADDRESS: u8 = 0x87;

const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
/// `cRLSign` in the first byte of a KeyUsage.
const CRL_SIGN: u8 = 0x02;

/// The content of a certificate.
#[derive(Debug)]
pub(crate) struct X509<'a> {
    /// 1 to 3.
    pub(crate) version: u8,
    /// The content of the serial number, an INTEGER.
    pub(super) serial: &'a [u8],
    /// Seconds since the Unix epoch.
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
    /// The contents of the issuer and of the subject, Names.
    pub(super) issuer: Der<'a>,
    pub(super) subject: Der<'a>,
    /// The SubjectPublicKeyInfo.
    pub(crate) public_key: &'a [u8],
    /// The DNS names of its `subjectAltName`, in lower case; clients look at no other.
    pub(crate) names: Vec<String>,
    pub(crate) addresses: Vec<IpAddr>,
    /// Whether its key may sign revocation lists: also if it does not say what its key is for.
    pub(super) signs_lists: bool,
    /// The URIs and the mail addresses of its `subjectAltName`.
    pub(crate) uris: Vec<String>,
    pub(crate) emails: Vec<String>,
}

impl<'a> X509<'a> {
    /// Parses a certificate; none if it is none.
    pub(crate) fn parse(der: &'a [u8]) -> Option<Self> {
        let mut outer = Der(der);
        let mut certificate = outer.take(SEQUENCE)?;
        let mut signed = certificate.take(SEQUENCE)?;
        let version = match signed.take(VERSION) {
            Some(mut version) => match version.take(INTEGER)?.0 {
                [version @ 0..=2] => version + 1,
                _ => return None,
            },
            None => 1,
        };
        let serial = signed.take(INTEGER)?.0;
        signed.take(SEQUENCE)?; // the signature's algorithm
        let issuer = signed.take(SEQUENCE)?;
        let mut validity = signed.take(SEQUENCE)?;
        let (not_before, not_after) = (validity.time()?, validity.time()?);
        let subject = signed.take(SEQUENCE)?;
        let rest = signed.0;
        signed.take(SEQUENCE)?;
        let public_key = rest.get(..rest.len() - signed.0.len())?;
        let mut x509 = Self {
            version,
            serial,
            not_before,
            not_after,
            issuer,
            subject,
            public_key,
            names: Vec::new(),
            addresses: Vec::new(),
            signs_lists: true,
            uris: Vec::new(),
            emails: Vec::new(),
        };
        while !signed.0.is_empty() {
            let (tag, content) = signed.next()?;
            if tag == EXTENSIONS {
                x509.read_extensions(Der(content).take(SEQUENCE)?)?;
            }
        }
        outer.0.is_empty().then_some(x509)
    }

    fn read_extensions(&mut self, mut extensions: Der<'a>) -> Option<()> {
        while !extensions.0.is_empty() {
            let mut extension = extensions.take(SEQUENCE)?;
            let id = extension.take(OID)?;
            let (mut tag, mut content) = extension.next()?;
            if tag != OCTET_STRING {
                (tag, content) = extension.next()?; // after `critical`
            }
            if id.0 == KEY_USAGE && tag == OCTET_STRING {
                // The first byte counts unused bits.
                let usage = Der(content).take(BIT_STRING);
                let usage = usage.and_then(|usage| usage.0.get(1));
                self.signs_lists = usage.is_some_and(|usage| usage & CRL_SIGN != 0);
            }
            if id.0 != SUBJECT_ALT_NAME || tag != OCTET_STRING {
                continue;
            }
            let mut names = Der(content).take(SEQUENCE)?;
            while !names.0.is_empty() {
                let (tag, name) = names.next()?;
                match tag {
                    MAIL => self.emails.push(str::from_utf8(name).ok()?.to_owned()),
                    URI => self.uris.push(str::from_utf8(name).ok()?.to_owned()),
                    DNS_NAME => self.add_name(str::from_utf8(name).ok()?),
                    IP_ADDRESS => {
                        let v4 = <[u8; 4]>::try_from(name).map(IpAddr::from);
                        let v6 = <[u8; 16]>::try_from(name).map(IpAddr::from);
                        self.addresses.extend(v4.or(v6));
                    }
                    _ => {}
                }
            }
        }
        Some(())
    }

    fn add_name(&mut self, name: &str) {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        if !self.names.contains(&name) {
            self.names.push(name);
        }
    }

    /// The issuer as text (RFC 4514); none if it is no name.
    pub(super) fn issuer(&self) -> Option<String> {
        distinguished_name::text(self.issuer)
    }

    /// The subject as text (RFC 4514); none if it is no name.
    pub(crate) fn subject(&self) -> Option<String> {
        distinguished_name::text(self.subject)
    }

    /// The size of an RSA key in bits; none for other keys.
    pub(crate) fn rsa_bits(&self) -> Option<usize> {
        let mut info = Der(self.public_key).take(SEQUENCE)?;
        let algorithm = info.take(SEQUENCE)?.take(OID)?;
        if algorithm.0 != RSA_ENCRYPTION {
            return None;
        }
        // The first byte counts unused bits.
        let mut key = Der(info.take(BIT_STRING)?.0.get(1..)?).take(SEQUENCE)?;
        let modulus = key.take(INTEGER)?.0;
        let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
        let digits = modulus.get(zeros..)?;
        Some(digits.len() * 8 - digits.first()?.leading_zeros() as usize)
    }
}

/// The unread rest of some DER.
#[derive(Clone, Copy, Debug)]
pub(super) struct Der<'a>(pub(super) &'a [u8]);

impl<'a> Der<'a> {
    pub(super) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The unread bytes.
    pub(super) fn rest(self) -> &'a [u8] {
        self.0
    }

    /// Reads the next value: its tag and its content.
    pub(super) fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x83 => {
                let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let bytes = length.len();
                let length = length
                    .iter()
                    .fold(0, |length, byte| length << 8 | usize::from(*byte));
                // DER allows only the shortest form of a length.
                let shortest = match bytes {
                    1 => 0x80,
                    bytes => 1 << (8 * (bytes - 1)),
                };
                if length < shortest {
                    return None;
                }
                (length, rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// Reads the content of the next value, if it has this tag.
    pub(super) fn take(&mut self, tag: u8) -> Option<Self> {
        let mut after = *self;
        let (found, content) = after.next()?;
        (found == tag).then(|| {
            *self = after;
            Self(content)
        })
    }

    /// Reads a time: seconds since the Unix epoch (RFC 5280 §4.1.2.5).
    fn time(&mut self) -> Option<i64> {
        let (tag, text) = self.next()?;
        let text = str::from_utf8(text).ok()?.strip_suffix('Z')?;
        let text = match tag {
            UTC_TIME if text < "50" => format!("20{text}"),
            UTC_TIME => format!("19{text}"),
            GENERALIZED_TIME => text.to_owned(),
            _ => return None,
        };
        if text.len() != 14 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let number = |from: usize, to: usize| text.get(from..to)?.parse::<u8>().ok();
        let year = text.get(..4)?.parse().ok()?;
        let month = Month::try_from(number(4, 6)?).ok()?;
        let date = Date::from_calendar_date(year, month, number(6, 8)?).ok()?;
        let at = date.with_hms(number(8, 10)?, number(10, 12)?, number(12, 14)?);
        Some(at.ok()?.assume_utc().unix_timestamp())
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType, date_time_ymd};
    use time::OffsetDateTime;
    use time::format_description::well_known::Rfc3339;

    use super::*;

    fn certificate() -> Vec<u8> {
        let names = ["Chat.example.com", "*.example.com", "127.0.0.1", "::1"];
        let mut params = CertificateParams::new(names.map(String::from).to_vec()).expect("names");
        params.not_before = date_time_ymd(1999, 12, 31);
        params.not_after = date_time_ymd(2050, 1, 1);
        let mail = "a@example.com".try_into().expect("it is ASCII");
        params.subject_alt_names.push(SanType::Rfc822Name(mail));
        let key = KeyPair::generate().expect("there are random numbers");
        let made = params.self_signed(&key).expect("it can be signed");
        made.der().to_vec()
    }

    #[test]
    fn certificate_is_read() {
        let der = certificate();
        let x509 = X509::parse(&der).expect("it is a certificate");
        assert_eq!(x509.version, 3);
        assert_eq!(
            x509.not_before,
            date_time_ymd(1999, 12, 31).unix_timestamp()
        );
        assert_eq!(x509.not_after, date_time_ymd(2050, 1, 1).unix_timestamp());
        assert_eq!(x509.names, ["chat.example.com", "*.example.com"]);
        assert_eq!(
            x509.addresses,
            [IpAddr::from([127, 0, 0, 1]), IpAddr::V6(1.into())]
        );
        assert_eq!(x509.rsa_bits(), None);
    }

    /// Reads a file of the corpus in `tests/fuzz`.
    fn file(name: &str) -> Vec<u8> {
        let folder = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/fuzz/corpus/certificates"
        );
        std::fs::read(std::path::Path::new(folder).join(name)).expect("it is in the corpus")
    }

    /// The files are made by `openssl req -x509`, those with years in their names by `openssl ca`. Expected values are
    /// those of `openssl x509 -text`.
    #[test]
    fn certificates_of_openssl_are_read_as_openssl_reads_them() {
        let names = ["chat.example.com", "*.example.com"].map(String::from);
        let addresses =
            ["192.0.2.1", "2001:db8::1"].map(|text| text.parse::<IpAddr>().expect("it is one"));
        for (name, bits) in [
            ("ed25519", None),
            ("p256", None),
            ("p384", None),
            ("p521", None),
            ("rsa-1024", Some(1_024)),
            ("rsa-2048", Some(2_048)),
            ("rsa-3072", Some(3_072)),
            ("rsa-4096", Some(4_096)),
            // A key of an algorithm other than RSA, which no TLS library takes.
            ("rsa-pss", None),
        ] {
            let der = file(name);
            let x509 = X509::parse(&der).expect(name);
            assert_eq!(x509.version, 3, "{name}");
            assert_eq!(x509.names, names, "{name}");
            assert_eq!(x509.addresses, addresses, "{name}");
            assert_eq!(x509.rsa_bits(), bits, "{name}");
        }
        for name in ["negative-serial", "long-serial"] {
            assert_eq!(
                X509::parse(&file(name)).expect(name).names,
                ["localhost"],
                "{name}"
            );
        }
        let long = file("long");
        let long = X509::parse(&long).expect("lengths of three bytes");
        assert_eq!(long.names.len(), 1_500);
        let old = file("version-1");
        let old = X509::parse(&old).expect("version 1");
        assert_eq!((old.version, old.names.len()), (1, 0));
    }

    #[test]
    fn times_are_read_on_both_sides_of_2050() {
        for (name, not_before, not_after) in [
            (
                "years-1950-2049",
                "1950-01-01T00:00:00Z",
                "2049-12-31T23:59:59Z",
            ),
            (
                "years-2049-2050",
                "2049-12-31T23:59:59Z",
                "2050-01-01T00:00:00Z",
            ),
            (
                "years-2050-9999",
                "2050-01-01T00:00:00Z",
                "9999-12-31T23:59:59Z",
            ),
            ("leap-day", "2024-02-29T12:00:00Z", "2048-02-29T23:59:59Z"),
        ] {
            let der = file(name);
            let x509 = X509::parse(&der).expect(name);
            let expected = [not_before, not_after].map(|text| {
                let at = OffsetDateTime::parse(text, &Rfc3339);
                at.expect("it is a time").unix_timestamp()
            });
            assert_eq!([x509.not_before, x509.not_after], expected, "{name}");
        }
    }

    #[test]
    fn certificate_with_a_wrong_part_is_refused() {
        for name in [
            "bad-byte-behind",
            "bad-extension",
            "bad-indefinite-length",
            "bad-length-in-three-bytes",
            "bad-month",
            "bad-name",
            "bad-version-4",
        ] {
            assert!(X509::parse(&file(name)).is_none(), "{name}");
        }
    }

    #[test]
    fn damaged_certificate_is_refused_without_a_panic() {
        let der = certificate();
        for length in 0..der.len() {
            assert!(X509::parse(&der[..length]).is_none(), "{length}");
        }
        assert!(X509::parse(&[der.as_slice(), &[0]].concat()).is_none());
        for place in 0..der.len() {
            for bit in 0..8 {
                let mut flipped = der.clone();
                flipped[place] ^= 1 << bit;
                let read = X509::parse(&flipped);
                let _ = read.and_then(|x509| x509.rsa_bits());
            }
        }
    }
}
