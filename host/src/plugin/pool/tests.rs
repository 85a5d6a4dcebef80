use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use lockgate_tests::Guest;
use tokio::task::{JoinSet, yield_now};
use wasmtime::Engine;
use wasmtime::component::Component;

use super::super::component::{Compiled, Source};
use super::super::{engine, load};
use super::*;
use crate::config::Config;

const INSTANCES: usize = 2;

const WAITING: usize = 100;

/// A pool of its own engine, with nobody else in its room.
fn pool() -> Pool {
    let (engine, layout) = engine::start(None).unwrap();
    pool_in(&engine, &Room::new(layout.instances))
}

fn pool_in(engine: &Engine, room: &Arc<Room>) -> Pool {
    pool_of(engine, room, 1).unwrap()
}

/// None when there is no room for an instance with so many tables.
fn pool_of(engine: &Engine, room: &Arc<Room>, tables: u32) -> Option<Pool> {
    let component = Guest::Probe.path();
    let text = format!(
        "listeners = [{{ address = \"127.0.0.1:0\" }}]\napis.a.stages.s = {{}}\n\
         [plugins.probe]\ncomponent = {component:?}\ngrants = [\"connections\", \"groups\"]\n\
         limits = {{ instances = {INSTANCES}, waiting = {WAITING} }}\n"
    );
    let config = Config::parse(&text, Path::new("gateway.toml")).unwrap();
    let plugin = config.plugins.first().unwrap();
    let source = Source::read(component).unwrap();
    let compiled = Compiled {
        component: Component::new(engine, &source.bytes).unwrap(),
        digest: source.digest,
        bytes: source.bytes,
    };
    let maker = Maker {
        pre: load::link(engine, plugin, &compiled).unwrap(),
        engine: engine.clone(),
        plugin: "probe".into(),
        isolation: plugin.isolation,
        limits: plugin.limits.clone(),
        tables,
    };
    Pool::new(maker, room)
}

/// Takes places until it has had so many; none when the pool was closed.
async fn take(pool: &Pool, times: usize, at_once: &AtomicUsize) -> Option<()> {
    for _ in 0..times {
        let mut place = pool.place(Line::Bounded).await.unwrap()?;
        assert!(at_once.fetch_add(1, Ordering::SeqCst) < INSTANCES);
        if place.instance.is_none() {
            place.instance = Some(pool.maker().instance().await.unwrap());
        }
        yield_now().await;
        at_once.fetch_sub(1, Ordering::SeqCst);
    }
    Some(())
}

/// Whoever waits is given a place that another thread has put back at the same moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn everyone_has_a_turn_and_never_too_many_at_once() {
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
async fn closing_sends_away_who_waits_and_who_comes() {
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
    assert!(pool.place(Line::Bounded).await.unwrap().is_none());
    // What was in use when it closed is kept by nobody either.
    assert!(pool.shelves.0.all().all(|shelf| shelf.take().is_none()));
}

/// Has the pool make as many instances as it may, idle by then.
async fn fill(pool: &Pool) {
    let mut places = Vec::new();
    for _ in 0..INSTANCES {
        let mut place = pool.place(Line::Bounded).await.unwrap().unwrap();
        place.instance = Some(pool.maker().instance().await.unwrap());
        places.push(place);
    }
}

#[tokio::test]
async fn idle_instances_end_when_others_need_their_room() {
    let (engine, _) = engine::start(None).unwrap();
    let room = Room::new(3);
    let pools: Vec<_> = (0..2).map(|_| pool_in(&engine, &room)).collect();
    for pool in pools.iter().chain(&pools) {
        fill(pool).await;
        assert_eq!(pool.shelves.idle(), INSTANCES);
    }
    // Nobody has one to spare: of each version one stays, and a third finds room for its first.
    let third = pool_in(&engine, &room);
    assert_eq!(
        pools.iter().map(|pool| pool.shelves.idle()).sum::<usize>(),
        2
    );
    drop(third.place(Line::Bounded).await.unwrap().unwrap());
}

#[tokio::test]
async fn room_that_calls_hold_is_waited_for_and_nobody_is_left_out() {
    let (engine, _) = engine::start(None).unwrap();
    let room = Room::new(2); // for the first instance of each, and nothing else
    let (one, other) = (pool_in(&engine, &room), Arc::new(pool_in(&engine, &room)));
    let held = (
        one.place(Line::Bounded).await.unwrap().unwrap(),
        other.place(Line::Bounded).await.unwrap().unwrap(),
    );
    let mut waiting = JoinSet::new();
    for line in [Line::Bounded, Line::Everyone] {
        let other = Arc::clone(&other);
        waiting.spawn(async move { other.place(line).await.unwrap().is_some() });
    }
    yield_now().await;
    drop(held);
    assert_eq!(waiting.join_all().await, [true, true]);
}

#[tokio::test]
async fn an_instance_that_nobody_uses_ends_and_the_last_one_stays() {
    let (engine, _) = engine::start(None).unwrap();
    let room = Room::new(8);
    let pool = pool_in(&engine, &room);
    fill(&pool).await;
    room.give_back_unused();
    assert_eq!(pool.shelves.idle(), INSTANCES, "used since the last look");
    drop(pool.place(Line::Bounded).await.unwrap());
    room.give_back_unused();
    assert_eq!(pool.shelves.idle(), 1);
    room.give_back_unused();
    assert_eq!(pool.shelves.idle(), 1);
}

/// What once comes for each connection is turned away by nobody, however long the lines are.
#[tokio::test]
async fn only_the_bounded_line_is_ever_full() {
    let pool = Arc::new(pool());
    let held = [
        pool.place(Line::Bounded).await.unwrap(),
        pool.place(Line::Bounded).await.unwrap(),
    ];
    let mut waiting = JoinSet::new();
    for line in [Line::Everyone, Line::Bounded] {
        for _ in 0..3 * WAITING {
            let pool = Arc::clone(&pool);
            waiting.spawn(async move { pool.place(line).await.is_ok() });
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
async fn an_instance_with_many_tables_takes_the_room_of_several() {
    let (engine, _) = engine::start(None).unwrap();
    let room = Room::new(7);
    let pool = pool_of(&engine, &room, 9).unwrap();
    let first = pool.place(Line::Bounded).await.unwrap().unwrap();
    let second = pool.place(Line::Bounded).await.unwrap().unwrap();
    // Three units each: one is left, until an instance ends.
    assert!(pool_of(&engine, &room, 5).is_none());
    drop(second);
    assert!(pool_of(&engine, &room, 5).is_some());
    drop((first, pool));
    assert!(pool_of(&engine, &room, 25).is_some(), "all that there is");
}
