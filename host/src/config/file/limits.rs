//! The limits in the file: of the gateway, of a stage, of a plugin, each with its default and bounds.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The limits of the gateway as a whole.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct GatewayLimits {
    /// Connections open at once. Further ones are refused. The default is the process's limit of open
    /// files, less a reserve: 128, and with `[management]` 64 and with `[health]` 256 for their connections.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub(in crate::config) connections: Option<u32>,
    /// New connections a second, from all clients together. As many may come at once after a quiet second;
    /// further ones are refused. 0 sets no limit: the right number depends on the cost of a connection
    /// behind the gateway, and after an outage all clients come back at once.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub(in crate::config) connections_per_s: u32,
    /// New connections a second from one IPv4 address, or one IPv6 network of 64 bits. As many may come at
    /// once after a quiet second; further ones are refused. 0 sets no limit: networks and proxies put
    /// thousands of clients behind one address.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub(in crate::config) connections_per_s_per_ip: u32,
    /// Connections open at once from one IPv4 address, or one IPv6 network of 64 bits. An HTTP/2 or HTTP/3
    /// connection counts, and so does each WebSocket on it. 0 sets no limit: networks and proxies put
    /// thousands of clients behind one address.
    #[schemars(range(min = 0, max = 10_000_000))]
    pub(in crate::config) connections_per_ip: u32,
    /// Handshakes under way at once. A handshake costs more than an open connection (TLS, the `$connect`
    /// route), so further clients are told at once to come again. Each WebSocket of an HTTP/2 or HTTP/3
    /// connection counts, and so does a client that has gone while its `$connect` handler is at work.
    #[schemars(range(min = 1, max = 65_536))]
    pub(in crate::config) handshakes: u32,
    /// Seconds from a client's first byte to the last byte of its request, so that a slow request does not
    /// hold a handshake for longer. A client has the same time to read a refusal, and an HTTP/2 or
    /// HTTP/3 connection may be without a WebSocket for as long.
    #[schemars(range(min = 1, max = 60))]
    pub(in crate::config) handshake_timeout_s: u32,
    /// Seconds over which a stop spreads the closes, so that the clients do not all come back at once. 0
    /// closes all together. A client whose `$connect` handler takes longer is refused at the end of that
    /// time.
    #[schemars(range(min = 0, max = 3_600))]
    pub(in crate::config) drain_s: u32,
    /// Seconds that the `$disconnect` handlers have, all together, after the window of `drain_s` and 3
    /// seconds for the last answers. Handlers that still run or wait for their turn then are given up: a
    /// handler that hangs must not keep the process for ever.
    #[schemars(range(min = 1, max = 86_400))]
    pub(in crate::config) disconnects_s: u32,
    /// Seconds over which clients are advised to spread their reconnects. The reason of the close frame
    /// then ends with `; reconnect in 0-N s`. 0 gives no advice.
    #[schemars(range(min = 0, max = 3_600))]
    pub(in crate::config) reconnect_jitter_s: u32,
    /// Seconds that the new process of an upgrade has to load everything and be ready. After that it is
    /// ended, and the old process continues. A reload under way may take as long before it; after that the
    /// upgrade is refused.
    #[schemars(range(min = 1, max = 3_600))]
    pub(in crate::config) upgrade_s: u32,
    /// Seconds for pulling one component from a registry, from the first request to the last byte.
    #[schemars(range(min = 1, max = 3_600))]
    pub(in crate::config) pull_s: u32,
}

impl Default for GatewayLimits {
    fn default() -> Self {
        Self {
            connections: None,
            connections_per_s: 0,
            connections_per_s_per_ip: 0,
            connections_per_ip: 0,
            handshakes: 1_024,
            handshake_timeout_s: 5,
            drain_s: 30,
            disconnects_s: 50,
            reconnect_jitter_s: 0,
            upgrade_s: 60,
            pull_s: 60,
        }
    }
}

/// The default of `outbox_kib`, unless `message_kib` is above it.
pub(in crate::config) const OUTBOX_KIB: u32 = 1_024;

/// The default of `ping_interval_s`.
pub(in crate::config) const PING_INTERVAL_S: u32 = 25;

/// The limits of each connection of a stage.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct StageLimits {
    /// KiB of the longest message, in either direction. The default is API Gateway's. The maximum is 64
    /// MiB, since a message is held in memory whole.
    #[schemars(range(min = 1, max = 65_536))]
    pub(in crate::config) message_kib: u32,
    /// KiB of the longest frame from a client. The default is `message_kib`, which is also the maximum, and
    /// 32 with `compat = "aws"`.
    #[schemars(range(min = 1, max = 65_536))]
    pub(in crate::config) frame_kib: Option<u32>,
    /// Seconds without a message after which a connection is closed. 0 means never: pings already tell a
    /// quiet client from one that is gone. The maximum is a day. The default is 0, or 600 with `compat =
    /// "aws"`.
    #[schemars(range(min = 0, max = 86_400), extend("default" = 0))]
    pub(in crate::config) idle_timeout_s: Option<u32>,
    /// Seconds after which a connection is closed, however busy it is. 0 means never. The maximum is a
    /// week. The default is 0, or 7200 with `compat = "aws"`.
    #[schemars(range(min = 0, max = 604_800), extend("default" = 0))]
    pub(in crate::config) max_age_s: Option<u32>,
    /// Seconds between pings. Pings find clients that are gone, and keep proxies from closing quiet
    /// connections: many do so after 30 or 60 seconds. 0 sends none. The default is 25, or 0 with `compat =
    /// "aws"`.
    #[schemars(range(min = 0, max = 3_600), extend("default" = PING_INTERVAL_S))]
    pub(in crate::config) ping_interval_s: Option<u32>,
    /// Seconds that a client has to answer a ping. A slow phone needs a few.
    #[schemars(range(min = 1, max = 3_600))]
    pub(in crate::config) pong_timeout_s: u32,
    /// KiB that may wait for a slow client. A post beyond that fails as busy. The default is 1024, or
    /// `message_kib` if that is more. It cannot be below `message_kib`, so that every message fits.
    #[schemars(range(min = 1, max = 65_536), extend("default" = OUTBOX_KIB))]
    pub(in crate::config) outbox_kib: Option<u32>,
    /// Messages that may wait for a slow client: small messages cost more than their bytes. Four times as
    /// many may wait for a client that has taken data within the last second.
    #[schemars(range(min = 1, max = 65_536))]
    pub(in crate::config) outbox_messages: u32,
    /// Seconds after which a client that takes none of its data is closed. Memory holds that data
    /// meanwhile.
    #[schemars(range(min = 1, max = 3_600))]
    pub(in crate::config) stall_timeout_s: u32,
    /// Seconds that a client has from the first byte of a message to the last. Memory holds the incomplete
    /// message meanwhile.
    #[schemars(range(min = 1, max = 3_600))]
    pub(in crate::config) message_timeout_s: u32,
    /// Fragments of one message, plus one for each 64 bytes of it. Honest fragments of a large message
    /// pass. Empty fragments, which cost work and carry nothing, do not.
    #[schemars(range(min = 1, max = 65_536))]
    pub(in crate::config) fragments: u32,
    /// Pings and pongs a second from a client, on average. Five times as many may come at once. Each ping
    /// costs an answer.
    #[schemars(range(min = 1, max = 10_000))]
    pub(in crate::config) control_frames_per_s: u32,
    /// KiB of attributes that plugins may keep with a connection: names and values, and 8 bytes for each.
    /// Every connection may cost that memory. 0 allows none.
    #[schemars(range(min = 0, max = 64))]
    pub(in crate::config) attributes_kib: u32,
    /// Groups that a connection may be in at once. When it ends, it leaves each of them. 0 allows none.
    #[schemars(range(min = 0, max = 1_024))]
    pub(in crate::config) groups: u32,
    /// Open connections of one principal, as the stage's authorizer names it. 0 is without limit. Those that are
    /// closing do not count, until their `$disconnect` is over, unless there are as many of them again, and 8 at least.
    #[schemars(range(min = 0, max = 1_000))]
    pub(in crate::config) connections_per_principal: u32,
    /// What happens to one more connection of a principal: `"refuse"` answers it with 429; `"close-oldest"` lets it
    /// in and closes the principal's oldest with 4000: more than one of them where a reload has lowered the limit.
    pub(in crate::config) beyond_connections_per_principal: BeyondPrincipal,
}

/// What happens to one more connection of a principal than it may have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum BeyondPrincipal {
    /// It is refused with 429.
    #[default]
    Refuse,
    /// The oldest one is closed with 4000.
    CloseOldest,
}

impl Default for StageLimits {
    fn default() -> Self {
        Self {
            message_kib: 128,
            frame_kib: None,
            idle_timeout_s: None,
            max_age_s: None,
            ping_interval_s: None,
            pong_timeout_s: 8,
            outbox_kib: None,
            outbox_messages: 1_024,
            stall_timeout_s: 10,
            message_timeout_s: 30,
            fragments: 1_024,
            control_frames_per_s: 20,
            attributes_kib: 4,
            groups: 64,
            connections_per_principal: 0,
            beyond_connections_per_principal: BeyondPrincipal::Refuse,
        }
    }
}

/// The default of `cpu_ms`, unless `deadline_ms` is below it.
pub(in crate::config) const CPU_MS: u32 = 50;

/// The limits of a plugin's invocations and instances.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct PluginLimits {
    /// Milliseconds that an invocation may compute and wait for what it calls, from when it has an instance.
    /// Time that it waits for an instance before, or that a busy machine keeps it waiting, does not count:
    /// with `waiting` calls in the line, the last one may end after about `waiting / instances + 1` times as
    /// long. The maximum is API Gateway's for an integration.
    #[schemars(range(min = 1, max = 29_000))]
    pub(in crate::config) deadline_ms: u32,
    /// Milliseconds of processor time that an invocation may use, so that a spinning handler does not hold
    /// a thread until its deadline. Time that a busy machine keeps it waiting does not count. The default
    /// is 50, or `deadline_ms` if that is less. It cannot be above `deadline_ms`.
    #[schemars(range(min = 1, max = 29_000), extend("default" = CPU_MS))]
    pub(in crate::config) cpu_ms: Option<u32>,
    /// MiB of linear memory of an instance. All instances together may use `instances` times as much.
    #[schemars(range(min = 1, max = 512))]
    pub(in crate::config) memory_mib: u32,
    /// Elements of an instance's tables, which hold its function pointers. The default is enough for a Go
    /// plugin with `net/http`, which has 13,000. The maximum is a million, which takes 8 MB of an instance.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(in crate::config) table_elements: u32,
    /// Instances at once, and so invocations at once. The maximum is 1024: there is room for 4096 of all
    /// plugins together, and for fewer where address space is short. The limits of all plugins may add up
    /// to more, since idle instances make room for others.
    #[schemars(range(min = 1, max = 1_024))]
    pub(in crate::config) instances: u32,
    /// Messages and `$connect`s that may wait for an instance. Further ones fail as busy at once. A
    /// `$disconnect` always waits, and does not count.
    #[schemars(range(min = 0, max = 4_096))]
    pub(in crate::config) waiting: u32,
    /// Invocations after which a reused instance is replaced, which bounds a handler's leaks.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub(in crate::config) max_uses: u32,
    /// Messages that one invocation may send or publish. 0 allows none.
    #[schemars(range(min = 0, max = 65_536))]
    pub(in crate::config) posts: u32,
    /// KiB that one invocation may log. Each line counts as 128 bytes more than it has. The rest is
    /// dropped. 0 logs nothing.
    #[schemars(range(min = 0, max = 1_024))]
    pub(in crate::config) log_kib: u32,
    /// Seconds that the invocations of a version may continue after another has replaced it. Then they are
    /// interrupted. The default is longer than the longest `deadline_ms`. 0 interrupts at once.
    #[schemars(range(min = 0, max = 300))]
    pub(in crate::config) retire_s: u32,
    /// Seconds of processor time for compiling the component, in a process of its own. A component that
    /// needs more is not loaded. Large components take a few seconds.
    #[schemars(range(min = 1, max = 600))]
    pub(in crate::config) compile_s: u32,
}

impl Default for PluginLimits {
    fn default() -> Self {
        Self {
            deadline_ms: 3_000,
            cpu_ms: None,
            memory_mib: 64,
            table_elements: 20_000,
            instances: 256,
            waiting: 64,
            max_uses: 10_000,
            posts: 256,
            log_kib: 64,
            retire_s: 30,
            compile_s: 30,
        }
    }
}

/// The rule by which a new version of a plugin rolls itself back, and the one before serves again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Rollback {
    /// Percent of a version's calls that may trap or use up `limits.cpu_ms`. Above that, the version rolls
    /// itself back. Timeouts (`limits.deadline_ms`) do not count: a client could force a rollback by making
    /// a handler wait. 0 never rolls back.
    #[schemars(range(min = 0, max = 100))]
    pub(in crate::config) trap_percent: u32,
    /// Calls that a version has before it is judged, so that one bad message is no verdict.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(in crate::config) calls: u32,
    /// Seconds from a version's start within which it is judged. A later failure is no fault of the swap.
    #[schemars(range(min = 1, max = 3_600))]
    pub(in crate::config) within_s: u32,
}

impl Default for Rollback {
    fn default() -> Self {
        Self {
            trap_percent: 50,
            calls: 20,
            within_s: 60,
        }
    }
}
