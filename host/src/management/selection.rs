//! The connections that an operator means: one by its id, or those of a stage that meet conditions.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;

use crate::connections::{ConnectionId, Filter};
use crate::stage::{CurrentStage, Stages};

/// The stages of a gateway, by `API/STAGE`.
pub(super) type StagesByName = BTreeMap<String, Arc<CurrentStage>>;

/// The conditions as a request writes them. Those that are written must all be met.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Selection {
    /// One connection. Nothing stands beside it.
    pub(super) id: Option<String>,
    /// The stage, as `API/STAGE`.
    pub(super) stage: Option<String>,
    pub(super) principal: Option<String>,
    pub(super) group: Option<String>,
    /// An attribute, as `NAME=VALUE`.
    pub(super) attribute: Option<String>,
    /// Every connection of the stage.
    pub(super) all: bool,
}

/// What a request to send or to close is about.
pub(super) enum Selected {
    One(ConnectionId),
    Many(Arc<CurrentStage>, Filter),
}

/// The reason why a selection selects nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SelectionError {
    #[error("{0:?} is no connection's id: copy one whole, as lists and the log show it")]
    MalformedId(String),
    #[error("attribute: {0:?} is not written as NAME=VALUE")]
    MalformedAttribute(String),
    #[error("an id names one connection: write no other condition beside it")]
    IdAndMore,
    #[error(
        "say which connections: an id, a principal, a group or an attribute; or all, for every connection of the stage"
    )]
    Nothing,
    #[error("all means every connection of the stage: write no other condition beside it")]
    AllAndMore,
    #[error("name the stage: {}", .0.join(", "))]
    WhichStage(Vec<String>),
    #[error("no stage is called {name:?}; there are: {}", .known.join(", "))]
    UnknownStage { name: String, known: Vec<String> },
}

/// Names what is selected, for the log.
impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let conditions = [
            ("id", &self.id),
            ("stage", &self.stage),
            ("principal", &self.principal),
            ("group", &self.group),
            ("attribute", &self.attribute),
        ];
        let written = conditions
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{name} {:?}", value.as_ref()?)));
        let all = self.all.then(|| "all".to_owned());
        f.write_str(&written.chain(all).collect::<Vec<_>>().join(", "))
    }
}

impl Selection {
    /// Gives the connections that a request to send or to close is about: never all because nothing was said.
    pub(super) fn select(&self, stages: &Stages) -> Result<Selected, SelectionError> {
        let has_condition =
            self.principal.is_some() || self.group.is_some() || self.attribute.is_some();
        if let Some(id) = &self.id {
            if has_condition || self.all || self.stage.is_some() {
                return Err(SelectionError::IdAndMore);
            }
            return Ok(Selected::One(parse_id(id)?));
        }
        match (has_condition, self.all) {
            (false, false) => return Err(SelectionError::Nothing),
            (true, true) => return Err(SelectionError::AllAndMore),
            (true, false) | (false, true) => {}
        }
        let mut named = self.stages(stages)?;
        match (named.pop_first(), named.is_empty()) {
            (Some((_, stage)), true) => Ok(Selected::Many(stage, self.filter()?)),
            _ => Err(SelectionError::WhichStage(names(&stages.all()))),
        }
    }

    /// The conditions of a list.
    pub(super) fn filter(&self) -> Result<Filter, SelectionError> {
        let attribute = self.attribute.as_ref().map(|text| {
            let (name, value) = text
                .split_once('=')
                .ok_or_else(|| SelectionError::MalformedAttribute(text.clone()))?;
            Ok((name.to_owned(), value.to_owned()))
        });
        Ok(Filter {
            principal: self.principal.clone(),
            group: self.group.clone(),
            attribute: attribute.transpose()?,
        })
    }

    /// The stage that is named, or all.
    pub(super) fn stages(&self, stages: &Stages) -> Result<StagesByName, SelectionError> {
        let mut all = stages.all();
        let Some(name) = &self.stage else {
            return Ok(all);
        };
        match all.remove_entry(name) {
            Some(named) => Ok([named].into()),
            None => Err(SelectionError::UnknownStage {
                name: name.clone(),
                known: names(&all),
            }),
        }
    }
}

pub(super) fn parse_id(text: &str) -> Result<ConnectionId, SelectionError> {
    ConnectionId::parse(text).ok_or_else(|| SelectionError::MalformedId(text.to_owned()))
}

fn names(stages: &StagesByName) -> Vec<String> {
    stages.keys().cloned().collect()
}
