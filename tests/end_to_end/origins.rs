//! Web pages that may connect, by the `Origin` that their browser sends.

use lockgate_tests::{Gateway, Request};

use crate::{LOCKGATE, echo, echo_with};

/// Checks that a page is let in, or is not.
async fn check(request: &Request, origin: &str, let_in: bool) {
    match request.clone().header("Origin", origin).attempt().await {
        Ok(_) => assert!(let_in, "{origin:?} was let in"),
        Err(answer) => assert!(!let_in && answer.status == 403, "{origin:?}: {answer:?}"),
    }
}

/// A request to a listener without TLS, for a host with that listener's port.
fn to(gateway: &Gateway, host: &str) -> Request {
    let host = format!("{host}:{}", gateway.plain().port());
    gateway.ws("/s").header("Host", &host)
}

/// The page's `Origin` must be that of the socket.
#[tokio::test]
async fn foreign_page_is_refused() {
    let gateway = LOCKGATE
        .serve(
            r#"
[apis.a.stages.s]
origins = ["https://app.example.com", "self"]

[apis.a.routes."$default"]
integration = "echo"
two_way = true

[plugins.echo]
component = "{echo}"
"#,
        )
        .await;
    let own = format!("http://localhost:{}", gateway.plain().port());
    for (origin, let_in) in [
        ("https://app.example.com", true),
        ("HTTPS://APP.EXAMPLE.COM:443", true),
        (own.as_str(), true),
        ("https://app.example.com.evil.example", false),
        ("https://app.example.com@evil.example", false),
        ("https://evil.example/https://app.example.com", false),
        ("http://app.example.com", false),
        ("http://localhost", false),
        ("null", false),
        ("", false),
        ("*", false),
        ("https://app.example.com, https://evil.example", false),
        ("https://app.example.com https://evil.example", false),
        ("://", false),
        ("ä", false),
        ("https://[", false),
        ("https://%61pp.example.com", false),
    ] {
        check(&gateway.ws("/s"), origin, let_in).await;
    }
}

/// DNS rebinding: the name of a page's site resolves to this machine for a moment, and the browser sends it as `Host`.
#[tokio::test]
async fn page_whose_own_name_leads_to_a_loopback_listener_is_refused() {
    let gateway = echo().await;
    let port = gateway.plain().port();
    for host in ["rebound.example", "localhost.rebound.example", "10.0.0.1"] {
        for scheme in ["http", "https"] {
            let origin = format!("{scheme}://{host}:{port}");
            check(&to(&gateway, host), &origin, false).await;
        }
    }
    for host in [
        "localhost",
        "LocalHost.",
        "app.localhost",
        "127.0.0.1",
        "[::1]",
    ] {
        check(&to(&gateway, host), &format!("http://{host}:{port}"), true).await;
    }
    check(
        &to(&gateway, "[0:0::1]"),
        &format!("http://[::1]:{port}"),
        true,
    )
    .await;
    let port = gateway.secure().port();
    let secure = gateway
        .wss("/s")
        .header("Host", &format!("rebound.example:{port}"));
    check(&secure, &format!("https://rebound.example:{port}"), false).await;
    // A client that is no browser may use any name.
    to(&gateway, "rebound.example").open().await;
}

/// A proxy on this machine may have terminated TLS, and no other site's page has the name.
#[tokio::test]
async fn page_of_a_configured_domain_is_let_in() {
    let gateway = echo_with("domains = [\"chat.example.com\"]").await;
    let request = gateway.ws("/").header("Host", "chat.example.com");
    check(&request, "https://chat.example.com", true).await;
    check(&request, "http://chat.example.com", true).await;
    check(&request, "https://chat.example.com:8443", false).await;
    let request = request.header("Host", "Chat.example.com.:443");
    check(&request, "https://chat.example.com", true).await;
}

#[tokio::test]
async fn page_without_tls_is_refused_on_a_tls_listener() {
    let gateway = echo().await;
    let own = format!("localhost:{}", gateway.secure().port());
    check(&gateway.wss("/s"), &format!("https://{own}"), true).await;
    check(&gateway.wss("/s"), &format!("http://{own}"), false).await;
    let http2 = gateway.http2().await;
    let origin = format!("http://{own}");
    assert_eq!(
        http2.refused("/s", &[("origin", &origin)]).await.status,
        403
    );
    let origin = format!("https://{own}");
    http2.open_with("/s", &[("origin", &origin)]).await;
    // A page of a scheme that is not the web's is never the gateway's own.
    check(&gateway.wss("/s"), &format!("ftp://{own}"), false).await;
}

#[tokio::test]
async fn listed_wildcard_and_null_origins_are_let_in() {
    let gateway = echo_with("origins = [\"https://*.example.com\", \"null\", \"file://\"]").await;
    for (origin, let_in) in [
        ("https://app.example.com", true),
        ("https://eu.app.Example.com:443", true),
        ("https://app.example.com.", true),
        ("null", true),
        ("file://", true),
        ("https://example.com", false),
        ("http://app.example.com", false),
        ("https://app.example.com:8443", false),
        ("https://evilexample.com", false),
        ("https://app.example.com.evil.example", false),
        ("https://.example.com", false),
        ("https://*.example.com", false),
        ("file:///etc/passwd", false),
        ("null, null", false),
    ] {
        check(&gateway.ws("/s"), origin, let_in).await;
    }
    let own = format!("http://localhost:{}", gateway.plain().port());
    check(&gateway.ws("/s"), &own, false).await;
    // `null` and `file://` must each be listed.
    let gateway = echo_with("origins = [\"null\"]").await;
    check(&gateway.ws("/s"), "null", true).await;
    check(&gateway.ws("/s"), "file://", false).await;
}

/// The browser hides the reason from its page, and so the log has to give it.
#[tokio::test]
async fn refused_origin_is_logged_with_client_request_and_remedy() {
    let gateway = echo().await;
    check(&gateway.ws("/s"), "https://other.example", false).await;
    let line = gateway
        .log()
        .line(&["refused: the page's origin is not allowed"])
        .await;
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["level"], "INFO", "{line}");
    assert_eq!(line["client"], "127.0.0.1", "{line}");
    assert!(line["stage"].as_str().unwrap().ends_with("/s"), "{line}");
    assert!(line["host"].is_string(), "{line}");
    assert!(line["request_id"].is_string(), "{line}");
    let origin = line["origin"].as_str().unwrap();
    assert!(origin.contains("https://other.example"), "{line}");
    let message = line["message"].as_str().unwrap();
    assert!(
        message.contains("add it to") && message.contains(".stages.s.origins"),
        "{line}"
    );
}

#[tokio::test]
async fn refused_handshake_is_logged_with_client_and_request() {
    let gateway = echo().await;
    let asked = gateway.ws("/nowhere").header("Origin", "https://a.example");
    assert_eq!(asked.attempt().await.err().unwrap().status, 403);
    let line = gateway.log().line(&["refused: no stage"]).await;
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["client"], "127.0.0.1", "{line}");
    assert_eq!(line["origin"], "https://a.example", "{line}");
    assert!(line["host"].is_string(), "{line}");
    assert_eq!(line["path"], "/nowhere", "{line}");
}
