//! The numbers of handshakes, stages and routes, which the metrics page reads when someone asks.
//!
//! A message writes to memory of its own thread alone. Its counters are found when a snapshot is made, and never by a
//! name.

mod handshakes;
mod histogram;
mod stage;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) use handshakes::{Handshakes, Outcome};
pub(crate) use histogram::{Exemplar, Histogram, TimeHistogram};
pub(crate) use stage::{
    DatagramCounters, LastError, POSTED, RouteCounters, StageCounters, UNROUTED,
};

use stage::MAX_ROUTES;

/// The name of a stage: its API's and its own.
type StageKey = (String, String);

/// All counters of one gateway.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) handshakes: Handshakes,
    stages: Mutex<BTreeMap<StageKey, Arc<StageCounters>>>,
}

/// The counters of one stage under a new configuration, and those of its routes by their keys.
pub(crate) struct ServedCounters {
    pub(crate) stage: Arc<StageCounters>,
    pub(crate) routes: BTreeMap<Box<str>, Arc<RouteCounters>>,
}

impl Counters {
    /// Keeps the counters of these stages and routes, begins those of new ones, and forgets the others.
    pub(crate) fn serve<'a, R>(
        &self,
        stages: impl Iterator<Item = (StageKey, R)>,
    ) -> BTreeMap<StageKey, ServedCounters>
    where
        R: Iterator<Item = &'a str>,
    {
        let mut all = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *all);
        let mut room = MAX_ROUTES;
        let mut served = BTreeMap::new();
        for (key, routes) in stages {
            let stage = before.remove(&key).unwrap_or_default();
            let routes = stage.serve(routes, &mut room);
            all.insert(key.clone(), Arc::clone(&stage));
            served.insert(key, ServedCounters { stage, routes });
        }
        served
    }

    /// The counters of each stage, in the order of their names.
    pub(crate) fn stages(&self) -> Vec<(StageKey, Arc<StageCounters>)> {
        let all = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter()
            .map(|(key, stage)| (key.clone(), Arc::clone(stage)))
            .collect()
    }
}
