//! What the gateway offers to components: one table of interfaces, by which imports are judged and linked.

mod lockgate;
pub(crate) mod stubs;

use serde::Serialize;
use wasmtime::component::{HasData, HasSelf, Linker, ResourceTable};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::cli::{WasiCli, WasiCliView};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView};
use wasmtime_wasi::p2::bindings::{cli, clocks, random};
use wasmtime_wasi::random::{WasiRandom, WasiRandomCtx};
use wasmtime_wasi_io::bindings::wasi::io;

use crate::config::Grants;
use crate::plugin::run::bindings::lockgate::plugin::{connections, context, groups, types};
use crate::plugin::run::instance::State;

/// What it takes to import an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "needs", content = "grant", rename_all = "kebab-case")]
pub(crate) enum Need {
    /// Every plugin is given it.
    Nothing,
    /// The plugins that were granted it are given it.
    Grant(&'static str),
    /// With `stub_wasi = true` a plugin is given one that refuses every call.
    Stub,
    /// No plugin is given it.
    Refused,
}

/// An interface that the gateway implements.
struct Offer {
    interface: &'static str,
    need: Need,
    link: fn(&mut Linker<State>) -> wasmtime::Result<()>,
}

/// The releases of each package that fit together, as its versions begin: later ones of them differ by additions.
const TRACKS: [(&str, &str); 2] = [("lockgate:plugin/", "0.1."), ("wasi:", "0.2.")];

/// What is stubbed, as far as it is not offered: the packages that standard libraries import without being asked.
const STUBBED: [&str; 5] = [
    "wasi:cli/",
    "wasi:clocks/",
    "wasi:filesystem/",
    "wasi:http/",
    "wasi:sockets/",
];

/// The file system and the sockets of WASI are not among them, and not linked at all.
static OFFERS: [Offer; 22] = [
    offer("lockgate:plugin/types", Need::Nothing, |linker| {
        types::add_to_linker::<_, HasSelf<State>>(linker, |state| state)
    }),
    offer("lockgate:plugin/context", Need::Nothing, |linker| {
        context::add_to_linker::<_, HasSelf<State>>(linker, |state| state)
    }),
    offer(
        "lockgate:plugin/connections",
        Need::Grant("connections"),
        |linker| connections::add_to_linker::<_, HasSelf<State>>(linker, |state| state),
    ),
    offer("lockgate:plugin/groups", Need::Grant("groups"), |linker| {
        groups::add_to_linker::<_, HasSelf<State>>(linker, |state| state)
    }),
    offer("wasi:io/error", Need::Nothing, |linker| {
        io::error::add_to_linker::<_, Io>(linker, |state| state.ctx().table)
    }),
    offer("wasi:io/poll", Need::Nothing, |linker| {
        io::poll::add_to_linker::<_, Io>(linker, |state| state.ctx().table)
    }),
    offer("wasi:io/streams", Need::Nothing, |linker| {
        io::streams::add_to_linker::<_, Io>(linker, |state| state.ctx().table)
    }),
    offer("wasi:clocks/wall-clock", Need::Nothing, |linker| {
        clocks::wall_clock::add_to_linker::<_, WasiClocks>(linker, State::clocks)
    }),
    offer("wasi:clocks/monotonic-clock", Need::Nothing, |linker| {
        clocks::monotonic_clock::add_to_linker::<_, WasiClocks>(linker, State::clocks)
    }),
    offer("wasi:random/random", Need::Nothing, |linker| {
        random::random::add_to_linker::<_, WasiRandom>(linker, rng)
    }),
    offer("wasi:random/insecure", Need::Nothing, |linker| {
        random::insecure::add_to_linker::<_, WasiRandom>(linker, rng)
    }),
    offer("wasi:random/insecure-seed", Need::Nothing, |linker| {
        random::insecure_seed::add_to_linker::<_, WasiRandom>(linker, rng)
    }),
    offer("wasi:cli/environment", Need::Nothing, |linker| {
        cli::environment::add_to_linker::<_, WasiCli>(linker, State::cli)
    }),
    offer("wasi:cli/exit", Need::Nothing, |linker| {
        cli::exit::add_to_linker::<_, WasiCli>(linker, State::cli)
    }),
    offer("wasi:cli/stdin", Need::Nothing, |linker| {
        cli::stdin::add_to_linker::<_, WasiCli>(linker, State::cli)
    }),
    offer("wasi:cli/stdout", Need::Nothing, |linker| {
        cli::stdout::add_to_linker::<_, WasiCli>(linker, State::cli)
    }),
    offer("wasi:cli/stderr", Need::Nothing, |linker| {
        cli::stderr::add_to_linker::<_, WasiCli>(linker, State::cli)
    }),
    offer("wasi:cli/terminal-input", Need::Nothing, |linker| {
        cli::terminal_input::add_to_linker::<_, WasiCli>(linker, State::cli)
    }),
    offer("wasi:cli/terminal-output", Need::Nothing, |linker| {
        cli::terminal_output::add_to_linker::<_, WasiCli>(linker, State::cli)
    }),
    offer("wasi:cli/terminal-stdin", Need::Nothing, |linker| {
        cli::terminal_stdin::add_to_linker::<_, WasiCli>(linker, State::cli)
    }),
    offer("wasi:cli/terminal-stdout", Need::Nothing, |linker| {
        cli::terminal_stdout::add_to_linker::<_, WasiCli>(linker, State::cli)
    }),
    offer("wasi:cli/terminal-stderr", Need::Nothing, |linker| {
        cli::terminal_stderr::add_to_linker::<_, WasiCli>(linker, State::cli)
    }),
];

const fn offer(
    interface: &'static str,
    need: Need,
    link: fn(&mut Linker<State>) -> wasmtime::Result<()>,
) -> Offer {
    Offer {
        interface,
        need,
        link,
    }
}

fn rng(state: &mut State) -> &mut WasiRandomCtx {
    state.ctx().ctx.random()
}

struct Io;

impl HasData for Io {
    type Data<'a> = &'a mut ResourceTable;
}

/// What it takes to import the interface of this name, `PACKAGE/INTERFACE@VERSION`.
pub(crate) fn need(import: &str) -> Need {
    let Some(interface) = on_track(import) else {
        return Need::Refused;
    };
    let offered = OFFERS.iter().find(|offer| offer.interface == interface);
    match offered {
        Some(offer) => offer.need,
        None if STUBBED.iter().any(|package| interface.starts_with(package)) => Need::Stub,
        None => Need::Refused,
    }
}

/// Links all that a plugin with these grants is given.
pub(crate) fn link(linker: &mut Linker<State>, grants: Grants) -> wasmtime::Result<()> {
    for offer in &OFFERS {
        if is_given(offer.need, grants) {
            (offer.link)(linker)?;
        }
    }
    Ok(())
}

/// Whether a plugin with these grants is given what takes this.
pub(crate) fn is_given(need: Need, grants: Grants) -> bool {
    match need {
        Need::Nothing => true,
        Need::Grant("connections") => grants.connections,
        Need::Grant("groups") => grants.groups,
        Need::Grant(_) | Need::Stub | Need::Refused => false,
    }
}

/// The interface that a name tells, if it is of a release that fits the gateway's.
pub(crate) fn on_track(name: &str) -> Option<&str> {
    let (interface, version) = name.split_once('@')?;
    let (_, track) = TRACKS
        .iter()
        .find(|(package, _)| interface.starts_with(package))?;
    // A release candidate fits nothing but itself.
    let release = version.split('+').next()?.strip_prefix(track)?;
    let is_release = !release.is_empty() && release.bytes().all(|byte| byte.is_ascii_digit());
    is_release.then_some(interface)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_is_judged_by_its_name_and_its_release() {
        for (import, expected) in [
            ("lockgate:plugin/context@0.1.0", Need::Nothing),
            ("lockgate:plugin/context@0.1.7", Need::Nothing),
            ("lockgate:plugin/context@0.2.0", Need::Refused),
            ("lockgate:plugin/context", Need::Refused),
            ("lockgate:plugin/groups@0.1.0", Need::Grant("groups")),
            ("lockgate:plugin/secrets@0.1.0", Need::Refused),
            ("wasi:io/poll@0.2.0", Need::Nothing),
            ("wasi:io/poll@0.2.12+build", Need::Nothing),
            ("wasi:io/poll@0.2.0-rc-2023-11-10", Need::Refused),
            ("wasi:io/poll@0.3.0", Need::Refused),
            ("wasi:io/poll@0.20.0", Need::Refused),
            ("wasi:io/other@0.2.6", Need::Refused),
            ("wasi:random/random@0.3.0-rc-2025-09-16", Need::Refused),
            ("wasi:cli/terminal-stdin@0.2.6", Need::Nothing),
            ("wasi:cli/run@0.2.6", Need::Stub),
            ("wasi:clocks/timezone@0.2.6", Need::Stub),
            ("wasi:filesystem/types@0.2.6", Need::Stub),
            ("wasi:filesystem/types@0.3.0", Need::Refused),
            ("wasi:sockets/tcp@0.2.0", Need::Stub),
            ("wasi:http/types@0.2.6", Need::Stub),
            ("wasi:keyvalue/store@0.2.0", Need::Refused),
            ("env", Need::Refused),
        ] {
            assert_eq!(need(import), expected, "{import}");
        }
    }
}
