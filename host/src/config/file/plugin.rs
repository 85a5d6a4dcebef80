//! A plugin in the file.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::limits::{PluginLimits, Rollback};
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
    /// The environment variables that the plugin sees, and no others: `process.env`, `os.Getenv`,
    /// `std::env::var`. Names have letters, digits and `_`, and begin with no digit. Names and values
    /// together have at most 16 KiB. A secret need not stand in the file: `"${VAR}"`. Where VAR is not set,
    /// that is `for development only` with `lockgate dev` and `lockgate test`, and an error otherwise.
    #[serde(default)]
    pub(in crate::config) environment: BTreeMap<String, String>,
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
