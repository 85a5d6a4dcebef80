//! A peer that is gone without a word: its host has lost the network.

use std::time::{Duration, Instant};

use lockgate_tests::{Cable, Frame, Gateway, Opcode, probe_configuration, write_configuration};
use tempfile::TempDir;

use crate::LOCKGATE;

/// A ping each second, a second for its answer, and a second for a busy machine.
const FOUND_WITHIN: Duration = Duration::from_secs(3);

/// The defaults are 25 and 8 seconds, which the tests of the configuration check.
pub(crate) async fn client_whose_cable_is_pulled_is_found_by_pings() {
    let cable = Cable::lay().unwrap();
    let folder = TempDir::new().unwrap();
    let stage = "limits = { ping_interval_s = 1, pong_timeout_s = 1 }";
    let configuration = format!(
        "[log]\nformat = \"json\"\n[[listeners]]\naddress = \"{}:0\"\ntls = \"off\"\n{}",
        cable.server_address(),
        probe_configuration(stage, "")
    );
    let file = write_configuration(folder.path(), &configuration);
    let command = cable.on_server(&LOCKGATE.command(&["run", file.to_str().unwrap()]));
    let gateway = Gateway::start(command, folder, lockgate_tests::PATIENCE).await;

    let request = gateway.ws("/s").over_cable(&cable);
    let mut client = request.open_raw().await;
    // The connection stays while answers arrive.
    for _ in 0..3 {
        let ping = client.frame().await.unwrap();
        assert_eq!(ping.opcode, Opcode::PING);
        client.send(&Frame::new(Opcode::PONG, ping.payload)).await;
    }
    assert!(!gateway.log().contains(&["ended: "]));
    cable.pull();
    let pulled = Instant::now();
    gateway.log().line(&["ended: ", " 1006 "]).await;
    let found = pulled.elapsed();
    eprintln!("found {found:?} after the cable was pulled");
    assert!(found < FOUND_WITHIN, "{found:?}");
    client.vanish();
}
