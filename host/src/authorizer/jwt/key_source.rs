//! The keys of one issuer, kept fresh by a task of their own.
//!
//! The task gets the keys at once, then every [`REFRESH`], and when a token names a key that is not among them, but then
//! at most every [`REFETCH`], whatever clients send. Keys that are known stay in use while the issuer cannot be reached,
//! and while it answers anything but keys; other keys take their place, also if none of these fits.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::fetch::{self, FetchError, Fetched};
use super::known_keys::{KnownKeys, KnownSet};
use crate::auth::Identity;
use crate::auth::jwt::{Invalid, Keys, Token};
use crate::clock::now_ms;
use crate::config::{JwtIssuer, JwtKeys};
use crate::permits::Share;

/// Time after which keys are got again, so that one that the issuer has withdrawn counts no longer.
const REFRESH: Duration = Duration::from_secs(300);

/// The same for a file, which costs nobody anything.
const REFRESH_FILE: Duration = Duration::from_secs(2);

/// Least time from one attempt to the next that tokens with unknown keys cause: a client can write any key id.
const REFETCH: Duration = Duration::from_secs(30);

/// First pause after an attempt that failed without any key known; each is twice the one before, up to [`REFETCH`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// One issuer: its rules, and its keys.
pub(super) struct KeySource {
    shared: Arc<Shared>,
    /// Ends with the source.
    _refreshing: AbortOnDropHandle<()>,
}

struct Shared {
    issuer: JwtIssuer,
    /// None until they have been got once.
    keys: ArcSwapOption<Fetched>,
    attempts: watch::Sender<Attempts>,
    /// A token names an unknown key.
    wanted: Notify,
}

/// The attempts to get the keys.
#[derive(Clone, Copy)]
struct Attempts {
    ended: u64,
    under_way: bool,
    /// The beginning of the latest.
    began: Instant,
}

/// The reason why a token lets nobody in.
pub(super) enum NotVerified {
    Invalid(Invalid),
    /// The issuer's keys have never been got.
    NoKeys,
    /// There is no place for one more that waits.
    Busy,
}

impl KeySource {
    /// Begins to get the keys of an issuer. Those that are known count until then. Needs a runtime.
    pub(super) fn start(issuer: &JwtIssuer, known: &KnownKeys) -> Self {
        let shared = Arc::new(Shared {
            issuer: issuer.clone(),
            keys: ArcSwapOption::from(known.of(issuer).map(Arc::new)),
            attempts: watch::Sender::new(Attempts {
                ended: 0,
                under_way: true,
                began: Instant::now(),
            }),
            wanted: Notify::new(),
        });
        let refreshing = Arc::clone(&shared).refresh();
        Self {
            shared,
            _refreshing: AbortOnDropHandle::new(TaskTracker::new().spawn(refreshing)),
        }
    }

    pub(super) fn issuer(&self) -> &JwtIssuer {
        &self.shared.issuer
    }

    /// The keys that are known by now, if they come from an address.
    pub(super) fn known(&self) -> Option<KnownSet> {
        let keys = self.shared.keys.load();
        KnownSet::of(&self.shared.issuer, keys.as_ref()?)
    }

    /// Verifies a token of this issuer. Waits for the keys if there are none yet, or if the token names one that is
    /// unknown and may be new, with a place in `waiting`, if there is a bound.
    pub(super) async fn verify(
        &self,
        token: &Token<'_>,
        waiting: Option<&Share>,
    ) -> Result<Identity, NotVerified> {
        match self.shared.verify(token) {
            Err(NotVerified::NoKeys | NotVerified::Invalid(Invalid::UnknownKey)) => {}
            verified => return verified,
        }
        self.shared.await_attempt(waiting).await?;
        self.shared.verify(token)
    }
}

impl Shared {
    fn verify(&self, token: &Token<'_>) -> Result<Identity, NotVerified> {
        let keys = self.keys.load();
        let keys = keys.as_ref().ok_or(NotVerified::NoKeys)?;
        let verified = token.verify(&self.issuer, &keys.keys, now_ms());
        verified.map_err(NotVerified::Invalid)
    }

    /// Waits for the end of the attempt under way, or of a new one unless the last is recent.
    async fn await_attempt(&self, waiting: Option<&Share>) -> Result<(), NotVerified> {
        let mut attempts = self.attempts.subscribe();
        let now = *attempts.borrow();
        if !now.under_way && now.began.elapsed() < REFETCH {
            return Ok(());
        }
        let place = waiting.map(|waiting| waiting.take().ok_or(NotVerified::Busy));
        let _place = place.transpose()?;
        if !now.under_way {
            self.wanted.notify_one();
        }
        let over = attempts.wait_for(|attempts| attempts.ended > now.ended);
        // Without a new attempt, the keys are what they were.
        let _ = timeout(fetch::PATIENCE, over).await;
        Ok(())
    }

    async fn refresh(self: Arc<Self>) {
        let mut told = None;
        let mut pause = FIRST_PAUSE;
        loop {
            let fetched = fetch::fetch(&self.issuer).await;
            let is_there = fetched.is_ok() || self.keys.load().is_some();
            self.tell(&fetched, &mut told);
            let failed = fetched.is_err();
            match fetched {
                Ok(keys) => self.keys.store(Some(Arc::new(keys))),
                Err(error) if is_there && error.withdraws() => {
                    let (keys, set) = (Keys::none(), None);
                    self.keys.store(Some(Arc::new(Fetched { keys, set })));
                }
                Err(_) => {}
            }
            self.attempts.send_modify(|attempts| {
                attempts.ended += 1;
                attempts.under_way = false;
            });
            let next = match (&self.issuer.keys, failed) {
                // They cannot change.
                (JwtKeys::Pem(_), _) => return,
                (JwtKeys::File(_), _) => REFRESH_FILE,
                (JwtKeys::Discovery(_) | JwtKeys::Url(_), false) => REFRESH,
                (JwtKeys::Discovery(_) | JwtKeys::Url(_), true) if is_there => REFETCH,
                (JwtKeys::Discovery(_) | JwtKeys::Url(_), true) => {
                    let next = pause;
                    pause = REFETCH.min(pause * 2);
                    next
                }
            };
            self.pause(next).await;
            self.attempts.send_modify(|attempts| {
                attempts.under_way = true;
                attempts.began = Instant::now();
            });
        }
    }

    /// Waits for this time, or until a token wants it sooner and may.
    async fn pause(&self, time: Duration) {
        let may_be_wanted = self.attempts.borrow().began + REFETCH;
        let wanted = async {
            sleep_until(may_be_wanted).await;
            self.wanted.notified().await;
        };
        tokio::select! {
            () = sleep(time) => {}
            () = wanted => {}
        }
    }

    /// Logs a failure once, and its end.
    fn tell(&self, fetched: &Result<Fetched, FetchError>, told: &mut Option<String>) {
        let issuer = &*self.issuer.issuer;
        match fetched {
            Ok(_) => {
                if told.take().is_some() {
                    tracing::info!(issuer, "the keys of the tokens' issuer are there again");
                }
            }
            Err(error) => {
                let text = error.to_string();
                if told.as_deref() == Some(&text) {
                    return;
                }
                let then = match self.keys.load().is_some() {
                    true if error.withdraws() => "and the known ones count no longer",
                    true => "the known ones stay in use",
                    false => "its tokens are refused until they are there",
                };
                tracing::warn!(
                    issuer,
                    "the keys of the tokens' issuer cannot be got, {then}: {text}"
                );
                *told = Some(text);
            }
        }
    }
}
