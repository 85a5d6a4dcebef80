use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::plugin::run::barrier::Barrier;

#[tokio::test]
async fn shut_barrier_waits_for_starting_calls_and_admits_none() {
    let barrier = Arc::new(Barrier::default());
    let start = barrier.enter().unwrap();
    let shut = Arc::new(AtomicBool::new(false));
    let (shutting, done) = (Arc::clone(&barrier), Arc::clone(&shut));
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        shutting.shut().await;
        done.store(true, Ordering::SeqCst);
    });
    while barrier.enter().is_some() {
        tokio::task::yield_now().await;
    }
    assert!(!shut.load(Ordering::SeqCst));
    drop(start);
    tasks.join_next().await.unwrap().unwrap();
    assert!(shut.load(Ordering::SeqCst));
    assert!(barrier.enter().is_none());
}
