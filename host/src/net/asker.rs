//! A client of one endpoint that keeps connections. Where the endpoint has just closed one of them, it asks once more.

use std::collections::HashSet;
use std::error::Error as _;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use http::Extensions;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpInfo;
use reqwest::{Client, ClientBuilder, Request, RequestBuilder, Response};

/// Connections that are remembered to have answered. With more, all are forgotten: whoever is kept no longer is only not
/// asked again.
const MAX_KEPT: usize = 1_024;

pub(crate) struct Asker {
    keeping: Client,
    /// Keeps no connection.
    fresh: Client,
    /// Our ends of the connections that have answered.
    answered: Mutex<HashSet<SocketAddr>>,
}

impl Asker {
    pub(crate) fn new(builder: impl Fn() -> ClientBuilder) -> reqwest::Result<Self> {
        Ok(Self {
            keeping: builder().build()?,
            fresh: builder().pool_max_idle_per_host(0).build()?,
            answered: Mutex::default(),
        })
    }

    pub(crate) fn get(&self, url: &str) -> RequestBuilder {
        self.keeping.get(url)
    }

    /// Sends a request that may be sent twice (RFC 9110 §9.2.2). If a connection that has answered before ends before the
    /// head of its answer has come, the request is sent once more, on a connection of its own: hyper does not tell whether
    /// a part of the head had come.
    pub(crate) async fn ask(&self, request: Request) -> reqwest::Result<Response> {
        let again = request.try_clone();
        match self.keeping.execute(request).await {
            Ok(response) => {
                if let Some(info) = response.extensions().get::<HttpInfo>() {
                    self.note(info.local_addr());
                }
                Ok(response)
            }
            Err(error) => match again {
                Some(again) if self.was_kept(&error) => self.fresh.execute(again).await,
                Some(_) | None => Err(error),
            },
        }
    }

    fn note(&self, own: SocketAddr) {
        let mut answered = self.answered();
        if answered.len() >= MAX_KEPT {
            answered.clear();
        }
        answered.insert(own);
    }

    /// Whether an error is of a connection that has answered before, and not of a malformed answer.
    fn was_kept(&self, error: &reqwest::Error) -> bool {
        let mut own = None;
        let mut cause = error.source();
        while let Some(error) = cause {
            let failed = error.downcast_ref::<legacy::Error>();
            if let Some(connected) = failed.and_then(legacy::Error::connect_info) {
                let mut extras = Extensions::new();
                connected.get_extras(&mut extras);
                own = extras.get::<HttpInfo>().map(HttpInfo::local_addr);
            }
            let answer = error.downcast_ref::<hyper::Error>();
            if answer.is_some_and(hyper::Error::is_parse) {
                return false;
            }
            cause = error.source();
        }
        own.is_some_and(|own| self.answered().remove(&own))
    }

    fn answered(&self) -> MutexGuard<'_, HashSet<SocketAddr>> {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
