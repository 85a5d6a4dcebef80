//! `lockgate validate`: everything that a start would judge, with no port opened.

use std::io;

use anyhow::Result;

use super::apply::prepare;
use super::certificates;
use super::listeners::bind_fault;
use crate::config::{Address, Config, Fault, Faults};
use crate::handover::find_socket;
use crate::listener::Certificates;
use crate::plugin::{Cause, Plugins};

/// Loads and compiles everything a configuration names, and opens no port. What does not load is [`Faults`].
pub(crate) async fn check(config: &Config) -> Result<()> {
    let plugins = Plugins::start_to_try(config.compile_cache.clone())?;
    plugins.warn_of_instances(&config.plugins);
    config.warn();
    let (_, mut faults) = prepare(&plugins, config, Cause::Check).await;
    match certificates::read(&config.listeners).await {
        Ok(read) => read
            .iter()
            .flatten()
            .flat_map(Certificates::all)
            .for_each(|certificate| certificate.warn()),
        Err(found) => faults.extend(found),
    }
    faults.extend(taken(config));
    if faults.is_empty() {
        Ok(())
    } else {
        Err(Faults(faults).into())
    }
}

/// The paths of sockets at which there is something else. Who else listens there is for the start to say: it may be the
/// gateway that is to be told of this configuration.
fn taken(config: &Config) -> Vec<Fault> {
    let mut faults = Vec::new();
    let listeners = config.listeners.iter().enumerate();
    let listeners = listeners
        .map(|(index, listener)| (format!("listeners[{index}].address"), &listener.address));
    let management = config.management.as_ref();
    let management = management.map(|address| ("management.address".to_owned(), address));
    let health = config.health.as_ref();
    let health = health.map(|health| ("health.address".to_owned(), &health.address));
    for (key, address) in listeners.chain(management).chain(health) {
        let Address::Unix { path, .. } = address else {
            continue;
        };
        match find_socket(path) {
            // Whoever checks may be another than who serves.
            Err(error) if error.kind() != io::ErrorKind::PermissionDenied => {
                faults.extend(bind_fault(key, address, &error).0);
            }
            Ok(_) | Err(_) => {}
        }
    }
    faults
}
