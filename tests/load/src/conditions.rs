//! The conditions of a measurement, without which a figure has no meaning.

use std::fs;
use std::process::Command;

use serde::Serialize;

/// The machine, the versions and the settings.
#[derive(Debug, Serialize)]
pub(crate) struct Conditions {
    date: String,
    lockgate: String,
    libraries: Vec<String>,
    build: &'static str,
    processor: String,
    cores: usize,
    kernel: String,
    load_average_before: String,
    load_average_after: String,
    pub(crate) seconds: f64,
    pub(crate) rounds: usize,
}

impl Conditions {
    /// The conditions at the start of a run.
    pub(crate) fn now(lockgate: String, seconds: f64, rounds: usize) -> Self {
        let processor = read("/proc/cpuinfo");
        let processor = processor
            .lines()
            .find_map(|line| line.strip_prefix("model name"));
        let date = Command::new("date")
            .args(["-u", "+%Y-%m-%d %H:%M UTC"])
            .output();
        Self {
            date: date.map_or_else(
                |_| String::new(),
                |date| String::from_utf8_lossy(&date.stdout).trim().to_owned(),
            ),
            lockgate,
            libraries: libraries(),
            build: if cfg!(debug_assertions) {
                "debug"
            } else {
                "release"
            },
            processor: processor
                .unwrap_or_default()
                .trim_matches([' ', '\t', ':'])
                .to_owned(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: read("/proc/sys/kernel/osrelease"),
            load_average_before: load_average(),
            load_average_after: String::new(),
            seconds,
            rounds,
        }
    }

    pub(crate) fn end(&mut self) {
        self.load_average_after = load_average();
    }

    /// One paragraph of text.
    pub(crate) fn text(&self) -> String {
        let Self {
            date,
            lockgate,
            libraries,
            build,
            processor,
            cores,
            kernel,
            load_average_before,
            load_average_after,
            seconds,
            rounds,
        } = self;
        let libraries = libraries.join(", ");
        format!(
            "µs: CPU time of the server process, user and system. Medians of {rounds} rounds of {seconds} s, \
        lockgate and bare in turn; “rounds” is the least and the greatest ratio of two rounds.\n\
        {date}; {lockgate}; {libraries}; {build} build; {cores} cores ({processor}); Linux {kernel}; \
        load average {load_average_before} before, {load_average_after} after.\n"
        )
    }
}

/// The versions of the libraries that matter for speed, from the lock file.
fn libraries() -> Vec<String> {
    let lock = include_str!("../../../Cargo.lock");
    let version = |name: &str| {
        let (_, rest) = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?;
        Some(format!("{name} {}", rest.split_once('"')?.0))
    };
    let names = ["wasmtime", "tokio", "tokio-tungstenite", "rustls"];
    names.into_iter().filter_map(version).collect()
}

fn load_average() -> String {
    read("/proc/loadavg")
        .split(' ')
        .take(3)
        .collect::<Vec<_>>()
        .join(" ")
}

fn read(file: &str) -> String {
    fs::read_to_string(file)
        .unwrap_or_default()
        .trim()
        .to_owned()
}
