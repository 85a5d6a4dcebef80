//! What needs more than a machine has to have: clients not of our making, and rights of root. A test that lacks its tool
//! is shown as ignored; in CI it fails.

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails where it stands"
)]

mod clients;
mod machine;
mod silence;

use std::process::ExitCode;

use lockgate_tests::{Lockgate, cases, run};

const LOCKGATE: Lockgate =
    Lockgate::new(env!("CARGO_BIN_EXE_lockgate"), env!("CARGO_TARGET_TMPDIR"));

fn main() -> ExitCode {
    let cases = cases![
        clients::the_npm_package_ws: Node;
        clients::the_python_package_websockets: Python;
        clients::the_python_package_sslyze: Python;
        clients::two_browser_tabs_chat_over_wss: Node, Chromium;
        clients::a_page_of_another_site_in_a_browser: Node, Chromium;
        clients::the_openssl_client: OpenSsl;
        machine::component_loads_without_proc: Mounts;
        machine::dev_polls_folders_that_cannot_be_watched: UserNamespaces;
        silence::a_client_whose_cable_is_pulled_is_found_by_the_pings: Cable;
    ];
    run(LOCKGATE.target(), cases)
}
