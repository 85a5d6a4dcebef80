use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use loom::future::block_on;

use super::Maker;
use super::acquire::Pool;
use super::permit::Permit;
use super::room::Room;
use super::waiting::Line;
use crate::plugin::run::tests::loom::{check, spawn};

/// A pool with no other version in its room.
fn pool(instances: u32) -> Arc<Pool> {
    pool_in(&Room::new(100), instances)
}

fn pool_in(room: &Arc<Room>, instances: u32) -> Arc<Pool> {
    Arc::new(Pool::new(Maker::new(instances), room).unwrap())
}

/// None when the pool is closed.
fn permit(pool: &Pool) -> Option<Permit> {
    block_on(pool.permit(Line::Bounded)).unwrap()
}

fn hold(pool: &Pool) -> Permit {
    let mut permit = permit(pool).unwrap();
    permit.instance = Some(pool.maker().instance());
    permit
}

/// A call on shard 1 that ends while another on shard 0 waits for its instance.
#[test]
fn call_that_waits_gets_the_instance_that_becomes_idle() {
    check(3, || {
        let pool = pool(1);
        let held = hold(&pool);
        let ends = spawn(1, move || {
            held.call();
        });
        permit(&pool).unwrap().call();
        ends.join().unwrap();
        assert_eq!(pool.maker().alive.load(Ordering::Relaxed), 1);
    });
}

/// More calls than instances, which overtake each other where they can.
#[test]
fn each_call_gets_an_instance_of_its_own() {
    check(2, || {
        let pool = pool(1);
        let others = [0, 1].map(|shard| {
            let pool = Arc::clone(&pool);
            spawn(shard, move || permit(&pool).unwrap().call())
        });
        permit(&pool).unwrap().call();
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(pool.maker().alive.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn closed_pool_turns_calls_away_and_keeps_no_instance() {
    check(2, || {
        let pool = pool(1);
        let held = hold(&pool);
        let ends = spawn(1, move || held.call());
        let waits = {
            let pool = Arc::clone(&pool);
            spawn(0, move || {
                let permit = permit(&pool);
                if let Some(permit) = permit {
                    permit.call();
                }
            })
        };
        pool.turn_away();
        assert!(permit(&pool).is_none());
        ends.join().unwrap();
        waits.join().unwrap();
        assert_eq!(pool.maker().alive.load(Ordering::Relaxed), 0);
    });
}

/// One instance is idle, and another becomes so.
#[test]
fn closed_pool_ends_instances_that_become_idle_later() {
    check(3, || {
        let pool = pool(2);
        let (idle, ends) = (hold(&pool), hold(&pool));
        drop(idle);
        let ends = spawn(1, move || ends.call());
        pool.turn_away();
        ends.join().unwrap();
        assert_eq!(pool.maker().alive.load(Ordering::Relaxed), 0);
    });
}

/// Two versions, and room for three instances: `busy` has two, and `waits` needs a second one while one of `busy` ends.
/// The room's task and the call that waits take turns on one thread.
fn room_reaches_the_version_that_waits(end: impl Fn(Permit) + Copy + Send + Sync + 'static) {
    check(3, move || {
        let room = Room::new(3);
        let (busy, waits) = (pool_in(&room, 2), pool_in(&room, 2));
        let (ended, stays, first) = (hold(&busy), hold(&busy), hold(&waits));
        room.serve(); // no version is in line: from now on an idle instance causes no notification
        let ends = spawn(1, move || end(ended));
        let second = block_on(async {
            let mut second = pin!(waits.permit(Line::Bounded));
            loop {
                tokio::select! {
                    biased;
                    permit = &mut second => break permit.unwrap().unwrap(),
                    () = room.changed.notified() => room.serve(),
                }
            }
        });
        second.call();
        ends.join().unwrap();
        drop((first, stays));
    });
}

#[test]
fn version_that_waits_gets_the_room_of_an_idle_instance() {
    room_reaches_the_version_that_waits(Permit::call);
}

#[test]
fn version_that_waits_gets_the_room_of_an_instance_that_ended() {
    room_reaches_the_version_that_waits(|mut permit| {
        permit.instance = None;
        drop(permit);
    });
}
