//! The gateway's part of a binary upgrade: nothing that is served changes until the other process serves.

use std::pin::pin;
use std::sync::Arc;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::Gateway;
use super::stop::longest_stop;
use crate::authorizer::KnownKeys;
use crate::handover::{self, CLEAN_UP, NotServing};
use crate::management::{NoUpgrade, Upgrade};
use crate::plugin;

/// The name of the file that tells the successor process what no file of the operator tells.
pub(super) const HERITAGE: &str = "plugins";

/// What that file has. Either process may be of an earlier version.
#[derive(Deserialize, Serialize)]
pub(super) struct Heritage {
    #[serde(flatten)]
    pub(super) plugins: plugin::Heritage,
    /// The issuer of tokens may be down while the successor starts.
    #[serde(default)]
    pub(super) known_keys: KnownKeys,
    /// Longest time from the upgrade to the end of the process that is succeeded, in seconds.
    #[serde(default)]
    pub(super) drains_within_s: Option<u64>,
}

impl Gateway {
    /// Waits for an upgrade request of the management listener.
    pub(crate) async fn next_upgrade_request(&self) -> Option<Upgrade> {
        self.upgrade_requests.lock().await.recv().await
    }

    /// Starts this program again, hands it the sockets, and gives the id of the new process once that serves. This
    /// process serves too, until it stops as [`StopReason::Replaced`](super::StopReason::Replaced). On an error nothing
    /// has changed.
    ///
    /// Nothing that is served changes meanwhile: the other process has begun with it, and would undo a change. So a
    /// reload under way ends first (`idle` waits for the caller's own), and if it does not end in time, no process is
    /// started.
    pub(crate) async fn hand_over(
        &self,
        idle: impl Future<Output = ()>,
        stop: impl Future<Output = ()>,
    ) -> Result<u32, NoUpgrade> {
        let limit = self.lock().config.limits.upgrade;
        let limit_s = limit.as_secs();
        let stopped = async {
            stop.await;
            NoUpgrade::AskedToStop
        };
        let mut stopped = pin!(stopped);
        // The process of an upgrade that was given up may still hold an address.
        tokio::select! {
            _ = timeout(CLEAN_UP, self.ending_successors.wait()) => {}
            why = &mut stopped => return Err(why),
        }
        let unchanged = async {
            idle.await;
            let reloading = self.reloading.lock().await;
            (reloading, self.plugins.hand_over().await)
        };
        let (_reloading, failing) = tokio::select! {
            unchanged = unchanged => unchanged,
            why = &mut stopped => return Err(why),
            () = sleep(limit) => return Err(NoUpgrade::Reloading { limit_s }),
        };
        self.handing_over.send_replace(true);
        tracing::info!("upgrading: starting a new process");
        let given_up = async {
            tokio::select! {
                Ok(why) = failing => why.into(),
                why = stopped => why,
                () = sleep(limit) => NoUpgrade::TooSlow { limit_s },
            }
        };
        let handed_over = self.hand_over_unchanged(given_up).await;
        if handed_over.is_err() {
            self.sockets.ports().iter().for_each(|port| port.keep());
            self.plugins.end_hand_over().await;
            self.handing_over.send_replace(false);
        }
        handed_over.map_err(upgrade_error)
    }

    async fn hand_over_unchanged(&self, given_up: impl Future<Output = NoUpgrade>) -> Result<u32> {
        let plugins = Arc::clone(&self.plugins);
        let known_keys = self.lock().stages.known_keys();
        let drains_within = longest_stop(&self.lock().config.limits);
        let heritage = spawn_blocking(move || {
            serde_json::to_vec(&Heritage {
                plugins: plugins.heritage(),
                known_keys,
                drains_within_s: Some(drains_within.as_secs()),
            })
        });
        let heritage = heritage.await??;
        let heritage_file = (HERITAGE, &*heritage);
        let given_up = async { anyhow::Error::from(given_up.await) };
        let successor = handover::hand_over(
            &self.sockets,
            heritage_file,
            given_up,
            &self.ending_successors,
        )
        .await?;
        self.sockets.set_handed_over();
        Ok(successor)
    }

    /// Closes the UDP sockets of other processes once they have ended: those before this one, and successors that failed.
    pub(super) async fn tend_ports(self: Arc<Self>) {
        let mut upgrades = self.handing_over.subscribe();
        let tend = async || {
            for port in self.sockets.ports() {
                while port.other_ended().await {
                    // A successor has copies.
                    let _no_upgrade = self.reloading.lock().await;
                    match port.forget_ended() {
                        Ok(()) => {
                            tracing::debug!("closed the UDP socket of a process that has ended")
                        }
                        Err(error) => {
                            tracing::warn!(
                                "the UDP socket of a process that has ended stays: {error}"
                            );
                            break;
                        }
                    }
                }
            }
            std::future::pending().await
        };
        loop {
            tokio::select! {
                () = tend() => {}
                changed = upgrades.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Runs work that excludes upgrades: requests on the management listener are answered with `why`.
    pub(crate) async fn without_upgrade<T>(
        &self,
        why: NoUpgrade,
        work: impl Future<Output = T>,
    ) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                Some(asked) = self.next_upgrade_request() => drop(asked.send(Err(why.clone()))),
            }
        }
    }
}

fn upgrade_error(error: anyhow::Error) -> NoUpgrade {
    match error.downcast() {
        Ok(known) => known,
        Err(error) if error.is::<NotServing>() => NoUpgrade::NotServing(format!("{error:#}")),
        Err(error) => NoUpgrade::Fault(format!("{error:#}")),
    }
}
