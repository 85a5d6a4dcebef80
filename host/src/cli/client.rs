//! The client of a gateway's management listener. It finds the listener by address, or by the configuration that the
//! gateway runs.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::time::timeout;

use super::access::{AccessOptions, FoundToken, expected_certificate, secure};
use super::whom::{
    AskedGateway, GatewayTarget, connect, connect_hint, host, loopback_if_unspecified,
};
use crate::config::{self, Address, Secret};
use crate::management::{
    CONFIGURATION, FoundNote, NOTE_TIMEOUT, Note, find_note, find_second_note,
};
use crate::net::{BoxedStream, ExpectedCertificate};
use crate::telemetry;

/// Longest answer in bytes.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// Time limit of the first answer: it needs no work.
const GREETING_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest time without a word to whoever waits for a command.
const SILENCE: Duration = Duration::from_secs(1);

/// The path of an upgrade.
pub(super) const UPGRADE: &str = "/upgrade";

/// A request to a management listener.
pub(super) struct ManagementRequest<'a> {
    pub(super) method: Method,
    pub(super) path: &'a str,
    pub(super) body: Value,
    /// Time limit of the answer.
    pub(super) time_limit: Duration,
}

/// Sends a request and gives the text of the answer. A refusal is an error, and so is a gateway that runs another file:
/// it does nothing.
#[tokio::main(flavor = "current_thread")]
pub(super) async fn ask(asked: &AskedGateway, request: &ManagementRequest<'_>) -> Result<String> {
    let (gateway, expected_file) = find(asked).await?;
    let answer = gateway.ask(request, expected_file.as_deref());
    let (status, text) = telling_of_a_wait(request, answer).await?;
    if status.is_success() {
        return Ok(text);
    }
    match refusal_reason(&text) {
        why if why.is_empty() => bail!("{}: answered {status} without a reason", gateway.address),
        why => bail!(why),
    }
}

/// Waits for an answer. Tells a person what a long wait is for.
async fn telling_of_a_wait<T>(
    request: &ManagementRequest<'_>,
    answer: impl Future<Output = T>,
) -> T {
    let mut answer = pin!(answer);
    let Some(what) = request.long_work() else {
        return answer.await;
    };
    if let Ok(answer) = timeout(SILENCE, answer.as_mut()).await {
        return answer;
    }
    let at_most = match request.path {
        // The limits of the gateway end it sooner than the command does.
        UPGRADE => {
            "limits.upgrade_s at most, and as long before that for a reload under way".to_owned()
        }
        _ => format!("{} s at most", request.time_limit.as_secs()),
    };
    telemetry::print(&format!("waiting: {what}, for {at_most}"));
    answer.await
}

/// Asks for an answer without an end, and gives each of its lines to `act` as it comes.
#[tokio::main(flavor = "current_thread")]
pub(super) async fn follow(
    asked: &AskedGateway,
    path: &str,
    act: impl FnMut(&str) -> Result<()>,
) -> Result<()> {
    let (gateway, expected_file) = find(asked).await?;
    let request = ManagementRequest {
        method: Method::GET,
        path,
        body: Value::Null,
        time_limit: GREETING_TIMEOUT,
    };
    let address = &gateway.address;
    let stream = connect(address).await.map_err(|error| {
        let hint = connect_hint(address, &error);
        anyhow!("no gateway answers at {address}; {hint} ({error})")
    })?;
    let stream = secure(stream, gateway.tls.as_ref()).await?;
    let request = request.head(address, expected_file.as_deref(), gateway.token.as_ref());
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let followed = async {
        let response = sender
            .send_request(request.body(Full::<Bytes>::default())?)
            .await?;
        if response.status().is_success() {
            return each_line(response.into_body(), act).await;
        }
        let why = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect();
        let why = why.await.map_err(anyhow::Error::from_boxed)?.to_bytes();
        bail!(refusal_reason(&String::from_utf8_lossy(&why)))
    };
    let (mut followed, mut connection) = (pin!(followed), pin!(connection));
    tokio::select! {
        biased;
        followed = &mut followed => return followed,
        ended = &mut connection => ended?,
    }
    // The rest of what has come.
    followed.await
}

async fn each_line(mut body: Incoming, mut act: impl FnMut(&str) -> Result<()>) -> Result<()> {
    let mut unread = Vec::new();
    while let Some(frame) = body.frame().await {
        unread.extend(frame?.into_data().unwrap_or_default());
        while let Some(end) = unread.iter().position(|byte| *byte == b'\n') {
            let line: Vec<_> = unread.drain(..=end).collect();
            act(String::from_utf8_lossy(&line).trim_end())?;
        }
        anyhow::ensure!(unread.len() <= MAX_ANSWER_BYTES, "a line has no end");
    }
    Ok(())
}

/// Finds the gateway that is asked, and gives the file that it must run.
async fn find(asked: &AskedGateway) -> Result<(ManagementClient, Option<PathBuf>)> {
    let access = &asked.access;
    let (gateway, expected_file) = match &asked.target {
        GatewayTarget::Management(address) => {
            let address = loopback_if_unspecified(address.clone());
            let tls = access.certificate(&host_name(&address))?;
            let token = access.token(None)?;
            (ManagementClient::at(address, tls, token, None).await?, None)
        }
        GatewayTarget::File(file) => {
            let expected_file = file.canonicalize();
            let expected_file = expected_file.map_err(|error| {
                anyhow!(
                    "{}: cannot be read: {error}; name the configuration that the gateway runs",
                    file.display()
                )
            })?;
            let gateway = gateway_of(file, &expected_file, access).await?;
            (gateway, Some(expected_file))
        }
    };
    Ok((gateway, expected_file))
}

/// Finds the gateway that runs a file. The gateway's own note comes first: the file may be broken, or have another
/// address by now. Without a note, the address in the file is tried.
async fn gateway_of(
    file: &Path,
    expected_file: &Path,
    access: &AccessOptions,
) -> Result<ManagementClient> {
    let client_at = async |address: Address, has_tls: bool| {
        let address = loopback_if_unspecified(address);
        let tls = match access.certificate(&host_name(&address))? {
            None if has_tls => Some(expected_certificate(file)?),
            expected => expected,
        };
        let token = access.token(Some(file))?;
        ManagementClient::at(address, tls, token, Some(expected_file)).await
    };
    let found = find_note(file, NOTE_TIMEOUT).await;
    match &found {
        Some(FoundNote::Trusted(
            note @ Note {
                management: Some(address),
                has_tls,
                ..
            },
        )) => {
            tell_of_second(file, note).await;
            let address = Address::of_listener(address);
            let address =
                address.context("the management address that the gateway tells is no address")?;
            return client_at(address, *has_tls).await;
        }
        Some(FoundNote::Trusted(Note { process, .. })) => bail!(
            "process {process} runs {}, and has no management listener: add [management] with address = \"127.0.0.1:9090\" to the file, and send the \
             process SIGHUP, which opens it; SIGUSR2 upgrades",
            file.display()
        ),
        Some(FoundNote::Silent { process, second }) => bail!(
            "process {process}, the older of two that run {}, does not answer; nobody was asked. For process {}, write --management {}; if \
             process {process} hangs, end it",
            file.display(),
            second.process,
            place(second)
        ),
        Some(FoundNote::Untrusted { .. }) | None => {}
    }
    let management = config::management(file)?;
    let has_tls = management
        .as_ref()
        .is_some_and(|management| management.tls.is_some());
    let why_not = match management.map(|management| management.address) {
        None => anyhow!(
            "{}: there is no [management] listener to ask; add one with address = \"127.0.0.1:9090\", or send the \
             process SIGHUP to reload, SIGUSR2 to upgrade",
            file.display()
        ),
        Some(Address::Ip(address)) if address.port() == 0 => anyhow!(
            "{}: management.address has port 0; name the address that the gateway has logged",
            file.display()
        ),
        Some(address) => match client_at(address, has_tls).await {
            Ok(gateway) => return Ok(gateway),
            Err(why_not) => why_not,
        },
    };
    let Some(FoundNote::Untrusted { note, uid }) = found else {
        return Err(why_not);
    };
    let place = note.management.as_deref().unwrap_or("no address");
    Err(why_not.context(format!(
        "process {} of the user {uid} says that it runs this file, with its management listener at {place}; if it is yours, \
         name that address: --management {place}",
        note.process
    )))
}

/// Says which of two gateways is asked.
async fn tell_of_second(file: &Path, first: &Note) {
    let Some(second) = find_second_note(file, first).await else {
        return;
    };
    telemetry::print(&format!(
        "two gateways run {}: process {} ({}) is asked; for process {}, write --management {}",
        file.display(),
        first.process,
        place(first),
        second.process,
        place(&second),
    ));
}

/// The address at which a gateway is asked.
fn place(note: &Note) -> &str {
    let address = note.management.as_deref();
    address.unwrap_or("no management listener")
}

/// A management listener that has answered as one.
struct ManagementClient {
    address: Address,
    tls: Option<ExpectedCertificate>,
    token: Option<Secret>,
}

impl ManagementClient {
    /// Checks that a gateway answers at an address, and runs the expected file.
    async fn at(
        address: Address,
        tls: Option<ExpectedCertificate>,
        found: FoundToken,
        expected_file: Option<&Path>,
    ) -> Result<Self> {
        let greeting = ManagementRequest {
            method: Method::GET,
            path: "/plugins",
            body: Value::Null,
            time_limit: GREETING_TIMEOUT,
        };
        let gateway = Self {
            address,
            tls,
            token: found.token,
        };
        let (status, text) = gateway.ask(&greeting, expected_file).await?;
        let address = &gateway.address;
        match serde_json::from_str(&text) {
            Ok(Value::Array(_)) if status == StatusCode::OK => Ok(gateway),
            Ok(Value::Object(_))
                if status == StatusCode::UNAUTHORIZED && found.why_not.is_some() =>
            {
                bail!(
                    "{address}: {}; the configuration gave none:\n{}",
                    refusal_reason(&text),
                    found.why_not.unwrap_or_default()
                )
            }
            Ok(Value::Object(_))
                if [
                    StatusCode::MISDIRECTED_REQUEST,
                    StatusCode::UNAUTHORIZED,
                    StatusCode::TOO_MANY_REQUESTS,
                ]
                .contains(&status) =>
            {
                bail!("{address}: {}", refusal_reason(&text))
            }
            _ => bail!(
                "{address} is not the management listener of a gateway; the gateway's log has its \
                 address: \"management listening on\""
            ),
        }
    }

    async fn ask(
        &self,
        request: &ManagementRequest<'_>,
        expected_file: Option<&Path>,
    ) -> Result<(StatusCode, String)> {
        let address = &self.address;
        let asked = async {
            let stream = connect(address).await.map_err(|error| {
                let hint = connect_hint(address, &error);
                anyhow!("no gateway answers at {address}; {hint} ({error})")
            })?;
            let stream = secure(stream, self.tls.as_ref()).await;
            let stream = stream.with_context(|| {
                format!(
                    "{address} does not show the certificate that is expected; write --ca FILE, and --server-name HOST if the certificate is for a name"
                )
            })?;
            let token = self.token.as_ref();
            let answered = request.send(stream, address, expected_file, token).await;
            let tls = match self.tls {
                Some(_) => "",
                None => "; if it has TLS, write --ca FILE",
            };
            answered.map_err(|error| {
                anyhow!(
                    "the connection to {address} closed before an answer came, as when a gateway ends or its start \
                     fails; its log says why{tls} ({error:#})"
                )
            })
        };
        let asked = timeout(request.time_limit, asked).await;
        asked.unwrap_or_else(|_| {
            bail!(
                "no answer from {address} within {} s; a gateway answers once it serves, and another program at this address may never answer",
                request.time_limit.as_secs()
            )
        })
    }
}

/// The host of an address, as a certificate names it.
fn host_name(address: &Address) -> String {
    address.ip().map_or_else(
        || "localhost".to_owned(),
        |address| address.ip().to_string(),
    )
}

impl ManagementRequest<'_> {
    /// What the gateway may do for long before it answers.
    fn long_work(&self) -> Option<&'static str> {
        match self.path {
            "/reload" => {
                Some("the gateway compiles what has changed, and serves as before meanwhile")
            }
            UPGRADE => {
                Some("the new process compiles what it serves, and this one serves meanwhile")
            }
            path if self.method == Method::POST && path.starts_with("/plugins/") => {
                Some("the gateway compiles the plugin, and serves as before meanwhile")
            }
            _ => None,
        }
    }

    fn head(
        &self,
        address: &Address,
        expected_file: Option<&Path>,
        token: Option<&Secret>,
    ) -> http::request::Builder {
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(self.path)
            .header(HOST, host(address))
            .header(CONTENT_TYPE, "application/json");
        if let Some(file) = expected_file {
            request = request.header(CONFIGURATION, encoded(file.as_os_str().as_encoded_bytes()));
        }
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {}", token.reveal()));
        }
        request
    }

    pub(super) async fn send(
        &self,
        stream: BoxedStream,
        address: &Address,
        expected_file: Option<&Path>,
        token: Option<&Secret>,
    ) -> Result<(StatusCode, String)> {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let body = match self.body.is_null() {
            true => Bytes::new(),
            false => Bytes::from(self.body.to_string()),
        };
        let request = self.head(address, expected_file, token);
        let request = request.body(Full::new(body))?;
        let answered = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES)
                .collect()
                .await;
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

/// Encodes bytes for a path or a header.
pub(super) fn encoded(bytes: &[u8]) -> String {
    let encoded: String = form_urlencoded::byte_serialize(bytes).collect();
    encoded.replace('+', "%20")
}

/// Extracts the reason from a refusal, which every page writes in one form.
fn refusal_reason(text: &str) -> String {
    let answer = serde_json::from_str::<Value>(text).ok();
    let error = answer
        .as_ref()
        .and_then(|answer| answer.get("error")?.as_str());
    error.unwrap_or(text).trim_end().to_owned()
}
