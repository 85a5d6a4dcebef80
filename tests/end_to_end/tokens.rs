//! JSON Web Tokens: where a client presents one, whom it lets in, and what an issuer can do to the gateway.

use std::fs;

use lockgate_tests::{
    Answer, Certificate, Gateway, Issuer, PATIENCE, Request, write_configuration,
};
use serde_json::{Value, json};

use crate::connect::connecting;
use crate::upgrade::upgrade;
use crate::{LOCKGATE, probe_configuration};

/// The probe at `/s` behind tokens of this issuer, with these settings of `jwt` and lines in the authorizer's table.
fn behind(issuer: &Issuer, jwt: &str, authorizer: &str) -> String {
    let probe = probe_configuration("authorizer = \"users\"", "");
    format!("{probe}\n{}", self::authorizer(issuer, jwt, authorizer))
}

/// The table of the authorizer `users`.
fn authorizer(issuer: &Issuer, jwt: &str, authorizer: &str) -> String {
    let name = issuer.name();
    format!(
        r#"[authorizers.users]
jwt = {{ issuer = "{name}", audience = ["chat"], algorithms = ["ES256"]{jwt} }}
{authorizer}
"#
    )
}

async fn serve(issuer: &Issuer) -> Gateway {
    LOCKGATE.serve(&behind(issuer, "", "")).await
}

fn bearing(gateway: &Gateway, token: &str) -> Request {
    let value = format!("Bearer {token}");
    gateway.ws("/s").header("Authorization", &value)
}

/// The client that a request makes is `ada`.
async fn is_ada(request: Request) {
    let mut client = request.open().await;
    assert_eq!(client.step(json!({"do": "who"})).await["principal"], "ada");
}

#[track_caller]
fn check(answer: &Answer, status: u16, challenge: Option<&str>) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("www-authenticate"), challenge);
}

#[tokio::test]
async fn token_in_the_header_says_who_the_client_is() {
    let issuer = Issuer::start().await;
    let more = ", values = [\"tenant\", \"level\", \"admin\"]";
    let gateway = LOCKGATE.serve(&behind(&issuer, more, "")).await;
    let token = issuer.token(json!({"tenant": "blue", "level": 3, "admin": false}));
    let mut client = bearing(&gateway, &token).open().await;
    assert_eq!(
        client.step(json!({"do": "who"})).await,
        json!({"principal": "ada", "values": {"tenant": "blue", "level": 3.0, "admin": false}})
    );
    assert_eq!(
        issuer.asked(),
        ["/.well-known/openid-configuration", "/keys"]
    );
}

#[tokio::test]
async fn client_without_a_valid_token_is_challenged() {
    let (issuer, other) = (Issuer::start().await, Issuer::start().await);
    let gateway = LOCKGATE
        .serve(&behind(&issuer, ", scopes = [\"join\", \"chat\"]", ""))
        .await;
    let scoped = |scope: Value| issuer.token(json!({ "scope": scope }));
    is_ada(bearing(&gateway, &scoped(json!("chat other join")))).await;
    let invalid = "Bearer error=\"invalid_token\"";
    check(&gateway.ws("/s").refused().await, 401, Some("Bearer"));
    for token in [
        "x".to_owned(),
        issuer.token(json!({"exp": 1})),
        issuer.token(json!({"exp": null})),
        issuer.token(json!({"aud": "other"})),
        issuer.token(json!({"iss": other.name()})),
        other.token(json!({})),
        other.token(json!({"iss": issuer.name()})),
        scoped(json!("chat join")) + "A",
    ] {
        let answer = bearing(&gateway, &token).refused().await;
        check(&answer, 401, Some(invalid));
        assert_eq!(answer.text(), "{\"message\":\"Unauthorized\"}");
    }
    let answer = bearing(&gateway, &scoped(json!("join"))).refused().await;
    let missing = "Bearer error=\"insufficient_scope\", scope=\"join chat\"";
    check(&answer, 403, Some(missing));
    assert!(
        other.asked().is_empty(),
        "nobody asks an address from a token"
    );
}

/// A browser can set no header for a WebSocket: it offers the token beside a subprotocol.
#[tokio::test]
async fn browser_presents_its_token_as_a_subprotocol() {
    let issuer = Issuer::start().await;
    let gateway = serve(&issuer).await;
    let token = issuer.token(json!({}));
    let offer = |list: &str| gateway.ws("/s").header("Sec-WebSocket-Protocol", list);
    // The browser demands that the server chooses one: `bearer`, unless the handler has chosen.
    let mut client = offer(&format!("bearer, {token}")).open().await;
    assert_eq!(
        client.answer().header("sec-websocket-protocol"),
        Some("bearer")
    );
    assert_eq!(client.step(json!({"do": "who"})).await["principal"], "ada");
    assert_eq!(
        client.step(json!({"do": "info"})).await["subprotocol"],
        "bearer"
    );
    let steps = json!([{"do": "handshake"}, {"do": "accept", "subprotocol": "chat.v2"}]);
    let target = connecting(&steps) + "&tell=";
    let list = format!("chat.v1, bearer, {token}, chat.v2");
    let request = gateway.ws(&target).header("Sec-WebSocket-Protocol", &list);
    let mut client = request.open().await;
    assert_eq!(
        client.answer().header("sec-websocket-protocol"),
        Some("chat.v2")
    );
    let seen = client.json().await[0].clone();
    assert_eq!(
        seen["subprotocols"],
        json!(["chat.v1", "chat.v2"]),
        "{seen}"
    );
    assert!(!seen.to_string().contains(&token), "{seen}");
    check(
        &offer(&format!("bearer, {token}A")).refused().await,
        401,
        Some("Bearer error=\"invalid_token\""),
    );
    check(&offer("bearer").refused().await, 401, Some("Bearer"));
    check(&offer(&token).refused().await, 401, Some("Bearer"));
}

/// The list of WebTransport is another header, of quoted texts.
#[tokio::test]
async fn page_presents_its_token_as_a_subprotocol_of_webtransport() {
    let issuer = Issuer::start().await;
    let gateway = LOCKGATE.serve_quic(&behind(&issuer, "", "")).await;
    let http3 = gateway.http3().await;
    let token = issuer.token(json!({}));
    let steps = json!([{"do": "handshake"}, {"do": "who"}]);
    let target = connecting(&steps) + "&tell=";
    for (list, protocols, rest) in [
        (format!("\"bearer\", \"{token}\""), json!([]), None),
        (
            format!("\"chat.v1\", \"bearer\", \"{token}\", \"chat.v2\""),
            json!(["chat.v1", "chat.v2"]),
            Some("\"chat.v1\", \"chat.v2\""),
        ),
    ] {
        let offered = [("wt-available-protocols", &*list)];
        let mut session = http3.session(&target, &offered).await;
        assert_eq!(session.answer.header("wt-protocol"), Some("\"bearer\""));
        let told = session.next().await.unwrap().into_text().unwrap();
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(told[1]["principal"], "ada");
        let seen = &told[0];
        assert_eq!(seen["subprotocols"], protocols);
        let headers = seen["headers"].as_array().unwrap();
        let named = |name: &str| headers.iter().find(|header| header[0] == name);
        let left = named("wt-available-protocols").map(|header| header[1].as_str().unwrap());
        assert_eq!(left, rest);
        assert!(named("sec-websocket-protocol").is_none(), "{seen}");
        assert!(!seen.to_string().contains(&token), "{seen}");
    }
    let forged = format!("\"bearer\", \"{token}A\"");
    let offered = [("wt-available-protocols", &*forged)];
    let refused = http3.ask_session("/s", &offered).await.answer().await;
    check(&refused, 401, Some("Bearer error=\"invalid_token\""));
    let log = gateway.log().lines().join("\n");
    assert!(!log.contains(&token), "no token is logged");
}

#[tokio::test]
async fn token_is_taken_from_the_places_that_the_configuration_names() {
    let issuer = Issuer::start().await;
    let sources =
        r#"identity_source = ["route.request.querystring.token", "route.request.cookie.session"]"#;
    let gateway = LOCKGATE.serve(&behind(&issuer, "", sources)).await;
    let token = issuer.token(json!({}));
    is_ada(gateway.ws(&format!("/s?token={token}"))).await;
    is_ada(
        gateway
            .ws("/s")
            .header("Cookie", &format!("a=b; session={token}")),
    )
    .await;
    check(
        &bearing(&gateway, &token).refused().await,
        401,
        Some("Bearer"),
    );
}

/// Public keys in the configuration, and in a file that `validate` has judged.
#[tokio::test]
async fn keys_that_cannot_be_used_are_found_before_a_start() {
    let issuer = Issuer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys.json");
    let validate = async |more: &str| {
        let configuration = format!(
            "[[listeners]]\naddress = \"127.0.0.1:0\"\n[apis.a]\nauthorizer = \"users\"\n[apis.a.stages.s]\n{}",
            authorizer(&issuer, more, "")
        );
        let file = write_configuration(folder.path(), &configuration);
        LOCKGATE.run(&["validate", file.to_str().unwrap()]).await
    };
    fs::write(&keys, "{\"keys\":[]}").unwrap();
    for (more, expected) in [
        (
            ", jwks_file = \"keys.json\"",
            "none of its keys is a signing key for ES256",
        ),
        (", public_keys = [\"x\"]", "no public key in PEM"),
    ] {
        let result = validate(more).await;
        assert_eq!(result.code, Some(1));
        assert!(result.error.contains(expected), "{}", result.error);
        assert!(
            result.error.contains("authorizers.users.jwt"),
            "{}",
            result.error
        );
    }
    // The issuer itself is not asked.
    issuer.fail();
    assert_eq!(validate("").await.code, Some(0));
    assert!(issuer.asked().is_empty());
}

#[tokio::test]
async fn issuer_that_is_down_holds_up_no_start_and_no_reload() {
    let issuer = Issuer::start().await;
    issuer.fail();
    let gateway = serve(&issuer).await;
    let token = issuer.token(json!({}));
    gateway
        .log()
        .line(&[
            "\"WARN\"",
            "keys of the tokens' issuer cannot be got",
            "503",
        ])
        .await;
    let answer = bearing(&gateway, &token).refused().await;
    check(&answer, 500, None);
    assert_eq!(answer.text(), "{\"message\":\"Internal Server Error\"}");
    issuer.publish();
    gateway.log().line(&["\"INFO\"", "are there again"]).await;
    is_ada(bearing(&gateway, &token)).await;
    // A reload keeps the keys.
    issuer.fail();
    let before = issuer.asked().len();
    let file = gateway.folder().join("gateway.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text + "\n[apis.a.stages.other]\n").unwrap();
    gateway.hang_up();
    gateway.log().line(&["reloaded", "a/other"]).await;
    is_ada(bearing(&gateway, &token)).await;
    assert_eq!(issuer.asked().len(), before);
}

/// Whatever takes the place of an authorizer serves while the issuer is down: one with other settings and another name,
/// one with another issuer beside, the process of an upgrade.
#[tokio::test]
async fn known_keys_stay_over_a_change_and_an_upgrade_while_the_issuer_is_down() {
    let (issuer, other) = (Issuer::start().await, Issuer::start().await);
    let mut gateway = serve(&issuer).await;
    let request = bearing(&gateway, &issuer.token(json!({})));
    request.open().await.vanish();
    issuer.fail();
    let file = gateway.folder().join("gateway.toml");
    let text = fs::read_to_string(&file).unwrap();
    let text = text.replace("users", "people");
    let later = text.replace("audience", "leeway_s = 5, audience");
    let (first, table) = later.split_once("jwt = ").unwrap();
    let beside = table.replacen(&issuer.name(), &other.name(), 1);
    let both = format!("{first}jwt = [{}, {}]\n", beside.trim(), table.trim());
    for text in [later, both] {
        fs::write(&file, text).unwrap();
        let (status, answer) = gateway.post("/reload", "{}").await;
        assert_eq!(status, 200, "{answer}");
        request.open().await.vanish();
    }
    let successor = upgrade(&gateway).await;
    assert_eq!(gateway.ended().await, Some(0));
    request.open().await.vanish();
    successor.terminate();
    successor.ended().await;
}

#[tokio::test]
async fn issuer_with_tls_is_judged_by_its_certificate() {
    let (certificate, other) = (Certificate::new(), Certificate::new());
    let issuer = Issuer::secure(&certificate).await;
    let token = issuer.token(json!({}));
    let start = async |trusted: &Certificate| {
        let folder = tempfile::tempdir().unwrap();
        let (roots, _) = trusted.write(folder.path());
        let listener = "[[listeners]]\naddress = \"127.0.0.1:0\"\n";
        let configuration = format!("{listener}{}", behind(&issuer, "", ""));
        let file = write_configuration(folder.path(), &configuration);
        let mut command = LOCKGATE.command(&["run", file.to_str().unwrap()]);
        // These certificates replace those that the machine trusts.
        command.env("SSL_CERT_FILE", roots);
        Gateway::start(command, folder, PATIENCE).await
    };
    is_ada(bearing(&start(&certificate).await, &token)).await;
    let gateway = start(&other).await;
    gateway.log().line(&["cannot be got", "certificate"]).await;
    check(&bearing(&gateway, &token).refused().await, 500, None);
}

/// Whatever becomes of a handshake, the log has nothing of its token.
#[tokio::test]
async fn token_is_nowhere_in_the_log() {
    let issuer = Issuer::start().await;
    let sources = r#"identity_source = ["route.request.header.Authorization", "route.request.querystring.token",
        "route.request.cookie.session", "route.request.header.Sec-WebSocket-Protocol"]"#;
    let gateway = LOCKGATE.serve(&behind(&issuer, "", sources)).await;
    let good = issuer.token(json!({"canary": "yellow"}));
    let bad = issuer.token(json!({"canary": "yellow", "exp": 1}));
    for token in [&good, &bad] {
        for request in [
            bearing(&gateway, token),
            gateway.ws(&format!("/s?token={token}")),
            gateway
                .ws("/s")
                .header("Cookie", &format!("session={token}")),
            gateway
                .ws("/s")
                .header("Sec-WebSocket-Protocol", &format!("bearer, {token}")),
        ] {
            assert_eq!(request.attempt().await.is_ok(), token == &good);
        }
    }
    gateway.log().nth_line(3, &["refused", "expired"]).await;
    let parts: Vec<_> = good.split('.').chain(bad.split('.')).collect();
    for line in gateway.log().lines() {
        assert!(!parts.iter().any(|part| line.contains(part)), "{line}");
        assert!(!line.contains("yellow"), "{line}");
    }
}
