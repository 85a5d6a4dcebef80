//! The keys that are known of issuers at addresses, for whatever takes an authorizer's place: it judges tokens at once,
//! also while their issuer is down.

use serde::{Deserialize, Serialize};

use super::fetch::Fetched;
use crate::auth::jwt::Keys;
use crate::config::{JwtIssuer, JwtKeys};

/// JWK sets, each with its issuer and the place that it came from.
#[derive(Default, Deserialize, Serialize)]
pub(crate) struct KnownKeys(Vec<KnownSet>);

#[derive(Deserialize, Serialize)]
pub(in crate::authorizer) struct KnownSet {
    issuer: String,
    keys: JwtKeys,
    /// As the issuer has published it: which of its keys count depends on the configuration.
    set: String,
}

impl KnownSet {
    /// None if the keys are on this machine, where they are read again.
    pub(super) fn of(issuer: &JwtIssuer, fetched: &Fetched) -> Option<Self> {
        Some(Self {
            issuer: issuer.issuer.to_string(),
            keys: issuer.keys.clone(),
            set: fetched.set.clone()?,
        })
    }
}

impl KnownKeys {
    /// The keys of an issuer, if they came from where it has them now, and fit its algorithms.
    pub(super) fn of(&self, issuer: &JwtIssuer) -> Option<Fetched> {
        let mut sets = self.0.iter();
        sets.find_map(|known| {
            let is_same = *known.issuer == *issuer.issuer && known.keys == issuer.keys;
            let set = is_same.then_some(&known.set)?;
            let keys = Keys::from_set(set.as_bytes(), &issuer.algorithms).ok()?;
            Some(Fetched {
                keys,
                set: Some(set.clone()),
            })
        })
    }
}

impl FromIterator<KnownSet> for KnownKeys {
    fn from_iter<T: IntoIterator<Item = KnownSet>>(sets: T) -> Self {
        Self(sets.into_iter().collect())
    }
}
