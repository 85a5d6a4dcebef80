//! The product over its sockets: the real binary, real TLS and real guests, one module a topic.

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails where it stands"
)]

mod abandoned;
mod access_log;
mod activation;
mod admission;
mod admitted;
mod api_key_beside;
mod api_keys;
mod arbitrary;
mod asking;
mod audit;
mod authorizers;
mod canonical;
mod certificates;
mod cli;
mod client_certificates;
mod compat;
mod compile;
mod compile_cache;
mod connect;
mod connections;
mod connections_api;
mod connections_api_http;
mod datagrams;
mod dev;
mod dialogues;
mod drain;
mod drain_handshakes;
mod endings;
mod environment;
mod files;
mod floods;
mod forward_auth;
mod given_up;
mod goodbyes;
mod groups;
mod handshake;
mod heads;
mod health;
mod hostile;
mod http2;
mod http3;
mod iam;
mod inspect;
mod integration;
mod isolation;
mod last_bytes;
mod limits;
mod logs;
mod lossy;
mod management_calls;
mod memory;
mod metrics;
mod new;
mod nights;
mod notify;
mod oci;
mod open_files;
mod operators;
mod origins;
mod otlp;
mod pauses;
mod plugin;
mod principals;
mod private_files;
mod proxies;
mod quic;
mod quic_hostile;
mod quic_upgrade;
mod reconfigure;
mod registries;
mod reload;
mod remote;
mod renewals;
mod revocation;
mod rollout;
mod room;
mod route;
mod saves;
mod secrets;
mod send_window;
mod session;
mod signatures;
mod stalled;
mod start;
mod starved;
mod stubs;
mod swaps;
mod tls;
mod tokens;
mod told;
mod toolchains;
mod traces;
mod unix;
mod upgrade;
mod upgrade_under_way;
mod validate;
mod webtransport;
mod wire;

use lockgate_tests::{Gateway, Guest, Lockgate, echo_configuration, probe_configuration};

const LOCKGATE: Lockgate =
    Lockgate::new(env!("CARGO_BIN_EXE_lockgate"), env!("CARGO_TARGET_TMPDIR"));

/// A gateway that echoes, at `/s`.
async fn echo() -> Gateway {
    echo_with("").await
}

/// As [`echo`], with these lines in the stage's table.
async fn echo_with(stage: &str) -> Gateway {
    LOCKGATE.serve(&echo_configuration(stage)).await
}

/// A gateway with the guest `probe` behind every route of `/s`. The route `quietly` is one-way.
async fn probe() -> Gateway {
    probe_with("", "").await
}

/// As [`probe`], with these lines in the stage's table and these in the plugin's.
async fn probe_with(stage: &str, plugin: &str) -> Gateway {
    LOCKGATE.serve(&probe_configuration(stage, plugin)).await
}

/// A test for each guest: the match does not compile if one is missing.
fn tested_by(guest: Guest) -> fn() {
    match guest {
        Guest::Ambient => stubs::plugin_with_stubs_reaches_nothing_and_its_attempts_are_logged,
        Guest::Chat => dev::dev_says_how_to_connect_and_listens_on_this_machine_alone,
        Guest::Command => plugin::component_of_another_world_is_refused,
        Guest::Doorman => authorizers::authorizer_lets_in_and_every_event_knows_the_client,
        Guest::Doorkeeper => dialogues::authorizer_of_the_configuration_decides_on_clients,
        Guest::Echo => connect::text_is_echoed,
        Guest::Filesystem => plugin::import_of_the_file_system_is_refused,
        Guest::Hostile => hostile::guest_that_runs_too_long_is_stopped,
        Guest::Probe => connections::message_reaches_another_connection,
        Guest::Sockets => plugin::import_of_the_network_is_refused,
        Guest::Tables => hostile::table_beyond_its_bound_is_refused,
        Guest::Versions => reload::changed_file_is_served_and_no_connection_closes,
    }
}

#[test]
fn every_guest_has_a_test() {
    let tests: Vec<_> = Guest::ALL.iter().map(|guest| tested_by(*guest)).collect();
    assert_eq!(tests.len(), Guest::ALL.len());
}
