//! A plugin that decides: it exports `lockgate:plugin/authorizer`.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::cache::{Cache, Key};
use super::{Denial, Request};
use crate::auth::Identity;
use crate::invocation::{Authorize, Called, InvokeError};
use crate::plugin::{ByName, PluginHandle};

pub(super) struct PluginAuthorizer {
    handle: Arc<PluginHandle>,
    cache: Option<Cache>,
}

impl PluginAuthorizer {
    /// `keep` is the time for which an identity is kept; none keeps none.
    pub(super) fn new(handle: Arc<PluginHandle>, keep: Option<Duration>) -> Self {
        Self {
            handle,
            cache: keep.map(Cache::new),
        }
    }

    /// Whether no reload has replaced the plugin's versions.
    pub(super) fn is_current(&self, plugins: &ByName) -> bool {
        let plugin = plugins.get(&*self.handle.name);
        plugin.is_some_and(|plugin| Arc::ptr_eq(&plugin.handle(), &self.handle))
    }

    pub(super) fn newest(&self) -> Self {
        Self {
            handle: self.handle.newest(),
            cache: self.cache.as_ref().map(Cache::emptied),
        }
    }

    /// Decides on a client that presents these values at the identity sources.
    pub(super) async fn authorize(
        &self,
        request: &Request<'_>,
        presented: &[&str],
    ) -> Result<Arc<Identity>, Denial> {
        let Some(cache) = &self.cache else {
            return self.ask(request).await;
        };
        let key = Key::of(&request.invocation.scope, presented);
        // What another version said may not be what this one would say.
        let version = self.handle.generation();
        if let Some(identity) = cache.find(&key, version) {
            return Ok(identity);
        }
        let identity = self.ask(request).await?;
        cache.keep(key, version, &identity);
        Ok(identity)
    }

    async fn ask(&self, request: &Request<'_>) -> Result<Arc<Identity>, Denial> {
        let event = Authorize(request.handshake.clone());
        let called = self.handle.invoke(request.invocation, event).await;
        let Called::Ended(answer) = called else {
            return Err(Denial::Replaced);
        };
        let answer = answer.map_err(|error| match error {
            InvokeError::Removed => Denial::Replaced,
            InvokeError::Busy(_) => Denial::Busy(error.to_string()),
            InvokeError::Deadline(_)
            | InvokeError::Failed(_)
            | InvokeError::Trapped(_)
            | InvokeError::GivenUp
            | InvokeError::Host(_) => Denial::Failed(error.to_string()),
        })?;
        match answer {
            Ok(identity) => Ok(Arc::new(identity)),
            Err(refusal) => Err(match StatusCode::from_u16(refusal.status) {
                Ok(StatusCode::UNAUTHORIZED) if refusal.message.is_none() => {
                    Denial::Unauthorized("the authorizer turned it away")
                }
                Ok(status) if (300..=599).contains(&refusal.status) => Denial::Refused {
                    status,
                    message: refusal.message,
                },
                Ok(_) | Err(_) => Denial::Failed(format!(
                    "an authorizer refuses with a status from 300 to 599, and it answered {}",
                    refusal.status
                )),
            }),
        }
    }
}
