//! `lockgate upgrade`: asks a running gateway to hand over to a new process.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::run::block_on;
use crate::config::Config;

/// Bytes of the longest answer.
const LONGEST: usize = 64 << 10;

/// The gateway is named by its configuration file, or by the address of its management listener.
pub(super) fn upgrade(gateway: &str) -> Result<()> {
    let address = management(gateway)?;
    let (status, answer) = block_on(post(address, "/upgrade"))?;
    if status != StatusCode::OK {
        bail!("{}", answer.trim_end());
    }
    super::print(answer.trim_end())
}

fn management(gateway: &str) -> Result<SocketAddr> {
    if let Ok(address) = gateway.parse() {
        return Ok(address);
    }
    match Config::load(Path::new(gateway))?.management {
        Some(address) if address.port() != 0 => Ok(address),
        Some(_) => bail!(
            "{gateway}: management.address has port 0; name the address that the gateway has logged instead of the file"
        ),
        None => bail!(
            "{gateway}: there is no [management] listener to ask; add one, or send SIGUSR2 to the process"
        ),
    }
}

/// Sends one request, and gives the answer's status and text.
async fn post(address: SocketAddr, path: &str) -> Result<(StatusCode, String)> {
    let stream = TcpStream::connect(address)
        .await
        .with_context(|| format!("no gateway answers at {address}"))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(header::HOST, address.to_string())
        .header(header::CONTENT_TYPE, "application/json")
        .body(Empty::<&[u8]>::new())?;
    let answered = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LONGEST).collect().await;
        let body = body.map_err(anyhow::Error::from_boxed)?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    };
    tokio::select! {
        answered = answered => answered,
        Err(error) = connection => {
            Err(error).with_context(|| format!("{address} let go of the connection"))
        }
    }
}
