//! Leaves something behind in memory, and looks for what others have left.

use std::{arch::wasm32, hint::black_box};

/// How often it is left: a mebibyte of it.
const COPIES: usize = 64 * 1024;

const PAGE: usize = 64 * 1024;

/// Pages of an instance that has hidden something, and more.
const ENOUGH: usize = 48;

/// Two words that stand nowhere in the component's own data: they follow from the seed.
fn words(seed: u64) -> [u64; 2] {
    [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9]
        .map(|factor: u64| (seed | 1).wrapping_mul(factor) ^ factor.rotate_left(17))
}

pub fn hide(seed: u64) {
    let copies: Vec<[u64; 2]> = (0..COPIES).map(|_| words(seed)).collect();
    std::mem::forget(black_box(copies));
}

/// How often it is found in all of the memory that the instance has, and in what it gets when it asks for as much as
/// another would need to hide something.
pub fn find(seed: u64) -> usize {
    let [first, second] = words(seed);
    while wasm32::memory_size(0) < ENOUGH && wasm32::memory_grow(0, 1) != usize::MAX {}
    let end = wasm32::memory_size(0) * PAGE;
    let mut found = 0;
    for address in (16..end - 16).step_by(8) {
        let place = address as *const u64;
        // SAFETY: all of these bytes are the instance's own memory, and nothing else runs that could write them.
        let (here, next) = unsafe { (place.read_volatile(), place.add(1).read_volatile()) };
        found += usize::from(here == first && next == second);
    }
    found
}
