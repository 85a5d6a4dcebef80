//! Turns the end of a call into words for the plugin's author: the cause first, with the limit that it met.

use wasmtime::{PoolConcurrencyLimitError, Trap};

use super::bounds::Refused;
use super::engine::WASM_STACK;
use super::instance::{HOSTCALL_BYTES, HostState, shortened};
use crate::config::PluginLimits;
use crate::invocation::{Busy, Cut, InvokeError};

/// The error for a call that ended in a trap, or in an error of a host function.
pub(crate) fn of(error: &wasmtime::Error, state: &HostState, limits: &PluginLimits) -> InvokeError {
    if is_out_of_room(error) {
        return InvokeError::Busy(Busy::Machine);
    }
    let trap = error.downcast_ref::<Trap>().copied();
    if trap == Some(Trap::Interrupt) {
        return InvokeError::Deadline(Cut::Cpu(limits.cpu));
    }
    if is_too_large(error) {
        return InvokeError::Failed(too_large(state));
    }
    let mut words: Vec<_> = state.output.panicked().into_iter().collect();
    words.extend(refusals(state.limiter.refused(), limits));
    words.extend(trap.and_then(explanation).map(str::to_owned));
    // The backtrace comes last: it may be long.
    words.push(match trap {
        Some(trap) => format!("{trap}; {error}"),
        None => format!("{error:#}"),
    });
    InvokeError::Trapped(shortened(&words.join("; ")))
}

/// The outcome of a call that was refused memory or a larger table, and came back all the same: its own. It is no trap, which
/// counts against the version: a handler may be right to refuse what a client asks for. The log says why the instance
/// ends.
pub(crate) fn of_refused<A>(
    answered: Result<A, String>,
    state: &HostState,
    limits: &PluginLimits,
) -> Result<A, InvokeError> {
    let words = refusals(state.limiter.refused(), limits).join("; ");
    answered
        .inspect(|_| {
            state.warn(format_args!(
                "the handler has answered, and its instance is thrown away: {words}"
            ));
        })
        .map_err(|reason| {
            let why = format!("{words}; its instance is thrown away; {reason}");
            InvokeError::Failed(shortened(&why))
        })
}

/// No room, or no memory. The guest has not begun, or does not notice.
fn is_out_of_room(error: &wasmtime::Error) -> bool {
    error.is::<PoolConcurrencyLimitError>() || error.is::<rustix::io::Errno>()
}

/// The guest passed more than [`HOSTCALL_BYTES`] allow. The engine's error has no public type, so its text is
/// compared.
fn is_too_large(error: &wasmtime::Error) -> bool {
    error
        .chain()
        .any(|cause| cause.to_string().contains("fuel allocated for hostcalls"))
}

/// A failure and no trap: it tells of one message, as an error of the contract would, and not of the code of the
/// version.
fn too_large(state: &HostState) -> String {
    let message = state.invocation.as_ref();
    let message = message.map_or(0, |call| call.scope.limits.message_bytes);
    format!(
        "too large: one call, or its answer, carried more than {} KiB, which is {} KiB and limits.message_kib of the stage, {}; send less, or raise it",
        HOSTCALL_BYTES.saturating_add(message) >> 10,
        HOSTCALL_BYTES >> 10,
        message >> 10
    )
}

fn refusals(refused: Refused, limits: &PluginLimits) -> Vec<String> {
    let memory = refused.memory.map(|(has, wanted)| {
        format!(
            "it was refused memory: it has {} KiB, asked for {} KiB more, and {} MiB is limits.memory_mib of the plugin; \
             hold less, or raise it",
            has >> 10,
            wanted.saturating_sub(has).div_ceil(1 << 10),
            limits.memory_bytes >> 20
        )
    });
    let table = refused.table.map(|(has, wanted)| {
        format!(
            "it was refused a larger table: it has {has} elements, asked for {wanted}, and {} is limits.table_elements of \
             the plugin; raise it",
            limits.table_elements
        )
    });
    memory.into_iter().chain(table).collect()
}

/// An explanation of the two traps that a deep recursion ends in, whose own texts do not mention it.
fn explanation(trap: Trap) -> Option<&'static str> {
    const { assert!(WASM_STACK == 512 << 10, "the words below say so") };
    if trap == Trap::StackOverflow {
        Some(
            "its calls are nested too deep for the stack, of which there are 512 KiB for everyone; recurse less deep",
        )
    } else if trap == Trap::MemoryOutOfBounds {
        Some(
            "it reached outside of its memory: most often its calls are nested too deep for the stack that is in there, \
             1 MiB where the linker was not told otherwise; recurse less deep, or link it with -zstack-size=BYTES",
        )
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use wasmtime::error::Context as _;

    use super::*;

    #[test]
    fn lack_of_memory_is_told_from_a_trap() {
        let none: Result<(), _> = Err(rustix::io::Errno::NOMEM);
        let error = none
            .context("mmap failed")
            .context("no memory")
            .unwrap_err();
        assert!(is_out_of_room(&error));
        let trap = wasmtime::Error::from(Trap::UnreachableCodeReached);
        assert!(!is_out_of_room(&trap.context("a call")));
    }
}
