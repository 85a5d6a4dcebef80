//! HTTP requests that open no WebSocket, several on one connection.

use std::net::SocketAddr;

use tokio::io::AsyncWriteExt;

use crate::{Answer, Duplex, Gateway, Request, request::read_answer, within};

/// An HTTP/1.1 connection to a listener, which the server may keep open.
pub struct Http {
    stream: Box<dyn Duplex>,
    host: String,
}

impl Gateway {
    /// An HTTP/1.1 connection over plain TCP.
    pub async fn http(&self) -> Http {
        self.http_to(self.plain()).await
    }

    /// An HTTP/1.1 connection to another of its addresses.
    pub async fn http_to(&self, address: SocketAddr) -> Http {
        let stream = within("the connection", Request::new(address, "/").stream()).await;
        Http {
            stream: stream.unwrap(),
            host: format!("localhost:{}", address.port()),
        }
    }
}

impl Http {
    /// Speaks HTTP/1.1 over a stream.
    pub fn over(stream: impl Duplex + 'static, host: &str) -> Self {
        Self {
            stream: Box::new(stream),
            host: host.to_owned(),
        }
    }

    /// Sets the host of later requests.
    #[must_use]
    pub fn host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    /// The value of `Host`.
    #[must_use]
    pub fn host_name(&self) -> &str {
        &self.host
    }

    /// Sends a request with its length, and waits for the answer.
    pub async fn ask(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(String, String)],
        body: &[u8],
    ) -> Answer {
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n", self.host);
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let has_length = |name: &str| name == "Content-Length" || name == "Transfer-Encoding";
        if !headers.iter().any(|(name, _)| has_length(name)) {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        self.send(&[head.as_bytes(), body].concat()).await;
        self.answer().await
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        within("the request to go out", self.stream.write_all(bytes))
            .await
            .unwrap();
    }

    pub async fn answer(&mut self) -> Answer {
        within("the answer", read_answer(&mut self.stream)).await.0
    }

    /// Waits until the server closes the connection.
    pub async fn closed(&mut self) {
        use tokio::io::AsyncReadExt;
        let mut bytes = Vec::new();
        let read = within("the end", self.stream.read_to_end(&mut bytes)).await;
        assert!(read.is_err() || bytes.is_empty(), "{bytes:?}");
    }
}
