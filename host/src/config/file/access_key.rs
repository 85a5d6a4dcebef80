//! An access key in the file.

use schemars::JsonSchema;
use serde::Deserialize;

/// A key by which programs use the connections API of stages (`connections_api`), or connect to stages with an
/// `iam` authorizer.
///
/// It has an `id` with a `secret`, which signs requests as AWS's tools do, or a `token`, or both.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct AccessKey {
    /// The id that signed requests name (AWS's access key id): 1 to 128 of the characters
    /// `A-Z a-z 0-9 _ -`. It is no secret. Needs `secret`.
    pub(in crate::config) id: Option<String>,
    /// The secret that signs requests by Signature Version 4 (AWS's secret access key): at least 16
    /// characters. Best taken from the environment, as in `"${BACKEND_SECRET}"`.
    pub(in crate::config) secret: Option<String>,
    /// The token that requests carry as `Authorization: Bearer TOKEN`, in place of a signature: at least 16
    /// characters. Best taken from the environment, as in `"${BACKEND_TOKEN}"`.
    pub(in crate::config) token: Option<String>,
    /// What the key may do: `"API/STAGE:METHODS"`, as in `"chat/prod:POST,GET,DELETE"`. `POST` sends to a
    /// connection, `GET` describes one, `DELETE` closes one. `CONNECT` opens one, where an `iam`
    /// authorizer asks for a signature. `*` takes the place of any API, stage or methods.
    #[schemars(extend("x-example" = "allow = [\"API/STAGE:POST,GET,DELETE\"]"))]
    pub(in crate::config) allow: Vec<String>,
}
