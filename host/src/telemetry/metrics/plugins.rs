//! The numbers of plugins.

use std::fmt;

use prometheus_client::encoding::DescriptorEncoder;

use super::encode::{counters, gauges};
use crate::plugin::{Plugins, Tallies};

/// A counter of each plugin: name, help, value.
type PluginCounter = (&'static str, &'static str, fn(&Tallies) -> u64);

const COUNTERS: [PluginCounter; 7] = [
    ("invocations", "Calls of handlers that have ended", |t| {
        t.calls
    }),
    (
        "traps",
        "Calls that trapped, or computed for longer than limits.cpu_ms",
        |t| t.traps,
    ),
    (
        "deadlines_missed",
        "Calls that computed and waited for longer than limits.deadline_ms",
        |t| t.deadlines,
    ),
    ("swaps", "New versions that began to serve", |t| t.swaps),
    ("versions_refused", "Versions that failed a check", |t| {
        t.refused
    }),
    ("rollbacks", "Rollbacks by command", |t| t.rollbacks),
    (
        "self_rollbacks",
        "Versions that rolled themselves back",
        |t| t.withdrawn,
    ),
];

pub(super) fn encode(plugins: &Plugins, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let plugins = plugins.all();
    let tallies: Vec<_> = plugins
        .iter()
        .map(|(name, plugin)| (name.as_str(), plugin.tallies()))
        .collect();
    for (name, help, value) in COUNTERS {
        let samples = tallies.iter();
        let samples = samples.map(|(plugin, tallies)| ([("plugin", *plugin)], value(tallies)));
        counters(encoder, name, help, samples)?;
    }
    let usage: Vec<_> = plugins
        .iter()
        .map(|(name, plugin)| (name.as_str(), plugin.usage()))
        .collect();
    let instances = usage.iter().flat_map(|(plugin, usage)| {
        let states = [("idle", usage.idle), ("busy", usage.busy)];
        states.map(|(state, count)| ([("plugin", *plugin), ("state", state)], count as i64))
    });
    gauges(
        encoder,
        "instances",
        "Instances of the versions that serve",
        instances,
    )?;
    let waiting = usage.iter();
    let waiting = waiting.map(|(plugin, usage)| ([("plugin", *plugin)], usage.waiting as i64));
    gauges(
        encoder,
        "calls_waiting",
        "Calls that wait for an instance or a guest thread",
        waiting,
    )?;
    let infos: Vec<_> = plugins
        .values()
        .filter_map(|plugin| plugin.info())
        .collect();
    let versions: Vec<_> = infos
        .iter()
        .flat_map(|info| {
            let candidate = info.candidate.iter().map(|version| ("candidate", version));
            let all = [("stable", &info.serving)].into_iter().chain(candidate);
            all.map(move |(role, it)| (&*info.name, it.version.to_string(), &*it.digest, role))
        })
        .collect();
    let samples = versions.iter().map(|(plugin, version, digest, role)| {
        let labels = [
            ("plugin", *plugin),
            ("version", version.as_str()),
            ("digest", *digest),
            ("role", *role),
        ];
        (labels, 1)
    });
    gauges(
        encoder,
        "plugin_version",
        "The versions that serve",
        samples,
    )
}
