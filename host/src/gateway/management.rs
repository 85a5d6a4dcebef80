//! The management and health listeners. A reload opens, closes and changes them.

use std::sync::{Arc, Weak};

use anyhow::Result;
use tokio_util::sync::CancellationToken;

use super::Gateway;
use super::listeners::bind_fault;
use crate::config::{Address, Config};
use crate::handover::Listening;
use crate::management::{Change, Management, ManagementSpec, Note, Purpose};

/// An open listener.
pub(super) struct OpenManagement {
    spec: ManagementSpec,
    /// The bound address: `spec` may have port 0.
    address: Address,
    socket: Weak<Listening>,
    stop: CancellationToken,
}

impl OpenManagement {
    pub(super) fn address(&self) -> Address {
        self.address.clone()
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

    /// Binds new listeners. A listener with other pages keeps its socket.
    pub(super) fn plan_management(&self, config: &Config) -> Result<Vec<Management>> {
        let mut planned = Vec::new();
        for (spec, socket) in self.not_open(config) {
            planned.push(match socket {
                Some(socket) => Management::on(socket, spec)?,
                None => Management::bind(spec.clone(), &self.sockets)
                    .map_err(|error| bind_fault(spec.key().into(), &spec.address, &error))?,
            });
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
            management: bound(Purpose::Management),
            health: bound(Purpose::Health),
        }
    }

    /// Opens, keeps and closes listeners as planned.
    pub(super) fn serve_management(
        &self,
        planned: Vec<Management>,
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
        for bound in planned {
            let (spec, address) = (bound.spec.clone(), bound.address.clone());
            let purpose = spec.purpose();
            match address {
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
                stop: stop.clone(),
            });
            bound.serve(self.control.clone(), stop, &self.listeners.tasks);
        }
    }
}

/// Lists the listeners that a configuration names.
pub(super) fn specs(config: &Config) -> impl Iterator<Item = ManagementSpec> {
    let management = config.management.clone().map(ManagementSpec::management);
    let health = config.health.clone().map(ManagementSpec::health);
    management.into_iter().chain(health)
}
