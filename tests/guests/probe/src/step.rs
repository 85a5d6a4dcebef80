//! The steps that a client can ask for.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, SystemTime},
};

use lockgate_plugin::{
    Acceptance, Error, Event, Handshake, Message, Refusal, connections, context, groups,
};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::faults;

/// State that an instance keeps from one invocation to the next.
static COUNTER: AtomicU32 = AtomicU32::new(0);

/// The outcome of a list of steps.
pub enum Outcome {
    /// The results are the answer.
    Answer,
    /// This message is the answer in place of the results.
    Reply(Message),
    /// There is no answer.
    Silence,
    Fail(String),
    Refuse(Refusal),
}

pub struct Steps<'a> {
    event: &'a Event,
    handshake: Option<&'a Handshake>,
    answers: Vec<Value>,
    pub acceptance: Acceptance,
}

impl<'a> Steps<'a> {
    pub fn new(event: &'a Event, handshake: Option<&'a Handshake>) -> Self {
        Self {
            event,
            handshake,
            answers: Vec::new(),
            acceptance: Acceptance::new(),
        }
    }

    pub fn answers(&self) -> Value {
        Value::Array(self.answers.clone())
    }

    /// Takes the steps in order, until one ends them.
    pub fn all(&mut self, steps: &Value) -> Outcome {
        for step in steps.as_array().expect("a list of steps") {
            let step = Step {
                fields: step.as_object().expect("an object"),
                own: &self.event.connection_id,
            };
            match step.text("do") {
                "reply" => return Outcome::Reply(step.message()),
                "silence" => return Outcome::Silence,
                "fail" => return Outcome::Fail(step.text("reason").to_owned()),
                "keep" => {
                    if let Err(reason) = faults::keep(step.number("mib") as usize) {
                        return Outcome::Fail(reason.to_owned());
                    }
                    self.answers.push(Value::Null);
                }
                "refuse" => {
                    let refusal = Refusal::new(step.number("status") as u16);
                    let letters = step.fields.get("letters").and_then(Value::as_u64);
                    return Outcome::Refuse(match (step.optional("message"), letters) {
                        (Some(message), _) => refusal.message(message),
                        (None, Some(letters)) => refusal.message("x".repeat(letters as usize)),
                        (None, None) => refusal,
                    });
                }
                "accept" => {
                    self.acceptance.subprotocol = step.optional("subprotocol").map(str::to_owned);
                    self.acceptance.headers = step.pairs("headers");
                    self.answers.push(Value::Null);
                }
                "event" => self.answers.push(json!({
                    "connection": self.event.connection_id, "route": self.event.route_key,
                })),
                "handshake" => {
                    let handshake = self.handshake.expect("a client that connects");
                    self.answers.push(json!({
                        "query": handshake.query, "headers": handshake.headers,
                        "subprotocols": handshake.subprotocols, "source_ip": handshake.source_ip,
                        "domain_name": handshake.domain_name, "path": handshake.path,
                        "http_version": handshake.http_version, "secure": handshake.secure,
                        "certificate_subject": handshake.certificate_subject,
                    }));
                }
                _ => self.answers.push(step.take()),
            }
        }
        Outcome::Answer
    }
}

struct Step<'a> {
    fields: &'a Map<String, Value>,
    own: &'a str,
}

impl Step<'_> {
    fn take(&self) -> Value {
        match self.text("do") {
            "send" => ok_or_error(connections::send(self.id(), self.message())),
            "datagram" => ok_or_error(connections::send_datagram(
                self.id(),
                self.message().as_bytes(),
            )),
            "close" => ok_or_error(connections::close(
                self.id(),
                self.number("code") as u16,
                self.text("reason"),
            )),
            "info" => self.info(),
            "attribute" => value(connections::attribute(self.id(), self.text("name"))),
            "attributes" => value(connections::attributes(self.id())),
            "set" => ok_or_error(match self.optional("value") {
                Some(value) => connections::set_attribute(self.id(), self.text("name"), value),
                None => connections::remove_attribute(self.id(), self.text("name")),
            }),
            "join" => ok_or_error(groups::join(self.text("group"), self.id())),
            "leave" => ok_or_error(groups::leave(self.text("group"), self.id())),
            "publish" => value(match self.optional("except") {
                Some(except) => groups::publish_except(self.text("group"), self.message(), except),
                None => groups::publish(self.text("group"), self.message()),
            }),
            "members" => {
                let limit = self.number("limit") as u32;
                value(groups::members(
                    self.text("group"),
                    self.optional("after"),
                    limit,
                ))
            }
            "count" => value(groups::count(self.text("group"))),
            "burst" => self.burst(),
            "context" => {
                let now = context::current();
                json!({
                    "request": now.request_id, "api": now.api, "stage": now.stage, "message": now.message_id,
                    "requested_at": now.requested_at, "principal": context::principal(),
                    "authorizer": context::authorizer().len(),
                })
            }
            "who" => {
                let values = context::authorizer().into_iter().map(|(name, value)| {
                    let value = match value {
                        context::Value::Text(text) => json!(text),
                        context::Value::Number(number) => json!(number),
                        context::Value::Flag(flag) => json!(flag),
                    };
                    (name, value)
                });
                let values: Map<_, _> = values.collect();
                json!({"principal": context::principal(), "values": values})
            }
            "renew" => ok_or_error(self.renew()),
            "is datagram" => json!(context::is_datagram()),
            "time left" => json!(context::time_left().as_millis() as u64),
            "variables" => json!(context::variables()),
            "counter" => json!(COUNTER.fetch_add(1, Ordering::Relaxed)),
            "sleep" => {
                thread::sleep(Duration::from_millis(self.number("ms")));
                Value::Null
            }
            "print" => {
                println!("{}", self.text("text"));
                Value::Null
            }
            "print error" => {
                eprintln!("{}", self.text("text"));
                Value::Null
            }
            "print bytes" => {
                print!("{}", "x".repeat(self.number("bytes") as usize));
                Value::Null
            }
            "environment" => json!({
                "variables": std::env::vars().collect::<Vec<_>>(),
                "arguments": std::env::args().collect::<Vec<_>>(),
            }),
            "clock" => json!(now()),
            "spin" => faults::spin(),
            "spin for" => faults::spin_for(self.number("ms")),
            "compute" => faults::compute(self.number("rounds")),
            "trap" => faults::trap(),
            "recurse" => json!(faults::recurse(1)),
            "grow" => json!(faults::grow(self.number("mib") as usize)),
            "hog" => faults::hog(),
            unknown => panic!("no such step: {unknown}"),
        }
    }

    fn info(&self) -> Value {
        match connections::info(self.id()) {
            Ok(info) => json!({
                "connected_at": info.connected_at, "last_active_at": info.last_active_at,
                "source_ip": info.source_ip, "user_agent": info.user_agent, "domain_name": info.domain_name,
                "subprotocol": info.subprotocol,
            }),
            Err(error) => word(&error),
        }
    }

    /// Renews what let the client in: until `at`, or for `for_ms` from now on; with `values` if there are some.
    fn renew(&self) -> Result<(), Error> {
        let until = self.fields.get("at").and_then(Value::as_u64);
        let until = until.unwrap_or_else(|| now() + self.number("for_ms"));
        let Some(values) = self.fields.get("values") else {
            return context::renew(until);
        };
        let values = values.as_array().expect("a list of pairs").iter();
        let values = values.map(|pair| {
            let value = match &pair[1] {
                Value::Bool(flag) => context::Value::Flag(*flag),
                Value::Number(number) => context::Value::Number(number.as_f64().unwrap()),
                Value::Null => context::Value::Number(f64::NAN),
                text => context::Value::Text(text.as_str().unwrap().to_owned()),
            };
            (pair[0].as_str().unwrap(), value)
        });
        context::renew_with(until, values)
    }

    /// Sends the same message `times` times; the result is the number of successes and the error of the next.
    fn burst(&self) -> Value {
        let message = self.message();
        for taken in 0..self.number("times") {
            if let Err(error) = connections::send(self.id(), &message) {
                return json!([taken, word(&error)]);
            }
        }
        json!([self.number("times"), Value::Null])
    }

    fn id(&self) -> &str {
        self.optional("id").unwrap_or(self.own)
    }

    /// The text in `text`, the bytes in `bytes`, or the number of letters in `letters`.
    fn message(&self) -> Message {
        if let Some(text) = self.optional("text") {
            return text.into();
        }
        if let Some(letters) = self.fields.get("letters").and_then(Value::as_u64) {
            return "x".repeat(letters as usize).into();
        }
        let bytes = self.fields["bytes"].as_array().expect("a list of bytes");
        let bytes: Vec<u8> = bytes
            .iter()
            .map(|byte| byte.as_u64().unwrap() as u8)
            .collect();
        bytes.into()
    }

    fn text(&self, name: &str) -> &str {
        self.optional(name)
            .unwrap_or_else(|| panic!("the step has no text {name}"))
    }

    fn optional(&self, name: &str) -> Option<&str> {
        self.fields.get(name).and_then(Value::as_str)
    }

    fn number(&self, name: &str) -> u64 {
        self.fields
            .get(name)
            .and_then(Value::as_u64)
            .unwrap_or_else(|| panic!("the step has no number {name}"))
    }

    fn pairs(&self, name: &str) -> Vec<(String, String)> {
        let Some(pairs) = self.fields.get(name) else {
            return Vec::new();
        };
        serde_json::from_value(pairs.clone()).unwrap()
    }
}

/// Milliseconds since 1970.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap().as_millis() as u64
}

fn ok_or_error(result: Result<(), Error>) -> Value {
    match result {
        Ok(()) => json!("ok"),
        Err(error) => word(&error),
    }
}

fn value(result: Result<impl Serialize, Error>) -> Value {
    match result {
        Ok(value) => json!(value),
        Err(error) => word(&error),
    }
}

/// The name of the error's case in the contract.
fn word(error: &Error) -> Value {
    match error {
        Error::Gone => json!("gone"),
        Error::Busy => json!("busy"),
        Error::TooLarge => json!("too-large"),
        Error::Denied => json!("denied"),
        Error::Unreachable => json!("unreachable"),
        Error::Invalid(why) => json!({ "invalid": why }),
    }
}
