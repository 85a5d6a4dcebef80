//! An authorizer that does what the client's parameter `say` asks for, in JSON.

#![allow(
    clippy::disallowed_methods,
    reason = "a guest has one thread, and to hold it is what a test asks for"
)]

use std::{
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use lockgate_plugin::{Authorizer, ConnectionId, Handshake, Identity, Refusal, Result, context};
use serde_json::Value;

struct Doorman;

impl Authorizer for Doorman {
    fn authorize(id: ConnectionId, request: Handshake) -> Result<Identity, Refusal> {
        println!("asked about {}", request.path);
        let say: Value = request
            .query_parameter("say")
            .map_or(Value::Null, |say| serde_json::from_str(say).expect("JSON"));
        let text = |name: &str| say[name].as_str().map(str::to_owned);
        if let Some(time) = say["wait"].as_u64() {
            thread::sleep(Duration::from_millis(time));
        }
        if say["panic"].as_bool() == Some(true) {
            panic!("it cannot decide");
        }
        if let Some(mib) = say["keep"].as_u64() {
            let mut kept: Vec<u8> = Vec::new();
            if kept.try_reserve_exact((mib as usize) << 20).is_err() {
                return Err(Refusal::new(500).cause("no memory"));
            }
        }
        if let Some(status) = say["refuse"].as_u64() {
            let refusal = Refusal::new(status as u16);
            return Err(match text("message") {
                Some(message) => refusal.message(message),
                None => refusal,
            });
        }
        let mut identity = text("principal").map_or_else(Identity::anonymous, Identity::new);
        for (name, value) in say["values"].as_object().into_iter().flatten() {
            identity = match value {
                Value::Bool(flag) => identity.value(name, *flag),
                Value::Number(number) => identity.value(name, number.as_f64().expect("a number")),
                other => identity.value(name, other.as_str().expect("a text")),
            };
        }
        if let Some(letters) = say["letters"].as_u64() {
            identity = identity.value("letters", "x".repeat(letters as usize));
        }
        if say["nan"].as_bool() == Some(true) {
            identity = identity.value("nan", f64::NAN);
        }
        for scope in say["scopes"].as_array().into_iter().flatten() {
            identity = identity.scope(scope.as_str().expect("a text"));
        }
        if let Some(seconds) = say["expires_in"].as_f64() {
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .expect("it is past 1970");
            identity = identity.expires_at((now.as_millis() as f64 + seconds * 1_000.0) as u64);
        }
        if say["renew"].as_bool() == Some(true) {
            identity = identity.value("renewed", format!("{:?}", context::renew(1 << 50)));
        }
        if say["circumstances"].as_bool() == Some(true) {
            let current = context::current();
            let subject = request.certificate_subject.clone();
            identity = identity
                .value("id", id)
                .value("stage", current.stage)
                .value("api", current.api)
                .value("unknown", context::principal().is_none())
                .value("ip", request.source_ip.clone())
                .value("subject", subject.unwrap_or_default())
                .value("agent", request.header("user-agent").unwrap_or_default());
        }
        Ok(identity)
    }
}

lockgate_plugin::export_authorizer!(Doorman);
