//! Deeds that a handler should never do.

use std::{
    arch::wasm32,
    hint::black_box,
    time::{Duration, Instant},
};

/// Runs for ever.
pub fn spin() -> ! {
    loop {
        black_box(());
    }
}

/// Runs for `ms`, and ends.
pub fn spin_for(ms: u64) -> serde_json::Value {
    let end = Instant::now() + Duration::from_millis(ms);
    while Instant::now() < end {
        black_box(());
    }
    serde_json::Value::Null
}

/// Computes `rounds` rounds, the same work on any machine, and ends.
pub fn compute(rounds: u64) -> serde_json::Value {
    let mut bytes = black_box(vec![1_u64; 1 << 12]);
    for round in 0..rounds {
        for place in 0..bytes.len() {
            let from = (place * 7 + round as usize) % bytes.len();
            bytes[place] = bytes[place].rotate_left(5) ^ bytes[from];
        }
    }
    serde_json::json!(bytes[0])
}

/// Traps, which ends the instance.
pub fn trap() -> ! {
    panic!("trapped on request")
}

/// Calls itself until the stack is used up.
#[expect(unconditional_recursion, reason = "that is the fault")]
pub fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    recurse(depth + 1) + frame[black_box(1)]
}

/// Asks for more memory, and returns whether it got it.
pub fn grow(mib: usize) -> bool {
    const PAGES_PER_MIB: usize = 16;
    wasm32::memory_grow(0, mib * PAGES_PER_MIB) != usize::MAX
}

/// Keeps so much memory for good, as a table that nobody cleans does. Fails without the gateway's knowledge where there is
/// none.
pub fn keep(mib: usize) -> Result<(), &'static str> {
    let mut kept: Vec<u8> = Vec::new();
    kept.try_reserve_exact(mib << 20).map_err(|_| "no memory")?;
    std::mem::forget(black_box(kept));
    Ok(())
}

/// Takes memory until none is left, which ends the instance.
pub fn hog() -> ! {
    let mut held: Vec<Vec<u8>> = Vec::new();
    loop {
        held.push(black_box(vec![1; 1024 * 1024]));
    }
}
