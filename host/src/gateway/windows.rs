//! The listeners that are not for clients: management and health. A reload opens, closes and changes them.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use anyhow::Result;
use tokio_util::sync::CancellationToken;

use super::Gateway;
use super::apply::bind_fault;
use crate::config::{Address, Config};
use crate::management::{Desk, Management, Note, Wanted};

/// One that is open.
pub(super) struct Window {
    wanted: Wanted,
    /// Where it is bound.
    address: SocketAddr,
    socket: Weak<OwnedFd>,
    stop: CancellationToken,
}

impl Window {
    pub(super) fn address(&self) -> Address {
        self.address.into()
    }
}

impl Gateway {
    /// Binds what is new. One that is to show other pages keeps its socket.
    pub(super) fn plan_management(&self, config: &Config) -> Result<Vec<Management>> {
        let mut planned = Vec::new();
        for (wanted, socket) in self.missing(config) {
            planned.push(match socket {
                Some(socket) => Management::on(socket, wanted)?,
                None => Management::bind(wanted, &self.sockets).map_err(|error| {
                    bind_fault(wanted.key().into(), &wanted.address.into(), &error)
                })?,
            });
        }
        Ok(planned)
    }

    /// What is not open yet, with the socket of one that goes and has the same address.
    fn missing(&self, config: &Config) -> Vec<(Wanted, Option<Arc<OwnedFd>>)> {
        let open = &self.lock().management;
        let is_open = |wanted: &Wanted| open.iter().any(|window| window.wanted == *wanted);
        let going = |window: &&Window| wanted(config).all(|wanted| wanted != window.wanted);
        wanted(config)
            .filter(|wanted| !is_open(wanted))
            .map(|wanted| {
                let mut going = open.iter().filter(going);
                let same = going.find(|window| window.wanted.address == wanted.address);
                (wanted, same.and_then(|window| window.socket.upgrade()))
            })
            .collect()
    }

    /// Where it is asked.
    pub(super) fn note(&self) -> Note {
        let state = self.lock();
        let bound = |name| {
            let mut open = state.management.iter();
            let window = open.find(|window| window.wanted.name() == name)?;
            Some(window.address.to_string())
        };
        Note {
            process: std::process::id(),
            management: bound("management"),
            health: bound("health"),
        }
    }

    pub(super) fn serve_management(
        &self,
        planned: Vec<Management>,
        config: &Config,
        said: &mut Vec<String>,
    ) {
        let mut state = self.lock();
        let kept: Vec<_> = wanted(config).collect();
        state.management.retain(|window| {
            let keep = kept.contains(&window.wanted);
            if !keep {
                window.stop.cancel();
                let name = window.wanted.name();
                said.push(format!("{name} {}: closed", window.address));
            }
            keep
        });
        for bound in planned {
            let (wanted, address) = (bound.wanted, bound.address);
            let name = wanted.name();
            tracing::info!("{name} listening on http://{address}");
            said.push(format!("{name} {address}: opened"));
            let stop = self.stop_management.child_token();
            state.management.push(Window {
                wanted,
                address,
                socket: bound.socket(),
                stop: stop.clone(),
            });
            let desk = Desk {
                file: self.origin.file().map(Arc::from),
                metrics: Arc::clone(&self.metrics),
                reloads: self.reloads.clone(),
                upgrades: self.upgrades.clone(),
            };
            bound.serve(desk, stop, &self.doors.tasks);
        }
    }
}

/// What a configuration asks for.
fn wanted(config: &Config) -> impl Iterator<Item = Wanted> {
    let management = config.management.map(Wanted::management);
    let health = config.health.map(Wanted::health);
    management.into_iter().chain(health)
}
