//! Asks a running gateway through its management listener, which is named, or found by the configuration that the gateway
//! runs.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::time::timeout;

use super::whom::{Whom, connect, host, why_not};
use crate::config::{self, Address};
use crate::management::{CONFIGURATION, Found, Note, find};
use crate::net::Stream;

/// Bytes of the longest answer.
const LONGEST: usize = 16 << 20;

/// How long a gateway may take to say that it is one: it has nothing to wait for.
const GREETING: Duration = Duration::from_secs(5);

/// A request to a gateway.
pub(super) struct Question<'a> {
    pub(super) method: Method,
    pub(super) path: &'a str,
    pub(super) body: Value,
    /// How long the answer may take.
    pub(super) patience: Duration,
}

/// Gives the text of the answer; a refusal is an error. A gateway that runs another file than the one that is meant does
/// nothing, and is an error.
#[tokio::main(flavor = "current_thread")]
pub(super) async fn ask(whom: &Whom, question: &Question<'_>) -> Result<String> {
    let (gateway, meant) = match whom {
        Whom::Management(address) => (Gateway::at(address.clone(), None).await?, None),
        Whom::File(file) => {
            let meant = file.canonicalize();
            let meant = meant.map_err(|error| {
                anyhow!(
                    "{}: cannot be read: {error}; name the configuration that the gateway runs",
                    file.display()
                )
            })?;
            (who_runs(file, &meant).await?, Some(meant))
        }
    };
    let (status, text) = gateway.ask(question, meant.as_deref()).await?;
    if status.is_success() {
        return Ok(text);
    }
    match error(&text) {
        why if why.is_empty() => bail!("{}: answered {status} without a reason", gateway.0),
        why => bail!(why),
    }
}

/// The gateway that runs a file says itself where it is asked: the file may be broken, or say something else by now. Of one
/// that does not, the address in the file is tried.
async fn who_runs(file: &Path, meant: &Path) -> Result<Gateway> {
    let found = find(file).await;
    match &found {
        Some(Found::Note(Note {
            management: Some(address),
            ..
        })) => {
            let address = Address::of_listener(address);
            let address =
                address.context("the management address that the gateway tells is no address")?;
            return Gateway::at(address, Some(meant)).await;
        }
        Some(Found::Note(Note { process, .. })) => bail!(
            "process {process} runs {}, and has no management listener: send it SIGHUP to reload, SIGUSR2 to upgrade",
            file.display()
        ),
        Some(Found::Strangers { .. }) | None => {}
    }
    let why_not = match config::management_address(file)? {
        None => anyhow!(
            "{}: there is no [management] listener to ask; add one with address = \"127.0.0.1:9090\", or send the \
             process SIGHUP to reload, SIGUSR2 to upgrade",
            file.display()
        ),
        Some(Address::Ip(address)) if address.port() == 0 => anyhow!(
            "{}: management.address has port 0; name the address that the gateway has logged",
            file.display()
        ),
        Some(address) => match Gateway::at(address, Some(meant)).await {
            Ok(gateway) => return Ok(gateway),
            Err(why_not) => why_not,
        },
    };
    let Some(Found::Strangers { note, uid }) = found else {
        return Err(why_not);
    };
    let place = note.management.as_deref().unwrap_or("no address");
    Err(why_not.context(format!(
        "process {} of the user {uid} says that it runs this file, with its management listener at {place}; if it is yours, \
         name that address: --management {place}",
        note.process
    )))
}

/// The management listener of a gateway, which has answered as one.
struct Gateway(Address);

impl Gateway {
    /// Finds out whether one answers there, which runs the file that is meant.
    async fn at(address: Address, meant: Option<&Path>) -> Result<Self> {
        let greeting = Question {
            method: Method::GET,
            path: "/plugins",
            body: Value::Null,
            patience: GREETING,
        };
        let gateway = Self(address);
        let (status, text) = gateway.ask(&greeting, meant).await?;
        let address = &gateway.0;
        match serde_json::from_str(&text) {
            Ok(Value::Array(_)) if status == StatusCode::OK => Ok(Self(address.clone())),
            Ok(Value::Object(_)) if status == StatusCode::MISDIRECTED_REQUEST => {
                bail!("{address}: {}", error(&text))
            }
            _ => bail!(
                "{address} is not the management listener of a gateway; the gateway's log has its \
                 address: \"management listening on\""
            ),
        }
    }

    async fn ask(
        &self,
        question: &Question<'_>,
        meant: Option<&Path>,
    ) -> Result<(StatusCode, String)> {
        let Self(address) = self;
        let asked = async {
            let stream = connect(address).await.map_err(|error| {
                let hint = why_not(address, &error);
                anyhow!("no gateway answers at {address}; {hint} ({error})")
            })?;
            let answered = question.send(stream, address, meant).await;
            answered.map_err(|error| {
                anyhow!(
                    "the connection to {address} closed before an answer came, as when a gateway ends or its start \
                     fails; its log says why ({error:#})"
                )
            })
        };
        let asked = timeout(question.patience, asked).await;
        asked.unwrap_or_else(|_| {
            bail!(
                "no answer from {address} within {} s; a gateway answers once it serves, and another program at this address may never answer",
                question.patience.as_secs()
            )
        })
    }
}

impl Question<'_> {
    pub(super) async fn send(
        &self,
        stream: Stream,
        address: &Address,
        meant: Option<&Path>,
    ) -> Result<(StatusCode, String)> {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(self.path)
            .header(HOST, host(address))
            .header(CONTENT_TYPE, "application/json");
        if let Some(file) = meant {
            request = request.header(CONFIGURATION, encoded(file.as_os_str().as_encoded_bytes()));
        }
        let body = match self.body.is_null() {
            true => Bytes::new(),
            false => Bytes::from(self.body.to_string()),
        };
        let request = request.body(Full::new(body))?;
        let answered = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), LONGEST).collect().await;
            let body = body.map_err(anyhow::Error::from_boxed)?.to_bytes();
            anyhow::Ok((status, String::from_utf8_lossy(&body).into_owned()))
        };
        let mut connection = std::pin::pin!(connection);
        let mut answered = std::pin::pin!(answered);
        loop {
            tokio::select! {
                answer = &mut answered => return answer,
                ended = &mut connection => ended?,
            }
        }
    }
}

/// Bytes as a part of a path or a header.
pub(super) fn encoded(bytes: &[u8]) -> String {
    let encoded: String = form_urlencoded::byte_serialize(bytes).collect();
    encoded.replace('+', "%20")
}

/// The reason in a refusal, as all pages write it.
fn error(text: &str) -> String {
    let answer = serde_json::from_str::<Value>(text).ok();
    let error = answer
        .as_ref()
        .and_then(|answer| answer.get("error")?.as_str());
    error.unwrap_or(text).trim_end().to_owned()
}
