//! Looks after the component files: one that was changed, and is whole, is loaded.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::{Gateway, What};
use crate::config::{self, Component};
use crate::net::watch::Stamp;

/// How often files are looked at unasked: for folders that cannot be watched, and links that point elsewhere.
const POLL: Duration = Duration::from_secs(2);

/// The time between two looks that must be alike before a file is taken for whole.
const SETTLE: Duration = Duration::from_millis(75);

/// What is known of a plugin's files.
#[derive(Default)]
struct Seen {
    /// At the last look.
    last: Vec<Option<Stamp>>,
    /// When it was loaded, or refused, last.
    acted: Vec<Option<Stamp>>,
}

/// The files that a plugin's code depends on: the component and its signature, if it lies in one and needs one.
fn files(plugin: &config::Plugin) -> (String, Vec<PathBuf>) {
    let mut files = Vec::new();
    if let Component::File(path) = &plugin.component {
        files.push(path.clone());
    }
    files.extend(plugin.signature.as_ref().map(|wanted| wanted.file.clone()));
    (plugin.name.clone(), files)
}

/// Runs until it is dropped.
pub(super) async fn watch(gateway: Arc<Gateway>) {
    let (changed, mut changes) = mpsc::channel(1);
    let mut folders = Folders::new(changed, POLL);
    let mut seen: HashMap<(String, Vec<PathBuf>), Seen> = HashMap::new();
    loop {
        let files: HashSet<_> = {
            let state = gateway.lock();
            state.config.plugins.iter().map(files).collect()
        };
        seen.retain(|file, _| files.contains(file));
        let mut settling = false;
        for file in files {
            file.1.iter().for_each(|file| folders.add_folder_of(file));
            let known = seen.entry(file.clone()).or_default();
            let now: Vec<_> = file.1.iter().map(|file| Stamp::of(file)).collect();
            let before = std::mem::replace(&mut known.last, now.clone());
            if now == known.acted {
                continue;
            }
            if now != before {
                settling = true;
                continue;
            }
            let gone = now.iter().zip(&file.1).find(|(now, _)| now.is_none());
            if let Some((_, gone)) = gone {
                tracing::warn!(plugin = file.0, file = %gone.display(),
                    "the file is gone; what was loaded from it goes on");
                known.acted = now;
                continue;
            }
            known.acted = now;
            // What is wrong with it is in the log; it is looked at again when it has changed.
            let _ = gateway
                .reload(What::Component(file.0), "changed file")
                .await;
        }
        if settling {
            sleep(SETTLE).await;
        } else {
            let _ = timeout(POLL, changes.recv()).await;
        }
    }
}

/// The folders that the operating system tells of.
pub(crate) struct Folders {
    watcher: Option<RecommendedWatcher>,
    watched: HashSet<PathBuf>,
    poll: Duration,
}

impl Folders {
    /// `changed` is told of every change; where that is not possible, it has to do that the files are looked at every
    /// `poll`.
    pub(crate) fn new(changed: mpsc::Sender<()>, poll: Duration) -> Self {
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading is no change; and it is what we do ourselves.
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
        // Of a bare name it is the empty path, which means here.
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
