//! Machines without facilities that the gateway prefers.

use lockgate_tests::{
    Gateway, LONG_PATIENCE, PATIENCE, answer_with, probe_configuration, without_proc,
    without_watches, write_configuration,
};
use tempfile::TempDir;

use crate::LOCKGATE;

/// In a container without `/proc` the gateway compiles in its own process.
pub(crate) async fn component_loads_without_proc() {
    let folder = TempDir::new().unwrap();
    let configuration = format!(
        "compile_cache = {:?}\n[[listeners]]\naddress = \"127.0.0.1:0\"\n{}",
        folder.path().join("cache"),
        probe_configuration("", "")
    );
    let file = write_configuration(folder.path(), &configuration);
    let command = without_proc(&LOCKGATE.command(&["run", file.to_str().unwrap()]));
    let gateway = Gateway::start(command, folder, PATIENCE).await;
    let warning = "a component is compiled by the gateway itself, without bounds";
    assert!(gateway.log().contains(&["plugin=\"probe\"", warning]));
}

pub(crate) async fn dev_polls_folders_that_cannot_be_watched() {
    let folder = LOCKGATE.copy_of("echo", "unwatched-echo");
    answer_with(&folder, "zero");
    let gateway = Gateway::start_dev(without_watches(&LOCKGATE.dev(&folder, &[]))).await;
    gateway.log().line(&["cannot watch", "instead"]).await;
    let mut client = gateway.connect("/dev").await;
    answer_with(&folder, "one");
    let served = ["serving the new build"];
    gateway.log().line_within(LONG_PATIENCE, &served).await;
    client.send("hello").await;
    client.expect("one hello").await;
}
