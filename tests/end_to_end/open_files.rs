//! A process that may open few files: what it keeps back for itself, and what it makes up for once it has some again.

use std::{collections::HashSet, fs};

use lockgate_tests::{Gateway, replace, version, within};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use tokio::net::TcpStream;

use crate::reload::{Served, expect};

/// The numbers of the files that are open in a process.
fn open_files(gateway: &Gateway) -> HashSet<u64> {
    let files = fs::read_dir(format!("/proc/{}/fd", gateway.id())).unwrap();
    files
        .map(|file| file.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect()
}

/// Bounds the numbers of files that the process may open from now on.
fn bound(gateway: &Gateway, current: Option<u64>, maximum: Option<u64>) {
    let id = Pid::from_raw(i32::try_from(gateway.id()).unwrap());
    let limit = Rlimit { current, maximum };
    prlimit(id, Resource::Nofile, limit).unwrap();
}

#[tokio::test]
async fn component_that_found_no_files_left_is_served_once_there_are_some() {
    let served = Served::new().await;
    let mut client = served.connect().await;
    expect(&mut client, 1).await;
    let (log, maximum) = (served.gateway.log(), getrlimit(Resource::Nofile).maximum);
    // With none the component cannot be read; with one it can, and no process can compile it.
    for (left, number) in [(0, 2), (1, 3)] {
        let open = open_files(&served.gateway);
        let bound_to = (0..).filter(|file| !open.contains(file)).nth(left);
        bound(&served.gateway, bound_to, maximum);
        replace(&served.component, &version(number, '-'));
        let said = log.nth_line(left, &["not reloaded"]).await;
        for part in ["plugins.v.component", "Too many open files", "LimitNOFILE="] {
            assert!(said.contains(part), "{part}: {said}");
        }
        bound(&served.gateway, maximum, maximum);
        let serves = format!("version {number} serves");
        log.line(&["changed file", &serves]).await;
        expect(&mut client, number).await;
    }
    assert!(!log.contains(&["without bounds"]));
}

/// Everyone who can reach the health listener can hold all of its connections.
#[tokio::test]
async fn full_gateway_reloads_while_all_its_connections_are_held() {
    const FILES: u64 = 520;
    // 128 for itself, 64 for management, 256 for health.
    const CLIENTS: u64 = FILES - 128 - 64 - 256;
    let served = Served::with("[health]\naddress = \"127.0.0.1:0\"").await;
    bound(&served.gateway, Some(FILES), Some(FILES));
    served.reload().await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(served.connect().await);
    }
    assert_eq!(served.gateway.ws("/s").refused().await.status, 503);
    let before = open_files(&served.gateway).len();
    let mut silent = Vec::new();
    for (address, count) in [
        (served.gateway.management(), 60),
        (served.gateway.health(), 300),
    ] {
        for _ in 0..count {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
    }
    let taken = async {
        while open_files(&served.gateway).len() < before + 60 + 256 {
            tokio::task::yield_now().await;
        }
    };
    within("the connections of strangers", taken).await;
    replace(&served.component, &version(2, '-'));
    served.reload().await;
    for client in &mut clients {
        expect(client, 2).await;
    }
}
