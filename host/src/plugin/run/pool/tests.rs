use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lockgate_tests::Guest;
use tokio::sync::oneshot;
use tokio::task::{JoinSet, yield_now};
use wasmtime::Engine;
use wasmtime::component::Component;

use super::waiting::Waiting;
use super::*;
use crate::config::Config;
use crate::plugin::load;
use crate::plugin::load::source::{Compiled, Source};
use crate::plugin::run::engine;
use crate::plugin::run::epoch_thread::Epochs;
use crate::plugin::run::exports::ExportIndices;

const INSTANCES: usize = 2;

const WAITING: usize = 100;

/// A pool with an engine and a room of its own.
fn pool() -> Pool {
    let (engine, layout) = engine::start(None).unwrap();
    pool_in(&engine, &Room::new(layout.instances))
}

fn pool_in(engine: &Engine, room: &Arc<Room>) -> Pool {
    pool_of(engine, room, 1).unwrap()
}

/// A room with its task, as a gateway has it.
fn room_that_runs(total: u32) -> (Arc<Room>, JoinSet<()>) {
    let (room, mut runs) = (Room::new(total), JoinSet::new());
    runs.spawn(Room::run(Arc::downgrade(&room)));
    (room, runs)
}

/// A pool whose instances have this many tables; none when there is no room for one.
fn pool_of(engine: &Engine, room: &Arc<Room>, tables: u32) -> Option<Pool> {
    pool_with(engine, room, INSTANCES, tables)
}

fn pool_with(engine: &Engine, room: &Arc<Room>, instances: usize, tables: u32) -> Option<Pool> {
    let component = Guest::Probe.path();
    let text = format!(
        "listeners = [{{ address = \"127.0.0.1:0\" }}]\napis.a.stages.s = {{}}\n\
         [plugins.probe]\ncomponent = {component:?}\ngrants = [\"connections\", \"groups\"]\n\
         limits = {{ instances = {instances}, waiting = {WAITING} }}\n"
    );
    let config = Config::parse(&text, Path::new("gateway.toml")).unwrap();
    let plugin = config.plugins.first().unwrap();
    let source = Source::read(component).unwrap();
    let compiled = Compiled {
        component: Component::new(engine, &source.bytes).unwrap(),
        digest: source.digest,
        bytes: source.bytes,
    };
    let pre = load::link(engine, plugin, &compiled).unwrap();
    let maker = Maker {
        exports: ExportIndices::of(&pre),
        pre,
        engine: engine.clone(),
        epochs: Epochs::start(engine).unwrap(),
        plugin: "probe".into(),
        isolation: plugin.isolation,
        environment: plugin.environment.clone(),
        limits: plugin.limits.clone(),
        tables,
    };
    Pool::new(maker, room)
}

/// Takes permits this many times; none when the pool was closed.
async fn take(pool: &Pool, times: usize, at_once: &AtomicUsize) -> Option<()> {
    for _ in 0..times {
        let mut permit = pool.permit(Line::Bounded).await.unwrap()?;
        assert!(at_once.fetch_add(1, Ordering::SeqCst) < INSTANCES);
        if permit.instance.is_none() {
            permit.instance = Some(pool.maker().instance().await.unwrap());
        }
        yield_now().await;
        at_once.fetch_sub(1, Ordering::SeqCst);
    }
    Some(())
}

/// A call that waits gets a permit that another thread puts back at the same moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_calls_have_their_turn_and_never_too_many_at_once() {
    const TAKERS: usize = 16;
    const TIMES: usize = 5_000;
    let (pool, at_once) = (Arc::new(pool()), Arc::new(AtomicUsize::new(0)));
    let mut takers = JoinSet::new();
    for _ in 0..TAKERS {
        let (pool, at_once) = (Arc::clone(&pool), Arc::clone(&at_once));
        takers.spawn(async move { take(&pool, TIMES, &at_once).await });
    }
    let all = tokio::time::timeout(Duration::from_secs(60), takers.join_all());
    for had in all.await.expect("nobody waits for ever") {
        assert_eq!(had, Some(()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn closed_pool_turns_away_calls_that_wait_and_that_come() {
    let (pool, at_once) = (Arc::new(pool()), Arc::new(AtomicUsize::new(0)));
    let mut takers = JoinSet::new();
    for _ in 0..16 {
        let (pool, at_once) = (Arc::clone(&pool), Arc::clone(&at_once));
        takers.spawn(async move { take(&pool, usize::MAX, &at_once).await });
    }
    pool.close().await;
    let all = tokio::time::timeout(Duration::from_secs(60), takers.join_all());
    for had in all.await.expect("nobody waits for ever") {
        assert_eq!(had, None);
    }
    assert!(pool.permit(Line::Bounded).await.unwrap().is_none());
    // Instances that were in use when it closed are not kept either.
    assert!(pool.shards.0.all().all(|shard| shard.take().is_none()));
}

/// Has the pool make all its instances, which are idle afterwards.
async fn fill(pool: &Pool) {
    drop(hold(pool, INSTANCES).await);
}

/// Takes `count` permits, each with an instance.
async fn hold(pool: &Pool, count: usize) -> Vec<Permit> {
    let mut held = Vec::new();
    for _ in 0..count {
        let mut permit = pool.permit(Line::Bounded).await.unwrap().unwrap();
        permit.instance = Some(pool.maker().instance().await.unwrap());
        held.push(permit);
    }
    held
}

#[tokio::test]
async fn idle_instances_end_when_others_need_their_room() {
    let (engine, _) = engine::start(None).unwrap();
    let room = Room::new(3);
    let pools: Vec<_> = (0..2).map(|_| pool_in(&engine, &room)).collect();
    for pool in pools.iter().chain(&pools) {
        fill(pool).await;
        assert_eq!(pool.shards.idle(), INSTANCES);
    }
    // One instance of each version stays, and a third version finds room for its first.
    let third = pool_in(&engine, &room);
    assert_eq!(
        pools.iter().map(|pool| pool.shards.idle()).sum::<usize>(),
        2
    );
    drop(third.permit(Line::Bounded).await.unwrap().unwrap());
}

#[tokio::test]
async fn calls_of_both_lines_get_the_room_that_other_calls_held() {
    let (engine, _) = engine::start(None).unwrap();
    let room = Room::new(2); // for the first instance of each, and nothing else
    let (one, other) = (pool_in(&engine, &room), Arc::new(pool_in(&engine, &room)));
    let held = (
        one.permit(Line::Bounded).await.unwrap().unwrap(),
        other.permit(Line::Bounded).await.unwrap().unwrap(),
    );
    let mut waiting = JoinSet::new();
    for line in [Line::Bounded, Line::Unbounded] {
        let other = Arc::clone(&other);
        waiting.spawn(async move { other.permit(line).await.unwrap().is_some() });
    }
    yield_now().await;
    drop(held);
    assert_eq!(waiting.join_all().await, [true, true]);
}

#[tokio::test]
async fn call_that_waits_gets_the_room_of_an_idle_instance_of_another_version() {
    let (engine, _) = engine::start(None).unwrap();
    let (room, _runs) = room_that_runs(3);
    for line in [Line::Bounded, Line::Unbounded] {
        let (one, other) = (pool_in(&engine, &room), pool_in(&engine, &room));
        let busy = hold(&one, INSTANCES).await;
        let first = hold(&other, 1).await;
        let (permit, ()) = tokio::time::timeout(Duration::from_secs(60), async {
            tokio::join!(other.permit(line), async {
                yield_now().await;
                drop(busy);
            })
        })
        .await
        .expect("told of the room");
        drop((permit.unwrap().unwrap(), first));
    }
}

#[tokio::test]
async fn call_that_waits_gets_the_room_of_a_closed_version() {
    let (engine, _) = engine::start(None).unwrap();
    let (room, _runs) = room_that_runs(3);
    let (one, other) = (pool_in(&engine, &room), pool_in(&engine, &room));
    let busy = hold(&one, INSTANCES).await;
    let first = hold(&other, 1).await;
    let (permit, ()) = tokio::time::timeout(Duration::from_secs(60), async {
        tokio::join!(other.permit(Line::Bounded), async {
            one.close().await;
            drop(busy);
        })
    })
    .await
    .expect("told of the room");
    drop((permit.unwrap().unwrap(), first));
}

/// The first in line does not get all of the room.
#[tokio::test]
async fn versions_that_wait_for_room_take_turns() {
    const EACH: usize = 4;
    let (engine, _) = engine::start(None).unwrap();
    let (room, _runs) = room_that_runs(6);
    let pools: Vec<_> = (0..3)
        .map(|_| Arc::new(pool_with(&engine, &room, EACH, 1).unwrap()))
        .collect();
    let [busy, one, other] = &*pools else {
        panic!("three")
    };
    let held = hold(busy, EACH).await;
    let firsts = (hold(one, 1).await, hold(other, 1).await);
    let mut waiting = JoinSet::new();
    for (name, pool) in [("one", one), ("other", other)] {
        for _ in 1..EACH {
            let pool = Arc::clone(pool);
            waiting.spawn(async move { (name, pool.permit(Line::Bounded).await.unwrap()) });
        }
    }
    for _ in 0..2 * EACH {
        yield_now().await;
    }
    drop(held);
    let mut had = Vec::new();
    for _ in 1..EACH {
        let next = tokio::time::timeout(Duration::from_secs(60), waiting.join_next());
        had.push(next.await.expect("told of the room").unwrap().unwrap());
    }
    for name in ["one", "other"] {
        assert!(had.iter().any(|(had, _)| *had == name), "{name}");
    }
    drop(firsts);
}

/// The first permit of each is held throughout, and all share one more instance: each turn of a version waits for the
/// end of another's.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn room_passed_between_versions_is_never_lost() {
    const VERSIONS: u32 = 3;
    const TIMES: usize = 300;
    let (engine, _) = engine::start(None).unwrap();
    let (room, _runs) = room_that_runs(VERSIONS + 1);
    let mut takers = JoinSet::new();
    let mut firsts = Vec::new();
    let pools: Vec<_> = (0..VERSIONS)
        .map(|_| Arc::new(pool_in(&engine, &room)))
        .collect();
    for pool in &pools {
        firsts.extend(hold(pool, 1).await);
    }
    for pool in &pools {
        let pool = Arc::clone(pool);
        takers.spawn(async move { take(&pool, TIMES, &AtomicUsize::new(0)).await });
    }
    let all = tokio::time::timeout(Duration::from_secs(60), takers.join_all());
    for had in all.await.expect("nobody waits for ever") {
        assert_eq!(had, Some(()));
    }
    drop(firsts);
}

#[tokio::test]
async fn unused_instance_ends_and_the_last_one_stays() {
    let (engine, _) = engine::start(None).unwrap();
    let room = Room::new(8);
    let pool = pool_in(&engine, &room);
    fill(&pool).await;
    room.give_back_unused();
    assert_eq!(pool.shards.idle(), INSTANCES, "used since the last check");
    drop(pool.permit(Line::Bounded).await.unwrap());
    room.give_back_unused();
    assert_eq!(pool.shards.idle(), 1);
    room.give_back_unused();
    assert_eq!(pool.shards.idle(), 1);
}

/// The event that comes once for each connection is never turned away, however long the lines are.
#[tokio::test]
async fn only_the_bounded_line_is_ever_full() {
    let pool = Arc::new(pool());
    let held = [
        pool.permit(Line::Bounded).await.unwrap(),
        pool.permit(Line::Bounded).await.unwrap(),
    ];
    let mut waiting = JoinSet::new();
    for line in [Line::Unbounded, Line::Bounded] {
        for _ in 0..3 * WAITING {
            let pool = Arc::clone(&pool);
            waiting.spawn(async move { pool.permit(line).await.is_ok() });
        }
    }
    for _ in 0..6 * WAITING {
        yield_now().await;
    }
    drop(held);
    let served = waiting.join_all().await;
    assert_eq!(served.iter().filter(|served| **served).count(), 4 * WAITING);
}

#[tokio::test]
async fn instance_with_many_tables_takes_the_room_of_several() {
    let (engine, _) = engine::start(None).unwrap();
    let room = Room::new(7);
    let pool = pool_of(&engine, &room, 9).unwrap();
    let first = pool.permit(Line::Bounded).await.unwrap().unwrap();
    let second = pool.permit(Line::Bounded).await.unwrap().unwrap();
    // Three units each: one is left, until an instance ends.
    assert!(pool_of(&engine, &room, 5).is_none());
    drop(second);
    assert!(pool_of(&engine, &room, 5).is_some());
    drop((first, pool));
    assert!(pool_of(&engine, &room, 25).is_some(), "all that there is");
}

#[test]
fn lines_take_turns() {
    let mut waiting = Waiting::default();
    let mut waits = Vec::new();
    for _ in 0..3 {
        let (offer, turn) = oneshot::channel();
        waiting.push(Line::Unbounded, offer);
        waits.push(turn);
    }
    for _ in 0..2 {
        // A call that has given up marks the bounded line.
        waiting.push(Line::Bounded, oneshot::channel().0);
    }
    let turns: Vec<_> = std::iter::from_fn(|| waiting.next())
        .map(|next| {
            if next.is_closed() {
                Line::Bounded
            } else {
                Line::Unbounded
            }
        })
        .collect();
    let (bounded, unbounded) = (Line::Bounded, Line::Unbounded);
    assert_eq!(turns, [unbounded, bounded, unbounded, bounded, unbounded]);
}
