//! A plugin in the file.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::grant::Grant;
use crate::config::model::Isolation;

/// A component, what it may do, and how it is run.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Plugin {
    /// The component file; or, as `oci://REGISTRY/NAME@sha256:…`, the image in an OCI registry whose only
    /// WebAssembly layer it is. Needed to serve; `lockgate dev` builds it where there is a `source`.
    pub(in crate::config) component: Option<String>,
    /// The plugin's source folder, which `lockgate dev FILE` builds, watches and serves, in place of the component
    /// and whether that is signed or not. Nothing else looks at it.
    pub(in crate::config) source: Option<String>,
    /// The interfaces that it may import. A plugin that imports one it was not granted is refused.
    #[serde(default)]
    pub(in crate::config) grants: Vec<Grant>,
    /// Whether it may import WASI's file system, sockets and HTTP, which no plugin is given, and is given stubs of
    /// them: no folder, no network, and every call is refused. For languages whose standard library imports them
    /// unasked, as Go's and Python's do. Without it, such a component is refused when it is loaded.
    #[serde(default)]
    pub(in crate::config) stub_wasi: bool,
    /// Who must have signed the component, with `lockgate sign`. Without it, any component is loaded.
    pub(in crate::config) signature: Option<Signature>,
    /// Whether an instance serves one message or many.
    #[serde(default)]
    pub(in crate::config) isolation: Isolation,
    /// Bounds of its invocations and instances.
    #[serde(default)]
    pub(in crate::config) limits: PluginLimits,
    /// When a new version of it is withdrawn by itself.
    #[serde(default)]
    pub(in crate::config) rollback: Rollback,
}

/// When a new version of a plugin is withdrawn by itself, and the one before serves again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Rollback {
    /// Percent of its calls that trap or compute for longer than `limits.cpu_ms`: more than so many and the
    /// version rolls itself back. Calls that wait until their deadline do not count, since a client may be
    /// what they wait for. 0 never does.
    #[schemars(range(min = 0, max = 100))]
    pub(in crate::config) trap_percent: u32,
    /// Calls that it must have had before it is judged, so that one bad message is no verdict.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(in crate::config) calls: u32,
    /// Seconds from its start within which it is judged. What fails later is no fault of the swap.
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

/// Whose signature a component must bear, and which.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Signature {
    /// The PEM files of the public keys (ed25519) that count; at least one. They are read whenever the
    /// component is.
    pub(in crate::config) keys: Vec<String>,
    /// The signature file. By default it lies beside the component, as `FILE.wasm.sig`; for one in a
    /// registry it must be said where.
    pub(in crate::config) file: Option<String>,
    /// The oldest version that is loaded or rolled back to, by the number that it was signed with. Without
    /// it, that which this process has loaded already: neither a reload goes back, nor a version that rolls
    /// itself back, and a rollback by command only to a version that it names.
    #[schemars(range(min = 0, max = 4_294_967_295_u32))]
    pub(in crate::config) min_version: Option<u32>,
    /// Days after which a signature counts no longer, when a component is loaded. Without it, it counts
    /// for ever.
    #[schemars(range(min = 1, max = 36_500))]
    pub(in crate::config) max_age_days: Option<u32>,
}

/// The default of `cpu_ms`, unless `deadline_ms` is below it.
pub(in crate::config) const CPU_MS: u32 = 50;

/// Bounds of a plugin's invocations and instances.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct PluginLimits {
    /// Milliseconds that an invocation may last, waiting included. At most what API Gateway gives an
    /// integration.
    #[schemars(range(min = 1, max = 29_000))]
    pub(in crate::config) deadline_ms: u32,
    /// Milliseconds of processor time that an invocation may use, so that a spinning handler does not hold a
    /// thread until its deadline. What it is kept waiting on a busy machine does not count. By default 50, or `deadline_ms` where that is less; not above it.
    #[schemars(range(min = 1, max = 29_000), extend("default" = CPU_MS))]
    pub(in crate::config) cpu_ms: Option<u32>,
    /// MiB of linear memory of an instance: `instances` times as much may be in use.
    #[schemars(range(min = 1, max = 512))]
    pub(in crate::config) memory_mib: u32,
    /// Elements of an instance's tables, which hold its function pointers. Larger than compilers need;
    /// at most a million, 8 MB of an instance.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(in crate::config) table_elements: u32,
    /// Instances at once, and so invocations at once. At most 1024: there is room for 4096 of all plugins
    /// together, fewer where address space is little. Idle ones make room for others, so that the limits of
    /// all plugins may be more than that together.
    #[schemars(range(min = 1, max = 1_024))]
    pub(in crate::config) instances: u32,
    /// Messages and `$connect`s that may wait for an instance; further ones fail as busy at once. A
    /// `$disconnect` always waits, and is not counted.
    #[schemars(range(min = 0, max = 4_096))]
    pub(in crate::config) waiting: u32,
    /// Invocations after which a reused instance is replaced, which bounds what a handler can leak.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub(in crate::config) max_uses: u32,
    /// Messages that one invocation may send. 0 is none.
    #[schemars(range(min = 0, max = 65_536))]
    pub(in crate::config) posts: u32,
    /// KiB that one invocation may log, each line counted as 128 bytes more than it has; the rest is dropped. 0 logs
    /// nothing.
    #[schemars(range(min = 0, max = 1_024))]
    pub(in crate::config) log_kib: u32,
    /// Seconds that the invocations of a version may go on after another has taken its place; then they
    /// are interrupted. Longer than the longest `deadline_ms`, unless shortened. 0 interrupts at once.
    #[schemars(range(min = 0, max = 300))]
    pub(in crate::config) retire_s: u32,
    /// Seconds of processor time that compiling the component may take, in a process of its own; then
    /// it is not loaded. Large components take a few.
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
