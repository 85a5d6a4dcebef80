//! The check of APIs: expressions, routes and stages, and that no two stages have the same address.

use std::collections::{BTreeMap, BTreeSet};

use super::authorizer;
use super::compat::Compat;
use super::file;
use super::model::{Api, Domain, Integration, Mock, Origins, Renews, Route, Stage, StageLimits};
use super::names::{self, nearest};
use super::origin::OriginPattern;
use super::report::{Report, join};
use super::units;
use crate::route::{self, Selection};

/// The route keys that begin with `$`, each with a meaning of its own.
const RESERVED_KEYS: [&str; 3] = [route::CONNECT, route::DISCONNECT, route::DEFAULT];

/// The word for a route whose handler renews what let its clients in.
const HANDLER: &str = "handler";

/// Scopes that the routes of one API name: a connection holds a bit for each.
const MAX_SCOPES: usize = 64;

/// The address of each stage, with the stage's dotted key.
type StageAddresses = BTreeMap<StageAddress, String>;

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum StageAddress {
    /// `/NAME` on every host that belongs to no stage.
    Path(String),
    Domain(Domain),
}

/// The integrations that are not plugins, by name.
type Integrations = BTreeMap<String, Mock>;

/// Checks the integrations of the file.
pub(super) fn integrations(
    written: BTreeMap<String, file::Integration>,
    report: &mut Report<'_>,
) -> Integrations {
    let written = written.into_iter();
    let checked = written.map(|(name, written)| {
        let key = join("integrations", &name);
        report.check_name(&key, &name);
        if report.is_written(&join("plugins", &name)) {
            report.problem(
                &key,
                format!("a plugin is called {name:?} too, and a route could mean either"),
                "give one of them another name",
            );
        }
        let file::Mock { status, reply } = written.mock;
        if (201..300).contains(&status) {
            report.problem(
                &join(&join(&key, "mock"), "status"),
                format!("{status} neither lets a client in nor refuses it"),
                "write 200, or a status from 300 to 599",
            );
        }
        let mock = Mock {
            name: name.clone(),
            status,
            reply,
        };
        (name, mock)
    });
    checked.collect()
}

/// Checks the APIs of the file. An API with a wrong selection expression is left out.
pub(super) fn apis(
    written: BTreeMap<String, file::Api>,
    integrations: &Integrations,
    report: &mut Report<'_>,
) -> Vec<Api> {
    if written.is_empty() && report.is_clean("apis") {
        report.problem(
            "apis",
            "there is no API, so nothing would be served",
            "add [apis.NAME.stages.STAGE]",
        );
    }
    let mut addresses = StageAddresses::new();
    written
        .into_iter()
        .filter_map(|(name, written)| api(name, written, integrations, &mut addresses, report))
        .collect()
}

fn api(
    name: String,
    written: file::Api,
    integrations: &Integrations,
    addresses: &mut StageAddresses,
    report: &mut Report<'_>,
) -> Option<Api> {
    let key = join("apis", &name);
    report.check_name(&key, &name);
    let compat = written.compat;
    let stages_key = join(&key, "stages");
    if written.stages.is_empty() && report.is_clean(&stages_key) {
        report.problem(
            &stages_key,
            format!("the API {name:?} has no stage, so it would be served nowhere"),
            format!("add [{key}.stages.prod], which is served at /prod"),
        );
    }
    let authorizer_key = join(&key, "authorizer");
    let authorizer = written.authorizer.as_deref();
    let authorizer = authorizer::named(&authorizer_key, authorizer, None, report);
    let api_key_key = join(&key, "api_key");
    let api_key = written.api_key.as_deref();
    let api_key = authorizer::named(&api_key_key, api_key, None, report);
    let inherited = Inherited {
        authorizer: authorizer.as_deref(),
        api_key: api_key.as_deref(),
        compat,
    };
    let stages = written
        .stages
        .into_iter()
        .map(|(name, written)| stage(&stages_key, name, written, inherited, addresses, report))
        .collect();
    let routes = written
        .routes
        .into_iter()
        .map(|(name, written)| route(&join(&key, "routes"), name, written, integrations, report))
        .collect::<Vec<_>>();
    let scopes: BTreeSet<_> = routes
        .iter()
        .flat_map(|route: &Route| &route.scopes)
        .collect();
    if scopes.len() > MAX_SCOPES {
        report.problem(
            &join(&key, "routes"),
            format!(
                "its routes name {} scopes, and {MAX_SCOPES} are the limit",
                scopes.len()
            ),
            "give several routes one scope",
        );
    }
    let selection = Selection::parse(&written.route_selection_expression).map_err(|error| {
        report.problem(
            &join(&key, "route_selection_expression"),
            error.to_string(),
            "write it as in \"$request.body.action\" or \"${request.body.service}/${request.body.action}\"",
        );
    });
    Some(Api {
        selection: selection.ok()?,
        connections_per_s: units::connections_per_s(written.connections_per_s, compat),
        name,
        routes,
        stages,
    })
}

fn route(
    routes_key: &str,
    name: String,
    written: file::Route,
    integrations: &Integrations,
    report: &mut Report<'_>,
) -> Route {
    let key = join(routes_key, &name);
    if name.is_empty() {
        report.problem(
            &key,
            "a route key cannot be empty",
            "name the route by a result of the selection expression, or use \"$default\"",
        );
    } else if name.starts_with('$') && !RESERVED_KEYS.contains(&name.as_str()) {
        let remedy = match nearest(&name, &RESERVED_KEYS) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("remove the \"$\", or use {}", names::list(&RESERVED_KEYS)),
        };
        report.problem(
            &key,
            format!("{name:?} is not a route key: \"$\" begins only API Gateway's own"),
            remedy,
        );
    }
    if written.two_way && matches!(name.as_str(), route::CONNECT | route::DISCONNECT) {
        report.problem(
            &join(&key, "two_way"),
            format!("{name:?} cannot be two-way: it has no reply frame"),
            "remove two_way",
        );
    }
    let integration_key = join(&key, "integration");
    let named = &written.integration;
    let is_written = |table| report.is_written(&join(table, named));
    if !is_written("plugins") && !is_written("integrations") {
        report.problem(
            &integration_key,
            format!("no plugin or integration is called {named:?}"),
            missing_integration(named, report),
        );
    }
    let scopes_key = join(&key, "scopes");
    if !written.scopes.is_empty() && name == route::DISCONNECT {
        report.problem(
            &scopes_key,
            format!("{name:?} needs no scopes: it follows every connection"),
            "remove scopes",
        );
    }
    for (index, _) in written
        .scopes
        .iter()
        .enumerate()
        .filter(|(_, scope)| scope.is_empty())
    {
        report.problem(
            &format!("{scopes_key}[{index}]"),
            "the scope is empty",
            "write the scope's name, as the authorizer gives it",
        );
    }
    let integration = match integrations.get(named) {
        Some(mock) => Integration::Mock(mock.clone()),
        None => Integration::Plugin(written.integration),
    };
    let renews = written
        .renews
        .and_then(|text| renews(&join(&key, "renews"), &text, &name, &integration, report));
    Route {
        scopes: written.scopes,
        renews,
        key: name,
        integration,
        two_way: written.two_way,
    }
}

/// Who renews what let the clients of a route's messages in.
fn renews(
    key: &str,
    written: &str,
    route_key: &str,
    integration: &Integration,
    report: &mut Report<'_>,
) -> Option<Renews> {
    if matches!(route_key, route::CONNECT | route::DISCONNECT) {
        report.problem(
            key,
            format!("{route_key:?} has no messages, and a message renews"),
            "write it into the route of another key",
        );
        return None;
    }
    if written == HANDLER {
        if let Integration::Mock(mock) = integration {
            report.problem(
                key,
                format!("the mock {:?} is no handler, and renews nobody", mock.name),
                "name a plugin in integration, or write the place of a token, as in \"$request.body.token\"",
            );
        }
        return Some(Renews::Handler);
    }
    let place = Selection::parse(written).ok();
    let place = place.filter(|place| place.constant().is_none());
    if place.is_none() {
        report.problem(
            key,
            format!("{written:?} is no place in a message"),
            format!("write {HANDLER:?}, or the place of a token, as in \"$request.body.token\""),
        );
    } else if route_key == route::DEFAULT {
        report.problem(
            key,
            "a message of \"$default\" may be any, and would have to have a token",
            format!("write it into the route of another key, or write {HANDLER:?}"),
        );
    }
    place.map(Renews::Token)
}

/// The remedy for a route that names no existing integration.
fn missing_integration(name: &str, report: &Report<'_>) -> String {
    if !names::is_name(name) {
        return "name a plugin, which has a table [plugins.NAME]: Lambda functions and URLs are not called".into();
    }
    let header = join("plugins", name);
    let mut known = report.names_in("plugins");
    known.extend(report.names_in("integrations"));
    if known.is_empty() {
        let other = join("integrations", name);
        format!("add [{header}] with its component, or [{other}] with a mock")
    } else {
        let known = names::list(&known);
        format!("name one of this file: {known}; or add [{header}]")
    }
}

/// What a stage has of its API, unless it says otherwise.
#[derive(Clone, Copy)]
struct Inherited<'a> {
    authorizer: Option<&'a str>,
    api_key: Option<&'a str>,
    compat: Compat,
}

fn stage(
    stages_key: &str,
    name: String,
    written: file::Stage,
    inherited: Inherited<'_>,
    addresses: &mut StageAddresses,
    report: &mut Report<'_>,
) -> Stage {
    let key = join(stages_key, &name);
    report.check_name(&key, &name);
    let domains_key = join(&key, "domains");
    if written.domains.is_empty() && report.is_clean(&domains_key) {
        claim(
            StageAddress::Path(name.clone()),
            &key,
            &key,
            addresses,
            report,
        );
    }
    let domains = written
        .domains
        .iter()
        .enumerate()
        .filter_map(|(index, text)| {
            let domain_key = format!("{domains_key}[{index}]");
            let Some(domain) = names::domain(text) else {
                report.problem(
                    &domain_key,
                    format!("{text:?} is not a domain"),
                    "write a host, as in \"chat.example.com\", or a host and one base path, as in \
                     \"example.com/v1\"; no scheme, port or wildcard",
                );
                return None;
            };
            claim(
                StageAddress::Domain(domain.clone()),
                &domain_key,
                &key,
                addresses,
                report,
            );
            Some(domain)
        })
        .collect();
    if written.datagrams && !inherited.compat.takes_binary() {
        report.problem(
            &join(&key, "datagrams"),
            "a datagram is a binary message, which compat = \"aws\" does not take",
            "remove datagrams, or leave compat out",
        );
    }
    let authorizer_key = join(&key, "authorizer");
    let own = written.authorizer.as_deref();
    let authorizer = authorizer::named(&authorizer_key, own, inherited.authorizer, report);
    let api_key_key = join(&key, "api_key");
    let own = written.api_key.as_deref();
    let limits_key = join(&key, "limits");
    Stage {
        domains,
        origins: origins(&key, &written, report),
        authorizer,
        api_key: authorizer::named(&api_key_key, own, inherited.api_key, report),
        connections_api: written.connections_api,
        limits: StageLimits {
            datagrams: written.datagrams,
            ..units::stage(&limits_key, &written.limits, inherited.compat, report)
        },
        variables: written.variables,
        name,
    }
}

/// Notes the address of `stage`, and reports at `key` if another stage has it.
fn claim(
    address: StageAddress,
    key: &str,
    stage: &str,
    addresses: &mut StageAddresses,
    report: &mut Report<'_>,
) {
    let (named, remedy) = match &address {
        StageAddress::Path(name) => (
            format!("/{name}"),
            "rename one of the two stages, or give one of them domains",
        ),
        StageAddress::Domain(Domain { host, base_path }) => (
            match base_path {
                Some(base_path) => format!("{host}/{base_path}"),
                None => host.clone(),
            },
            "remove it from one of the two, or give one of them a base path",
        ),
    };
    if let Some(other) = addresses.insert(address, stage.to_owned()) {
        let other = if other == stage {
            "this stage".to_owned()
        } else {
            other
        };
        report.problem(key, format!("{named:?} already leads to {other}"), remedy);
    }
}

fn origins(stage_key: &str, written: &file::Stage, report: &mut Report<'_>) -> Origins {
    let Some(list) = &written.origins else {
        return Origins {
            any: written.allow_any_origin,
            ..Origins::default()
        };
    };
    if written.allow_any_origin {
        report.problem(
            &join(stage_key, "allow_any_origin"),
            "any origin is allowed, and yet some are listed in origins",
            "remove one of the two",
        );
    }
    let mut origins = Origins {
        any: written.allow_any_origin,
        same_host: false,
        list: Vec::new(),
    };
    for (index, text) in list.iter().enumerate() {
        let key = format!("{}[{index}]", join(stage_key, "origins"));
        match (text.as_str(), OriginPattern::parse(text)) {
            ("self", _) => origins.same_host = true,
            ("*", _) => report.problem(
                &key,
                "\"*\" is not an origin",
                "to let the pages of every site connect, write allow_any_origin = true instead of origins",
            ),
            (_, Some(origin)) => origins.list.push(origin),
            (_, None) => report.problem(
                &key,
                format!("{text:?} is not an origin"),
                "write it as browsers do, scheme://host[:port] without a path, as in \
                 \"https://app.example.com\" or, for all below a host, \"https://*.example.com\"; or \"self\", \
                 \"null\" or \"file://\"",
            ),
        }
    }
    origins
}
