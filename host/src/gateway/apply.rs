//! From one configuration to another: all that can fail first, and only then all that changes.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;

use super::{Gateway, Window, certificates, stages};
use crate::config::{self, Address, Config, Fault, Faults};
use crate::connections::Closing;
use crate::handover::{HeldBySystemd, HeldByUs, find_socket, out_of_files};
use crate::listener::{Certificates, Listener, Socket, Tls};
use crate::plugin::{ByName, Plugin, Plugins, Ready};
use crate::route::Selection;
use crate::stage::CurrentStage;
use crate::telemetry;

/// File descriptors that are not a client's: listeners, logs, the engine.
const OTHER_FILES: u64 = 128;

/// How often a stage that is there no more is looked at until its last connection has ended.
const LOOK: Duration = Duration::from_millis(100);

/// A listener that accepts.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) config: config::Listener,
    pub(super) address: Address,
    scheme: &'static str,
    socket: Socket,
    pub(super) tls: Option<Arc<Tls>>,
    stop: CancellationToken,
    pub(super) closing: CancellationToken,
}

/// What becomes of one listener of a configuration.
enum Planned {
    /// With its certificates as their files are now.
    Kept(Door, Option<Certificates>),
    New(config::Listener, Listener),
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Address::Ip(address) => write!(f, "{}://{address}", self.scheme),
            Address::Unix { .. } => write!(f, "{}+{}", self.scheme, self.address),
        }
    }
}

impl Door {
    /// Shows these certificates to new connections; says which of them are new.
    pub(super) fn show(&self, certificates: Certificates) -> Vec<String> {
        let changed = self.tls.as_ref().map(|tls| tls.replace(certificates));
        let changed = changed.into_iter().flatten();
        changed
            .map(|certificate| {
                format!("listener {self}: serving the changed certificate {certificate}")
            })
            .collect()
    }
}

/// Loads and compiles everything a configuration names, and opens no port. What does not load is [`Faults`].
pub(crate) async fn check(config: &Config) -> Result<()> {
    let plugins = Plugins::start_to_try(config.compile_cache.clone())?;
    plugins.warn_of_instances(&config.plugins);
    let (_, mut faults) = prepare(&plugins, config, "check").await;
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

/// An address cannot be listened on.
pub(super) fn bind_fault(key: String, address: &Address, error: &io::Error) -> Faults {
    let is = |kind| error.kind() == kind;
    let remedy = if out_of_files(error) {
        "raise the number of files that the process may open: `ulimit -n`, or LimitNOFILE= of systemd"
            .into()
    } else if let Address::Unix { path, .. } = address {
        if held_by::<HeldByUs>(error).is_some() {
            "take that one out with one reload and write this one with the next, or write another path".into()
        } else if is(io::ErrorKind::AddrInUse) {
            "stop who listens there (`ss -lxp` tells), or write another path".into()
        } else if is(io::ErrorKind::AlreadyExists) {
            "remove it if nobody needs it, or write another path".into()
        } else {
            let folder = path.parent().unwrap_or(path).display();
            format!(
                "make {folder} a folder that the gateway may write to; RuntimeDirectory= of systemd makes one"
            )
        }
    } else if let Some(HeldBySystemd(held)) = held_by(error) {
        format!(
            "write address = \"{held}\", or write ListenStream={address} in its socket unit and restart both units"
        )
    } else if is(io::ErrorKind::AddrInUse) {
        format!(
            "stop who listens there (`ss -ltnp 'sport = :{}'` tells), or write another port",
            address.ip().map_or(0, |address| address.port())
        )
    } else if is(io::ErrorKind::PermissionDenied) {
        "write a port from 1024 on, or allow the process lower ones: CAP_NET_BIND_SERVICE".into()
    } else if is(io::ErrorKind::AddrNotAvailable) {
        "write an address of this machine (`ip address` lists them), or 0.0.0.0 for all".into()
    } else {
        "correct the address".into()
    };
    Faults(vec![Fault {
        key,
        message: format!("cannot listen on {address}: {error}"),
        remedy,
    }])
}

/// Who holds an address, if it is one whom we know.
fn held_by<E: std::error::Error + 'static>(error: &io::Error) -> Option<&E> {
    error.get_ref()?.downcast_ref()
}

async fn prepare(
    plugins: &Plugins,
    config: &Config,
    came: &'static str,
) -> (Vec<Ready>, Vec<Fault>) {
    let (mut ready, mut faults) = (Vec::new(), Vec::new());
    for plugin in &config.plugins {
        let started = Instant::now();
        match plugins.prepare(plugin, came).await {
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
    (ready, faults)
}

impl Gateway {
    /// Serves another configuration, or on an error goes on with the one it had. Gives what has changed.
    ///
    /// Once this returns no invocation starts on what was replaced.
    pub(super) async fn apply(
        self: &Arc<Self>,
        config: Config,
        came: &'static str,
    ) -> Result<Vec<String>> {
        let planned = self.plan(&config).await?;
        let management = self.plan_management(&config)?;
        self.plugins.warn_of_instances(&config.plugins);
        let mut ready = self.prepared(&config, came).await?;
        let (committed, gone) = loop {
            let mut gone = Vec::new();
            let keep = |name: &str| config.plugins.iter().any(|plugin| plugin.name == name);
            let install = |plugins: &_| gone = self.install(&config.apis, plugins);
            match self.plugins.commit(ready, keep, install).await {
                Ok(committed) => break (committed, gone),
                // A rollback came in between: what is prepared for has changed.
                Err(_) => ready = self.prepared(&config, came).await?,
            }
        };
        let mut said = committed.said;
        say_stages(&self.lock().config.apis, &config.apis, &mut said);
        self.set_limits(&config, &mut said);
        self.serve_management(management, &config, &mut said);
        self.serve_listeners(planned, &config.listeners, &mut said);
        self.sockets.settle();
        self.sockets.warn_of_idle(self.open());
        self.note_certificates();
        if came == "start" {
            let max_connections = connection_limit(&config.limits);
            tracing::info!(max_connections, "ready");
        }
        self.lock().config = config;
        for retired in committed.retired {
            retired.end().await;
        }
        self.dismiss(gone, committed.removed);
        Ok(said)
    }

    /// Puts a new snapshot into every stage; gives the stages that are there no more.
    pub(super) fn install(&self, apis: &[config::Api], plugins: &ByName) -> Vec<Arc<CurrentStage>> {
        let mut state = self.lock();
        let (stages, gone) = stages::install(apis, plugins, &mut state.stages);
        self.entrance.stages.store(Arc::new(stages));
        gone
    }

    async fn prepared(&self, config: &Config, came: &'static str) -> Result<Vec<Ready>> {
        let (ready, faults) = prepare(&self.plugins, config, came).await;
        if faults.is_empty() {
            Ok(ready)
        } else {
            Err(Faults(faults).into())
        }
    }

    /// Binds what is new. A listener that is as it was keeps its socket, and shows the certificates that its files hold
    /// now; one whose TLS is changed keeps its socket.
    async fn plan(&self, config: &Config) -> Result<Vec<Planned>> {
        let mut open = self.lock().open.clone();
        open.retain(|door| !door.socket.socket.is_lost());
        let mut planned = Vec::new();
        let certificates = certificates::read(&config.listeners)
            .await
            .map_err(Faults)?;
        for (index, (listener, certificates)) in
            config.listeners.iter().zip(certificates).enumerate()
        {
            if let Some(kept) = open.iter().position(|door| door.config == *listener) {
                planned.push(Planned::Kept(open.swap_remove(kept), certificates));
                continue;
            }
            let tls = match certificates {
                Some(certificates) => Some(Arc::new(Tls::new(certificates, listener.http2)?)),
                None => None,
            };
            let same = open
                .iter()
                .find(|door| door.address.is_at(&listener.address))
                .map(|door| Arc::clone(&door.socket));
            let bound = match same {
                Some(socket) => {
                    Listener::on(socket, &listener.address, tls, listener.proxies.clone())?
                }
                None => Listener::bind(
                    &listener.address,
                    tls,
                    listener.proxies.clone(),
                    &self.sockets,
                )
                .map_err(|error| {
                    bind_fault(
                        format!("listeners[{index}].address"),
                        &listener.address,
                        &error,
                    )
                })?,
            };
            planned.push(Planned::New(listener.clone(), bound));
        }
        Ok(planned)
    }

    fn set_limits(&self, config: &Config, said: &mut Vec<String>) {
        let before = self.lock().config.clone();
        let admission = &self.entrance.admission;
        let changed = admission
            .load()
            .changed(connection_limit(&config.limits), &config.limits);
        admission.store(Arc::new(changed));
        self.entrance
            .handshakes
            .set_limit(config.limits.handshakes as usize);
        let timeout = Arc::new(config.limits.handshake_timeout);
        self.doors.handshake_timeout.store(timeout);
        if before.limits != config.limits {
            said.push("limits: changed".into());
        }
        if before.log != config.log {
            telemetry::change(&config.log);
            said.push("log: changed".into());
        }
        if before.compile_cache != config.compile_cache {
            said.push("compile_cache: as before until the next start, since compiled code is the engine's".into());
        }
    }

    fn serve_listeners(
        &self,
        planned: Vec<Planned>,
        wanted: &[config::Listener],
        said: &mut Vec<String>,
    ) {
        let mut state = self.lock();
        let before = std::mem::take(&mut state.open);
        let mut open = Vec::new();
        for planned in planned {
            let (config, listener) = match planned {
                Planned::Kept(door, certificates) => {
                    // One that was made at start stays.
                    if let (Some(certificates), config::Tls::Files(_)) =
                        (certificates, &door.config.tls)
                    {
                        said.extend(door.show(certificates));
                    }
                    open.push(door);
                    continue;
                }
                Planned::New(config, listener) => (config, listener),
            };
            let door = Door {
                config,
                address: listener.address.clone(),
                scheme: listener.scheme(),
                socket: listener.socket(),
                tls: listener.tls(),
                stop: self.doors.stop.child_token(),
                closing: CancellationToken::new(),
            };
            open.push(door.clone());
            tracing::info!("listening on {door}");
            if let Err(error) = door.socket.socket.set_mode(&door.config.address) {
                tracing::warn!("the permissions of {door} are as they were: {error}");
            }
            say_ipv6_only(&door.address, wanted);
            said.push(format!("listener {door}: opened"));
            let mut doors = self.doors.clone();
            (doors.stop, doors.closing) = (door.stop, door.closing);
            listener.serve(&doors);
        }
        for door in before {
            let kept = |other: &Door| Arc::ptr_eq(&other.socket, &door.socket);
            let same = |other: &&Door| kept(other) && other.config == door.config;
            if !open.iter().any(|other| same(&other)) {
                if !open.iter().any(kept) {
                    door.closing.cancel();
                }
                door.stop.cancel();
                said.push(format!("listener {door}: closed"));
            }
        }
        state.open = open;
    }

    /// Where it listens.
    fn open(&self) -> Vec<Address> {
        let state = self.lock();
        let doors = state.open.iter().map(|door| door.address.clone());
        let windows = state.management.iter().map(Window::address);
        doors.chain(windows).collect()
    }

    /// Closes the connections of stages that are there no more. Each still has its `$disconnect`, so that plugins that
    /// are there no more end after them.
    fn dismiss(&self, stages: Vec<Arc<CurrentStage>>, plugins: Vec<Arc<Plugin>>) {
        if stages.is_empty() && plugins.is_empty() {
            return;
        }
        let closed = CancellationToken::new();
        for plugin in plugins {
            let closed = closed.clone().cancelled_owned();
            let removed = async move { plugin.remove(closed).await };
            self.doors.tasks.spawn(removed);
        }
        self.doors.tasks.spawn(async move {
            let mut look = interval(LOOK);
            // A handshake may be under way: it holds its stage, as does every session.
            let open = |stage: &Arc<CurrentStage>| Arc::strong_count(stage) > 1;
            while stages.iter().any(open) {
                for stage in &stages {
                    for connection in stage.load().scope.connections.all() {
                        connection.close(Closing::new(1001, "Going away"));
                    }
                }
                look.tick().await;
            }
            closed.cancel();
        });
    }
}

/// Others take IPv4 with such an address, as it may have been meant.
fn say_ipv6_only(address: &Address, wanted: &[config::Listener]) {
    let Some(address) = address.ip() else { return };
    let port = address.port();
    let is_v4 = |other: &config::Listener| {
        let other = other.address.ip();
        other.is_some_and(|other| other.is_ipv4() && [0, port].contains(&other.port()))
    };
    if address == SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)) && !wanted.iter().any(is_v4) {
        tracing::info!("{address} takes IPv6 only; for IPv4 add a listener on 0.0.0.0:{port}");
    }
}

/// A stage with all that its messages are judged by.
type Meant<'a> = (&'a config::Stage, &'a Selection, &'a [config::Route]);

fn by_name(apis: &[config::Api]) -> BTreeMap<String, Meant<'_>> {
    let mut stages = BTreeMap::new();
    for api in apis {
        for stage in &api.stages {
            let meant = (stage, &api.selection, &*api.routes);
            stages.insert(format!("{}/{}", api.name, stage.name), meant);
        }
    }
    stages
}

fn say_stages(before: &[config::Api], now: &[config::Api], said: &mut Vec<String>) {
    let (before, now) = (by_name(before), by_name(now));
    for (name, stage) in &now {
        match before.get(name) {
            Some(same) if same == stage => {}
            Some(_) => said.push(format!("stage {name}: changed")),
            None => said.push(format!("stage {name}: added")),
        }
    }
    let gone = before.keys().filter(|name| !now.contains_key(*name));
    said.extend(gone.map(|name| format!("stage {name}: removed")));
}

/// How many connections there may be: as configured, and no more than the process may open files.
fn connection_limit(limits: &config::GatewayLimits) -> usize {
    let files = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1_024);
    let possible = files.saturating_sub(OTHER_FILES).max(1);
    let wanted = limits.connections.map_or(possible, u64::from);
    if wanted > possible {
        tracing::warn!(
            wanted,
            possible,
            "limits.connections is more than the process may open files; raise `ulimit -n`"
        );
    }
    usize::try_from(wanted.min(possible)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_files_are_no_fault_of_the_address() {
        let address = Address::Ip(SocketAddr::from(([127, 0, 0, 1], 80)));
        // EMFILE, ENFILE
        for errno in [24, 23] {
            let error = io::Error::from_raw_os_error(errno);
            let faults = bind_fault("k".into(), &address, &error);
            let remedy = &faults.0.first().expect("one").remedy;
            assert!(remedy.contains("LimitNOFILE="), "{remedy}");
        }
    }
}
