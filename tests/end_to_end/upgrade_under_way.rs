//! Commands and changes during an upgrade: a change that was confirmed is never undone.

use std::{fs, os::unix::net::UnixDatagram};

use lockgate_tests::{Gateway, PATIENCE, Request, echo_configuration, replace, version, within};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::{
    LOCKGATE,
    drain_handshakes::{answered, queued},
    reload::expect,
    upgrade::{LOCAL, linked, linked_in, logged_successor, replace_program, upgrade},
};

/// A gateway that has served version 1 of the guest `versions` and now serves version 2, with a replaceable program.
async fn versions(limits: &str, fault: char, systemd: bool) -> Gateway {
    let folder = TempDir::new().unwrap();
    let component = folder.path().join("versions.wasm");
    fs::write(&component, version(1, '-')).unwrap();
    let configuration = format!(
        "[limits]\ndrain_s = 0\n{limits}\n[apis.a.stages.s]\n[apis.a.routes.\"$default\"]\nintegration = \"v\"\n\
         two_way = true\n[plugins.v]\ncomponent = \"{}\"\nrollback = {{ trap_percent = 25, calls = 8, within_s = 60 }}\n",
        component.display()
    );
    let socket = folder.path().join("notify");
    let socket = systemd.then_some(&*socket);
    let notified = socket.map(|socket| UnixDatagram::bind(socket).unwrap());
    let gateway = linked_in(folder, &configuration, socket).await;
    drop(notified);
    replace(&component, &version(2, fault));
    let (status, said) = gateway.post("/reload", "{}").await;
    assert_eq!(status, 200, "{said}");
    gateway
}

/// Has the next process wait for [`let_go`] before it runs the command `then`; the real program is `$REAL`.
fn hold_back(gateway: &Gateway, then: &str) {
    let folder = gateway.folder();
    let real = LOCKGATE.command(&[]);
    let script = format!(
        "REAL={}; cd {}; touch begun; while [ ! -e go ]; do sleep 0.02; done; {then}",
        real.get_program().display(),
        folder.display()
    );
    replace_program(folder, &script);
}

/// Waits until the process that is held back has started: the upgrade is under way.
async fn begun(gateway: &Gateway) {
    let begun = gateway.folder().join("begun");
    within("the new process to start", async {
        while !begun.exists() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

fn let_go(gateway: &Gateway) {
    fs::write(gateway.folder().join("go"), "").unwrap();
}

#[tokio::test]
async fn command_that_changes_versions_during_an_upgrade_is_refused() {
    let mut gateway = versions("", '-', false).await;
    let (status, said) = gateway.post("/plugins/v/rollout", "{\"share\": 100}").await;
    assert_eq!(status, 200, "{said}");
    replace(&gateway.folder().join("versions.wasm"), &version(3, '-'));
    let (status, said) = gateway.post("/reload", "{}").await;
    assert_eq!(status, 200, "{said}");
    hold_back(&gateway, "exec $REAL \"$@\"");
    gateway.upgrade();
    begun(&gateway).await;
    let (_, before) = gateway.page("/plugins").await;
    for (what, body) in [
        ("/reload", "{}"),
        ("/plugins/v/rollback", "{}"),
        ("/plugins/v/rollout", "{\"share\": 50}"),
        ("/plugins/v/promote", "{}"),
        ("/plugins/v/abort", "{}"),
    ] {
        let (status, said) = gateway.post(what, body).await;
        assert_eq!(status, 409, "{what}: {said}");
        assert!(
            said.contains("an upgrade is under way: ask again"),
            "{said}"
        );
    }
    let address = gateway.management().to_string();
    let ended = LOCKGATE.run(&["reload", "--management", &address]).await;
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.error.contains("an upgrade is under way"),
        "{}",
        ended.error
    );
    assert_eq!(gateway.page("/plugins").await.1, before);
    let_go(&gateway);
    assert_eq!(gateway.ended().await, Some(0));
    // The rollout is over.
    let (status, said) = gateway.post("/plugins/v/abort", "{}").await;
    assert_eq!(status, 200, "{said}");
    expect(&mut gateway.connect("/s").await, 2).await;
    end_successor(&gateway).await;
}

/// The new process closes its copy of the socket, and the old one lets in the clients in the queue before it closes its
/// own.
#[tokio::test]
async fn clients_in_the_queue_of_a_dropped_listener_are_answered() {
    let second = "[[listeners]]\naddress = \"127.0.0.1:0\"\ntls = \"off\"\n";
    let configuration = format!("[limits]\ndrain_s = 2\n{}", echo_configuration(""));
    let configuration = format!("{configuration}{second}");
    let mut gateway = linked_in(TempDir::new().unwrap(), &configuration, None).await;
    let address = gateway.log().nth_line(1, &["listening on ws://"]).await;
    let address = address.split_once("ws://").unwrap().1;
    let address = address.split_once('"').unwrap().0.parse().unwrap();
    assert_ne!(gateway.plain(), address);
    hold_back(&gateway, "exec $REAL \"$@\"");
    gateway.upgrade();
    begun(&gateway).await;
    let file = gateway.folder().join("gateway.toml");
    let text = fs::read_to_string(&file).unwrap();
    let without = text.strip_suffix(second).unwrap();
    fs::write(&file, without).unwrap();
    // Before it is paused: the new process waits for the sockets for 10 s only.
    gateway
        .log()
        .line(&["the new process has the sockets"])
        .await;
    gateway.pause();
    let clients = queued(&Request::new(address, "/s")).await;
    let_go(&gateway);
    // Only its predecessor could answer otherwise.
    let mut client = gateway.connect("/s").await;
    client.send("hello").await;
    client.expect("hello").await;
    gateway.resume();
    answered(clients, 1012).await;
    assert_eq!(gateway.ended().await, Some(0));
    end_successor(&gateway).await;
}

/// Ends the process that serves now, which the log names.
async fn end_successor(gateway: &Gateway) {
    drop(logged_successor(gateway).await);
}

#[tokio::test]
async fn files_changed_during_a_failed_upgrade_are_loaded_after_it() {
    let gateway = versions("upgrade_s = 4", '-', false).await;
    hold_back(&gateway, "");
    gateway.upgrade();
    begun(&gateway).await;
    replace(&gateway.folder().join("versions.wasm"), &version(3, '-'));
    gateway
        .log()
        .line(&["changed file", "version 3 serves"])
        .await;
    let lines = gateway.log().lines();
    let place = |words: &str| lines.iter().position(|line| line.contains(words));
    assert!(place("no upgrade, this process continues") < place("version 3 serves"));
    assert!(place("no upgrade, this process continues").is_some());
    expect(&mut gateway.connect("/s").await, 3).await;
}

#[tokio::test]
async fn version_that_traps_during_an_upgrade_is_not_handed_over() {
    let mut gateway = versions("", 't', false).await;
    hold_back(&gateway, "exec $REAL \"$@\"");
    let mut client = gateway.connect("/s").await;
    {
        let upgrade = gateway.ask("POST", "/upgrade", LOCAL);
        let trapping = async {
            begun(&gateway).await;
            for _ in 0..8 {
                client.send("x").await;
                client.expect_error("Internal server error").await;
            }
        };
        let ((status, said), ()) = tokio::join!(upgrade, trapping);
        assert_eq!(status, 409, "{said}");
        assert!(
            said.contains("version 2 of the plugin v rolled itself back: 8 of 8"),
            "{said}"
        );
    }
    gateway
        .log()
        .line(&[
            "ERROR",
            "the version traps too often and rolled itself back",
        ])
        .await;
    expect(&mut client, 1).await;
    assert!(gateway.is_running());
    let_go(&gateway);
    let _serving = upgrade(&gateway).await;
    assert_eq!(gateway.ended().await, Some(0));
    expect(&mut gateway.connect("/s").await, 1).await;
}

#[tokio::test]
async fn reload_signal_during_an_upgrade_is_obeyed_by_the_serving_process() {
    for (then, serves) in [("exec $REAL \"$@\"", true), ("exit 3", false)] {
        let gateway = versions("", '-', true).await;
        hold_back(&gateway, then);
        gateway.upgrade();
        begun(&gateway).await;
        let systemd = gateway.folder().join("notify");
        fs::remove_file(&systemd).unwrap();
        let systemd = UnixDatagram::bind(systemd).unwrap();
        systemd.set_read_timeout(Some(PATIENCE)).unwrap();
        let told = || {
            let mut bytes = [0; 256];
            let length = systemd.recv(&mut bytes).unwrap();
            String::from_utf8(bytes[..length].to_vec()).unwrap()
        };
        gateway.hang_up();
        let_go(&gateway);
        if serves {
            assert!(told().starts_with("MAINPID="));
        }
        assert!(told().starts_with("RELOADING=1\n"));
        assert_eq!(told().trim_end(), "READY=1");
        gateway
            .log()
            .line(&["\"came\":\"SIGHUP\"", "reloaded"])
            .await;
        if serves {
            end_successor(&gateway).await;
        }
    }
}

#[tokio::test]
async fn upgrade_behind_an_endless_reload_fails_and_starts_nothing() {
    // A reload by signal, and one by command: the first is awaited where systemd is notified.
    for by_signal in [true, false] {
        let mut gateway = versions("upgrade_s = 1\npull_s = 4", '-', false).await;
        hold_back(&gateway, "");
        let file = gateway.folder().join("gateway.toml");
        // This registry never answers.
        let registry = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = registry.local_addr().unwrap();
        let slow = format!(
            "{}\n[registries.\"{address}\"]\nplain_http = true\n[plugins.slow]\n\
             component = \"oci://{address}/slow@sha256:{}\"\n",
            fs::read_to_string(&file).unwrap(),
            "0".repeat(64)
        );
        fs::write(&file, slow).unwrap();
        let refused = async {
            let _held = within("the reload to begin", registry.accept()).await;
            let (status, said) = gateway.ask("POST", "/upgrade", LOCAL).await;
            assert_eq!(status, 409, "{said}");
            assert!(said.contains("a reload is under way"), "{said}");
            assert!(said.contains("no new process was started"), "{said}");
        };
        if by_signal {
            gateway.hang_up();
            refused.await;
        } else {
            let ((status, said), ()) = tokio::join!(gateway.post("/reload", "{}"), refused);
            assert_eq!(status, 422, "{said}");
        }
        assert!(!gateway.folder().join("begun").exists());
        assert!(gateway.is_running());
    }
}

/// A new gateway checks its files for the first time during the upgrade.
#[tokio::test]
async fn unchanged_files_cause_no_warning_after_an_upgrade() {
    let mut gateway = linked("drain_s = 1").await;
    let folder = gateway.folder().to_owned();
    let real = LOCKGATE.command(&[]).get_program().to_owned();
    let script = format!("sleep 0.7; exec {} \"$@\"", real.display());
    replace_program(&folder, &script);
    gateway.upgrade();
    let _held = gateway.connect("/s").await;
    assert_eq!(gateway.ended().await, Some(0));
    assert!(gateway.log().contains(&["hands over"]));
    assert!(!gateway.log().contains(&["not reloaded"]));
    end_successor(&gateway).await;
}

#[tokio::test]
async fn second_signal_during_an_upgrade_that_fails_starts_no_other() {
    let gateway = versions("", '-', false).await;
    hold_back(&gateway, "exit 3");
    gateway.upgrade();
    begun(&gateway).await;
    gateway.upgrade();
    let_go(&gateway);
    gateway.log().line(&["a second upgrade is refused"]).await;
    gateway
        .log()
        .line(&["no upgrade, this process continues"])
        .await;
    // Whatever would come of the signal comes before this.
    let (status, said) = gateway.post("/reload", "{}").await;
    assert_eq!(status, 200, "{said}");
    let lines = gateway.log().lines();
    let begun = lines
        .iter()
        .filter(|line| line.contains("upgrading: starting"));
    assert_eq!(begun.count(), 1);
}
