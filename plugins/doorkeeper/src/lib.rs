//! Lets in whoever has a ticket that a backend has signed, and tells each client who it is.
//!
//! The backend and this plugin share a secret, which the configuration gives the plugin as `TICKET_SECRET`. Who has logged in at the
//! backend gets a ticket from it, and connects with `?ticket=…`.

mod ticket;

use std::env;

use lockgate_plugin::context::{self, Value};
use lockgate_plugin::{
    Authorizer, ConnectionId, Event, Handler, Handshake, Identity, Message, Refusal, Result,
};

use ticket::Ticket;

struct Plugin;

impl Authorizer for Plugin {
    /// The gateway refuses a ticket whose time is over, and closes the connection when it comes: `on_expiry` in gateway.toml.
    fn authorize(_id: ConnectionId, request: Handshake) -> Result<Identity, Refusal> {
        let Some(ticket) = request.query_parameter("ticket") else {
            return Err(Refusal::new(401).message("connect with ?ticket=…"));
        };
        let secret = env::var("TICKET_SECRET").unwrap_or_default();
        if secret.is_empty() {
            return Err(Refusal::new(500).cause("TICKET_SECRET is not set"));
        }
        let ticket = Ticket::read(ticket, secret.as_bytes())
            .ok_or_else(|| Refusal::new(403).message("this is no ticket of ours"))?;
        Ok(Identity::new(ticket.name)
            .value("plan", ticket.plan)
            .expires_at(ticket.expires_s.saturating_mul(1_000)))
    }
}

/// Handlers read what the authorizer says of a client: here in the same plugin, as well in any other.
impl Handler for Plugin {
    fn message(_event: Event, _message: Message) -> Result<Option<Message>> {
        let name = context::principal().unwrap_or_default();
        let values = context::authorizer();
        let plan = values.iter().find_map(|(name, value)| match value {
            Value::Text(plan) if name == "plan" => Some(plan.as_str()),
            Value::Text(_) | Value::Number(_) | Value::Flag(_) => None,
        });
        Ok(Some(
            format!("{name} ({})", plan.unwrap_or("no plan")).into(),
        ))
    }
}

lockgate_plugin::export!(Plugin);
lockgate_plugin::export_authorizer!(Plugin);

#[cfg(test)]
mod tests {
    use lockgate_plugin::testing::{Gateway, handshake};

    use super::*;

    #[test]
    fn client_without_a_ticket_is_told_to_bring_one() {
        let refusal = Gateway::<Plugin>::new().authorize(handshake()).unwrap_err();
        assert_eq!(refusal, Refusal::new(401).message("connect with ?ticket=…"));
    }

    #[test]
    fn client_is_told_who_it_is() {
        let mut gateway = Gateway::<Plugin>::new();
        gateway.identify("ada", [("plan", Value::from("gold"))]);
        let ada = gateway.connect().unwrap();
        let told = gateway.message(&ada, "who am I?");
        assert_eq!(told, Ok(Some(Message::from("ada (gold)"))));
    }
}
