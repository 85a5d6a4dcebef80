//! The certificates of listeners: judged with the configuration, read again when their files change, warned of before
//! they expire.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use time::OffsetDateTime;
use tokio::time::{Instant, interval_at};

use super::Gateway;
use crate::config::{self, Fault, Faults};
use crate::listener::{Certificate, Certificates, ClientTrust, Unusable, pair_key};
use crate::management::Change;
use crate::telemetry::Expiry;

/// Interval of warnings about certificates that expire soon.
const DAY: Duration = Duration::from_secs(86_400);

/// The TLS of a listener, as its files are now.
pub(super) struct ReadTls {
    pub(super) certificates: Certificates,
    /// What judges the certificates of clients; none asks for none.
    pub(super) clients: Option<ClientTrust>,
}

/// The certificates of a configuration.
pub(super) struct ReadCertificates {
    /// Those of the listeners, in order; none for a listener without TLS.
    pub(super) listeners: Vec<Option<ReadTls>>,
    /// Those of the management listener, if it has TLS.
    pub(super) management: Option<Certificates>,
}

/// The key of the management listener's TLS.
pub(super) const MANAGEMENT_TLS: &str = "management.tls";

/// Reads all certificates.
pub(super) async fn read(config: &config::Config) -> Result<ReadCertificates, Vec<Fault>> {
    let listeners = config.listeners.clone();
    let management = config.management.as_ref();
    let management = management.and_then(|management| management.tls.clone());
    let read = tokio::task::spawn_blocking(move || {
        let (mut certificates, mut faults) = (Vec::new(), Vec::new());
        for (index, listener) in listeners.iter().enumerate() {
            let clients = read_clients(listener, index);
            let read = Certificates::read(&listener.tls, &tls_key(index));
            match (read, clients) {
                (Ok(read), Ok(clients)) => certificates.push(read.map(|certificates| ReadTls {
                    certificates,
                    clients,
                })),
                (read, clients) => {
                    faults.extend(read.err().into_iter().flatten());
                    faults.extend(clients.err());
                }
            }
        }
        let mut own = None;
        if let Some(files) = management {
            match Certificates::read(&config::Tls::Files(vec![files]), MANAGEMENT_TLS) {
                Ok(read) => own = read,
                Err(found) => faults.extend(found),
            }
        }
        if faults.is_empty() {
            Ok(ReadCertificates {
                listeners: certificates,
                management: own,
            })
        } else {
            Err(faults)
        }
    });
    read.await.unwrap_or_else(|error| {
        Err(vec![Fault {
            key: "listeners".into(),
            message: format!("the gateway failed to read certificates: {error}"),
            remedy: "tell the authors of Lockgate, with what the log says".into(),
            is_passing: false,
        }])
    })
}

/// Reads what judges the certificates of a listener's clients.
fn read_clients(listener: &config::Listener, index: usize) -> Result<Option<ClientTrust>, Fault> {
    let key = format!("listeners[{index}].client_certificates");
    let clients = listener.clients.as_ref();
    clients
        .map(|clients| ClientTrust::read(clients, &key))
        .transpose()
}

fn tls_key(listener: usize) -> String {
    format!("listeners[{listener}].tls")
}

/// Whether both files are valid and do not belong together.
pub(super) fn is_unfit(pair: &config::CertificateFiles) -> bool {
    Certificate::read(pair, "").is_err_and(|unusable| unusable.unfit)
}

impl Gateway {
    /// Reads one certificate of a listener again, by its index in the configuration, and serves it if it is another. On
    /// an error the old one stays.
    pub(super) async fn reload_certificate(
        &self,
        listener: usize,
        index: usize,
    ) -> Result<Vec<Change>> {
        let Some(opened) = self.lock().open.get(listener).cloned() else {
            return Ok(Vec::new());
        };
        let (Some(tls), config::Tls::Files(files)) = (&opened.tls, &opened.config.tls) else {
            return Ok(Vec::new());
        };
        let Some(pair) = files.get(index).cloned() else {
            return Ok(Vec::new());
        };
        let key = pair_key(&tls_key(listener), index, files.len());
        let read = tokio::task::spawn_blocking(move || Certificate::read(&pair, &key)).await?;
        let certificate = read.map_err(|Unusable { fault, .. }| Faults(vec![fault]))?;
        let certificates = tls.certificates();
        let certificates = certificates
            .with(index, certificate, &tls_key(listener))
            .map_err(Faults)?;
        let changes = opened.show(certificates);
        if !changes.is_empty() {
            self.note_certificates();
        }
        Ok(changes)
    }

    /// Reads the certificate of the management listener again, as [`Self::reload_certificate`] does.
    pub(super) async fn reload_management_certificate(&self) -> Result<Vec<Change>> {
        let management = self.lock().config.management.clone();
        let Some(files) = management.and_then(|management| management.tls) else {
            return Ok(Vec::new());
        };
        let read = move || Certificates::read(&config::Tls::Files(vec![files]), MANAGEMENT_TLS);
        let read = tokio::task::spawn_blocking(read).await?.map_err(Faults)?;
        let changes = match read {
            Some(certificates) => {
                let state = self.lock();
                let mut open = state.management.iter();
                let opened = open.find(|opened| opened.tls.is_some());
                opened.map_or_else(Vec::new, |opened| opened.show(certificates))
            }
            None => Vec::new(),
        };
        if !changes.is_empty() {
            self.note_certificates();
        }
        Ok(changes)
    }

    /// Reads the authorities and revocation lists of a listener again, by its index in the configuration, and judges new
    /// clients by them if they are others. On an error the old ones stay.
    pub(super) async fn reload_clients(&self, listener: usize) -> Result<Vec<Change>> {
        let Some(opened) = self.lock().open.get(listener).cloned() else {
            return Ok(Vec::new());
        };
        let Some(tls) = &opened.tls else {
            return Ok(Vec::new());
        };
        let config = opened.config.clone();
        let read = tokio::task::spawn_blocking(move || read_clients(&config, listener)).await?;
        let clients = read.map_err(|fault| Faults(vec![fault]))?;
        Ok(opened.trust(tls, clients))
    }

    /// Updates the metrics with the served certificates, and warns of those that expire soon.
    pub(super) fn note_certificates(&self) {
        let served: Vec<_> = {
            let state = self.lock();
            let clients = state.open.iter();
            let clients = clients.map(|opened| (opened.address.clone(), &opened.tls));
            let management = state.management.iter();
            let management = management.map(|opened| (opened.address(), &opened.tls));
            clients
                .chain(management)
                .filter_map(|(address, tls)| Some((address, tls.as_ref()?.certificates())))
                .collect()
        };
        let certificates = served.iter().flat_map(|(address, certificates)| {
            let all = certificates.all().iter();
            all.filter(|certificate| certificate.files.is_some())
                .map(move |certificate| (address, certificate))
        });
        let noted = certificates.clone().map(|(address, certificate)| Expiry {
            listener: address.to_string(),
            name: certificate.name(),
            not_after: certificate.not_after,
        });
        self.metrics.certificates.store(Arc::new(noted.collect()));
        certificates.for_each(|(_, certificate)| certificate.warn());
    }

    /// Gives the digests of the keys of the self-signed certificates that are shown over QUIC.
    pub(crate) fn quic_key_digests(&self) -> Vec<[u8; 32]> {
        let open = self.lock().open.clone();
        let over_quic = open
            .iter()
            .filter(|opened| opened.config.quic == Some(true));
        let shown = over_quic.filter_map(|opened| Some(opened.tls.as_ref()?.certificates()));
        shown
            .flat_map(|certificates| certificates.all().to_vec())
            .filter(|certificate| certificate.files.is_none())
            .filter_map(|certificate| certificate.key_digest())
            .collect()
    }

    /// Warns every day of certificates that expire soon, and makes self-signed ones anew before they do.
    pub(super) async fn watch_expiry(self: Arc<Self>) {
        let mut days = interval_at(Instant::now() + DAY, DAY);
        loop {
            days.tick().await;
            self.renew_self_signed(OffsetDateTime::now_utc().unix_timestamp());
            self.note_certificates();
        }
    }

    fn renew_self_signed(&self, now: i64) {
        let open = self.lock().open.clone();
        for (index, opened) in open.iter().enumerate() {
            let shown = opened.tls.as_ref().map(|tls| tls.certificates());
            let mut all = shown.iter().flat_map(|certificates| certificates.all());
            if !all.any(|certificate| certificate.is_half_over(now)) {
                continue;
            }
            match Certificates::read(&opened.config.tls, &tls_key(index)) {
                Ok(Some(certificates)) => {
                    for change in opened.show(certificates) {
                        tracing::info!("{change}");
                    }
                }
                Ok(None) => {}
                Err(faults) => tracing::warn!("{}", Faults(faults)),
            }
        }
    }
}
