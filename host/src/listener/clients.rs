//! The certificates of clients: the authorities and revocation lists that judge them, and what a certificate says of its
//! client.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};

use super::pem::{self, Flaw};
use super::x509::X509;
use crate::auth::ClientCertificate;
use crate::config::{self, Fault};

/// What judges the certificates of a listener's clients.
#[derive(Debug)]
pub(crate) struct ClientTrust {
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
        let authorities = sections(&clients.ca, &["CERTIFICATE", "X509 CERTIFICATE"]);
        let authorities = authorities.map_err(|flaw| broken("ca", flaw))?;
        let lists = clients
            .crl
            .as_deref()
            .map(|crl| sections(crl, &["X509 CRL"]));
        let lists = lists.transpose().map_err(|flaw| broken("crl", flaw))?;
        let lists = lists.unwrap_or_default();
        let verifier = verifier(clients, &authorities, &lists);
        Ok(Self {
            verifier: verifier.map_err(|(part, flaw)| broken(part, flaw))?,
            required: clients.required,
            authorities,
            lists,
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

/// The sections of a PEM file, at least one, all with one of these labels.
fn sections(path: &Path, labels: &[&str]) -> Result<Vec<Vec<u8>>, Flaw> {
    let (file, wanted) = (path.display(), labels.first().copied().unwrap_or_default());
    let mut found = Vec::new();
    for section in pem::read(path)? {
        if !labels.contains(&section.label.as_str()) {
            return Err(Flaw::new(
                format!("{file}: {section} does not belong there"),
                format!("leave only sections BEGIN {wanted} in it"),
            ));
        }
        found.push(section.der);
    }
    if found.is_empty() {
        return Err(Flaw::new(
            format!("{file} has no section BEGIN {wanted}"),
            "name the PEM file that the authority gives out",
        ));
    }
    Ok(found)
}

fn verifier(
    clients: &config::ClientCertificates,
    authorities: &[Vec<u8>],
    lists: &[Vec<u8>],
) -> Result<Arc<dyn ClientCertVerifier>, (&'static str, Flaw)> {
    let mut roots = RootCertStore::empty();
    for der in authorities {
        roots
            .add(CertificateDer::from(der.clone()))
            .map_err(|error| {
                let message = format!(
                    "{}: a certificate cannot be used: {error}",
                    clients.ca.display()
                );
                let remedy = "name the certificates of authorities, of X.509 version 3";
                ("ca", Flaw::new(message, remedy))
            })?;
    }
    let provider: CryptoProvider = rustls::crypto::aws_lc_rs::default_provider();
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(provider));
    let lists = lists
        .iter()
        .cloned()
        .map(CertificateRevocationListDer::from);
    // The authority of an intermediate seldom publishes a list for it.
    let builder = builder.with_crls(lists).only_check_end_entity_revocation();
    let builder = match clients.required {
        true => builder,
        false => builder.allow_unauthenticated(),
    };
    builder.build().map_err(|error| {
        let file = clients.crl.as_deref().unwrap_or(&clients.ca).display();
        let message = format!("{file} cannot be used: {error}");
        let part = if clients.crl.is_some() { "crl" } else { "ca" };
        (
            part,
            Flaw::new(message, "name the file that the authority gives out, whole"),
        )
    })
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
