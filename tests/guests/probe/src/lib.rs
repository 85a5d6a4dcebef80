//! Takes the steps that its client sends, and answers with their results: one guest for all tests of a handler's view.
//!
//! A text message is a JSON list of steps, `[{"do": "count", "group": "lobby"}, …]`; the answer is a JSON list of their
//! results. The default of a connection id is the client's own. In `$connect` the steps are the query parameter `do`,
//! and the results are sent as a message if there is a parameter `tell`; in `$disconnect` they are the attribute
//! `farewell`. The end of each connection is printed, and published to the group `observers`.

#![allow(
    clippy::disallowed_methods,
    reason = "a guest has one thread, and to hold it is what a test asks for"
)]

mod faults;
mod step;

use lockgate_plugin::{
    Acceptance, Closing, Event, Handler, Handshake, Message, Refusal, Result, connections, groups,
};
use serde_json::{Value, json};

use step::{Outcome, Steps};

struct Probe;

impl Handler for Probe {
    fn connect(event: Event, handshake: Handshake) -> Result<Acceptance, Refusal> {
        let Some(steps) = handshake.query_parameter("do") else {
            return Ok(Acceptance::new());
        };
        let steps: Value = serde_json::from_str(steps)?;
        let mut run = Steps::new(&event, Some(&handshake));
        match run.all(&steps) {
            Outcome::Fail(cause) => return Err(Refusal::new(500).cause(cause)),
            Outcome::Refuse(refusal) => return Err(refusal),
            Outcome::Answer | Outcome::Reply(_) | Outcome::Silence => {}
        }
        if handshake.query_parameter("tell").is_some() {
            connections::send(&event.connection_id, run.answers().to_string())?;
        }
        Ok(run.acceptance)
    }

    fn message(event: Event, message: Message) -> Result<Option<Message>> {
        let steps: Value = serde_json::from_slice(message.as_bytes())?;
        // A message with a route key has its steps beside it.
        let steps = steps.get("steps").unwrap_or(&steps);
        let mut run = Steps::new(&event, None);
        match run.all(steps) {
            Outcome::Answer => Ok(Some(run.answers().to_string().into())),
            Outcome::Reply(message) => Ok(Some(message)),
            Outcome::Silence => Ok(None),
            Outcome::Fail(reason) => Err(reason.into()),
            Outcome::Refuse(refusal) => {
                Err(format!("a message cannot be refused: {refusal:?}").into())
            }
        }
    }

    fn disconnect(event: Event, closing: Closing) {
        let id = &event.connection_id;
        println!("ended: {id} {} {:?}", closing.code, closing.reason);
        let mut answers = Value::Null;
        if let Ok(Some(steps)) = connections::attribute(id, "farewell") {
            let steps = serde_json::from_str(&steps).unwrap();
            let mut run = Steps::new(&event, None);
            run.all(&steps);
            answers = run.answers();
        }
        let report = json!({
            "ended": id, "route": event.route_key, "code": closing.code, "reason": closing.reason, "farewell": answers,
        });
        groups::publish("observers", report.to_string()).unwrap();
    }
}

lockgate_plugin::export!(Probe);
