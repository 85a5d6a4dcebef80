//! The listeners that are not for clients: management and health. A reload opens, closes and changes them.

use std::sync::{Arc, Weak};

use anyhow::Result;
use tokio_util::sync::CancellationToken;

use super::Gateway;
use super::listeners::bind_fault;
use crate::config::{Address, Config};
use crate::handover::Listening;
use crate::management::{Change, Management, Note, Purpose, Wanted};

/// One that is open.
pub(super) struct OpenManagement {
    wanted: Wanted,
    /// Where it is bound.
    address: Address,
    socket: Weak<Listening>,
    stop: CancellationToken,
}

impl OpenManagement {
    pub(super) fn address(&self) -> Address {
        self.address.clone()
    }

    /// Nobody can connect any more.
    fn is_lost(&self) -> bool {
        let socket = self.socket.upgrade();
        socket.is_none_or(|socket| socket.socket.is_lost())
    }
}

impl Gateway {
    /// Binds what is new. One that is to show other pages keeps its socket.
    pub(super) fn plan_management(&self, config: &Config) -> Result<Vec<Management>> {
        let mut planned = Vec::new();
        for (wanted, socket) in self.missing(config) {
            planned.push(match socket {
                Some(socket) => Management::on(socket, wanted)?,
                None => Management::bind(wanted.clone(), &self.sockets)
                    .map_err(|error| bind_fault(wanted.key().into(), &wanted.address, &error))?,
            });
        }
        Ok(planned)
    }

    /// What is not open yet, with the socket of one that goes and has the same address.
    fn missing(&self, config: &Config) -> Vec<(Wanted, Option<Arc<Listening>>)> {
        let state = self.lock();
        let open = state.management.iter().filter(|opened| !opened.is_lost());
        let is_open = |wanted: &Wanted| open.clone().any(|opened| opened.wanted == *wanted);
        let going = |opened: &&OpenManagement| wanted(config).all(|wanted| wanted != opened.wanted);
        wanted(config)
            .filter(|wanted| !is_open(wanted))
            .map(|wanted| {
                let mut going = open.clone().filter(going);
                let same = going.find(|opened| opened.wanted.address.is_at(&wanted.address));
                (wanted, same.and_then(|opened| opened.socket.upgrade()))
            })
            .collect()
    }

    /// Where it is asked.
    pub(super) fn note(&self) -> Note {
        let state = self.lock();
        let bound = |purpose| {
            let mut open = state.management.iter();
            let opened = open.find(|opened| opened.wanted.purpose() == purpose)?;
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

    pub(super) fn serve_management(
        &self,
        planned: Vec<Management>,
        config: &Config,
        changes: &mut Vec<Change>,
    ) {
        let mut state = self.lock();
        let kept: Vec<_> = wanted(config).collect();
        state.management.retain(|opened| {
            let keep = kept.contains(&opened.wanted) && !opened.is_lost();
            if !keep {
                opened.stop.cancel();
                let purpose = opened.wanted.purpose();
                changes.push(Change::ManagementClosed(purpose, opened.address()));
            }
            keep
        });
        for bound in planned {
            let (wanted, address) = (bound.wanted.clone(), bound.address.clone());
            let purpose = wanted.purpose();
            match address {
                Address::Ip(_) => tracing::info!("{purpose} listening on http://{address}"),
                Address::Unix { .. } => tracing::info!("{purpose} listening on http+{address}"),
            }
            if let Some(socket) = bound.socket().upgrade()
                && let Err(error) = socket.socket.set_mode(&wanted.address)
            {
                tracing::warn!("the permissions of {purpose} {address} were not changed: {error}");
            }
            changes.push(Change::ManagementOpened(purpose, address.clone()));
            let stop = self.stop_management.child_token();
            state.management.push(OpenManagement {
                wanted,
                address,
                socket: bound.socket(),
                stop: stop.clone(),
            });
            bound.serve(self.control.clone(), stop, &self.listeners.tasks);
        }
    }
}

/// What a configuration asks for.
fn wanted(config: &Config) -> impl Iterator<Item = Wanted> {
    let management = config.management.clone().map(Wanted::management);
    let health = config.health.clone().map(Wanted::health);
    management.into_iter().chain(health)
}
