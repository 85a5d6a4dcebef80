//! Asks a running gateway through its management listener, which is named, or found by the configuration that the gateway
//! runs.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::Config;
use crate::management::{CONFIGURATION, Found, Note, find};

/// Bytes of the longest answer.
const LONGEST: usize = 16 << 20;

/// The gateway that is asked.
#[derive(Clone, Debug)]
pub(super) enum Whom {
    /// The one that runs this file.
    File(PathBuf),
    /// The one with this management listener.
    Management(SocketAddr),
}

/// What it is asked.
pub(super) struct Question<'a> {
    pub(super) method: Method,
    pub(super) path: &'a str,
    pub(super) body: Value,
    /// How long the answer may take.
    pub(super) patience: Duration,
}

/// Gives the answer's status and text. A gateway that runs another file than the one that is meant does nothing, and is an
/// error.
#[tokio::main(flavor = "current_thread")]
pub(super) async fn ask(whom: &Whom, question: &Question<'_>) -> Result<(StatusCode, String)> {
    match whom {
        Whom::Management(address) => Ok(question.ask(*address, None).await?),
        Whom::File(file) => question.ask_who_runs(file).await,
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error("no gateway answers at {0}; is it running? ({1})")]
    Unreachable(SocketAddr, io::Error),
    #[error("{0:#}")]
    Broken(anyhow::Error),
}

impl Question<'_> {
    /// First where the file says. The gateway may have another address still; or it is another that has this one.
    async fn ask_who_runs(&self, file: &Path) -> Result<(StatusCode, String)> {
        let configured = Config::load(file)?.management;
        let meant = file.canonicalize()?;
        let why_not = match configured {
            None => anyhow!(
                "{}: there is no [management] listener to ask; add one with address = \"127.0.0.1:9090\", or send the \
                 process SIGHUP to reload, SIGUSR2 to upgrade",
                file.display()
            ),
            Some(address) if address.port() == 0 => anyhow!(
                "{}: management.address has port 0; name the address that the gateway has logged",
                file.display()
            ),
            Some(address) => match self.ask(address, Some(&meant)).await {
                Ok((StatusCode::MISDIRECTED_REQUEST, text)) => {
                    anyhow!("{address}: {}", error(&text))
                }
                Ok(answer) => return Ok(answer),
                Err(unreachable @ Unanswered::Unreachable(..)) => unreachable.into(),
                Err(Unanswered::Broken(error)) => return Err(error),
            },
        };
        match find(file).await {
            None => Err(why_not),
            Some(Found::Note(Note {
                management: Some(address),
                ..
            })) => {
                let address = address
                    .parse()
                    .context("where the gateway says it is asked")?;
                match self.ask(address, Some(&meant)).await? {
                    (StatusCode::MISDIRECTED_REQUEST, text) => bail!("{address}: {}", error(&text)),
                    answer => Ok(answer),
                }
            }
            Some(Found::Note(Note { process, .. })) => bail!(
                "process {process} runs {}, and has no management listener: send it SIGHUP to reload, SIGUSR2 to upgrade",
                file.display()
            ),
            Some(Found::Strangers { note, uid }) => {
                let place = note.management.as_deref().unwrap_or("no address");
                Err(why_not.context(format!(
                    "process {} of the user {uid} says that it runs this file, and is asked at {place}; if it is yours, \
                     name that address",
                    note.process
                )))
            }
        }
    }

    async fn ask(
        &self,
        address: SocketAddr,
        meant: Option<&Path>,
    ) -> Result<(StatusCode, String), Unanswered> {
        let stream = TcpStream::connect(address)
            .await
            .map_err(|error| Unanswered::Unreachable(address, error))?;
        let asked = timeout(self.patience, self.send(stream, address, meant)).await;
        let asked = asked.unwrap_or_else(|_| bail!("no answer within {:?}", self.patience));
        asked.map_err(|error| Unanswered::Broken(error.context(address.to_string())))
    }

    async fn send(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        meant: Option<&Path>,
    ) -> Result<(StatusCode, String)> {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(self.path)
            .header(HOST, address.to_string())
            .header(CONTENT_TYPE, "application/json");
        if let Some(file) = meant {
            let bytes = file.as_os_str().as_encoded_bytes();
            let file: String = form_urlencoded::byte_serialize(bytes).collect();
            request = request.header(CONFIGURATION, file);
        }
        let request = request
            .body(Full::new(Bytes::from(self.body.to_string())))
            .context("no plugin has that name")?;
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

/// The reason in a refusal, as all pages write it.
pub(super) fn error(text: &str) -> String {
    let answer = serde_json::from_str::<Value>(text).ok();
    let error = answer
        .as_ref()
        .and_then(|answer| answer.get("error")?.as_str());
    error.unwrap_or(text).trim_end().to_owned()
}
