//! The health pages of the management listener and of the health listener, and `lockgate health` with either.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use lockgate_tests::{CommandResult, Gateway, request_at, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::{LOCKGATE, echo, probe_configuration, upgrade::upgrade};

/// Connections that the health listener serves at once.
const CONNECTIONS: usize = 256;

/// A gateway with a health listener of these settings.
async fn with_health(settings: &str) -> Gateway {
    let configuration = format!(
        "[health]\naddress = \"127.0.0.1:0\"\n{settings}\n[limits]\ndrain_s = 2\n{}",
        probe_configuration("", "")
    );
    LOCKGATE.serve(&configuration).await
}

/// The status and the body of a page, for a client that names another host.
async fn page(address: SocketAddr, path: &str) -> (u16, String) {
    request_at(
        address,
        &format!("GET {path}"),
        "Host: lockgate.internal:9091\r\n",
        "",
    )
    .await
}

/// Runs `lockgate health` with this argument.
async fn health(gateway: &str) -> CommandResult {
    let began = Instant::now();
    let ended = LOCKGATE.run(&["health", gateway]).await;
    assert!(began.elapsed() < Duration::from_secs(10), "{ended:?}");
    ended
}

#[track_caller]
fn check_refused(ended: &CommandResult, why: &str) {
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.error.contains(why), "{why}: {ended:?}");
    assert_eq!(ended.output, "");
}

#[tokio::test]
async fn serving_gateway_is_healthy_and_ready() {
    let gateway = echo().await;
    assert_eq!(gateway.page("/healthz").await.0, 200);
    assert_eq!(gateway.page("/readyz").await.0, 200);
    assert_eq!(gateway.page("/").await.0, 404);
}

#[tokio::test]
async fn client_listener_has_no_health_pages() {
    let gateway = echo().await;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(gateway.ws(path).refused().await.status, 403);
        assert_eq!(
            gateway.ws(path).without("Upgrade").refused().await.status,
            426
        );
    }
}

#[tokio::test]
async fn health_listener_has_its_own_pages_alone() {
    for metrics in [false, true] {
        let gateway = with_health(&format!("metrics = {metrics}")).await;
        let health = gateway.health();
        assert_eq!(page(health, "/healthz").await, (200, "ok\n".into()));
        assert_eq!(page(health, "/readyz").await, (200, "ready\n".into()));
        let (status, shown) = page(health, "/metrics").await;
        assert_eq!(status, if metrics { 200 } else { 404 });
        assert_eq!(shown.contains("lockgate_connections"), metrics);
        for path in ["/", "/plugins", "/plugins/probe/history", "/reload"] {
            assert_eq!(page(health, path).await.0, 404, "{path}");
        }
        for path in ["/reload", "/upgrade", "/readyz"] {
            let headers = "Host: localhost\r\nContent-Type: application/json\r\n";
            let line = format!("POST {path}");
            assert_eq!(request_at(health, &line, headers, "{}").await.0, 405);
        }
        assert_eq!(gateway.page("/plugins").await.0, 200);
    }
}

#[tokio::test]
async fn health_listener_is_opened_changed_and_closed_by_a_reload() {
    let gateway = echo().await;
    let file = gateway.folder().join("gateway.toml");
    let text = fs::read_to_string(&file).unwrap();
    let reload = async |health: &str| {
        fs::write(&file, format!("{health}\n{text}")).unwrap();
        let (status, said) = gateway.post("/reload", "{}").await;
        assert_eq!(status, 200, "{said}");
        said
    };
    let said = reload("health = \"127.0.0.1:0\"").await;
    assert!(said.contains("health 127.0.0.1:"), "{said}");
    let line = gateway.log().line(&["health listening on http://"]).await;
    let (_, address) = line.split_once("http://").unwrap();
    let address: SocketAddr = address.split('"').next().unwrap().parse().unwrap();
    assert_eq!(page(address, "/readyz").await.0, 200);
    assert_eq!(page(address, "/metrics").await.0, 404);
    // The same socket, with another page.
    let said = reload("health = { address = \"127.0.0.1:0\", metrics = true }").await;
    assert!(
        said.contains(&format!("health {address}: opened")),
        "{said}"
    );
    assert_eq!(page(address, "/metrics").await.0, 200);
    let said = reload("").await;
    assert!(
        said.contains(&format!("health {address}: closed")),
        "{said}"
    );
    let closed = async { while TcpStream::connect(address).await.is_ok() {} };
    within("the end of the health listener", closed).await;
}

#[tokio::test]
async fn health_listener_goes_to_the_new_process_of_an_upgrade() {
    let mut gateway = with_health("").await;
    let health = gateway.health();
    let serving = upgrade(&gateway).await;
    assert_eq!(gateway.ended().await, Some(0));
    assert_eq!(page(health, "/readyz").await.0, 200);
    assert_eq!(page(health, "/plugins").await.0, 404);
    drop(serving);
}

/// More silent clients than connections at once: others wait, and no longer than a connection may take.
#[tokio::test]
async fn silent_clients_do_not_block_the_health_listener() {
    let gateway = with_health("").await;
    let mut silent = Vec::new();
    for _ in 0..2 * CONNECTIONS {
        silent.push(TcpStream::connect(gateway.health()).await.unwrap());
    }
    // The oldest made room for it: none of them has had its time yet.
    let asked = Instant::now();
    assert_eq!(page(gateway.health(), "/readyz").await.0, 200);
    assert!(
        asked.elapsed() < Duration::from_secs(2),
        "{:?}",
        asked.elapsed()
    );
    ended(&mut silent.swap_remove(0)).await;
    ended(&mut silent.pop().unwrap()).await;
}

#[tokio::test]
async fn silent_clients_do_not_keep_the_management_listener() {
    let gateway = echo().await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(gateway.management()).await.unwrap());
    }
    let line = b"POST /reload HTTP/1.1\r\nhost: localhost\r\n";
    silent[1].write_all(line).await.unwrap();
    let mut half = TcpStream::connect(gateway.management()).await.unwrap();
    let head = b"POST /reload HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{";
    half.write_all(head).await.unwrap();
    for client in &mut silent {
        ended(client).await;
    }
    ended(&mut half).await;
    assert_eq!(gateway.page("/readyz").await.0, 200);
}

/// Waits until the gateway has ended this connection.
async fn ended(client: &mut TcpStream) {
    let mut answer = Vec::new();
    // A reset is an end as well.
    let _ = within("an end", client.read_to_end(&mut answer)).await;
}

#[tokio::test]
async fn health_command_reads_either_listener_whatever_else_the_file_has() {
    let gateway = with_health("").await;
    let (health_at, management_at) = (gateway.health(), gateway.management());
    let file = gateway.folder().join("other.toml");
    let write = |text: &str| fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    for named in [
        format!("health = \"{health_at}\""),
        format!("health = {{ address = \"{health_at}\" }}\nmanagement.address = \"127.0.0.1:1\""),
        format!("management.address = \"{management_at}\"\nlimits.drain_s = \"x\"\nplugins.p = 7"),
    ] {
        write(&named);
        let ended = health(file).await;
        assert_eq!(
            (ended.code, &*ended.output),
            (Some(0), "ready\n"),
            "{ended:?}"
        );
    }
    // The command finds the gateway by its file, whatever the file has by now.
    let own = gateway.folder().join("gateway.toml");
    for text in [fs::read_to_string(&own).unwrap(), "nonsense".to_owned()] {
        fs::write(&own, text).unwrap();
        let ended = health(own.to_str().unwrap()).await;
        assert_eq!(
            (ended.code, &*ended.output),
            (Some(0), "ready\n"),
            "{ended:?}"
        );
    }
    for address in [health_at, management_at] {
        assert_eq!(health(&address.to_string()).await.code, Some(0));
    }
    // A listener on all addresses is asked at the loopback address.
    let everywhere = format!("0.0.0.0:{}", health_at.port());
    assert_eq!(health(&everywhere).await.code, Some(0));
    for (text, why) in [
        ("", "neither a health nor a management listener"),
        ("health = \"127.0.0.1:0\"", "port 0"),
        ("health = \"here\"", "other.toml:1: health: "),
        ("health = ", "other.toml:1: this is not TOML"),
    ] {
        write(text);
        check_refused(&health(file).await, why);
    }
    let local = format!("localhost:{}", health_at.port());
    assert_eq!(health(&local).await.code, Some(0));
    for no_address in [
        "9091",
        "127.0.0.1",
        "::1",
        "localhost",
        "lockgate.internal:9091",
        "http://127.0.0.1:9091/readyz",
    ] {
        check_refused(&health(no_address).await, "an address is written as ");
    }
    check_refused(
        &health("/nowhere/gateway.toml").await,
        "/nowhere/gateway.toml",
    );
    assert!(Path::new(file).exists());
}

#[tokio::test]
async fn health_command_gives_the_reason_of_an_unready_gateway_in_time() {
    let mut gateway = with_health("").await;
    let management = gateway.management().to_string();
    let address = gateway.health().to_string();
    // This client never answers its close, and so keeps the gateway draining for the whole window.
    let silent = gateway.ws("/s").open_raw().await;
    gateway.terminate();
    gateway.log().line(&["\"stopping\""]).await;
    for address in [&address, &management] {
        check_refused(&health(address).await, "is stopping");
    }
    drop(silent);
    assert_eq!(gateway.ended().await, Some(0));
    check_refused(&health(&address).await, "is the gateway running?");
    // Nothing accepts here: the kernel completes the connection, and no answer comes.
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mute = mute.local_addr().map(|address| (mute, address)).unwrap();
    check_refused(&health(&mute.1.to_string()).await, "no answer within 3 s");
    // Another server that speaks HTTP.
    let other = echo().await;
    check_refused(
        &health(&other.plain().to_string()).await,
        "does not answer as the health",
    );
}
