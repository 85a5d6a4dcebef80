//! TLS of the clients, and certificates to serve.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};
use rustls::{
    CipherSuite, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig,
    SignatureScheme, SupportedProtocolVersion,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{Duplex, write_private};

/// The certificates that a client accepts.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Any certificate, as with `wscat --no-check`.
    Any,
    /// This certificate alone, for the name `localhost`, with all usual checks.
    Only(CertificateDer<'static>),
}

/// A self-signed certificate with its key.
pub struct Certificate {
    pub der: CertificateDer<'static>,
    pub certificate_pem: String,
    pub key_pem: String,
}

impl Certificate {
    /// A certificate for this machine.
    #[must_use]
    pub fn new() -> Self {
        Self::of(&["localhost", "127.0.0.1"])
    }

    /// A certificate for these names and addresses.
    #[must_use]
    pub fn of(names: &[&str]) -> Self {
        Self::made(&params(names))
    }

    /// A certificate for this machine, from the start of the year `from` to that of the year `to`.
    #[must_use]
    pub fn of_years(from: i32, to: i32) -> Self {
        let mut params = params(&["localhost", "127.0.0.1"]);
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(to, 1, 1);
        Self::made(&params)
    }

    /// A certificate for this machine that lives for less than two weeks: a page may know it by its digest.
    #[must_use]
    pub fn of_two_weeks() -> Self {
        let (hour, now) = (Duration::from_secs(3_600), SystemTime::now());
        let mut params = params(&["localhost", "127.0.0.1"]);
        params.not_before = (now - hour).into();
        params.not_after = (now + hour * 13 * 24).into();
        Self::made(&params)
    }

    /// A certificate for these names that calls itself an authority's, as `openssl req -x509` makes it.
    #[must_use]
    pub fn of_an_authority(names: &[&str]) -> Self {
        let mut params = params(names);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self::made(&params)
    }

    fn made(params: &CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self {
            der: certificate.der().clone(),
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        }
    }

    /// The configuration of a server with this certificate.
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.der.clone()], key);
        Arc::new(server.unwrap())
    }

    /// Writes `certificate.pem` and `key.pem` into `folder`, each by one rename, and returns their paths.
    pub fn write(&self, folder: &Path) -> (PathBuf, PathBuf) {
        (
            replace(folder, "certificate.pem", &self.certificate_pem),
            replace(folder, "key.pem", &self.key_pem),
        )
    }

    /// Writes the pair into `folder` under this name, and returns its entry in a configuration.
    #[must_use]
    pub fn write_as(&self, folder: &Path, name: &str) -> String {
        let certificate = replace(folder, &format!("{name}.pem"), &self.certificate_pem);
        let key = replace(folder, &format!("{name}.key.pem"), &self.key_pem);
        format!("{{ certificate = {certificate:?}, key = {key:?} }}")
    }
}

fn params(names: &[&str]) -> CertificateParams {
    let names = names.iter().map(ToString::to_string);
    CertificateParams::new(names.collect::<Vec<_>>()).unwrap()
}

impl Default for Certificate {
    fn default() -> Self {
        Self::new()
    }
}

fn replace(folder: &Path, name: &str, content: &str) -> PathBuf {
    let (path, next) = (folder.join(name), folder.join(format!("{name}.next")));
    write_private(&next, content);
    fs::rename(&next, &path).unwrap();
    path
}

/// The TLS settings of a client.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) trust: Trust,
    pub(crate) alpn: Vec<Vec<u8>>,
    pub(crate) versions: &'static [&'static SupportedProtocolVersion],
    /// The cipher suite that the client lists first.
    pub(crate) first_suite: Option<CipherSuite>,
    /// The host that the client names; none stands for an address, which a client does not name.
    pub(crate) name: Option<String>,
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            trust: Trust::Any,
            alpn: vec![b"http/1.1".to_vec()],
            versions: rustls::DEFAULT_VERSIONS,
            first_suite: None,
            name: Some("localhost".to_owned()),
        }
    }
}

impl Tls {
    /// Connects, and does the TLS handshake.
    pub(crate) async fn connect(
        &self,
        address: SocketAddr,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        self.wrap(socket).await
    }

    /// The configuration of a client.
    pub(crate) fn config(&self) -> ClientConfig {
        let mut provider = aws_lc_rs::default_provider();
        let suites = &mut provider.cipher_suites;
        suites.sort_by_key(|suite| Some(suite.suite()) != self.first_suite);
        let builder = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(self.versions)
            .unwrap();
        let mut config = match &self.trust {
            Trust::Any => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(
                    AcceptAny(aws_lc_rs::default_provider()),
                ))
                .with_no_client_auth(),
            Trust::Only(certificate) => {
                let mut roots = RootCertStore::empty();
                roots.add(certificate.clone()).unwrap();
                builder.with_root_certificates(roots).with_no_client_auth()
            }
        };
        config.alpn_protocols.clone_from(&self.alpn);
        config
    }

    pub(crate) async fn wrap<S: Duplex>(&self, socket: S) -> std::io::Result<TlsStream<S>> {
        let name = self.name.clone().unwrap_or_else(|| "127.0.0.1".to_owned());
        let name = ServerName::try_from(name).unwrap();
        TlsConnector::from(Arc::new(self.config()))
            .connect(name, socket)
            .await
    }
}

/// Checks that the server has the key of its certificate, and nothing else.
#[derive(Debug)]
struct AcceptAny(CryptoProvider);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
