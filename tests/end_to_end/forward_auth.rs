//! Forward auth: an HTTP endpoint decides who may connect, asked as nginx, Traefik and oauth2-proxy know it.

use std::sync::{Arc, Mutex};

use lockgate_tests::{Collector, Gateway, probe_configuration, within};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::LOCKGATE;
use crate::connect::check_refusal;

/// An endpoint that gives one answer, and keeps the heads of the requests that it gets.
pub(crate) struct Endpoint {
    pub(crate) url: String,
    heads: Arc<Mutex<Vec<String>>>,
    answer: Arc<Mutex<Option<Vec<u8>>>>,
    _serving: JoinSet<()>,
}

impl Endpoint {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let answer = Arc::<Mutex<Option<Vec<u8>>>>::default();
        let url = format!("http://{}/auth?x=1", listener.local_addr().unwrap());
        let (kept, given) = (Arc::clone(&heads), Arc::clone(&answer));
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut answering = JoinSet::new();
            while let Ok((mut socket, _)) = listener.accept().await {
                let (heads, answer) = (Arc::clone(&kept), Arc::clone(&given));
                answering.spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let Ok(byte) = socket.read_u8().await else {
                            return;
                        };
                        head.push(byte);
                    }
                    heads.lock().unwrap().push(String::from_utf8(head).unwrap());
                    let answer = answer.lock().unwrap().clone();
                    match answer {
                        Some(answer) => drop(socket.write_all(&answer).await),
                        // It never answers.
                        None => drop(socket.read_u8().await),
                    }
                });
            }
        });
        Self {
            url,
            heads,
            answer,
            _serving: serving,
        }
    }

    pub(crate) fn answer(&self, status: &str, headers: &str, body: &str) {
        let length = body.len();
        *self.answer.lock().unwrap() = Some(format!(
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}"
        ).into_bytes());
    }

    pub(crate) fn last_head(&self) -> String {
        self.heads
            .lock()
            .unwrap()
            .last()
            .cloned()
            .unwrap_or_default()
    }

    /// Waits until it has got as many requests.
    pub(crate) async fn asked(&self, times: usize) {
        within("the endpoint is asked", async {
            while self.heads.lock().unwrap().len() < times {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    async fn gateway(&self, timeout_ms: u32) -> Gateway {
        self.gateway_with("", timeout_ms).await
    }

    /// As [`Self::gateway`], with more of the configuration before its own.
    pub(crate) async fn gateway_with(&self, more: &str, timeout_ms: u32) -> Gateway {
        let probe = probe_configuration("authorizer = \"team\"", "");
        let url = &self.url;
        let configuration = format!(
            "{more}{probe}\n[authorizers.team]\nforward = {{ url = {url:?}, principal = \"X-Auth-Request-User\", \
             values = {{ email = \"X-Auth-Request-Email\" }}, timeout_ms = {timeout_ms} }}\n"
        );
        LOCKGATE.serve(&configuration).await
    }
}

#[tokio::test]
async fn endpoint_goes_on_in_the_trace_of_a_traced_handshake() {
    let (endpoint, collector) = (Endpoint::start().await, Collector::http().await);
    endpoint.answer("200 OK", "X-Auth-Request-User: ada\r\n", "");
    let otlp = format!("[otlp]\nendpoint = \"http://{}\"\n", collector.address());
    let gateway = endpoint.gateway_with(&otlp, 29_000).await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    gateway.ws("/s").header("traceparent", &parent).open().await;
    let handshake = collector
        .span("of the handshake", |span| span.kind == 2)
        .await;
    let told = format!("\r\ntraceparent: 00-{trace}-{}-01\r\n", handshake.id);
    assert!(
        endpoint.last_head().contains(&told),
        "{}",
        endpoint.last_head()
    );
    let asked = collector
        .span("of the authorizer", |span| span.name == "authorize team")
        .await;
    assert_eq!((&*asked.trace, &asked.parent), (trace, &handshake.id));
}

#[tokio::test]
async fn endpoint_gets_what_nginx_and_traefik_send_and_names_the_client() {
    let endpoint = Endpoint::start().await;
    let gateway = endpoint.gateway(29_000).await;
    // oauth2-proxy says 202.
    endpoint.answer(
        "202 Accepted",
        "X-Auth-Request-User: ada\r\nX-Auth-Request-Email: ada@example.com\r\n",
        "",
    );
    let request = gateway
        .wss("/s?room=a%20b")
        .header("Cookie", "session=1")
        .header("Authorization", "Basic YTpi")
        .header("X-Forwarded-User", "eve")
        .header("X-Forwarded-For", "203.0.113.9")
        .header("X_Forwarded_For", "203.0.113.9")
        .header("X.Forwarded_User", "eve")
        .header("X_Real-Ip", "203.0.113.9")
        .header("X_Original_Url", "/eve")
        .header("Proxy_Authorization", "eve")
        .header("Sec-WebSocket-Protocol", "chat");
    let mut client = request.open().await;
    let who = json!({"principal": "ada", "values": {"email": "ada@example.com"}});
    assert_eq!(client.step(json!({"do": "who"})).await, who);
    let head = endpoint.last_head().to_lowercase();
    assert!(head.starts_with("get /auth?x=1 http/1.1\r\n"), "{head}");
    let host = format!("x-forwarded-host: localhost:{}", gateway.secure().port());
    for line in [
        "x-forwarded-method: get",
        "x-forwarded-proto: https",
        "x-forwarded-uri: /s?room=a%20b",
        "x-forwarded-for: 127.0.0.1",
        "x-real-ip: 127.0.0.1",
        "cookie: session=1",
        "authorization: basic ytpi",
        &host,
    ] {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{line}: {head}");
    }
    for name in [
        "x-forwarded-user",
        "eve",
        "x_",
        "sec-websocket",
        "upgrade",
        "203.0.113.9",
    ] {
        assert!(!head.contains(name), "{name}: {head}");
    }
}

#[tokio::test]
async fn refusal_of_the_endpoint_goes_to_the_client() {
    let endpoint = Endpoint::start().await;
    let gateway = endpoint.gateway(29_000).await;
    endpoint.answer(
        "302 Found",
        "Location: https://login.example/\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Internal: canary\r\n\
         Content-Type: text/html\r\nContent-Encoding: br\r\n",
        "<p>log in</p>",
    );
    let refused = gateway.ws("/s").refused().await;
    assert_eq!(
        (refused.status, &*refused.body),
        (302, &b"<p>log in</p>"[..])
    );
    assert_eq!(refused.header("location"), Some("https://login.example/"));
    assert_eq!(refused.header("content-type"), Some("text/html"));
    assert_eq!(refused.header("content-encoding"), Some("br"));
    let cookies = refused
        .headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"));
    let cookies: Vec<_> = cookies.map(|(_, value)| value.as_str()).collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
    assert_eq!(refused.header("x-internal"), None);
    assert!(refused.closed);

    endpoint.answer(
        "401 Unauthorized",
        "WWW-Authenticate: Basic realm=\"team\"\r\n",
        "",
    );
    let refused = gateway.ws("/s").refused().await;
    check_refusal(&refused, 401, "Unauthorized");
    assert_eq!(
        refused.header("www-authenticate"),
        Some("Basic realm=\"team\"")
    );

    // A body up to the bound goes out, and one byte more does not.
    endpoint.answer(
        "403 Forbidden",
        "Content-Type: text/plain\r\n",
        &"x".repeat(16 << 10),
    );
    assert_eq!(gateway.ws("/s").refused().await.body.len(), 16 << 10);
    endpoint.answer(
        "403 Forbidden",
        "Content-Type: text/plain\r\nContent-Encoding: br\r\n",
        &"x".repeat((16 << 10) + 1),
    );
    let refused = gateway.ws("/s").refused().await;
    check_refusal(&refused, 403, "Forbidden");
    assert_eq!(refused.header("content-encoding"), None);
}

#[tokio::test]
async fn endpoint_that_fails_refuses_with_500() {
    let endpoint = Endpoint::start().await;
    let gateway = endpoint.gateway(500).await;
    // It does not answer in time.
    check_refusal(
        &gateway.ws("/s").refused().await,
        500,
        "Internal Server Error",
    );
    gateway.log().line(&["team", "timeout_ms"]).await;
    for (status, headers, body) in [
        ("503 Service Unavailable", "", "canary"),
        ("200 OK", "X-Auth-Request-User: a\tb\r\n", ""),
    ] {
        endpoint.answer(status, headers, body);
        check_refusal(
            &gateway.ws("/s").refused().await,
            500,
            "Internal Server Error",
        );
    }
    gateway.log().line(&["team", "503"]).await;
    *endpoint.answer.lock().unwrap() = Some("nonsense\r\n\r\n".into());
    check_refusal(
        &gateway.ws("/s").refused().await,
        500,
        "Internal Server Error",
    );
}

#[tokio::test]
async fn endpoint_that_hangs_leaves_room_for_others() {
    let (endpoint, other) = (Endpoint::start().await, Endpoint::start().await);
    other.answer("200 OK", "X-Auth-Request-User: ada\r\n", "");
    let url = &other.url;
    let more = format!(
        "[limits]\nhandshakes = 8\n[apis.a.stages.open]\n[apis.a.stages.other]\nauthorizer = \"other\"\n\
         [authorizers.other]\nforward = {{ url = {url:?}, principal = \"X-Auth-Request-User\" }}\n"
    );
    let gateway = endpoint.gateway_with(&more, 29_000).await;
    let client = async || gateway.ws("/s").refused().await;
    let hanging = async { tokio::join!(client(), client()) };
    let others = async {
        endpoint.asked(2).await;
        let refused = gateway.ws("/s").refused().await;
        check_refusal(&refused, 429, "Too Many Requests");
        gateway.log().line(&["team", "limits.handshakes"]).await;
        gateway.connect("/open").await.id().await;
        gateway.connect("/other").await.id().await;
    };
    tokio::select! {
        _ = hanging => panic!("the endpoint has not answered"),
        () = others => {}
    }
}

#[tokio::test]
async fn admission_without_a_valid_principal_is_a_failure() {
    let endpoint = Endpoint::start().await;
    let gateway = endpoint.gateway(29_000).await;
    for (headers, told) in [
        ("", "has no header x-auth-request-user"),
        ("X-Auth-Request-User:\r\n", "or an empty one"),
        (
            "X-Auth-Request-User: a\tb\r\n",
            "a name as its header x-auth-request-user",
        ),
    ] {
        endpoint.answer("200 OK", headers, "");
        let refused = gateway.ws("/s").refused().await;
        check_refusal(&refused, 500, "Internal Server Error");
        gateway.log().line(&["team", told]).await;
    }
    // ISO 8859-1, as some servers write names.
    endpoint.answer("200 OK", "X-Auth-Request-User: Zo\u{1}\r\n", "");
    for byte in endpoint.answer.lock().unwrap().iter_mut().flatten() {
        if *byte == 1 {
            *byte = 0xeb;
        }
    }
    let refused = gateway.ws("/s").refused().await;
    check_refusal(&refused, 500, "Internal Server Error");
    gateway.log().line(&["team", "is no UTF-8"]).await;
    // A value may be missing.
    endpoint.answer("200 OK", "X-Auth-Request-User: ada\r\n", "");
    let who = gateway.connect("/s").await.step(json!({"do": "who"})).await;
    assert_eq!(who, json!({"principal": "ada", "values": {}}));
}

#[tokio::test]
async fn secrets_in_the_address_of_the_endpoint_stay_out_of_the_log() {
    let mut endpoint = Endpoint::start().await;
    endpoint.url.push_str("&key=canary");
    let gateway = endpoint.gateway(500).await;
    gateway.ws("/s").refused().await;
    gateway.log().line(&["team", "/auth did not answer"]).await;
    for answer in ["HTTP/1.1 503 Oops\r\n\r\n", "nonsense\r\n\r\n"] {
        *endpoint.answer.lock().unwrap() = Some(answer.into());
        gateway.ws("/s").refused().await;
    }
    gateway.log().line(&["team", "/auth answered 503"]).await;
    gateway.log().line(&["team", "/auth cannot be asked"]).await;
    let lines = gateway.log().lines();
    let leaks: Vec<_> = lines
        .iter()
        .filter(|line| line.contains("canary"))
        .collect();
    assert!(leaks.is_empty(), "{leaks:#?}");
}

/// An endpoint that keeps connections, and closes one instead of a second answer on it. It may close them all at once.
/// It ends with its tasks.
async fn endpoint_that_closes_kept_connections(
    answers: bool,
) -> (String, Arc<Mutex<Vec<usize>>>, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/auth", listener.local_addr().unwrap());
    // The requests of each connection.
    let asked = Arc::<Mutex<Vec<usize>>>::default();
    let counts = Arc::clone(&asked);
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            let number = {
                let mut counts = counts.lock().unwrap();
                counts.push(0);
                counts.len() - 1
            };
            let counts = Arc::clone(&counts);
            connections.spawn(async move {
                loop {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let Ok(byte) = socket.read_u8().await else {
                            return;
                        };
                        head.push(byte);
                    }
                    let is_first = {
                        let mut counts = counts.lock().unwrap();
                        counts[number] += 1;
                        counts[number] == 1
                    };
                    if !is_first || !answers {
                        return;
                    }
                    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-User: ada\r\n\r\n";
                    socket.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    (url, asked, serving)
}

async fn serve_before(url: &str) -> Gateway {
    let probe = probe_configuration("authorizer = \"team\"", "");
    let forward =
        format!("[authorizers.team]\nforward = {{ url = {url:?}, principal = \"X-User\" }}\n");
    LOCKGATE.serve(&format!("{probe}\n{forward}")).await
}

#[tokio::test]
async fn endpoint_that_closes_a_kept_connection_is_asked_once_more() {
    let (url, asked, _serving) = endpoint_that_closes_kept_connections(true).await;
    let gateway = serve_before(&url).await;
    for _ in 0..3 {
        gateway.connect("/s").await.id().await;
    }
    // The first connection is kept, and fails; those that are made then are not kept.
    let asked = asked.lock().unwrap().clone();
    assert_eq!(asked[..2], [2, 1], "{asked:?}");
    assert_eq!(
        asked.iter().sum::<usize>(),
        3 + asked.iter().filter(|count| **count == 2).count()
    );
}

#[tokio::test]
async fn endpoint_that_closes_a_new_connection_is_asked_no_more() {
    let (url, asked, _serving) = endpoint_that_closes_kept_connections(false).await;
    let gateway = serve_before(&url).await;
    for times in 1..3 {
        check_refusal(
            &gateway.ws("/s").refused().await,
            500,
            "Internal Server Error",
        );
        assert_eq!(*asked.lock().unwrap(), vec![1; times]);
    }
}
