//! `lockgate validate`: the checks of a start, with no port opened.

use std::io;

use anyhow::Result;

use super::apply::prepare;
use super::certificates;
use super::listeners::bind_fault;
use crate::authorizer;
use crate::config::{Address, Config, Fault, Faults};
use crate::handover::find_socket;
use crate::listener::Certificates;
use crate::otlp;
use crate::plugin::{Cause, Plugins};

/// Loads and compiles everything that a configuration names, and opens no port. Failures are [`Faults`].
pub(crate) async fn check(config: &Config) -> Result<()> {
    let plugins = Plugins::start_to_try(config.compile_cache.clone())?;
    plugins.warn_of_instances(&config.plugins);
    config.warn();
    authorizer::warn(&config.authorizers);
    let (_, mut faults) = prepare(&plugins, config, Cause::Check).await;
    match certificates::read(config).await {
        Ok(read) => {
            let listeners = read.listeners.iter().flatten();
            let listeners = listeners.map(|tls| &tls.certificates);
            listeners
                .chain(&read.management)
                .flat_map(Certificates::all)
                .for_each(|certificate| certificate.warn());
        }
        Err(found) => faults.extend(found),
    }
    faults.extend(
        authorizer::prepare(&config.authorizers)
            .err()
            .into_iter()
            .flatten(),
    );
    faults.extend(otlp::check(config.otlp.as_ref()));
    faults.extend(blocked_paths(config));
    if faults.is_empty() {
        Ok(())
    } else {
        Err(Faults(faults).into())
    }
}

/// Finds socket paths that hold something else. A socket in use is no fault here: its listener may be the gateway that
/// this configuration is for, and only a start can tell.
fn blocked_paths(config: &Config) -> Vec<Fault> {
    let mut faults = Vec::new();
    let listeners = config.listeners.iter().enumerate();
    let listeners = listeners
        .map(|(index, listener)| (format!("listeners[{index}].address"), &listener.address));
    let management = config.management.as_ref();
    let management =
        management.map(|management| ("management.address".to_owned(), &management.address));
    let health = config.health.as_ref();
    let health = health.map(|health| ("health.address".to_owned(), &health.address));
    for (key, address) in listeners.chain(management).chain(health) {
        let Address::Unix { path, .. } = address else {
            continue;
        };
        match find_socket(path) {
            // The user who runs the check may have fewer rights than the gateway's.
            Err(error) if error.kind() != io::ErrorKind::PermissionDenied => {
                faults.extend(bind_fault(key, address, &error).0);
            }
            Ok(_) | Err(_) => {}
        }
    }
    faults
}
