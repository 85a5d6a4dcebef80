//! Sockets that systemd has bound for the gateway (`LISTEN_FDS`).

use std::{
    fmt::Display,
    net::{Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
    path::Path,
    process::{Command, Stdio},
};

use lockgate_tests::{Gateway, PATIENCE, write_configuration};
use rustix::net::{AddressFamily, SocketType, sockopt::set_ipv6_v6only};
use tempfile::TempDir;

use crate::{
    LOCKGATE,
    upgrade::{configuration, upgrade},
};

/// As systemd starts a service of which it has bound the sockets: they are the descriptors from 3 on, of which the first
/// is this process's standard input before.
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
async fn sockets_of_systemd_are_found_by_their_address_and_handed_over() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let folder = TempDir::new().unwrap();
    let file = listening_on(address, &folder);
    // The same socket twice: the second is one too many.
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

#[tokio::test]
async fn a_descriptor_that_cannot_be_listened_on_is_refused() {
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

/// As `ListenStream=PORT` makes it: it would take the port of `0.0.0.0` too.
#[tokio::test]
async fn a_socket_that_takes_both_families_is_refused_with_what_to_write() {
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
async fn a_count_of_sockets_that_is_none_is_refused_with_what_to_do() {
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
