//! The binary upgrade: another process takes the sockets over, and no client is refused.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use lockgate_tests::{
    Gateway, Http2, Orphan, PATIENCE, replace, version, within, write_configuration,
};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::{
    LOCKGATE, probe_configuration,
    reload::{Served, expect},
};

pub(crate) const LOCAL: &str = "Host: localhost\r\nContent-Type: application/json\r\n";

async fn gateway(limits: &str) -> Gateway {
    LOCKGATE.serve(&configuration(limits)).await
}

pub(crate) fn configuration(limits: &str) -> String {
    format!("[limits]\n{limits}\n{}", probe_configuration("", ""))
}

/// Upgrades by the management call, which must succeed, and returns the process that serves afterwards.
pub(crate) async fn upgrade(gateway: &Gateway) -> Orphan {
    let (status, answer) = gateway.ask("POST", "/upgrade", LOCAL).await;
    assert_eq!(status, 200, "{answer}");
    successor(&answer)
}

/// The process that an answer such as `process 12 serves` names.
pub(crate) fn successor(answer: &str) -> Orphan {
    let id = answer.trim_end().strip_prefix("process ");
    let id = id.and_then(|rest| rest.strip_suffix(" serves")).unwrap();
    Orphan::new(id.parse().unwrap())
}

/// The process to which the gateway hands over, which its log names.
pub(crate) async fn logged_successor(gateway: &Gateway) -> Orphan {
    let line = gateway.log().line(&["hands over", "\"successor\":"]).await;
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    Orphan::new(line["successor"].as_u64().unwrap().try_into().unwrap())
}

#[tokio::test]
async fn ten_upgrades_refuse_no_connect() {
    const CONNECTS: usize = 5_000;
    let mut gateway = gateway("drain_s = 0").await;
    let plain = [gateway.ws("/s"), gateway.ws("/s"), gateway.ws("/s")];
    let requests = plain.into_iter().chain([gateway.wss("/s")]);
    let upgrading = Arc::new(AtomicBool::new(true));
    let connects = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for request in requests {
        let (upgrading, connects) = (Arc::clone(&upgrading), Arc::clone(&connects));
        clients.spawn(async move {
            while upgrading.load(Ordering::Relaxed) || connects.load(Ordering::Relaxed) < CONNECTS {
                request.open().await.vanish();
                connects.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let (secure, going_on) = (gateway.secure(), Arc::clone(&upgrading));
    clients.spawn(async move {
        while going_on.load(Ordering::Relaxed) {
            Http2::connect(secure).await.open("/s").await.vanish();
        }
    });
    let mut serving = upgrade(&gateway).await;
    assert_eq!(gateway.ended().await, Some(0));
    for _ in 1..10 {
        let next = upgrade(&gateway).await;
        serving.ended().await;
        serving = next;
    }
    upgrading.store(false, Ordering::Relaxed);
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    assert!(connects.load(Ordering::Relaxed) >= CONNECTS);
    gateway.log().nth_line(9, &["\"stopped\""]).await;
    serving.terminate();
    serving.ended().await;
    gateway.log().nth_line(10, &["\"stopped\""]).await;
}

#[tokio::test]
async fn old_process_sends_its_clients_to_the_new_one() {
    let mut gateway = gateway("drain_s = 2\nreconnect_jitter_s = 45").await;
    let mut clients = Vec::new();
    let mut ids = Vec::new();
    for number in 0..10 {
        let mut client = match number % 2 {
            0 => gateway.connect("/s").await,
            _ => gateway.wss("/s").open().await,
        };
        ids.push(client.id().await);
        clients.push(client);
    }
    let mut waiting = gateway.ws("/s").stream().await.unwrap();
    let serving = upgrade(&gateway).await;
    for client in &mut clients {
        client
            .expect_close(1012, "Service restart; reconnect in 0-45 s")
            .await;
        client.expect_end().await;
        let mut again = gateway.connect("/s").await;
        again.id().await;
    }
    // The old process accepted this client, which has sent nothing since, and did not refuse it.
    let refused = tokio::io::AsyncReadExt::read_u8(&mut waiting);
    let refused = within("the end of a silent connection", refused).await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(gateway.ended().await, Some(0));
    for id in &ids {
        let said = format!("ended: {id} 1012 \\\"Service restart; reconnect in 0-45 s\\\"");
        gateway.log().line(&[&said]).await;
    }
    // The new process answers, since the old one is gone.
    assert_eq!(gateway.page("/readyz").await.0, 200);
    gateway.connect("/s").await.id().await;
    drop(serving);
}

#[tokio::test]
async fn signal_upgrades() {
    let mut gateway = gateway("drain_s = 0").await;
    gateway.upgrade();
    let serving = logged_successor(&gateway).await;
    assert_ne!(serving.id(), gateway.id());
    assert_eq!(gateway.ended().await, Some(0));
    gateway.connect("/s").await.id().await;
}

#[tokio::test]
async fn upgrade_command_names_the_process_that_serves() {
    let mut gateway = gateway("drain_s = 0").await;
    let ended = LOCKGATE
        .run(&["upgrade", &gateway.management().to_string()])
        .await;
    assert_eq!(ended.code, Some(0), "{}", ended.error);
    let serving = successor(&ended.output);
    assert_eq!(gateway.ended().await, Some(0));

    // A second upgrade, by the file: its port 0 names no port, but the gateway has recorded its own.
    let file = gateway.folder().join("gateway.toml");
    let text = fs::read_to_string(&file).unwrap();
    let ended = LOCKGATE.run(&["upgrade", file.to_str().unwrap()]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.error);
    let last = successor(&ended.output);
    serving.ended().await;
    gateway.connect("/s").await.id().await;
    last.terminate();
    last.ended().await;

    for (gateway, said) in [
        (file.to_str().unwrap(), "management.address has port 0"),
        ("/nowhere.toml", "/nowhere.toml: cannot be read"),
    ] {
        let ended = LOCKGATE.run(&["upgrade", gateway]).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.error.contains(said), "{said}: {}", ended.error);
    }
    fs::write(
        &file,
        text.replace("[management]\naddress = \"127.0.0.1:0\"", ""),
    )
    .unwrap();
    let ended = LOCKGATE.run(&["upgrade", file.to_str().unwrap()]).await;
    assert!(
        ended.error.contains("there is no [management]"),
        "{}",
        ended.error
    );
}

#[tokio::test]
async fn upgrade_command_without_a_gateway_fails() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let ended = LOCKGATE.run(&["upgrade", &address.to_string()]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let said = format!("no gateway answers at {address}");
    assert!(ended.error.contains(&said), "{}", ended.error);
}

#[tokio::test]
async fn upgrade_request_that_a_web_page_could_send_is_refused() {
    let mut gateway = gateway("drain_s = 0").await;
    for headers in [
        "Host: localhost\r\nOrigin: http://localhost\r\n",
        "Host: rebound.example.com\r\n",
        "Host: 10.0.0.1\r\n",
    ] {
        let (status, answer) = gateway.ask("POST", "/upgrade", headers).await;
        assert_eq!(status, 403, "{headers}{answer}");
    }
    // A form of any web page can send these.
    for kind in ["", "Content-Type: text/plain\r\n"] {
        let headers = format!("Host: localhost\r\n{kind}");
        let (status, answer) = gateway.ask("POST", "/upgrade", &headers).await;
        assert_eq!(status, 415, "{headers}{answer}");
    }
    assert_eq!(gateway.ask("GET", "/upgrade", LOCAL).await.0, 405);
    assert!(gateway.is_running());
    assert!(!gateway.log().contains(&["upgrading"]));
}

/// Checks that an upgrade fails with these words, and that the gateway continues to serve.
async fn goes_on(gateway: &mut Gateway, said: &str) {
    let mut client = gateway.connect("/s").await;
    let (status, answer) = gateway.ask("POST", "/upgrade", LOCAL).await;
    assert_eq!(status, 409, "{answer}");
    assert!(answer.contains(said), "{said}: {answer}");
    gateway
        .log()
        .line(&["no upgrade, this process continues", said])
        .await;
    client.id().await;
    gateway.connect("/s").await.id().await;
    assert_eq!(gateway.page("/readyz").await.0, 200);
    assert!(gateway.is_running());
}

#[tokio::test]
async fn new_process_with_a_bad_configuration_changes_nothing() {
    let mut gateway = gateway("drain_s = 0").await;
    let file = gateway.folder().join("gateway.toml");
    let good = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("levle = 1\n{good}")).unwrap();
    goes_on(&mut gateway, "levle: there is no key").await;
    // This mistake shows only once everything is loaded.
    fs::write(gateway.folder().join("none.wasm"), "none").unwrap();
    let none = format!("{good}\n[plugins.none]\ncomponent = \"none.wasm\"\n");
    fs::write(&file, none).unwrap();
    goes_on(&mut gateway, "plugins.none.component: ").await;
    // Two processes write to this log, and each line must be JSON.
    for line in gateway.log().lines() {
        assert!(
            serde_json::from_str::<serde_json::Value>(&line).is_ok(),
            "{line}"
        );
    }
    // A later upgrade succeeds.
    fs::write(&file, good).unwrap();
    let serving = upgrade(&gateway).await;
    assert_eq!(gateway.ended().await, Some(0));
    gateway.connect("/s").await.id().await;
    drop(serving);
}

/// A gateway whose program is a link, so that [`replace_program`] can replace it.
pub(crate) async fn linked(limits: &str) -> Gateway {
    linked_in(TempDir::new().unwrap(), &configuration(limits), None).await
}

/// As [`linked`], in a folder that may have other files; the socket `systemd` stands for systemd, if there is one.
pub(crate) async fn linked_in(
    folder: TempDir,
    configuration: &str,
    systemd: Option<&Path>,
) -> Gateway {
    let lockgate = LOCKGATE.command(&[]);
    symlink(lockgate.get_program(), folder.path().join("lockgate")).unwrap();
    let before = "[log]\nformat = \"json\"\nlevel = \"info,lockgate::handover=debug\"\n[[listeners]]\naddress = \"127.0.0.1:0\"\ntls = \"off\"\n\
                  [management]\naddress = \"127.0.0.1:0\"\n";
    let file = write_configuration(folder.path(), &format!("{before}{configuration}"));
    let mut command = Command::new(folder.path().join("lockgate"));
    command.arg("run").arg(file);
    command.envs(systemd.map(|socket| ("NOTIFY_SOCKET", socket)));
    Gateway::start(command, folder, PATIENCE).await
}

/// Replaces the program by a shell script.
pub(crate) fn replace_program(folder: &Path, script: &str) {
    let new = folder.join("new");
    fs::write(&new, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(&new, folder.join("lockgate")).unwrap();
}

/// Begins an upgrade to a process that never serves, and returns that process.
pub(crate) async fn begin_endless_upgrade(gateway: &Gateway) -> Orphan {
    let id = gateway.folder().join("id");
    let write = format!(
        "echo $$ > {0}.new; mv {0}.new {0}; exec sleep 600",
        id.display()
    );
    replace_program(gateway.folder(), &write);
    gateway.upgrade();
    within("the new process to start", until(|| id.exists())).await;
    let id = fs::read_to_string(id).unwrap();
    Orphan::new(id.trim_end().parse().unwrap())
}

pub(crate) async fn until(is_true: impl Fn() -> bool) {
    while !is_true() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn new_process_that_does_not_serve_changes_nothing() {
    let mut gateway = linked("drain_s = 0\nupgrade_s = 1").await;
    let folder = gateway.folder().to_owned();
    replace_program(&folder, "exit 3");
    goes_on(
        &mut gateway,
        "the new process ended before it served (exit status: 3), and did not say why",
    )
    .await;
    let trial = format!("{0}/lockgate validate {0}/gateway.toml", folder.display());
    goes_on(&mut gateway, &trial).await;
    assert!(!gateway.log().contains(&["Broken pipe"]));
    replace_program(&folder, "kill -SEGV $$");
    goes_on(&mut gateway, "before it served (signal: 11").await;
    let id = folder.join("id");
    replace_program(
        &folder,
        &format!("echo $$ > {}; exec sleep 600", id.display()),
    );
    goes_on(
        &mut gateway,
        "not ready within 1 s, which is limits.upgrade_s",
    )
    .await;
    // The new process ends, and is no zombie.
    let id = fs::read_to_string(id).unwrap();
    let process = Path::new("/proc").join(id.trim_end());
    within("the end of the new process", until(|| !process.exists())).await;
    replace_program(&folder, "exec 0<&- ; exec sleep 600");
    goes_on(&mut gateway, "closed its standard input").await;
    fs::remove_file(folder.join("lockgate")).unwrap();
    goes_on(&mut gateway, "cannot start ").await;
}

#[tokio::test]
async fn stop_does_not_wait_for_an_upgrade() {
    let mut gateway = linked("drain_s = 0\nupgrade_s = 3600").await;
    let started = begin_endless_upgrade(&gateway).await;
    gateway.terminate();
    assert_eq!(gateway.ended().await, Some(0));
    started.ended().await;
}

#[tokio::test]
async fn process_started_without_its_predecessor_fails_with_the_reason() {
    let folder = TempDir::new().unwrap();
    let file = write_configuration(folder.path(), &configuration(""));
    let mut command = LOCKGATE.command(&["run", file.to_str().unwrap()]);
    let output = command
        .env("LOCKGATE_HANDOVER", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("LOCKGATE_HANDOVER is set"), "{error}");
}

#[tokio::test]
async fn changed_addresses_are_bound_by_an_upgrade() {
    let mut gateway = gateway("drain_s = 0").await;
    let file = gateway.folder().join("gateway.toml");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address: SocketAddr = free.local_addr().unwrap();
    drop(free);
    // The listener without TLS moves; the one with TLS stays where it is.
    let text = fs::read_to_string(&file).unwrap();
    let moved = text.replacen(
        "address = \"127.0.0.1:0\"\ntls = \"off\"",
        &format!("address = \"{address}\"\ntls = \"off\""),
        1,
    );
    assert_ne!(text, moved);
    fs::write(&file, moved).unwrap();
    let before = gateway.plain();
    let serving = upgrade(&gateway).await;
    assert_eq!(gateway.ended().await, Some(0));
    gateway
        .log()
        .line(&[&format!("listening on ws://{address}")])
        .await;
    // Two listeners had port 0: the first listener takes the first socket.
    gateway
        .log()
        .nth_line(0, &[&format!("listening on wss://{before}")])
        .await;
    drop(serving);
}

#[tokio::test]
async fn upgrade_moves_a_listener_to_an_address_that_contains_its_own_and_back() {
    let mut gateway = linked("drain_s = 0").await;
    let file = gateway.folder().join("gateway.toml");
    let text = fs::read_to_string(&file).unwrap();
    let port = gateway.plain().port();
    let mut serving = None;
    for address in [format!("0.0.0.0:{port}"), format!("127.0.0.1:{port}")] {
        let moved = text.replacen("127.0.0.1:0", &address, 1);
        fs::write(&file, moved).unwrap();
        let next = upgrade(&gateway).await;
        match serving.replace(next) {
            None => assert_eq!(gateway.ended().await, Some(0)),
            Some(before) => Orphan::ended(&before).await,
        }
        gateway
            .log()
            .line(&[&format!("listening on ws://{address}")])
            .await;
        gateway.connect("/s").await.id().await;
    }
}

/// Upgrades, waits until the new process serves alone, and returns it.
async fn upgraded(served: &mut Served, before: Option<Orphan>) -> Orphan {
    let serving = upgrade(&served.gateway).await;
    match before {
        None => assert_eq!(served.gateway.ended().await, Some(0)),
        Some(before) => before.ended().await,
    }
    serving
}

async fn without_drain() -> Served {
    let served = Served::new().await;
    served.edit(
        "[apis.a.stages.s]",
        "[limits]\ndrain_s = 0\n[apis.a.stages.s]",
    );
    served.reload().await;
    served
}

#[tokio::test]
async fn rollback_outlives_upgrades_until_the_file_changes() {
    let mut served = without_drain().await;
    let mut client = served.connect().await;
    replace(&served.component, &version(2, '-'));
    served.reload().await;
    expect(&mut client, 2).await;
    let (status, said) = served.gateway.post("/plugins/v/rollback", "{}").await;
    assert_eq!(status, 200, "{said}");
    let mut serving = None;
    for _ in 0..2 {
        serving = Some(upgraded(&mut served, serving).await);
        let mut client = served.connect().await;
        expect(&mut client, 1).await;
        // The file still has the version that was rolled back from.
        served.reload().await;
        expect(&mut client, 1).await;
    }
    let mut client = served.connect().await;
    replace(&served.component, &version(3, '-'));
    served.reload().await;
    expect(&mut client, 3).await;
    // The changed file has ended the rollback.
    let _last = upgraded(&mut served, serving).await;
    expect(&mut served.connect().await, 3).await;
}

#[tokio::test]
async fn rollout_continues_after_an_upgrade() {
    let mut served = without_drain().await;
    let plugin = async |served: &Served| {
        let (status, page) = served.gateway.page("/plugins").await;
        assert_eq!(status, 200);
        let page: serde_json::Value = serde_json::from_str(&page).unwrap();
        let plugin = &page[0];
        [
            plugin["serving"]["digest"].clone(),
            plugin["candidate"]["digest"].clone(),
            plugin["share"].clone(),
        ]
    };
    let (status, said) = served
        .gateway
        .post("/plugins/v/rollout", "{\"share\": 40}")
        .await;
    assert_eq!(status, 200, "{said}");
    replace(&served.component, &version(2, '-'));
    served.reload().await;
    let before = plugin(&served).await;
    assert_eq!(before[2], 40);
    let first = upgraded(&mut served, None).await;
    assert_eq!(plugin(&served).await, before);
    // A file that changed during the upgrade counts for the rollout, too.
    served.edit("versions.wasm", "other.wasm");
    fs::write(
        served.component.with_file_name("other.wasm"),
        version(3, '-'),
    )
    .unwrap();
    let _last = upgraded(&mut served, Some(first)).await;
    let after = plugin(&served).await;
    assert_eq!((&after[0], &after[2]), (&before[0], &before[2]));
    assert_ne!(after[1], before[1]);
    let (status, said) = served.gateway.post("/plugins/v/promote", "{}").await;
    assert_eq!(status, 200, "{said}");
    expect(&mut served.connect().await, 3).await;
}
