//! TLS of the clients: as little work as possible, since it is not measured.

use std::sync::Arc;

use anyhow::Result;
use quinn::crypto::rustls::QuicClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::aws_lc_rs;
use rustls::{DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::TlsConnector;

/// The protocol of the WebSocket handshake.
pub(crate) const HTTP1: &[u8] = b"http/1.1";

/// The protocol with a stream for each WebSocket.
pub(crate) const HTTP2: &[u8] = b"h2";

/// The protocol over QUIC.
const HTTP3: &[u8] = b"h3";

pub(crate) fn connector(protocol: &[u8]) -> TlsConnector {
    TlsConnector::from(Arc::new(config(protocol)))
}

/// The same for QUIC.
pub(crate) fn quic() -> Result<quinn::ClientConfig> {
    let tls = QuicClientConfig::try_from(config(HTTP3))?;
    Ok(quinn::ClientConfig::new(Arc::new(tls)))
}

/// TLS that offers one protocol, checks nothing and never resumes: every handshake is a full one.
fn config(protocol: &[u8]) -> ClientConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AcceptAny))
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    config.resumption = Resumption::disabled();
    config
}

/// Checks nothing: the peer is a child process, and the client's work is not measured.
#[derive(Debug)]
struct AcceptAny;

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let provider = aws_lc_rs::default_provider();
        provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
