//! The messages to systemd (`NOTIFY_SOCKET`).

use std::{fs, io::ErrorKind::WouldBlock, os::unix::net::UnixDatagram, time::Duration};

use lockgate_tests::{Gateway, PATIENCE, write_configuration};
use tempfile::TempDir;

use crate::{
    LOCKGATE,
    upgrade::{configuration, linked_in, upgrade},
};

#[tokio::test]
async fn systemd_is_notified_of_start_reload_upgrade_and_stop() {
    let folder = TempDir::new().unwrap();
    let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let told = || {
        let mut bytes = [0; 256];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    };
    let before = "[[listeners]]\naddress = \"127.0.0.1:0\"\ntls = \"off\"\n\
                  [management]\naddress = \"127.0.0.1:0\"\n[log]\nformat = \"json\"\n";
    let text = format!("{before}{}", configuration("drain_s = 0"));
    let file = write_configuration(folder.path(), &text);
    let good = fs::read_to_string(&file).unwrap();
    let mut command = LOCKGATE.command(&["run", file.to_str().unwrap()]);
    command.env("NOTIFY_SOCKET", folder.path().join("notify"));
    let mut gateway = Gateway::start(command, folder, PATIENCE).await;
    assert_eq!(told().trim_end(), "READY=1");
    // Type=notify-reload: one message with the monotonic time at the start, and one at the end, whatever the result.
    let mut before = 0;
    for text in ["levle = 1\n", ""] {
        fs::write(&file, format!("{text}{good}")).unwrap();
        gateway.hang_up();
        let reloading = told();
        let (what, when) = reloading.trim_end().split_once('\n').unwrap();
        assert_eq!(what, "RELOADING=1");
        let now: u64 = when
            .strip_prefix("MONOTONIC_USEC=")
            .unwrap()
            .parse()
            .unwrap();
        assert!(now > before, "{now} after {before}");
        before = now;
        assert_eq!(told().trim_end(), "READY=1");
    }
    let serving = upgrade(&gateway).await;
    assert_eq!(told().trim_end(), format!("MAINPID={}", serving.id()));
    assert_eq!(gateway.ended().await, Some(0));
    serving.terminate();
    assert_eq!(told().trim_end(), "STOPPING=1");
    serving.ended().await;
}

#[tokio::test]
async fn systemd_that_does_not_read_stops_neither_reload_nor_upgrade_nor_stop() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("notify");
    let _unread = UnixDatagram::bind(&path).unwrap();
    let filler = UnixDatagram::unbound().unwrap();
    filler.set_nonblocking(true).unwrap();
    let full = loop {
        if let Err(error) = filler.send_to(b"X=1", &path) {
            break error;
        }
    };
    assert_eq!(full.kind(), WouldBlock);
    let mut gateway = linked_in(folder, &configuration("drain_s = 0"), Some(&path)).await;
    gateway.hang_up();
    gateway
        .log()
        .line(&["\"came\":\"SIGHUP\"", "reloaded"])
        .await;
    let serving = upgrade(&gateway).await;
    assert_eq!(gateway.ended().await, Some(0));
    serving.terminate();
    serving.ended().await;
    for state in ["READY", "RELOADING", "MAINPID", "STOPPING"] {
        let said = format!("systemd could not be told \\\"{state}=");
        gateway.log().line(&["WARN", &said, "not read"]).await;
    }
}
