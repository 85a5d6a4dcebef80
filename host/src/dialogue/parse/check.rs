//! The check of a whole dialogue: each client acts when it can, and each value is known where it is used.

use std::collections::{BTreeMap, BTreeSet};

use super::{Mistake, Wrong};
use crate::dialogue::expected::Text;
use crate::dialogue::holes::{ANY, Template};
use crate::dialogue::script::{Action, ClientAction, Outgoing, Script, Step};

/// The state of a client before a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It has asked to connect, and nothing was said of the answer.
    Asked,
    Open,
    Refused,
    /// It is closed since this line.
    Closed(usize),
}

pub(super) fn check(script: &Script, mistakes: &mut Vec<Mistake>) {
    if script.steps.is_empty() {
        mistakes.push(Mistake {
            line: 1,
            message: "there is no step".into(),
            remedy: "write what clients do and meet, as in: a connects".into(),
        });
    }
    let mut clients = BTreeMap::new();
    let mut known = BTreeSet::new();
    for step in &script.steps {
        let mut wrong = Vec::new();
        match &step.action {
            Action::Clients(names, action) => {
                for name in names {
                    wrong.extend(follow(name, action, step, &mut clients).err());
                }
                wrong.extend(unknown(action, &known).err());
                learn(action, &mut known);
            }
            Action::Log(text) => known.extend(text.names()),
            Action::Pass(_) => {}
        }
        mistakes.extend(wrong.into_iter().map(|(message, remedy)| Mistake {
            line: step.line,
            message,
            remedy,
        }));
    }
}

fn follow<'a>(
    name: &'a str,
    action: &ClientAction,
    step: &Step,
    clients: &mut BTreeMap<&'a str, State>,
) -> Result<(), Wrong> {
    let before = clients.get(name).copied();
    let after = match (action, before) {
        (ClientAction::Connect(_), None | Some(State::Refused | State::Closed(_))) => State::Asked,
        (ClientAction::Connect(_), Some(State::Asked | State::Open)) => {
            return Err((
                format!("{name} is connected already"),
                "close it first, or name another client".into(),
            ));
        }
        (_, None) => {
            return Err((
                format!("{name} has not connected"),
                format!("write above: {name} connects"),
            ));
        }
        (_, Some(State::Refused)) => {
            return Err((
                format!("{name} was refused"),
                format!("have it connect again: {name} connects"),
            ));
        }
        (ClientAction::LetIn { .. }, Some(State::Asked)) => State::Open,
        (ClientAction::Refused { .. }, Some(State::Asked)) => State::Refused,
        (ClientAction::LetIn { .. } | ClientAction::Refused { .. }, Some(_)) => {
            return Err((
                format!("{name} has had the answer to its handshake above"),
                format!("say what the answer is right below: {name} connects"),
            ));
        }
        // Messages that came before the end are read behind it, too.
        (
            ClientAction::Get(_) | ClientAction::GetDatagram(_) | ClientAction::GetNothing(_),
            Some(State::Closed(line)),
        ) => State::Closed(line),
        (ClientAction::Closed { .. }, Some(State::Closed(line)))
        | (
            ClientAction::Send(_)
            | ClientAction::SendDatagram(_)
            | ClientAction::Close(_)
            | ClientAction::Vanish,
            Some(State::Closed(line)),
        ) => {
            return Err((
                format!("{name} is closed since line {line}"),
                format!("have it connect again: {name} connects"),
            ));
        }
        (
            ClientAction::Close(_) | ClientAction::Closed { .. } | ClientAction::Vanish,
            Some(State::Asked | State::Open),
        ) => State::Closed(step.line),
        (
            ClientAction::Send(_)
            | ClientAction::SendDatagram(_)
            | ClientAction::Get(_)
            | ClientAction::GetDatagram(_)
            | ClientAction::GetNothing(_),
            Some(State::Asked | State::Open),
        ) => State::Open,
    };
    clients.insert(name, after);
    Ok(())
}

/// Refuses values that no step above has captured.
fn unknown(action: &ClientAction, known: &BTreeSet<String>) -> Result<(), Wrong> {
    let templates: Vec<&Template> = match action {
        ClientAction::Connect(request) => {
            let headers = request.headers.iter().map(|(_, value)| value);
            headers.chain(&request.query).collect()
        }
        ClientAction::Send(Outgoing::Text(template))
        | ClientAction::SendDatagram(Outgoing::Text(template)) => vec![template],
        ClientAction::Send(Outgoing::Binary(_))
        | ClientAction::SendDatagram(Outgoing::Binary(_))
        | ClientAction::LetIn { .. }
        | ClientAction::Refused { .. }
        | ClientAction::Get(_)
        | ClientAction::GetDatagram(_)
        | ClientAction::GetNothing(_)
        | ClientAction::Close(_)
        | ClientAction::Closed { .. }
        | ClientAction::Vanish => Vec::new(),
    };
    let mut used = templates.into_iter().flat_map(Template::names);
    match used.find(|name| *name == ANY || !known.contains(*name)) {
        None => Ok(()),
        Some(ANY) => Err((
            "${any} has no value that could be sent".into(),
            "name the value where it comes, as in a gets {\"id\": \"${id}\"}, and write ${id} here"
                .into(),
        )),
        Some(name) => Err((
            format!("no step above has a value for ${{{name}}}"),
            format!(
                "name it where it comes, as in a gets {{\"id\": \"${{{name}}}\"}}, or write $${{ for the two characters"
            ),
        )),
    }
}

/// Adds the names to which a step gives values.
fn learn(action: &ClientAction, known: &mut BTreeSet<String>) {
    match action {
        ClientAction::Get(expected) | ClientAction::GetDatagram(expected) => {
            known.extend(expected.names())
        }
        ClientAction::LetIn {
            subprotocol,
            headers,
        } => {
            let values = headers.iter().map(|(_, value)| value).chain(subprotocol);
            known.extend(values.flat_map(Text::names));
        }
        ClientAction::Refused { message: text, .. } | ClientAction::Closed { reason: text, .. } => {
            known.extend(text.iter().flat_map(Text::names));
        }
        ClientAction::Connect(_)
        | ClientAction::Send(_)
        | ClientAction::SendDatagram(_)
        | ClientAction::GetNothing(_)
        | ClientAction::Close(_)
        | ClientAction::Vanish => {}
    }
}
