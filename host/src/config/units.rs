//! The limits of the model, made from those of the file: units, and defaults that follow another limit.

use std::num::NonZeroU32;
use std::time::Duration;

use super::compat::{AWS_AGE_S, AWS_CONNECTIONS_PER_S, AWS_FRAME, AWS_IDLE_S, Compat};
use super::file;
use super::model::{GatewayLimits, Log, Origins, PluginLimits, Rollback, StageLimits};
use super::report::{Report, join};

impl From<file::GatewayLimits> for GatewayLimits {
    fn from(written: file::GatewayLimits) -> Self {
        Self {
            connections: written.connections,
            connections_per_s: NonZeroU32::new(written.connections_per_s),
            connections_per_s_per_ip: NonZeroU32::new(written.connections_per_s_per_ip),
            connections_per_ip: NonZeroU32::new(written.connections_per_ip),
            handshakes: written.handshakes,
            handshake_timeout: seconds(written.handshake_timeout_s),
            drain: seconds(written.drain_s),
            disconnects: seconds(written.disconnects_s),
            reconnect_jitter_s: written.reconnect_jitter_s,
            upgrade: seconds(written.upgrade_s),
            pull: seconds(written.pull_s),
        }
    }
}

impl StageLimits {
    /// The limits that are written, and the defaults of this `compat`.
    fn of(written: &file::StageLimits, compat: Compat) -> Self {
        let (frame_bytes, idle_s, age_s, ping_s) = match compat {
            Compat::Lockgate => (usize::MAX, 0, 0, file::PING_INTERVAL_S),
            Compat::Aws => (AWS_FRAME, AWS_IDLE_S, AWS_AGE_S, 0),
        };
        let message_bytes = kib(written.message_kib);
        let outbox_kib = written
            .outbox_kib
            .unwrap_or_else(|| file::OUTBOX_KIB.max(written.message_kib));
        Self {
            compat,
            datagrams: false,
            message_bytes,
            frame_bytes: written
                .frame_kib
                .map_or_else(|| frame_bytes.min(message_bytes), kib),
            idle_timeout: seconds_unless_0(written.idle_timeout_s.unwrap_or(idle_s)),
            max_age: seconds_unless_0(written.max_age_s.unwrap_or(age_s)),
            ping_interval: seconds_unless_0(written.ping_interval_s.unwrap_or(ping_s)),
            pong_timeout: seconds(written.pong_timeout_s),
            outbox_bytes: kib(outbox_kib),
            outbox_messages: written.outbox_messages as usize,
            stall_timeout: seconds(written.stall_timeout_s),
            message_timeout: seconds(written.message_timeout_s),
            fragments: written.fragments,
            control_frames_per_s: written.control_frames_per_s,
            attributes_bytes: kib(written.attributes_kib),
            groups: written.groups as usize,
            connections_per_principal: NonZeroU32::new(written.connections_per_principal),
            closes_oldest_of_principal: written.beyond_connections_per_principal
                == file::BeyondPrincipal::CloseOldest,
        }
    }
}

impl From<file::PluginLimits> for PluginLimits {
    fn from(written: file::PluginLimits) -> Self {
        let cpu_ms = written
            .cpu_ms
            .unwrap_or_else(|| file::CPU_MS.min(written.deadline_ms));
        Self {
            deadline: milliseconds(written.deadline_ms),
            cpu: milliseconds(cpu_ms),
            memory_bytes: kib(written.memory_mib) * 1024,
            table_elements: written.table_elements as usize,
            instances: written.instances,
            waiting: written.waiting,
            max_uses: written.max_uses,
            posts: written.posts,
            log_bytes: kib(written.log_kib),
            retire: seconds(written.retire_s),
            compile: seconds(written.compile_s),
        }
    }
}

/// Checks the limits of a stage, whose table is `key`.
pub(super) fn stage(
    key: &str,
    written: &file::StageLimits,
    compat: Compat,
    report: &mut Report<'_>,
) -> StageLimits {
    let limits = StageLimits::of(written, compat);
    if report.is_clean(key) {
        let message_kib = limits.message_bytes / 1024;
        if limits.frame_bytes > limits.message_bytes {
            report.problem(
                &join(key, "frame_kib"),
                format!("a frame cannot be longer than a message, which is {message_kib} KiB"),
                format!("write at most {message_kib}, or raise message_kib"),
            );
        }
        if limits.outbox_bytes < limits.message_bytes {
            report.problem(
                &join(key, "outbox_kib"),
                format!("a message of {message_kib} KiB, which message_kib allows, would not fit"),
                format!("write at least {message_kib}, or lower message_kib"),
            );
        }
    }
    limits
}

/// The limit of an API's new connections a second.
pub(super) fn connections_per_s(written: Option<u32>, compat: Compat) -> Option<NonZeroU32> {
    NonZeroU32::new(written.unwrap_or(match compat {
        Compat::Lockgate => 0,
        Compat::Aws => AWS_CONNECTIONS_PER_S,
    }))
}

/// Checks the limits of a plugin, whose table is `key`.
pub(super) fn plugin(
    key: &str,
    written: file::PluginLimits,
    report: &mut Report<'_>,
) -> PluginLimits {
    let limits = PluginLimits::from(written);
    if report.is_clean(key) && limits.cpu > limits.deadline {
        let deadline_ms = limits.deadline.as_millis();
        report.problem(
            &join(key, "cpu_ms"),
            format!("an invocation cannot compute for longer than deadline_ms, {deadline_ms}"),
            format!("write at most {deadline_ms}, or raise deadline_ms"),
        );
    }
    limits
}

impl Rollback {
    /// Makes the rule for automatic rollbacks; none if it is off.
    pub(super) fn of(written: &file::Rollback) -> Option<Self> {
        (written.trap_percent > 0).then(|| Self {
            trap_percent: written.trap_percent,
            calls: written.calls,
            within: seconds(written.within_s),
        })
    }
}

impl Default for GatewayLimits {
    fn default() -> Self {
        file::GatewayLimits::default().into()
    }
}

impl Default for StageLimits {
    fn default() -> Self {
        Self::of(&file::StageLimits::default(), Compat::default())
    }
}

impl Default for PluginLimits {
    fn default() -> Self {
        file::PluginLimits::default().into()
    }
}

impl Default for Log {
    fn default() -> Self {
        let file::Log { level, format } = file::Log::default();
        Self {
            filter: level,
            format,
        }
    }
}

/// Allows only pages of the same host.
impl Default for Origins {
    fn default() -> Self {
        Self {
            any: false,
            same_host: true,
            list: Vec::new(),
        }
    }
}

/// Converts KiB to bytes; the schema's bounds keep it below 2³¹.
fn kib(kib: u32) -> usize {
    kib as usize * 1024
}

pub(super) fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into())
}

pub(super) fn seconds_unless_0(seconds: u32) -> Option<Duration> {
    (seconds > 0).then(|| Duration::from_secs(seconds.into()))
}

fn milliseconds(milliseconds: u32) -> Duration {
    Duration::from_millis(milliseconds.into())
}
