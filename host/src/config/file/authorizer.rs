//! An authorizer in the file.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::jwt::Jwt;
use super::usage_plan::ApiKeys;
use crate::config::authorizer::OnExpiry;

/// Decides who may connect to the APIs and stages that name it. It has exactly one of the keys that say how:
/// `plugin`, `jwt`, `api_keys`, `iam`, `forward` or `mtls`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Authorizer {
    /// The name of the plugin that decides, which exports `authorizer`.
    #[schemars(extend("x-example" = "plugin = \"NAME\", where there is a [plugins.NAME]"))]
    pub(in crate::config) plugin: Option<String>,
    /// The issuers whose tokens (JWT) decide. The token's audience, time and signature are judged, and its claims say
    /// who the client is.
    #[schemars(extend("x-example" = "jwt = { issuer = \"…\", audience = [\"…\"] }"))]
    pub(in crate::config) jwt: Option<Jwt>,
    /// The API keys that decide. A client presents its key in the header `X-Api-Key`, and gets 403 without a right
    /// one. The name of the key is the principal.
    #[schemars(extend("x-example" = "api_keys = { file = \"api-keys.toml\" }"))]
    pub(in crate::config) api_keys: Option<ApiKeys>,
    /// Lets in clients whose handshake is signed by an access key that allows `CONNECT` on the stage, as
    /// API Gateway's AWS_IAM does: by Signature Version 4, in the header or in the query.
    #[schemars(extend("x-example" = "iam = {}"))]
    pub(in crate::config) iam: Option<Iam>,
    /// The HTTP endpoint that decides, asked as nginx's `auth_request`, Traefik's ForwardAuth and
    /// oauth2-proxy are.
    #[schemars(extend("x-example" = "forward = { url = \"http://127.0.0.1:4180/oauth2/auth\" }"))]
    pub(in crate::config) forward: Option<Forward>,
    /// The client's certificate decides: clients without one are refused. For listeners with
    /// `client_certificates`.
    #[schemars(extend("x-example" = "mtls = {}"))]
    pub(in crate::config) mtls: Option<Mtls>,
    /// Where a request says who the client is: `route.request.header.NAME`,
    /// `route.request.querystring.NAME`, `route.request.cookie.NAME`, `stageVariables.NAME`, or
    /// `context.NAME` with `apiId`, `stage`, `domainName`, `routeKey`, `identity.sourceIp` or
    /// `identity.userAgent`. For `api_keys` also `context.authorizer.NAME`, a value that the authorizer before
    /// gives, and that handlers then do not get. If one is missing or empty, the client gets 401, and nobody is asked. For `jwt`,
    /// the first that has a value has the token; the default is `Authorization` and a subprotocol, as in
    /// `Sec-WebSocket-Protocol: bearer, TOKEN`.
    pub(in crate::config) identity_source: Vec<String>,
    /// Seconds for which a client that was let in is let in again without asking, if all identity sources
    /// have the same values. A reload of the plugin ends them all. 0 asks each time.
    #[schemars(range(min = 0, max = 3_600))]
    pub(in crate::config) cache_s: u32,
    /// What happens to a connection when what let it in expires: nothing, or its end with 1008.
    pub(in crate::config) on_expiry: OnExpiry,
}

/// Signed handshakes. It has no settings: the access keys say who may connect.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Iam {}

/// An HTTP endpoint that decides. It gets a GET with the client's headers, `X-Forwarded-Method`, `-Proto`,
/// `-Host`, `-Uri` and `-For`. A 2xx lets the client in; a 3xx or 4xx goes to the client, with `Location`,
/// `Set-Cookie`, `WWW-Authenticate` and a body of at most 16 KiB; all else is a failure (500).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Forward {
    /// The address of the endpoint, `http://…` or `https://…`. It has no user and no password: the endpoint would
    /// take them for the client's own. Logs show it without its query.
    pub(in crate::config) url: String,
    /// The PEM file with the certificates of the authority that the endpoint's certificate is from. The
    /// default are the machine's own authorities.
    pub(in crate::config) ca: Option<String>,
    /// The header of a 2xx that has the client's name, such as `X-Auth-Request-User`. A 2xx without it is a
    /// failure (500).
    pub(in crate::config) principal: Option<String>,
    /// Further headers of a 2xx, by the name under which handlers read them:
    /// `values = { email = "X-Auth-Request-Email" }`.
    #[serde(default)]
    pub(in crate::config) values: BTreeMap<String, String>,
    /// Milliseconds in which the endpoint has to answer.
    #[serde(default = "forward_timeout_ms")]
    #[schemars(range(min = 10, max = 29_000))]
    pub(in crate::config) timeout_ms: u32,
}

fn forward_timeout_ms() -> u32 {
    3_000
}

/// The client's certificate decides. There is nothing to set.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Mtls {}
