//! Renewals: a message renews what let its client in, by its handler or by a fresh token.

use std::fs;

use lockgate_tests::{Client, Gateway, Issuer};
use serde_json::{Value, json};

use crate::api_keys::Keys;
use crate::authorizers::{behind_a_door, saying};
use crate::connect::connecting;
use crate::operators::get;
use crate::{LOCKGATE, probe_configuration};

/// Far enough in the future that nothing ends by it, in milliseconds since 1970: the year 10,000.
const FAR: u64 = 253_402_300_800_000;

/// The probe behind the doorman, which closes connections that have expired. Messages of the route `renew` renew.
fn renewing(authorizer: &str) -> String {
    behind_a_door(authorizer, "").replace(
        "quietly = { integration = \"probe\" }",
        "renew = { integration = \"probe\", two_way = true, renews = \"handler\" }\n\
         read = { integration = \"probe\", two_way = true, scopes = [\"read\"] }\n\
         write = { integration = \"probe\", two_way = true, scopes = [\"write\"] }",
    )
}

async fn serve() -> Gateway {
    LOCKGATE.serve(&renewing("on_expiry = \"close\"")).await
}

fn on(route: &str, steps: &Value) -> String {
    json!({"action": route, "steps": steps}).to_string()
}

/// The answers to steps that a message of the route `renew` takes.
async fn renew(client: &mut Client, steps: &[Value]) -> Value {
    client.send(on("renew", &Value::from(steps.to_vec()))).await;
    client.json().await
}

/// When what let a client in expires, as operators see it.
async fn expiry(gateway: &Gateway, id: &str) -> Value {
    let shown = get(gateway, &format!("/connections/{id}")).await;
    shown["expires_at"].clone()
}

#[tokio::test]
async fn handler_renews_what_let_its_client_in() {
    let gateway = serve().await;
    let say = json!({"principal": "ada", "values": {"plan": "gold"}, "expires_in": 1});
    let mut client = gateway.connect(&saying(&say)).await;
    let mut other = gateway.connect(&saying(&say)).await;
    let step = json!({"do": "renew", "at": FAR});
    assert_eq!(renew(&mut client, &[step]).await, json!(["ok"]));
    // The other one ends when both would have.
    other.expect_close(1008, "authorization expired").await;
    let who = client.step(json!({"do": "who"})).await;
    assert_eq!(who, json!({"principal": "ada", "values": {"plan": "gold"}}));
    let id = client.id().await;
    assert_eq!(expiry(&gateway, &id).await, FAR);
    // With values, in place of those that it had; the last of several calls holds, also when the handler fails.
    let values = json!([["age", 36.5], ["staff", true], ["name", "Ada"]]);
    let steps = json!([
        {"do": "renew", "at": FAR},
        {"do": "renew", "at": FAR - 1, "values": values},
        {"do": "fail", "reason": "after all"},
    ]);
    client.send(on("renew", &steps)).await;
    client.expect_error("Internal server error").await;
    let who = client.step(json!({"do": "who"})).await;
    let values = json!({"age": 36.5, "staff": true, "name": "Ada"});
    assert_eq!(who, json!({"principal": "ada", "values": values}));
    assert_eq!(expiry(&gateway, &id).await, FAR - 1);
    // Sooner than before: it ends then.
    let step = json!({"do": "renew", "for_ms": 200});
    assert_eq!(renew(&mut client, &[step]).await, json!(["ok"]));
    client.expect_close(1008, "authorization expired").await;
}

#[tokio::test]
async fn handler_that_renews_with_values_leaves_what_is_known_of_the_api_key() {
    let keys = Keys::new();
    let key = keys.make("mobile", &[]).await;
    let file = keys.path().join("api-keys.toml");
    let both = "authorizer = \"door\"\napi_key = \"keys\"";
    let configuration = renewing("").replacen("authorizer = \"door\"", both, 1);
    let keys = format!("\n[authorizers.keys]\napi_keys = {{ file = {file:?} }}\n");
    let gateway = LOCKGATE.serve(&(configuration + &keys)).await;
    let say = json!({"principal": "ada", "values": {"team": "red"}});
    let request = gateway.ws(&saying(&say)).header("X-Api-Key", &key);
    let mut client = request.open().await;
    let id = key.split_once('.').unwrap().0;
    let with = |values: Value| json!({"do": "renew", "at": FAR, "values": values});
    let own = json!({"team": "blue", "api_key_id": id, "api_key_name": "mobile"});
    // Without them, and with them as they are.
    for values in [
        json!([["team", "blue"]]),
        json!([["team", "blue"], ["api_key_id", id]]),
    ] {
        assert_eq!(renew(&mut client, &[with(values)]).await, json!(["ok"]));
        let who = client.step(json!({"do": "who"})).await;
        assert_eq!(who, json!({"principal": "ada", "values": own}));
    }
    for name in ["api_key_id", "api_key_name", "usage_plan"] {
        let step = with(json!([["team", "green"], [name, "fake"]]));
        let answer = renew(&mut client, &[step]).await;
        let said = answer[0]["invalid"].as_str().unwrap_or_default();
        assert!(
            said.contains(name) && said.contains("gateway's"),
            "{answer}"
        );
    }
    let who = client.step(json!({"do": "who"})).await;
    assert_eq!(who, json!({"principal": "ada", "values": own}));
}

/// The handler works for longer than what let its client in held.
#[tokio::test]
async fn renewal_under_way_keeps_the_connection_that_expires_meanwhile() {
    let gateway = serve().await;
    let mut client = gateway.connect(&saying(&json!({"expires_in": 1}))).await;
    let steps = [
        json!({"do": "renew", "at": FAR}),
        json!({"do": "sleep", "ms": 1200}),
    ];
    assert_eq!(renew(&mut client, &steps).await, json!(["ok", null]));
    client.step(json!({"do": "event"})).await;
}

#[tokio::test]
async fn renewal_is_denied_anywhere_but_in_a_message_of_a_route_that_renews() {
    let gateway = serve().await;
    let step = json!({"do": "renew", "at": FAR});
    // Another route.
    let mut client = gateway.connect(&saying(&json!({}))).await;
    assert_eq!(client.step(step.clone()).await, "denied");
    let denied = ["\"WARN\"", "refused to the handler: denied", "$default"];
    gateway.log().line(&denied).await;
    // `$connect`, `$disconnect`, and the authorizer itself.
    let say = json!({"principal": "eve", "renew": true});
    let farewell = json!([step]).to_string();
    let steps = json!([step, {"do": "who"}, {"do": "set", "name": "farewell", "value": farewell}]);
    let target = saying(&say) + &connecting(&steps).replace("/s?", "&") + "&tell=";
    let mut watcher = gateway.connect(&saying(&json!({}))).await;
    watcher.observe().await;
    let mut client = gateway.connect(&target).await;
    let who = json!({"principal": "eve", "values": {"renewed": "Err(Denied)"}});
    assert_eq!(client.json().await, json!(["denied", who, "ok"]));
    let id = client.id().await;
    client.close(1000, "").await;
    assert_eq!(watcher.ended(&id).await.farewell, json!(["denied"]));
}

#[tokio::test]
async fn client_without_an_authorizer_is_not_renewed() {
    let configuration = probe_configuration("", "").replace(
        "quietly = { integration = \"probe\" }",
        "renew = { integration = \"probe\", two_way = true, renews = \"handler\" }",
    );
    let gateway = LOCKGATE.serve(&configuration).await;
    let mut client = gateway.connect("/s").await;
    let step = json!({"do": "renew", "at": FAR});
    assert_eq!(renew(&mut client, &[step]).await, json!(["denied"]));
}

#[tokio::test]
async fn renewal_over_its_bounds_is_refused_and_changes_nothing() {
    let gateway = serve().await;
    let say = json!({"principal": "ada", "values": {"plan": "gold"}});
    let mut client = gateway.connect(&saying(&say)).await;
    let letters = "x".repeat(8 << 10);
    let with = |values: Value| json!({"do": "renew", "at": FAR, "values": values});
    for (step, why) in [
        (json!({"do": "renew", "at": 0}), "has passed"),
        (
            json!({"do": "renew", "at": 1_700_000_000}),
            "in milliseconds",
        ),
        (json!({"do": "renew", "at": 1_u64 << 53}), "2^53"),
        (json!({"do": "renew", "at": u64::MAX}), "2^53"),
        (with(json!([["", "x"]])), "no name"),
        (with(json!([["a", 1], ["a", 1]])), "twice"),
        (with(json!([["a", null]])), "finite"),
    ] {
        let answer = renew(&mut client, std::slice::from_ref(&step)).await;
        let said = answer[0]["invalid"].as_str().unwrap_or_default();
        assert!(said.contains(why), "{step}: {answer}");
    }
    let step = with(json!([["a", letters]]));
    assert_eq!(renew(&mut client, &[step]).await, json!(["too-large"]));
    let warned = ["\"WARN\"", "refused to the handler: too-large", "8 KiB"];
    gateway.log().line(&warned).await;
    let who = client.step(json!({"do": "who"})).await;
    assert_eq!(who, json!({"principal": "ada", "values": {"plan": "gold"}}));
    let id = client.id().await;
    assert_eq!(expiry(&gateway, &id).await, Value::Null);
    // The latest time that there is.
    let step = json!({"do": "renew", "at": (1_u64 << 53) - 1});
    assert_eq!(renew(&mut client, &[step]).await, json!(["ok"]));
    client.step(json!({"do": "event"})).await;
}

#[tokio::test]
async fn closing_connection_is_not_renewed() {
    let gateway = serve().await;
    let mut client = gateway.connect(&saying(&json!({"expires_in": 600}))).await;
    let steps = json!([
        {"do": "close", "code": 4000, "reason": "enough"},
        {"do": "renew", "at": FAR},
    ]);
    client.send(on("renew", &steps)).await;
    assert_eq!(client.json().await, json!(["ok", "gone"]));
    client.expect_close(4000, "enough").await;
    // One that expires while its handler works is closing, too: the handler has come too late.
    let mut client = gateway.connect(&saying(&json!({"expires_in": 1}))).await;
    let steps = json!([{"do": "sleep", "ms": 1300}, {"do": "renew", "at": FAR}]);
    client.send(on("renew", &steps)).await;
    assert_eq!(client.json().await, json!([null, "gone"]));
    client.expect_close(1008, "authorization expired").await;
}

#[tokio::test]
async fn renewal_by_a_handler_leaves_principal_and_scopes() {
    let gateway = serve().await;
    let say = json!({"principal": "ada", "scopes": ["read"], "expires_in": 600});
    let mut client = gateway.connect(&saying(&say)).await;
    let step = json!({"do": "renew", "at": FAR, "values": [["scopes", "write"]]});
    assert_eq!(renew(&mut client, &[step]).await, json!(["ok"]));
    client.send(on("read", &json!([{"do": "who"}]))).await;
    assert_eq!(client.json().await[0]["principal"], "ada");
    client.send(on("write", &json!([{"do": "who"}]))).await;
    client.expect_error("Forbidden").await;
}

/// A connection that has expired and is kept may still be renewed: nothing has ended.
#[tokio::test]
async fn expired_connection_that_is_kept_is_renewed() {
    let gateway = LOCKGATE.serve(&renewing("")).await;
    let mut client = gateway.connect(&saying(&json!({"expires_in": 0.2}))).await;
    let steps = [
        json!({"do": "sleep", "ms": 300}),
        json!({"do": "renew", "at": FAR}),
    ];
    assert_eq!(renew(&mut client, &steps).await, json!([null, "ok"]));
    // A reload that closes what has expired leaves it.
    let file = gateway.folder().join("gateway.toml");
    let text = fs::read_to_string(&file).unwrap();
    let text = text.replace(
        "plugin = \"doorman\"",
        "plugin = \"doorman\"\non_expiry = \"close\"",
    );
    fs::write(&file, text).unwrap();
    let (status, body) = gateway.post("/reload", "{}").await;
    assert_eq!(status, 200, "{body}");
    client.step(json!({"do": "event"})).await;
}

/// The probe behind tokens of this issuer, which close their connections. Messages of `refresh` have a fresh one.
fn refreshing(issuer: &Issuer) -> String {
    let probe = probe_configuration("authorizer = \"users\"", "").replace(
        "quietly = { integration = \"probe\" }",
        "refresh = { integration = \"probe\", two_way = true, renews = \"$request.body.token\" }\n\
         quiet = { integration = \"renewed\", two_way = true, renews = \"$request.body.token\" }\n\
         write = { integration = \"probe\", two_way = true, scopes = [\"write\"] }",
    );
    let name = issuer.name();
    format!(
        r#"{probe}
[integrations.renewed]
mock = {{ reply = '{{"renewed":true}}' }}

[authorizers.users]
jwt = {{ issuer = "{name}", audience = ["chat"], algorithms = ["ES256"], values = ["tenant"] }}
on_expiry = "close"
"#
    )
}

fn seconds_from_now(seconds: u64) -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap().as_secs() + seconds
}

async fn bearing(gateway: &Gateway, token: &str) -> Client {
    let value = format!("Bearer {token}");
    let request = gateway.ws("/s").header("Authorization", &value);
    request.open().await
}

fn with(route: &str, token: &str) -> String {
    json!({"action": route, "token": token, "steps": [{"do": "who"}]}).to_string()
}

#[tokio::test]
async fn fresh_token_in_a_message_renews_its_client() {
    let issuer = Issuer::start().await;
    let gateway = LOCKGATE.serve(&refreshing(&issuer)).await;
    let soon = seconds_from_now(2);
    let old = issuer.token(json!({"exp": soon, "tenant": "blue"}));
    let (mut client, mut other) = (bearing(&gateway, &old).await, bearing(&gateway, &old).await);
    client.send(with("write", "")).await;
    client.expect_error("Forbidden").await;
    // Everything but the principal is the new token's, and the handler knows it already.
    let fresh = issuer.token(json!({"tenant": "red", "scope": "write"}));
    client.send(with("refresh", &fresh)).await;
    let who = json!([{"principal": "ada", "values": {"tenant": "red"}}]);
    assert_eq!(client.json().await, who);
    client.send(with("write", "")).await;
    assert_eq!(client.json().await, who);
    other.expect_close(1008, "authorization expired").await;
    // A mock answers without a plugin; a token with its scheme is one, too.
    client.send(with("quiet", &format!("Bearer {fresh}"))).await;
    assert_eq!(client.json().await, json!({"renewed": true}));
    let last = issuer.token(json!({"exp": seconds_from_now(1)}));
    client.send(with("quiet", &last)).await;
    assert_eq!(client.json().await, json!({"renewed": true}));
    client.expect_close(1008, "authorization expired").await;
    // No token is anywhere in what the gateway says.
    let log = gateway.log().lines().join("\n");
    assert!(log.contains("what lets the client in is renewed"));
    for token in [old, fresh, last] {
        let (_, signature) = token.rsplit_once('.').unwrap();
        assert!(!log.contains(signature), "{signature}");
    }
}

#[tokio::test]
async fn fresh_token_leaves_what_is_known_of_the_api_key() {
    let (issuer, keys) = (Issuer::start().await, Keys::new());
    let key = keys.make("mobile", &[]).await;
    let file = keys.path().join("api-keys.toml");
    let both = "authorizer = \"users\"\napi_key = \"keys\"";
    let configuration = refreshing(&issuer).replacen("authorizer = \"users\"", both, 1);
    let keys = format!("[authorizers.keys]\napi_keys = {{ file = {file:?} }}\n");
    let gateway = LOCKGATE.serve(&(configuration + &keys)).await;
    let bearer = format!("Bearer {}", issuer.token(json!({"tenant": "blue"})));
    let request = gateway.ws("/s").header("Authorization", &bearer);
    let mut client = request.header("X-Api-Key", &key).open().await;
    let claims = json!({"tenant": "red"});
    client.send(with("refresh", &issuer.token(claims))).await;
    let who = client.json().await[0].clone();
    let id = key.split_once('.').unwrap().0;
    let values = json!({"tenant": "red", "api_key_id": id, "api_key_name": "mobile"});
    assert_eq!(who, json!({"principal": "ada", "values": values}));
}

#[tokio::test]
async fn message_without_a_good_token_renews_nobody_and_comes_to_no_handler() {
    let (issuer, other) = (Issuer::start().await, Issuer::start().await);
    let gateway = LOCKGATE.serve(&refreshing(&issuer)).await;
    let mut client = bearing(&gateway, &issuer.token(json!({"tenant": "blue"}))).await;
    let refused = [
        with("refresh", ""),
        with("refresh", "x"),
        with("refresh", &issuer.token(json!({"exp": 1}))),
        with("refresh", &issuer.token(json!({"aud": "other"}))),
        with("refresh", &(issuer.token(json!({})) + "A")),
        with("refresh", &other.token(json!({}))),
        with("refresh", &other.token(json!({"iss": issuer.name()}))),
        on("refresh", &json!([{"do": "who"}])),
        json!({"action": "refresh", "token": null}).to_string(),
        json!({"action": "refresh", "token": [issuer.token(json!({}))]}).to_string(),
    ];
    for message in refused {
        client.send(message).await;
        client.expect_error("Unauthorized").await;
    }
    // Another client's token, and one of nobody.
    for claims in [json!({"sub": "eve"}), json!({"sub": "ada "})] {
        client.send(with("refresh", &issuer.token(claims))).await;
        client.expect_error("Forbidden").await;
    }
    let reason = ["\"DEBUG\"", "is not renewed", "another principal"];
    gateway.log().line(&reason).await;
    let who = json!({"principal": "ada", "values": {"tenant": "blue"}});
    assert_eq!(client.step(json!({"do": "who"})).await, who);
    assert!(
        other.asked().is_empty(),
        "nobody asks an address from a token"
    );
}

/// Two issuers may give one name to two clients. So may two authorizers, of which a reload replaces one by the other.
#[tokio::test]
async fn fresh_token_of_another_issuer_renews_nobody() {
    let (issuer, other) = (Issuer::start().await, Issuer::start().await);
    let entry = |issuer: &Issuer| {
        let name = issuer.name();
        format!(
            "{{ issuer = \"{name}\", audience = [\"chat\"], algorithms = [\"ES256\"], values = [\"tenant\"] }}"
        )
    };
    let (one, both) = (entry(&issuer), [&issuer, &other].map(entry).join(", "));
    let configuration = refreshing(&issuer).replacen(&one, &format!("[{both}]"), 1);
    let keys = Keys::new();
    let key = keys.make("mobile", &[]).await;
    let file = keys.path().join("api-keys.toml");
    let beside = "authorizer = \"users\"\napi_key = \"keys\"";
    let configuration = configuration.replacen("authorizer = \"users\"", beside, 1);
    let more = format!(
        "[authorizers.keys]\napi_keys = {{ file = {file:?} }}\n[authorizers.others]\njwt = {}\n",
        entry(&other)
    );
    let gateway = LOCKGATE.serve(&(configuration + &more)).await;
    let bearer = format!("Bearer {}", issuer.token(json!({"tenant": "blue"})));
    let request = gateway.ws("/s").header("Authorization", &bearer);
    let mut client = request.header("X-Api-Key", &key).open().await;
    let foreign = other.token(json!({"tenant": "red"}));
    let refused = async |client: &mut Client| {
        client.send(with("refresh", &foreign)).await;
        client.expect_error("Forbidden").await;
        let who = client.step(json!({"do": "who"})).await;
        assert_eq!(who["values"]["tenant"], "blue");
    };
    refused(&mut client).await;
    // Its own issuer renews it, and that makes it no other's.
    let fresh = issuer.token(json!({"tenant": "blue"}));
    client.send(with("refresh", &fresh)).await;
    client.json().await;
    refused(&mut client).await;
    gateway
        .change(&[("authorizer = \"users\"", "authorizer = \"others\"")])
        .await;
    refused(&mut client).await;
}

#[tokio::test]
async fn route_that_renews_by_tokens_refuses_clients_of_other_authorizers() {
    let configuration = behind_a_door("", "").replace(
        "quietly = { integration = \"probe\" }",
        "refresh = { integration = \"probe\", two_way = true, renews = \"$request.body.token\" }",
    );
    let gateway = LOCKGATE.serve(&configuration).await;
    let doubt = ["\"WARN\"", "judges no tokens"];
    gateway.log().line(&doubt).await;
    let mut client = gateway.connect(&saying(&json!({"principal": "ada"}))).await;
    client.send(with("refresh", "x.y.z")).await;
    client.expect_error("Forbidden").await;
}
