//! The doubts: values that are valid and probably not intended. They are served as written, with a warning.

use std::collections::BTreeSet;

use super::model::{Api, Integration, Listener, Mock, Plugin, Renews, Route};
use super::report::{Report, join};
use super::{Authorizer, AuthorizerKind};
use crate::route;

/// Doubts plugins and mocks that no route points to, and authorizers that no stage has.
pub(super) fn unused<'a>(
    apis: &[Api],
    authorizers: &[Authorizer],
    plugins: &[Plugin],
    mocks: impl Iterator<Item = &'a Mock>,
    report: &mut Report<'_>,
) {
    let used: BTreeSet<_> = routes(apis)
        .map(|(_, route)| match &route.integration {
            Integration::Plugin(name) => name,
            Integration::Mock(mock) => &mock.name,
        })
        .collect();
    let stages = apis.iter().flat_map(|api| &api.stages);
    let needed: BTreeSet<_> = stages
        .flat_map(|stage| stage.authorizer.iter().chain(&stage.api_key))
        .collect();
    for authorizer in authorizers {
        if !needed.contains(&authorizer.name) {
            report.doubt(
                &join("authorizers", &authorizer.name),
                "no API or stage names it, so that it decides nothing",
                format!(
                    "write authorizer = {:?} into an API, or remove it",
                    authorizer.name
                ),
            );
        }
    }
    // An unused authorizer is doubted itself.
    let plugins = plugins.iter().filter(|plugin| !plugin.roles.authorizer);
    let plugins = plugins.map(|plugin| ("plugins", &plugin.name));
    let mocks = mocks.map(|mock| ("integrations", &mock.name));
    for (table, name) in plugins.chain(mocks) {
        if !used.contains(name) {
            report.doubt(
                &join(table, name),
                "no route points to it, so that it answers nothing",
                format!("write integration = {name:?} into a route, or remove it"),
            );
        }
    }
}

/// Doubts mocks whose reply is never sent, and two-way routes whose mock has none.
pub(super) fn mocks(apis: &[Api], report: &mut Report<'_>) {
    let decides = |name: &str| {
        routes(apis).any(|(_, route)| {
            let mock = matches!(&route.integration, Integration::Mock(mock) if mock.name == name);
            mock && route.key == route::CONNECT
        })
    };
    for (
        key,
        Route {
            key: name,
            integration,
            two_way,
            scopes: _,
            renews: _,
        },
    ) in routes(apis)
    {
        let Integration::Mock(mock) = integration else {
            continue;
        };
        if [route::CONNECT, route::DISCONNECT].contains(&name.as_str()) {
            continue;
        }
        match (*two_way, &mock.reply) {
            (true, None) => report.doubt(
                &join(&key, "two_way"),
                format!(
                    "the mock {:?} has no reply, so that the route sends nothing",
                    mock.name
                ),
                "give the mock a reply = \"…\", or remove two_way",
            ),
            (false, Some(_)) => report.doubt(
                &key,
                format!(
                    "the reply of the mock {:?} is not sent: the route is one-way",
                    mock.name
                ),
                "write two_way = true, or point to a mock without a reply",
            ),
            (true, Some(_)) | (false, None) => {}
        }
        let status_key = join(&join(&join("integrations", &mock.name), "mock"), "status");
        if report.is_written(&status_key) && !decides(&mock.name) {
            report.doubt(
                &status_key,
                "only \"$connect\" looks at it, and no such route points to this mock",
                "remove it, or point a route \"$connect\" to the mock",
            );
        }
    }
}

/// Doubts authorizers by certificates that no listener asks for.
pub(super) fn certificates(
    authorizers: &[Authorizer],
    listeners: &[Listener],
    report: &mut Report<'_>,
) {
    if listeners.iter().any(|listener| listener.clients.is_some()) {
        return;
    }
    for authorizer in authorizers {
        if authorizer.kind == AuthorizerKind::Mtls {
            report.doubt(
                &join(&join("authorizers", &authorizer.name), "mtls"),
                "no listener asks clients for certificates, so that all are refused",
                "add client_certificates = { ca = \"…\" } to a listener with TLS",
            );
        }
    }
}

/// Doubts scopes of routes that nobody can have, since a stage has no authorizer.
pub(super) fn scopes(apis: &[Api], report: &mut Report<'_>) {
    for api in apis {
        let open: Vec<_> = api
            .stages
            .iter()
            .filter(|stage| stage.authorizer.is_none())
            .map(|stage| stage.name.as_str())
            .collect();
        let key = join(&join("apis", &api.name), "routes");
        for route in &api.routes {
            if let (Some(stage), false) = (open.first(), route.scopes.is_empty()) {
                report.doubt(
                    &join(&join(&key, &route.key), "scopes"),
                    format!(
                        "the stage {stage:?} has no authorizer, so that nobody there has scopes"
                    ),
                    "write authorizer = \"…\" into the API or the stage, or remove scopes",
                );
            }
        }
    }
}

/// Doubts routes that renew what an authorizer has to have decided, since a stage has none, or none that judges tokens.
pub(super) fn renewals(apis: &[Api], authorizers: &[Authorizer], report: &mut Report<'_>) {
    let judges_tokens = |name: &str| {
        let mut authorizers = authorizers.iter();
        authorizers.any(|one| one.name == name && matches!(one.kind, AuthorizerKind::Jwt(_)))
    };
    for api in apis {
        let key = join(&join("apis", &api.name), "routes");
        for route in &api.routes {
            let Some(renews) = &route.renews else {
                continue;
            };
            let why = api
                .stages
                .iter()
                .find_map(|stage| match (&stage.authorizer, renews) {
                    (None, _) => Some(format!("the stage {:?} has no authorizer", stage.name)),
                    (Some(name), Renews::Token(_)) if !judges_tokens(name) => Some(format!(
                        "{name:?}, the authorizer of the stage {:?}, judges no tokens",
                        stage.name
                    )),
                    (Some(_), Renews::Token(_) | Renews::Handler) => None,
                });
            if let Some(why) = why {
                report.doubt(
                    &join(&join(&key, &route.key), "renews"),
                    format!("{why}, so that nobody there is renewed"),
                    match renews {
                        Renews::Handler => {
                            "write authorizer = \"…\" into the API or the stage, or remove renews"
                        }
                        Renews::Token(_) => {
                            "name an authorizer with jwt in the API or the stage, or remove renews"
                        }
                    },
                );
            }
        }
    }
}

/// Doubts an expression that selects one route for all messages, and route keys that miss their `$`.
pub(super) fn selection(apis: &[Api], report: &mut Report<'_>) {
    for api in apis {
        let Some(constant) = api.selection.constant() else {
            continue;
        };
        let variable = match constant.starts_with("request.body") {
            true => format!("${constant}"),
            false => "$request.body.action".to_owned(),
        };
        report.doubt(
            &join(&join("apis", &api.name), "route_selection_expression"),
            format!("it has no variable, so that every message selects the route {constant:?}"),
            format!("did you mean {variable:?}?"),
        );
    }
    for (key, route) in routes(apis) {
        let meant = format!("${}", route.key);
        if [route::CONNECT, route::DISCONNECT, route::DEFAULT].contains(&meant.as_str()) {
            report.doubt(
                &key,
                format!("only a message that names {:?} selects it", route.key),
                format!("did you mean {meant:?}?"),
            );
        }
    }
}

/// Lists all routes, each with its dotted key.
fn routes(apis: &[Api]) -> impl Iterator<Item = (String, &Route)> {
    apis.iter().flat_map(|api| {
        let key = join(&join("apis", &api.name), "routes");
        let routes = api.routes.iter();
        routes.map(move |route| (join(&key, &route.key), route))
    })
}
