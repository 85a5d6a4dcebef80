//! Stubs for the WASI interfaces that no plugin gets. With `stub_wasi = true` a component may import them, and finds
//! nothing behind them: standard libraries import a file system and sockets whether a program uses them or not.
//!
//! A stub is made from the component's own type of the interface: it fits any release, and no implementation is
//! linked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use wasmtime::component::types::{ComponentItem, Type};
use wasmtime::component::{
    Component, Linker, LinkerInstance, Resource, ResourceAny, ResourceType, Val,
};
use wasmtime::error::Result;
use wasmtime::{Engine, StoreContextMut, bail, format_err};
use wasmtime_wasi::WasiView as _;
use wasmtime_wasi_io::streams;

use super::{Need, need};
use crate::plugin::run::instance::HostState;

/// The errors for a refusal, as the WASI packages name them.
const DENIED: [&str; 4] = [
    "access-denied",
    "access",
    "HTTP-request-denied",
    "forbidden",
];

/// The resource behind every handle of a stub: a network without hosts, the fields of a request that is never sent.
struct Nothing;

/// One interface of one version of a plugin.
struct Stub {
    plugin: Arc<str>,
    interface: String,
    /// Whether a call of it was logged.
    logged: AtomicBool,
}

/// Links a stub for every import of a component that needs one.
pub(crate) fn link(
    linker: &mut Linker<HostState>,
    engine: &Engine,
    component: &Component,
    plugin: &Arc<str>,
) -> Result<()> {
    let imports = component.component_type();
    // Interfaces repeat the resources of others that they use: the first to name a resource defines it.
    let mut resources = Vec::new();
    for (name, import) in imports.imports(engine) {
        let ComponentItem::ComponentInstance(interface) = import.ty else {
            continue;
        };
        let mut instance = match need(name) {
            Need::Stub => Some(linker.instance(name)?),
            Need::Nothing | Need::Grant(_) | Need::Refused => None,
        };
        let stub = Arc::new(Stub {
            plugin: Arc::clone(plugin),
            interface: name.to_owned(),
            logged: AtomicBool::new(false),
        });
        for (name, export) in interface.exports(engine) {
            if let ComponentItem::Resource(resource) = export.ty {
                let is_new = !resources.contains(&resource);
                resources.push(resource);
                if is_new && let Some(instance) = &mut instance {
                    instance.resource(
                        name,
                        ResourceType::host::<Nothing>(),
                        |mut store, rep| drop_handle(&Resource::new_own(rep), store.data_mut()),
                    )?;
                }
            } else if let ComponentItem::ComponentFunc(_) = export.ty
                && let Some(instance) = &mut instance
            {
                stub_function(instance, name, Arc::clone(&stub))?;
            }
        }
    }
    Ok(())
}

fn stub_function(
    instance: &mut LinkerInstance<'_, HostState>,
    name: &str,
    stub: Arc<Stub>,
) -> Result<()> {
    let function = name.to_owned();
    instance.func_new(name, move |mut store, ty, given, results| {
        for value in given {
            if let Val::Resource(handle) = value {
                release(*handle, &mut store)?;
            }
        }
        for (result, ty) in results.iter_mut().zip(ty.results()) {
            let answer = answer(&ty, &mut store)?;
            *result = answer.ok_or_else(|| {
                let interface = &stub.interface;
                format_err!("stub_wasi = true gives the plugin a stub of {interface}, which cannot answer {function}")
            })?;
        }
        stub.log(&function, results, store.data());
        Ok(())
    })
}

/// The answer of a stub: a refusal, or nothing. None where the type allows neither, as in functions that need a
/// handle.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "no other type, of today or later, can express a refusal"
)]
fn answer(ty: &Type, store: &mut StoreContextMut<'_, HostState>) -> Result<Option<Val>> {
    Ok(match ty {
        Type::Result(result) => match result.err() {
            None => Some(Val::Result(Err(None))),
            Some(error) => denial(&error).map(|error| Val::Result(Err(Some(Box::new(error))))),
        },
        Type::List(_) => Some(Val::List(Vec::new())),
        Type::Option(_) => Some(Val::Option(None)),
        Type::Bool => Some(Val::Bool(false)),
        Type::Own(resource) if *resource == ResourceType::host::<Nothing>() => {
            // The table bounds the handles of an instance.
            let handle = store.data_mut().ctx().table.push(Nothing)?;
            Some(Val::Resource(handle.try_into_resource_any(store)?))
        }
        _ => None,
    })
}

/// The value of an error type that expresses a refusal.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "an error of any other type cannot express a refusal"
)]
fn denial(ty: &Type) -> Option<Val> {
    match ty {
        Type::Enum(cases) => DENIED
            .into_iter()
            .find(|denied| cases.names().any(|name| name == *denied))
            .map(|denied| Val::Enum(denied.into())),
        Type::Variant(cases) => DENIED
            .into_iter()
            .find(|denied| {
                cases
                    .cases()
                    .any(|case| case.name == *denied && case.ty.is_none())
            })
            .map(|denied| Val::Variant(denied.into(), None)),
        _ => None,
    }
}

/// Ends a handle that came with a call: a borrowed one must be given back before the call is over.
fn release(handle: ResourceAny, store: &mut StoreContextMut<'_, HostState>) -> Result<()> {
    let ty = handle.ty();
    if ty == ResourceType::host::<Nothing>() {
        let handle = handle.try_into_resource::<Nothing>(&mut *store)?;
        if handle.owned() {
            drop_handle(&handle, store.data_mut())?;
        }
    } else if ty == ResourceType::host::<streams::Error>() {
        handle.try_into_resource::<streams::Error>(store)?;
    } else {
        bail!("a stub of WASI was given a handle that it does not know");
    }
    Ok(())
}

fn drop_handle(handle: &Resource<Nothing>, state: &mut HostState) -> Result<()> {
    state
        .ctx()
        .table
        .delete(Resource::<Nothing>::new_own(handle.rep()))?;
    Ok(())
}

impl Stub {
    /// Logs the first call of an interface, for an operator whose plugin calls one that it does not get.
    fn log(&self, function: &str, results: &[Val], state: &HostState) {
        let refused = results
            .iter()
            .any(|result| matches!(result, Val::Result(Err(_))));
        let empty = results.iter().any(|result| matches!(result, Val::List(_)));
        if !(refused || empty) || self.logged.swap(true, Ordering::Relaxed) {
            return;
        }
        let (plugin, interface) = (&*self.plugin, &self.interface);
        let call = state.invocation.as_deref();
        let connection = call.map(|call| tracing::field::display(call.connection.id));
        let stage = call.map(|call| tracing::field::display(&call.scope));
        let route = call.map(|call| &*call.route_key);
        let request_id = call.map(|call| tracing::field::display(&call.request_id));
        if refused {
            tracing::warn!(
                plugin,
                interface,
                function,
                connection,
                stage,
                route,
                request_id,
                "refused: stub_wasi gives the plugin nothing behind this interface; said once for it"
            );
        } else {
            tracing::info!(
                plugin,
                interface,
                function,
                connection,
                stage,
                route,
                request_id,
                "there is nothing: stub_wasi gives the plugin nothing behind this interface; said once for it"
            );
        }
    }
}
