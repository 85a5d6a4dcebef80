//! The management and health listeners. A reload opens, closes and changes them.

use std::io;
use std::sync::{Arc, Weak};

use anyhow::Result;
use tokio_util::sync::CancellationToken;

use super::Gateway;
use super::listeners::bind_fault;
use crate::config::{Address, Config, Fault, Faults};
use crate::handover::Listening;
use crate::listener::{Certificates, Tls};
use crate::management::{Change, Management, ManagementSpec, Note, Purpose, TlsHandshake};
use crate::net::{BoxedStream, Stream};

/// An open listener.
pub(super) struct OpenManagement {
    spec: ManagementSpec,
    /// The bound address: `spec` may have port 0.
    address: Address,
    socket: Weak<Listening>,
    pub(super) tls: Option<Arc<Tls>>,
    stop: CancellationToken,
}

/// A listener to open, with its TLS.
pub(super) struct PlannedManagement {
    bound: Management,
    tls: Option<Arc<Tls>>,
}

impl OpenManagement {
    pub(super) fn address(&self) -> Address {
        self.address.clone()
    }

    /// Shows this certificate to new connections. Gives a change if it is another.
    pub(super) fn show(&self, certificates: Certificates) -> Vec<Change> {
        let changed = self.tls.as_ref().map(|tls| tls.replace(certificates));
        let changed = changed.into_iter().flatten();
        changed
            .map(|certificate| Change::Certificate {
                listener: format!("{} {}", self.spec.purpose(), self.address),
                certificate: certificate.to_string(),
            })
            .collect()
    }

    /// Whether the socket is closed, or its file gone, so that nobody can connect.
    fn is_lost(&self) -> bool {
        let socket = self.socket.upgrade();
        socket.is_none_or(|socket| socket.socket.is_lost())
    }
}

impl Gateway {
    /// Reports addresses that cannot be bound, as [`Gateway::check_addresses`] does.
    pub(super) fn check_management(&self, config: &Config) -> Result<()> {
        for (spec, socket) in self.not_open(config) {
            if socket.is_none() {
                Management::check(&spec, &self.sockets)
                    .map_err(|error| bind_fault(spec.key().into(), &spec.address, &error))?;
            }
        }
        Ok(())
    }

    /// Binds new listeners. A listener with other pages, tokens or TLS keeps its socket. `certificates` are those of the
    /// management listener.
    pub(super) fn plan_management(
        &self,
        config: &Config,
        certificates: Option<&Certificates>,
    ) -> Result<Vec<PlannedManagement>> {
        let mut planned = Vec::new();
        for (spec, socket) in self.not_open(config) {
            spec.check_audit().map_err(|error| audit_fault(&error))?;
            let tls = match certificates {
                Some(certificates) if spec.tls.is_some() => {
                    Some(Arc::new(Tls::new(certificates.clone(), None, false)?))
                }
                Some(_) | None => None,
            };
            let bound = match socket {
                Some(socket) => Management::on(socket, spec)?,
                None => Management::bind(spec.clone(), &self.sockets)
                    .map_err(|error| bind_fault(spec.key().into(), &spec.address, &error))?,
            };
            planned.push(PlannedManagement { bound, tls });
        }
        Ok(planned)
    }

    /// Lists specs that are not open yet, each with the socket of a closing listener at the same address.
    fn not_open(&self, config: &Config) -> Vec<(ManagementSpec, Option<Arc<Listening>>)> {
        let state = self.lock();
        let open = state.management.iter().filter(|opened| !opened.is_lost());
        let is_open = |spec: &ManagementSpec| open.clone().any(|opened| opened.spec == *spec);
        let closing = |opened: &&OpenManagement| specs(config).all(|spec| spec != opened.spec);
        specs(config)
            .filter(|spec| !is_open(spec))
            .map(|spec| {
                let mut closing = open.clone().filter(closing);
                let same = closing.find(|opened| opened.spec.address.is_at(&spec.address));
                (spec, same.and_then(|opened| opened.socket.upgrade()))
            })
            .collect()
    }

    /// Makes the note that tells commands where to ask.
    pub(super) fn note(&self) -> Note {
        let state = self.lock();
        let bound = |purpose| {
            let mut open = state.management.iter();
            let opened = open.find(|opened| opened.spec.purpose() == purpose)?;
            Some(match &opened.address {
                Address::Ip(address) => address.to_string(),
                Address::Unix { path, mode } => {
                    let path = std::path::absolute(path).ok()?;
                    Address::Unix { path, mode: *mode }.to_string()
                }
            })
        };
        Note {
            process: std::process::id(),
            has_tls: state.management.iter().any(|opened| opened.tls.is_some()),
            management: bound(Purpose::Management),
            health: bound(Purpose::Health),
        }
    }

    /// Opens, keeps and closes listeners as planned.
    pub(super) fn serve_management(
        &self,
        (planned, certificates): (Vec<PlannedManagement>, Option<Certificates>),
        config: &Config,
        changes: &mut Vec<Change>,
    ) {
        let mut state = self.lock();
        let kept: Vec<_> = specs(config).collect();
        state.management.retain(|opened| {
            let keep = kept.contains(&opened.spec) && !opened.is_lost();
            if !keep {
                opened.stop.cancel();
                let purpose = opened.spec.purpose();
                changes.push(Change::ManagementClosed(purpose, opened.address()));
            }
            keep
        });
        if let Some(certificates) = certificates
            && let Some(kept) = state.management.iter().find(|opened| opened.tls.is_some())
        {
            changes.extend(kept.show(certificates));
        }
        for PlannedManagement { bound, tls } in planned {
            let (spec, address) = (bound.spec.clone(), bound.address.clone());
            let purpose = spec.purpose();
            match address {
                Address::Ip(_) if tls.is_some() => {
                    tracing::info!("{purpose} listening on https://{address}");
                }
                Address::Ip(_) => tracing::info!("{purpose} listening on http://{address}"),
                Address::Unix { .. } => tracing::info!("{purpose} listening on http+{address}"),
            }
            if let Some(socket) = bound.socket().upgrade()
                && let Err(error) = socket.socket.set_mode(&spec.address)
            {
                tracing::warn!("the permissions of {purpose} {address} were not changed: {error}");
            }
            changes.push(Change::ManagementOpened(purpose, address.clone()));
            let stop = self.stop_management.child_token();
            state.management.push(OpenManagement {
                spec,
                address,
                socket: bound.socket(),
                tls: tls.clone(),
                stop: stop.clone(),
            });
            let tls = tls.map(handshake);
            bound.serve(self.control.clone(), tls, stop, &self.listeners.tasks);
        }
    }
}

/// Makes the fault of an audit file that cannot be written.
fn audit_fault(error: &io::Error) -> Faults {
    Faults(vec![Fault {
        key: "management.audit".to_owned(),
        message: format!("the audit file cannot be written: {error}"),
        remedy: "name a file in a folder that the gateway may write to; StateDirectory= of systemd makes one".to_owned(),
        is_passing: true,
    }])
}

/// The handshake of a listener's TLS, for the module below that accepts.
fn handshake(tls: Arc<Tls>) -> TlsHandshake {
    Arc::new(move |stream: Stream| {
        let tls = Arc::clone(&tls);
        Box::pin(async move {
            let secured = tls.accept(stream).await?;
            io::Result::Ok(Box::new(secured.stream) as BoxedStream)
        })
    })
}

/// Lists the listeners that a configuration names.
pub(super) fn specs(config: &Config) -> impl Iterator<Item = ManagementSpec> {
    let management = config.management.clone().map(ManagementSpec::management);
    let health = config.health.clone().map(ManagementSpec::health);
    management.into_iter().chain(health)
}
