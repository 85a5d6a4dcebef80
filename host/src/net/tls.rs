//! TLS as a client: it expects a certificate, and tells how it is judged.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Stream;

/// The bytes of a connection, in the clear.
pub(crate) trait SecureStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> SecureStream for T {}

pub(crate) type BoxedStream = Box<dyn SecureStream>;

/// The certificate that a server must show.
#[derive(Clone)]
pub(crate) struct ExpectedCertificate {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl ExpectedCertificate {
    /// A certificate for this name, by an authority of a PEM file. Fails if the file has none, or the name is none.
    pub(crate) fn by_authority(file: &Path, name: &str) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        for authority in certificates(file)? {
            roots.add(authority).map_err(io::Error::other)?;
        }
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let config = builder()?.with_root_certificates(roots);
        Ok(Self {
            config: Arc::new(config.with_no_client_auth()),
            name,
        })
    }

    /// The first certificate of a PEM file, whatever its names: whoever reads the file trusts what it names.
    pub(crate) fn exactly(file: &Path) -> io::Result<Self> {
        let certificate = certificates(file)?.swap_remove(0);
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = Exactly {
            certificate,
            provider,
        };
        let config = builder()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        Ok(Self {
            config: Arc::new(config.with_no_client_auth()),
            name: ServerName::try_from("localhost").expect("it is a name"),
        })
    }

    pub(crate) async fn connect(&self, stream: Stream) -> io::Result<TlsStream<Stream>> {
        let connector = TlsConnector::from(Arc::clone(&self.config));
        connector.connect(self.name.clone(), stream).await
    }
}

type Builder = rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>;

fn builder() -> io::Result<Builder> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    builder
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)
}

/// The certificates of a PEM file, at least one.
fn certificates(file: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(file).map_err(io::Error::other)?;
    let read = read.collect::<Result<Vec<_>, _>>();
    let read = read.map_err(io::Error::other)?;
    match read.is_empty() {
        true => Err(io::Error::other("it holds no certificate")),
        false => Ok(read),
    }
}

/// Takes one certificate and no other. The server proves that it has the key.
struct Exactly {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for Exactly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exactly")
    }
}

impl ServerCertVerifier for Exactly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if *end_entity == self.certificate {
            return Ok(ServerCertVerified::assertion());
        }
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
