//! The pool of a version: `limits.instances` permits, each for one call at a time, and the instances that calls
//! reuse.
//!
//! A call that ends leaves its permit and its instance on the list of its own thread ([`idle`]). The next call of
//! that thread finds both there, and shares no lock, counter or cache line with other threads. Only when that list is
//! empty does a call look further ([`acquire`]): at the lists of other threads, then at free permits; at last it
//! waits ([`waiting`]). The instances of all versions together are bounded by the engine's [`room`].
//!
//! # States of a permit
//!
//! ```text
//!              find, wait: free -= 1, takes room unless it is the first
//!       ┌────────────────────────────────────────────────────────────▶┐
//!     free                                                           held ──────▶ held, by a call that waited
//!       ◀────────────────────────────────────────────────────────────┘ ▲  offer, if one waits
//!       ▲  offer without an instance: free += 1, gives room back       │
//!       │                                                              │ take (own shard, then any)
//!       └────────────────────────── idle ◀─────────────────────────────┘
//!          give_back_oldest, close          put, with its instance
//! ```
//!
//! | state | kept in | under |
//! | --- | --- | --- |
//! | free | `Queue::free`, a number | the queue's lock |
//! | held | a [`Permit`], in a call or on its way to one that waits | ownership |
//! | idle | a shard's list, as its instance | the shard's lock |
//!
//! A call that waits is in one of the two lines of [`waiting`], under the queue's lock, until a permit is sent to it, the
//! version is retired, or the call gives up. A permit that is sent to a call that has given up is dropped, and offered
//! once more.
//!
//! # Invariants
//!
//! 1. free + held + idle = `limits.instances`: no more calls at once, and an instance is used by one call at a time.
//! 2. A call does not wait while a permit is idle, or free with room for it: a permit that is released goes to the call
//!    that has waited longest.
//! 3. Once [`Pool::close`] returns, no call waits, no instance is idle, and none becomes idle.
//! 4. The room that a version holds is that of its permits that are not free, and of one at least.
//!
//! # No wakeup is lost
//!
//! A call that ends takes the lock of its shard and no other, so it cannot see the queue. It reads one flag,
//! `Shared::wanted`, which is set and read `Relaxed`. That is enough because both sides pass through the lock of the
//! same shard:
//!
//! ```text
//!   (A) looks for an instance                     (B) makes an instance idle
//!       1. wanted |= BY_OWN or BY_OTHERS              1. locks the shard, pushes, unlocks
//!       2. locks each shard, looks, unlocks           2. reads wanted
//! ```
//!
//! The second side to hold the shard's lock sees step 1 of the first: if B is first, A finds the instance; if A is
//! first, its unlock happens before B's lock, and B reads the flag. No fence is needed, as long as each look takes
//! the lock and each side keeps the order of its steps.
//!
//! | (A) sets | then looks | (B) then |
//! | --- | --- | --- |
//! | `Pool::wait`: `BY_OWN` | `Shards::unused` | takes an instance of its shard back, and offers it |
//! | `Pool::turn_away`: `BY_OWN`, for good | takes all of each shard | offers it, and `closed` has it ended |
//! | `Room::serve`: `BY_OTHERS`, of all versions | `Room::reclaim` | notifies the room's task, unless it is the last |
//!
//! `BY_OWN` is cleared in `Shard::offer` alone, under the queue's lock, when no call waits and the version is not
//! retired. `Pool::enter` reads `wanted` as a hint, so as not to overtake: a stale value costs a turn, and no wakeup.
//!
//! Lock order: the queue, then a shard, then the room.
//!
//! **Cost.** A call that finds an instance in its shard locks that shard twice, counts its users up and down, and
//! reads `wanted` twice. All of this but the flag lies in memory of its thread's shard.
//!
//! `tests/loom/pool.rs` has loom try the interleavings of all files here but [`call`].

mod acquire;
mod call;
mod idle;
mod permit;
mod room;
#[cfg(test)]
mod tests;
mod waiting;

use super::barrier::Barrier;
use super::instance::{Instance, Maker};
use super::sync;

pub(crate) use acquire::{Pool, Usage};
pub(crate) use permit::Permit;
pub(crate) use room::Room;
pub(crate) use waiting::Line;
