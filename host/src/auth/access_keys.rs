//! The access keys of a configuration: who may post to which connections, by signature or by token.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};

use super::sigv4::SigningKey;
use crate::config::{self, KeyMethods, Permission};

/// All access keys of a configuration.
#[derive(Debug, Default)]
pub(crate) struct AccessKeys {
    by_id: HashMap<Box<str>, (Arc<AccessKey>, Arc<SigningKey>)>,
    /// By the hash of the token: a look-up by it tells nobody how much of a token is right.
    by_token: HashMap<[u8; 32], Arc<AccessKey>>,
}

/// One access key. Its secret and its token are [`AccessKeys`]'s.
#[derive(Debug)]
pub(crate) struct AccessKey {
    pub(crate) name: Box<str>,
    allow: Vec<Permission>,
}

impl AccessKeys {
    pub(crate) fn new(keys: &[config::AccessKey]) -> Self {
        let mut all = Self::default();
        for key in keys {
            let built = Arc::new(AccessKey {
                name: key.name.as_str().into(),
                allow: key.allow.clone(),
            });
            if let Some((id, secret)) = &key.signature {
                let signing = Arc::new(SigningKey::new(secret.reveal()));
                all.by_id
                    .insert(id.as_str().into(), (Arc::clone(&built), signing));
            }
            if let Some(token) = &key.token {
                all.by_token.insert(hash(token.reveal()), built);
            }
        }
        all
    }

    /// The key with an id, which requests name in the clear, and the secret that it signs with.
    pub(crate) fn by_id(&self, id: &str) -> Option<(&Arc<AccessKey>, &Arc<SigningKey>)> {
        self.by_id.get(id).map(|(key, signing)| (key, signing))
    }

    /// The key with a token.
    pub(crate) fn by_token(&self, token: &str) -> Option<&Arc<AccessKey>> {
        self.by_token.get(&hash(token))
    }
}

impl AccessKey {
    /// Whether it may use a method on a stage.
    pub(crate) fn allows(&self, api: &str, stage: &str, method: KeyMethods) -> bool {
        let mut allowed = self.allow.iter();
        allowed.any(|one| one.allows(api, stage, method))
    }
}

fn hash(token: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    hash
}
