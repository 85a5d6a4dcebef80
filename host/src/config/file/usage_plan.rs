//! A usage plan in the file.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::usage_plan::Period;

/// What the holder of an API key may use. Handshakes count, and messages if the plan says so.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct UsagePlan {
    /// The uses a second, in the long run. 0 is without limit.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub(in crate::config) rate_per_s: u32,
    /// The uses that may come at once. The default is `rate_per_s`.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(in crate::config) burst: Option<u32>,
    /// The uses in each day, week or month.
    pub(in crate::config) quota: Option<Quota>,
    /// Counts messages, too. A message beyond the plan gets the error frame `Too Many Requests`.
    pub(in crate::config) messages: bool,
}

/// A quota: a number of uses in each period.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Quota {
    /// The uses in one period.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub(in crate::config) limit: u32,
    /// The period.
    pub(in crate::config) per: Period,
}

/// API keys, each with a usage plan.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct ApiKeys {
    /// The file of the keys, which `lockgate keys api new` makes. Only the gateway's user may read it. The gateway reads
    /// it again when it changes, and keeps beside it, in `FILE.usage`, what has been used of quotas. Several
    /// authorizers may name one file, by the same path and with the same plan: they count together.
    pub(in crate::config) file: String,
    /// The usage plan of keys that name none. Without it they may use as much as they want.
    pub(in crate::config) usage_plan: Option<String>,
}
