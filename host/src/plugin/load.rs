//! From a component file to something that can be instantiated: compiled, its imports checked against its
//! grants, linked to what it was granted and nothing else.

use serde::Serialize;
use wasmtime::Engine;
use wasmtime::component::{HasSelf, Linker, ResourceTable};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::cli::{WasiCli, WasiCliView};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView};
use wasmtime_wasi::p2::bindings::{cli, clocks, random};
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi_io::bindings::wasi::io as wasi_io;

use super::bindings::HandlerPluginPre;
use super::bindings::lockgate::plugin::{connections, context, groups, types};
use super::compile::{CompileError, Compiler};
use super::component::{Compiled, MAX_COMPONENT, Source};
use super::instance::State;
use crate::config::{self, Component, Fault};
use crate::registry::{self, PullError};

/// What all WebAssembly begins with.
const MAGIC: &[u8] = b"\0asm";

/// The eight bytes that a core module begins with; a component's version differs.
pub(super) const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";

/// What every plugin may import, by the beginning of the name.
const ALWAYS: [&str; 12] = [
    "lockgate:plugin/types@",
    "lockgate:plugin/context@",
    "wasi:io/",
    "wasi:clocks/wall-clock@",
    "wasi:clocks/monotonic-clock@",
    "wasi:random/",
    "wasi:cli/environment@",
    "wasi:cli/exit@",
    "wasi:cli/stdin@",
    "wasi:cli/stdout@",
    "wasi:cli/stderr@",
    "wasi:cli/terminal-",
];

/// The interfaces of `lockgate:plugin` that take a grant.
const GRANTS: [&str; 2] = ["connections", "groups"];

/// What is wrong with a plugin's component.
fn fault(plugin: &config::Plugin, message: String, remedy: &str) -> Fault {
    let key = match plugin.component {
        Component::Source { .. } => "source",
        Component::File(_) | Component::Image(_) => "component",
    };
    Fault {
        key: format!("plugins.{}.{key}", plugin.name),
        message,
        remedy: remedy.to_owned(),
    }
}

/// How a component file is read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Look {
    Once,
    /// It may be in the middle of being written.
    UntilWhole,
}

/// Reads a plugin's component, or pulls it.
pub(super) async fn read(plugin: &config::Plugin, look: Look) -> Result<Source, Fault> {
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
            let pull = move || registry::pull(&image_, MAX_COMPONENT).map(Source::from);
            let pulled = tokio::task::spawn_blocking(pull).await.map_err(broken)?;
            return pulled
                .map_err(|error| fault(plugin, format!("{image}: {error}"), pull_remedy(&error)));
        }
    };
    let source = match look {
        Look::UntilWhole => Source::read_whole(path).await,
        Look::Once => {
            let path = path.clone();
            let read = tokio::task::spawn_blocking(move || Source::read(&path));
            read.await.map_err(broken)?
        }
    };
    source.map_err(|error| {
        fault(
            plugin,
            format!("{} cannot be read: {error}", plugin.component),
            "name a component file of at most 64 MiB",
        )
    })
}

/// Compiles a plugin's component.
pub(super) fn compile(
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
    let compiled = compiler.compile(engine, plugin, source);
    compiled.map_err(|error| fault(plugin, error.to_string(), compile_remedy(&error)))
}

/// Checks what a component imports against the grants, and links it to what it was granted.
pub(super) fn link(
    engine: &Engine,
    plugin: &config::Plugin,
    compiled: &Compiled,
) -> Result<HandlerPluginPre<State>, Fault> {
    let component = &compiled.component;
    let imports = component.component_type();
    check_imports(imports.imports(engine).map(|(name, _)| name), plugin.grants)
        .map_err(|(message, remedy)| fault(plugin, message, &remedy))?;
    linker(engine, plugin.grants)
        .and_then(|linker| linker.instantiate_pre(component))
        .map_err(|error| {
            fault(
                plugin,
                format!("its imports are not what this gateway offers: {error:#}"),
                "build it against the contract of this version, lockgate:plugin@0.1.0",
            )
        })
        .and_then(|pre| {
            HandlerPluginPre::new(pre).map_err(|error| {
                fault(
                    plugin,
                    format!("it does not export lockgate:plugin/handler@0.1.0: {error:#}"),
                    "export a handler: wit/README.md tells how, plugins/echo is one",
                )
            })
        })
}

/// What to do about a component that could not be compiled.
fn compile_remedy(error: &CompileError) -> &'static str {
    match error {
        CompileError::NoComponent(_) => "build it with `lockgate build DIR`, and copy it whole",
        CompileError::TooLong(_) => {
            "raise limits.compile_s of the plugin if the machine is slow, or build a smaller component"
        }
        CompileError::TooMuch => "build a smaller component, of smaller functions",
        CompileError::Stopped => "start it again",
        CompileError::NoTime => "look what the machine is busy with, and try again",
        CompileError::Ended { .. } => {
            "if the machine ended it for want of memory, give it more; if not, tell the authors of Lockgate"
        }
    }
}

/// What to do about a component that could not be pulled.
fn pull_remedy(error: &PullError) -> &'static str {
    match error {
        PullError::Unreachable(..) | PullError::Failed(..) => {
            "look whether the registry runs and can be reached from here; [registries] says how it is asked"
        }
        PullError::Astray(..) => {
            "look who runs that registry: it is followed by the same scheme only, and from a public address to public ones"
        }
        PullError::Unknown(..) => "correct the name or the digest, or push the component there",
        PullError::Unauthorized(..) => {
            "write username and password in [registries.\"HOST\"], from the environment: \"${VAR}\""
        }
        PullError::Busy(..) => {
            "try again later; who logs in, in [registries.\"HOST\"], may pull more, and component_cache keeps what was pulled"
        }
        PullError::OtherContent(_) => {
            "do not run it before you know who changed it; correct the digest if it was misspelt"
        }
        PullError::NoComponent(_) => {
            "name the digest of an artifact with one layer of the type application/wasm, as `wkg oci push` makes"
        }
        PullError::TooLarge(..) => "build a smaller component",
        PullError::TooSlow(_) => {
            "raise limits.pull_s, or set component_cache, and pull where the network is faster"
        }
        PullError::Cache(..) => "let the gateway write to component_cache",
    }
}

/// A component that loads and does not work.
pub(super) fn broken(plugin: &config::Plugin, message: String) -> Fault {
    let remedy = "see what it does there; what it printed is in the log";
    fault(plugin, message, remedy)
}

/// A part of loading that ended in a panic, or never ran.
pub(super) fn interrupted(plugin: &config::Plugin, error: &tokio::task::JoinError) -> Fault {
    fault(
        plugin,
        format!("the gateway failed to load it: {error}"),
        "tell the authors of Lockgate, with what the log says",
    )
}

/// What it takes to import an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "needs", content = "grant", rename_all = "kebab-case")]
pub(crate) enum Need {
    /// Every plugin is given it.
    Nothing,
    /// The plugins that were granted it are given it.
    Grant(&'static str),
    /// No plugin is given it.
    Refused,
}

/// What it takes to import the interface of this name.
pub(super) fn need(import: &str) -> Need {
    let grant = GRANTS
        .into_iter()
        .find(|grant| import.starts_with(&format!("lockgate:plugin/{grant}@")));
    match grant {
        Some(grant) => Need::Grant(grant),
        None if ALWAYS.iter().any(|allowed| import.starts_with(allowed)) => Need::Nothing,
        None => Need::Refused,
    }
}

/// Names everything that a component imports and may not, and what to do about it.
fn check_imports<'a>(
    imports: impl Iterator<Item = &'a str>,
    grants: config::Grants,
) -> Result<(), (String, String)> {
    let (mut refused, mut grantable) = (Vec::new(), Vec::new());
    for import in imports {
        match need(import) {
            Need::Nothing => continue,
            Need::Grant("connections") if grants.connections => continue,
            Need::Grant("groups") if grants.groups => continue,
            Need::Grant(grant) => grantable.push(format!("{grant:?}")),
            Need::Refused => {}
        }
        refused.push(import);
    }
    if refused.is_empty() {
        return Ok(());
    }
    let remedy = if grantable.len() == refused.len() {
        format!("add {} to its grants", grantable.join(" and "))
    } else {
        "do without what wit/README.md does not list: the gateway gives it to no plugin".to_owned()
    };
    Err((
        format!(
            "it imports {}, which it was not granted",
            refused.join(", ")
        ),
        remedy,
    ))
}

/// A linker with the plugin's grants: what was not granted is not there.
fn linker(engine: &Engine, grants: config::Grants) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    link_wasi(&mut linker)?;
    types::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    context::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    if grants.connections {
        connections::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    }
    if grants.groups {
        groups::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    }
    Ok(linker)
}

/// The harmless part of WASI 0.2: clocks, random numbers, standard streams, an empty environment. Its file
/// system and its sockets are not linked at all.
fn link_wasi(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    struct Io;
    impl wasmtime::component::HasData for Io {
        type Data<'a> = &'a mut ResourceTable;
    }
    wasi_io::error::add_to_linker::<_, Io>(linker, |state| state.ctx().table)?;
    wasi_io::poll::add_to_linker::<_, Io>(linker, |state| state.ctx().table)?;
    wasi_io::streams::add_to_linker::<_, Io>(linker, |state| state.ctx().table)?;
    clocks::wall_clock::add_to_linker::<_, WasiClocks>(linker, State::clocks)?;
    clocks::monotonic_clock::add_to_linker::<_, WasiClocks>(linker, State::clocks)?;
    random::random::add_to_linker::<_, WasiRandom>(linker, |state| state.ctx().ctx.random())?;
    random::insecure::add_to_linker::<_, WasiRandom>(linker, |state| state.ctx().ctx.random())?;
    random::insecure_seed::add_to_linker::<_, WasiRandom>(linker, |state| {
        state.ctx().ctx.random()
    })?;
    cli::environment::add_to_linker::<_, WasiCli>(linker, State::cli)?;
    cli::exit::add_to_linker::<_, WasiCli>(linker, State::cli)?;
    cli::stdin::add_to_linker::<_, WasiCli>(linker, State::cli)?;
    cli::stdout::add_to_linker::<_, WasiCli>(linker, State::cli)?;
    cli::stderr::add_to_linker::<_, WasiCli>(linker, State::cli)?;
    cli::terminal_input::add_to_linker::<_, WasiCli>(linker, State::cli)?;
    cli::terminal_output::add_to_linker::<_, WasiCli>(linker, State::cli)?;
    cli::terminal_stdin::add_to_linker::<_, WasiCli>(linker, State::cli)?;
    cli::terminal_stdout::add_to_linker::<_, WasiCli>(linker, State::cli)?;
    cli::terminal_stderr::add_to_linker::<_, WasiCli>(linker, State::cli)?;
    Ok(())
}
