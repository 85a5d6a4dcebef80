//! A call, from its permit to its answer.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::Arc;

use super::Permit;
use crate::config::Isolation;
use crate::invocation::{Called, Invocation, InvokeError};
use crate::plugin::run::exports::Export;
use crate::plugin::run::instance::shortened;

impl Permit {
    /// Makes an instance that waits for its first call, under the limits of a call.
    pub(crate) async fn warm(mut self) -> Result<(), InvokeError> {
        let maker = &self.shard.shared().maker;
        let made = maker.instance().await?;
        if maker.isolation == Isolation::Reused {
            self.instance = Some(made);
        }
        Ok(())
    }

    /// Calls a handler in an instance that no other call uses. The permit gets the instance back only when all went
    /// well: one whose call trapped, was refused memory, or was dropped on the way, is never used again. Gives the event
    /// back when the version is retired before the handler begins.
    pub(crate) async fn call<E: Export>(
        mut self,
        invocation: Arc<Invocation>,
        event: E,
    ) -> Called<E> {
        let shared = self.shard.shared();
        let (maker, barrier) = (&shared.maker, &shared.barrier);
        let mut instance = match self.instance.take() {
            Some(instance) => instance,
            // Boxed, so that a call that finds an instance reserves no space for making one.
            None => match Box::pin(maker.instance()).await {
                Ok(instance) => instance,
                Err(error) => return Called::Ended(Err(error)),
            },
        };
        let mut start = barrier.enter();
        if start.is_none() {
            return Called::Retired(event);
        }
        instance.begin(&invocation, &maker.epochs);
        let answered = {
            let mut call = pin!(instance.call(event, &invocation));
            poll_fn(|context| {
                let polled = call.as_mut().poll(context);
                // It has begun. The caller polls it again: a poll sees one tick only.
                start = None;
                polled
            })
            .await
        };
        let answer = match answered {
            Ok(answer) => answer,
            Err(error) => return Called::Ended(Err(maker.failure(&error, instance.state()))),
        };
        if instance.state().limiter.refused().is_any() {
            // Neither its memory nor its tables ever shrink: each later call would be refused them too, whether this one
            // has told its caller or not.
            return Called::Ended(maker.outcome_of_refused(answer, instance.state()));
        }
        instance.end();
        if maker.isolation == Isolation::Reused && instance.uses < maker.limits.max_uses {
            self.instance = Some(instance);
        }
        Called::Ended(answer.map_err(|reason| InvokeError::Failed(shortened(&reason))))
    }
}
