//! The binary upgrade and the crash of a gateway with QUIC: whose connections go on, and how the others end.

use std::{
    fs,
    os::unix::fs::symlink,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use lockgate_tests::{
    Certificate, Client, ConnectionError, Gateway, Http3, Http3Options, Orphan, PATIENCE, Refused,
    within, write_configuration, write_private,
};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use crate::{
    LOCKGATE, echo_configuration,
    quic::is_not_served,
    upgrade::{LOCAL, begin_endless_upgrade, replace_program, upgrade},
};

/// A gateway that echoes over QUIC, with these lines in its limits. Its program is a link, and its certificate a file.
async fn gateway(limits: &str) -> Gateway {
    let folder = TempDir::new().unwrap();
    let tls = Certificate::new().write_as(folder.path(), "c");
    let lockgate = LOCKGATE.command(&[]);
    symlink(lockgate.get_program(), folder.path().join("lockgate")).unwrap();
    let configuration = format!(
        "[log]\nlevel = \"info,lockgate=debug\"\nformat = \"json\"\n\
         [[listeners]]\naddress = \"127.0.0.1:0\"\ntls = {tls}\nquic = true\n\
         [[listeners]]\naddress = \"127.0.0.1:0\"\ntls = \"off\"\n\
         [management]\naddress = \"127.0.0.1:0\"\n[limits]\n{limits}\n{}",
        echo_configuration("")
    );
    let _ = write_configuration(folder.path(), &configuration);
    start(folder).await
}

async fn start(folder: TempDir) -> Gateway {
    let mut command = Command::new(folder.path().join("lockgate"));
    command.arg("run").arg(folder.path().join("gateway.toml"));
    Gateway::start(command, folder, PATIENCE).await
}

/// Two clients with a QUIC connection each: a drain closes one of them at once.
struct Pair {
    connections: Vec<Http3>,
    open: Vec<Client>,
}

impl Pair {
    async fn open(gateway: &Gateway) -> Self {
        let connections = vec![gateway.http3().await, gateway.http3().await];
        let mut open = Vec::new();
        for http3 in &connections {
            open.push(http3.open("/s").await);
        }
        Self { connections, open }
    }

    /// The number of clients that have an answer. The others are closed as a drain closes them.
    async fn answered(&mut self) -> usize {
        let mut answered = Vec::new();
        for mut client in self.open.drain(..) {
            match client.echo("still here").await {
                Ok(()) => answered.push(client),
                Err(code) => {
                    assert_eq!(code, 1012);
                    client.expect_end().await;
                }
            }
        }
        self.open = answered;
        self.open.len()
    }

    /// Waits until the server has closed the clients, and the connections.
    async fn expect_drained(mut self) {
        within("the closes", async { while self.answered().await > 0 {} }).await;
        for http3 in &self.connections {
            assert_eq!(http3.ended().await, 0x100);
        }
    }

    /// Checks that the server knows nothing of these connections any more, and says so.
    async fn expect_reset(self) {
        for mut client in self.open {
            client.send_until_broken("still here").await;
        }
        // Of a client that a drain had closed, nobody says anything more.
        let mut resets = 0;
        for http3 in &self.connections {
            resets += usize::from(matches!(
                http3.quic.close_reason(),
                Some(ConnectionError::Reset)
            ));
        }
        assert!(resets > 0);
    }
}

async fn serves(gateway: &Gateway) {
    let http3 = gateway.http3().await;
    assert_eq!(http3.open("/s").await.echo("hello").await, Ok(()));
}

#[tokio::test]
async fn connections_over_quic_go_on_in_the_old_process_until_its_drain_is_over() {
    let mut gateway = gateway("drain_s = 3600").await;
    gateway.log().line(&["serving QUIC on UDP"]).await;
    let (mut old, mut moving) = (Pair::open(&gateway).await, Pair::open(&gateway).await);
    let session_http3 = gateway.http3().await;
    let mut session = session_http3.session("/s", &[]).await;
    let _serving = upgrade(&gateway).await;
    let mut new = Pair::open(&gateway).await;
    // A client whose address changes is still known by the ids of its connection.
    for http3 in &moving.connections {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        http3.endpoint.rebind(socket).unwrap();
    }
    // Of five, a drain of an hour closes one at once.
    session.send(&Message::text("hello")).await;
    let in_session = usize::from(session.next().await == Some(Message::text("hello")));
    let answered = old.answered().await + moving.answered().await + in_session;
    assert!((4..=5).contains(&answered), "{answered}");
    assert!(gateway.is_running());
    gateway.terminate();
    old.expect_drained().await;
    moving.expect_drained().await;
    assert_eq!(session.closed().await.0, 1012);
    assert_eq!(gateway.ended().await, Some(0));
    assert_eq!(new.answered().await, 2);
    serves(&gateway).await;
}

#[tokio::test]
async fn connections_of_four_processes_go_on_beside_each_other() {
    let mut gateway = gateway("drain_s = 3600").await;
    let mut first = Pair::open(&gateway).await;
    let b = upgrade(&gateway).await;
    let mut second = Pair::open(&gateway).await;
    let c = upgrade(&gateway).await;
    let mut third = Pair::open(&gateway).await;
    let d = upgrade(&gateway).await;
    let mut fourth = Pair::open(&gateway).await;
    for pair in [&mut first, &mut second, &mut third] {
        assert!(pair.answered().await > 0);
    }
    assert_eq!(fourth.answered().await, 2);
    // One in the middle ends: the kernel renumbers the sockets.
    c.terminate();
    third.expect_drained().await;
    c.ended().await;
    gateway
        .log()
        .line(&["closed the UDP socket of a process"])
        .await;
    for pair in [&mut first, &mut second] {
        assert!(pair.answered().await > 0);
    }
    assert_eq!(fourth.answered().await, 2);
    serves(&gateway).await;
    // The newest one tells the clients of one that was killed.
    drop(b);
    second.expect_reset().await;
    assert!(first.answered().await > 0);
    gateway.terminate();
    first.expect_drained().await;
    assert_eq!(gateway.ended().await, Some(0));
    assert_eq!(fourth.answered().await, 2);
    let _e = upgrade(&gateway).await;
    assert!(fourth.answered().await > 0);
    serves(&gateway).await;
    d.terminate();
    fourth.expect_drained().await;
}

/// QUIC of the listener is switched by `upgrade` or by reload, while the processes before this one have clients.
#[tokio::test]
async fn quic_is_switched_off_and_on_while_an_old_process_drains() {
    let (off, on) = (
        ("quic = true", "quic = false"),
        ("quic = false", "quic = true"),
    );
    let mut gateway = gateway("drain_s = 3600").await;
    let address = gateway.secure();
    let told = format!("h3=\":{}\"; ma=86400", address.port());
    let bound = address.to_string();
    gateway.change(&[("127.0.0.1:0", &bound)]).await;
    let mut first = Pair::open(&gateway).await;
    let b = upgrade(&gateway).await;
    let mut second = Pair::open(&gateway).await;

    gateway.change(&[off]).await;
    is_not_served(address).await;
    gateway.change(&[on]).await;
    serves(&gateway).await;
    for pair in [&mut first, &mut second] {
        assert!(pair.answered().await > 0);
    }

    // The new process has it switched off from its start.
    let file = gateway.folder().join("gateway.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replacen(off.0, off.1, 1)).unwrap();
    let c = upgrade(&gateway).await;
    is_not_served(address).await;
    for pair in [&mut first, &mut second] {
        assert!(pair.answered().await > 0);
    }
    gateway.change(&[on]).await;
    serves(&gateway).await;
    let refused = gateway.wss("/nowhere").refused().await;
    assert_eq!(refused.header("alt-svc"), Some(&*told));

    // It is handed over while it is switched off.
    gateway.change(&[off]).await;
    let d = upgrade(&gateway).await;
    gateway.change(&[on]).await;
    serves(&gateway).await;
    for pair in [&mut first, &mut second] {
        assert!(pair.answered().await > 0);
    }

    // Once it is off and the others have ended, another program may have the port.
    gateway.change(&[off]).await;
    gateway.terminate();
    b.terminate();
    c.terminate();
    first.expect_drained().await;
    second.expect_drained().await;
    assert_eq!(gateway.ended().await, Some(0));
    b.ended().await;
    c.ended().await;
    let freed = async {
        while std::net::UdpSocket::bind(address).is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    within("the port to be free", freed).await;
    gateway.change(&[on]).await;
    serves(&gateway).await;
    d.terminate();
    d.ended().await;
}

#[tokio::test]
async fn reload_waits_for_the_port_while_an_old_process_drains_and_says_who_may_have_it() {
    let mut gateway = gateway("drain_s = 3600").await;
    let address = gateway.secure();
    gateway
        .change(&[
            ("127.0.0.1:0", &address.to_string()),
            ("quic = true", "quic = false"),
        ])
        .await;
    let held = within("the port to be free", async {
        loop {
            match std::net::UdpSocket::bind(address) {
                Ok(held) => return held,
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            }
        }
    });
    let held = held.await;
    let _old = [
        gateway.wss("/s").open().await,
        gateway.wss("/s").open().await,
    ];
    let _serving = upgrade(&gateway).await;
    gateway.change(&[("quic = false", "quic = true")]).await;
    let (waits, process) = (
        format!("QUIC on UDP {address} waits for its port"),
        format!("the process {} ", gateway.id()),
    );
    let waits = [&*waits, &*process, "ss -lunp"];
    gateway.log().line(&waits).await;
    let told = async || {
        let refused = gateway.wss("/nowhere").refused().await;
        refused.header("alt-svc").map(str::to_owned)
    };
    assert_eq!(told().await, None);
    gateway.terminate();
    gateway
        .log()
        .line(&["still waits", "stop the process"])
        .await;
    drop(held);
    serves(&gateway).await;
    assert!(told().await.is_some());
    assert_eq!(gateway.ended().await, Some(0));
}

#[tokio::test]
async fn wider_address_for_quic_is_refused_with_what_is_in_its_way() {
    let gateway = gateway("drain_s = 3600").await;
    let port = gateway.secure().port();
    gateway
        .change(&[("127.0.0.1:0", &gateway.secure().to_string())])
        .await;
    let _old = Pair::open(&gateway).await;
    let _serving = upgrade(&gateway).await;
    let file = gateway.folder().join("gateway.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replacen("127.0.0.1", "0.0.0.0", 1)).unwrap();
    let (status, answer) = gateway.post("/reload", "{}").await;
    assert_ne!(status, 200);
    let said = format!("this gateway has QUIC on UDP 127.0.0.1:{port}");
    assert!(answer.contains(&said), "{answer}");
    assert!(!answer.contains("stop the process"), "{answer}");
}

#[tokio::test]
async fn wider_address_for_quic_is_taken_by_an_upgrade_without_an_alarm() {
    let gateway = gateway("drain_s = 0").await;
    let port = gateway.secure().port();
    gateway
        .change(&[("127.0.0.1:0", &gateway.secure().to_string())])
        .await;
    let file = gateway.folder().join("gateway.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replacen("127.0.0.1", "0.0.0.0", 1)).unwrap();
    let _serving = upgrade(&gateway).await;
    let serving = format!("serving QUIC on UDP 0.0.0.0:{port}");
    gateway.log().line(&[&serving]).await;
    assert!(!gateway.log().contains(&["still waits"]));
    serves(&gateway).await;
}

/// Clients connect all the time, each with a connection of its own.
async fn upgrades_fail_no_connect(upgrades: usize, limits: &str) {
    const CONNECTS: usize = 100;
    let mut gateway = gateway(&format!("drain_s = 0\n{limits}")).await;
    let (going_on, connects) = (
        Arc::new(AtomicBool::new(true)),
        Arc::new(AtomicUsize::new(0)),
    );
    let mut clients = JoinSet::new();
    for _ in 0..4 {
        let (going_on, connects) = (Arc::clone(&going_on), Arc::clone(&connects));
        let address = gateway.secure();
        clients.spawn(async move {
            while going_on.load(Ordering::Relaxed) {
                let connected = Http3::try_connect(address, Http3Options::default()).await;
                let http3 = connected.expect("a connect during an upgrade");
                let mut client = http3.open("/s").await;
                // Until the drain of the process that let it in.
                if client.echo("hello").await.is_ok() {
                    client.close(1000, "").await;
                }
                connects.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let enough = async |from: usize| {
        while connects.load(Ordering::Relaxed) < from + CONNECTS && clients.len() == 4 {
            tokio::task::yield_now().await;
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let mut before: Option<Orphan> = None;
    for _ in 0..upgrades {
        let from = connects.load(Ordering::Relaxed);
        let next = upgrade(&gateway).await;
        match before.replace(next) {
            None => assert_eq!(gateway.ended().await, Some(0)),
            Some(before) => before.ended().await,
        }
        within("the connects", enough(from)).await;
    }
    going_on.store(false, Ordering::Relaxed);
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
}

#[tokio::test]
async fn ten_upgrades_fail_no_connect_over_quic() {
    upgrades_fail_no_connect(10, "").await;
}

#[tokio::test]
async fn upgrades_fail_no_client_that_is_told_to_come_again() {
    // While addresses are counted, each client has to prove its own (Retry).
    upgrades_fail_no_connect(3, "connections_per_ip = 60000").await;
}

#[tokio::test]
async fn successor_that_fails_or_is_killed_changes_nothing_over_quic() {
    let mut gateway = gateway("drain_s = 3600").await;
    let mut pair = Pair::open(&gateway).await;
    let program = fs::read_link(gateway.folder().join("lockgate")).unwrap();
    replace_program(gateway.folder(), "exit 3");
    let (status, answer) = gateway.ask("POST", "/upgrade", LOCAL).await;
    assert_eq!(status, 409, "{answer}");
    assert_eq!(pair.answered().await, 2);
    serves(&gateway).await;
    // It has its socket, and never serves.
    let endless = begin_endless_upgrade(&gateway).await;
    assert_eq!(pair.answered().await, 2);
    serves(&gateway).await;
    drop(endless);
    gateway
        .log()
        .nth_line(1, &["no upgrade, this process continues"])
        .await;
    assert_eq!(pair.answered().await, 2);
    serves(&gateway).await;

    fs::remove_file(gateway.folder().join("lockgate")).unwrap();
    symlink(program, gateway.folder().join("lockgate")).unwrap();
    let _serving = upgrade(&gateway).await;
    assert!(pair.answered().await > 0);
    let mut new = Pair::open(&gateway).await;
    gateway.terminate();
    pair.expect_drained().await;
    assert_eq!(gateway.ended().await, Some(0));
    assert_eq!(new.answered().await, 2);
}

#[tokio::test]
async fn upgrade_closes_connections_over_quic_first_where_the_kernel_does_not_tell_packets_apart() {
    Refused::steering();
    let mut gateway = gateway("drain_s = 30").await;
    let said = [
        "the kernel does not tell the packets of two processes apart",
        "SO_ATTACH_REUSEPORT_CBPF",
    ];
    gateway.log().line(&said).await;
    let old = Pair::open(&gateway).await;
    let mut tcp = gateway.wss("/s").open().await;
    let address = gateway.secure();
    let serving = upgrade(&gateway).await;
    // Nothing leads clients to a port that is not served yet, once the old process lets in none.
    let told = async || {
        let refused = gateway.wss("/nowhere").refused().await;
        refused.header("alt-svc").map(str::to_owned)
    };
    within("no word of QUIC", async { while told().await.is_some() {} }).await;
    let (waits, id) = (format!("QUIC on UDP {address} waits"), gateway.id());
    let process = format!("process {id}");
    let waits = [&*waits, &*process, "within 85 s of the upgrade"];
    gateway.log().line(&waits).await;
    old.expect_drained().await;
    // While the other process waits for the port, the client asks again and again.
    let mut new = Pair::open(&gateway).await;
    assert!(told().await.is_some());
    gateway.terminate();
    tcp.expect_close(1012, "Service restart").await;
    assert_eq!(gateway.ended().await, Some(0));
    assert_eq!(new.answered().await, 2);
    // Its own stop ends as any.
    serving.terminate();
    serving.ended().await;
}

#[tokio::test]
async fn clients_of_a_killed_process_are_told_by_the_next_one() {
    let mut gateway = gateway("").await;
    let pair = Pair::open(&gateway).await;
    let next = kill_and_start_again(&mut gateway).await;
    pair.expect_reset().await;
    serves(&next).await;
}

/// Clients that have come since then know the keys of the new certificate.
#[tokio::test]
async fn clients_of_a_process_that_was_killed_after_a_renewal_are_told_by_the_next_one() {
    let mut gateway = gateway("").await;
    let mut old = Pair::open(&gateway).await;
    let _ = Certificate::new().write_as(gateway.folder(), "c");
    gateway
        .log()
        .line(&["serving the changed certificate"])
        .await;
    let new = Pair::open(&gateway).await;
    assert_eq!(old.answered().await, 2);
    let next = kill_and_start_again(&mut gateway).await;
    new.expect_reset().await;
    serves(&next).await;
}

/// An old process keeps the port for its clients, and cannot give a socket to one that it does not know.
#[tokio::test]
async fn process_after_a_crash_serves_while_an_old_one_drains_and_quic_when_that_has() {
    let mut gateway = gateway("drain_s = 3600").await;
    let mut old = Pair::open(&gateway).await;
    upgrade(&gateway).await.kill().await;
    let next = start_again(&gateway).await;
    let waits = format!("QUIC on UDP {} waits for its port", gateway.secure());
    next.log().line(&[&waits, "when it has drained"]).await;
    let open = next.wss("/s").open().await;
    assert_eq!(open.answer().header("alt-svc"), None);
    assert!(old.answered().await > 0);
    gateway.terminate();
    old.expect_drained().await;
    assert_eq!(gateway.ended().await, Some(0));
    next.log().line(&["serving QUIC on UDP"]).await;
    serves(&next).await;
}

/// Kills the process, and starts another at its addresses, with its certificate.
async fn kill_and_start_again(gateway: &mut Gateway) -> Gateway {
    drop(Orphan::new(gateway.id()));
    assert_eq!(gateway.ended().await, None);
    start_again(gateway).await
}

/// Starts a process at the addresses of another, with its certificate.
async fn start_again(gateway: &Gateway) -> Gateway {
    let address = gateway.secure();
    let folder = TempDir::new().unwrap();
    let program = fs::read_link(gateway.folder().join("lockgate")).unwrap();
    symlink(program, folder.path().join("lockgate")).unwrap();
    let text = fs::read_to_string(gateway.folder().join("gateway.toml")).unwrap();
    let text = text.replacen("127.0.0.1:0", &address.to_string(), 1);
    write_private(&folder.path().join("gateway.toml"), text);
    start(folder).await
}
