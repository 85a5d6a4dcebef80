//! The certificate of a client, as far as it says who the client is.

/// What a client's certificate says. TLS has judged it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientCertificate {
    /// Its subject (RFC 4514); may be empty.
    pub(crate) subject: Box<str>,
    /// The first name of its `subjectAltName` that names a client: a URI (as SPIFFE has them), a mail address, or a host.
    pub(crate) alternative_name: Option<Box<str>>,
    /// Milliseconds since the Unix epoch.
    pub(crate) expires_at: u64,
}

impl ClientCertificate {
    /// The client's name: its alternative name, since a subject can be written in several ways.
    pub(crate) fn principal(&self) -> &str {
        self.alternative_name.as_deref().unwrap_or(&self.subject)
    }
}
