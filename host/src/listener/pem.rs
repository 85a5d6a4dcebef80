//! PEM files, read strictly: every BEGIN is decoded or refused, so that nothing in a file is skipped in silence.
//!
//! Text between sections is allowed, as `openssl` writes it. So are a byte order mark, and an END and a BEGIN on one
//! line, which `cat leaf.pem intermediate.pem` makes of files without a last newline.

use std::fmt;
use std::path::Path;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::net::watch::{self, Stamp};

/// What is in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Certificates, keys or both.
    Certificates,
    /// Revocation lists, perhaps with certificates beside them.
    Lists,
}

impl Kind {
    /// Longest file in bytes: some hundred certificates; or lists of some 350,000 revoked ones, each of which takes
    /// some hundred bytes of memory.
    const fn longest(self) -> u64 {
        match self {
            Self::Certificates => 1 << 20,
            Self::Lists => 16 << 20,
        }
    }

    /// What to do about a file that cannot be one.
    const fn remedy(self) -> &'static str {
        match self {
            Self::Certificates => {
                "name a PEM file of a certificate and those above it, or of a key"
            }
            Self::Lists => {
                "name a PEM file of the lists of your clients' authorities alone; an authority may leave out of its list \
                 what has expired"
            }
        }
    }
}

const DASHES: &str = "-----";

/// Padding may be missing: some programs leave it out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A fault of a file, with the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flaw {
    pub(super) message: String,
    pub(super) remedy: String,
    /// The file could not be read, and says nothing of its content.
    pub(super) is_passing: bool,
}

impl Flaw {
    pub(super) fn new(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            remedy: remedy.into(),
            is_passing: false,
        }
    }
}

/// One `BEGIN … END` of a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Section {
    pub(super) label: String,
    /// The line of its BEGIN, from 1.
    pub(crate) line: usize,
    /// Encrypted, as `Proc-Type: 4,ENCRYPTED` says; `der` is empty then.
    pub(super) encrypted: bool,
    pub(crate) der: Vec<u8>,
}

/// Shows its label and its line.
impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} in line {}", self.label, self.line)
    }
}

/// Reads all sections of a file.
pub(super) fn read(path: &Path, kind: Kind) -> Result<Vec<Section>, Flaw> {
    Ok(read_stamped(path, kind)?.0)
}

/// Reads all sections of a file, with its stamp.
pub(super) fn read_stamped(path: &Path, kind: Kind) -> Result<(Vec<Section>, Stamp), Flaw> {
    let (bytes, stamp) = watch::read(path, kind.longest()).map_err(|error| Flaw {
        message: format!("{} cannot be read: {error}", path.display()),
        remedy: watch::remedy(&error, kind.remedy()).into(),
        is_passing: watch::is_passing(&error),
    })?;
    let sections = parse(&bytes).map_err(|flaw| Flaw {
        message: format!("{}: {}", path.display(), flaw.message),
        remedy: flaw.remedy.replace("FILE", &path.display().to_string()),
        is_passing: false,
    })?;
    Ok((sections, stamp))
}

/// Whether the bytes are a PKCS #12 store: a sequence that begins with version 3 and another sequence (RFC 7292 §4).
fn is_pkcs12(bytes: &[u8]) -> bool {
    let [0x30, length @ 0x80..=0xff, rest @ ..] = bytes else {
        return false;
    };
    let content = rest.get(usize::from(length & 0x7f)..);
    content.is_some_and(|content| content.starts_with(&[0x02, 0x01, 0x03, 0x30]))
}

/// Reads all sections of a text. In a remedy, `FILE` stands for its file.
pub(crate) fn parse(bytes: &[u8]) -> Result<Vec<Section>, Flaw> {
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
            return Err(Flaw::new(
                "it is written in UTF-16, and PEM is ASCII",
                "convert it: `iconv -f UTF-16 -t UTF-8 FILE > FILE.new`",
            ));
        }
        _ if is_pkcs12(bytes) => {
            return Err(Flaw::new(
                "it is a PKCS #12 store (.p12, .pfx), and not PEM",
                "take it apart: `openssl pkcs12 -in FILE -nokeys -out FILE.crt` for the certificates, `openssl pkcs12 -in FILE \
                 -nocerts -nodes -out FILE.key` for the key",
            ));
        }
        [0x30, 0x80..=0xff, ..] => {
            return Err(Flaw::new(
                "it is binary (DER), and not PEM",
                "convert it: `openssl x509 -inform DER -in FILE -out FILE.new`, with `crl` in place of `x509` for a revocation list, \
                 and `pkey` for a key",
            ));
        }
        _ => {}
    }
    let text = String::from_utf8_lossy(bytes);
    let mut sections = Vec::new();
    let mut from = (0, 1);
    while let Some(begin) = Boundary::next(&text, from)? {
        let line = begin.line;
        if !begin.begins {
            return Err(Flaw::new(
                format!("line {line} ends a {} that nothing began", begin.label),
                "copy the file again, whole",
            ));
        }
        let end = Boundary::next(&text, (begin.end, line))?;
        let end = end.filter(|end| !end.begins && end.label == begin.label);
        let Some(end) = end else {
            return Err(Flaw::new(
                format!("the {} in line {line} has no END", begin.label),
                "copy the file again, whole",
            ));
        };
        let body = text.get(begin.end..end.start).unwrap_or_default();
        sections.push(Section::decode(begin.label, line, body)?);
        from = (end.end, end.line);
    }
    Ok(sections)
}

impl Section {
    fn decode(label: &str, line: usize, body: &str) -> Result<Self, Flaw> {
        // Headers (RFC 1421) end with an empty line.
        let (headers, base64) = match body.trim_start().split_once("\n\n") {
            Some((headers, base64)) if headers.contains(':') => (headers, base64),
            _ => match body.trim_start().split_once("\r\n\r\n") {
                Some((headers, base64)) if headers.contains(':') => (headers, base64),
                _ => ("", body),
            },
        };
        let encrypted = headers.contains("ENCRYPTED");
        let mut section = Self {
            label: label.to_owned(),
            line,
            encrypted,
            der: Vec::new(),
        };
        if !encrypted {
            let base64: String = base64.split_ascii_whitespace().collect();
            section.der = BASE64.decode(base64).map_err(|error| {
                Flaw::new(
                    format!("{section} is damaged: {error}"),
                    "copy the file again, whole",
                )
            })?;
        }
        Ok(section)
    }
}

/// A line `-----BEGIN LABEL-----` or `-----END LABEL-----`.
struct Boundary<'a> {
    begins: bool,
    label: &'a str,
    line: usize,
    start: usize,
    end: usize,
}

impl<'a> Boundary<'a> {
    /// Finds the next boundary from a byte on, which stands in this line. A malformed one is refused.
    fn next(text: &'a str, (from, line): (usize, usize)) -> Result<Option<Self>, Flaw> {
        let rest = text.get(from..).unwrap_or_default();
        let words = ["-BEGIN ", "-END "].map(|word| rest.find(word).map(|at| (at, word)));
        let Some((at, word)) = words.into_iter().flatten().min() else {
            return Ok(None);
        };
        let between = rest.get(..at).unwrap_or_default();
        let line = line + between.matches('\n').count();
        let (before, after) = (rest.get(..=at), rest.get(at + word.len()..));
        let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
        let opening = before.len() - before.trim_end_matches('-').len();
        let label = after.split_once(DASHES).map(|(label, _)| label);
        let is_label = |label: &&str| !label.is_empty() && !label.contains(['\n', '\r', '-']);
        match label.filter(is_label) {
            Some(label) if opening == DASHES.len() => Ok(Some(Self {
                begins: word == "-BEGIN ",
                label,
                line,
                start: from + before.len() - opening,
                end: from + at + word.len() + label.len() + DASHES.len(),
            })),
            Some(_) | None => Err(Flaw::new(
                format!(
                    "line {line} is not written as PEM: -----BEGIN …-----, with five dashes on both sides"
                ),
                "correct the line, or copy the file again",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "-----BEGIN A-----\nAQID\n-----END A-----\n";
    const OTHER: &str = "-----BEGIN B C-----\r\nBAU=\r\n-----END B C-----";

    #[track_caller]
    fn check(text: &str, expected: &[(&str, usize, &[u8])]) {
        let sections = parse(text.as_bytes()).expect("all of it is read");
        let found: Vec<_> = sections
            .iter()
            .map(|section| (section.label.as_str(), section.line, section.der.as_slice()))
            .collect();
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn every_section_is_found() {
        check("", &[]);
        check("no PEM", &[]);
        check(ONE, &[("A", 1, &[1, 2, 3])]);
        let both: [(_, _, &[u8]); 2] = [("A", 1, &[1, 2, 3]), ("B C", 4, &[4, 5])];
        check(&format!("{ONE}{OTHER}"), &both);
        let both: [(_, _, &[u8]); 2] = [("B C", 1, &[4, 5]), ("A", 3, &[1, 2, 3])];
        check(&format!("{OTHER}{ONE}"), &both);
        let twice: [(_, _, &[u8]); 2] = [("A", 1, &[1, 2, 3]), ("A", 4, &[1, 2, 3])];
        check(&format!("\u{feff}{ONE}\u{feff}{ONE}"), &twice);
        check(
            &format!("Bag Attributes: 1\n  {ONE}"),
            &[("A", 2, &[1, 2, 3])],
        );
        check(
            "-----BEGIN A-----\nBAU\n-----END A-----",
            &[("A", 1, &[4, 5])],
        );
        check(
            "-----BEGIN A-----BA\n U=-----END A-----",
            &[("A", 1, &[4, 5])],
        );
    }

    #[test]
    fn encrypted_section_is_recognised_by_its_header() {
        for end in ["\n", "\r\n"] {
            let text = [
                "-----BEGIN A-----",
                "Proc-Type: 4,ENCRYPTED",
                "DEK-Info: X,1",
                "",
                "AQID",
                "-----END A-----",
            ];
            let sections = parse(text.join(end).as_bytes()).expect("it is read");
            assert!(matches!(&*sections, [section] if section.encrypted));
        }
    }

    #[track_caller]
    fn check_flaw(text: &[u8], expected: &str) {
        let flaw = parse(text).expect_err("something is wrong");
        assert!(flaw.message.contains(expected), "{flaw:?}");
    }

    #[test]
    fn unreadable_file_is_refused_with_its_line() {
        let text = |parts: &[&str]| parts.concat().into_bytes();
        check_flaw(
            &text(&[ONE, "-----BEGIN A-----\nAQID\n"]),
            "the A in line 4 has no END",
        );
        check_flaw(
            &text(&["-----BEGIN A-----\n", ONE]),
            "the A in line 1 has no END",
        );
        check_flaw(
            &text(&["-----BEGIN A-----\n-----END B-----"]),
            "the A in line 1 has no END",
        );
        check_flaw(&text(&[ONE, "-----END A-----"]), "line 4 ends a A");
        check_flaw(&text(&[ONE, "-", ONE]), "line 4 is not written as PEM");
        check_flaw(b"----BEGIN A-----\n", "line 1 is not written as PEM");
        check_flaw(
            b"-----BEGIN A----\n-----END A-----",
            "line 1 is not written as PEM",
        );
        check_flaw(
            b"-----BEGIN A-----\nA!ID\n-----END A-----",
            "the A in line 1 is damaged",
        );
        check_flaw(b"\xff\xfe-\0", "UTF-16");
        check_flaw(b"\x30\x82\x01\x00", "DER");
        let list = parse(b"\x30\x82\x01\x00").expect_err("it is no PEM");
        assert!(list.remedy.contains("`crl` in place of `x509`"), "{list:?}");
        check_flaw(b"\x30\x82\x01\x00\x02\x01\x03\x30\x82", "PKCS #12");
    }
}
