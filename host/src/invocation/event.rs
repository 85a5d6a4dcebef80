//! The kinds of event, each with the type of its answer.

use std::sync::Arc;

use super::answer::{Acceptance, Denial};
use crate::auth::{ClientCertificate, Identity};
use crate::connections::{Closing, Message};

/// An event that an integration can be called for.
pub(crate) trait Event: Send + 'static {
    type Answer: Send + 'static;
}

/// `$connect`: the client's request.
#[derive(Clone, Debug)]
pub(crate) struct Handshake {
    pub(crate) query: Vec<(String, String)>,
    /// Names in lower case. Values that are not UTF-8 are left out.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) subprotocols: Vec<String>,
    pub(crate) source_ip: String,
    /// In lower case, without port and without the root's dot.
    pub(crate) domain_name: String,
    /// As the client wrote it, without the query.
    pub(crate) path: String,
    /// `1.1`, `2` or `3`.
    pub(crate) http_version: &'static str,
    /// Whether the client connects over TLS, to the gateway or to a trusted proxy before it.
    pub(crate) secure: bool,
    /// The client's certificate, where the listener asks for one and the client has it.
    pub(crate) certificate: Option<Arc<ClientCertificate>>,
}

impl Handshake {
    /// The subject of the client's certificate (RFC 4514).
    pub(crate) fn certificate_subject(&self) -> Option<&str> {
        let certificate = self.certificate.as_deref();
        certificate.map(|certificate| &*certificate.subject)
    }
}

impl Event for Handshake {
    type Answer = Result<Acceptance, Denial>;
}

/// The client's request, for the plugin that authorizes it before `$connect`.
#[derive(Clone, Debug)]
pub(crate) struct Authorize(pub(crate) Handshake);

impl Event for Authorize {
    type Answer = Result<Identity, Denial>;
}

/// A message. Its answer is sent to the client if the route is two-way.
impl Event for Message {
    type Answer = Option<Self>;
}

/// `$disconnect`.
impl Event for Closing {
    type Answer = ();
}
