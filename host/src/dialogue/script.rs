//! A dialogue as it was read: its steps, in order.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::expected::{Expected, Text};
use super::holes::Template;
use crate::auth::Identity;

/// The start of the clock where the dialogue sets none: 2026-01-01T00:00:00Z.
const DEFAULT_START: Duration = Duration::from_secs(1_767_225_600);

#[derive(Debug)]
pub(crate) struct Script {
    /// The time of day at the first step, since the Unix epoch.
    pub(crate) start: Duration,
    pub(crate) steps: Vec<Step>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            start: DEFAULT_START,
            steps: Vec::new(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Step {
    /// The line, from 1.
    pub(crate) line: usize,
    /// The line as it was written.
    pub(crate) written: String,
    pub(crate) action: Action,
}

#[derive(Debug)]
pub(crate) enum Action {
    /// Each of these clients acts, one after the other.
    Clients(Vec<String>, ClientAction),
    /// Time passes.
    Pass(Duration),
    /// The log has a line with this text, behind the last one that was asked for.
    Log(Text),
}

#[derive(Debug)]
pub(crate) enum ClientAction {
    Connect(Request),
    /// The answer to the handshake: the client is let in.
    LetIn {
        subprotocol: Option<Text>,
        headers: Vec<(String, Text)>,
    },
    /// The answer to the handshake: the client is refused.
    Refused {
        status: u16,
        message: Option<Text>,
    },
    Send(Outgoing),
    SendDatagram(Outgoing),
    Get(Expected),
    GetDatagram(Expected),
    GetNothing(Duration),
    Close(Option<(u16, String)>),
    Closed {
        code: Option<u16>,
        reason: Option<Text>,
    },
    Vanish,
}

/// A client's request to connect.
#[derive(Debug, Default)]
pub(crate) struct Request {
    /// None for the host of the stage.
    pub(crate) host: Option<String>,
    /// None for the path of the only stage.
    pub(crate) path: Option<String>,
    pub(crate) query: Option<Template>,
    pub(crate) from: Option<IpAddr>,
    /// Who the client is. None lets the stage's authorizer decide.
    pub(crate) identity: Option<Arc<Identity>>,
    /// Whether the client has datagrams, as one of WebTransport has.
    pub(crate) datagrams: bool,
    pub(crate) subprotocols: Option<String>,
    pub(crate) headers: Vec<(String, Template)>,
}

/// A message that a client sends.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Text(Template),
    Binary(Vec<u8>),
}

impl Step {
    /// What the client does or meets in this step, if it is among its clients.
    pub(crate) fn of(&self, client: &str) -> Option<&ClientAction> {
        match &self.action {
            Action::Clients(clients, action) => {
                clients.iter().any(|name| name == client).then_some(action)
            }
            Action::Pass(_) | Action::Log(_) => None,
        }
    }
}
