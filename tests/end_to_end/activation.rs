//! Sockets that systemd has bound for the gateway (`LISTEN_FDS`).

use std::{
    fmt::Display,
    fs,
    io::{Read as _, Write as _},
    net::{Ipv6Addr, SocketAddr},
    os::{
        fd::OwnedFd,
        unix::{fs::PermissionsExt as _, net::UnixListener},
    },
    path::Path,
    process::{Command, Stdio},
};

use lockgate_tests::{Gateway, PATIENCE, Request, within, write_configuration};
use rustix::net::{AddressFamily, SocketType, sockopt::set_ipv6_v6only};
use tempfile::TempDir;

use crate::{
    LOCKGATE,
    drain_handshakes::{answered, queued},
    upgrade::{configuration, upgrade},
};

/// A command that starts as a service of socket activation: its sockets are the descriptors from 3 on, and the first of
/// them is the command's standard input.
fn activated(descriptors: impl Display, file: &Path) -> Command {
    let lockgate = LOCKGATE.command(&[]);
    let script = format!(
        "exec 3<&0 4<&0 </dev/null; LISTEN_FDS={descriptors} LISTEN_PID=$$ exec \"$0\" \"$@\""
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script]).arg(lockgate.get_program());
    command.arg("run").arg(file).env_remove("LOCKGATE_LOG");
    command
}

fn listening_on(address: SocketAddr, folder: &TempDir) -> std::path::PathBuf {
    let before = format!(
        "[log]\nformat = \"json\"\n[[listeners]]\naddress = \"{address}\"\ntls = \"off\"\n\
         [management]\naddress = \"127.0.0.1:0\"\n"
    );
    write_configuration(
        folder.path(),
        &format!("{before}{}", configuration("drain_s = 0")),
    )
}

#[tokio::test]
async fn systemd_sockets_are_found_by_address_and_handed_over() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let folder = TempDir::new().unwrap();
    let file = listening_on(address, &folder);
    // The same socket twice: no listener takes the second.
    let (command, input) = (activated(2, &file), Stdio::from(OwnedFd::from(socket)));
    let mut gateway = Gateway::start_with(input, command, folder, PATIENCE).await;
    assert_eq!(gateway.plain(), address);
    gateway.connect("/s").await.id().await;
    let said = format!("systemd listens on {address} for this gateway");
    gateway.log().line(&["WARN", &said]).await;
    let serving = upgrade(&gateway).await;
    assert_eq!(gateway.ended().await, Some(0));
    gateway.connect("/s").await.id().await;
    drop(serving);
}

/// Stops a gateway while clients wait in the queue of its socket, and serves those that it leaves there, as the next
/// start does. Returns their number.
async fn left_in_the_queue() -> usize {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    rustix::net::listen(&socket, 1_024).unwrap();
    let socket = std::net::TcpListener::from(socket);
    let folder = TempDir::new().unwrap();
    let file = listening_on(socket.local_addr().unwrap(), &folder);
    let input = Stdio::from(OwnedFd::from(socket.try_clone().unwrap()));
    let mut gateway = Gateway::start_with(input, activated(1, &file), folder, PATIENCE).await;
    gateway.pause();
    let clients = queued(&gateway.ws("/s")).await;
    gateway.terminate();
    gateway.resume();
    assert_eq!(gateway.ended().await, Some(0));
    socket.set_nonblocking(true).unwrap();
    let mut left = 0;
    while let Ok((mut stream, _)) = socket.accept() {
        assert!(stream.read(&mut [0; 4_096]).unwrap() > 0);
        stream.write_all(b"HTTP/1.1 503 Next\r\n\r\n").unwrap();
        left += 1;
    }
    answered(clients, 1001).await;
    left
}

/// Clients that were accepted before the stop are answered by it. On a busy machine that may be all of them.
#[tokio::test]
async fn clients_queued_at_a_systemd_socket_at_a_stop_are_left_to_the_next_start() {
    for _ in 0..10 {
        if left_in_the_queue().await > 0 {
            return;
        }
    }
    panic!("a stop takes the clients in the queue of a systemd socket");
}

#[tokio::test]
async fn systemd_descriptor_that_cannot_listen_is_refused() {
    let folder = TempDir::new().unwrap();
    let file = listening_on("127.0.0.1:0".parse().unwrap(), &folder);
    let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for input in [Stdio::from(OwnedFd::from(datagrams)), Stdio::null()] {
        let output = activated(1, &file).stdin(input).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains("LISTEN_FDS: the descriptor 3"), "{error}");
    }
}

/// `ListenStream=PORT` makes such a socket, which would take the port of `0.0.0.0` too.
#[tokio::test]
async fn systemd_socket_for_both_families_is_refused_with_the_remedy() {
    let folder = TempDir::new().unwrap();
    let socket = rustix::net::socket(AddressFamily::INET6, SocketType::STREAM, None).unwrap();
    set_ipv6_v6only(&socket, false).unwrap();
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    rustix::net::bind(&socket, &any).unwrap();
    rustix::net::listen(&socket, 1).unwrap();
    let socket = std::net::TcpListener::from(socket);
    let port = socket.local_addr().unwrap().port();
    for address in [format!("0.0.0.0:{port}"), format!("[::]:{port}")] {
        let file = listening_on(address.parse().unwrap(), &folder);
        let input = Stdio::from(OwnedFd::from(socket.try_clone().unwrap()));
        let output = activated(1, &file).stdin(input).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains("takes IPv4 too"), "{error}");
        assert!(error.contains("BindIPv6Only=ipv6-only"), "{error}");
        assert!(
            error.contains(&format!("ListenStream=0.0.0.0:{port}")),
            "{error}"
        );
    }
}

#[tokio::test]
async fn invalid_listen_fds_is_refused_with_the_remedy() {
    let folder = TempDir::new().unwrap();
    let file = listening_on("127.0.0.1:0".parse().unwrap(), &folder);
    for count in ["abc", "4294967295", "2000000000"] {
        let output = activated(count, &file)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains("LISTEN_FDS"), "{error}");
        assert!(error.contains("unset them"), "{error}");
    }
}

/// A gateway with a listener on a socket of systemd and one of its own. Returns the lines of the first listener in the
/// file, too.
async fn beside_another(socket: OwnedFd, address: &str) -> (Gateway, String) {
    let listener = format!("[[listeners]]\naddress = \"{address}\"\ntls = \"off\"\n");
    let folder = TempDir::new().unwrap();
    let text = format!(
        "[log]\nformat = \"json\"\n{listener}[[listeners]]\naddress = \"127.0.0.1:0\"\ntls = \"off\"\n\
         [management]\naddress = \"127.0.0.1:0\"\n{}",
        configuration("drain_s = 0")
    );
    let file = write_configuration(folder.path(), &text);
    let (command, input) = (activated(1, &file), Stdio::from(socket));
    (
        Gateway::start_with(input, command, folder, PATIENCE).await,
        listener,
    )
}

async fn reload(gateway: &Gateway, from: &str, to: &str) -> (u16, String) {
    let file = gateway.folder().join("gateway.toml");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{from}: {text}");
    fs::write(&file, text.replacen(from, to, 1)).unwrap();
    gateway.post("/reload", "{}").await
}

#[tokio::test]
async fn systemd_socket_of_a_removed_listener_is_kept_for_a_later_reload_and_upgrade() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let (mut gateway, listener) = beside_another(socket.into(), &address.to_string()).await;
    let request = Request::new(address, "/s");
    request.open().await.id().await;
    let marked = "# here\n[management]";
    let (status, said) = reload(&gateway, &listener, "").await;
    assert_eq!(status, 200, "{said}");
    let warned =
        format!("systemd listens on {address} for this gateway (unknown), and no listener");
    gateway.log().line(&["WARN", &warned]).await;
    let (status, said) = reload(&gateway, "[management]", &format!("{listener}{marked}")).await;
    assert_eq!(status, 200, "{said}");
    request.open().await.id().await;

    // The socket is handed over though nothing accepts on it, and the other process opens it.
    let (status, said) = reload(&gateway, &format!("{listener}{marked}"), marked).await;
    assert_eq!(status, 200, "{said}");
    gateway.log().nth_line(1, &["WARN", &warned]).await;
    let serving = upgrade(&gateway).await;
    assert_eq!(gateway.ended().await, Some(0));
    gateway.log().nth_line(2, &["WARN", &warned]).await;
    let (status, said) = reload(&gateway, marked, &format!("{listener}{marked}")).await;
    assert_eq!(status, 200, "{said}");
    request.open().await.id().await;
    drop(serving);
}

#[tokio::test]
async fn address_that_contains_a_systemd_socket_is_refused_with_the_remedy() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let (gateway, _) = beside_another(socket.into(), &address.to_string()).await;
    let all = format!("0.0.0.0:{}", address.port());
    let (status, said) = reload(&gateway, &address.to_string(), &all).await;
    assert_eq!(status, 422, "{said}");
    assert!(
        said.contains(&format!("systemd listens on {address}")),
        "{said}"
    );
    assert!(said.contains(&format!("ListenStream={all}")), "{said}");
    assert!(!said.contains("stop the process that listens"), "{said}");
    Request::new(address, "/s").open().await.id().await;
}

#[tokio::test]
async fn systemd_unix_socket_is_served_and_stays_systemds() {
    let place = TempDir::new().unwrap();
    let path = place.path().join("clients.sock");
    let socket = UnixListener::bind(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let address = format!("unix:{}", path.display());
    let (mut gateway, listener) = beside_another(socket.into(), &address).await;
    let request = Request::new("127.0.0.1:1".parse().unwrap(), "/s").by_socket(&path);
    request.open().await.id().await;
    let mode = || fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o666);
    // These are the unit's to say, unless the configuration says others.
    assert!(!gateway.log().contains(&["SocketMode="]));
    let listener_with_mode = format!("{listener}mode = \"0660\"\n");
    let (status, said) = reload(&gateway, &listener, &listener_with_mode).await;
    assert_eq!(status, 200, "{said}");
    gateway.log().line(&["WARN", "SocketMode=0660"]).await;

    let (status, said) = reload(&gateway, &listener_with_mode, "").await;
    assert_eq!(status, 200, "{said}");
    let warned = format!("systemd listens on {address} for this gateway");
    gateway.log().line(&["WARN", &warned]).await;
    let (status, said) = reload(&gateway, "[management]", &format!("{listener}[management]")).await;
    assert_eq!(status, 200, "{said}");
    request.open().await.id().await;

    let serving = upgrade(&gateway).await;
    assert_eq!(gateway.ended().await, Some(0));
    request.open().await.id().await;
    serving.terminate();
    within("the end of the new process", serving.ended()).await;
    assert!(path.exists());
}

#[tokio::test]
async fn systemd_unix_socket_whose_file_is_gone_is_replaced_by_an_upgrade() {
    let place = TempDir::new().unwrap();
    let path = place.path().join("clients.sock");
    let socket = UnixListener::bind(&path).unwrap();
    let address = format!("unix:{}", path.display());
    let (mut gateway, _) = beside_another(socket.into(), &address).await;
    fs::remove_file(&path).unwrap();
    let serving = upgrade(&gateway).await;
    assert_eq!(gateway.ended().await, Some(0));
    let request = Request::new("127.0.0.1:1".parse().unwrap(), "/s").by_socket(&path);
    request.open().await.id().await;
    serving.terminate();
    within("the end of the new process", serving.ended()).await;
    assert!(!path.exists());
}
