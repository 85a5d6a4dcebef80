//! An authorizer in the file.

use schemars::JsonSchema;
use serde::Deserialize;

use super::jwt::Jwt;
use super::usage_plan::ApiKeys;

/// Decides who may connect to the APIs and stages that name it. It has exactly one of the keys that say how:
/// `plugin`, `jwt`, `api_keys` or `iam`.
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
    /// Where a request says who the client is: `route.request.header.NAME`,
    /// `route.request.querystring.NAME`, `route.request.cookie.NAME`, `stageVariables.NAME`, or
    /// `context.NAME` with `apiId`, `stage`, `domainName`, `routeKey`, `identity.sourceIp` or
    /// `identity.userAgent`. If one is missing or empty, the client gets 401, and nobody is asked. For `jwt`,
    /// the first that has a value has the token; the default is `Authorization` and a subprotocol, as in
    /// `Sec-WebSocket-Protocol: bearer, TOKEN`.
    pub(in crate::config) identity_source: Vec<String>,
    /// Seconds for which a client that was let in is let in again without asking, if all identity sources
    /// have the same values. A reload of the plugin ends them all. 0 asks each time.
    #[schemars(range(min = 0, max = 3_600))]
    pub(in crate::config) cache_s: u32,
}

/// Signed handshakes. It has no settings: the access keys say who may connect.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Iam {}
