//! Watches components, signatures and certificates. A changed file is loaded once it is whole and the other file of its
//! pair has come.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::{Gateway, ReloadScope, certificates};
use crate::config::{self, Component, Config};
use crate::management::NoReload;
use crate::net::watch::{PAIR, Stamp};
use crate::plugin::{self, Cause};

/// Interval of polling: for folders that cannot be watched, and links that point elsewhere.
const POLL: Duration = Duration::from_secs(2);

/// Time between two equal stamps after which a file counts as whole.
const SETTLE: Duration = Duration::from_millis(75);

/// Longest pause before files that could not be judged are tried again. The first is [`POLL`], and each is twice the
/// one before.
const LONGEST_PAUSE: Duration = Duration::from_secs(256);

/// Files that are loaded together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct WatchedFiles {
    owner: Owner,
    files: Vec<PathBuf>,
}

/// The owner of the files.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Owner {
    Plugin(String),
    /// One certificate of a listener, each by its index in the configuration.
    Certificate {
        listener: usize,
        index: usize,
    },
    /// The certificate of the management listener.
    ManagementCertificate,
    /// The authorities and revocation lists of a listener, by its index in the configuration.
    ClientCertificates {
        listener: usize,
    },
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plugin(name) => write!(f, "plugin {name}"),
            Self::Certificate { listener, .. } => write!(f, "listeners[{listener}].tls"),
            Self::ManagementCertificate => f.write_str(certificates::MANAGEMENT_TLS),
            Self::ClientCertificates { listener } => {
                write!(f, "listeners[{listener}].client_certificates")
            }
        }
    }
}

/// The state of watched files.
#[derive(Default)]
struct WatchState {
    /// The stamps at the last poll.
    last: Stamps,
    /// The stamps when they were last loaded or refused.
    handled: Stamps,
    /// The stamps of files that do not fit each other, and the time until which the other file of the pair may come.
    waiting: Option<(Stamps, Instant)>,
    /// For files that could not be judged, the time to try again, and the pause that ends then.
    retry: Option<(Instant, Duration)>,
}

type Stamps = Vec<Option<Stamp>>;

impl WatchedFiles {
    /// Lists the files of a configuration: components, each with its signature if it lies in a file and needs one, and
    /// certificates with their keys.
    fn all(config: &Config) -> HashSet<Self> {
        let components = config.plugins.iter().map(|plugin| {
            let mut files = Vec::new();
            if let Component::File(path) = &plugin.component {
                files.push(path.clone());
            }
            files.extend(plugin.signature.as_ref().map(|wanted| wanted.file.clone()));
            let owner = Owner::Plugin(plugin.name.clone());
            Self { owner, files }
        });
        let mut all: HashSet<_> = components.collect();
        for (listener, config) in config.listeners.iter().enumerate() {
            all.extend(config.clients.iter().map(|clients| {
                Self {
                    owner: Owner::ClientCertificates { listener },
                    files: std::iter::once(&clients.ca)
                        .chain(&clients.crl)
                        .cloned()
                        .collect(),
                }
            }));
            let config::Tls::Files(pairs) = &config.tls else {
                continue;
            };
            all.extend(pairs.iter().enumerate().map(|(index, pair)| Self {
                owner: Owner::Certificate { listener, index },
                files: vec![pair.certificate.clone(), pair.key.clone()],
            }));
        }
        let management = config.management.as_ref();
        if let Some(pair) = management.and_then(|management| management.tls.as_ref()) {
            all.insert(Self {
                owner: Owner::ManagementCertificate,
                files: vec![pair.certificate.clone(), pair.key.clone()],
            });
        }
        all
    }

    async fn stamps(&self) -> Stamps {
        let files = self.files.clone();
        let stamps = move || files.iter().map(|file| Stamp::of(file)).collect();
        tokio::task::spawn_blocking(stamps)
            .await
            .unwrap_or_default()
    }

    /// Whether both files are valid and do not belong together: one has been replaced, and the other not yet.
    async fn is_unfit(&self, config: &Config) -> bool {
        let (owner, config) = (self.owner.clone(), config.clone());
        let unfit = move || match owner {
            Owner::Plugin(name) => {
                let mut plugins = config.plugins.iter();
                let plugin = plugins.find(|plugin| plugin.name == name);
                plugin.is_some_and(plugin::is_mismatched)
            }
            Owner::Certificate { listener, index } => {
                let tls = config.listeners.get(listener).map(|listener| &listener.tls);
                match tls {
                    Some(config::Tls::Files(pairs)) => {
                        pairs.get(index).is_some_and(certificates::is_unfit)
                    }
                    Some(config::Tls::Off | config::Tls::SelfSigned) | None => false,
                }
            }
            Owner::ManagementCertificate => {
                let tls = config.management.and_then(|management| management.tls);
                tls.is_some_and(|pair| certificates::is_unfit(&pair))
            }
            Owner::ClientCertificates { .. } => false,
        };
        tokio::task::spawn_blocking(unfit).await.unwrap_or_default()
    }
}

/// Watches the files of the configuration until it is dropped.
pub(super) async fn watch(gateway: Arc<Gateway>) {
    let (changed, mut changes) = mpsc::channel(1);
    let mut folders = Folders::new(changed, POLL);
    let mut states: HashMap<WatchedFiles, WatchState> = HashMap::new();
    loop {
        let config = gateway.lock().config.clone();
        let all = WatchedFiles::all(&config);
        states.retain(|watched, _| all.contains(watched));
        let mut settling = false;
        for watched in all {
            watched
                .files
                .iter()
                .for_each(|file| folders.add_folder_of(file));
            let now = watched.stamps().await;
            let state = states.entry(watched.clone()).or_default();
            let before = std::mem::replace(&mut state.last, now.clone());
            let cause = match state.retry {
                _ if now != state.handled => Cause::ChangedFile,
                Some((at, _)) if at <= Instant::now() => Cause::ChangedFileAgain,
                Some(_) | None => continue,
            };
            if now != before {
                settling = true;
                continue;
            }
            let gone = now
                .iter()
                .zip(&watched.files)
                .find(|(now, _)| now.is_none());
            if let Some((_, gone)) = gone {
                tracing::warn!(file = %gone.display(),
                    "{}: the file is gone; its loaded content stays in use", watched.owner);
                (state.handled, state.retry) = (now, None);
                continue;
            }
            match &state.waiting {
                Some((stamps, until)) if *stamps == now => {
                    if Instant::now() < *until {
                        settling = true;
                        continue;
                    }
                }
                Some(_) | None => {
                    if watched.is_unfit(&config).await {
                        tracing::info!("{}: waiting for the other file of the pair", watched.owner);
                        state.waiting = Some((now, Instant::now() + PAIR));
                        settling = true;
                        continue;
                    }
                }
            }
            state.waiting = None;
            state.handled = now;
            let scope = match watched.owner.clone() {
                Owner::Plugin(name) => ReloadScope::Component(name),
                Owner::Certificate { listener, index } => {
                    ReloadScope::Certificate { listener, index }
                }
                Owner::ManagementCertificate => ReloadScope::ManagementCertificate,
                Owner::ClientCertificates { listener } => {
                    ReloadScope::ClientCertificates { listener }
                }
            };
            // The log has the error. Files that were judged are tried again when they change.
            let unjudged = matches!(
                gateway.reload(scope, cause).await,
                Err(NoReload::Unjudged(_))
            );
            let pause = match state.retry.take() {
                Some((_, pause)) if cause == Cause::ChangedFileAgain => pause * 2,
                Some(_) | None => POLL,
            };
            if unjudged {
                let pause = pause.min(LONGEST_PAUSE);
                state.retry = Some((Instant::now() + pause, pause));
                if cause == Cause::ChangedFile {
                    let owner = &watched.owner;
                    tracing::info!("{owner}: trying again later, as long as its files stay");
                }
            }
        }
        if settling {
            sleep(SETTLE).await;
        } else {
            let _ = timeout(POLL, changes.recv()).await;
        }
    }
}

/// A watcher of folders, by events of the operating system.
pub(crate) struct Folders {
    watcher: Option<RecommendedWatcher>,
    watched: HashSet<PathBuf>,
    poll: Duration,
}

impl Folders {
    /// `changed` gets every change. If events are not possible, the caller must look at the files every `poll`.
    pub(crate) fn new(changed: mpsc::Sender<()>, poll: Duration) -> Self {
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading is no change, and the gateway reads the files itself.
            if event.is_ok_and(|event| !matches!(event.kind, EventKind::Access(_))) {
                let _ = changed.try_send(());
            }
        });
        if let Err(error) = &watcher {
            tracing::warn!(
                poll_ms = poll.as_millis() as u64,
                "cannot watch files, polling them instead: {error}"
            );
        }
        Self {
            watcher: watcher.ok(),
            watched: HashSet::new(),
            poll,
        }
    }

    pub(crate) fn add_folder_of(&mut self, file: &Path) {
        // A bare name has the empty path as its parent, which means the working directory.
        let folder = match file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            Some(_) | None => Path::new("."),
        };
        self.add(folder);
    }

    pub(crate) fn add(&mut self, folder: &Path) {
        let poll = self.poll;
        if let Some(watcher) = &mut self.watcher
            && self.watched.insert(folder.to_owned())
            && let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive)
        {
            tracing::warn!(folder = %folder.display(), poll_ms = poll.as_millis() as u64, "cannot watch it, polling instead: {error}");
        }
    }
}
