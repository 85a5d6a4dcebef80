//! The certificates of clients: the authorities and revocation lists that judge them, and what a certificate says of its
//! client.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::pem::{self, Flaw, Kind, Section};
use super::revocation::{self, Files, RevocationVerifier};
use super::x509::X509;
use crate::auth::ClientCertificate;
use crate::config::{self, Fault};

const CERTIFICATES: [&str; 2] = ["CERTIFICATE", "X509 CERTIFICATE"];
const LISTS: [&str; 1] = ["X509 CRL"];

/// What judges the certificates of a listener's clients.
#[derive(Debug)]
pub(crate) struct ClientTrust {
    /// Those of `ca` that no list revokes.
    authorities: Vec<Vec<u8>>,
    lists: Vec<Vec<u8>>,
    pub(super) required: bool,
    pub(super) verifier: Arc<dyn ClientCertVerifier>,
}

impl ClientTrust {
    /// Reads the files, which are named at `key` in the configuration.
    pub(crate) fn read(clients: &config::ClientCertificates, key: &str) -> Result<Self, Fault> {
        let broken = |part: &str, flaw: Flaw| Fault {
            key: format!("{key}.{part}"),
            message: flaw.message,
            remedy: flaw.remedy,
            is_passing: flaw.is_passing,
        };
        let authorities = sections(&clients.ca, Kind::Certificates, &CERTIFICATES);
        let mut authorities = authorities.map_err(|flaw| broken("ca", flaw))?;
        let roots = anchors(&authorities, &clients.ca).map_err(|flaw| broken("ca", flaw))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut lists = Vec::new();
        let verifier = match &clients.crl {
            Some(crl) => {
                let all = [&LISTS[..], &CERTIFICATES].concat();
                let read = sections(crl, Kind::Lists, &all).map_err(|flaw| broken("crl", flaw))?;
                let certificates;
                (lists, certificates) = read
                    .into_iter()
                    .partition(|section| LISTS.contains(&&*section.label));
                let ca = (&mut authorities, &roots);
                let judged = judge(clients, crl, &provider, ca, (&lists, &certificates));
                judged.map_err(|flaw| broken("crl", flaw))?
            }
            None => {
                let builder = WebPkiClientVerifier::builder_with_provider(roots, provider);
                let builder = match clients.required {
                    true => builder,
                    false => builder.allow_unauthenticated(),
                };
                let built = builder.build();
                built.map_err(|error| broken("ca", unusable(&clients.ca, &error)))?
            }
        };
        let ders = |sections: Vec<Section>| sections.into_iter().map(|section| section.der);
        Ok(Self {
            verifier,
            required: clients.required,
            authorities: ders(authorities).collect(),
            lists: ders(lists).collect(),
        })
    }

    /// Whether TLS would let in a client with this certificate, and these between it and its authority.
    pub(super) fn trust(&self, own: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> bool {
        let judged = self
            .verifier
            .verify_client_cert(own, others, UnixTime::now());
        judged.is_ok()
    }

    /// Whether it judges every certificate alike.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.required == other.required
            && self.authorities == other.authorities
            && self.lists == other.lists
    }
}

/// The sections of a PEM file, at least one with the first of these labels, all with one of them.
fn sections(path: &Path, kind: Kind, labels: &[&str]) -> Result<Vec<Section>, Flaw> {
    let (file, wanted) = (path.display(), labels.first().copied().unwrap_or_default());
    let found = pem::read(path, kind)?;
    let has = |section: &Section| labels.contains(&&*section.label);
    if let Some(section) = found.iter().find(|section| !has(section)) {
        return Err(Flaw::new(
            format!("{file}: {section} does not belong there"),
            format!("leave only sections BEGIN {wanted} in it"),
        ));
    }
    if !found.iter().any(|section| section.label.ends_with(wanted)) {
        return Err(Flaw::new(
            format!("{file} has no section BEGIN {wanted}"),
            "name the PEM file that the authority gives out",
        ));
    }
    Ok(found)
}

/// The authorities of a file.
fn anchors(certificates: &[Section], file: &Path) -> Result<Arc<RootCertStore>, Flaw> {
    let mut store = RootCertStore::empty();
    for section in certificates {
        let added = store.add(CertificateDer::from(section.der.clone()));
        added.map_err(|error| {
            let message = format!("{}: {section} cannot be used: {error}", file.display());
            let remedy = "name the certificates of authorities, of X.509 version 3";
            Flaw::new(message, remedy)
        })?;
    }
    Ok(Arc::new(store))
}

/// What judges clients by the authorities in `ca` and by these lists of a file, in which are certificates of intermediate
/// authorities, too. Leaves those authorities that no list revokes.
fn judge(
    clients: &config::ClientCertificates,
    crl: &Path,
    provider: &Arc<CryptoProvider>,
    (authorities, roots): (&mut Vec<Section>, &Arc<RootCertStore>),
    (lists, certificates): (&[Section], &[Section]),
) -> Result<Arc<dyn ClientCertVerifier>, Flaw> {
    let files = Files {
        ca: &clients.ca,
        crl,
    };
    let parsed = revocation::parse(lists, crl)?;
    let revoked = revocation::revoked(&parsed, (authorities, certificates), &files)?;
    authorities.retain(|section| !revoked.contains_key(&section.line));
    let trusted = anchors(authorities, &clients.ca)?;
    let trusted = Some(&trusted).filter(|trusted| !trusted.is_empty());
    let verifier =
        RevocationVerifier::new((trusted, roots), provider, lists, clients.required, crl)?;
    let intermediate = anchors(certificates, crl)?;
    // TLS looks at that of an intermediate authority, and not at that of one in `ca`.
    let may_sign = |section: &Section| X509::parse(&section.der).is_some_and(|one| one.signs_lists);
    if let Some(section) = certificates.iter().find(|section| !may_sign(section)) {
        return Err(Flaw::new(
            format!("{}: {section} may not sign revocation lists", crl.display()),
            "have the authority's certificate made anew with the key usage cRLSign, or remove it and its list",
        ));
    }
    let known: Vec<_> = roots.roots.iter().chain(&intermediate.roots).collect();
    revocation::check(&parsed, &known, &files, provider)?;
    for why in revoked.values() {
        tracing::warn!(target: "config", "{why}");
    }
    Ok(Arc::new(verifier))
}

fn unusable(file: &Path, error: &VerifierBuilderError) -> Flaw {
    Flaw::new(
        format!("{} cannot be used: {error}", file.display()),
        "name the file that the authority gives out, whole",
    )
}

/// What a certificate says of its client; none of one that is damaged.
pub(super) fn describe(der: &CertificateDer<'_>) -> Option<ClientCertificate> {
    let x509 = X509::parse(der)?;
    let alternative = x509.uris.first().or_else(|| x509.emails.first());
    let alternative = alternative.or_else(|| x509.names.first());
    let expires_at = u64::try_from(x509.not_after).unwrap_or(0);
    Some(ClientCertificate {
        subject: x509.subject()?.into(),
        alternative_name: alternative.map(|name| name.as_str().into()),
        expires_at: expires_at.saturating_mul(1_000),
    })
}
