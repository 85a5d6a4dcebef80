//! The part of a revocation list (RFC 5280 §5.1) that its check needs: who has signed it, and what it is about.

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::TrustAnchor;

use super::distinguished_name;
use super::pem::Section;
use super::x509::{BIT_STRING, Der, INTEGER, OCTET_STRING, OID, SEQUENCE, X509};

/// `crlExtensions` of a TBSCertList.
pub(super) const EXTENSIONS: u8 = 0xa0;
const ISSUING_DISTRIBUTION_POINT: &[u8] = &[0x55, 0x1d, 0x1c];
/// The object identifier of RSASSA-PSS (RFC 4055 §3.1), at the begin of an AlgorithmIdentifier.
pub(super) const RSA_PSS: &[u8] = &[OID, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];

/// A list, as far as its check needs it.
pub(super) struct List<'a> {
    pub(super) section: &'a Section,
    /// Of version 2 and with extensions, among them its number. OpenSSL writes a list without a number as version 1, or as
    /// version 2 if an entry has a reason.
    pub(super) is_current: bool,
    /// The TBSCertList, which is what is signed.
    signed: &'a [u8],
    /// The content of the AlgorithmIdentifier.
    pub(super) algorithm: &'a [u8],
    signature: &'a [u8],
    /// The content of the issuer, a Name.
    pub(super) issuer: &'a [u8],
    /// Its issuing distribution point, which says what it is about; none is about all certificates of the issuer.
    scope: Option<&'a [u8]>,
    /// The content of `revokedCertificates`.
    entries: &'a [u8],
}

impl<'a> List<'a> {
    /// None if it is no list.
    pub(super) fn parse(section: &'a Section) -> Option<Self> {
        let mut list = Der(&section.der).take(SEQUENCE)?;
        let rest = list.rest();
        let mut content = list.take(SEQUENCE)?;
        let signed = rest.get(..rest.len() - list.rest().len())?;
        let algorithm = list.take(SEQUENCE)?.rest();
        // The first byte counts unused bits.
        let signature = list.take(BIT_STRING)?.rest().strip_prefix(&[0])?;
        let has_version = content.take(INTEGER).is_some();
        let mut is_current = false;
        content.take(SEQUENCE)?; // the signature's algorithm
        let issuer = content.take(SEQUENCE)?.rest();
        let (mut scope, mut entries) = (None, &[][..]);
        while !content.is_empty() {
            // Times are there, too.
            match content.next()? {
                (SEQUENCE, revoked) => entries = revoked,
                (EXTENSIONS, extensions) => {
                    is_current = has_version;
                    scope = distribution_point(Der(extensions).take(SEQUENCE)?)?;
                }
                _ => {}
            }
        }
        Some(Self {
            section,
            is_current,
            signed,
            algorithm,
            signature,
            issuer,
            scope,
            entries,
        })
    }

    /// Whether it revokes a certificate. Whatever the entry's reason is: TLS looks at none.
    pub(super) fn revokes(&self, certificate: &X509<'_>) -> bool {
        let mut entries = Der(self.entries);
        self.issuer == certificate.issuer.rest()
            && std::iter::from_fn(|| entries.take(SEQUENCE)?.take(INTEGER))
                .any(|serial| serial.rest() == certificate.serial)
    }

    pub(super) fn issuer(&self) -> String {
        distinguished_name::text(Der(self.issuer)).unwrap_or_else(|| "?".into())
    }

    /// Whether both may be about one certificate: TLS looks at the first of such lists alone.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let is_partial = self.scope.is_some() && other.scope.is_some();
        self.issuer == other.issuer && (self.scope == other.scope || !is_partial)
    }

    /// Whether an authority's key has signed it, judged as TLS does for a client.
    pub(super) fn is_signed_by(
        &self,
        authority: &TrustAnchor<'_>,
        by: &WebPkiSupportedAlgorithms,
    ) -> bool {
        let mut key = Der(&authority.subject_public_key_info);
        let (Some(kind), Some(key)) = (key.take(SEQUENCE), key.take(BIT_STRING)) else {
            return false;
        };
        let Some(key) = key.rest().strip_prefix(&[0]) else {
            return false;
        };
        let mut fitting = by.all.iter().filter(|known| {
            known.signature_alg_id().as_ref() == self.algorithm
                && known.public_key_alg_id().as_ref() == kind.rest()
        });
        fitting.any(|known| {
            let verified = known.verify_signature(key, self.signed, self.signature);
            verified.is_ok()
        })
    }
}

/// The issuing distribution point among the extensions of a list.
fn distribution_point(mut extensions: Der<'_>) -> Option<Option<&[u8]>> {
    while !extensions.is_empty() {
        let mut extension = extensions.take(SEQUENCE)?;
        let id = extension.take(OID)?;
        let (mut tag, mut content) = extension.next()?;
        if tag != OCTET_STRING {
            (tag, content) = extension.next()?; // after `critical`
        }
        if id.rest() == ISSUING_DISTRIBUTION_POINT && tag == OCTET_STRING {
            return Some(Some(content));
        }
    }
    Some(None)
}
