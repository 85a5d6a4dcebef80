//! A token that a client offers as a subprotocol: `Sec-WebSocket-Protocol: bearer, TOKEN`, or with WebTransport
//! `WT-Available-Protocols: "bearer", "TOKEN"`. A page in a browser can set no other header.

use http::header::SEC_WEBSOCKET_PROTOCOL;

use super::head::{Opening, WT_AVAILABLE_PROTOCOLS};
use crate::invocation::Handshake;

/// The subprotocol whose next one in the list is a token.
const BEARER: &str = "bearer";

/// A token, taken out of the list of subprotocols: nobody else gets it, and it is never the chosen one.
pub(super) struct TokenOffer {
    /// The subprotocol before it, as the client wrote it. It is chosen if the handler chooses none: a browser closes a
    /// connection whose server chooses none of those that it offers.
    pub(super) subprotocol: String,
    pub(super) token: String,
}

impl TokenOffer {
    /// Takes the first token out of a request; none if there is none.
    pub(super) fn take(opening: &Opening, handshake: &mut Handshake) -> Option<Self> {
        let offered = &mut handshake.subprotocols;
        let mut names = offered.iter();
        let at = names.position(|name| name.eq_ignore_ascii_case(BEARER))?;
        if at + 1 >= offered.len() {
            return None;
        }
        let token = offered.remove(at + 1);
        let subprotocol = offered.remove(at);
        let (list, left) = match opening {
            Opening::Upgrade { .. } | Opening::Connect => {
                (SEC_WEBSOCKET_PROTOCOL.as_str(), offered.join(", "))
            }
            Opening::WebTransport => {
                let quoted = offered.iter().map(|name| format!("\"{name}\""));
                let quoted: Vec<_> = quoted.collect();
                (WT_AVAILABLE_PROTOCOLS, quoted.join(", "))
            }
        };
        let headers = &mut handshake.headers;
        headers.retain(|(name, _)| *name != list);
        if !left.is_empty() {
            headers.push((list.to_owned(), left));
        }
        Some(Self { subprotocol, token })
    }
}
