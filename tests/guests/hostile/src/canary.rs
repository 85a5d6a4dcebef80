//! Hides words in memory, and looks for those that other calls have hidden.

use std::{arch::wasm32, hint::black_box};

/// The number of copies: a mebibyte of them.
const COPIES: usize = 64 * 1024;

const PAGE: usize = 64 * 1024;

/// More pages than an instance has that has hidden something.
const ENOUGH: usize = 48;

/// Two words that are nowhere in the component's own data, since they are computed from the seed.
fn words(seed: u64) -> [u64; 2] {
    [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9]
        .map(|factor: u64| (seed | 1).wrapping_mul(factor) ^ factor.rotate_left(17))
}

pub fn hide(seed: u64) {
    let copies: Vec<[u64; 2]> = (0..COPIES).map(|_| words(seed)).collect();
    std::mem::forget(black_box(copies));
}

/// The number of copies in all memory of the instance, after it has grown by as much as another would need to hide
/// something.
pub fn find(seed: u64) -> usize {
    let [first, second] = words(seed);
    while wasm32::memory_size(0) < ENOUGH && wasm32::memory_grow(0, 1) != usize::MAX {}
    let end = wasm32::memory_size(0) * PAGE;
    let mut found = 0;
    for address in (16..end - 16).step_by(8) {
        let place = address as *const u64;
        // SAFETY: these bytes are the instance's own memory, and no other code runs that could write them.
        let (here, next) = unsafe { (place.read_volatile(), place.add(1).read_volatile()) };
        found += usize::from(here == first && next == second);
    }
    found
}
