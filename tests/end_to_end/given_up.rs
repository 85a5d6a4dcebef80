//! Upgrades that are given up: no process that serves is killed, and a stop waits for nobody.

use std::{
    fs,
    time::{Duration, Instant},
};

use lockgate_tests::{Gateway, within};

use crate::upgrade::{linked, replace_program, until};

#[tokio::test]
async fn stop_begins_while_the_new_process_does_not_end() {
    let mut gateway = linked("drain_s = 0").await;
    replace_program(
        gateway.folder(),
        &in_folder(&gateway, "trap '' TERM; touch begun; exec sleep 600"),
    );
    gateway.upgrade();
    let begun = gateway.folder().join("begun");
    within("the new process to start", until(|| begun.exists())).await;
    gateway.terminate();
    let asked = Instant::now();
    gateway.log().line(&["\"stopping\""]).await;
    // The new process has 2 s before it is killed.
    assert!(asked.elapsed() < Duration::from_millis(1_800));
    assert_eq!(gateway.ended().await, Some(0));
}

fn in_folder(gateway: &Gateway, script: &str) -> String {
    format!("cd {}; {script}", gateway.folder().display())
}

/// The script says that it serves while the old process is paused: a signal, or the limit, comes later than its word.
#[tokio::test]
async fn upgrade_that_is_given_up_after_the_new_process_served_succeeds() {
    for by_signal in [true, false] {
        let mut gateway = linked("drain_s = 0\nupgrade_s = 1").await;
        let serve = "trap 'touch asked' TERM; touch begun; while [ ! -e go ]; do sleep 0.02; done; \
                     printf ready >&0; touch served; while [ ! -e end ]; do sleep 0.02; done";
        replace_program(gateway.folder(), &in_folder(&gateway, serve));
        let file = |name: &str| gateway.folder().join(name);
        gateway.upgrade();
        within("the start", until(|| file("begun").exists())).await;
        gateway.pause();
        fs::write(file("go"), "").unwrap();
        within("the service", until(|| file("served").exists())).await;
        if by_signal {
            gateway.terminate();
        } else {
            // The limit passes while the process is stopped: nothing shows it from outside.
            tokio::time::sleep(Duration::from_millis(1_200)).await;
        }
        gateway.resume();
        gateway.log().line(&["hands over"]).await;
        let asked = file("asked");
        fs::write(file("end"), "").unwrap();
        assert!(!asked.exists());
        assert_eq!(gateway.ended().await, Some(0));
    }
}

/// The script begins to serve just before it is asked to end, and takes longer for its drain than a process that does not serve
/// has for its end.
#[tokio::test]
async fn new_process_that_began_to_serve_before_it_was_given_up_drains() {
    for stop in [true, false] {
        let mut gateway = linked("drain_s = 0\nupgrade_s = 1").await;
        let drain = "trap 'printf ready >&0; sleep 3; touch drained; exit' TERM; touch begun; \
                     while true; do sleep 0.02; done";
        replace_program(gateway.folder(), &in_folder(&gateway, drain));
        let file = |name: &str| gateway.folder().join(name);
        gateway.upgrade();
        within("the start", until(|| file("begun").exists())).await;
        if stop {
            gateway.terminate();
        } else {
            gateway
                .log()
                .line(&["no upgrade, this process continues"])
                .await;
            gateway.connect("/s").await.id().await;
        }
        within("the drain", until(|| file("drained").exists())).await;
        if stop {
            assert_eq!(gateway.ended().await, Some(0));
        }
    }
}
