//! The module `@lockgate/client` in a browser, over what the browser has: WebTransport, WebSockets over each version of HTTP.

use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use lockgate_tests::{
    Certificate, Chromium, Gateway, Issuer, LONG_PATIENCE, Node, Python, echo_configuration,
    probe_configuration,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::LOCKGATE;
use crate::clients::{check, script};
use crate::tokens::behind;

/// A page of the gateway's origin in a browser. It ends with this value.
struct Page {
    browser: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Page {
    async fn open(gateway: &Gateway, flags: &[&str]) -> Self {
        let node = Node::find(LOCKGATE.target()).unwrap();
        let chromium = Chromium::find().unwrap();
        let origin = format!("https://{}", gateway.secure());
        let client = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../guest-sdk/js/client/index.js"
        );
        let certificate = STANDARD.encode(gateway.wss("/s").certificate().await);
        let chromium = chromium.path.to_str().unwrap();
        let words = [&[chromium, &origin, client, &certificate][..], flags].concat();
        let mut browser = Command::from(node.command(&script("node/page.cjs"), &words));
        browser.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut browser = browser.kill_on_drop(true).spawn().unwrap();
        Self {
            input: browser.stdin.take().unwrap(),
            output: BufReader::new(browser.stdout.take().unwrap()),
            browser,
        }
    }

    /// Gives the value of an expression of one line.
    async fn run(&mut self, expression: &str) -> Value {
        let line = format!("{expression}\n");
        self.input.write_all(line.as_bytes()).await.unwrap();
        let mut value = String::new();
        let read = self.output.read_line(&mut value);
        let read = timeout(LONG_PATIENCE, read).await;
        assert!(read.unwrap().unwrap() > 0, "no value of {expression}");
        serde_json::from_str(&value).unwrap()
    }

    /// Waits for an event, and gives those up to it.
    async fn until(&mut self, event: &str) -> Value {
        self.run(&format!("until({})", json!(event))).await
    }

    /// Ends the browser in order, with its profile.
    async fn end(mut self) {
        drop(self.input);
        timeout(LONG_PATIENCE, self.browser.wait())
            .await
            .unwrap()
            .unwrap();
    }
}

pub(crate) async fn client_in_a_browser_talks_by_webtransport() {
    let gateway = LOCKGATE.serve_quic(&probe_configuration("", "")).await;
    let mut page = Page::open(&gateway, &[]).await;
    page.run("begin('/s')").await;
    assert_eq!(page.until("open").await, json!(["open webtransport"]));
    gateway.log().line(&["connected", "\"http\":\"3\""]).await;
    // The last messages before a close arrive, both ways and each time.
    for round in 0..10 {
        let id = page
            .run("(connection.send('[{\"do\": \"event\"}]'), until('['))")
            .await;
        let told: Value = serde_json::from_str(id[0].as_str().unwrap()).unwrap();
        let own = told[0]["connection"].as_str().unwrap();
        let steps = json!([
            {"do": "send", "id": own, "text": "κόσμε"},
            {"do": "send", "id": own, "text": "last"},
            {"do": "close", "id": own, "code": 4_001, "reason": "enough"},
        ]);
        let send = format!("connection.send({})", json!(steps.to_string()));
        page.run(&send).await;
        let seen = page.until("close").await;
        let end = "close 4001 enough true last";
        let answer = r#"["ok","ok","ok"]"#;
        let expected = json!(["κόσμε", "last", answer, end]);
        assert_eq!(seen, expected, "round {round}");
        page.run("begin('/s')").await;
        page.until("open").await;
    }
    page.run("connection.close(4002, 'bye')").await;
    assert_eq!(
        page.until("close").await,
        json!(["close 4002 bye true last"])
    );
    gateway.log().line(&["4002 \\\"bye\\\""]).await;
    page.end().await;
}

pub(crate) async fn client_in_a_browser_sends_every_length_in_order() {
    let gateway = LOCKGATE.serve_quic(&echo_configuration("")).await;
    let mut page = Page::open(&gateway, &[]).await;
    page.run("begin('/s')").await;
    page.until("open webtransport").await;
    let lengths = [0, 1, 125, 126, 65_535, 65_536, 131_072];
    for length in lengths {
        let sent = page.run(&format!("(connection.send('x'.repeat({length})), connection.send(new Uint8Array([7, {length} % 251])), until('7,').then((seen) => seen.map((text) => text.length)))")).await;
        let binary = format!("7,{}", length % 251).len();
        assert_eq!(sent, json!([length, binary]));
    }
    // Two hundred without a pause, and the close behind them.
    let many = "(() => { for (let n = 0; n < 200; n += 1) connection.send(String(n)); })()";
    page.run(many).await;
    let seen = page.until("199").await;
    let expected: Vec<_> = (0..200).map(|number| number.to_string()).collect();
    assert_eq!(seen, json!(expected));
    page.run("connection.drained()").await;
    assert_eq!(page.run("connection.bufferedAmount").await, 0);
    page.end().await;
}

pub(crate) async fn client_in_a_browser_falls_back_to_a_websocket() {
    // No UDP at all: the host is remembered.
    let gateway = LOCKGATE.serve(&echo_configuration("")).await;
    let mut page = Page::open(&gateway, &[]).await;
    for _ in 0..2 {
        page.run("begin('/s')").await;
        assert_eq!(page.until("open").await, json!(["open websocket"]));
        let seen = page.run("(connection.send('hello'), until('hello'))").await;
        assert_eq!(seen, json!(["hello"]));
        page.run("connection.close()").await;
        page.until("close").await;
    }
    let known = "Object.keys(sessionStorage).length";
    assert_eq!(page.run(known).await, 1);
    page.end().await;
    // A certificate that the page does not know.
    let gateway = LOCKGATE.serve_quic(&echo_configuration("")).await;
    let mut page = Page::open(&gateway, &[]).await;
    page.run("(hashes[0].value[0] ^= 1, begin('/s'))").await;
    assert_eq!(page.until("open").await, json!(["open websocket"]));
    page.end().await;
    // A refusal is no reason to remember the host.
    let mut page = Page::open(&gateway, &[]).await;
    page.run("begin('/nowhere')").await;
    let seen = page.until("close").await;
    assert_eq!(seen, json!(["close 1006  false again"]));
    assert_eq!(page.run(known).await, 0);
    page.end().await;
}

pub(crate) async fn client_in_a_browser_has_a_websocket_over_http3() {
    let gateway = LOCKGATE.serve_quic(&echo_configuration("")).await;
    let force = format!("--origin-to-force-quic-on={}", gateway.secure());
    let flags = ["--enable-features=EnableWebsocketsOverHttp3", &force];
    let mut page = Page::open(&gateway, &flags).await;
    // A WebSocket takes a connection that is there.
    let protocol = "fetch('/s').then((answer) => answer.text()).then(() => performance.getEntriesByName(location.origin + '/s')[0].nextHopProtocol)";
    assert_eq!(page.run(protocol).await, "h3");
    page.run("begin('/s', { webTransport: false })").await;
    page.until("open websocket").await;
    gateway.log().line(&["connected", "\"http\":\"3\""]).await;
    page.run("connection.close(4003, 'done')").await;
    assert_eq!(
        page.until("close").await,
        json!(["close 4003 done true last"])
    );
    page.end().await;
}

pub(crate) async fn client_in_a_browser_comes_back_after_a_restart() {
    let folder = TempDir::new().unwrap();
    let tls = Certificate::of_two_weeks().write_as(folder.path(), "gateway");
    let configuration = |port: u16| {
        let echo = echo_configuration("");
        format!(
            "limits.drain_s = 1\nlimits.reconnect_jitter_s = 1\n[[listeners]]\naddress = \"127.0.0.1:{port}\"\ntls = {tls}\nquic = true\n{echo}"
        )
    };
    let mut gateway = LOCKGATE.serve_as_written(&configuration(0)).await;
    let port = gateway.secure().port();
    let mut page = Page::open(&gateway, &[]).await;
    page.run("begin('/s')").await;
    page.until("open webtransport").await;
    gateway.terminate();
    assert_eq!(gateway.ended().await, Some(0));
    let seen = page.until("close").await;
    let advice = "close 1001 Going away; reconnect in 0-1 s true again";
    assert_eq!(seen, json!([advice]));
    let _gateway = LOCKGATE.serve_as_written(&configuration(port)).await;
    page.until("open").await;
    let seen = page.run("(connection.send('hello'), until('hello'))").await;
    assert_eq!(seen, json!(["hello"]));
    page.end().await;
}

/// By either transport, with the pair that the gateway takes out of the list of subprotocols.
pub(crate) async fn client_in_a_browser_comes_back_with_a_fresh_token() {
    let issuer = Issuer::start().await;
    let sources = r#"["route.request.header.Sec-WebSocket-Protocol"]"#;
    let configuration = behind(&issuer, sources) + "on_expiry = \"close\"\n";
    let gateway = LOCKGATE.serve_quic(&configuration).await;
    let mut page = Page::open(&gateway, &[]).await;
    for transport in ["webtransport", "websocket"] {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let short = issuer.token(json!({"exp": now.as_secs() + 5}));
        let long = issuer.token(json!({}));
        let begin = format!(
            "(tokens = [{}, {}], begin('/s', {{ webTransport: {} }}, async () => ['bearer', tokens.shift()]))",
            json!(short),
            json!(long),
            transport == "webtransport"
        );
        page.run(&begin).await;
        let open = format!("open {transport}");
        assert_eq!(page.until("open").await, json!([open]));
        let seen = page.until("close").await;
        assert_eq!(seen, json!(["close 1008 authorization expired true again"]));
        assert_eq!(page.until("open").await, json!([open]));
        page.run("connection.send('[{\"do\": \"who\"}]')").await;
        let said = page.until("[{").await;
        assert!(said[0].as_str().unwrap().contains("ada"), "{said}");
        page.run("connection.close()").await;
        page.until("close").await;
    }
    page.end().await;
}

/// One tab by WebTransport, one by WebSocket, and aioquic.
pub(crate) async fn browser_tabs_and_aioquic_chat_by_different_transports() {
    let node = Node::find(LOCKGATE.target()).unwrap();
    let python = Python::find(LOCKGATE.target()).unwrap();
    let chromium = Chromium::find().unwrap();
    let folder = LOCKGATE.copy_of("chat", "mixed-chat");
    let gateway = Gateway::start_dev(LOCKGATE.dev(&folder, &[])).await;
    let port = gateway.secure().port();
    // `dev` says how a browser gets the page over HTTP/3.
    let told = gateway.output().line(&["HTTP/3", "chromium"]).await;
    let named = |name: &str| told.split_whitespace().find(|word| word.starts_with(name));
    let keys = named("--ignore-certificate-errors-spki-list=").unwrap();
    assert!(named("--origin-to-force-quic-on=").is_some(), "{told}");
    let force = format!("--origin-to-force-quic-on=127.0.0.1:{port}");
    let url = format!("https://127.0.0.1:{port}/");
    let words = [chromium.path.to_str().unwrap(), &url, keys, &force];
    let (pages, peer) = (
        script("node/mixed_chat.cjs"),
        script("python/aioquic_chat.py"),
    );
    let peer = peer.to_str().unwrap().to_owned();
    let stage = format!("{url}dev");
    let words_of_peer = [&*peer, &stage];
    let (pages, peer) = tokio::join!(
        node.run(&pages, &words),
        python.run("python", &words_of_peer)
    );
    let (pages, peer) = (check(&pages), check(&peer));
    let said: Value = serde_json::from_str(pages.lines().last().unwrap()).unwrap();
    assert_eq!(
        said,
        json!({"page": "h3", "transports": ["webtransport", "websocket"]})
    );
    assert_eq!(peer.trim(), "ok chat");
}
