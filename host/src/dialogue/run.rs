//! Runs a dialogue: each step when the one before is over and all that it caused has happened.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use http::header::SEC_WEBSOCKET_PROTOCOL;
use http_body_util::Empty;
use serde_json::Value;

use super::Failure;
use super::client::{Answer, Client, Event, connect};
use super::expected::{Expected, Text, show};
use super::holes::{Captures, Template};
use super::json::Difference;
use super::script::{Action, ClientAction, Outgoing, Request, Script, Step};
use super::world::{Overdue, World};
use crate::clock;
use crate::config::{self, Config};
use crate::connections::Message;
use crate::gateway::Gateway;
use crate::net::MemoryDatagrams;
use crate::telemetry::{CapturedLog, capture};

/// The host of a stage without domains.
const LOCALHOST: &str = "localhost";

/// The port from which the first client comes.
const FIRST_PORT: u16 = 40_000;

/// Time beyond the longest deadline that an expected message may take.
const MARGIN: Duration = Duration::from_secs(1);

/// Why a step failed: what was expected, what came, how they differ.
struct Details(Vec<(&'static str, Vec<String>)>);

/// The outcome of a dialogue.
pub(crate) struct Ran {
    /// The outer error is that of a gateway that does not start.
    pub(crate) outcome: Result<Result<(), Failure>>,
    /// What the plugin and the gateway have logged.
    pub(crate) log: Vec<String>,
}

/// Runs a dialogue against the gateway of a configuration.
pub(crate) fn run(script: &Script, config: &Config) -> Result<Ran> {
    capture(|log| {
        let ran = World::run(script.start, async |world| {
            let gateway = Gateway::start_in_memory(config.clone()).await?;
            // The start may have waited.
            clock::set(script.start);
            let deadlines = config.plugins.iter().map(|plugin| plugin.limits.deadline);
            let stages = config.apis.iter().flat_map(|api| &api.stages);
            let stages = stages.map(|stage| StageAddress::new(stage, config));
            let mut running = Running {
                gateway,
                world,
                log: log.clone(),
                logged: 0,
                stages: stages.collect(),
                patience: deadlines.max().unwrap_or_default() + MARGIN,
                clients: BTreeMap::new(),
                connected: 0,
                captures: Captures::new(),
            };
            Ok::<_, anyhow::Error>(running.run(script).await)
        });
        Ran {
            outcome: ran.and_then(|ran| ran),
            log: log.since(0).0,
        }
    })
}

/// Where a stage is, and which authorizer it has that no dialogue can ask.
struct StageAddress {
    host: String,
    path: String,
    out_of_reach: Option<String>,
}

impl StageAddress {
    fn new(stage: &config::Stage, config: &Config) -> Self {
        let (host, path) = match stage.domains.first() {
            None => (LOCALHOST, stage.name.as_str()),
            Some(domain) => (
                domain.host.as_str(),
                domain.base_path.as_deref().unwrap_or_default(),
            ),
        };
        let mut authorizers = config.authorizers.iter();
        let authorizer = stage.authorizer.as_ref();
        let authorizer = authorizer.and_then(|name| authorizers.find(|one| one.name == *name));
        Self {
            host: host.to_owned(),
            path: format!("/{path}"),
            out_of_reach: authorizer
                .filter(|authorizer| !authorizer.decides_in_memory())
                .map(|authorizer| authorizer.name.clone()),
        }
    }
}

struct Running {
    gateway: Arc<Gateway>,
    world: World,
    log: CapturedLog,
    /// Log lines that steps have asked for.
    logged: usize,
    stages: Vec<StageAddress>,
    /// How long a message may take to come: until then the handler of any message has ended.
    patience: Duration,
    clients: BTreeMap<String, Answer>,
    /// Clients so far: each has a port of its own.
    connected: u16,
    captures: Captures,
}

impl Running {
    async fn run(&mut self, script: &Script) -> Result<(), Failure> {
        for (index, step) in script.steps.iter().enumerate() {
            let later = script.steps.get(index + 1..).unwrap_or_default();
            let failed = |details| failure(step.line, step.written.clone(), details);
            self.step(step, later).await.map_err(failed)?;
        }
        let last = script.steps.last().map_or(1, |step| step.line);
        let failed = |details| failure(last, "the end of the dialogue".into(), details);
        self.end().await.map_err(failed)
    }

    async fn step(&mut self, step: &Step, later: &[Step]) -> Result<(), Details> {
        self.world.step();
        match &step.action {
            Action::Clients(names, action) => {
                for name in names {
                    self.client(name, action, later).await?;
                }
            }
            Action::Pass(time) => {
                self.world.settle().await?;
                self.world.pass(*time).await?;
            }
            Action::Log(text) => self.find_in_log(text).await?,
        }
        Ok(self.world.settle().await?)
    }

    async fn client(
        &mut self,
        name: &str,
        action: &ClientAction,
        later: &[Step],
    ) -> Result<(), Details> {
        match action {
            ClientAction::Connect(request) => {
                let mut answers = later.iter().filter_map(|step| step.of(name));
                let refused = matches!(answers.next(), Some(ClientAction::Refused { .. }));
                self.connect(name, request, refused).await
            }
            ClientAction::LetIn {
                subprotocol,
                headers,
            } => self.check_let_in(name, subprotocol.as_ref(), headers),
            ClientAction::Refused { status, message } => {
                self.check_refused(name, *status, message.as_ref())
            }
            ClientAction::Send(message) => {
                let message = self.message(message);
                let (client, world, patience) = self.open(name)?;
                let sent = world.within(patience, client.send(message)).await?;
                sent.ok_or_else(|| came("the gateway reads no message of this client".into()))
            }
            ClientAction::SendDatagram(message) => {
                let payload = self.message(message).bytes().to_vec();
                match self.open(name)?.0.send_datagram(payload) {
                    true => Ok(()),
                    false => Err(came(format!(
                        "the gateway takes no datagram of {name}: it takes {name} connects with datagrams, a stage with datagrams = true, \
                         and a connection that has not ended"
                    ))),
                }
            }
            ClientAction::Get(expected) => self.get(name, expected).await,
            ClientAction::GetDatagram(expected) => self.get_datagram(name, expected).await,
            ClientAction::GetNothing(during) => {
                self.world.settle().await?;
                if !during.is_zero() {
                    self.world.pass(*during).await?;
                    self.world.settle().await?;
                }
                let (client, ..) = self.open(name)?;
                check_unread(client, || "nothing".into())
            }
            ClientAction::Close(close) => {
                let (client, world, patience) = self.open(name)?;
                let closed = world.within(patience, client.close(close.clone())).await?;
                closed.ok_or_else(|| came("the gateway does not answer the close".into()))
            }
            ClientAction::Closed { code, reason } => {
                self.get_close(name, *code, reason.as_ref()).await
            }
            ClientAction::Vanish => {
                self.open(name)?.0.vanish();
                Ok(())
            }
        }
    }

    fn message(&self, message: &Outgoing) -> Message {
        match message {
            Outgoing::Text(text) => Message::Text(text.fill(&self.captures)),
            Outgoing::Binary(bytes) => Message::Binary(bytes.clone()),
        }
    }

    /// The client of a name, which is let in.
    fn open(&mut self, name: &str) -> Result<(&mut Client, &World, Duration), Details> {
        match self.clients.get_mut(name) {
            Some(Answer::Open(client)) => Ok((client, &self.world, self.patience)),
            Some(Answer::Refused { .. }) | None => Err(came(format!("{name} is not connected"))),
        }
    }

    async fn connect(
        &mut self,
        name: &str,
        request: &Request,
        refused: bool,
    ) -> Result<(), Details> {
        if let Some(Answer::Open(mut before)) = self.clients.remove(name) {
            check_read(name, &mut before)?;
        }
        let address = SocketAddr::new(
            request.from.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            FIRST_PORT.saturating_add(self.connected),
        );
        self.connected = self.connected.saturating_add(1);
        let (far, near) = match request.datagrams {
            true => Some(MemoryDatagrams::pair()).unzip(),
            false => (None, None),
        };
        let identity = request.identity.clone();
        let request = self.request(request)?;
        if identity.is_none() {
            self.check_in_reach(name, request.uri().path())?;
        }
        let asked = connect(self.gateway.connect(address, identity, near), far, request);
        let answer = match self.world.within(self.patience, asked).await? {
            Some(Ok(answer)) => answer,
            Some(Err(error)) => return Err(came(format!("the handshake failed: {error:#}"))),
            None => return Err(came(self.nothing())),
        };
        if let Answer::Refused { status, body } = &answer
            && !refused
        {
            let body = String::from_utf8_lossy(body);
            let came = format!("{name} is refused with {}: {body}", status.as_u16());
            return Err(differ(format!("{name} is let in"), came, &[]));
        }
        self.clients.insert(name.to_owned(), answer);
        Ok(())
    }

    /// Refuses to connect a client on which an authorizer decides that no dialogue can ask. A path that is no stage's own may be that
    /// of any.
    fn check_in_reach(&self, name: &str, path: &str) -> Result<(), Details> {
        let own = self.stages.iter().find(|stage| stage.path == path);
        let mut stages = self.stages.iter();
        let out_of_reach = match own {
            Some(stage) => stage.out_of_reach.as_ref(),
            None => stages.find_map(|stage| stage.out_of_reach.as_ref()),
        };
        match out_of_reach {
            None => Ok(()),
            Some(authorizer) => Err(came(format!(
                "authorizers.{authorizer} needs a network, a certificate or a file of keys, and a dialogue has none; say whom it \
                 lets in, as in {name} connects as ada"
            ))),
        }
    }

    fn request(&self, request: &Request) -> Result<http::Request<Empty<Bytes>>, Details> {
        let (host, path) = match (&request.path, self.stages.as_slice()) {
            (Some(path), stages) => {
                let same = stages.iter().find(|stage| stage.path == *path);
                let host = request.host.as_deref();
                let host = host.or_else(|| same.map(|stage| stage.host.as_str()));
                (host.unwrap_or(LOCALHOST), path)
            }
            (None, [stage]) => (stage.host.as_str(), &stage.path),
            (None, stages) => {
                let places: Vec<_> = stages
                    .iter()
                    .map(|stage| match stage.host.as_str() {
                        LOCALHOST => stage.path.clone(),
                        host => format!("{host}{}", stage.path),
                    })
                    .collect();
                return Err(came(format!(
                    "the configuration has {} stages; name one, as in a connects to {}",
                    stages.len(),
                    places.join(" or ")
                )));
            }
        };
        let fill = |template: &Template| template.fill(&self.captures);
        let query = request.query.as_ref().map(fill).unwrap_or_default();
        let mut built = http::Request::get(format!("{path}{query}"));
        let mut own = vec![
            ("host", host.to_owned()),
            ("connection", "Upgrade".into()),
            ("upgrade", "websocket".into()),
            ("sec-websocket-version", "13".into()),
            ("sec-websocket-key", "ZGlhbG9ndWUgb2YgYSBwbA==".into()),
        ];
        if let Some(offered) = &request.subprotocols {
            own.push(("sec-websocket-protocol", offered.clone()));
        }
        own.retain(|(name, _)| {
            let mut written = request.headers.iter();
            !written.any(|(other, _)| other.eq_ignore_ascii_case(name))
        });
        for (name, value) in own {
            built = built.header(name, value);
        }
        for (name, value) in &request.headers {
            built = built.header(name, fill(value));
        }
        let wrong = |error| came(format!("the request cannot be sent: {error}"));
        built.body(Empty::new()).map_err(wrong)
    }

    fn check_let_in(
        &mut self,
        name: &str,
        subprotocol: Option<&Text>,
        headers: &[(String, Text)],
    ) -> Result<(), Details> {
        let mut captures = self.captures.clone();
        let (client, ..) = self.open(name)?;
        let of_subprotocol = subprotocol.map(|text| (SEC_WEBSOCKET_PROTOCOL.as_str(), text));
        let others = headers.iter().map(|(name, text)| (name.as_str(), text));
        for (header, text) in of_subprotocol.into_iter().chain(others) {
            let values = client.headers.get_all(header).iter();
            let values: Vec<_> = values
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
                .collect();
            if !values.iter().any(|value| text.fits(value, &mut captures)) {
                let shown = match values.as_slice() {
                    [] => format!("no header {header}"),
                    values => format!("{header}: {}", values.join(", ")),
                };
                let expected = format!("{header}: {}", text.show(&captures));
                return Err(differ(expected, shown, &[]));
            }
        }
        self.captures = captures;
        Ok(())
    }

    fn check_refused(
        &mut self,
        name: &str,
        expected: u16,
        message: Option<&Text>,
    ) -> Result<(), Details> {
        let Some(Answer::Refused { status, body }) = self.clients.get(name) else {
            let refused = format!("{name} is refused with {expected}");
            return Err(differ(refused, format!("{name} is let in"), &[]));
        };
        let came = String::from_utf8_lossy(body);
        let said = serde_json::from_str::<Value>(&came).ok();
        let said = said.and_then(|body| Some(body.get("message")?.as_str()?.to_owned()));
        let said = said.unwrap_or_else(|| came.into_owned());
        let fits = message.is_none_or(|text| text.fits(&said, &mut self.captures));
        if status.as_u16() == expected && fits {
            return Ok(());
        }
        let message = message.map(|text| format!(" {}", text.show(&self.captures)));
        Err(differ(
            format!("refused with {expected}{}", message.unwrap_or_default()),
            format!("refused with {} {said}", status.as_u16()),
            &[],
        ))
    }

    async fn get(&mut self, name: &str, expected: &Expected) -> Result<(), Details> {
        let (client, world, patience) = self.open(name)?;
        let event = world.within(patience, client.event()).await?;
        let shown = expected.show(&self.captures);
        match event {
            None => Err(differ(shown, self.nothing(), &[])),
            Some(Event::Message(message)) => {
                let fits = expected.fits(&message, &mut self.captures);
                fits.map_err(|differences| differ(shown, show(&message), &differences))
            }
            Some(event) => Err(differ(shown, describe(&event), &[])),
        }
    }

    async fn get_datagram(&mut self, name: &str, expected: &Expected) -> Result<(), Details> {
        let (client, world, patience) = self.open(name)?;
        let came = world.within(patience, client.datagram()).await?;
        let shown = format!("datagram {}", expected.show(&self.captures));
        match came {
            None => Err(differ(shown, self.nothing(), &[])),
            Some(datagram) => {
                let message = match expected {
                    Expected::Binary(_) => Message::Binary(datagram),
                    Expected::Json(_) | Expected::Text(_) | Expected::Error(_) => {
                        readable(datagram)
                    }
                };
                let fits = expected.fits(&message, &mut self.captures);
                let came = || format!("datagram {}", show(&message));
                fits.map_err(|differences| differ(shown, came(), &differences))
            }
        }
    }

    async fn get_close(
        &mut self,
        name: &str,
        code: Option<u16>,
        reason: Option<&Text>,
    ) -> Result<(), Details> {
        let (client, world, patience) = self.open(name)?;
        let event = world.within(patience, client.event()).await?;
        let said = match &event {
            Some(Event::Closed(Some((code, reason)))) => Some((*code, reason.as_str())),
            // The codes that stand for a close frame without a code, and for no close frame.
            Some(Event::Closed(None)) => Some((1005, "")),
            Some(Event::Gone) => Some((1006, "")),
            Some(Event::Message(_)) | None => None,
        };
        let fits = said.is_some_and(|(came, text)| {
            code.is_none_or(|code| code == came)
                && reason.is_none_or(|reason| reason.fits(text, &mut self.captures))
        });
        if fits {
            return Ok(());
        }
        let code = code.map(|code| format!(" with {code}"));
        let reason = reason.map(|reason| format!(" {}", reason.show(&self.captures)));
        Err(differ(
            format!(
                "closed{}{}",
                code.unwrap_or_default(),
                reason.unwrap_or_default()
            ),
            event.map_or_else(|| self.nothing(), |event| describe(&event)),
            &[],
        ))
    }

    async fn find_in_log(&mut self, text: &Text) -> Result<(), Details> {
        self.world.settle().await?;
        for patience in [Duration::ZERO, self.patience] {
            if !patience.is_zero() {
                self.world.pass(patience).await?;
            }
            let (lines, _) = self.log.since(self.logged);
            let captures = &mut self.captures;
            let found = lines.iter().position(|line| text.is_within(line, captures));
            if let Some(found) = found {
                self.logged += found + 1;
                return Ok(());
            }
        }
        let shown = text.show(&self.captures);
        Err(differ(
            format!("a line of the log with {shown}"),
            "no such line behind the last one that was asked for".into(),
            &[],
        ))
    }

    /// Nothing is left unread at the end.
    async fn end(&mut self) -> Result<(), Details> {
        self.world.step();
        self.world.settle().await?;
        for (name, answer) in &mut self.clients {
            if let Answer::Open(client) = answer {
                check_read(name, client)?;
            }
        }
        Ok(())
    }

    fn nothing(&self) -> String {
        format!(
            "nothing, within {} s of the dialogue's clock",
            self.patience.as_secs_f64()
        )
    }
}

/// Fails for a message that no step has expected.
fn check_read(name: &str, client: &mut Client) -> Result<(), Details> {
    check_unread(client, || format!("{name} gets nothing more"))
}

/// Fails for a message or a datagram that is there.
fn check_unread(client: &mut Client, expected: impl Fn() -> String) -> Result<(), Details> {
    let datagram = |datagram| format!("datagram {}", show(&readable(datagram)));
    let unread = client.event_now().map(|event| describe(&event));
    match unread.or_else(|| client.datagram_now().map(datagram)) {
        None => Ok(()),
        Some(unread) => Err(differ(expected(), unread, &[])),
    }
}

/// A datagram as a text, if it is one.
fn readable(datagram: Vec<u8>) -> Message {
    match String::from_utf8(datagram) {
        Ok(text) => Message::Text(text),
        Err(error) => Message::Binary(error.into_bytes()),
    }
}

fn describe(event: &Event) -> String {
    match event {
        Event::Message(message) => show(message),
        Event::Closed(Some((code, reason))) => format!("closed with {code} {reason}"),
        Event::Closed(None) => "closed without a code".into(),
        Event::Gone => "the end of the connection, without a close frame".into(),
    }
}

fn failure(line: usize, written: String, Details(details): Details) -> Failure {
    Failure {
        line,
        written,
        details,
    }
}

fn came(text: String) -> Details {
    Details(vec![("came", vec![text])])
}

fn differ(expected: String, came: String, differences: &[Difference]) -> Details {
    let mut details = vec![("expected", vec![expected]), ("came", vec![came])];
    if !differences.is_empty() {
        let lines = differences.iter().map(Difference::to_string).collect();
        details.push(("differs", lines));
    }
    Details(details)
}

impl From<Overdue> for Details {
    fn from(Overdue: Overdue) -> Self {
        came("nothing, within a minute of real time: the plugin or the gateway hangs".into())
    }
}
