//! The trait that a plugin implements to decide who may connect, and the macro that exports it.

use std::marker::PhantomData;

use crate::bindings::authorizer::exports::lockgate::plugin::authorizer as contract;
use crate::context::Value;
use crate::handler::OutputFlush;
use crate::{ConnectionId, Handshake, Identity, Refusal, Result};

/// Decides who may connect, before the handler of `$connect` is called.
///
/// ```
/// use lockgate_plugin::{Authorizer, ConnectionId, Handshake, Identity, Refusal, Result};
///
/// struct Door;
///
/// impl Authorizer for Door {
///     fn authorize(_: ConnectionId, request: Handshake) -> Result<Identity, Refusal> {
///         match request.query_parameter("ticket") {
///             Some("swordfish") => Ok(Identity::new("ada").value("plan", "gold")),
///             Some(_) => Err(Refusal::new(403)),
///             None => Err(Refusal::new(401)),
///         }
///     }
/// }
///
/// lockgate_plugin::export_authorizer!(Door);
/// # fn main() {}
/// ```
///
/// ```toml
/// [authorizers.door]
/// plugin = "door"
///
/// [apis.chat]
/// authorizer = "door"
/// ```
pub trait Authorizer {
    /// Decides on a client. `id` is the connection that it will have if it is let in; it does not exist yet.
    ///
    /// [`context`](crate::context) tells the API, the stage and its variables. A panic, a missed deadline or an identity
    /// over its bounds refuses the client with 500.
    fn authorize(id: ConnectionId, request: Handshake) -> Result<Identity, Refusal>;
}

impl Identity {
    /// A client with a name. Handlers read it with [`context::principal`](crate::context::principal).
    pub fn new(principal: impl Into<String>) -> Self {
        Self {
            principal: Some(principal.into()),
            ..Self::anonymous()
        }
    }

    /// A client without a name.
    pub fn anonymous() -> Self {
        Self {
            principal: None,
            values: Vec::new(),
            scopes: Vec::new(),
            expires_at: None,
        }
    }

    /// Tells handlers something else about the client. They read it with
    /// [`context::authorizer`](crate::context::authorizer).
    #[must_use]
    pub fn value(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.values.push((name.into(), value.into()));
        self
    }

    /// Says what the client may do. Routes of the configuration may ask for scopes.
    #[must_use]
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scopes.push(scope.into());
        self
    }

    /// Says when this no longer holds, in milliseconds since 1970-01-01 UTC.
    #[must_use]
    pub fn expires_at(mut self, time: u64) -> Self {
        self.expires_at = Some(time);
        self
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

/// Exports an [`Authorizer`] as that of this crate, for the gateway to call. Once in a crate, which may
/// [`export!`](crate::export!) a handler too.
#[macro_export]
macro_rules! export_authorizer {
    ($authorizer:ty) => {
        const _: () = {
            type Exported = $crate::ExportedAuthorizer<$authorizer>;
            $crate::bindings::authorizer::export_authorizer! {
                Exported with_types_in $crate::bindings::authorizer
            }
        };
    };
}

/// An [`Authorizer`] as the contract's exported function.
#[doc(hidden)]
pub struct ExportedAuthorizer<A>(PhantomData<A>);

impl<A: Authorizer> contract::Guest for ExportedAuthorizer<A> {
    fn authorize(
        id: ConnectionId,
        request: contract::Handshake,
    ) -> Result<Identity, contract::Refusal> {
        let _flush = OutputFlush::at_end();
        let request = Handshake {
            query: request.query,
            headers: request.headers,
            subprotocols: request.subprotocols,
            source_ip: request.source_ip,
            domain_name: request.domain_name,
            path: request.path,
            http_version: request.http_version,
            secure: request.secure,
            certificate_subject: request.certificate_subject,
        };
        A::authorize(id, request).map_err(|refusal| {
            let (status, message) = refusal.told();
            contract::Refusal { status, message }
        })
    }
}
