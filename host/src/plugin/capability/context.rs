//! `lockgate:plugin/context`: the current call and its stage. Every plugin has it.

use std::sync::Arc;

use wasmtime::component::HasSelf;

use super::{Capability, Interface};
use crate::auth::api_keys::is_own_value;
use crate::auth::{Identity, IdentityError, Value};
use crate::connections::RenewError;
use crate::plugin::run::bindings::lockgate::plugin::types::{Error, FieldsResult as Fields};
use crate::plugin::run::bindings::lockgate::plugin::{context, types};
use crate::plugin::run::cpu_time;
use crate::plugin::run::instance::HostState;
use crate::plugin::run::limit::Limit;

/// The times of the contract are below it: they fit in a JavaScript number.
const TIMES_END: u64 = 1 << 53;

pub(super) const CAPABILITY: Capability = Capability {
    grant: None,
    interfaces: &[
        Interface {
            name: "lockgate:plugin/types",
            link: |linker| types::add_to_linker::<_, HasSelf<HostState>>(linker, |state| state),
        },
        Interface {
            name: "lockgate:plugin/context",
            link: |linker| context::add_to_linker::<_, HasSelf<HostState>>(linker, |state| state),
        },
    ],
};

impl context::Host for HostState {
    fn current(&mut self) -> context::Invocation {
        self.invocation.as_ref().map_or_else(
            || context::Invocation {
                request_id: String::new(),
                api: String::new(),
                stage: String::new(),
                message_id: None,
                requested_at: 0,
            },
            |call| context::Invocation {
                request_id: call.request_id.to_string(),
                api: call.scope.api.to_string(),
                stage: call.scope.stage.to_string(),
                message_id: call.message_id().map(|id| id.to_string()),
                requested_at: call.requested_at,
            },
        )
    }

    fn time_left(&mut self) -> u32 {
        let left = cpu_time::time_left().unwrap_or(self.deadline);
        u32::try_from(left.as_millis()).unwrap_or(u32::MAX)
    }

    fn is_datagram(&mut self) -> bool {
        self.invocation
            .as_ref()
            .is_some_and(|call| call.is_datagram)
    }

    fn principal(&mut self) -> Option<String> {
        self.invocation.as_ref()?.connection.principal()
    }

    fn authorizer(&mut self) -> Vec<(String, context::Value)> {
        let identity = self
            .invocation
            .as_ref()
            .and_then(|call| call.connection.identity());
        let values = identity.iter().flat_map(|identity| &identity.values);
        values
            .map(|(name, value)| {
                let value = match value {
                    Value::Text(text) => context::Value::Text(text.to_string()),
                    Value::Number(number) => context::Value::Number(*number),
                    Value::Flag(flag) => context::Value::Flag(*flag),
                };
                (name.to_string(), value)
            })
            .collect()
    }

    fn renew(
        &mut self,
        expires_at: u64,
        values: Option<Vec<(String, context::Value)>>,
    ) -> Result<(), Error> {
        let call = Arc::clone(self.invocation()?);
        let may = call
            .scope
            .renewing
            .iter()
            .any(|key| **key == *call.route_key);
        let Some(before) = call.connection.identity().filter(|_| may) else {
            self.log_limit(Limit::Renewal);
            return Err(Error::Denied);
        };
        if expires_at >= TIMES_END {
            return Err(Error::Invalid(
                "the time until which it holds is not below 2^53".into(),
            ));
        }
        let values = match values {
            Some(values) => {
                let values = values.into_iter();
                let values = values.map(|(name, value)| (name.into(), value.into()));
                with_own_values(values.collect(), &before)?
            }
            None => before.values.clone(),
        };
        let (principal, scopes) = (before.principal.clone(), before.scopes.clone());
        let renewed = Identity::new(principal, values, scopes, Some(expires_at));
        let renewed = renewed.map_err(|error| match error {
            IdentityError::TooLarge(_) => {
                self.log_limit(Limit::Identity);
                Error::TooLarge
            }
            IdentityError::EmptyPrincipal
            | IdentityError::LongPrincipal(_)
            | IdentityError::Unprintable
            | IdentityError::EmptyName
            | IdentityError::Twice(_)
            | IdentityError::NotFinite(_) => Error::Invalid(error.to_string()),
        })?;
        let renewed = Identity {
            issuer: before.issuer.clone(),
            ..renewed
        };
        let renewed = call.connection.renew(Arc::new(renewed));
        renewed.map_err(|error| match error {
            RenewError::Gone => Error::Gone,
            RenewError::NoIdentity | RenewError::OtherClient => Error::Denied,
            RenewError::Expired => Error::Invalid(format!(
                "{error}; it is in milliseconds since 1970-01-01 UTC"
            )),
        })
    }

    fn variables(&mut self) -> Fields {
        let variables = self
            .invocation
            .iter()
            .flat_map(|call| &call.scope.variables);
        variables
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }
}

/// Adds what the gateway knows of the client's API key to the values of a handler, which may repeat it and not change it.
fn with_own_values(
    mut values: Vec<(Box<str>, Value)>,
    before: &Identity,
) -> Result<Vec<(Box<str>, Value)>, Error> {
    let mut given = values.iter();
    if let Some((name, _)) =
        given.find(|value| is_own_value(&value.0) && !before.values.contains(value))
    {
        let why = format!("the value {name:?} is the gateway's own, and no handler changes it");
        return Err(Error::Invalid(why));
    }
    let own = before
        .values
        .iter()
        .filter(|(name, _)| is_own_value(name) && values.iter().all(|(given, _)| given != name));
    let own: Vec<_> = own.cloned().collect();
    values.extend(own);
    Ok(values)
}
