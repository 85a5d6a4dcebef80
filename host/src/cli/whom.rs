//! The gateway that a command means: by the configuration that it runs, or by the address of a listener.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Result, bail};

/// The gateway that is asked.
#[derive(Clone, Debug)]
pub(super) enum Whom {
    /// The one that runs this file.
    File(PathBuf),
    /// The one with this management listener.
    Management(SocketAddr),
}

impl Whom {
    /// Of words that are one or the other.
    pub(super) fn named(text: &str) -> Result<Self> {
        if let Ok(address) = address(text) {
            return Ok(Self::Management(address));
        }
        let file = PathBuf::from(text);
        let like_an_address = text.contains(':') || text.bytes().all(|byte| byte.is_ascii_digit());
        if like_an_address && !file.exists() {
            bail!("{text}: there is no such file, and {NO_ADDRESS}");
        }
        Ok(Self::File(file))
    }

    /// Of a file, or else of an option.
    pub(super) fn of(file: Option<&PathBuf>, management: Option<SocketAddr>) -> Result<Self> {
        match (management, file) {
            (Some(address), _) => Ok(Self::Management(address)),
            (None, Some(file)) => Ok(Self::File(file.clone())),
            (None, None) => bail!("name the configuration, or write --management ADDR"),
        }
    }
}

const NO_ADDRESS: &str = "an address is written as 127.0.0.1:9090 or localhost:9090";

/// Reads an address on this machine.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    let local = text.strip_prefix("localhost:");
    if let Some(port) = local.and_then(|port| port.parse().ok()) {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    text.parse().map_err(|_| NO_ADDRESS.to_owned())
}
