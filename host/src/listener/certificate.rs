//! A certificate with its key: read from two PEM files and judged before it serves, or made at start.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer,
};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::pem::{self, Flaw, Kind, Section};
use super::quic_identity::QuicKeys;
use super::x509::X509;
use crate::config::{self, Fault};
use crate::net::Secrecy;
use crate::words::count_of;

/// Seconds before expiry at which a certificate is warned of, or a fifth of its life if that is less: renewal tools act
/// sooner.
const WARN_BEFORE_S: i64 = 14 * 86_400;

/// Shortest RSA key that TLS libraries take, in bits.
const MIN_RSA_BITS: usize = 2_048;

/// Labels that a file may hold beside certificates, or beside a key.
const KEYS: [&str; 6] = [
    "PRIVATE KEY",
    "RSA PRIVATE KEY",
    "EC PRIVATE KEY",
    "ENCRYPTED PRIVATE KEY",
    "EC PARAMETERS",
    "DH PARAMETERS",
];
const CERTIFICATES: [&str; 2] = ["CERTIFICATE", "X509 CERTIFICATE"];

/// A certificate that can be served.
pub(crate) struct Certificate {
    /// The files that it was read from; none if it was made at start.
    pub(crate) files: Option<config::CertificateFiles>,
    pub(super) certified: Arc<CertifiedKey>,
    pub(super) quic_keys: QuicKeys,
    /// The DNS names of its `subjectAltName`, in lower case; a wildcard is `*.` and the rest.
    pub(super) names: Vec<String>,
    addresses: Vec<IpAddr>,
    /// Seconds since the Unix epoch.
    pub(super) not_before: i64,
    pub(crate) not_after: i64,
}

/// The reason why a pair of files is not served.
#[derive(Debug)]
pub(crate) struct Unusable {
    pub(crate) fault: Fault,
    /// Both files are valid, and they do not belong together.
    pub(crate) unfit: bool,
}

impl Certificate {
    /// Reads a pair of files, named at `key` in the configuration.
    pub(crate) fn read(files: &config::CertificateFiles, key: &str) -> Result<Self, Unusable> {
        let broken = |part: &str, flaw: Flaw| Unusable {
            fault: Fault {
                key: format!("{key}.{part}"),
                message: flaw.message,
                remedy: flaw.remedy,
                is_passing: flaw.is_passing,
            },
            unfit: false,
        };
        let chain = chain(&files.certificate).map_err(|flaw| broken("certificate", flaw))?;
        let leaf = leaf(files, &chain).map_err(|flaw| broken("certificate", flaw))?;
        let private = private_key(&files.key).map_err(|flaw| broken("key", flaw))?;
        let signs = any_supported_type(&private).map_err(|_| {
            let flaw = Flaw::new(
                format!(
                    "{} holds no key that TLS takes: RSA of 2,048 to 8,192 bits, ECDSA on P-256, P-384 or P-521, Ed25519",
                    files.key.display()
                ),
                new_pair(files),
            );
            broken("key", flaw)
        })?;
        let public = signs.public_key();
        let has_key = |certificate: &X509<'_>| {
            public.as_ref().map(AsRef::as_ref) == Some(certificate.public_key)
        };
        if !has_key(&leaf) {
            let mut others = chain.iter().filter_map(|der| X509::parse(der));
            let remedy = if others.any(|other| has_key(&other)) {
                "put the server's own certificate first in the file, before those of the authority"
                    .into()
            } else {
                format!(
                    "name the key that the certificate was made for; both commands print the same then: `openssl x509 -in {} -noout -pubkey`, `openssl pkey -in {} -pubout`",
                    files.certificate.display(),
                    files.key.display()
                )
            };
            return Err(Unusable {
                fault: Fault {
                    key: format!("{key}.key"),
                    message: format!(
                        "certificate {} and key {} do not belong together",
                        files.certificate.display(),
                        files.key.display()
                    ),
                    remedy,
                    is_passing: false,
                },
                unfit: true,
            });
        }
        Ok(Self {
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            names: leaf.names,
            addresses: leaf.addresses,
            files: Some(files.clone()),
            certified: Arc::new(CertifiedKey::new(chain.clone(), signs)),
            quic_keys: QuicKeys::derive(&private),
        })
    }

    /// Takes a certificate that was made at start, with its key.
    pub(super) fn made(der: CertificateDer<'static>, key: &PrivateKeyDer<'_>) -> Result<Self> {
        let signs = any_supported_type(key)?;
        let read = X509::parse(&der).context("it cannot be read")?;
        Ok(Self {
            files: None,
            not_before: read.not_before,
            not_after: read.not_after,
            names: read.names,
            addresses: read.addresses,
            certified: Arc::new(CertifiedKey::new(vec![der], signs)),
            quic_keys: QuicKeys::derive(key),
        })
    }

    /// Whether the certificate is for this host, an IPv6 address in brackets.
    pub(super) fn covers(&self, host: &str) -> bool {
        let address = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = address.parse::<IpAddr>() {
            return self.addresses.contains(&address);
        }
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let wildcard = wildcard_of(&host);
        let named = |name: &String| *name == host || Some(name) == wildcard.as_ref();
        self.names.iter().any(named)
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.certified.cert == other.certified.cert
    }

    /// A short name: its first host, or else its file.
    pub(crate) fn name(&self) -> String {
        match (self.names.first(), &self.files) {
            (Some(name), _) => name.clone(),
            (None, Some(files)) => files.certificate.display().to_string(),
            (None, None) => "self-signed".into(),
        }
    }

    /// Warns if clients refuse it for its age, or soon will. It is served all the same: a refusal to load it would be
    /// an outage at once.
    pub(crate) fn warn(&self) {
        let Some(files) = &self.files else {
            return;
        };
        if self.names.is_empty() && self.addresses.is_empty() {
            tracing::warn!(
                target: "config",
                name = self.name(),
                "certificate {}: it has no subjectAltName with a host, and clients refuse it: they look at nothing else\n  remedy: have a certificate made with one",
                files.certificate.display()
            );
        }
        let now = OffsetDateTime::now_utc().unix_timestamp();
        if let Some(warning) = age_warning(self.not_before, self.not_after, now) {
            tracing::warn!(
                target: "config",
                name = self.name(),
                seconds_left = self.not_after.saturating_sub(now),
                "certificate {}: {warning}",
                files.certificate.display()
            );
        }
    }
}

/// Shows its file, names and expiry.
impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(files) = &self.files {
            write!(f, "{} ", files.certificate.display())?;
        }
        let addresses = self.addresses.iter().map(ToString::to_string);
        let names: Vec<_> = self.names.iter().cloned().chain(addresses).collect();
        let until = date(self.not_after);
        write!(f, "for {}, valid until {until}", names.join(", "))
    }
}

/// Does not show the private key.
impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The wildcard that covers a host.
pub(super) fn wildcard_of(host: &str) -> Option<String> {
    let (_, parent) = host.split_once('.')?;
    Some(format!("*.{parent}"))
}

/// Reads the certificates of a file, the server's own first.
fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Flaw> {
    let file = path.display();
    let (mut chain, mut has_key) = (Vec::new(), false);
    let (sections, stamp) = pem::read_stamped(path, Kind::Certificates)?;
    for section in sections {
        match section.label.as_str() {
            label if CERTIFICATES.contains(&label) => {
                let der = CertificateDer::from(section.der.clone());
                if X509::parse(&der).is_none() {
                    return Err(Flaw::new(
                        format!("{file}: {section} is damaged: it is no certificate of X.509"),
                        "copy the file again, whole",
                    ));
                }
                chain.push(der);
            }
            label if KEYS.contains(&label) => {
                has_key |= label.ends_with("PRIVATE KEY") && is_readable(&section);
            }
            "TRUSTED CERTIFICATE" => {
                return Err(Flaw::new(
                    format!("{file}: {section} is in OpenSSL's own form, which TLS does not send"),
                    format!("convert it: `openssl x509 -in {file} -out {file}.new`"),
                ));
            }
            "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => {
                return Err(Flaw::new(
                    format!("{file}: {section} is a request for a certificate, and no certificate"),
                    "name the file that the authority sent in answer",
                ));
            }
            "PKCS7" | "PKCS #7 SIGNED DATA" | "CMS" => {
                return Err(Flaw::new(
                    format!("{file}: {section} is a bundle of certificates that TLS does not take"),
                    format!("unpack it: `openssl pkcs7 -print_certs -in {file} -out {file}.new`"),
                ));
            }
            _ => {
                return Err(Flaw::new(
                    format!("{file}: {section} is no certificate"),
                    "take it out of the file, which is for the certificate chain",
                ));
            }
        }
    }
    if chain.is_empty() {
        return Err(Flaw::new(
            format!("{file} holds no certificate"),
            "name a PEM file with the certificate chain, the server's own certificate first",
        ));
    }
    if has_key {
        check_secrecy(path, stamp.mode())?;
    }
    Ok(chain)
}

/// Gives the server's own certificate, if TLS takes it.
fn leaf<'a>(
    files: &config::CertificateFiles,
    chain: &'a [CertificateDer<'static>],
) -> Result<X509<'a>, Flaw> {
    let file = files.certificate.display();
    let damaged = || {
        Flaw::new(
            format!("{file}: the server's own certificate is damaged"),
            "copy the file again, whole",
        )
    };
    let der = chain.first().ok_or_else(damaged)?;
    let leaf = X509::parse(der).ok_or_else(damaged)?;
    if leaf.version != 3 {
        return Err(Flaw::new(
            format!(
                "{file} is an X.509 certificate of version {}, which can name no host; TLS takes version 3",
                leaf.version
            ),
            format!(
                "ask the authority for one of version 3 with a subjectAltName, or sign it yourself: {}",
                sign_again(files)
            ),
        ));
    }
    if let Some(bits) = leaf.rsa_bits()
        && bits < MIN_RSA_BITS
    {
        return Err(Flaw::new(
            format!(
                "{file} is for an RSA key of {bits} bits, and TLS takes {MIN_RSA_BITS} or more"
            ),
            new_pair(files),
        ));
    }
    Ok(leaf)
}

/// Reads the only private key of a file, which others than its owner and its group have no access to.
fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Flaw> {
    let file = path.display();
    let mut found: Option<(Section, PrivateKeyDer<'static>)> = None;
    let (sections, stamp) = pem::read_stamped(path, Kind::Certificates)?;
    for section in sections {
        let der = section.der.clone();
        let key = match section.label.as_str() {
            label if label.ends_with("PRIVATE KEY") && !is_readable(&section) => {
                return Err(Flaw::new(
                    format!(
                        "{file}: {section} is encrypted, and there is nobody to ask for its passphrase"
                    ),
                    format!(
                        "decrypt it: `(umask 077; openssl pkey -in {file} -out {file}.new)`, and name that file"
                    ),
                ));
            }
            "PRIVATE KEY" => PrivatePkcs8KeyDer::from(der).into(),
            "RSA PRIVATE KEY" => PrivatePkcs1KeyDer::from(der).into(),
            "EC PRIVATE KEY" => PrivateSec1KeyDer::from(der).into(),
            "EC PARAMETERS" | "DH PARAMETERS" | "PUBLIC KEY" | "TRUSTED CERTIFICATE" => continue,
            label if CERTIFICATES.contains(&label) => continue,
            _ => {
                return Err(Flaw::new(
                    format!("{file}: {section} is no private key for TLS"),
                    "name the key that the certificate was made for",
                ));
            }
        };
        if let Some((first, _)) = &found {
            return Err(Flaw::new(
                format!("{file} holds two keys: {first}, and {section}"),
                "leave the certificate's own in it",
            ));
        }
        found = Some((section, key));
    }
    let Some((_, key)) = found else {
        return Err(Flaw::new(
            format!("{file} holds no private key"),
            "name the PEM file of the certificate's key",
        ));
    };
    check_secrecy(path, stamp.mode())?;
    Ok(key)
}

/// Whether a key is there for whoever reads the file.
fn is_readable(key: &Section) -> bool {
    !key.encrypted && key.label != "ENCRYPTED PRIVATE KEY"
}

/// Checks that others than the owner and the group of a file with a private key have no access to it.
fn check_secrecy(path: &Path, mode: u32) -> Result<(), Flaw> {
    Secrecy::Group.check(mode).map_err(|exposed| {
        Flaw::new(
            format!("{} has the private key, and {exposed}", path.display()),
            format!(
                "{}; if others have read it, have another key certified",
                exposed.remedy(path)
            ),
        )
    })
}

/// The command that makes a certificate of version 3 for the existing key.
fn sign_again(files: &config::CertificateFiles) -> String {
    format!(
        "`openssl req -x509 -new -key {} -days 90 -subj /CN=HOST -addext subjectAltName=DNS:HOST -out {}`",
        files.key.display(),
        files.certificate.display()
    )
}

/// The commands that make a key that TLS takes, and a request for its certificate.
fn new_pair(files: &config::CertificateFiles) -> String {
    let key = files.key.display();
    format!(
        "make another key, and have it certified: `(umask 077; openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {key})`, \
         `openssl req -new -key {key} -subj /CN=HOST -addext subjectAltName=DNS:HOST -out {key}.csr`"
    )
}

/// The warning that a certificate's age deserves; times are seconds since the Unix epoch.
fn age_warning(not_before: i64, not_after: i64, now: i64) -> Option<String> {
    let left = not_after.saturating_sub(now);
    let soon = WARN_BEFORE_S.min(not_after.saturating_sub(not_before) / 5);
    if now < not_before {
        Some(format!(
            "it is not valid before {}: clients refuse it until then, unless this machine's clock is wrong",
            date(not_before)
        ))
    } else if left < 0 {
        Some(format!(
            "it expired at {}, and clients refuse it: renew it",
            date(not_after)
        ))
    } else if left < soon {
        Some(format!(
            "it expires at {}, in {}: renew it",
            date(not_after),
            count_of(left / 86_400, "day")
        ))
    } else {
        None
    }
}

fn date(seconds: i64) -> String {
    let date = OffsetDateTime::from_unix_timestamp(seconds);
    date.ok()
        .and_then(|date| date.format(&Rfc3339).ok())
        .unwrap_or_else(|| "the end of time".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    #[track_caller]
    fn check(life: i64, left: i64, expected: Option<&str>) {
        let age_warning = age_warning(100 * DAY - life, 100 * DAY, 100 * DAY - left);
        match expected {
            None => assert_eq!(age_warning, None),
            Some(part) => assert!(
                age_warning.as_ref().is_some_and(|c| c.contains(part)),
                "{age_warning:?}"
            ),
        }
    }

    #[test]
    fn certificate_is_warned_of_before_it_ends() {
        check(90 * DAY, 90 * DAY, None);
        check(90 * DAY, 14 * DAY, None);
        check(90 * DAY, 14 * DAY - 1, Some("in 13 days"));
        check(90 * DAY, 0, Some("in 0 days"));
        check(90 * DAY, -1, Some("it expired at 1970-04-11T00:00:00Z"));
        check(90 * DAY, 91 * DAY, Some("not valid before"));
        // A certificate of six days is renewed after three of them.
        check(6 * DAY, 2 * DAY, None);
        check(6 * DAY, DAY, Some("in 1 day:"));
    }

    #[test]
    fn hosts_are_covered_as_clients_judge() {
        let certificate = Certificate {
            names: vec!["a.example".into(), "*.b.example".into()],
            addresses: vec![[127, 0, 0, 1].into(), IpAddr::V6(1.into())],
            ..Certificate::self_signed().expect("it can be made")
        };
        for host in [
            "a.example",
            "A.Example.",
            "x.b.example",
            "127.0.0.1",
            "[::1]",
            "[0::1]",
        ] {
            assert!(certificate.covers(host), "{host}");
        }
        for host in [
            "b.example",
            "x.a.example",
            "x.y.b.example",
            "127.0.0.2",
            "[::2]",
            "example",
            "",
        ] {
            assert!(!certificate.covers(host), "{host}");
        }
    }
}
