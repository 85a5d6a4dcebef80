//! A plugin in the file.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::grant::Grant;
use crate::config::model::Isolation;

/// A component with its grants and limits.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Plugin {
    /// The component file; or, as `oci://REGISTRY/NAME@sha256:…`, an image in an OCI registry that has it
    /// as its only WebAssembly layer. Needed to serve. `lockgate dev` builds the plugin instead where there
    /// is a `source`.
    pub(in crate::config) component: Option<String>,
    /// The plugin's source folder. `lockgate dev FILE` builds, watches and serves it in place of the
    /// component, signed or not. No other command reads it.
    pub(in crate::config) source: Option<String>,
    /// The interfaces that the plugin may import. A plugin that imports one without its grant is refused.
    #[serde(default)]
    pub(in crate::config) grants: Vec<Grant>,
    /// Gives the plugin stubs of WASI's file system, sockets and HTTP, which no plugin has. Stubs offer no
    /// folder and no network, and refuse every call. They are for languages whose standard library imports
    /// these interfaces unasked, such as Go and Python. Without stubs, such a component is refused when it
    /// is loaded.
    #[serde(default)]
    pub(in crate::config) stub_wasi: bool,
    /// The signature that the component must have; `lockgate sign` makes it. Without this table, any
    /// component is loaded.
    pub(in crate::config) signature: Option<Signature>,
    /// The use of an instance: for one message, or for many.
    #[serde(default)]
    pub(in crate::config) isolation: Isolation,
    /// The limits of the plugin's invocations and instances.
    #[serde(default)]
    pub(in crate::config) limits: PluginLimits,
    /// The rule by which a new version rolls itself back.
    #[serde(default)]
    pub(in crate::config) rollback: Rollback,
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

/// The signature that a component must have.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Signature {
    /// The PEM files of the public keys (ed25519) that count; at least one. Each load of the component
    /// reads them again.
    pub(in crate::config) keys: Vec<String>,
    /// The signature file. The default lies beside the component, as `FILE.wasm.sig`. For a component in a
    /// registry there is no default.
    pub(in crate::config) file: Option<String>,
    /// The oldest version that may be loaded or rolled back to, by the number that `lockgate sign` gave it.
    /// The default is the highest version loaded since the start. Only a rollback command that names a
    /// version goes lower.
    #[schemars(range(min = 0, max = 4_294_967_295_u32))]
    pub(in crate::config) min_version: Option<u32>,
    /// Days after which a signature no longer counts when a component is loaded. Without this key, it
    /// counts for ever.
    #[schemars(range(min = 1, max = 36_500))]
    pub(in crate::config) max_age_days: Option<u32>,
}

/// The default of `cpu_ms`, unless `deadline_ms` is below it.
pub(in crate::config) const CPU_MS: u32 = 50;

/// The limits of a plugin's invocations and instances.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct PluginLimits {
    /// Milliseconds that an invocation may last, waiting included. The maximum is API Gateway's for an
    /// integration.
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
    /// Elements of an instance's tables, which hold its function pointers. The default is more than
    /// compilers need. The maximum is a million, which takes 8 MB of an instance.
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
            table_elements: 10_000,
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
