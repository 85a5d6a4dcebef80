//! A process that may open few files: what it keeps back for itself, and what it makes up for once it has some again.

use std::{collections::HashSet, fs};

use lockgate_tests::{Gateway, replace, version};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

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
