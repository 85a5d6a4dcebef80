//! Tests that need tools beyond a plain machine: foreign clients, and the rights of root. A test without its tool is
//! shown as ignored; in CI it fails.

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails where it stands"
)]

mod aws;
mod browser;
mod clients;
mod collector;
mod machine;
mod silence;
mod tokens;

use std::process::ExitCode;

use lockgate_tests::{Lockgate, cases, run};

const LOCKGATE: Lockgate =
    Lockgate::new(env!("CARGO_BIN_EXE_lockgate"), env!("CARGO_TARGET_TMPDIR"));

fn main() -> ExitCode {
    let cases = cases![
        aws::boto3_and_the_aws_cli_use_the_connections_api: Python;
        aws::handshake_signed_by_botocore_is_let_in: Python;
        aws::sdk_for_go_uses_the_connections_api: GoClients;
        aws::sdk_for_javascript_uses_the_connections_api: Node;
        browser::client_in_a_browser_talks_by_webtransport: Node, Chromium;
        browser::client_in_a_browser_sends_every_length_in_order: Node, Chromium;
        browser::client_in_a_browser_falls_back_to_a_websocket: Node, Chromium;
        browser::client_in_a_browser_has_a_websocket_over_http3: Node, Chromium;
        browser::client_in_a_browser_comes_back_after_a_restart: Node, Chromium;
        browser::client_in_a_browser_comes_back_with_a_fresh_token: Node, Chromium;
        browser::browser_tabs_and_aioquic_chat_by_different_transports: Node, Python, Chromium;
        clients::npm_client_ws_is_served: Node;
        clients::python_client_websockets_is_served: Python;
        clients::python_client_aioquic_is_served_over_quic: Python;
        clients::webtransport_go_is_served_over_quic_and_through_an_upgrade: GoClients;
        clients::sslyze_finds_safe_tls_alone: Python;
        clients::two_browser_tabs_chat_over_wss: Node, Chromium;
        clients::page_of_another_site_in_a_browser_is_refused: Node, Chromium;
        clients::openssl_client_gets_safe_tls_alone: OpenSsl;
        collector::opentelemetrys_classes_read_traces_and_logs: Python, PythonOtlp;
        machine::component_loads_without_proc: Mounts;
        machine::nothing_is_changed_while_the_disk_of_the_audit_file_is_full: UserNamespaces;
        machine::dev_polls_folders_that_cannot_be_watched: UserNamespaces;
        tokens::openid_provider_rotates_its_keys: Node;
        tokens::browser_presents_its_token_by_subprotocol_and_by_cookie: Node, Chromium;
        tokens::wscat_presents_headers_and_subprotocols: Node;
        silence::client_whose_cable_is_pulled_is_found_by_pings: Cable;
    ];
    run(LOCKGATE.target(), cases)
}
