//! Talking to the guest `probe`: the client sends steps, and gets their results.

use serde_json::{Value, json};

use crate::Client;

/// The end of a connection, as the probe's `$disconnect` handler reports it.
#[derive(Debug, PartialEq, Eq)]
pub struct DisconnectReport {
    pub code: u64,
    pub reason: String,
    /// The results of the steps in the connection's attribute `farewell`.
    pub farewell: Value,
}

impl Client {
    /// Has the probe take these steps, and returns the result of each. The route must be two-way.
    ///
    /// A report for an observer may come before the answer: it is kept for [`Self::ended`].
    pub async fn steps(&mut self, steps: Value) -> Vec<Value> {
        self.send(steps.to_string()).await;
        loop {
            match self.json().await {
                Value::Array(answers) => return answers,
                report if report["ended"].is_string() => self.reports.push_back(report),
                answer => panic!("not the probe's answers: {answer}"),
            }
        }
    }

    /// Has the probe take one step, and returns its result.
    pub async fn step(&mut self, step: Value) -> Value {
        self.steps(json!([step])).await.swap_remove(0)
    }

    /// The id of this connection.
    pub async fn id(&mut self) -> String {
        self.step(json!({"do": "event"})).await["connection"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Makes this connection an observer, which gets reports of others' ends: see [`Self::ended`].
    pub async fn observe(&mut self) {
        assert_eq!(
            self.step(json!({"do": "join", "group": "observers"})).await,
            "ok"
        );
    }

    /// Waits for the report about the end of the connection `id`. Reports about other connections are skipped.
    pub async fn ended(&mut self, id: &str) -> DisconnectReport {
        loop {
            let report = match self.reports.pop_front() {
                Some(report) => report,
                None => self.json().await,
            };
            if report["ended"] == id {
                assert_eq!(report["route"], "$disconnect");
                return DisconnectReport {
                    code: report["code"].as_u64().unwrap(),
                    reason: report["reason"].as_str().unwrap().to_owned(),
                    farewell: report["farewell"].clone(),
                };
            }
        }
    }
}
