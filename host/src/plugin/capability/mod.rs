//! The capabilities that the gateway offers to components: one row each, by which imports are judged, linked and
//! described.

mod call;
mod connections;
mod context;
mod groups;
pub(crate) mod stubs;
mod wasi;

use serde::Serialize;
use wasmtime::component::Linker;

use crate::config::{Grant, Grants};
use crate::plugin::run::instance::HostState;

/// Interfaces that a plugin gets together.
struct Capability {
    /// The grant that it requires; none if every plugin has it.
    grant: Option<Grant>,
    interfaces: &'static [Interface],
}

struct Interface {
    /// `PACKAGE/INTERFACE`.
    name: &'static str,
    link: fn(&mut Linker<HostState>) -> wasmtime::Result<()>,
}

static CAPABILITIES: [Capability; 4] = [
    context::CAPABILITY,
    connections::CAPABILITY,
    groups::CAPABILITY,
    wasi::CAPABILITY,
];

/// The condition for importing an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "needs", content = "grant", rename_all = "kebab-case")]
pub(crate) enum Need {
    /// Every plugin gets it.
    Nothing,
    /// The plugins with this grant get it.
    Grant(Grant),
    /// A plugin with `stub_wasi = true` gets a stub, which refuses every call.
    Stub,
    /// No plugin gets it.
    Refused,
}

/// The start of the compatible versions of each package: later releases only add to earlier ones.
const TRACKS: [(&str, &str); 2] = [("lockgate:plugin/", "0.1."), ("wasi:", "0.2.")];

/// The packages that get a stub, where the gateway does not offer the interface: standard libraries import them
/// unasked.
const STUBBED: [&str; 5] = [
    "wasi:cli/",
    "wasi:clocks/",
    "wasi:filesystem/",
    "wasi:http/",
    "wasi:sockets/",
];

/// The condition for importing an interface, `PACKAGE/INTERFACE@VERSION`.
pub(super) fn need(import: &str) -> Need {
    let Some(name) = on_track(import) else {
        return Need::Refused;
    };
    let offers = |capability: &&Capability| {
        let mut interfaces = capability.interfaces.iter();
        interfaces.any(|interface| interface.name == name)
    };
    match CAPABILITIES.iter().find(offers) {
        Some(capability) => capability.grant.map_or(Need::Nothing, Need::Grant),
        None if STUBBED.iter().any(|package| name.starts_with(package)) => Need::Stub,
        None => Need::Refused,
    }
}

/// Links the interfaces that a plugin with these grants gets.
pub(super) fn link(linker: &mut Linker<HostState>, grants: &Grants) -> wasmtime::Result<()> {
    let given = |capability: &&Capability| capability.grant.is_none_or(|grant| grants.has(grant));
    for capability in CAPABILITIES.iter().filter(given) {
        for interface in capability.interfaces {
            (interface.link)(linker)?;
        }
    }
    Ok(())
}

/// Whether a plugin with these grants gets an interface of this need.
pub(super) fn is_given(need: Need, grants: &Grants) -> bool {
    match need {
        Need::Nothing => true,
        Need::Grant(grant) => grants.has(grant),
        Need::Stub | Need::Refused => false,
    }
}

/// The interface of a versioned name, if its release is compatible with the gateway's.
pub(crate) fn on_track(name: &str) -> Option<&str> {
    let (interface, version) = name.split_once('@')?;
    let (_, track) = TRACKS
        .iter()
        .find(|(package, _)| interface.starts_with(package))?;
    // A release candidate is compatible with itself alone.
    let release = version.split('+').next()?.strip_prefix(track)?;
    let is_release = !release.is_empty() && release.bytes().all(|byte| byte.is_ascii_digit());
    is_release.then_some(interface)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn import_is_judged_by_its_name_and_its_release() {
        for (import, expected) in [
            ("lockgate:plugin/context@0.1.0", Need::Nothing),
            ("lockgate:plugin/context@0.1.7", Need::Nothing),
            ("lockgate:plugin/context@0.2.0", Need::Refused),
            ("lockgate:plugin/context", Need::Refused),
            ("lockgate:plugin/groups@0.1.0", Need::Grant(Grant::Groups)),
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

    #[test]
    fn every_grant_gives_an_interface_that_the_contract_describes() {
        let contract = include_str!("../../../../wit/README.md");
        for grant in Grant::ALL {
            let row = CAPABILITIES.iter().find(|row| row.grant == Some(grant));
            let row = row.unwrap_or_else(|| panic!("{grant} gives nothing"));
            for interface in row.interfaces {
                let (_, name) = interface.name.split_once('/').unwrap();
                let described = format!("| `{name}` | `{grant}` |");
                assert!(contract.contains(&described), "{described}");
            }
        }
    }
}
