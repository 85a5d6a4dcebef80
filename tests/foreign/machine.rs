//! Machines without facilities that the gateway prefers.

use lockgate_tests::{
    Gateway, LONG_PATIENCE, PATIENCE, answer_with, probe_configuration, with_a_small_disk,
    without_proc, without_watches, write_configuration,
};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

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

/// A change whose line has no room is not made, and is made once there is room.
pub(crate) async fn nothing_is_changed_while_the_disk_of_the_audit_file_is_full() {
    let folder = TempDir::new().unwrap();
    let disk = folder.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let configuration = r#"
listeners = [{ address = "127.0.0.1:0" }]
management = { address = "127.0.0.1:0", audit = "disk/audit.log" }

[apis.a]
stages.s = {}
routes."$default" = { integration = "m", two_way = true }

[integrations.m]
mock = { reply = "hi" }
"#;
    let file = write_configuration(folder.path(), configuration);
    let command = LOCKGATE.command(&["run", file.to_str().unwrap()]);
    let gateway = Gateway::start(with_a_small_disk(&disk, &command), folder, PATIENCE).await;
    let seen = Path::new("/proc")
        .join(gateway.id().to_string())
        .join("root");
    let seen = seen.join(disk.strip_prefix("/").unwrap());
    let lines = || {
        let text = fs::read_to_string(seen.join("audit.log")).unwrap();
        text.lines().count()
    };
    let close = r#"{"connections": {"all": true}, "code": 4000, "reason": "bye"}"#;
    let mut client = gateway.connect("/s").await;
    assert_eq!(gateway.post("/reload", "{}").await.0, 200);
    let mut rest = File::create(seen.join("rest")).unwrap();
    while rest.write_all(&[0; 512]).is_ok() {}

    // What is left of the room of earlier lines may be enough for a few.
    let mut served = 1;
    loop {
        let (status, why) = gateway.post("/plugins/none/promote", "{}").await;
        if status == 503 {
            break assert!(why.contains("nothing was changed"), "{why}");
        }
        assert_eq!(status, 404, "{why}");
        served += 1;
        assert_eq!(lines(), served);
    }
    let (status, why) = gateway.post("/connections/close", close).await;
    assert_eq!(status, 503, "{why}");
    client.send("x").await;
    client.expect("hi").await;
    assert_eq!(lines(), served);
    gateway.log().line(&["ERROR", "nothing was changed"]).await;

    drop(rest);
    fs::remove_file(seen.join("rest")).unwrap();
    assert_eq!(gateway.post("/connections/close", close).await.0, 200);
    client.expect_close(4000, "bye").await;
    assert_eq!(lines(), served + 1);
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
