//! The parts of WASI 0.2 that every plugin gets: clocks, random numbers, output, and their dependencies.
//!
//! The file system and the sockets are not linked: `stubs` may take their place.

use wasmtime::component::{HasData, ResourceTable};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::cli::{WasiCli, WasiCliView};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView};
use wasmtime_wasi::p2::bindings::{cli, clocks, random};
use wasmtime_wasi::random::{WasiRandom, WasiRandomCtx};
use wasmtime_wasi_io::bindings::wasi::io;

use super::{Capability, Interface};
use crate::plugin::run::instance::HostState;

pub(super) const CAPABILITY: Capability = Capability {
    grant: None,
    interfaces: &[
        Interface {
            name: "wasi:io/error",
            link: |linker| io::error::add_to_linker::<_, WasiIo>(linker, |state| state.ctx().table),
        },
        Interface {
            name: "wasi:io/poll",
            link: |linker| io::poll::add_to_linker::<_, WasiIo>(linker, |state| state.ctx().table),
        },
        Interface {
            name: "wasi:io/streams",
            link: |linker| {
                io::streams::add_to_linker::<_, WasiIo>(linker, |state| state.ctx().table)
            },
        },
        Interface {
            name: "wasi:clocks/wall-clock",
            link: |linker| {
                clocks::wall_clock::add_to_linker::<_, WasiClocks>(linker, HostState::clocks)
            },
        },
        Interface {
            name: "wasi:clocks/monotonic-clock",
            link: |linker| {
                clocks::monotonic_clock::add_to_linker::<_, WasiClocks>(linker, HostState::clocks)
            },
        },
        Interface {
            name: "wasi:random/random",
            link: |linker| random::random::add_to_linker::<_, WasiRandom>(linker, rng),
        },
        Interface {
            name: "wasi:random/insecure",
            link: |linker| random::insecure::add_to_linker::<_, WasiRandom>(linker, rng),
        },
        Interface {
            name: "wasi:random/insecure-seed",
            link: |linker| random::insecure_seed::add_to_linker::<_, WasiRandom>(linker, rng),
        },
        Interface {
            name: "wasi:cli/environment",
            link: |linker| cli::environment::add_to_linker::<_, WasiCli>(linker, HostState::cli),
        },
        Interface {
            name: "wasi:cli/exit",
            link: |linker| cli::exit::add_to_linker::<_, WasiCli>(linker, HostState::cli),
        },
        Interface {
            name: "wasi:cli/stdin",
            link: |linker| cli::stdin::add_to_linker::<_, WasiCli>(linker, HostState::cli),
        },
        Interface {
            name: "wasi:cli/stdout",
            link: |linker| cli::stdout::add_to_linker::<_, WasiCli>(linker, HostState::cli),
        },
        Interface {
            name: "wasi:cli/stderr",
            link: |linker| cli::stderr::add_to_linker::<_, WasiCli>(linker, HostState::cli),
        },
        Interface {
            name: "wasi:cli/terminal-input",
            link: |linker| cli::terminal_input::add_to_linker::<_, WasiCli>(linker, HostState::cli),
        },
        Interface {
            name: "wasi:cli/terminal-output",
            link: |linker| {
                cli::terminal_output::add_to_linker::<_, WasiCli>(linker, HostState::cli)
            },
        },
        Interface {
            name: "wasi:cli/terminal-stdin",
            link: |linker| cli::terminal_stdin::add_to_linker::<_, WasiCli>(linker, HostState::cli),
        },
        Interface {
            name: "wasi:cli/terminal-stdout",
            link: |linker| {
                cli::terminal_stdout::add_to_linker::<_, WasiCli>(linker, HostState::cli)
            },
        },
        Interface {
            name: "wasi:cli/terminal-stderr",
            link: |linker| {
                cli::terminal_stderr::add_to_linker::<_, WasiCli>(linker, HostState::cli)
            },
        },
    ],
};

fn rng(state: &mut HostState) -> &mut WasiRandomCtx {
    state.ctx().ctx.random()
}

struct WasiIo;

impl HasData for WasiIo {
    type Data<'a> = &'a mut ResourceTable;
}
