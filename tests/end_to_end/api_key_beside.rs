//! An API key beside another authorizer: the order of the two, what handlers learn, and what counts.

use lockgate_tests::{Gateway, Request};
use serde_json::{Value, json};

use crate::LOCKGATE;
use crate::api_keys::Keys;
use crate::authorizers::{behind_a_door, saying};
use crate::connect::check_refusal;

const ONCE: &str = "[usage_plans.once]\nquota = { limit = 2, per = \"month\" }\nmessages = true\n";

/// The probe at `/s` behind the doorman and these keys, with this line in the table of the keys' authorizer.
fn beside(keys: &Keys, line: &str) -> String {
    let door = "authorizer = \"door\"";
    let both = format!("{door}\napi_key = \"keys\"");
    let configuration = behind_a_door("", "").replacen(door, &both, 1);
    let file = keys.path().join("api-keys.toml");
    format!("{configuration}\n[authorizers.keys]\napi_keys = {{ file = {file:?} }}\n{line}\n{ONCE}")
}

/// A client of whom the doorman says this, and that shows this key.
fn client(gateway: &Gateway, say: &Value, key: &str) -> Request {
    gateway.ws(&saying(say)).header("X-Api-Key", key)
}

#[tokio::test]
async fn client_shows_its_key_behind_the_authorizer_and_handlers_know_both() {
    let keys = Keys::new();
    let key = keys.make("mobile", &["--plan", "once"]).await;
    let gateway = LOCKGATE.serve(&beside(&keys, "")).await;
    let ada = json!({"principal": "ada", "values": {"team": "blue", "usage_plan": "mine"}});
    // API Gateway authenticates and authorizes, then asks for the API key. What one of them refuses uses up no plan.
    let stranger = client(&gateway, &json!({"refuse": 401}), &key);
    check_refusal(&stranger.refused().await, 401, "Unauthorized");
    let stranger = client(&gateway, &json!({"refuse": 403}), "wrong");
    check_refusal(&stranger.refused().await, 403, "Forbidden");
    for wrong in ["", "wrong", &(key.clone() + "A")] {
        let refused = client(&gateway, &ada, wrong).refused().await;
        check_refusal(&refused, 403, "Forbidden");
    }
    gateway
        .log()
        .line(&["refused", "no valid API key", "ada"])
        .await;
    let mut open = client(&gateway, &ada, &key).open().await;
    let who = open.step(json!({"do": "who"})).await;
    let values = json!({
        "team": "blue", "usage_plan": "once", "api_key_name": "mobile",
        "api_key_id": key.split_once('.').unwrap().0,
    });
    assert_eq!(who, json!({"principal": "ada", "values": values}));
    // The handshake and the message before were the plan's two uses.
    open.send(json!([{"do": "who"}]).to_string()).await;
    assert_eq!(open.json().await["message"], "Too Many Requests");
    let refused = client(&gateway, &ada, &key).refused().await;
    check_refusal(&refused, 429, "Too Many Requests");
    assert!(refused.header("retry-after").is_some());
}

#[tokio::test]
async fn values_of_a_key_are_none_of_the_authorizer_also_where_the_key_has_no_plan() {
    let keys = Keys::new();
    let key = keys.make("mobile", &[]).await;
    let gateway = LOCKGATE.serve(&beside(&keys, "")).await;
    let ada = json!({"principal": "ada", "values": {"team": "blue", "usage_plan": "gold", "api_key_id": "x"}});
    let mut open = client(&gateway, &ada, &key).open().await;
    let who = open.step(json!({"do": "who"})).await;
    let id = key.split_once('.').unwrap().0;
    let values = json!({"team": "blue", "api_key_name": "mobile", "api_key_id": id});
    assert_eq!(who, json!({"principal": "ada", "values": values}));
}

/// API Gateway's `usageIdentifierKey`: the authorizer knows the client's key, and no client ever sees it.
#[tokio::test]
async fn authorizer_may_give_the_key_and_handlers_do_not_get_it() {
    let keys = Keys::new();
    let key = keys.make("mobile", &[]).await;
    let source = "identity_source = [\"context.authorizer.usageIdentifierKey\"]";
    let gateway = LOCKGATE.serve(&beside(&keys, source)).await;
    let say = |key: &str| json!({"principal": "ada", "values": {"usageIdentifierKey": key}});
    let mut open = gateway.connect(&saying(&say(&key))).await;
    let who = open.step(json!({"do": "who"})).await;
    assert_eq!(who["values"]["api_key_name"], "mobile");
    assert_eq!(who["values"]["usageIdentifierKey"], Value::Null);
    for say in [say("wrong"), json!({"principal": "ada"})] {
        // The header is no source then.
        let refused = client(&gateway, &say, &key).refused().await;
        check_refusal(&refused, 403, "Forbidden");
    }
    let secret = key.split_once('.').unwrap().1;
    assert!(!gateway.log().lines().join("\n").contains(secret));
}

#[tokio::test]
async fn client_without_the_scopes_of_connect_uses_up_no_plan() {
    let keys = Keys::new();
    let key = keys.make("mobile", &["--plan", "once"]).await;
    let connect = "\"$connect\" = { integration = \"probe\"";
    let scoped = format!("{connect}, scopes = [\"join\"]");
    let configuration = beside(&keys, "").replacen(connect, &scoped, 1);
    let gateway = LOCKGATE.serve(&configuration).await;
    for _ in 0..3 {
        let without = client(&gateway, &json!({"principal": "ada"}), &key);
        check_refusal(&without.refused().await, 403, "Forbidden");
    }
    let say = json!({"principal": "ada", "scopes": ["join"]});
    client(&gateway, &say, &key).open().await;
}

#[tokio::test]
async fn stage_may_ask_for_a_key_alone_or_for_none() {
    let keys = Keys::new();
    let key = keys.make("mobile", &[]).await;
    let file = keys.path().join("api-keys.toml");
    let configuration = format!(
        "[apis.b]\napi_key = \"keys\"\nstages.t = {{}}\nstages.u = {{ api_key = \"none\" }}\n\
         routes.\"$default\" = {{ integration = \"m\", two_way = true }}\n\
         [integrations.m]\nmock = {{ reply = \"hi\" }}\n\
         [authorizers.keys]\napi_keys = {{ file = {file:?} }}\n"
    );
    let gateway = LOCKGATE.serve(&configuration).await;
    check_refusal(&gateway.ws("/t").refused().await, 403, "Forbidden");
    gateway.ws("/u").open().await;
    let request = || gateway.ws("/t").header("X-Api-Key", &key);
    let mut open = request().open().await;
    // Alone, the key's name is the client's.
    gateway
        .log()
        .line(&["\"connected\"", "\"principal\":\"mobile\""])
        .await;
    let none = "stages.t = { api_key = \"none\" }";
    gateway.change(&[("stages.t = {}", none)]).await;
    gateway.ws("/t").open().await;
    open.send("x").await;
    open.expect("hi").await;
}
