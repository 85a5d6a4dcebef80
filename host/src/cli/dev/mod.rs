//! `lockgate dev`: builds plugins, serves them on this machine, and swaps in a new build on every save.

mod guard;
mod inputs;
mod subject;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::build::build;
use super::new::sdk;
use super::run::{block_on, stop};
use super::signals::{SignalRequest, Signals};
use crate::config::{Component, Config, Fault, Faults, Listener, Proxies, Tls, overlap};
use crate::gateway::{ConfigSource, Folders, Gateway, NO_RELOAD, ReloadScope, StopReason};
use crate::handover::Sockets;
use crate::listener::Pages;
use crate::management::NoUpgrade;
use crate::plugin::Cause;
use crate::telemetry;
use inputs::Inputs;
pub(super) use subject::Subject;

/// Quiet time before a build begins: an editor's save is several events.
const DEBOUNCE: Duration = Duration::from_millis(150);

/// Limit of events close together after which a build begins all the same.
const MAX_EVENTS: u32 = 20;

/// Interval of polling, for folders that cannot be watched.
const POLL: Duration = Duration::from_secs(1);

/// The configuration of a project that `lockgate new` makes.
pub(super) const CONFIGURATION: &str = "gateway.toml";

/// Default ports.
const WSS_PORT: u16 = 8443;
const WS_PORT: u16 = 8080;

#[derive(Debug, clap::Args)]
pub(super) struct DevOptions {
    /// A plugin's folder, or a configuration file whose plugins have a `source`
    #[arg(default_value = ".")]
    path: PathBuf,
    /// The port for wss; 0 takes any free one [default: 8443, or the listeners of the file]
    #[arg(long)]
    wss_port: Option<u16>,
    /// The port for ws; 0 takes any free one [default: 8080, or the listeners of the file]
    #[arg(long)]
    ws_port: Option<u16>,
    /// With a folder: one more route key, beside $connect, $default and $disconnect; two-way, may be repeated
    #[arg(long = "route", value_name = "KEY", value_parser = subject::route_key)]
    routes: Vec<String>,
}

pub(super) fn dev(options: &DevOptions) -> Result<()> {
    let signals = Signals::listen()?;
    block_on(async {
        let (changed, mut changes) = mpsc::channel(1);
        let mut subject = Subject::of(&options.path, &options.routes)?;
        // Logging starts before anything can log.
        telemetry::start(&subject.read()?.log)?;
        let mut server = DevServer::new(subject, options, changed);
        let gateway = tokio::select! {
            () = signals.stop() => return Ok(()),
            started = server.start() => started?,
        };
        let work = async {
            loop {
                server.next(&gateway, &mut changes).await;
            }
        };
        let until_stop = async {
            while let Some(asked) = signals.next(true).await {
                let why = match asked {
                    SignalRequest::Reload => NO_RELOAD.to_owned(),
                    SignalRequest::Upgrade => NoUpgrade::Dev.to_string(),
                };
                tracing::warn!("signal ignored: {why}");
            }
        };
        let worked = async {
            tokio::select! {
                () = until_stop => {}
                () = work => {}
            }
        };
        gateway.without_upgrade(NoUpgrade::Dev, worked).await;
        stop(&gateway, &signals, StopReason::Requested).await;
        Ok(())
    })
}

/// The subject that is served, and the plugins built for it.
struct DevServer<'a> {
    subject: Subject,
    options: &'a DevOptions,
    folders: Folders,
    /// The source folders, by path.
    sources: BTreeMap<PathBuf, SourceFolder>,
    /// The newest configuration does not serve yet: it, or a plugin new in it, has a mistake.
    waiting: bool,
}

struct SourceFolder {
    inputs: Inputs,
    /// The plugins whose component this folder builds.
    plugins: Vec<String>,
    /// The component of the last successful build.
    component: Option<PathBuf>,
}

impl<'a> DevServer<'a> {
    fn new(subject: Subject, options: &'a DevOptions, changed: mpsc::Sender<()>) -> Self {
        Self {
            subject,
            options,
            folders: Folders::new(changed, POLL),
            sources: BTreeMap::new(),
            waiting: false,
        }
    }

    async fn start(&mut self) -> Result<Arc<Gateway>> {
        let config = self.read()?;
        let config = self.built(config).await?;
        let pages = self.pages();
        let with_page = pages.is_some();
        let urls = subject::stage_urls(&config);
        let source = ConfigSource::Dev(self.subject.file());
        let started = Gateway::start(config, source, pages, Sockets::default()).await;
        let gateway = started.map_err(|error| {
            let of_a_plugin = |faults: &Faults| {
                faults.0.iter().any(|fault| !fault.key.starts_with("listeners"))
            };
            if error.downcast_ref().is_some_and(of_a_plugin) {
                return self.subject.blame(error);
            }
            error.context(
                "if a port is taken, choose others with --wss-port and --ws-port (0 takes any free one)",
            )
        })?;
        // A new project says there what its clients show.
        let readme = self
            .subject
            .file()
            .map(|file| file.with_file_name("README.md"));
        let readme = readme.filter(|readme| readme.is_file());
        let readme = readme.map(|readme| format!("; see {}", readme.display()));
        print_addresses(&gateway, &urls, with_page, &readme.unwrap_or_default())?;
        let beside = self.options.path.join(CONFIGURATION);
        if beside.is_file() {
            super::print(&format!(
                "This is without the routes, limits and environment of {0}: lockgate dev {0}\n",
                beside.display()
            ))?;
        }
        Ok(gateway)
    }

    /// Waits for a change and serves it. On any error the last good state keeps serving.
    async fn next(&mut self, gateway: &Arc<Gateway>, changes: &mut mpsc::Receiver<()>) {
        self.watch();
        let _ = timeout(POLL, changes.recv()).await;
        if !self.subject.has_changed() && self.changed().is_empty() {
            return;
        }
        for _ in 0..MAX_EVENTS {
            if timeout(DEBOUNCE, changes.recv()).await.is_err() {
                break;
            }
        }
        if self.subject.has_changed() {
            tracing::info!("the configuration changed");
            self.reload(gateway).await;
        }
        for (folder, file) in self.changed() {
            let file = file.strip_prefix(&folder).unwrap_or(&file).to_owned();
            tracing::info!(plugin = %folder.display(), "{} changed: building", file.display());
            match self.build(&folder).await {
                Ok(same_file) if self.waiting || !same_file => self.reload(gateway).await,
                Ok(_) => self.swap(gateway, &folder).await,
                Err(error) => tracing::warn!("still serving the last good build: {error:#}"),
            }
        }
    }

    /// Reads the configuration again and serves it.
    async fn reload(&mut self, gateway: &Arc<Gateway>) {
        let config = match self.read() {
            Ok(config) => self.built(config).await,
            Err(error) => Err(error),
        };
        let changed = match config {
            Ok(config) => {
                let what = ReloadScope::Configuration(Box::new(config));
                let reloaded = gateway.reload(what, Cause::ChangedConfiguration).await;
                reloaded.map_err(anyhow::Error::from)
            }
            Err(error) => Err(error),
        };
        self.waiting = changed.is_err();
        match changed {
            Ok(_) => {
                tracing::info!("serving the configuration as it is now; connections stayed open");
            }
            Err(error) => tracing::warn!("still serving the last valid configuration: {error:#}"),
        }
    }

    /// Serves the last build of a folder's plugins.
    async fn swap(&self, gateway: &Arc<Gateway>, folder: &Path) {
        let source = self.sources.get(folder);
        for plugin in source.iter().flat_map(|source| &source.plugins) {
            let scope = ReloadScope::Component(plugin.clone());
            match gateway.reload(scope, Cause::Build).await {
                Ok(changes) if !changes.is_empty() => {
                    tracing::info!("serving the new build; connections stayed open");
                }
                Ok(_) => match gateway.held_back(plugin) {
                    Some(held_back) => tracing::warn!(
                        "still serving an earlier build: {held_back}; save other code to have it served"
                    ),
                    None => tracing::info!(
                        "unchanged: the build is the one that serves; if a change is missing, its file may be older than \
                         the build: save it again"
                    ),
                },
                Err(error) => tracing::warn!("still serving the last good build: {error:#}"),
            }
        }
    }

    /// Reads the configuration, with listeners on this machine only.
    fn read(&mut self) -> Result<Config> {
        let mut config = self.subject.read()?;
        let DevOptions {
            wss_port, ws_port, ..
        } = self.options;
        if wss_port.is_some() || ws_port.is_some() || config.listeners.is_empty() {
            config.listeners = listeners(wss_port.unwrap_or(WSS_PORT), ws_port.unwrap_or(WS_PORT));
            check_addresses(&config)?;
        }
        for plugin in &mut config.plugins {
            if let Component::Source { folder, .. } = &mut plugin.component
                && let Ok(path) = folder.canonicalize()
            {
                *folder = path;
            }
        }
        Ok(config)
    }

    /// Fills in the component of each plugin with a source; builds what is not built yet.
    async fn built(&mut self, mut config: Config) -> Result<Config> {
        let mut named: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
        for plugin in &config.plugins {
            if let Component::Source { folder, .. } = &plugin.component {
                let plugins = named.entry(folder.clone()).or_default();
                plugins.push(plugin.name.clone());
            }
        }
        self.sources.retain(|folder, _| named.contains_key(folder));
        let mut failed = BTreeMap::new();
        for (folder, plugins) in named {
            let source = self.source(&folder);
            source.plugins = plugins;
            if source.component.is_some() {
                continue;
            }
            if let Some(difference) = sdk::difference(&folder) {
                tracing::warn!("{difference}");
            }
            if let Err(error) = self.build(&folder).await {
                if self.subject.file().is_none() {
                    // The error names the folder: there is no file to correct.
                    return Err(error);
                }
                failed.insert(folder, format!("{error:#}"));
            }
        }
        let mut faults = Vec::new();
        for plugin in &mut config.plugins {
            let Component::Source { folder, built } = &mut plugin.component else {
                continue;
            };
            *built = self
                .sources
                .get(folder)
                .and_then(|source| source.component.clone());
            if let Some(message) = failed.get(folder) {
                faults.push(Fault {
                    key: format!("plugins.{}.source", plugin.name),
                    message: message.clone(),
                    remedy: "correct the source, or the path, which is relative to the folder of this file".into(),
                    is_passing: false,
                });
            }
        }
        if faults.is_empty() {
            return Ok(config);
        }
        Err(self.subject.blame(Faults(faults).into()))
    }

    /// Builds a folder. Gives whether the component is the same file as before.
    async fn build(&mut self, folder: &Path) -> Result<bool> {
        let source = self.source(folder);
        let began = SystemTime::now();
        source.inputs.begin();
        let built = build(folder).await;
        source.inputs.end(built.as_ref().ok(), began);
        let component = Some(built?.component);
        let same_file = source.component == component;
        source.component = component;
        Ok(same_file)
    }

    fn source(&mut self, folder: &Path) -> &mut SourceFolder {
        self.sources
            .entry(folder.to_owned())
            .or_insert_with(|| SourceFolder {
                inputs: Inputs::guess(folder),
                plugins: Vec::new(),
                component: None,
            })
    }

    /// Lists the folders with a change since their last build began, each with its first changed file.
    fn changed(&self) -> Vec<(PathBuf, PathBuf)> {
        let sources = self.sources.iter();
        sources
            .filter_map(|(folder, source)| Some((folder.clone(), source.inputs.changed()?)))
            .collect()
    }

    fn watch(&mut self) {
        if let Some(file) = self.subject.file() {
            self.folders.add_folder_of(&file);
        }
        for folder in self
            .sources
            .values()
            .flat_map(|source| source.inputs.watched())
        {
            self.folders.add(&folder);
        }
    }

    /// Gives the first folder `web` among the plugins' folders, and names the others.
    fn pages(&self) -> Option<Pages> {
        let folders = self.sources.keys().map(|folder| folder.join("web"));
        let mut folders = folders.filter(|folder| folder.is_dir());
        let folder = folders.next()?;
        for other in folders {
            tracing::warn!(
                "{} is not served: {} is, and there is one page; keep one of them",
                other.display(),
                folder.display()
            );
        }
        Some(Pages::new(folder))
    }
}

/// Checks ports given by options: the file was judged with its own listeners.
fn check_addresses(config: &Config) -> Result<()> {
    let management = config.management.as_ref();
    let management = management.map(|management| &management.address);
    let health = config.health.as_ref().map(|health| &health.address);
    let mut taken: Vec<_> = [(management, "management"), (health, "health")]
        .into_iter()
        .filter_map(|(address, what)| Some((address?.ip()?, what)))
        .collect();
    for listener in &config.listeners {
        let Some(address) = listener.address.ip() else {
            continue;
        };
        let option = if listener.tls == Tls::Off {
            "--ws-port"
        } else {
            "--wss-port"
        };
        if let Some((_, other)) = taken.iter().find(|(other, _)| overlap(*other, address)) {
            bail!(
                "{address} would be the address of both {other} and {option}; give each its own port"
            );
        }
        taken.push((address, option));
    }
    Ok(())
}

/// Makes listeners on loopback addresses only.
fn listeners(wss_port: u16, ws_port: u16) -> Vec<Listener> {
    let listener = |ip: IpAddr, port, tls: Tls| Listener {
        clients: None,
        address: SocketAddr::new(ip, port).into(),
        http2: tls != Tls::Off,
        quic: (tls != Tls::Off).then_some(true),
        tls,
        proxies: Proxies::default(),
    };
    let mut listeners = Vec::new();
    for ip in loopback() {
        listeners.push(listener(ip, wss_port, Tls::SelfSigned));
        listeners.push(listener(ip, ws_port, Tls::Off));
    }
    listeners
}

/// Gives the addresses of `localhost`. The IPv6 one is missing on some machines. With port 0, each address has another
/// port.
fn loopback() -> Vec<IpAddr> {
    let v6 = IpAddr::from(Ipv6Addr::LOCALHOST);
    let mut addresses = vec![IpAddr::from(Ipv4Addr::LOCALHOST)];
    if std::net::TcpListener::bind((v6, 0)).is_ok() {
        addresses.push(v6);
    }
    addresses
}

/// Prints how to reach the stages.
fn print_addresses(
    gateway: &Gateway,
    stages: &[subject::StageUrl],
    with_page: bool,
    readme: &str,
) -> Result<()> {
    let (mut lines, mut quic) = (String::new(), String::new());
    let keys = gateway.quic_key_digests();
    // The IPv4 address of localhost suffices.
    for address in gateway
        .addresses()
        .iter()
        .filter(|address| !address.contains('['))
    {
        let address = address.replace("127.0.0.1", "localhost");
        let secure = address.strip_prefix("wss://");
        let unverified = if secure.is_some() { " --no-check" } else { "" };
        if with_page {
            let page = address.replacen("ws", "http", 1);
            lines += &format!("  in a browser   {page}/\n");
        }
        for stage in stages {
            let host = stage.host.as_ref().map(|host| format!(" --host {host}"));
            let host = host.unwrap_or_default();
            let mut url = format!("{address}/{}", stage.path);
            let mut options = "";
            if let Some(guard) = &stage.guard {
                options = &guard.options;
                if !guard.query.is_empty() {
                    // A shell takes `&` and `?` for its own.
                    url = format!("\"{url}{}\"", guard.query);
                }
            }
            lines += &format!("  in a terminal  npx wscat{unverified}{host}{options} -c {url}\n");
        }
        if let Some(authority) = secure.filter(|_| !keys.is_empty()) {
            for stage in stages {
                quic += &format!("  WebTransport   https://{authority}/{}\n", stage.path);
            }
            quic += &over_http3(authority, &keys, with_page);
        }
    }
    if !quic.is_empty() {
        quic = format!("\nOr over QUIC:\n{quic}");
    }
    let notes = stages.iter().filter_map(|stage| {
        let note = stage.guard.as_ref()?.note();
        Some(format!("  /{:<14}{note}{readme}\n", stage.path))
    });
    lines.extend(notes);
    super::print(&format!(
        "\nTalk to it:\n{lines}{quic}\nEvery save rebuilds it; ctrl-c stops.\n"
    ))
}

/// The command that opens the page over HTTP/3. A browser takes no certificate for it because its user did, so the keys are
/// named.
fn over_http3(authority: &str, keys: &[[u8; 32]], with_page: bool) -> String {
    if !with_page {
        return String::new();
    }
    let keys: Vec<_> = keys.iter().map(|key| STANDARD.encode(key)).collect();
    format!(
        "  HTTP/3         chromium --user-data-dir=$(mktemp -d) --origin-to-force-quic-on={authority} \
         --ignore-certificate-errors-spki-list={} https://{authority}/\n",
        keys.join(",")
    )
}
