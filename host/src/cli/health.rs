//! `lockgate health`: asks a running gateway whether it wants clients, as a container's health check does.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use http::{Method, StatusCode};
use serde_json::Value;
use tokio::time::timeout_at;

use super::access::{self, secure};
use super::client::ManagementRequest;
use super::whom::{GatewayTarget, connect, connect_hint, loopback_if_unspecified};
use crate::config::{self, Address};
use crate::management::{FoundNote, find_note};
use crate::net::ExpectedCertificate;

/// Time limit of the whole command: shorter than any orchestrator's.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Time limit of each of the two notes that there may be.
const NOTE_LIMIT: Duration = Duration::from_secs(1);

/// Fails with the reason unless the gateway answers in time that it is ready.
pub(super) fn health(gateway: &str) -> Result<()> {
    let deadline = Instant::now() + TIMEOUT;
    let (address, tls) = match GatewayTarget::named(gateway)? {
        GatewayTarget::Management(address) => (address, None),
        GatewayTarget::File(file) => address_for(&file)?,
    };
    let address = loopback_if_unspecified(address);
    let answer = ask(&address, tls.as_ref(), deadline)
        .with_context(|| format!("no health from {address}"))?;
    match answer.as_ref().map(|(status, said)| (*status, said.trim())) {
        Some((StatusCode::OK, "ready")) => super::print("ready"),
        Some((StatusCode::SERVICE_UNAVAILABLE, "stopping")) => {
            bail!("the gateway at {address} is stopping")
        }
        Some(_) | None => bail!(
            "{address} does not answer as the health or management listener of a gateway; if it is a management listener with TLS, name the gateway's \
             configuration, which names the certificate; else name that, or the right address"
        ),
    }
}

/// Gives the health address of the gateway that runs this file, from the gateway's note, or else from the file; and the
/// certificate to expect there, if that listener has TLS.
fn address_for(file: &Path) -> Result<(Address, Option<ExpectedCertificate>)> {
    let (address, has_tls) = match find(file) {
        Some(FoundNote::Silent { process, second }) => {
            let other = second.health.or(second.management);
            bail!(
                "process {process}, the older of two that run {}, does not answer; process {} has {}",
                file.display(),
                second.process,
                other.as_deref().unwrap_or("no health listener")
            )
        }
        Some(FoundNote::Trusted(note)) => {
            let has_tls = note.health.is_none() && note.has_tls;
            let text = note.health.or(note.management);
            (text.and_then(|text| Address::of_listener(&text)), has_tls)
        }
        // A note of another user may lie.
        Some(FoundNote::Untrusted { .. }) | None => {
            let address = config::health_address(file)?;
            let management = config::management(file).ok().flatten();
            let has_tls = management.is_some_and(|management| {
                management.tls.is_some() && Some(&management.address) == address.as_ref()
            });
            (address, has_tls)
        }
    };
    let tls = match has_tls {
        true => Some(access::expected_certificate(file)?),
        false => None,
    };
    let address = address.with_context(|| {
        format!(
            "{}: there is neither a health nor a management listener to ask; add health = \"127.0.0.1:9091\"",
            file.display()
        )
    })?;
    if address.ip().is_some_and(|address| address.port() == 0) {
        bail!(
            "{}: the address to ask has port 0, and no gateway says that it runs this file; is the gateway running?",
            file.display()
        );
    }
    Ok((address, tls))
}

#[tokio::main(flavor = "current_thread")]
async fn find(file: &Path) -> Option<FoundNote> {
    find_note(file, NOTE_LIMIT).await
}

/// Asks for readiness. Gives none if the answer is not HTTP.
#[tokio::main(flavor = "current_thread")]
async fn ask(
    address: &Address,
    tls: Option<&ExpectedCertificate>,
    deadline: Instant,
) -> Result<Option<(StatusCode, String)>> {
    let request = ManagementRequest {
        method: Method::GET,
        path: "/readyz",
        body: Value::Null,
        time_limit: TIMEOUT,
    };
    let answered = async {
        let stream = connect(address).await;
        let stream =
            stream.map_err(|error| anyhow!("{error}; {}", connect_hint(address, &error)))?;
        let stream = secure(stream, tls).await?;
        match request.send(stream, address, None, None).await {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if is_not_http(&error) => Ok(None),
            Err(error) => Err(error),
        }
    };
    let answered = timeout_at(deadline.into(), answered).await;
    answered.unwrap_or_else(|_| bail!("no answer within {} s", TIMEOUT.as_secs()))
}

/// Whether the answer is not HTTP, or missing.
fn is_not_http(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<hyper::Error>();
    error.is_some_and(|error| error.is_parse() || error.is_incomplete_message())
}
