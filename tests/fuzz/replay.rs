//! Runs every target on the inputs in `corpus/`: those that libFuzzer kept, and those that once caused a failure.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lockgate::fuzz::TARGETS;

/// The deadline of an input, for a debug build beside other tests.
const HANG: Duration = Duration::from_secs(5);

/// The inputs of a target: its own, and files of other tests for the same parser.
fn inputs(target: &str) -> Vec<PathBuf> {
    let here = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fuzz"));
    let mut folders = vec![here.join("corpus").join(target)];
    if target == "configuration" {
        folders.extend(["good", "bad"].map(|name| here.join("../configs").join(name)));
    }
    let files = |folder: &PathBuf| {
        fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
    };
    folders
        .iter()
        .flat_map(files)
        .filter(|path| path.is_file())
        .collect()
}

#[test]
fn kept_inputs_cause_no_panic() {
    for (name, target) in TARGETS {
        let inputs = inputs(name);
        assert!(inputs.len() >= 5, "{name} has {} inputs", inputs.len());
        for path in inputs {
            let input = fs::read(&path).unwrap();
            let began = Instant::now();
            let held = catch_unwind(|| target(&input));
            assert!(held.is_ok(), "{name} breaks on {}", path.display());
            assert!(began.elapsed() < HANG, "{name} hangs on {}", path.display());
        }
    }
}

/// Prefixes, suffixes and single changes of each input: a little beyond the corpus, and the same in each run.
#[test]
fn changed_inputs_cause_no_panic() {
    for (name, target) in TARGETS {
        for path in inputs(name).into_iter().take(40) {
            let input = fs::read(&path).unwrap();
            let step = (input.len() / 16).max(1);
            for place in (0..input.len()).step_by(step) {
                let mut changed = input.clone();
                for byte in changed.iter_mut().skip(place).take(1) {
                    *byte ^= 1 << (place % 8);
                }
                for near in [&input[..place], &input[place..], &changed] {
                    let held = catch_unwind(|| target(near));
                    assert!(
                        held.is_ok(),
                        "{name} breaks near {}: {near:?}",
                        path.display()
                    );
                }
            }
        }
    }
}
