//! Floods within all limits of size: endless fragments, endless control frames, lengths in a longer form; and floods of
//! many clients together.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use lockgate_tests::{Duplex, Frame, Gateway, Opcode, RawClient, Request, within};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use crate::{LOCKGATE, echo, echo_with, probe_configuration, wire::clients};

/// Fragments that a message may have beyond those that its length allows.
const FRAGMENTS: usize = 1_024;

/// The frames of a text message of `fragments` fragments, each with the payload `each`.
fn message(fragments: usize, each: &[u8]) -> Vec<u8> {
    let mut bytes = Frame::new(Opcode::TEXT, each).unfinished().bytes();
    for _ in 2..fragments {
        bytes.extend(Frame::new(Opcode::CONTINUATION, each).unfinished().bytes());
    }
    bytes.extend(Frame::new(Opcode::CONTINUATION, each).bytes());
    bytes
}

#[tokio::test]
async fn endless_empty_fragments_close_with_a_policy_violation() {
    let gateway = echo().await;
    for mut client in clients(&gateway).await {
        for _ in 0..3 {
            client.send_bytes(&message(FRAGMENTS, b"")).await;
            client.expect("").await;
        }
        client.send_bytes(&message(FRAGMENTS + 1, b"")).await;
        client.expect_close(1008).await;
    }
}

#[tokio::test]
async fn honest_fragments_of_a_large_message_pass() {
    let gateway = echo().await;
    for mut client in clients(&gateway).await {
        client.send_bytes(&message(2_000, &[b'x'; 64])).await;
        client.expect(&"x".repeat(128_000)).await;
    }
}

#[tokio::test]
async fn endless_pings_close_with_a_policy_violation() {
    let gateway = echo().await;
    let ping = Frame::new(Opcode::PING, "").bytes();
    for mut client in clients(&gateway).await {
        // A few together are harmless.
        client.send_bytes(&ping.repeat(50)).await;
        for _ in 0..50 {
            assert_eq!(client.frame().await.unwrap().opcode, Opcode::PONG);
        }
        client.send(&Frame::text("still here")).await;
        client.expect("still here").await;
        client.send_bytes(&ping.repeat(1_000)).await;
        client.expect_close(1008).await;
    }
    for mut client in clients(&gateway).await {
        client
            .send_bytes(&Frame::new(Opcode::PONG, "").bytes().repeat(1_000))
            .await;
        client.expect_close(1008).await;
    }
}

#[tokio::test]
async fn length_in_a_longer_form_is_a_protocol_error() {
    let gateway = echo().await;
    // RFC 6455 §5.2 requires the minimal number of bytes. Here 125 takes two, and 5 and 65,535 take eight.
    for (length, payload) in [
        (&[0x80 | 126, 0, 125][..], 125),
        (&[0x80 | 127, 0, 0, 0, 0, 0, 0, 0, 5], 5),
        (&[0x80 | 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff], 65_535),
    ] {
        for mut client in clients(&gateway).await {
            let frame = [&[0x81], length, &[0; 4], &vec![b'x'; payload]].concat();
            client.send_bytes(&frame).await;
            client.expect_close(1002).await;
        }
    }
}

#[tokio::test]
async fn flood_bounds_are_those_of_the_stage() {
    let gateway = echo_with("limits = { fragments = 3, control_frames_per_s = 1 }").await;
    let pings = |count| Frame::new(Opcode::PING, "").bytes().repeat(count);
    for mut client in clients(&gateway).await {
        client.send_bytes(&message(3, b"x")).await;
        client.expect("xxx").await;
        // The burst is five seconds' worth.
        client.send_bytes(&pings(5)).await;
        for _ in 0..5 {
            assert_eq!(client.frame().await.unwrap().opcode, Opcode::PONG);
        }
        client.send_bytes(&message(4, b"x")).await;
        client.expect_close(1008).await;
    }
    for mut client in clients(&gateway).await {
        client.send_bytes(&pings(50)).await;
        client.expect_close(1008).await;
    }
}

#[tokio::test]
async fn unfinished_message_closes_its_connection() {
    let gateway = echo_with("limits = { message_timeout_s = 1 }").await;
    for mut client in clients(&gateway).await {
        client.send(&Frame::text("begun").unfinished()).await;
        client.expect_close(1008).await;
    }
    // Half a frame does not complete a message either.
    for mut client in clients(&gateway).await {
        let bytes = Frame::text("begun").bytes();
        client.send_bytes(&bytes[..bytes.len() - 1]).await;
        client.expect_close(1008).await;
    }
    // A complete message has no such deadline, however quiet its client.
    for mut client in clients(&gateway).await {
        client.send(&Frame::text("ended")).await;
        client.expect("ended").await;
        client.send(&Frame::text("begun").unfinished()).await;
        client.expect_close(1008).await;
    }
}

/// KiB that the gateway may grow by when a thousand clients declare lengths and send no payload.
const DECLARED_KIB: usize = 2 << 10;

/// KiB that the gateway may grow by when a client sends pings and does not read the pongs.
const PINGED_KIB: usize = 1 << 10;

/// Resident memory of the gateway's process in KiB.
pub(crate) fn resident_kib(gateway: &Gateway) -> usize {
    let folder = gateway.folder().to_str().unwrap();
    let processes = fs::read_dir("/proc").unwrap();
    let own = processes
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| {
            let words = fs::read(path.join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&words).contains(folder)
        });
    let status = fs::read_to_string(own.expect("the gateway runs").join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap()
}

/// Opens `count` connections, each of which has had an answer.
async fn many(gateway: &Gateway, count: usize) -> Vec<RawClient> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = gateway.ws("/s").open_raw().await;
        client.send(&Frame::text("here")).await;
        client.expect("here").await;
        clients.push(client);
    }
    clients
}

/// The raw stream of a connection after its 101.
async fn opened(request: &Request) -> Box<dyn Duplex> {
    let mut stream = within("the connection", request.stream()).await.unwrap();
    stream.write_all(&request.bytes()).await.unwrap();
    let mut head = Vec::new();
    let read = async {
        while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.unwrap() > 0 {}
    };
    within("the 101", read).await;
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    stream
}

#[tokio::test]
async fn declared_lengths_hold_no_memory() {
    const CLIENTS: usize = 1_000;
    let gateway = echo().await;
    // The first round fills the allocator, the second is measured.
    for round in 0..2 {
        let mut clients = many(&gateway, CLIENTS).await;
        let before = resident_kib(&gateway);
        for (number, client) in clients.iter_mut().enumerate() {
            let length = [i64::MAX as u64, 1 << 62, 1 << 32, (128 << 10) + 1][number % 4];
            let mut bytes = Frame::new(Opcode::BINARY, "").declaring(length).bytes();
            bytes.extend([7; 1_000]);
            client.send_bytes(&bytes).await;
        }
        for client in &mut clients {
            client.expect_close(1009).await;
        }
        let grown = resident_kib(&gateway).saturating_sub(before);
        eprintln!("{CLIENTS} declared lengths, round {round}: {grown} KiB more");
        assert!(grown <= DECLARED_KIB, "{grown} KiB");
    }
    // The largest length that is allowed, 128 KiB, is not reserved before the payload comes either; a read buffer is.
    let mut clients = many(&gateway, CLIENTS).await;
    let before = resident_kib(&gateway);
    for client in &mut clients {
        let frame = Frame::new(Opcode::BINARY, "").declaring(128 << 10);
        client.send(&frame).await;
    }
    many(&gateway, 20).await;
    let grown = resident_kib(&gateway).saturating_sub(before);
    eprintln!("{CLIENTS} lengths within the limit: {grown} KiB more");
    assert!(grown <= CLIENTS * 16, "{grown} KiB");
}

#[tokio::test]
async fn pings_of_a_client_that_reads_no_pongs_hold_no_memory() {
    // The highest rate that can be configured, so that only memory could end it.
    let gateway = echo_with("limits = { control_frames_per_s = 10000, stall_timeout_s = 2 }").await;
    for mut client in clients(&gateway).await {
        client
            .send_bytes(&Frame::new(Opcode::PING, "").bytes())
            .await;
        assert_eq!(client.frame().await.unwrap().opcode, Opcode::PONG);
    }
    for request in [gateway.ws("/s"), gateway.wss("/s")] {
        let before = resident_kib(&gateway);
        let mut stream = opened(&request.receive_buffer(4_096)).await;
        let pings = Frame::new(Opcode::PING, [b'p'; 125])
            .bytes()
            .repeat(8 * 1_024);
        let mut sent = 0;
        let flooding = async {
            // 60 MB, or until the gateway closes.
            while sent < 60_000_000 && stream.write_all(&pings).await.is_ok() {
                sent += pings.len();
            }
        };
        within("a flood to end", flooding).await;
        let grown = resident_kib(&gateway).saturating_sub(before);
        eprintln!(
            "{} MB of pings went out: {grown} KiB more",
            sent / 1_000_000
        );
        assert!(grown <= PINGED_KIB, "{grown} KiB");
        assert!(sent < 60_000_000, "nothing ends a flood of pings");
    }
    many(&gateway, 1).await;
}

/// Empty fragments, one by one.
#[tokio::test]
async fn one_fragment_over_the_bound_closes_the_connection() {
    let gateway = echo().await;
    for mut client in clients(&gateway).await {
        client
            .send(&Frame::new(Opcode::BINARY, "").unfinished())
            .await;
        let empty = Frame::new(Opcode::CONTINUATION, "").unfinished().bytes();
        client.send_bytes(&empty.repeat(FRAGMENTS - 1)).await;
        // At the bound the connection is open: a ping is answered.
        client.send(&Frame::new(Opcode::PING, "")).await;
        assert_eq!(client.frame().await.unwrap().opcode, Opcode::PONG);
        client.send_bytes(&empty).await;
        client.expect_close(1008).await;
    }
}

/// A socket whose client sends a byte now and then is closed as a silent one is.
#[tokio::test]
async fn dripping_clients_are_closed_while_good_ones_connect() {
    /// Clients of each kind: together nearly as many as the limit of handshakes.
    const DRIPPING: usize = 500;
    /// 250 ms is the aim; the rest is for a debug build beside other tests.
    const GOOD_P99: Duration = Duration::from_secs(1);
    let gateway = echo().await;
    let (over, mut times) = (Arc::new(AtomicUsize::new(0)), Vec::new());
    let mut dripping = JoinSet::new();
    for address in [gateway.plain(), gateway.secure()] {
        // An endless head, and an endless TLS ClientHello.
        let bytes = if address == gateway.plain() {
            [
                b"GET /s HTTP/1.1\r\nHost: localhost\r\nX: ".to_vec(),
                vec![b'x'; 4_096],
            ]
            .concat()
        } else {
            [
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
                vec![7; 4_096],
            ]
            .concat()
        };
        for _ in 0..DRIPPING {
            let (bytes, over) = (bytes.clone(), Arc::clone(&over));
            dripping.spawn(async move {
                let mut socket = TcpStream::connect(address).await.unwrap();
                let began = Instant::now();
                let (mut reader, mut writer) = socket.split();
                let drip = async {
                    let mut tick = tokio::time::interval(Duration::from_millis(100));
                    for byte in bytes {
                        tick.tick().await;
                        if writer.write_all(&[byte]).await.is_err() {
                            break;
                        }
                    }
                    std::future::pending::<()>().await;
                };
                let mut answer = Vec::new();
                tokio::select! {
                    () = drip => {}
                    _ = reader.read_to_end(&mut answer) => {}
                }
                over.fetch_add(1, Ordering::Relaxed);
                (answer, began.elapsed())
            });
        }
    }
    // Meanwhile other clients connect and leave.
    while over.load(Ordering::Relaxed) < DRIPPING {
        for request in [gateway.ws("/s"), gateway.wss("/s")] {
            let asked = Instant::now();
            let mut client = request.open().await;
            client.send("good").await;
            client.expect("good").await;
            times.push(asked.elapsed());
        }
    }
    let mut longest = Duration::ZERO;
    let all = async {
        while let Some(ended) = dripping.join_next().await {
            let (answer, took) = ended.unwrap();
            let told = answer.is_empty()
                || answer.starts_with(b"HTTP/1.1 408 ")
                || answer.first() == Some(&0x15);
            assert!(told, "{:?}", String::from_utf8_lossy(&answer));
            longest = longest.max(took);
        }
    };
    within("the end of every dripping client", all).await;
    times.sort_unstable();
    let (clients, p99) = (times.len(), times[times.len() * 99 / 100]);
    eprintln!(
        "{DRIPPING} dripping heads and as many TLS handshakes ended after {longest:?} at most; of {clients} good \
         clients p99 was {p99:?}"
    );
    assert!(longest < Duration::from_secs(6), "{longest:?}");
    assert!(
        clients >= 20 && p99 < GOOD_P99,
        "{clients} clients, {p99:?}"
    );
}

/// A head in many packets costs no more than in one: it is not parsed again from its start each time.
#[tokio::test]
async fn head_of_one_byte_packets_is_let_in() {
    let gateway = echo().await;
    let bytes = gateway.ws("/s").header("X", &"x".repeat(4_000)).bytes();
    let mut stream = gateway.ws("/s").stream().await.unwrap();
    for byte in bytes {
        stream.write_all(&[byte]).await.unwrap();
        stream.flush().await.unwrap();
    }
    let mut start = [0; 12];
    within("the answer", stream.read_exact(&mut start))
        .await
        .unwrap();
    assert_eq!(&start, b"HTTP/1.1 101");
}

#[tokio::test]
async fn connections_over_the_limit_are_refused_before_any_work() {
    const LIMIT: usize = 40;
    const BURST: usize = 200;
    let limits = format!("[limits]\nconnections = {LIMIT}\n");
    let gateway = LOCKGATE
        .serve(&(limits + &probe_configuration("", "limits = { waiting = 1000 }")))
        .await;
    // The handler prints a line for each client that reaches it.
    let target = "/s?do=%5B%7B%22do%22:%22print%22,%22text%22:%22let+in%22%7D%5D";
    for round in 1..=2 {
        let mut burst = JoinSet::new();
        for _ in 0..BURST {
            let request = gateway.ws(target);
            burst.spawn(async move { request.attempt().await });
        }
        let mut held = Vec::new();
        while let Some(attempt) = burst.join_next().await {
            match attempt.unwrap() {
                Ok(client) => held.push(client),
                Err(answer) => assert!(answer.status == 503 && answer.closed, "{answer:?}"),
            }
        }
        assert_eq!(held.len(), LIMIT, "round {round}");
        // A line of the log comes a moment after the answer.
        let last = LIMIT * round - 1;
        gateway.log().nth_line(last, &["\"let in\""]).await;
        let handled = gateway.log().lines();
        let handled = handled.iter().filter(|line| line.contains("\"let in\""));
        assert_eq!(handled.count(), LIMIT * round);
        // Clients that were let in are served, and make room.
        for client in &mut held {
            client.id().await;
        }
        let mut leaving = JoinSet::new();
        for client in held {
            leaving.spawn(client.close(1000, ""));
        }
        while let Some(code) = leaving.join_next().await {
            assert_eq!(code.unwrap(), 1000);
        }
        let all_gone = gateway.log();
        all_gone.nth_line(LIMIT * round - 1, &["ended: "]).await;
        let room = Instant::now();
        within("room again", async {
            while gateway.ws("/s").attempt().await.is_err() {}
        })
        .await;
        eprintln!("room again after {:?}", room.elapsed());
        gateway
            .log()
            .nth_line((LIMIT + 1) * round - 1, &["ended: "])
            .await;
    }
}

/// The buffer of a large message is freed though a byte of the next one has come behind it.
#[tokio::test]
async fn large_message_leaves_no_buffer() {
    const CLIENTS: usize = 100;
    let gateway = echo().await;
    let mut clients = many(&gateway, CLIENTS).await;
    let next = Frame::text("next").bytes();
    for (_, rest) in [next.split_at(1), next.split_at(1)] {
        let before = resident_kib(&gateway);
        let large = Frame::new(Opcode::BINARY, vec![7; 120 << 10]).bytes();
        for client in &mut clients {
            client.send_bytes(&[&large, &next[..1]].concat()).await;
            assert_eq!(client.data().await.unwrap().payload.len(), 120 << 10);
        }
        let each = resident_kib(&gateway).saturating_sub(before) / CLIENTS;
        eprintln!("a large message and a byte: {each} KiB");
        assert!(each < 64, "{each} KiB");
        for client in &mut clients {
            client.send_bytes(rest).await;
            client.expect("next").await;
        }
    }
}

/// All in one write: half of a message has the slow path read it all.
#[tokio::test]
async fn messages_before_a_flood_in_the_same_read_are_answered_first() {
    let gateway = echo().await;
    let mut bytes = Frame::text("one ").unfinished().bytes();
    bytes.extend(Frame::new(Opcode::CONTINUATION, "message").bytes());
    bytes.extend(Frame::text("another").bytes());
    bytes.extend(Frame::new(Opcode::PING, "p").bytes());
    // A length of 3 in two bytes.
    bytes.extend([0x81, 0x80 | 126, 0, 3, 1, 2, 3, 4, 0, 0, 0]);
    for mut client in clients(&gateway).await {
        client.send_bytes(&bytes).await;
        client.expect("one message").await;
        client.expect("another").await;
        let pong = client.frame().await.unwrap();
        assert_eq!((pong.opcode, &pong.payload[..]), (Opcode::PONG, &b"p"[..]));
        client.expect_close(1002).await;
    }
}
