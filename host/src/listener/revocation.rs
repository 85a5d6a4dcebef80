//! The revocation lists of clients' authorities (RFC 5280 §5): checked when they are read, since a list that counts for
//! nobody lets nobody in, and asked about every certificate of a client's chain. TLS looks up no list for an authority
//! that it trusts (RFC 5280 §6.1): one in `ca` that is revoked is no authority there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, TrustAnchor, UnixTime};

use super::pem::{Flaw, Section};
use super::revocation_list::{List, RSA_PSS};
use super::x509::X509;

/// The files of a listener's `client_certificates`.
pub(super) struct Files<'a> {
    pub(super) ca: &'a Path,
    pub(super) crl: &'a Path,
}

/// Takes the lists of a file apart.
pub(super) fn parse<'a>(lists: &'a [Section], crl: &Path) -> Result<Vec<List<'a>>, Flaw> {
    let crl = crl.display();
    let parsed = lists.iter().map(|section| {
        let list = List::parse(section).ok_or_else(|| {
            let message = format!("{crl}: {section} is damaged");
            Flaw::new(message, "copy the file again, whole")
        })?;
        match list.is_current {
            true => Ok(list),
            false => Err(Flaw::new(
                format!("{crl}: {section} is of version 1, or has no number: TLS takes version 2 with one"),
                "have the authority give it a number (`openssl ca`: `crlnumber` in its configuration), which makes it version 2",
            )),
        }
    });
    parsed.collect()
}

/// A certificate of an authority.
struct Authority<'a> {
    section: &'a Section,
    certificate: X509<'a>,
    is_revoked: bool,
}

/// Finds the certificates in `ca` that a list revokes, or that stand below revoked ones alone: the reason by the line.
/// `others` are the certificates in `crl`.
pub(super) fn revoked(
    lists: &[List<'_>],
    (of_ca, others): (&[Section], &[Section]),
    files: &Files<'_>,
) -> Result<BTreeMap<usize, String>, Flaw> {
    let mut authorities = Vec::new();
    for (sections, file) in [(of_ca, files.ca), (others, files.crl)] {
        for section in sections {
            let certificate = X509::parse(&section.der).ok_or_else(|| {
                let message = format!("{}: {section} is damaged", file.display());
                Flaw::new(message, "copy the file again, whole")
            })?;
            let is_revoked = lists.iter().any(|list| list.revokes(&certificate));
            authorities.push(Authority {
                section,
                certificate,
                is_revoked,
            });
        }
    }
    while let Some(below) = authorities.iter().position(|authority| {
        let (issuer, subject) = (authority.certificate.issuer, authority.certificate.subject);
        let mut issuers = authorities
            .iter()
            .filter(|other| other.certificate.subject.rest() == issuer.rest())
            .peekable();
        let is_below = issuer.rest() != subject.rest() && issuers.peek().is_some();
        !authority.is_revoked && is_below && issuers.all(|issuer| issuer.is_revoked)
    }) {
        if let Some(authority) = authorities.get_mut(below) {
            authority.is_revoked = true;
        }
    }
    let (ca, crl) = (files.ca.display(), files.crl.display());
    let authorities = authorities.iter().take(of_ca.len());
    let revoked = authorities.filter(|authority| authority.is_revoked);
    let reasons = revoked.map(|authority| {
        let (section, certificate) = (authority.section, &authority.certificate);
        let subject = certificate.subject().unwrap_or_default();
        let why = match lists.iter().find(|list| list.revokes(certificate)) {
            Some(list) => format!("{} in {crl} revokes it", list.section),
            None => "the authority above it is revoked".to_owned(),
        };
        let reason = format!(
            "{ca}: {section} is of {subject:?}, and {why}: its clients are refused\n  remedy: take it out of {ca}, and its own list, \
             if it has one, out of {crl}"
        );
        (section.line, reason)
    });
    Ok(reasons.collect())
}

/// Finds out whether each list counts for its authority: the key of one of these has signed it, the clients of no other
/// key of that name depend on it, and no other list is about the same certificates.
pub(super) fn check(
    lists: &[List<'_>],
    authorities: &[&TrustAnchor<'_>],
    files: &Files<'_>,
    provider: &CryptoProvider,
) -> Result<(), Flaw> {
    let (ca, crl) = (files.ca.display(), files.crl.display());
    let algorithms = &provider.signature_verification_algorithms;
    for (nth, list) in lists.iter().enumerate() {
        let (section, issuer) = (list.section, list.issuer());
        let which = format!("{crl}: {section} is the list of {issuer:?}");
        let mut before = lists.iter().take(nth);
        if let Some(List { section, .. }) = before.find(|other| other.overlaps(list)) {
            let message = format!("{which}, and so is {section}: only one of them would count");
            let remedy =
                "leave the newest list of each authority; one that has a new key needs a new name";
            return Err(Flaw::new(message, remedy));
        }
        let mut known = algorithms.all.iter();
        if !known.any(|known| known.signature_alg_id().as_ref() == list.algorithm) {
            let (by, remedy) = match list.algorithm.starts_with(RSA_PSS) {
                true => (
                    "RSA-PSS with parameters",
                    "have the authority sign it with SHA-256, SHA-384 or SHA-512, and with a salt as long as the hash (`openssl`: \
                     `-sigopt rsa_pss_saltlen:digest`)",
                ),
                false => (
                    "an algorithm",
                    "have the authority sign it with SHA-256 or better",
                ),
            };
            return Err(Flaw::new(
                format!("{which}, and is signed by {by} that TLS does not take"),
                remedy,
            ));
        }
        let namesakes = authorities
            .iter()
            .copied()
            .filter(|authority| *authority.subject == *list.issuer);
        let (signers, others): (Vec<&TrustAnchor<'_>>, Vec<_>) =
            namesakes.partition(|authority| list.is_signed_by(authority, algorithms));
        if signers.is_empty() && others.is_empty() {
            return Err(Flaw::new(
                format!("{which}, and no certificate of that authority is there to check it by"),
                format!(
                    "remove the list if it is another authority's; if clients show the authority's certificate beside \
                     their own, put that into {crl}, too (-----BEGIN CERTIFICATE-----)"
                ),
            ));
        }
        if signers.is_empty() {
            return Err(Flaw::new(
                format!("{which}, and that authority's key has not signed it"),
                format!(
                    "get the list anew from the authority; if it has a new key, replace its certificate in {ca} (or in {crl}, for \
                     an intermediate one), too"
                ),
            ));
        }
        if !others.is_empty() {
            return Err(Flaw::new(
                format!(
                    "{which}, and of the authorities that are called so only one has signed it: clients of the other key would be \
                     refused"
                ),
                format!(
                    "remove the certificate that is out of use from {ca} (or from {crl}, for an intermediate one); an authority whose \
                     old and new key are in use needs a new name for the new one"
                ),
            ));
        }
    }
    Ok(())
}

/// Kinds of lists that TLS does not take, by the library's name in its error: it has no type for each.
const UNTAKEN: [(&str, &str); 5] = [
    (
        "DeltaCrl",
        "says what has changed since another list (a delta list)",
    ),
    (
        "IndirectCrl",
        "is about certificates of other authorities, too (an indirect list)",
    ),
    (
        "ReasonsPartitioning",
        "is about some reasons of revocation alone",
    ),
    (
        "IssuingDistributionPoint",
        "is about some kind of certificates alone (onlyContainsUserCerts, onlyContainsCACerts), and its distribution point has no \
         full name",
    ),
    (
        "CriticalExtension",
        "has a critical extension that TLS does not know",
    ),
];

/// Says why TLS does not take a list.
fn untaken(list: &str, error: &VerifierBuilderError) -> Flaw {
    let error = error.to_string();
    match UNTAKEN.iter().find(|(name, _)| error.contains(name)) {
        Some((_, kind)) => Flaw::new(
            format!("{list} {kind}, which TLS does not take"),
            "put the authority's list of all its revoked certificates there instead",
        ),
        None => Flaw::new(
            format!("{list} cannot be used: {error}"),
            "name the file that the authority gives out, whole",
        ),
    }
}

/// Judges a client's certificate and those between it and its authority. Its own must have a list; one between needs none,
/// since many authorities publish none for these, and is judged by the one that there is.
#[derive(Debug)]
pub(super) struct RevocationVerifier {
    own: Arc<dyn ClientCertVerifier>,
    chain: Arc<dyn ClientCertVerifier>,
    /// No authority is left: all are revoked.
    is_shut: bool,
    crl: PathBuf,
    has_warned: AtomicBool,
}

impl RevocationVerifier {
    /// With the authorities that are trusted, if any is left, among all.
    pub(super) fn new(
        (trusted, all): (Option<&Arc<RootCertStore>>, &Arc<RootCertStore>),
        provider: &Arc<CryptoProvider>,
        lists: &[Section],
        required: bool,
        crl: &Path,
    ) -> Result<Self, Flaw> {
        let builder = |lists: &[Section]| {
            let (roots, provider) = (Arc::clone(trusted.unwrap_or(all)), Arc::clone(provider));
            let lists = lists.iter().map(|section| section.der.clone());
            let builder = WebPkiClientVerifier::builder_with_provider(roots, provider)
                .with_crls(lists.map(CertificateRevocationListDer::from));
            match required {
                true => builder,
                false => builder.allow_unauthenticated(),
            }
        };
        let own = builder(lists).only_check_end_entity_revocation().build();
        let own = own.map_err(|error| {
            let is_cause = |list: &&Section| builder(std::slice::from_ref(list)).build().is_err();
            let cause = lists.iter().find(is_cause);
            let place = cause.map_or_else(String::new, |section| format!(": {section}"));
            untaken(&format!("{}{place}", crl.display()), &error)
        })?;
        let chain = builder(lists).allow_unknown_revocation_status().build();
        Ok(Self {
            own,
            chain: chain.map_err(|error| untaken(&crl.display().to_string(), &error))?,
            is_shut: trusted.is_none(),
            crl: crl.to_owned(),
            has_warned: AtomicBool::new(false),
        })
    }

    /// Warns of the first client that is refused because of a list and not of what it has done. Its authority has signed its
    /// certificate, so that nobody else can cause the line.
    fn warn(&self, own: &CertificateDer<'_>, error: &Error) {
        let (Error::InvalidCertRevocationList(_)
        | Error::InvalidCertificate(CertificateError::UnknownRevocationStatus)) = error
        else {
            return;
        };
        if self.has_warned.swap(true, Ordering::Relaxed) {
            return;
        }
        let issuer = X509::parse(own).and_then(|x509| x509.issuer());
        let (issuer, crl) = (issuer.unwrap_or_default(), self.crl.display());
        tracing::warn!(
            "{crl} has no list that judges the certificates of {issuer:?}, and its clients are refused: {error}\n  remedy: add \
             the list that this authority gives out, and its own certificate if clients show that, too"
        );
    }
}

impl ClientCertVerifier for RevocationVerifier {
    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if self.is_shut {
            return Err(CertificateError::Revoked.into());
        }
        let verified = self.own.verify_client_cert(own, others, now);
        // A chain that passes here has the client's own certificate judged by the list that it passed by above: which one that
        // is does not depend on the chain.
        let verified = match others {
            [] => verified,
            others => verified.and_then(|_| self.chain.verify_client_cert(own, others, now)),
        };
        verified.inspect_err(|error| self.warn(own, error))
    }

    fn client_auth_mandatory(&self) -> bool {
        self.own.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.own.root_hint_subjects()
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.own
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.own
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.own.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        CertificateParams, CertificateRevocationListParams, CertifiedIssuer, CrlDistributionPoint,
        CrlIssuingDistributionPoint, CrlScope, KeyIdMethod, KeyPair, KeyUsagePurpose, SerialNumber,
        date_time_ymd,
    };

    use super::super::revocation_list::EXTENSIONS;
    use super::super::x509::{BIT_STRING, Der, INTEGER, OCTET_STRING, OID, SEQUENCE};
    use super::*;

    type Authority = CertifiedIssuer<'static, KeyPair>;

    /// All have one name.
    fn authority() -> Authority {
        let mut params = CertificateParams::default();
        params.key_usages = vec![KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("there are random numbers");
        CertifiedIssuer::self_signed(params, key).expect("it can be signed")
    }

    fn list(authority: &Authority, place: Option<&str>) -> Section {
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2050, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: place.map(|place| CrlIssuingDistributionPoint {
                distribution_point: CrlDistributionPoint {
                    uris: vec![place.to_owned()],
                },
                scope: Some(CrlScope::UserCertsOnly),
            }),
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let signed = params.signed_by(authority).expect("it can be signed");
        Section {
            label: "X509 CRL".into(),
            line: 1,
            encrypted: false,
            der: signed.der().to_vec(),
        }
    }

    fn check_of(lists: &[Section], authorities: &[&Authority]) -> Result<(), Flaw> {
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority.der().clone()).expect("it can be used");
        }
        let (ca, crl) = (Path::new("ca.pem"), Path::new("crl.pem"));
        let anchors: Vec<_> = roots.roots.iter().collect();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        check(&parse(lists, crl)?, &anchors, &Files { ca, crl }, &provider)
    }

    #[track_caller]
    fn refuses(lists: &[Section], authorities: &[&Authority], told: &str) {
        let flaw = check_of(lists, authorities).expect_err("it is refused");
        assert!(flaw.message.contains(told), "{flaw:?}");
    }

    #[test]
    fn list_counts_for_the_key_that_has_signed_it() {
        let (ca, other) = (authority(), authority());
        assert_eq!(check_of(&[list(&ca, None)], &[&ca]), Ok(()));
        // A root that is renewed keeps its key: either certificate does.
        assert_eq!(check_of(&[list(&ca, None)], &[&ca, &ca]), Ok(()));
        let unsigned = "key has not signed it";
        refuses(&[list(&ca, None)], &[&other], unsigned);
        refuses(
            &[list(&ca, None)],
            &[&ca, &other],
            "clients of the other key",
        );
        // No two signatures of ECDSA are as long.
        let mut lists = [list(&ca, None)];
        for place in 0..lists[0].der.len() {
            lists[0].der[place] ^= 1;
            assert!(check_of(&lists, &[&ca]).is_err(), "{place}");
            lists[0].der[place] ^= 1;
        }
        assert_eq!(check_of(&lists, &[&ca]), Ok(()));
    }

    #[test]
    fn lists_about_the_same_certificates_are_refused() {
        let ca = authority();
        let [whole, a, b] =
            [None, Some("http://a"), Some("http://b")].map(|place| list(&ca, place));
        let check = |lists: [&Section; 2]| {
            let lists = lists.map(|section| Section {
                label: section.label.clone(),
                der: section.der.clone(),
                ..*section
            });
            check_of(&lists, &[&ca]).is_ok()
        };
        assert!(check([&a, &b]));
        for lists in [[&a, &a], [&whole, &whole], [&whole, &a], [&b, &whole]] {
            assert!(!check(lists));
        }
    }

    fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let length = u8::try_from(content.len()).expect("it is short");
        match length {
            0..0x80 => [&[tag, length], &content[..]].concat(),
            0x80.. => [&[tag, 0x81, length], &content[..]].concat(),
        }
    }

    /// A list of a version, with these extensions. Its signature is none.
    fn written(version: &[u8], algorithm: &[u8], extensions: &[&[u8]]) -> Section {
        let algorithm = der(SEQUENCE, &[algorithm]);
        let time = der(0x17, &[b"240101000000Z"]);
        let number = der(
            SEQUENCE,
            &[
                &[OID, 3, 0x55, 0x1d, 0x14],
                &[OCTET_STRING, 3, INTEGER, 1, 1],
            ],
        );
        let extensions = match version {
            [] => Vec::new(),
            _ => der(
                EXTENSIONS,
                &[&der(SEQUENCE, &[&[&number[..]], extensions].concat())],
            ),
        };
        let name = der(SEQUENCE, &[]);
        let parts: [&[u8]; 6] = [version, &algorithm, &name, &time, &time, &extensions];
        let signed = der(SEQUENCE, &parts);
        Section {
            label: "X509 CRL".into(),
            line: 7,
            encrypted: false,
            der: der(
                SEQUENCE,
                &[&signed, &algorithm, &der(BIT_STRING, &[&[0, 1]])],
            ),
        }
    }

    const VERSION_2: &[u8] = &[INTEGER, 1, 1];
    const ECDSA: &[u8] = &[OID, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];

    fn extension(last: u8, content: &[u8]) -> Vec<u8> {
        let value = der(OCTET_STRING, &[content]);
        der(SEQUENCE, &[&[OID, 3, 0x55, 0x1d, last, 1, 1, 0xff], &value])
    }

    #[test]
    fn list_of_version_1_is_refused_with_what_makes_version_2() {
        let flaw = check_of(&[written(&[], ECDSA, &[])], &[]).expect_err("it is refused");
        assert!(flaw.message.contains("line 7 is of version 1"), "{flaw:?}");
        assert!(flaw.remedy.contains("crlnumber"), "{flaw:?}");
        assert!(parse(&[written(VERSION_2, ECDSA, &[])], Path::new("crl.pem")).is_ok());
        // As OpenSSL writes it if an entry has a reason.
        let mut unnumbered = written(&[], ECDSA, &[]);
        let content = Der(&unnumbered.der).take(SEQUENCE).expect("it is a list");
        let mut rest = content;
        let signed = rest.take(SEQUENCE).expect("it has one");
        let signed = der(SEQUENCE, &[VERSION_2, signed.rest()]);
        unnumbered.der = der(SEQUENCE, &[&signed, rest.rest()]);
        let flaw = check_of(&[unnumbered], &[]).expect_err("it is refused");
        assert!(flaw.remedy.contains("crlnumber"), "{flaw:?}");
    }

    #[test]
    fn list_of_a_kind_that_tls_does_not_take_is_named() {
        let mut roots = RootCertStore::empty();
        roots
            .add(authority().der().clone())
            .expect("it can be used");
        let (roots, crl) = (Arc::new(roots), Path::new("crl.pem"));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let taken = |extensions: &[&[u8]]| {
            let mut good = written(VERSION_2, ECDSA, &[]);
            good.line = 1;
            let lists = [good, written(VERSION_2, ECDSA, extensions)];
            RevocationVerifier::new((Some(&roots), &roots), &provider, &lists, true, crl)
        };
        assert!(taken(&[]).is_ok());
        for (extension, told) in [
            (extension(27, &[INTEGER, 1, 1]), "a delta list"),
            // onlyContainsCACerts, indirectCRL, onlySomeReasons.
            (
                extension(28, &[SEQUENCE, 3, 0x82, 1, 0xff]),
                "onlyContainsCACerts",
            ),
            (
                extension(28, &[SEQUENCE, 3, 0x84, 1, 0xff]),
                "an indirect list",
            ),
            (
                extension(28, &[SEQUENCE, 4, 0x83, 2, 6, 0x40]),
                "some reasons",
            ),
            (extension(99, &[INTEGER, 1, 1]), "a critical extension"),
        ] {
            let flaw = taken(&[&extension]).expect_err("it is refused");
            assert!(flaw.message.contains(told), "{told}: {flaw:?}");
            assert!(
                flaw.message.contains("crl.pem: the X509 CRL in line 7"),
                "{flaw:?}"
            );
            assert!(flaw.remedy.contains("list of all"), "{flaw:?}");
        }
    }

    #[test]
    fn list_signed_by_rsa_pss_with_another_salt_is_refused_for_that() {
        let pss = [RSA_PSS, &[SEQUENCE, 0]].concat();
        let list = written(VERSION_2, &pss, &[]);
        let flaw = check_of(&[list], &[]).expect_err("it is refused");
        assert!(flaw.message.contains("RSA-PSS with parameters"), "{flaw:?}");
        assert!(flaw.remedy.contains("rsa_pss_saltlen:digest"), "{flaw:?}");
    }

    #[test]
    fn list_signed_by_an_unknown_algorithm_is_refused() {
        let ca = authority();
        let mut weak = list(&ca, None);
        let sha256 = [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
        let mut places = 0;
        for place in 0..weak.der.len() - sha256.len() {
            if weak.der[place..].starts_with(&sha256) {
                // SHA-224.
                weak.der[place + sha256.len() - 1] = 1;
                places += 1;
            }
        }
        assert_eq!(places, 2);
        refuses(&[weak], &[&ca], "an algorithm that TLS does not take");
    }
}
