//! The certificate that a client has shown on a listener that asks for one. TLS has judged it by then.

use super::{Denial, Request};
use crate::auth::{Identity, Value};

pub(super) fn authorize(request: &Request<'_>) -> Result<Identity, Denial> {
    let certificate = request.handshake.certificate.as_deref();
    // No challenge of HTTP asks for a certificate, so that a 401 would have none.
    let certificate = certificate.ok_or(Denial::Forbidden(
        "the client has shown no certificate".into(),
    ))?;
    let subject = Value::Text(certificate.subject.clone());
    Identity::new(
        Some(certificate.principal().into()),
        vec![("subject".into(), subject)],
        Vec::new(),
        Some(certificate.expires_at),
    )
    .map_err(|error| Denial::Failed(format!("the client's certificate: {error}")))
}
