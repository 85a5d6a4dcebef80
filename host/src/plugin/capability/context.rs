//! `lockgate:plugin/context`: the current call and its stage. Every plugin has it.

use wasmtime::component::HasSelf;

use super::{Capability, Interface};
use crate::auth::Value;
use crate::plugin::run::bindings::lockgate::plugin::types::FieldsResult as Fields;
use crate::plugin::run::bindings::lockgate::plugin::{context, types};
use crate::plugin::run::cpu_time;
use crate::plugin::run::instance::HostState;

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
