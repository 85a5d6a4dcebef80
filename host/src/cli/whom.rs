//! The gateway that a command addresses: by the configuration that it runs, or by the address of a listener.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use tokio::net::{TcpStream, UnixStream};

use super::access::AccessOptions;
use crate::config::Address;
use crate::net::Stream;

/// The argument of a command that addresses a gateway, and the credentials for it.
#[derive(Debug, clap::Args)]
pub(super) struct GatewayArgument {
    #[command(flatten)]
    named: NamedGateway,
    #[command(flatten)]
    access: AccessOptions,
}

/// The gateway, by the first argument or by an option.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct NamedGateway {
    /// The gateway's configuration file, or the address of its management listener: IP:PORT or unix:PATH
    gateway: Option<String>,
    /// The address of the gateway's management listener
    #[arg(long, value_name = "ADDR", value_parser = address)]
    management: Option<Address>,
}

impl GatewayArgument {
    pub(super) fn target(&self) -> Result<AskedGateway> {
        let target = match &self.named.gateway {
            Some(gateway) => GatewayTarget::named(gateway)?,
            None => GatewayTarget::of(None, self.named.management.as_ref())?,
        };
        Ok(AskedGateway {
            target,
            access: self.access.clone(),
        })
    }
}

/// The gateway that is asked, as options only: the first argument names something else.
#[derive(Debug, clap::Args)]
pub(super) struct GatewayOption {
    #[command(flatten)]
    chosen: ChosenGateway,
    #[command(flatten)]
    access: AccessOptions,
}

/// The gateway, by one of two options.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct ChosenGateway {
    /// The gateway's configuration file, which has the address of its management listener
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The address of the gateway's management listener
    #[arg(long, value_name = "ADDR", value_parser = address)]
    management: Option<Address>,
}

impl GatewayOption {
    pub(super) fn target(&self) -> Result<AskedGateway> {
        let ChosenGateway { config, management } = &self.chosen;
        Ok(AskedGateway {
            target: GatewayTarget::of(config.as_ref(), management.as_ref())?,
            access: self.access.clone(),
        })
    }
}

/// A gateway, with the credentials for its management listener.
#[derive(Clone, Debug)]
pub(super) struct AskedGateway {
    pub(super) target: GatewayTarget,
    pub(super) access: AccessOptions,
}

/// The gateway that a command addresses.
#[derive(Clone, Debug)]
pub(super) enum GatewayTarget {
    /// The gateway that runs this file.
    File(PathBuf),
    /// The gateway with this management listener.
    Management(Address),
}

impl GatewayTarget {
    /// Parses an argument that is a file or an address.
    pub(super) fn named(text: &str) -> Result<Self> {
        if let Ok(address) = address(text) {
            return Ok(Self::Management(address));
        }
        let file = PathBuf::from(text);
        let is_host = text == "localhost" || text.parse::<IpAddr>().is_ok();
        let is_port = text.bytes().all(|byte| byte.is_ascii_digit());
        let like_an_address = is_host || is_port || text.contains(':');
        if like_an_address && !file.exists() {
            bail!("{text}: there is no such file, and {NO_ADDRESS}");
        }
        Ok(Self::File(file))
    }

    /// Takes the option `--management`, or else the file.
    pub(super) fn of(file: Option<&PathBuf>, management: Option<&Address>) -> Result<Self> {
        match (management, file) {
            (Some(address), _) => Ok(Self::Management(address.clone())),
            (None, Some(file)) => Ok(Self::File(file.clone())),
            (None, None) => bail!("name the configuration, or write --management ADDR"),
        }
    }
}

/// Adds the option to write to the error of a command that takes its gateway by an option, and has it as a word alone.
pub(super) fn suggest_option(mut error: clap::Error) -> clap::Error {
    let takes_options = error
        .get(ContextKind::Usage)
        .is_some_and(|usage| usage.to_string().contains("--config <FILE>"));
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    if error.kind() != ErrorKind::UnknownArgument {
        return error;
    }
    let tip = match word.as_str() {
        "--config" if !takes_options => "name the file alone, without --config".to_owned(),
        word if word.starts_with('-') || !takes_options => return error,
        word => {
            let option = match address(word) {
                Ok(_) => "management",
                Err(_) => "config",
            };
            format!("name the gateway by an option: --{option} {word}")
        }
    };
    error.insert(
        ContextKind::Suggested,
        ContextValue::StyledStrs(vec![tip.into()]),
    );
    error
}

const NO_ADDRESS: &str = "an address is written as 127.0.0.1:9090, localhost:9090 or unix:PATH";

/// Parses a listener's address, or `localhost:PORT`.
pub(super) fn address(text: &str) -> Result<Address, String> {
    let local = text.strip_prefix("localhost:");
    if let Some(port) = local.and_then(|port| port.parse().ok()) {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into());
    }
    Address::of_listener(text).ok_or_else(|| NO_ADDRESS.to_owned())
}

/// Connects to a listener.
pub(super) async fn connect(address: &Address) -> io::Result<Stream> {
    Ok(match address {
        Address::Ip(address) => Stream::Ip(TcpStream::connect(address).await?),
        Address::Unix { path, .. } => Stream::Unix(UnixStream::connect(path).await?),
    })
}

/// Replaces an unspecified address by loopback.
pub(super) fn loopback_if_unspecified(address: Address) -> Address {
    let Address::Ip(address) = address else {
        return address;
    };
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, address.port()).into()
}

/// Gives the `Host` header for a listener.
pub(super) fn host(address: &Address) -> String {
    match address {
        Address::Ip(address) => address.to_string(),
        Address::Unix { .. } => "localhost".into(),
    }
}

/// Gives a hint for an operator whose connect failed.
pub(super) fn connect_hint(address: &Address, error: &io::Error) -> &'static str {
    match address {
        Address::Unix { .. } if error.kind() == io::ErrorKind::PermissionDenied => {
            "ask as the gateway's user, or write mode beside the address"
        }
        Address::Unix { .. } if error.kind() == io::ErrorKind::NotFound => {
            "is the gateway running? If it is, the socket's file was removed: send the gateway SIGHUP, and it makes the \
             file again"
        }
        Address::Unix { .. } | Address::Ip(_) => "is the gateway running?",
    }
}
