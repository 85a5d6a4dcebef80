//! Usage plans: what the holder of an API key may use.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::authorizer::{Authorizer, AuthorizerKind};
use super::file;
use super::model::Api;
use super::names::list;
use super::report::{Report, join};

/// A usage plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UsagePlan {
    /// Its name, of `A-Z a-z 0-9 _ -`.
    pub(crate) name: String,
    /// None is without limit.
    pub(crate) rate: Option<PlanRate>,
    /// None is without limit.
    pub(crate) quota: Option<PlanQuota>,
    /// Whether messages count, beside handshakes.
    pub(crate) messages: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlanRate {
    /// The uses a second, in the long run.
    pub(crate) per_s: NonZeroU32,
    /// The uses that may come at once.
    pub(crate) burst: NonZeroU32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlanQuota {
    /// The uses in one period; at least one.
    pub(crate) limit: u64,
    pub(crate) per: Period,
}

/// The period of a quota, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Period {
    /// A day.
    Day,
    /// A week, from Monday on.
    Week,
    /// A month of the calendar.
    Month,
}

/// The API keys of an authorizer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiKeys {
    /// The file of the keys.
    pub(crate) file: PathBuf,
    /// The file that keeps what has been used of quotas.
    pub(crate) usage_file: PathBuf,
    /// The plan of keys that name none.
    default_plan: Option<UsagePlan>,
    /// All usage plans.
    plans: Vec<UsagePlan>,
}

/// A key names a plan that is not in the configuration.
pub(crate) struct UnknownPlan;

impl ApiKeys {
    /// The plan of a key that names this one; none if the key may use as much as it wants.
    pub(crate) fn plan_of(&self, named: Option<&str>) -> Result<Option<&UsagePlan>, UnknownPlan> {
        let Some(name) = named else {
            return Ok(self.default_plan.as_ref());
        };
        let mut plans = self.plans.iter();
        let plan = plans.find(|plan| plan.name == name);
        plan.map(Some).ok_or(UnknownPlan)
    }

    /// Whether a path leads to the file, by whatever links.
    fn is_of(&self, file: &Path) -> bool {
        let place = |path: &Path| fs::canonicalize(path).ok();
        self.file == file || place(&self.file).is_some_and(|own| Some(own) == place(file))
    }
}

/// Checks the API keys that stand at `key`.
pub(super) fn api_keys(
    key: &str,
    written: &file::ApiKeys,
    plans: &[UsagePlan],
    report: &mut Report<'_>,
) -> ApiKeys {
    let remedy = "make it with `lockgate keys api new NAME --file FILE`, or correct the path, which is relative to the folder of this file";
    let file = report.file_or(&join(key, "file"), &written.file, remedy);
    let mut usage_file = file.clone().into_os_string();
    usage_file.push(".usage");
    let named = written.usage_plan.as_ref();
    let default_plan = named.and_then(|name| {
        let plan = plans.iter().find(|plan| plan.name == *name);
        if plan.is_none() && !report.is_written(&join("usage_plans", name)) {
            let names: Vec<_> = plans.iter().map(|plan| plan.name.as_str()).collect();
            let remedy = match names.as_slice() {
                [] => format!("add [usage_plans.{name}]"),
                names => format!("name one of this file: {}", list(names)),
            };
            let message = format!("no usage plan is called {name:?}");
            report.problem(&join(key, "usage_plan"), message, remedy);
        }
        plan.cloned()
    });
    ApiKeys {
        file,
        usage_file: usage_file.into(),
        default_plan,
        plans: plans.to_vec(),
    }
}

/// Checks that authorizers of one file of keys call it by one name and give its keys one plan: they have one count.
pub(super) fn check_files(authorizers: &[Authorizer], report: &mut Report<'_>) {
    let with_keys = authorizers.iter().filter_map(|one| {
        let AuthorizerKind::ApiKeys(keys) = &one.kind else {
            return None;
        };
        Some((&one.name, keys))
    });
    let mut before: Vec<(&String, &ApiKeys)> = Vec::new();
    for (name, keys) in with_keys {
        let mut same = before.iter().filter(|(_, other)| other.is_of(&keys.file));
        let key = join(&join("authorizers", name), "api_keys");
        match same.next() {
            Some((other, theirs)) if theirs.file != keys.file => report.problem(
                &join(&key, "file"),
                format!("it is the file of [authorizers.{other}] by another name, and the use of its keys is counted once"),
                format!("write {:?} in both", theirs.file),
            ),
            Some((other, theirs)) if theirs.default_plan != keys.default_plan => report.problem(
                &join(&key, "usage_plan"),
                format!("[authorizers.{other}] gives the keys of the same file another plan, and their use is counted once"),
                "name the same usage_plan in both, make the keys with `lockgate keys api new NAME --plan PLAN`, or give each a file of its own",
            ),
            Some(_) => {}
            None => before.push((name, keys)),
        }
    }
}

/// Checks that stages which ask for an API key beside their authorizer name an authorizer that has keys, and ask for one
/// key only: a connection has one usage plan.
pub(super) fn check_api_keys(apis: &[Api], authorizers: &[Authorizer], report: &mut Report<'_>) {
    let has_keys = |name: &String| {
        let mut named = authorizers.iter().filter(|one| one.name == *name);
        named
            .next()
            .map(|one| matches!(one.kind, AuthorizerKind::ApiKeys(_)))
    };
    let mut seen = BTreeSet::new();
    for api in apis {
        for stage in &api.stages {
            let Some(name) = &stage.api_key else { continue };
            let api_key = join("apis", &api.name);
            let stage_key = join(&join(&api_key, "stages"), &stage.name);
            let own = join(&stage_key, "api_key");
            let key = match report.is_written(&own) {
                true => own,
                false => join(&api_key, "api_key"),
            };
            if has_keys(name) == Some(false) && seen.insert(key.clone()) {
                report.problem(
                    &key,
                    format!("the authorizer {name:?} has no API keys"),
                    "name an authorizer with api_keys; any other is named by authorizer",
                );
            }
            let asks_already = stage.authorizer.as_ref().and_then(has_keys) == Some(true);
            if asks_already && seen.insert(key.clone()) {
                report.problem(
                    &key,
                    format!(
                        "the authorizer of the stage {:?} asks for an API key already",
                        stage.name
                    ),
                    "remove api_key, or name an authorizer of another kind",
                );
            }
        }
    }
}

/// Checks the usage plans of the file.
pub(super) fn usage_plans(
    written: BTreeMap<String, file::UsagePlan>,
    report: &mut Report<'_>,
) -> Vec<UsagePlan> {
    let written = written.into_iter();
    written
        .map(|(name, written)| usage_plan(name, &written, report))
        .collect()
}

fn usage_plan(name: String, written: &file::UsagePlan, report: &mut Report<'_>) -> UsagePlan {
    let key = join("usage_plans", &name);
    report.check_name(&key, &name);
    let per_s = NonZeroU32::new(written.rate_per_s);
    if per_s.is_none() && written.burst.is_some() && report.is_clean(&join(&key, "rate_per_s")) {
        report.problem(
            &join(&key, "burst"),
            "without a rate there is no burst",
            "add rate_per_s, or remove burst",
        );
    }
    if per_s.is_none() && written.quota.is_none() && report.is_clean(&key) {
        report.problem(
            &key,
            "the plan limits nothing",
            "add rate_per_s, or quota = { limit = 10000, per = \"day\" }",
        );
    }
    UsagePlan {
        name,
        rate: per_s.map(|per_s| PlanRate {
            per_s,
            burst: written.burst.and_then(NonZeroU32::new).unwrap_or(per_s),
        }),
        quota: written.quota.as_ref().map(|quota| PlanQuota {
            limit: quota.limit.into(),
            per: quota.per,
        }),
        messages: written.messages,
    }
}
