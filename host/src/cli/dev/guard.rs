//! What a client has to show to a stage's authorizers, as words for `wscat`.

use crate::config::{Authorizer, AuthorizerKind, Config, IdentitySource, Stage};

/// What stands for a value that only the client knows.
const BLANK: &str = "…";

/// The authorizers of a stage, and where a client shows them who it is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Guard {
    names: Vec<String>,
    /// Options of `wscat`, each behind a space.
    pub(super) options: String,
    /// The query behind the path, with its `?`.
    pub(super) query: String,
}

impl Guard {
    /// None of a stage without an authorizer.
    pub(super) fn of(config: &Config, stage: &Stage) -> Option<Self> {
        let mut guard = Self::default();
        let mut cookies = Vec::new();
        for name in [&stage.authorizer, &stage.api_key].into_iter().flatten() {
            guard.names.push(format!("[authorizers.{name}]"));
            let mut authorizers = config.authorizers.iter();
            let authorizer = authorizers.find(|authorizer| authorizer.name == *name);
            for source in authorizer.map(wanted).unwrap_or_default() {
                guard.show(source, authorizer, &mut cookies);
            }
        }
        if !cookies.is_empty() {
            guard.options += &format!(" -H \"cookie: {}\"", cookies.join("; "));
        }
        (!guard.names.is_empty()).then_some(guard)
    }

    fn show(
        &mut self,
        source: &IdentitySource,
        by: Option<&Authorizer>,
        cookies: &mut Vec<String>,
    ) {
        let is_token = by.is_some_and(|by| matches!(by.kind, AuthorizerKind::Jwt(_)));
        match source {
            IdentitySource::Header(_) if source.is_subprotocol() => {
                self.options += &format!(" -s bearer -s {BLANK}");
            }
            IdentitySource::Header(name) => {
                let scheme = match is_token && name == "authorization" {
                    true => "Bearer ",
                    false => "",
                };
                self.options += &format!(" -H \"{name}: {scheme}{BLANK}\"");
            }
            IdentitySource::Query(name) => {
                let mark = if self.query.is_empty() { '?' } else { '&' };
                self.query += &format!("{mark}{name}={BLANK}");
            }
            IdentitySource::Cookie(name) => cookies.push(format!("{name}={BLANK}")),
            // The client does not choose them.
            IdentitySource::StageVariable(_)
            | IdentitySource::Context(_)
            | IdentitySource::Authorizer(_) => {}
        }
    }

    /// Says what to do before the stage's command is run.
    pub(super) fn note(&self) -> String {
        let names = self.names.join(" and ");
        if self.options.is_empty() && self.query.is_empty() {
            return format!("{names} decides who may connect");
        }
        format!("write in place of {BLANK} what a client shows to {names}")
    }
}

/// The places where a client has to show something: all that a plugin or an endpoint names, or one for a token or key.
fn wanted(authorizer: &Authorizer) -> &[IdentitySource] {
    let all = authorizer.identity_source.as_slice();
    match authorizer.kind {
        AuthorizerKind::Jwt(_) | AuthorizerKind::ApiKeys(_) => all.get(..1).unwrap_or(all),
        AuthorizerKind::Plugin(_)
        | AuthorizerKind::Forward(_)
        | AuthorizerKind::Iam
        | AuthorizerKind::Mtls => all,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The guard of the stage `s`, whose API has these lines, with these authorizers.
    fn guard(api: &str, authorizers: &str) -> Option<Guard> {
        let text = format!(
            "[apis.a]\n{api}\n[apis.a.stages.s]\n[apis.a.routes.\"$default\"]\nintegration = \"m\"\n\
             [integrations.m]\nmock = {{ reply = \"\" }}\n{authorizers}"
        );
        let config = Config::develop_text(&text, Path::new("dev"));
        let config = config.unwrap_or_else(|problems| panic!("{problems}"));
        Guard::of(&config, &config.apis[0].stages[0])
    }

    #[test]
    fn command_shows_what_the_stages_authorizers_ask_for() {
        let plugin = "[plugins.p]\nsource = \"p\"\n[authorizers.x]\nplugin = \"p\"\n";
        let jwt = "[authorizers.x]\njwt = { issuer = \"https://i.example\", audience = [\"a\"] }\n";
        // Any file that is there.
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let keys = format!("[authorizers.k]\napi_keys = {{ file = {file:?} }}\n");
        let fill = |names: &str| format!("write in place of … what a client shows to {names}");
        for (api, authorizers, options, query, note) in [
            (
                "authorizer = \"x\"",
                &*format!(
                    "{plugin}identity_source = [\"route.request.querystring.ticket\", \
                     \"route.request.querystring.room\", \"route.request.cookie.a\", \
                     \"route.request.header.X-Team\", \"route.request.cookie.b\", \"context.stage\"]\n"
                ),
                " -H \"x-team: …\" -H \"cookie: a=…; b=…\"",
                "?ticket=…&room=…",
                fill("[authorizers.x]"),
            ),
            (
                "authorizer = \"x\"",
                plugin,
                "",
                "",
                "[authorizers.x] decides who may connect".to_owned(),
            ),
            (
                "authorizer = \"x\"\napi_key = \"k\"",
                &format!("{jwt}{keys}"),
                " -H \"authorization: Bearer …\" -H \"x-api-key: …\"",
                "",
                fill("[authorizers.x] and [authorizers.k]"),
            ),
            (
                "authorizer = \"x\"",
                &format!(
                    "{jwt}identity_source = [\"route.request.header.Sec-WebSocket-Protocol\"]\n"
                ),
                " -s bearer -s …",
                "",
                fill("[authorizers.x]"),
            ),
        ] {
            let guard = guard(api, authorizers).unwrap();
            let told = (&*guard.options, &*guard.query, guard.note());
            assert_eq!(told, (options, query, note), "{authorizers}");
        }
        assert_eq!(guard("", plugin), None);
    }
}
