//! One program for every target: the environment variable `TARGET` names the one to call.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use lockgate::fuzz::TARGETS;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let names: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
    let wanted = std::env::var("TARGET").unwrap_or_default();
    let found = TARGETS.iter().find(|(name, _)| *name == wanted);
    found
        .unwrap_or_else(|| panic!("set TARGET to one of {}", names.join(", ")))
        .1
});

fuzz_target!(|input: &[u8]| TARGET(input));
