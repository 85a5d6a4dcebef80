//! The authorizer for API keys, with the usage plan of each.

mod file;
mod usage_file;
mod usage_store;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

pub(crate) use self::file::{BadFile, read_api_keys, write_api_keys};
use self::usage_store::UsageStore;
use super::Denial;
use crate::auth::api_keys::{OWN_VALUES, Record, Table, is_own_value};
use crate::auth::{Allowance, Identity, Usage, Value};
use crate::clock::now_ms;
use crate::config::{self, Fault, UsagePlan};
use crate::connections::Connection;
use crate::net::watch::Stamp;

/// Time from one look at the file to the next.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The files of API keys. Authorizers of one file have one count, whichever name it, over reloads too.
#[derive(Default)]
pub(crate) struct KeyFiles {
    authorizers: Vec<Weak<ApiKeysAuthorizer>>,
    /// Connections hold these, too, after their authorizer is gone.
    stores: Vec<Weak<UsageStore>>,
}

pub(super) struct ApiKeysAuthorizer {
    shared: Arc<Shared>,
    _looking: AbortOnDropHandle<()>,
}

struct Shared {
    config: config::ApiKeys,
    store: Arc<UsageStore>,
    keys: ArcSwap<Keys>,
}

/// The keys of the file, each with its usage if it has a plan.
struct Keys {
    table: Table,
    usages: HashMap<String, Arc<Usage>>,
}

impl KeyFiles {
    /// Gives the authorizer of a configuration. Needs a runtime.
    pub(super) fn authorizer(&mut self, config: &config::ApiKeys) -> Arc<ApiKeysAuthorizer> {
        self.authorizers.retain(|one| one.strong_count() > 0);
        let mut same = self.authorizers.iter().filter_map(Weak::upgrade);
        if let Some(same) = same.find(|one| one.shared.config == *config) {
            return same;
        }
        let made = ApiKeysAuthorizer::new(config, self.store(&config.usage_file));
        let made = Arc::new(made);
        self.authorizers.push(Arc::downgrade(&made));
        made
    }

    fn store(&mut self, usage_file: &Path) -> Arc<UsageStore> {
        self.stores.retain(|store| store.strong_count() > 0);
        let mut same = self.stores.iter().filter_map(Weak::upgrade);
        if let Some(same) = same.find(|store| store.is_of(usage_file)) {
            return same;
        }
        let opened = Arc::new(UsageStore::open(usage_file));
        self.stores.push(Arc::downgrade(&opened));
        opened
    }
}

impl ApiKeysAuthorizer {
    /// Reads the keys, and looks for changes of the file. Needs a runtime.
    fn new(config: &config::ApiKeys, store: Arc<UsageStore>) -> Self {
        let stamp = Stamp::of(&config.file);
        let keys = Keys::read(config, &store).unwrap_or_else(|error| {
            // The file was judged before, and has changed since.
            warn(config, &error);
            Keys::none()
        });
        let shared = Arc::new(Shared {
            config: config.clone(),
            store,
            keys: ArcSwap::from_pointee(keys),
        });
        let looking = Arc::clone(&shared).look_for_changes(stamp);
        Self {
            shared,
            _looking: AbortOnDropHandle::new(TaskTracker::new().spawn(looking)),
        }
    }

    /// Decides on a client that presents this text as its key, counts its handshake, and gives the connection its
    /// allowance.
    pub(super) fn take(
        &self,
        presented: Option<&str>,
        connection: &Connection,
    ) -> Result<Record, Denial> {
        let keys = self.shared.keys.load();
        let record = presented.and_then(|key| keys.table.find(key));
        // API Gateway has one answer to a missing key and to a wrong one.
        let missing = || Denial::Forbidden("it shows no valid API key".to_owned());
        let record = record.ok_or_else(missing)?;
        let usage = keys.usages.get(&record.prefix);
        if usage.is_none() && self.shared.config.plan_of(record.plan.as_deref()).is_err() {
            return Err(Denial::Forbidden(format!(
                "the usage plan of its API key {} is not in the configuration",
                record.prefix
            )));
        }
        if let Some(usage) = usage {
            usage.take_handshake(now_ms()).map_err(Denial::Exceeded)?;
            let store = Arc::clone(&self.shared.store);
            connection.set_allowance(Allowance::new(Arc::clone(usage), store));
        }
        Ok(record.clone())
    }

    /// Saves what has been used so far.
    pub(super) fn save(&self) {
        self.shared.store.save();
    }
}

/// Adds what handlers learn of a key. No value of these names is anybody else's, also where the key has none.
pub(super) fn add_values(identity: Identity, record: &Record) -> Result<Identity, Denial> {
    let [id, name, plan] = OWN_VALUES;
    let own = [
        (id, Some(record.prefix.as_str())),
        (name, Some(record.name.as_str())),
        (plan, record.plan.as_deref()),
    ];
    let own = own.into_iter();
    let own = own.filter_map(|(name, text)| Some((name.into(), Value::Text(text?.into()))));
    with_own(identity, own.collect())
}

/// As [`add_values`], for a client that has shown its key before and does not show it again.
pub(super) fn keep_values(identity: Identity, before: &Identity) -> Result<Identity, Denial> {
    let own = before.values.iter();
    let own = own.filter(|(name, _)| is_own_value(name));
    with_own(identity, own.cloned().collect())
}

fn with_own(identity: Identity, own: Vec<(Box<str>, Value)>) -> Result<Identity, Denial> {
    let Identity {
        principal,
        issuer,
        values: others,
        scopes,
        expires_at,
    } = identity;
    let mut values = own;
    let others = others.into_iter();
    values.extend(others.filter(|(name, _)| !is_own_value(name)));
    let identity = Identity::new(principal, values, scopes, expires_at);
    let identity = identity.map_err(|error| Denial::Failed(error.to_string()))?;
    Ok(Identity { issuer, ..identity })
}

impl Keys {
    fn none() -> Self {
        Self {
            table: Table::empty(),
            usages: HashMap::new(),
        }
    }

    fn read(config: &config::ApiKeys, store: &UsageStore) -> Result<Self, BadFile> {
        let table = read_api_keys(&config.file)?;
        let plans = table.records().filter_map(|record| {
            let plan = config.plan_of(record.plan.as_deref()).ok()??;
            Some((record.prefix.clone(), UsagePlan::clone(plan)))
        });
        let usages = store.usages(plans.collect());
        Ok(Self { table, usages })
    }
}

impl Shared {
    async fn look_for_changes(self: Arc<Self>, mut stamp: Option<Stamp>) {
        loop {
            sleep(LOOK_EVERY).await;
            let shared = Arc::clone(&self);
            let look = spawn_blocking(move || {
                let now = Stamp::of(&shared.config.file);
                if now != stamp {
                    shared.read_again();
                }
                now
            });
            let Ok(now) = look.await else { return };
            stamp = now;
        }
    }

    /// Reads the file again. Keys stay as they are if it cannot be used.
    fn read_again(&self) {
        match Keys::read(&self.config, &self.store) {
            Ok(keys) => {
                warn_of_plans(&self.config, &keys.table);
                let count = keys.table.records().count();
                self.keys.store(Arc::new(keys));
                let file = self.config.file.display();
                tracing::info!(%file, keys = count, "the API keys have changed");
            }
            Err(error) => warn(&self.config, &error),
        }
    }
}

fn warn(config: &config::ApiKeys, error: &BadFile) {
    let (file, remedy) = (config.file.display(), error.remedy(&config.file));
    tracing::warn!(%file, "the API keys stay as they were: {error}\n  remedy: {remedy}");
}

/// Warns of a file of use that a start would set aside.
pub(super) fn warn_of_usage(config: &config::ApiKeys) {
    let file = &config.usage_file;
    if let Err(bad) = usage_file::read(file) {
        let (shown, remedy) = (file.display(), bad.remedy(file));
        tracing::warn!(
            target: "config",
            "the use of API keys in {shown} is not known: {bad}\n  remedy: {remedy}"
        );
    }
}

/// Warns of keys whose usage plan is not in the configuration: they are refused, and all others serve.
fn warn_of_plans(config: &config::ApiKeys, table: &Table) {
    let is_stray = |record: &&Record| config.plan_of(record.plan.as_deref()).is_err();
    let mut strays = table.records().filter(is_stray);
    let Some(stray) = strays.next() else { return };
    let (name, prefix) = (&stray.name, &stray.prefix);
    let (plan, more) = (stray.plan.as_deref().unwrap_or_default(), strays.count());
    let others = match more {
        0 => String::new(),
        more => format!(", and {more} more have such a plan"),
    };
    let file = config.file.display();
    tracing::warn!(
        target: "config",
        "{file}: the API key {name:?} ({prefix}) has the usage plan {plan:?}, which is not in the configuration{others}: clients with such a key get 403\n  remedy: add [usage_plans.{plan}], or revoke the key and make another"
    );
}

/// Finds out whether a file of keys can be used; `key` is that of the authorizer's `api_keys`. Warns of keys in it that
/// cannot.
pub(super) fn check(key: &str, config: &config::ApiKeys) -> Option<Fault> {
    match read_api_keys(&config.file) {
        Ok(table) => {
            warn_of_plans(config, &table);
            None
        }
        Err(error) => Some(Fault {
            key: format!("{key}.file"),
            message: format!("{}: {error}", config.file.display()),
            remedy: error.remedy(&config.file),
            is_passing: error.is_passing(),
        }),
    }
}
