//! Access keys: their model, and the check of what is written.

use std::collections::BTreeMap;

use super::authorizer::{Authorizer, AuthorizerKind};
use super::file;
use super::model::{Api, Secret};
use super::names::{self, is_name, nearest};
use super::report::{Report, join};

/// The least characters of a secret or a token. Whoever has seen one signed request can try short secrets at home.
const MIN_SECRET: usize = 16;

/// One access key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AccessKey {
    /// Its name, of `A-Z a-z 0-9 _ -`.
    pub(crate) name: String,
    /// The id and the secret that sign; none if it has only a token.
    pub(crate) signature: Option<(String, Secret)>,
    /// The token that takes the place of a signature; none if it only signs.
    pub(crate) token: Option<Secret>,
    /// What it may do; at least one.
    pub(crate) allow: Vec<Permission>,
}

/// Methods on the stages that an entry of `allow` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Permission {
    /// The API; none is any.
    pub(crate) api: Option<String>,
    /// The stage; none is any.
    pub(crate) stage: Option<String>,
    pub(crate) methods: KeyMethods,
}

/// A set of methods that an access key may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyMethods(u8);

impl KeyMethods {
    /// Send to a connection.
    pub(crate) const POST: Self = Self(1);
    /// Describe a connection.
    pub(crate) const GET: Self = Self(2);
    /// Close a connection.
    pub(crate) const DELETE: Self = Self(4);

    /// Open a connection, where an authorizer asks for a signature.
    pub(crate) const CONNECT: Self = Self(8);

    const ALL: [(&str, Self); 4] = [
        ("POST", Self::POST),
        ("GET", Self::GET),
        ("DELETE", Self::DELETE),
        ("CONNECT", Self::CONNECT),
    ];

    pub(crate) fn contains(self, method: Self) -> bool {
        self.0 & method.0 == method.0
    }

    /// Parses `*`, or names joined by commas. The error is the first that is no method.
    fn parse(text: &str) -> Result<Self, &str> {
        if text == "*" {
            return Ok(Self::ALL
                .iter()
                .fold(Self(0), |all, (_, one)| Self(all.0 | one.0)));
        }
        let mut methods = Self(0);
        for written in text.split(',').map(str::trim) {
            let found = Self::ALL.iter().find(|(name, _)| *name == written);
            let (_, method) = found.ok_or(written)?;
            methods.0 |= method.0;
        }
        Ok(methods)
    }
}

/// Checks the access keys of the file.
pub(super) fn access_keys(
    written: BTreeMap<String, file::AccessKey>,
    report: &mut Report<'_>,
) -> Vec<AccessKey> {
    // The ids, and the tokens, with the key of the access key that has each.
    let (mut ids, mut tokens) = (BTreeMap::new(), BTreeMap::new());
    let written = written.into_iter();
    let checked = written.map(|(name, written)| {
        let key = join("access_keys", &name);
        report.check_name(&key, &name);
        if let Some(id) = &written.id {
            check_id(&join(&key, "id"), id, report);
            claim(&mut ids, &join(&key, "id"), id, "id", report);
        }
        if let Some(token) = &written.token {
            check_secret(&join(&key, "token"), token, report);
            claim(&mut tokens, &join(&key, "token"), token, "token", report);
        }
        let signature = signature(&key, written.id, written.secret, report);
        if signature.is_none() && written.token.is_none() && report.is_clean(&key) {
            report.problem(
                &key,
                "the access key has neither a secret nor a token, so nobody could use it",
                "write id = \"…\" and secret = \"${SECRET}\", or token = \"${TOKEN}\"",
            );
        }
        let allow_key = join(&key, "allow");
        if written.allow.is_empty() && report.is_clean(&allow_key) {
            report.problem(
                &allow_key,
                "the list is empty, so the key may do nothing",
                "write allow = [\"API/STAGE:POST,GET,DELETE\"]",
            );
        }
        let allow = written.allow.iter().enumerate();
        let allow = allow
            .filter_map(|(index, text)| permission(&format!("{allow_key}[{index}]"), text, report));
        let allow = allow.collect();
        let token = written.token;
        AccessKey {
            allow,
            signature,
            token: token.map(|token| report.secret(&join(&key, "token"), token)),
            name,
        }
    });
    checked.collect()
}

/// Notes doubts about stages for which no key has what their users need.
pub(super) fn doubt_unused(
    apis: &[Api],
    authorizers: &[Authorizer],
    keys: &[AccessKey],
    report: &mut Report<'_>,
) {
    for api in apis {
        for stage in &api.stages {
            let key = join(&join(&join("apis", &api.name), "stages"), &stage.name);
            let place = format!("{}/{}", api.name, stage.name);
            let is_allowed = |method: KeyMethods| {
                let mut permissions = keys.iter().flat_map(|key| &key.allow);
                permissions.any(|one| one.allows(&api.name, &stage.name, method))
            };
            let calls = [KeyMethods::POST, KeyMethods::GET, KeyMethods::DELETE];
            if stage.connections_api && !calls.into_iter().any(is_allowed) {
                report.doubt(
                    &join(&key, "connections_api"),
                    "no access key may use the connections API of this stage, so every request is refused",
                    format!("add [access_keys.NAME] with allow = [\"{place}:POST,GET,DELETE\"]"),
                );
            }
            let asks_for_signature = authorizers.iter().any(|authorizer| {
                stage.authorizer.as_ref() == Some(&authorizer.name)
                    && authorizer.kind == AuthorizerKind::Iam
            });
            if asks_for_signature && !is_allowed(KeyMethods::CONNECT) {
                report.doubt(
                    &join(&key, "authorizer"),
                    format!("no access key may connect to {place}, so every client is refused"),
                    format!("add [access_keys.NAME] with allow = [\"{place}:CONNECT\"]"),
                );
            }
        }
    }
}

impl Permission {
    /// Whether it covers a method on a stage.
    pub(crate) fn allows(&self, api: &str, stage: &str, method: KeyMethods) -> bool {
        let is = |written: &Option<String>, name: &str| {
            written.as_ref().is_none_or(|written| written == name)
        };
        is(&self.api, api) && is(&self.stage, stage) && self.methods.contains(method)
    }
}

fn check_id(key: &str, id: &str, report: &mut Report<'_>) {
    if !is_name(id) {
        report.problem(
            key,
            format!("{id:?} cannot be the id of an access key"),
            "use 1 to 128 of the characters A-Z a-z 0-9 _ -",
        );
    }
}

fn check_secret(key: &str, secret: &str, report: &mut Report<'_>) {
    let length = secret.chars().count();
    if length < MIN_SECRET {
        report.problem(
            key,
            format!("it has {length} characters, and could be guessed"),
            format!("write at least {MIN_SECRET}, as of `openssl rand -base64 30`"),
        );
    }
    if !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
        report.problem(
            key,
            "it has a space, or a character that is not ASCII, which no header carries",
            "write letters, digits and punctuation, as of `openssl rand -base64 30`",
        );
    }
}

/// Notes that `key` has this id or token, and reports it if another has it too.
fn claim(
    taken: &mut BTreeMap<String, String>,
    key: &str,
    value: &str,
    what: &str,
    report: &mut Report<'_>,
) {
    if let Some(other) = taken.insert(value.to_owned(), key.to_owned()) {
        report.problem(
            key,
            format!("{other} is the same {what}, and a request could mean either"),
            format!("give each access key its own {what}"),
        );
    }
}

fn signature(
    key: &str,
    id: Option<String>,
    secret: Option<String>,
    report: &mut Report<'_>,
) -> Option<(String, Secret)> {
    match (id, secret) {
        (Some(id), Some(secret)) => {
            let key = join(key, "secret");
            check_secret(&key, &secret, report);
            Some((id, report.secret(&key, secret)))
        }
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) if report.is_clean(key) => {
            report.problem(
                key,
                "an id and a secret belong together, and one is missing",
                "write both, or neither and a token",
            );
            None
        }
        (Some(_), None) | (None, Some(_)) => None,
    }
}

/// Parses `API/STAGE:METHODS`.
fn permission(key: &str, text: &str, report: &mut Report<'_>) -> Option<Permission> {
    let parts = text.rsplit_once(':');
    let parts = parts.and_then(|(place, methods)| Some((place.split_once('/')?, methods)));
    let Some(((api, stage), methods)) = parts else {
        report.problem(
            key,
            format!("{text:?} is not of the form API/STAGE:METHODS"),
            "write it as in \"chat/prod:POST,GET,DELETE\"",
        );
        return None;
    };
    let methods = match KeyMethods::parse(methods) {
        Ok(methods) => Some(methods),
        Err(written) => {
            report.problem(
                key,
                format!("{written:?} is not what a key may do"),
                "write POST, GET, DELETE or CONNECT, joined by commas, or \"*\" for all of them",
            );
            None
        }
    };
    let api = (api != "*").then(|| api.to_owned());
    let stage = (stage != "*").then(|| stage.to_owned());
    check_place(key, api.as_deref(), stage.as_deref(), report);
    Some(Permission {
        api,
        stage,
        methods: methods?,
    })
}

/// Checks that there is such an API with such a stage.
fn check_place(key: &str, api: Option<&str>, stage: Option<&str>, report: &mut Report<'_>) {
    let apis = report.names_in("apis");
    if let Some(api) = api
        && !apis.contains(&api)
    {
        let remedy = remedy(api, &apis);
        return report.problem(key, format!("no API is called {api:?}"), remedy);
    }
    let Some(stage) = stage else { return };
    let of = |api: &str| join(&join("apis", api), "stages");
    let searched = api.map_or(apis, |api| vec![api]);
    let stages: Vec<&str> = searched
        .iter()
        .flat_map(|api| report.names_in(&of(api)))
        .collect();
    if !stages.contains(&stage) {
        let of_api = api.map_or_else(String::new, |api| format!(" of the API {api:?}"));
        let remedy = remedy(stage, &stages);
        report.problem(key, format!("no stage{of_api} is called {stage:?}"), remedy);
    }
}

fn remedy(written: &str, known: &[&str]) -> String {
    match nearest(written, known) {
        Some(near) => format!("did you mean {near:?}?"),
        None if known.is_empty() => "add it, or write \"*\"".to_owned(),
        None => format!(
            "name one of this file: {}; or write \"*\"",
            names::list(known)
        ),
    }
}
