//! Loads a component: reads and compiles it, checks its imports against its grants, and links it to nothing else.

pub(crate) mod cache;
pub(crate) mod compile;
mod compile_error;
mod functions;
pub(crate) mod inspect;
pub(crate) mod policy;
pub(crate) mod source;
pub(crate) mod temporary_folder;
mod world;

use wasmtime::Engine;
use wasmtime::component::{self, InstancePre, Linker};

use self::cache::Keep;
use self::compile::Compiler;
use self::source::{Compiled, MAX_COMPONENT, Source};
use crate::config::{self, Component, Fault};
use crate::net::watch;
use crate::plugin::capability::stubs;
use crate::plugin::capability::{self, Need, is_given, need};
use crate::plugin::run::instance::HostState;
use crate::registry::{self, PullError};

/// The first bytes of every WebAssembly file.
pub(crate) const MAGIC: &[u8] = b"\0asm";

/// The first bytes of a core module. A component has another version there.
pub(crate) const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";

/// The remedy for a component whose world the gateway cannot call.
pub(crate) const NO_HANDLER: &str = "export the handler of this version's contract, lockgate:plugin@0.1.0: wit/README.md tells how, plugins/echo is one";

/// The remedy for a component that is none, or none that can be taken.
const NAME_COMPONENT: &str = "name a component file of at most 64 MiB";

/// A fault of a plugin's component, at the key that names it.
fn fault(plugin: &config::Plugin, message: String, remedy: &str) -> Fault {
    let key = match plugin.component {
        Component::Source { .. } => "source",
        Component::File(_) | Component::Image(_) => "component",
    };
    Fault {
        key: format!("plugins.{}.{key}", plugin.name),
        message,
        remedy: remedy.to_owned(),
        is_passing: false,
    }
}

/// How a component file is read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ReadMode {
    Once,
    /// Waits until the file is whole: it may be in the middle of being written.
    UntilWhole,
}

/// Reads a plugin's component from its file or its registry.
pub(crate) async fn read(
    plugin: &config::Plugin,
    mode: ReadMode,
    keep: Keep,
) -> Result<Source, Fault> {
    let broken = |error: tokio::task::JoinError| interrupted(plugin, &error);
    let path = match &plugin.component {
        Component::File(path)
        | Component::Source {
            built: Some(path), ..
        } => path,
        Component::Source { built: None, .. } => {
            let remedy = "build it with `lockgate build`, and name the component";
            return Err(fault(plugin, "it is not built".into(), remedy));
        }
        Component::Image(image) => {
            let image_ = image.clone();
            let pull = move || {
                let kept = image_.cache.as_deref();
                let kept = kept.filter(|folder| keep.is_in(folder));
                registry::pull(&image_, MAX_COMPONENT, kept).map(Source::from)
            };
            let pulled = tokio::task::spawn_blocking(pull).await.map_err(broken)?;
            return pulled.map_err(|error| Fault {
                is_passing: is_passing_pull(&error),
                ..fault(plugin, format!("{image}: {error}"), pull_remedy(&error))
            });
        }
    };
    let source = match mode {
        ReadMode::UntilWhole => Source::read_whole(path).await,
        ReadMode::Once => {
            let path = path.clone();
            let read = tokio::task::spawn_blocking(move || Source::read(&path));
            read.await.map_err(broken)?
        }
    };
    source.map_err(|error| {
        let message = format!("{} cannot be read: {error}", plugin.component);
        let remedy = watch::remedy(&error, NAME_COMPONENT);
        Fault {
            is_passing: watch::is_passing(&error),
            ..fault(plugin, message, remedy)
        }
    })
}

/// Compiles a plugin's component.
pub(crate) fn compile(
    compiler: &Compiler,
    engine: &Engine,
    plugin: &config::Plugin,
    source: &Source,
) -> Result<Compiled, Fault> {
    if source.bytes.is_empty() {
        return Err(fault(
            plugin,
            "the file is empty".into(),
            "build it with `lockgate build DIR`, and copy it whole",
        ));
    }
    if source.bytes.starts_with(CORE_MODULE) {
        return Err(fault(
            plugin,
            "it is a core module and not a component".into(),
            "build it for the target wasm32-wasip2, or make a component of it with `wasm-tools component new`",
        ));
    }
    if !source.bytes.starts_with(MAGIC) {
        return Err(fault(
            plugin,
            "it is no component that can be compiled: it does not begin as WebAssembly does".into(),
            "build it with `lockgate build DIR`, and copy it whole",
        ));
    }
    judge(plugin, &source.bytes)?;
    let compiled = compiler.compile(engine, plugin, source);
    compiled.map_err(|error| Fault {
        is_passing: error.is_passing(),
        ..fault(plugin, error.to_string(), error.remedy())
    })
}

/// Checks the imports of a component against the grants, and links it to these alone.
pub(crate) fn link(
    engine: &Engine,
    plugin: &config::Plugin,
    compiled: &Compiled,
) -> Result<InstancePre<HostState>, Fault> {
    let component = &compiled.component;
    // Checked once more: code that was compiled before may be linked under other grants, or called for something else.
    let mut findings = Findings::default();
    let types = component.component_type();
    let imports = types.imports(engine).map(|(name, _)| name.to_owned());
    findings.imports(plugin, imports.collect());
    let exports: Vec<_> = types
        .exports(engine)
        .map(|(name, _)| name.to_owned())
        .collect();
    findings.exports(plugin, exports.iter().map(String::as_str));
    findings.into_result(plugin)?;
    linker(engine, component, plugin)
        .and_then(|linker| linker.instantiate_pre(component))
        .map_err(|error| {
            fault(
                plugin,
                format!("its imports are not what this gateway offers: {error:#}"),
                "build it against the contract of this version, lockgate:plugin@0.1.0",
            )
        })
}

/// The remedy for a component that could not be pulled.
fn pull_remedy(error: &PullError) -> &'static str {
    match error {
        PullError::Unreachable(..) | PullError::Failed(..) => {
            "look whether the registry runs and can be reached from here; [registries] says how it is asked"
        }
        PullError::ForbiddenTarget(..) => {
            "find out who runs that registry: redirects keep their scheme, and lead from a public address to public ones"
        }
        PullError::Unknown(..) => "correct the name or the digest, or push the component there",
        PullError::Unauthorized(..) => {
            "write username and password in [registries.\"HOST\"], from the environment: \"${VAR}\""
        }
        PullError::Busy(..) => {
            "try again later; log in with [registries.\"HOST\"] to pull more, and set component_cache to keep components"
        }
        PullError::OtherContent(_) => {
            "do not run it before you know who changed it; correct the digest if it was misspelt"
        }
        PullError::NoComponent(_) => {
            "name the digest of an artifact with one layer of the type application/wasm, as `wkg oci push` makes"
        }
        PullError::OtherDigest(_) => {
            "push it again with a tool that names layers by their SHA-256, such as `wkg oci push`, and name the new digest"
        }
        PullError::TooLarge(..) => "build a smaller component",
        PullError::TooSlow(_) => {
            "raise limits.pull_s, or set component_cache, and pull where the network is faster"
        }
        PullError::Cache(..) => "let the gateway write to component_cache",
    }
}

/// Whether the same component may be pulled later.
fn is_passing_pull(error: &PullError) -> bool {
    match error {
        PullError::Unreachable(..)
        | PullError::Failed(..)
        | PullError::Busy(..)
        | PullError::TooSlow(_)
        | PullError::Cache(..) => true,
        PullError::ForbiddenTarget(..)
        | PullError::Unknown(..)
        | PullError::Unauthorized(..)
        | PullError::OtherContent(_)
        | PullError::NoComponent(_)
        | PullError::OtherDigest(_)
        | PullError::TooLarge(..) => false,
    }
}

/// A fault of a component that loads and fails its test.
pub(crate) fn failed_test(plugin: &config::Plugin, message: String) -> Fault {
    let remedy = "see what it does there; its output is in the log";
    fault(plugin, message, remedy)
}

/// A fault of a component that finds no room for its first instance.
pub(crate) fn no_room(plugin: &config::Plugin, total: u32) -> Fault {
    let message = format!(
        "there is no room for an instance of it: calls and plugins use all {total} that the gateway has room for"
    );
    let remedy = "try again when fewer calls are under way; or have fewer plugins, or give the process more address space";
    Fault {
        is_passing: true,
        ..fault(plugin, message, remedy)
    }
}

/// A fault of the gateway: a step of loading panicked, or never ran.
pub(crate) fn interrupted(plugin: &config::Plugin, error: &tokio::task::JoinError) -> Fault {
    fault(
        plugin,
        format!("the gateway failed to load it: {error}"),
        "tell the authors of Lockgate, with what the log says",
    )
}

/// Refuses a component that shows its faults without being compiled: its world, its imports, its sizes. One that
/// cannot be parsed is left to the compiler, which says why.
fn judge(plugin: &config::Plugin, bytes: &[u8]) -> Result<(), Fault> {
    let Ok(found) = inspect::describe(bytes) else {
        return Ok(());
    };
    let mut findings = Findings::default();
    if !found.misfits.is_empty() {
        findings.add(found.misfits.join("; "), NO_HANDLER.into());
    } else {
        let exports: Vec<_> = found.exports.iter().map(ToString::to_string).collect();
        findings.exports(plugin, exports.iter().map(String::as_str));
    }
    let imports = found
        .imports
        .iter()
        .map(|import| import.interface.to_string());
    findings.imports(plugin, imports.collect());
    let limits = &plugin.limits;
    if found.memory_bytes > limits.memory_bytes as u64 {
        let needed = found.memory_bytes.div_ceil(1 << 20);
        findings.add(
            format!(
                "its memory begins with {needed} MiB, and limits.memory_mib gives it {}",
                limits.memory_bytes >> 20
            ),
            format!("raise limits.memory_mib of the plugin to {needed}, 512 at most"),
        );
    }
    if found.table_elements > limits.table_elements as u64 {
        findings.add(
            format!(
                "it has a table of {} elements, and limits.table_elements allows {}",
                found.table_elements, limits.table_elements
            ),
            format!(
                "raise limits.table_elements of the plugin to {}, 1000000 at most",
                found.table_elements
            ),
        );
    }
    findings.into_result(plugin)
}

/// All faults of a component, each with its remedy.
#[derive(Default)]
struct Findings {
    faults: Vec<String>,
    remedies: Vec<String>,
}

impl Findings {
    fn add(&mut self, fault: String, remedy: String) {
        self.faults.push(fault);
        self.remedies.push(remedy);
    }

    /// Adds the interfaces that a component does not export though its plugin is called for them.
    fn exports<'a>(&mut self, plugin: &config::Plugin, exports: impl Iterator<Item = &'a str>) {
        let exports: Vec<_> = exports.filter_map(capability::on_track).collect();
        let lacks = |interface: &str| !exports.contains(&interface);
        if plugin.roles.handler && lacks(world::HANDLER) {
            self.add(
                format!(
                    "it does not export {}@0.1.0, and a route points to it",
                    world::HANDLER
                ),
                NO_HANDLER.into(),
            );
        }
        if plugin.roles.authorizer && lacks(world::AUTHORIZER) {
            self.add(
                format!("it does not export {}@0.1.0, and an authorizer names it", world::AUTHORIZER),
                "export an authorizer: docs/authorizers.md tells how; in JavaScript and TypeScript, package.json has to say \
                 \"lockgate\": { \"authorizer\": true } beside the function authorize; or name another plugin in [authorizers]"
                    .into(),
            );
        }
    }

    /// Adds the interfaces that a component imports and its plugin is not given.
    fn imports(&mut self, plugin: &config::Plugin, imports: Vec<String>) {
        let (mut grants, mut ungranted, mut stubbed, mut unknown) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for import in imports {
            match need(&import) {
                need if is_given(need, &plugin.grants) => {}
                Need::Stub if plugin.stub_wasi => {}
                Need::Grant(grant) => {
                    grants.push(format!("\"{grant}\""));
                    ungranted.push(import);
                }
                Need::Stub => stubbed.push(import),
                Need::Nothing | Need::Refused => unknown.push(import),
            }
        }
        if !ungranted.is_empty() {
            self.add(
                format!(
                    "it imports {}, which it was not granted",
                    ungranted.join(", ")
                ),
                format!("add {} to its grants", grants.join(" and ")),
            );
        }
        if !stubbed.is_empty() {
            self.add(
                format!("it imports {}, which no plugin is given", stubbed.join(", ")),
                "if it works without, as most do whose standard library imports it unasked, write stub_wasi = true: a stub then refuses every call"
                    .into(),
            );
        }
        if !unknown.is_empty() {
            self.add(
                format!("it imports {}, which the gateway does not have", unknown.join(", ")),
                "build it for WASI 0.2 and lockgate:plugin@0.1.0, with the imports that wit/README.md lists".into(),
            );
        }
    }

    fn into_result(self, plugin: &config::Plugin) -> Result<(), Fault> {
        if self.faults.is_empty() {
            return Ok(());
        }
        let remedy = self.remedies.join("; ");
        Err(fault(plugin, self.faults.join("; "), &remedy))
    }
}

/// A linker that holds the interfaces of the plugin's grants and no others.
fn linker(
    engine: &Engine,
    component: &component::Component,
    plugin: &config::Plugin,
) -> wasmtime::Result<Linker<HostState>> {
    let mut linker = Linker::new(engine);
    capability::link(&mut linker, &plugin.grants)?;
    if plugin.stub_wasi {
        let name = plugin.name.as_str().into();
        stubs::link(&mut linker, engine, component, &name)?;
    }
    Ok(linker)
}
