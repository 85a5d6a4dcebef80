//! The TLS of a listener: rustls, the choice of the certificate for each client, and its replacement while the listener
//! serves.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result};
use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs;
use rustls::server::{Acceptor, ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, ProtocolVersion, ServerConfig, ServerConnection};
use rustls_pki_types::CertificateDer;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::certificate::{Certificate, Unusable, wildcard_of};
use super::clients::{ClientTrust, describe};
use super::proof::ClientProof;
use super::quic_identity::QuicKeys;
use crate::auth::ClientCertificate;
use crate::clock::now_ms;
use crate::config::{self, Fault};
use crate::net::Stream;

/// Cipher suites with AES-128 and SHA-256.
const AES_128: [CipherSuite; 3] = [
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
];

/// Cipher suites for machines without instructions for AES.
const CHACHA20: [CipherSuite; 3] = [
    CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

/// The error of a client that ended before its ClientHello.
const PROBE: io::ErrorKind = io::ErrorKind::NotConnected;

/// Whether a client has ended before its ClientHello, as probes of a port do.
pub(super) fn is_probe(error: &io::Error) -> bool {
    error.kind() == PROBE
}

/// The version that a connection speaks. The configuration offers no others.
pub(super) fn version(connection: &ServerConnection) -> Option<&'static str> {
    let version = connection.protocol_version()?;
    Some(match version == ProtocolVersion::TLSv1_3 {
        true => "1.3",
        false => "1.2",
    })
}

/// Whether this machine has instructions for AES.
fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

/// A listener's TLS, shared by the tasks that accept and the reload that replaces certificates.
pub(crate) struct Tls {
    settings: ArcSwap<Settings>,
    certificates: Arc<CertificateResolver>,
    http2: bool,
    /// The TLS of the listener that has taken over; none if none has, and nobody keeps the trust up to date.
    successor: OnceLock<Option<Arc<Self>>>,
}

/// The number of the next settings. Those of all listeners are counted together, so that no two have the same.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// The settings for new connections. Each has tickets of its own: a ticket that was made under other authorities or
/// revocation lists resumes nothing, since TLS judges no certificate then.
struct Settings {
    /// The cheapest cipher suite first.
    cheapest: Arc<ServerConfig>,
    /// The suites in the client's order.
    as_asked: Arc<ServerConfig>,
    /// What judges the certificates of clients; none asks for none.
    clients: Option<ClientTrust>,
    number: u64,
}

/// A client's stream, and who the client is by its certificate.
pub(crate) struct Secured {
    pub(crate) stream: TlsStream<Stream>,
    pub(super) certificate: Option<Arc<ClientCertificate>>,
    pub(super) proof: Arc<ClientProof>,
}

/// The certificates of a listener. The name that a client asks for (SNI) chooses one.
#[derive(Clone, Debug)]
pub(crate) struct Certificates {
    /// In the configuration's order, never empty. The first is for clients that name no host, or an unknown one.
    all: Vec<Arc<Certificate>>,
    by_name: HashMap<String, Arc<Certificate>>,
}

/// The certificates for new connections.
#[derive(Debug)]
struct CertificateResolver(ArcSwap<Certificates>);

impl ResolvesServerCert for CertificateResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let certificates = self.0.load();
        let chosen = certificates.choose(hello.server_name())?;
        Some(Arc::clone(&chosen.certified))
    }
}

impl Tls {
    pub(crate) fn new(
        certificates: Certificates,
        clients: Option<ClientTrust>,
        http2: bool,
    ) -> Result<Self> {
        let certificates = Arc::new(CertificateResolver(ArcSwap::from_pointee(certificates)));
        let settings = Settings::new(&certificates, clients, http2)?;
        Ok(Self {
            settings: ArcSwap::from_pointee(settings),
            certificates,
            http2,
            successor: OnceLock::new(),
        })
    }

    /// Judges clients by these authorities and lists. Gives whether they are others.
    pub(crate) fn trust(&self, clients: Option<ClientTrust>) -> Result<bool> {
        let is_same = match (&self.settings.load().clients, &clients) {
            (Some(before), Some(now)) => before.is_same(now),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !is_same {
            let settings = Settings::new(&self.certificates, clients, self.http2)?;
            self.settings.store(Arc::new(settings));
        }
        Ok(!is_same)
    }

    /// Judges the clients that are connected by the TLS of the listener that takes over. Without one, those that were
    /// asked for certificates are trusted no more.
    pub(crate) fn give_way_to(&self, successor: Option<&Arc<Self>>) {
        if successor.is_some() || self.settings.load().clients.is_some() {
            // A listener gives way once.
            let _ = self.successor.set(successor.cloned());
        }
    }

    /// Judges a client's certificates, if the listener has others than the settings with this number by now. Gives the
    /// number of those that it has.
    pub(super) fn judge_again(
        &self,
        before: u64,
        chain: &[CertificateDer<'_>],
    ) -> Option<(u64, bool)> {
        let mut tls = self;
        while let Some(successor) = tls.successor.get() {
            let Some(successor) = successor else {
                return Some((before, false));
            };
            tls = successor;
        }
        let settings = tls.settings.load();
        (settings.number != before).then(|| (settings.number, settings.trust(chain)))
    }

    /// Makes the proof of a client over QUIC, which is asked for no certificate.
    pub(super) fn proof_over_quic(self: &Arc<Self>) -> Arc<ClientProof> {
        let number = self.settings.load().number;
        Arc::new(ClientProof::new(Arc::clone(self), number, Vec::new(), None))
    }

    /// Does the handshake.
    pub(crate) async fn accept(self: &Arc<Self>, stream: Stream) -> io::Result<Secured> {
        let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await;
        let start = start.map_err(|error| match error.kind() == io::ErrorKind::UnexpectedEof {
            true => io::Error::new(PROBE, "it ended before its first word"),
            false => error,
        })?;
        let settings = self.settings.load_full();
        let config = settings.config_for(&start.client_hello());
        let stream = start.into_stream(config).await?;
        let shown = stream.get_ref().1.peer_certificates();
        let chain: Vec<_> = shown.unwrap_or_default().to_vec();
        let mut certificate = None;
        if let Some(own) = chain.first() {
            let described = describe(own)
                .ok_or_else(|| io::Error::other("the client's certificate cannot be read"))?;
            // It was valid when the session began, which may be hours ago: TLS judges nothing when it resumes.
            if described.expires_at <= now_ms() {
                return Err(io::Error::other("the client's certificate has expired"));
            }
            certificate = Some(Arc::new(described));
        } else if !settings.trust(&chain) {
            return Err(io::Error::other("the client has shown no certificate"));
        }
        let expires_at = certificate.as_ref().map(|own| own.expires_at);
        Ok(Secured {
            proof: Arc::new(ClientProof::new(
                Arc::clone(self),
                settings.number,
                chain,
                expires_at,
            )),
            stream,
            certificate,
        })
    }

    /// Makes the TLS of QUIC, which asks no client for a certificate: the same certificates, also later ones, and no data before the handshake is over (0-RTT).
    pub(super) fn for_quic(&self) -> Result<ServerConfig> {
        let mut config = ServerConfig::clone(&self.settings.load().cheapest);
        config.alpn_protocols = vec![b"h3".to_vec()];
        config.ticketer = aws_lc_rs::Ticketer::new().context("TLS tickets")?;
        config.max_early_data_size = 0;
        Ok(config)
    }

    /// The keys of QUIC that follow from the first certificate, as it is now.
    pub(super) fn quic_keys(&self) -> Option<QuicKeys> {
        let certificates = self.certificates();
        Some(certificates.all.first()?.quic_keys.clone())
    }

    /// Gives the certificate that a connection's client was shown, who asked for this name (SNI).
    pub(super) fn shown(&self, name: Option<&str>) -> Option<ShownCertificate> {
        let certificates = self.certificates();
        Some(ShownCertificate {
            name: name.map(str::to_owned),
            certificate: Arc::clone(certificates.choose(name)?),
        })
    }

    pub(crate) fn certificates(&self) -> Arc<Certificates> {
        self.certificates.0.load_full()
    }

    /// Replaces the certificates for new connections. Gives those that are new.
    pub(crate) fn replace(&self, certificates: Certificates) -> Vec<Arc<Certificate>> {
        let now = Arc::new(certificates);
        let before = self.certificates.0.swap(Arc::clone(&now));
        let known = |new: &Certificate| before.all.iter().any(|old| old.is_same(new));
        let new = now.all.iter().filter(|certificate| !known(certificate));
        new.cloned().collect()
    }
}

impl Settings {
    fn new(
        certificates: &Arc<CertificateResolver>,
        clients: Option<ClientTrust>,
        http2: bool,
    ) -> Result<Self> {
        let mut provider = aws_lc_rs::default_provider();
        // Most clients list AES-256 first, whose suite hashes with SHA-384: a tenth of a handshake more.
        let suites = &mut provider.cipher_suites;
        suites.sort_by_key(|suite| !AES_128.contains(&suite.suite()));
        let config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .context("TLS versions")?;
        let config = match &clients {
            Some(clients) => config.with_client_cert_verifier(Arc::clone(&clients.verifier)),
            None => config.with_no_client_auth(),
        };
        let mut config = config.with_cert_resolver(Arc::clone(certificates) as _);
        config.alpn_protocols = if http2 {
            vec![b"h2".to_vec(), b"http/1.1".to_vec()]
        } else {
            vec![b"http/1.1".to_vec()]
        };
        // The ticketer rotates its keys by itself.
        config.ticketer = aws_lc_rs::Ticketer::new().context("TLS tickets")?;
        let as_asked = Arc::new(config.clone());
        config.ignore_client_order = has_aes();
        Ok(Self {
            cheapest: Arc::new(config),
            as_asked,
            clients,
            number: NEXT.fetch_add(1, Ordering::Relaxed),
        })
    }

    /// Whether a client with these certificates is let in; it may have none.
    fn trust(&self, chain: &[CertificateDer<'_>]) -> bool {
        match (&self.clients, chain.split_first()) {
            (None, _) => true,
            (Some(clients), None) => !clients.required,
            (Some(clients), Some((own, others))) => clients.trust(own, others),
        }
    }

    /// Chooses by the client's list of cipher suites: one that has ChaCha20 first has no instructions for AES.
    fn config_for(&self, hello: &ClientHello<'_>) -> Arc<ServerConfig> {
        let suites = &self.cheapest.crypto_provider().cipher_suites;
        let known = |asked: &&CipherSuite| suites.iter().any(|suite| suite.suite() == **asked);
        let first = hello.cipher_suites().iter().find(known);
        Arc::clone(match first {
            Some(first) if CHACHA20.contains(first) => &self.as_asked,
            Some(_) | None => &self.cheapest,
        })
    }
}

/// The certificate that a connection's client was shown.
pub(super) struct ShownCertificate {
    /// The host that the client asked for (SNI).
    name: Option<String>,
    certificate: Arc<Certificate>,
}

impl ShownCertificate {
    /// Whether a request on the connection may name this host: the client asked for it by SNI, or the certificate is
    /// for it too. A client cannot ask for an address by SNI.
    pub(super) fn allows(&self, host: &str) -> bool {
        let asked_for = match &self.name {
            Some(name) => name.eq_ignore_ascii_case(host.trim_end_matches('.')),
            None => {
                let address = host.trim_start_matches('[').trim_end_matches(']');
                address.parse::<IpAddr>().is_ok()
            }
        };
        asked_for || self.certificate.covers(host)
    }
}

impl Certificates {
    /// Reads the certificates of the listener at `key` in the configuration, or makes one; none without TLS.
    pub(crate) fn read(tls: &config::Tls, key: &str) -> Result<Option<Self>, Vec<Fault>> {
        let files = match tls {
            config::Tls::Off => return Ok(None),
            config::Tls::SelfSigned => {
                let made = Certificate::self_signed().map_err(|error| {
                    vec![Fault {
                        key: key.to_owned(),
                        message: format!("{error:#}"),
                        remedy: "name files instead: tls = { certificate = \"…\", key = \"…\" }"
                            .into(),
                        is_passing: false,
                    }]
                })?;
                return Self::new(vec![Arc::new(made)], key).map(Some);
            }
            config::Tls::Files(files) => files,
        };
        let (mut all, mut faults) = (Vec::new(), Vec::new());
        for (index, pair) in files.iter().enumerate() {
            match Certificate::read(pair, &pair_key(key, index, files.len())) {
                Ok(certificate) => all.push(Arc::new(certificate)),
                Err(Unusable { fault, .. }) => faults.push(fault),
            }
        }
        if faults.is_empty() {
            Self::new(all, key).map(Some)
        } else {
            Err(faults)
        }
    }

    /// Gives a copy with another certificate at `index`.
    pub(crate) fn with(
        &self,
        index: usize,
        certificate: Certificate,
        key: &str,
    ) -> Result<Self, Vec<Fault>> {
        let mut all = self.all.clone();
        if let Some(old) = all.get_mut(index) {
            *old = Arc::new(certificate);
        }
        Self::new(all, key)
    }

    pub(crate) fn all(&self) -> &[Arc<Certificate>] {
        &self.all
    }

    /// Fails if two certificates are for one name, or if a client could not ask for one of several.
    fn new(all: Vec<Arc<Certificate>>, key: &str) -> Result<Self, Vec<Fault>> {
        let mut by_name = HashMap::<_, (usize, Arc<Certificate>)>::new();
        let mut faults = Vec::new();
        for (index, certificate) in all.iter().enumerate() {
            let fault = |message: String, remedy: &str| Fault {
                key: format!("{}.certificate", pair_key(key, index, all.len())),
                message,
                remedy: remedy.to_owned(),
                is_passing: false,
            };
            if index > 0 && certificate.names.is_empty() {
                faults.push(fault(
                    "its subjectAltName holds no DNS name, by which a client could ask for it"
                        .into(),
                    "put it first, for clients that name no host, or name another",
                ));
            }
            for name in &certificate.names {
                if let Some((other, _)) = by_name.get(name) {
                    faults.push(fault(
                        format!("it is for {name}, and so is {key}[{other}]: the choice between them would be a guess"),
                        "leave one of them, or have one made without that name",
                    ));
                } else {
                    by_name.insert(name.clone(), (index, Arc::clone(certificate)));
                }
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let by_name = by_name.into_iter();
        Ok(Self {
            by_name: by_name
                .map(|(name, (_, certificate))| (name, certificate))
                .collect(),
            all,
        })
    }

    /// Chooses the certificate for a name, in lower case as rustls gives it: one for this name, one with its wildcard,
    /// or the first.
    pub(super) fn choose(&self, name: Option<&str>) -> Option<&Arc<Certificate>> {
        let named = name.and_then(|name| {
            self.by_name
                .get(name)
                .or_else(|| self.by_name.get(&wildcard_of(name)?))
        });
        named.or_else(|| self.all.first())
    }
}

/// The key of a pair in the configuration.
pub(crate) fn pair_key(key: &str, index: usize, pairs: usize) -> String {
    if pairs == 1 {
        key.to_owned()
    } else {
        format!("{key}[{index}]")
    }
}
