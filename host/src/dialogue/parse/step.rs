//! One step of a dialogue.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use http::uri::PathAndQuery;
use serde_json::Value as Json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::message::{self, Written};
use super::{Lines, Wrong};
use crate::auth::{Identity, Value};
use crate::dialogue::expected::{Expected, Text};
use crate::dialogue::holes::{Template, is_name, pieces};
use crate::dialogue::script::{Action, ClientAction, Outgoing, Request, Script};

/// The remedy for a step that is none.
const STEPS: &str = "write what a client does or meets: a connects, a is let in, a is refused with 403, a sends TEXT, a gets TEXT, \
                     a gets nothing, a gets error TEXT, a closes, a is closed with 1000, a vanishes; \
                     or: 2 seconds pass, the log says TEXT, the time is 2026-01-01T00:00:00Z";

/// Reads the step of a line, which begins at `start`. None for one that only sets something.
pub(super) fn read(
    line: &str,
    start: usize,
    lines: &mut Lines<'_>,
    script: &mut Script,
) -> Result<Option<Action>, Wrong> {
    if let Some(time) = line.strip_prefix("the time is ") {
        return set_time(time.trim(), script).map(|()| None);
    }
    if let Some(said) = line.strip_prefix("the log says ") {
        return Ok(Some(Action::Log(text(said.trim())?)));
    }
    if line.starts_with(|first: char| first.is_ascii_digit()) {
        let (time, verb) = line.rsplit_once(' ').unwrap_or((line, ""));
        if !["pass", "passes"].contains(&verb) {
            return Err((
                format!("a step that begins with a time says that it passes: {line}"),
                "write it as 2 seconds pass; a client's name begins with a letter".into(),
            ));
        }
        return Ok(Some(Action::Pass(message::time(time.trim())?)));
    }
    let (clients, behind) = clients(line)?;
    let (verb, rest) = word(behind);
    let place = start + (line.len() - rest.len());
    let action = match (verb, word(rest)) {
        ("connect" | "connects", _) => connect(rest, lines)?,
        ("is" | "are", ("let", behind)) if word(behind).0 == "in" => let_in(word(behind).1, lines)?,
        ("is" | "are", ("refused", with)) => refused(with)?,
        ("is" | "are", ("closed", with)) => {
            let (code, reason) = code(with)?;
            let reason = reason.map(text).transpose()?;
            ClientAction::Closed { code, reason }
        }
        ("send" | "sends", ("datagram", written)) if !written.is_empty() => {
            let place = start + (line.len() - written.len());
            ClientAction::SendDatagram(outgoing(message::read(written, place, lines)?)?)
        }
        ("send" | "sends", _) => ClientAction::Send(outgoing(message::read(rest, place, lines)?)?),
        ("get" | "gets", ("nothing", "")) => ClientAction::GetNothing(Duration::ZERO),
        ("get" | "gets", ("nothing", during)) if word(during).0 == "for" => {
            ClientAction::GetNothing(message::time(word(during).1)?)
        }
        ("get" | "gets", ("error", said)) if !said.is_empty() => {
            ClientAction::Get(Expected::Error(text(said)?))
        }
        ("get" | "gets", ("datagram", written)) if !written.is_empty() => {
            let place = start + (line.len() - written.len());
            ClientAction::GetDatagram(expected(message::read(written, place, lines)?)?)
        }
        ("get" | "gets", _) => ClientAction::Get(expected(message::read(rest, place, lines)?)?),
        ("close" | "closes", _) => {
            let (code, reason) = code(rest)?;
            let reason = reason.unwrap_or_default().to_owned();
            ClientAction::Close(code.map(|code| (code, reason)))
        }
        ("vanish" | "vanishes", ("", _)) => ClientAction::Vanish,
        _ => {
            return Err((
                format!("{line:?} is no step"),
                STEPS.split_whitespace().collect::<Vec<_>>().join(" "),
            ));
        }
    };
    Ok(Some(Action::Clients(clients, action)))
}

/// The first word of a text, and the rest.
fn word(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (word, rest.trim_start())
}

/// The clients at the beginning of a step: `a`, `a and b`, `a, b and c`.
fn clients(line: &str) -> Result<(Vec<String>, &str), Wrong> {
    let mut clients = Vec::new();
    let mut rest = line;
    loop {
        let (first, behind) = word(rest);
        let name = first.strip_suffix(',').unwrap_or(first);
        if !is_name(name) || ["and", "the"].contains(&name) {
            return Err((
                format!("{line:?} begins with no client's name"),
                format!("{STEPS}; a name has letters, digits, - and _"),
            ));
        }
        if clients.iter().any(|other| other == name) {
            return Err((
                format!("the client {name} is named twice"),
                "name each client once".into(),
            ));
        }
        clients.push(name.to_owned());
        rest = match word(behind) {
            ("and", others) => others,
            _ if name.len() < first.len() => behind,
            _ => return Ok((clients, behind)),
        };
    }
}

fn set_time(time: &str, script: &mut Script) -> Result<(), Wrong> {
    if !script.steps.is_empty() {
        return Err((
            "the time is set after the first step".into(),
            "set it above all steps; later, let time pass: 2 hours pass".into(),
        ));
    }
    let since = OffsetDateTime::parse(time, &Rfc3339)
        .ok()
        .and_then(|time| u64::try_from(time.unix_timestamp()).ok());
    let Some(since) = since else {
        return Err((
            format!("{time:?} is no time since 1970"),
            "write it as 2026-01-31T12:00:00Z".into(),
        ));
    };
    script.start = Duration::from_secs(since);
    Ok(())
}

fn connect(rest: &str, lines: &mut Lines<'_>) -> Result<ClientAction, Wrong> {
    let mut request = Request::default();
    let mut identity = Named::default();
    let mut rest = rest;
    while !rest.is_empty() {
        let (first, behind) = word(rest);
        match first {
            "as" => rest = identity.read(behind)?,
            "scopes" => {
                let (scopes, others) = word(behind);
                identity.scopes = scopes.split(',').map(Box::from).collect();
                rest = others;
            }
            "to" => {
                let (target, others) = word(behind);
                set_target(&mut request, target)?;
                rest = others;
            }
            "from" => {
                let (address, others) = word(behind);
                request.from = Some(address.parse().map_err(|_| {
                    (
                        format!("{address:?} is no IP address"),
                        "write the client's address without a port, as in from 203.0.113.7"
                            .to_owned(),
                    )
                })?);
                rest = others;
            }
            "with" if word(behind).0 == "datagrams" => {
                request.datagrams = true;
                rest = word(behind).1;
            }
            "offering" => {
                request.subprotocols = Some(behind.to_owned());
                rest = "";
            }
            query if query.starts_with('?') => {
                set_query(&mut request, query)?;
                rest = behind;
            }
            other => {
                return Err((
                    format!("{other:?} says nothing about a connection"),
                    "write a connects as NAME to HOST/PATH ?QUERY from ADDRESS with datagrams offering SUBPROTOCOL, SUBPROTOCOL; each part may be \
                     left out"
                        .into(),
                ));
            }
        }
    }
    request.identity = identity.checked()?;
    while let Some(header) = lines.next_indented() {
        let (name, value) = header_line(header)?;
        request.headers.push((name, Template::plain(value)?));
    }
    Ok(ClientAction::Connect(request))
}

/// The client as a step names it, in place of an authorizer.
#[derive(Default)]
struct Named {
    principal: Option<Box<str>>,
    values: Vec<(Box<str>, Value)>,
    scopes: Vec<Box<str>>,
}

impl Named {
    /// Reads the name, and the values if there are some: `ada {"plan": "gold"}`. Gives the rest.
    fn read<'a>(&mut self, text: &'a str) -> Result<&'a str, Wrong> {
        let (name, rest) = word(text);
        self.principal = Some(name.into());
        if !rest.starts_with('{') {
            return Ok(rest);
        }
        let mut objects = serde_json::Deserializer::from_str(rest).into_iter();
        let object: Option<serde_json::Map<_, _>> = objects.next().and_then(Result::ok);
        let behind = rest.get(objects.byte_offset()..).unwrap_or_default();
        let values = object.and_then(|object| {
            let named = object.into_iter().map(|(name, value)| {
                let value = match value {
                    Json::String(text) => Value::Text(text.into()),
                    Json::Bool(flag) => Value::Flag(flag),
                    Json::Number(number) => Value::Number(number.as_f64()?),
                    Json::Null | Json::Array(_) | Json::Object(_) => return None,
                };
                Some((name.into(), value))
            });
            named.collect()
        });
        self.values = values.ok_or_else(|| {
            (
                format!("{rest:?} are no values of a client"),
                "write texts, numbers and flags by their names, on one line: as ada {\"plan\": \"gold\", \"staff\": true}"
                    .to_owned(),
            )
        })?;
        Ok(behind.trim_start())
    }

    fn checked(self) -> Result<Option<Arc<Identity>>, Wrong> {
        if self.principal.is_none() && !self.scopes.is_empty() {
            return Err((
                "scopes are a client's that has a name here".into(),
                "write a connects as ada scopes chat:read,chat:write".into(),
            ));
        }
        if self.principal.is_none() {
            return Ok(None);
        }
        let identity = Identity::new(self.principal, self.values, self.scopes, None);
        identity
            .map(|identity| Some(Arc::new(identity)))
            .map_err(|error| {
                let remedy = "write a connects as NAME {\"VALUE\": \"TEXT\"} scopes SCOPE,SCOPE";
                (error.to_string(), remedy.to_owned())
            })
    }
}

fn set_target(request: &mut Request, target: &str) -> Result<(), Wrong> {
    let Some(slash) = target.find('/') else {
        return Err((
            format!("{target:?} is no path of a stage"),
            "write to /STAGE, or to HOST/BASE-PATH for a stage with domains".into(),
        ));
    };
    let (host, path) = target.split_at(slash);
    let (path, query) = match path.find('?') {
        Some(mark) => path.split_at(mark),
        None => (path, ""),
    };
    if !is_address(path) {
        return Err(malformed_address(path));
    }
    request.host = (!host.is_empty()).then(|| host.to_owned());
    request.path = Some(path.to_owned());
    if query.is_empty() {
        return Ok(());
    }
    set_query(request, query)
}

fn set_query(request: &mut Request, query: &str) -> Result<(), Wrong> {
    // A value may have any characters.
    if !query.contains("${") && !is_address(&format!("/{query}")) {
        return Err(malformed_address(query));
    }
    request.query = Some(Template::plain(query)?);
    Ok(())
}

fn is_address(text: &str) -> bool {
    text.is_ascii() && text.parse::<PathAndQuery>().is_ok()
}

fn malformed_address(text: &str) -> Wrong {
    (
        format!("{text:?} has characters that an address has not"),
        "percent-encode them, as in ?name=caf%C3%A9".into(),
    )
}

fn header_line(line: &str) -> Result<(String, &str), Wrong> {
    let header = line
        .split_once(':')
        .filter(|(name, _)| name.parse::<HeaderName>().is_ok());
    let Some((name, value)) = header else {
        return Err((
            format!("{line:?} is no header"),
            "write it as Name: value, indented".into(),
        ));
    };
    Ok((name.to_owned(), value.trim()))
}

fn let_in(rest: &str, lines: &mut Lines<'_>) -> Result<ClientAction, Wrong> {
    let subprotocol = match word(rest) {
        ("", _) => None,
        ("with", subprotocol) if !subprotocol.is_empty() => Some(text(subprotocol)?),
        _ => {
            return Err((
                format!("{rest:?} says nothing about an open connection"),
                "write a is let in with SUBPROTOCOL, or a is let in".into(),
            ));
        }
    };
    let mut headers = Vec::new();
    while let Some(header) = lines.next_indented() {
        let (name, value) = header_line(header)?;
        headers.push((name, text(value)?));
    }
    Ok(ClientAction::LetIn {
        subprotocol,
        headers,
    })
}

fn refused(rest: &str) -> Result<ClientAction, Wrong> {
    let (with, behind) = word(rest);
    let (status, message) = word(behind);
    let code = status.parse().ok().filter(|code| (300..600).contains(code));
    let Some(status) = code.filter(|_| with == "with") else {
        return Err((
            "a refusal has a status from 300 to 599".into(),
            "write a is refused with 403, or with 403 and the message".into(),
        ));
    };
    let message = (!message.is_empty()).then(|| text(message)).transpose()?;
    Ok(ClientAction::Refused { status, message })
}

/// The code and the reason of a close; neither if nothing is written.
fn code(rest: &str) -> Result<(Option<u16>, Option<&str>), Wrong> {
    if rest.is_empty() {
        return Ok((None, None));
    }
    let (with, behind) = word(rest);
    let (code, reason) = word(behind);
    let number = code.parse().ok().filter(|code| (1000..5000).contains(code));
    let Some(number) = number.filter(|_| with == "with") else {
        return Err((
            format!("{rest:?} is no close code"),
            "write with 1000, or with 1000 and the reason; codes go from 1000 to 4999".into(),
        ));
    };
    Ok((Some(number), (!reason.is_empty()).then_some(reason)))
}

fn text(written: &str) -> Result<Text, Wrong> {
    pieces(written).map(Text)
}

fn outgoing(written: Written) -> Result<Outgoing, Wrong> {
    Ok(match written {
        Written::Json(json, text) if json.is_definite() => Outgoing::Text(Template::json(&text)?),
        Written::Json(..) => {
            return Err((
                "a message that is sent leaves nothing open, and this one has ... or [in any order: …]".into(),
                "write all of it, or for a text that is no JSON: text \"…\"".into(),
            ));
        }
        Written::Text(text) => Outgoing::Text(Template::plain(&text)?),
        Written::Literal(text) => Outgoing::Text(Template::literal(text)),
        Written::Binary(bytes) => Outgoing::Binary(bytes),
    })
}

fn expected(written: Written) -> Result<Expected, Wrong> {
    Ok(match written {
        Written::Json(json, _) => Expected::Json(json),
        Written::Text(written) => Expected::Text(text(&written)?),
        Written::Literal(text) => Expected::Text(Text::literal(text)),
        Written::Binary(bytes) => Expected::Binary(bytes),
    })
}
