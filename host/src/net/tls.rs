//! TLS as a client: it expects a certificate, and tells how it is judged.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
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
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        Ok(Self {
            config: Arc::new(trusting(certificates(file)?)?),
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

/// TLS with servers whose certificates these authorities have issued. Of a single certificate, the server may also be the one
/// that it is of: what openssl makes for a server and signs by itself calls itself an authority, and those serve nothing.
pub(super) fn trusting(certificates: Vec<CertificateDer<'static>>) -> io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let only = match certificates.as_slice() {
        [only] => Some(only.clone()),
        _ => None,
    };
    for authority in certificates {
        roots.add(authority).map_err(io::Error::other)?;
    }
    let Some(only) = only else {
        let config = builder()?.with_root_certificates(roots);
        return Ok(config.with_no_client_auth());
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let by_authority =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let verifier = OfOneCertificate {
        by_authority: by_authority.map_err(io::Error::other)?,
        only,
    };
    let config = builder()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    Ok(config.with_no_client_auth())
}

/// What to do about a server whose certificate is not trusted, as a clause behind the error; empty for other errors. `ca` is the
/// key of the configuration that names the authorities.
pub(crate) fn distrust_remedy(error: &(dyn std::error::Error + 'static), ca: &str) -> String {
    if !is_of_a_certificate(error) {
        return String::new();
    }
    format!(
        "; name in {ca} the authority that issued the certificate, or that certificate if it is signed by itself, and use a host that it is for"
    )
}

fn is_of_a_certificate(error: &(dyn std::error::Error + 'static)) -> bool {
    if let Some(error) = error.downcast_ref::<Error>() {
        return matches!(error, Error::InvalidCertificate(_));
    }
    // What such an error holds is none of its causes.
    let held = error.downcast_ref::<io::Error>();
    match held.and_then(io::Error::get_ref) {
        Some(held) => is_of_a_certificate(held),
        None => error.source().is_some_and(is_of_a_certificate),
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

/// Takes certificates of one authority, and its own.
#[derive(Debug)]
struct OfOneCertificate {
    by_authority: Arc<WebPkiServerVerifier>,
    only: CertificateDer<'static>,
}

impl ServerCertVerifier for OfOneCertificate {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.by_authority.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verified {
            // An authority in a server's place, found after the certificate's times and before its names.
            Err(Error::InvalidCertificate(CertificateError::Other(_)))
                if *end_entity == self.only =>
            {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verifier = &self.by_authority;
        verifier.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verifier = &self.by_authority;
        verifier.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_authority.supported_verify_schemes()
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

#[cfg(test)]
mod tests {
    use lockgate_tests::Certificate;
    use rustls::ServerConfig;
    use rustls_pki_types::PrivateKeyDer;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// Whether a client that trusts these certificates takes the one of a server by this name.
    async fn takes(trusted: &[&Certificate], shown: &Certificate, name: &'static str) -> bool {
        let trusted = trusted.iter().map(|certificate| certificate.der.clone());
        let config = trusting(trusted.collect()).expect("they are certificates");
        let key = PrivateKeyDer::from_pem_slice(shown.key_pem.as_bytes()).expect("it is a key");
        let provider = Arc::new(aws_lc_rs::default_provider());
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("there are some")
            .with_no_client_auth()
            .with_single_cert(vec![shown.der.clone()], key)
            .expect("they belong together");
        let (client, far) = tokio::io::duplex(16 << 10);
        let name = ServerName::try_from(name).expect("it is a name");
        let connecting = TlsConnector::from(Arc::new(config)).connect(name, client);
        let accepting = TlsAcceptor::from(Arc::new(server)).accept(far);
        let (connected, _) = tokio::join!(connecting, accepting);
        if let Err(error) = &connected {
            let remedy = distrust_remedy(error, "otlp.ca");
            assert!(remedy.contains("name in otlp.ca"), "{error}");
        }
        connected.is_ok()
    }

    #[tokio::test]
    async fn only_certificate_of_a_file_may_be_the_servers_own() {
        let names = ["localhost"];
        let (plain, authority) = (
            Certificate::of(&names),
            Certificate::of_an_authority(&names),
        );
        for certificate in [&plain, &authority] {
            assert!(takes(&[certificate], certificate, "localhost").await);
            assert!(!takes(&[certificate], certificate, "example.com").await);
            let other = Certificate::of_an_authority(&names);
            assert!(!takes(&[&other], certificate, "localhost").await);
        }
        // Of several, an authority issues and does not serve.
        assert!(!takes(&[&plain, &authority], &authority, "localhost").await);
        assert!(takes(&[&plain, &authority], &plain, "localhost").await);
    }

    #[test]
    fn other_errors_have_no_remedy_about_certificates() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(distrust_remedy(&refused, "otlp.ca"), "");
    }
}
