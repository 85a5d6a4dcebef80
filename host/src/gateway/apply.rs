//! Applies a configuration: every step that can fail first, then every change.

use std::sync::Arc;

use anyhow::Result;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::{Gateway, certificates, management, stages};
use crate::access_log;
use crate::authorizer;
use crate::config::{Config, Fault, Faults};
use crate::management::Change;
use crate::otlp;
use crate::plugin::{ByName, Cause, Plugins, Ready};
use crate::stage::CurrentStage;
use crate::telemetry;

/// File descriptors kept back from clients: for listeners, logs, the engine, a reload and the process that compiles.
/// Management and health have theirs beside.
const RESERVED_FILES: u64 = 128;

impl Gateway {
    /// Serves another configuration and gives the changes. On an error the old one keeps serving.
    ///
    /// Once this returns, no invocation starts on a replaced version.
    pub(super) async fn apply(
        self: &Arc<Self>,
        config: Config,
        cause: Cause,
    ) -> Result<Vec<Change>> {
        let read = certificates::read(&config).await.map_err(Faults)?;
        let (certificates, own) = (read.listeners, read.management);
        let authorizers = authorizer::prepare(&config.authorizers).map_err(Faults)?;
        self.check_addresses(&config)?;
        self.plugins.warn_of_instances(&config.plugins);
        config.warn();
        let (ready, faults) = prepare(&self.plugins, &config, cause).await;
        if !faults.is_empty() {
            return Err(Faults(faults).into());
        }
        let held = self.plugins.hold(ready).await;
        let held = held.map_err(|fault| Faults(vec![fault]))?;
        // Sockets listen last of all that can fail: clients who connect to them are served at once.
        let planned = self.plan(&config, certificates)?;
        let management = self.plan_management(&config, own.as_ref())?;
        let access_log = access_log::open(&config.access_log);
        let access_log = access_log.map_err(|fault| Faults(vec![fault]))?;
        let otlp = otlp::open(config.otlp.as_ref()).map_err(|fault| Faults(vec![fault]))?;
        let mut gone = Vec::new();
        let keep = |name: &str| config.plugins.iter().any(|plugin| plugin.name == name);
        let committed = held.commit(keep, |plugins| {
            gone = self.install(&config, plugins, &authorizers)
        });
        let mut changes = committed.changes.into_iter().map(Change::from).collect();
        stages::changes(&self.lock().config, &config, &mut changes);
        self.set_limits(&config, &mut changes);
        access_log.serve();
        otlp.serve();
        self.serve_management((management, own), &config, &mut changes);
        self.serve_listeners(planned, &config.listeners, &mut changes);
        self.sockets.mark_serving();
        self.sockets.warn_of_idle(self.open_addresses());
        self.note_certificates();
        // The hashes of the tokens are with the listener; nothing else needs them.
        let mut config = config;
        if let Some(management) = &mut config.management {
            management.tokens.clear();
        }
        self.lock().config = config;
        for retired in committed.retired {
            retired.end().await;
        }
        self.close_removed(gone, committed.removed);
        Ok(changes)
    }

    /// Puts a new snapshot into every stage. Gives the removed stages.
    pub(super) fn install(
        &self,
        config: &Config,
        plugins: &ByName,
        authorizers: &authorizer::Prepared,
    ) -> Vec<Arc<CurrentStage>> {
        let mut state = self.lock();
        let (stages, gone) = stages::install(
            config,
            plugins,
            authorizers,
            &self.handshakes.counters,
            &mut state.stages,
        );
        self.handshakes.stages.store(Arc::new(stages));
        gone
    }

    fn set_limits(&self, config: &Config, changes: &mut Vec<Change>) {
        let before = self.lock().config.clone();
        let admission = &self.handshakes.admission;
        let changed = admission
            .load()
            .changed(connection_limit(config), &config.limits);
        admission.store(Arc::new(changed));
        let limit = config.limits.handshakes as usize;
        self.handshakes.permits.set_limit(limit);
        self.handshakes.waiting.set_limit(limit.div_ceil(2));
        self.plugins.limit_handshakes(limit.div_ceil(2));
        let timeout = Arc::new(config.limits.handshake_timeout);
        self.listeners.handshake_timeout.store(timeout);
        if before.limits != config.limits {
            changes.push(Change::Limits);
        }
        if before.access_keys != config.access_keys {
            changes.push(Change::AccessKeys);
        }
        if before.log != config.log {
            telemetry::change(&config.log);
            changes.push(Change::Log);
        }
        if before.access_log != config.access_log {
            changes.push(Change::AccessLog);
        }
        if before.otlp != config.otlp {
            changes.push(Change::Otlp);
        }
        if before.compile_cache != config.compile_cache {
            changes.push(Change::CompileCache);
        }
    }
}

pub(super) async fn prepare(
    plugins: &Plugins,
    config: &Config,
    cause: Cause,
) -> (Vec<Ready>, Vec<Fault>) {
    let (mut ready, mut faults) = (Vec::new(), Vec::new());
    for plugin in &config.plugins {
        let started = Instant::now();
        match plugins.prepare(plugin, cause).await {
            Ok(Ready::Same) => {}
            Ok(read @ Ready::Read(_)) => ready.push(read),
            Ok(prepared) => {
                let load_ms = started.elapsed().as_millis() as u64;
                tracing::info!(plugin = plugin.name, load_ms, "loaded");
                ready.push(prepared);
            }
            Err(fault) => faults.push(fault),
        }
    }
    let authorizers = config.authorizers.clone();
    let checked = spawn_blocking(move || authorizer::check(&authorizers)).await;
    faults.extend(checked.unwrap_or_default());
    (ready, faults)
}

/// Gives the limit of connections: the configured one, capped by the files that the process may open.
fn connection_limit(config: &Config) -> usize {
    let files = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1_024);
    let others = management::specs(config).map(|spec| spec.max_connections() as u64);
    let reserved = RESERVED_FILES + others.sum::<u64>();
    let possible = files.saturating_sub(reserved).max(1);
    if files < 2 * reserved {
        tracing::warn!(
            files,
            reserved,
            "the process may open few files, of which clients get {possible}; raise `ulimit -n`"
        );
    }
    let wanted = config.limits.connections.map_or(possible, u64::from);
    if wanted > possible {
        tracing::warn!(
            wanted,
            possible,
            "limits.connections is more than the process may open files; raise `ulimit -n`"
        );
    }
    usize::try_from(wanted.min(possible)).unwrap_or(usize::MAX)
}
