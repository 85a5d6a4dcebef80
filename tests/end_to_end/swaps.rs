//! Many swaps under load: no connection closes; no message is lost, doubled or out of order; memory does not grow.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use lockgate_tests::{replace, version};
use tokio::{task::JoinSet, time::interval};

use crate::reload::Served;

/// Kilobytes of memory, and open files, of a process.
fn held(process: u32) -> (u64, usize) {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let memory = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    let files = fs::read_dir(format!("/proc/{process}/fd")).unwrap().count();
    (memory, files)
}

/// Instances of a plugin by default: as many calls at once make as many.
const INSTANCES: usize = 256;

/// Memory and files of the gateway once it has made every instance that it may. A busy moment of the machine could make
/// them before one measurement and not before the other; this way the difference is what the swaps have left.
async fn held_by_a_crowd(served: &Served) -> (u64, usize) {
    let mut clients = Vec::new();
    for _ in 0..INSTANCES {
        clients.push(served.connect().await);
    }
    for client in &mut clients {
        client.send("wait 1000").await;
    }
    for client in &mut clients {
        let text = client.text().await;
        assert!(text.ends_with(" wait 1000"), "{text}");
    }
    held(served.gateway.id())
}

/// Swaps `swaps` times under `clients` clients. Each waits for its answer before it sends again: at once, or at its
/// next `turn`. (A thousand clients at full speed leave two cores no time to compile.)
async fn swap_under_load(swaps: u32, clients: usize, turn: Option<Duration>) {
    // No call is refused while a crowd holds all instances, and none is cut off when the machine stalls for a while.
    let served = Served::with(
        "limits = { waiting = 4096, cpu_ms = 20000, deadline_ms = 20000, retire_s = 60 }",
    )
    .await;
    let (done, messages) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    // The version whose reload has returned: an older one must not answer a later message.
    let returned = Arc::new(AtomicU32::new(1));
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        let mut client = served.connect().await;
        let (done, messages, returned) = (
            Arc::clone(&done),
            Arc::clone(&messages),
            Arc::clone(&returned),
        );
        tasks.spawn(async move {
            let mut sent = 0;
            let mut last = 0;
            let mut turns = turn.map(interval);
            while !done.load(Ordering::Relaxed) {
                if let Some(turns) = &mut turns {
                    turns.tick().await;
                }
                let oldest = returned.load(Ordering::SeqCst);
                client.send(sent.to_string()).await;
                let text = client.text().await;
                let mut words = text.split(' ');
                let mut word = || words.next().unwrap().parse::<u32>().unwrap();
                let (first, second, echoed) = (word(), word(), word());
                assert_eq!((first, echoed), (second, sent), "{text}");
                assert!(
                    first >= oldest && first >= last,
                    "{text} after {oldest} and {last}"
                );
                last = first;
                sent += 1;
                messages.fetch_add(1, Ordering::Relaxed);
            }
            client.close(1000, "").await;
        });
    }
    let began = Instant::now();
    let mut early = None;
    for number in 2..=swaps + 1 {
        replace(&served.component, &version(number, '-'));
        served.reload().await;
        returned.store(number, Ordering::SeqCst);
        if number == swaps.min(50) {
            early = Some(held_by_a_crowd(&served).await);
        }
    }
    let rate = messages.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
    let (memory, files) = held_by_a_crowd(&served).await;
    let (memory_before, files_before) = early.unwrap();
    done.store(true, Ordering::Relaxed);
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    eprintln!(
        "{swaps} swaps, {rate:.0} messages/s; {memory_before} KiB then {memory} KiB, {files_before} files then {files}"
    );
    if swaps > 100 {
        assert!(
            memory * 10 <= memory_before * 11,
            "{memory_before} KiB grew to {memory} KiB"
        );
        assert!(
            files <= files_before + 4,
            "{files_before} files became {files}"
        );
        assert!(rate >= 500.0, "only {rate:.0} messages/s");
    }
}

/// A message never sees new code with old variables, or the reverse. The few instances make messages wait between their
/// stage and their call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn message_sees_code_and_variables_of_one_reload() {
    let served = Served::with("limits = { instances = 2, waiting = 4096 }").await;
    let folder = served.component.parent().unwrap();
    for number in [1, 2] {
        let component = folder.join(format!("{number}.wasm"));
        fs::write(component, version(number, '-')).unwrap();
    }
    let text = fs::read_to_string(served.file()).unwrap();
    // Odd reloads bring version 1 and even ones version 2, each with a variable of the reload's number.
    let reload = async |number: u32| {
        let variable = format!("[apis.a.stages.s.variables]\nreload = \"{number}\"");
        let component = format!("{}.wasm", 2 - number % 2);
        let text = text.replace("[apis.a.stages.s]", &variable);
        fs::write(served.file(), text.replace("versions.wasm", &component)).unwrap();
        served.reload().await;
    };
    reload(1).await;
    let (done, returned) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU32::new(1)),
    );
    let mut tasks = JoinSet::new();
    for _ in 0..40 {
        let mut client = served.connect().await;
        let (done, returned) = (Arc::clone(&done), Arc::clone(&returned));
        tasks.spawn(async move {
            let mut last = 1;
            while !done.load(Ordering::Relaxed) {
                let oldest = returned.load(Ordering::SeqCst).max(last);
                client.send("variable reload").await;
                let text = client.text().await;
                let (version, number) = text.split_once(' ').unwrap();
                last = number.parse().unwrap();
                assert_eq!(version, (2 - last % 2).to_string(), "mixed: {text}");
                assert!(last >= oldest, "{last} after {oldest}");
            }
        });
    }
    for number in 2..60 {
        reload(number).await;
        returned.store(number, Ordering::SeqCst);
    }
    done.store(true, Ordering::Relaxed);
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swaps_lose_no_message() {
    swap_under_load(25, 40, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_swaps_leak_nothing() {
    swap_under_load(300, 300, Some(Duration::from_millis(250))).await;
}

/// This takes minutes, since each swap reads its file twice and compiles it: a step of its own in `.ci/run`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a load test"]
async fn thousand_swaps_under_a_thousand_connections_lose_no_message() {
    swap_under_load(1_000, 1_000, Some(Duration::from_secs(1))).await;
}
