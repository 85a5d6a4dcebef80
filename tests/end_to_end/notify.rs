//! The messages to systemd (`NOTIFY_SOCKET`).

use std::{
    fs,
    io::ErrorKind::WouldBlock,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
    sync::mpsc,
    thread,
    time::Duration,
};

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

/// The last word of a test to its own reader.
const END: &[u8] = b"END";

/// The socket is in the abstract namespace, as a container's may be.
#[tokio::test]
async fn watchdog_gets_signs_of_life_of_the_main_process_alone() {
    let folder = TempDir::new().unwrap();
    let name = format!("lockgate-test-{}", folder.path().display());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let socket = UnixDatagram::bind_addr(&address).unwrap();
    // It always reads, as systemd does: the queue of a socket is short.
    let (tell, heard) = mpsc::channel();
    let reader = thread::spawn(move || {
        loop {
            let mut bytes = [0; 256];
            let Ok(length) = socket.recv(&mut bytes) else {
                continue;
            };
            if &bytes[..length] == END {
                return;
            }
            let text = String::from_utf8(bytes[..length].to_vec()).unwrap();
            // The test may have failed.
            let _ = tell.send(text);
        }
    });
    let told = || heard.recv_timeout(PATIENCE).unwrap();
    let before = "[[listeners]]\naddress = \"127.0.0.1:0\"\ntls = \"off\"\n\
                  [management]\naddress = \"127.0.0.1:0\"\n[log]\nformat = \"json\"\n";
    let text = format!("{before}{}", configuration("drain_s = 0"));
    let file = write_configuration(folder.path(), &text);
    let mut command = LOCKGATE.command(&["run", file.to_str().unwrap()]);
    command.env("NOTIFY_SOCKET", format!("@{name}"));
    command.env("WATCHDOG_USEC", "100000");
    let mut gateway = Gateway::start(command, folder, PATIENCE).await;
    assert_eq!(told(), "READY=1\n");
    for _ in 0..3 {
        assert_eq!(told(), "WATCHDOG=1\n");
    }
    let serving = upgrade(&gateway).await;
    let handed_over = format!("MAINPID={}\nWATCHDOG=1\n", serving.id());
    while told() != handed_over {}
    assert_eq!(gateway.ended().await, Some(0));
    // The process before is gone: these are of the one that serves.
    heard.try_iter().for_each(drop);
    for _ in 0..3 {
        assert_eq!(told(), "WATCHDOG=1\n");
    }
    serving.terminate();
    serving.ended().await;
    let own = UnixDatagram::unbound().unwrap();
    own.send_to_addr(END, &address).unwrap();
    reader.join().unwrap();
    let last: Vec<_> = heard.try_iter().collect();
    let (stopping, before) = last.split_last().unwrap();
    assert_eq!(stopping, "STOPPING=1\n");
    assert!(before.iter().all(|sign| sign == "WATCHDOG=1\n"), "{last:?}");
}

#[tokio::test]
async fn watchdog_of_another_process_gets_no_signs_of_life() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let before = "[[listeners]]\naddress = \"127.0.0.1:0\"\ntls = \"off\"\n";
    let text = format!("{before}{}", configuration("drain_s = 0"));
    let file = write_configuration(folder.path(), &text);
    let mut command = LOCKGATE.command(&["run", file.to_str().unwrap()]);
    command.env("NOTIFY_SOCKET", path);
    // Each microsecond, so that one would come before the next word.
    command.envs([("WATCHDOG_USEC", "2"), ("WATCHDOG_PID", "1")]);
    let mut gateway = Gateway::start(command, folder, PATIENCE).await;
    gateway.terminate();
    assert_eq!(gateway.ended().await, Some(0));
    for state in ["READY=1\n", "STOPPING=1\n"] {
        let mut bytes = [0; 256];
        let length = socket.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..length], state.as_bytes());
    }
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
