//! Transports: how messages and closes go over a socket.

pub(crate) mod websocket;
