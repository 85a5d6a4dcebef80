//! `lockgate dev`: build a plugin, serve it on this machine, rebuild and swap on every save.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use notify::{RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::build::build;
use super::run::{Signals, block_on, stop};
use crate::config::{
    Api, Component, Config, Faults, GatewayLimits, Grants, Isolation, Listener, Log, LogFormat,
    Origins, Plugin, PluginLimits, Rollback, Route, Stage, StageLimits, Tls,
};
use crate::gateway::{Departure, Gateway, What};
use crate::handover::Sockets;
use crate::listener::Pages;
use crate::route::{CONNECT, DEFAULT, DISCONNECT, Selection};
use crate::telemetry;

/// The name of the API, its stage and its plugin.
const NAME: &str = "dev";

/// What is logged; the watcher has something to say whenever cargo tidies up its target folder.
const LEVEL: &str = "info,notify=error";

/// An editor's save is several events: a build begins when there has been none for so long.
const QUIET: Duration = Duration::from_millis(150);

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// The plugin's folder
    dir: PathBuf,
    /// The port for wss; 0 takes any free one
    #[arg(long, default_value_t = 8443)]
    wss_port: u16,
    /// The port for ws; 0 takes any free one
    #[arg(long, default_value_t = 8080)]
    ws_port: u16,
}

pub(super) fn dev(options: &Options) -> Result<()> {
    telemetry::start(&Log {
        level: LEVEL.into(),
        format: LogFormat::Text,
    });
    let dir = options
        .dir
        .canonicalize()
        .with_context(|| format!("{}", options.dir.display()))?;
    // Before the first build: what is saved meanwhile is built too.
    let (changed, mut changes) = mpsc::channel(1);
    let _watcher = watch(&dir, changed)?;
    let component = build(&dir)?;
    let pages = Some(dir.join("web"))
        .filter(|folder| folder.is_dir())
        .map(|folder| Pages { folder });
    let with_page = pages.is_some();
    let config = config(options, component);
    block_on(async {
        let mut signals = Signals::new()?;
        let started = Gateway::start(config, None, pages, Sockets::default()).await;
        let gateway = started.map_err(|error| {
            if error.is::<Faults>() {
                return error;
            }
            error.context("if a port is taken, choose others with --wss-port and --ws-port (0 takes any free one)")
        })?;
        introduce(&gateway, with_page)?;
        loop {
            tokio::select! {
                () = signals.stop() => break,
                Some(()) = changes.recv() => {
                    while timeout(QUIET, changes.recv()).await.is_ok_and(|change| change.is_some()) {}
                    rebuild(&gateway, &dir).await;
                }
            }
        }
        stop(&gateway, signals, Departure::Stopped).await;
        Ok(())
    })
}

/// Builds and swaps; whatever goes wrong, the build that serves goes on serving.
async fn rebuild(gateway: &Arc<Gateway>, dir: &Path) {
    tracing::info!("a file changed: building");
    let swapped = match tokio::task::block_in_place(|| build(dir)) {
        Ok(_) => gateway
            .reload(What::Component(NAME.into()), "build")
            .await
            .map(|_| ()),
        Err(error) => Err(error),
    };
    match swapped {
        Ok(()) => tracing::info!("serving the new build; connections stayed open"),
        Err(error) => tracing::warn!("still serving the last good build: {error:#}"),
    }
}

/// Tells how to talk to it.
fn introduce(gateway: &Gateway, with_page: bool) -> Result<()> {
    let mut lines = String::new();
    // Of the two addresses of localhost, the first is enough to know.
    for address in gateway
        .addresses()
        .iter()
        .filter(|address| !address.contains('['))
    {
        let address = address.replace("127.0.0.1", "localhost");
        let unverified = if address.starts_with("wss") {
            " --no-check"
        } else {
            ""
        };
        if with_page {
            let page = address.replacen("ws", "http", 1);
            lines += &format!("  in a browser   {page}/\n");
        }
        lines += &format!("  in a terminal  npx wscat{unverified} -c {address}/{NAME}\n");
    }
    super::print(&format!(
        "\nTalk to it:\n{lines}\nEvery save rebuilds it; ctrl-c stops.\n"
    ))
}

/// Tells of every change to the plugin's files, but for what the build itself writes.
fn watch(dir: &Path, changed: mpsc::Sender<()>) -> Result<notify::RecommendedWatcher> {
    let target = dir.join("target");
    let lock = dir.join("Cargo.lock");
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let Ok(event) = event else { return };
        let written = !matches!(event.kind, notify::EventKind::Access(_));
        let source = |path: &PathBuf| {
            let hidden = path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with('.'));
            !path.starts_with(&target) && *path != lock && !hidden
        };
        if written && event.paths.iter().any(source) {
            // Full means that a change is waiting to be seen already.
            let _ = changed.try_send(());
        }
    })
    .context("cannot watch files")?;
    watcher
        .watch(dir, RecursiveMode::Recursive)
        .with_context(|| format!("cannot watch {}", dir.display()))?;
    Ok(watcher)
}

/// Safe local defaults: loopback only, this host's own pages only, all grants.
fn config(options: &Options, component: PathBuf) -> Config {
    let listener = |ip: IpAddr, port, tls: Tls| Listener {
        address: SocketAddr::new(ip, port),
        http2: tls != Tls::Off,
        tls,
    };
    let mut listeners = Vec::new();
    for ip in loopback() {
        listeners.push(listener(ip, options.wss_port, Tls::SelfSigned));
        listeners.push(listener(ip, options.ws_port, Tls::Off));
    }
    let route = |key: &str| Route {
        key: key.into(),
        integration: NAME.into(),
        two_way: key == DEFAULT,
    };
    Config {
        listeners,
        management: None,
        apis: vec![Api {
            name: NAME.into(),
            selection: Selection::parse("$request.body.action").expect("the default expression"),
            routes: [CONNECT, DEFAULT, DISCONNECT].map(route).into(),
            stages: vec![Stage {
                name: NAME.into(),
                domains: Vec::new(),
                variables: Default::default(),
                origins: Origins {
                    any: false,
                    same_host: true,
                    list: Vec::new(),
                },
                limits: StageLimits::default(),
            }],
        }],
        plugins: vec![Plugin {
            name: NAME.into(),
            component: Component::File(component),
            grants: Grants {
                connections: true,
                groups: true,
            },
            signature: None,
            isolation: Isolation::default(),
            limits: PluginLimits::default(),
            rollback: Rollback::by_default(),
        }],
        limits: GatewayLimits {
            drain: Duration::from_secs(1),
            ..GatewayLimits::default()
        },
        compile_cache: None,
        log: Log {
            level: LEVEL.into(),
            format: LogFormat::Text,
        },
    }
}

/// The addresses of `localhost`: not every machine has the second, and with any free port each would be another.
fn loopback() -> Vec<IpAddr> {
    let v6 = IpAddr::from(Ipv6Addr::LOCALHOST);
    let mut addresses = vec![IpAddr::from(Ipv4Addr::LOCALHOST)];
    if std::net::TcpListener::bind((v6, 0)).is_ok() {
        addresses.push(v6);
    }
    addresses
}
