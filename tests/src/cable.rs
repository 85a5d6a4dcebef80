//! Two hosts with a cable that a test can pull: network namespaces of the kernel, which the test makes and removes.
//! That takes root, and `ip` of iproute2.

use std::{
    fs::File,
    io,
    os::fd::AsFd,
    path::PathBuf,
    process::{self, Command, Stdio},
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::TcpSocket;

/// The addresses of the two ends, in the network for benchmarks (RFC 2544); they exist inside the namespaces alone.
const SERVER: &str = "198.18.0.1";
const CLIENT: &str = "198.18.0.2";

/// A cable between a host for the gateway and one for its clients. Both are removed when this value is dropped.
pub struct Cable {
    server: String,
    client: String,
}

/// A host to connect from.
#[derive(Clone)]
pub(crate) struct Host(PathBuf);

impl Cable {
    /// Lays a cable; none where this process lacks the rights.
    #[must_use]
    pub fn lay() -> Option<Self> {
        let own = process::id();
        let cable = Self {
            server: format!("lockgate-server-{own}"),
            client: format!("lockgate-client-{own}"),
        };
        let (server, client) = (&cable.server, &cable.client);
        let steps = [
            format!("netns add {server}"),
            format!("netns add {client}"),
            format!("-n {server} link add end type veth peer name end netns {client}"),
            format!("-n {server} address add {SERVER}/30 dev end"),
            format!("-n {client} address add {CLIENT}/30 dev end"),
            format!("-n {server} link set lo up"),
            format!("-n {server} link set end up"),
            format!("-n {client} link set end up"),
        ];
        steps.iter().all(|step| ip(step)).then_some(cable)
    }

    /// The address of the gateway's host.
    #[must_use]
    pub fn server_address(&self) -> &'static str {
        SERVER
    }

    /// The command that runs `command` on the gateway's host.
    #[must_use]
    pub fn on_server(&self, command: &Command) -> Command {
        let mut inside = Command::new("ip");
        inside
            .args(["netns", "exec", &self.server])
            .arg(command.get_program())
            .args(command.get_args());
        inside
    }

    pub(crate) fn client(&self) -> Host {
        Host(PathBuf::from("/var/run/netns").join(&self.client))
    }

    /// Pulls the cable: nothing arrives any more, and neither end is told.
    ///
    /// # Panics
    ///
    /// When `ip` fails.
    pub fn pull(&self) {
        let step = format!("-n {} link set end down", self.client);
        assert!(ip(&step), "ip {step}");
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for name in [&self.server, &self.client] {
            ip(&format!("netns delete {name}"));
        }
    }
}

impl Host {
    /// A socket of this host, which it stays on any thread.
    pub(crate) fn socket(&self) -> io::Result<TcpSocket> {
        let namespace = File::open(&self.0)?;
        let inside = move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            TcpSocket::new_v4()
        };
        // A thread of its own, since the namespace is the thread's.
        thread::spawn(inside)
            .join()
            .unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
    }
}

/// Runs `ip`, and returns whether it succeeded.
fn ip(words: &str) -> bool {
    let status = Command::new("ip")
        .args(words.split(' '))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}
