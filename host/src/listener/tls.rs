//! TLS for a listener: rustls, a certificate from files or made at start, and its replacement while the
//! listener serves.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::config;

/// How often a certificate's files are looked at. A changed pair is served within two of these.
const LOOK: Duration = Duration::from_secs(1);

/// The certificate that new connections get.
#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// A listener's TLS, and the certificate that it may have to look after.
pub(crate) struct Tls {
    pub(super) config: Arc<ServerConfig>,
    certificate: Arc<Current>,
    /// The files, with how they looked before they were read.
    files: Option<(Files, Stamp)>,
}

/// What changes when a certificate's files do.
type Stamp = [Option<(SystemTime, u64)>; 2];

#[derive(Clone, Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Tls {
    /// None for a listener without TLS.
    pub(crate) fn new(listener: &config::Listener) -> Result<Option<Self>> {
        let (certified, files) = match &listener.tls {
            config::Tls::Off => return Ok(None),
            config::Tls::SelfSigned => (self_signed()?, None),
            config::Tls::Files { certificate, key } => {
                let files = Files {
                    certificate: certificate.clone(),
                    key: key.clone(),
                };
                let stamp = files.stamp();
                (files.load()?, Some((files, stamp)))
            }
        };
        let certificate = Arc::new(Current(ArcSwap::from_pointee(certified)));
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .context("TLS versions")?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&certificate) as _);
        config.alpn_protocols = if listener.http2 {
            vec![b"h2".to_vec(), b"http/1.1".to_vec()]
        } else {
            vec![b"http/1.1".to_vec()]
        };
        // Its keys rotate by themselves.
        config.ticketer = aws_lc_rs::Ticketer::new().context("TLS tickets")?;
        Ok(Some(Self {
            config: Arc::new(config),
            certificate,
            files,
        }))
    }

    /// Serves a new certificate once its files have changed and fit each other; keeps the old one, and says
    /// why, when they do not. Returns at once when there are no files.
    pub(super) async fn watch(self) {
        let Some((files, mut seen)) = self.files else {
            return;
        };
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            let stamp = files.stamp();
            if stamp == seen {
                continue;
            }
            seen = stamp;
            match files.load() {
                Ok(certified) => {
                    self.certificate.0.store(Arc::new(certified));
                    tracing::info!(certificate = %files.certificate.display(), "serving the changed certificate");
                }
                Err(error) => tracing::warn!(
                    certificate = %files.certificate.display(),
                    "the changed certificate is not used, the old one stays: {error:#}"
                ),
            }
        }
    }
}

impl Files {
    fn load(&self) -> Result<CertifiedKey> {
        let place = || format!("certificate {}", self.certificate.display());
        let pem = fs::read(&self.certificate).with_context(place)?;
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem)
            .collect::<Result<_, _>>()
            .with_context(place)?;
        if chain.is_empty() {
            bail!(
                "{}: there is no certificate in it; it takes PEM, the server's own certificate first",
                place()
            );
        }
        let key = load_key(&self.key)?;
        let key = aws_lc_rs::sign::any_supported_type(&key)
            .with_context(|| format!("key {}: of no kind that TLS uses", self.key.display()))?;
        let certified = CertifiedKey::new(chain, key);
        certified.keys_match().with_context(|| {
            format!(
                "{} and key {} do not belong together",
                place(),
                self.key.display()
            )
        })?;
        Ok(certified)
    }

    fn stamp(&self) -> Stamp {
        [&self.certificate, &self.key].map(|path| {
            let metadata = fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        })
    }
}

fn load_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    let pem = fs::read(path).with_context(|| format!("key {}", path.display()))?;
    PrivateKeyDer::from_pem_slice(&pem).with_context(|| {
        format!(
            "key {}: there is no private key in it; it takes PEM",
            path.display()
        )
    })
}

/// A certificate for this machine by its loopback names, that no one trusts unasked.
fn self_signed() -> Result<CertifiedKey> {
    let names = ["localhost", "127.0.0.1", "::1"].map(String::from).to_vec();
    let made = rcgen::generate_simple_self_signed(names).context("self-signed certificate")?;
    let key =
        PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(anyhow::Error::msg)?;
    let key = aws_lc_rs::sign::any_supported_type(&key).context("self-signed certificate")?;
    Ok(CertifiedKey::new(vec![made.cert.der().clone()], key))
}
