//! What the schema cannot say: addresses, names, paths, and what refers to what.
//!
//! Each function gives what it could make of its part; whether that is used is the report's verdict.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use super::api;
use super::limits;
use super::meant::{Config, Grants, Listener, Log, Plugin, Signature, Tls};
use super::report::{Report, join};
use super::written;

/// Gives the configuration that `file` means.
pub(super) fn config(file: written::File, report: &mut Report<'_>) -> Config {
    let mut addresses = BTreeMap::new();
    let listeners = listeners(file.listeners, &mut addresses, report);
    let management = file
        .management
        .and_then(|management| management_address(&management.address, &mut addresses, report));
    let apis = api::apis(file.apis, report);
    let plugins: Vec<_> = file
        .plugins
        .into_iter()
        .map(|(name, written)| plugin(name, written, report))
        .collect();
    if file.require_signatures {
        for plugin in &plugins {
            require_signature(plugin, report);
        }
    }
    Config {
        listeners,
        management,
        apis,
        plugins,
        limits: file.limits.into(),
        compile_cache: file
            .compile_cache
            .map(|folder| report.path("compile_cache", &folder)),
        log: log(file.log, report),
    }
}

fn listeners(
    written: Vec<written::Listener>,
    addresses: &mut BTreeMap<SocketAddr, String>,
    report: &mut Report<'_>,
) -> Vec<Listener> {
    if written.is_empty() && report.is_clean("listeners") {
        report.problem(
            "listeners",
            "there is no listener, so that no client could connect",
            "add [[listeners]] with address = \"127.0.0.1:8443\" and tls = \"self-signed\"",
        );
    }
    written
        .into_iter()
        .enumerate()
        .filter_map(|(index, written)| {
            listener(&format!("listeners[{index}]"), written, addresses, report)
        })
        .collect()
}

fn listener(
    key: &str,
    written: written::Listener,
    addresses: &mut BTreeMap<SocketAddr, String>,
    report: &mut Report<'_>,
) -> Option<Listener> {
    let address = address(&join(key, "address"), &written.address, addresses, report);
    let tls_key = join(key, "tls");
    if !report.is_written(&tls_key) && address.is_some_and(|address| !address.ip().is_loopback()) {
        report.problem(
            &tls_key,
            "others than this machine can connect, and it is not said whether that is encrypted",
            "write tls = { certificate = \"…\", key = \"…\" }, or say tls = \"off\" deliberately",
        );
    }
    let tls = match written.tls {
        None | Some(written::Tls::Word(written::TlsWord::Off)) => Tls::Off,
        Some(written::Tls::Word(written::TlsWord::SelfSigned)) => Tls::SelfSigned,
        Some(written::Tls::Files(files)) => Tls::Files {
            certificate: report.existing_file(&join(&tls_key, "certificate"), &files.certificate),
            key: report.existing_file(&join(&tls_key, "key"), &files.key),
        },
    };
    let http2 = written.http2.unwrap_or(tls != Tls::Off);
    if http2 && tls == Tls::Off && report.is_clean(&tls_key) {
        report.problem(
            &join(key, "http2"),
            "HTTP/2 needs TLS: it is negotiated in the TLS handshake",
            "remove http2, or set tls",
        );
    }
    Some(Listener {
        address: address?,
        tls,
        http2,
    })
}

fn management_address(
    written: &str,
    addresses: &mut BTreeMap<SocketAddr, String>,
    report: &mut Report<'_>,
) -> Option<SocketAddr> {
    let key = "management.address";
    let address = address(key, written, addresses, report)?;
    if !address.ip().is_loopback() {
        report.problem(
            key,
            format!("{address} is not a loopback address, and the management API asks for no credentials"),
            format!(
                "write \"127.0.0.1:{}\", and put a proxy that authenticates before it",
                address.port()
            ),
        );
    }
    Some(address)
}

/// Reads an address and port, and notes that `key` binds it.
fn address(
    key: &str,
    written: &str,
    addresses: &mut BTreeMap<SocketAddr, String>,
    report: &mut Report<'_>,
) -> Option<SocketAddr> {
    let Ok(address) = written.parse::<SocketAddr>() else {
        if let Ok(ip) = written.parse::<IpAddr>() {
            report.problem(
                key,
                format!("the address {written:?} has no port"),
                format!("add one, as in \"{}\"", SocketAddr::new(ip, 8443)),
            );
        } else {
            report.problem(
                key,
                format!("{written:?} is not an IP address and port"),
                "write one, as in \"127.0.0.1:8443\", \"0.0.0.0:443\" or \"[::1]:8443\"",
            );
        }
        return None;
    };
    if address.port() != 0
        && let Some(other) = addresses.insert(address, key.to_owned())
    {
        report.problem(
            key,
            format!("{address} is already the address of {other}"),
            "give each its own port",
        );
    }
    Some(address)
}

fn plugin(name: String, written: written::Plugin, report: &mut Report<'_>) -> Plugin {
    let key = join("plugins", &name);
    report.check_name(&key, &name);
    Plugin {
        component: report.existing_file(&join(&key, "component"), &written.component),
        grants: grants(&join(&key, "grants"), &written.grants, report),
        signature: written
            .signature
            .map(|written| signature(&join(&key, "signature"), written, report)),
        isolation: written.isolation,
        limits: limits::plugin(&join(&key, "limits"), written.limits, report),
        name,
    }
}

fn signature(key: &str, written: written::Signature, report: &mut Report<'_>) -> Signature {
    let keys_key = join(key, "keys");
    if written.keys.is_empty() && report.is_clean(&keys_key) {
        report.problem(
            &keys_key,
            "no key is named, so that no signature could count",
            "name the public key's file; `lockgate keys new FILE` makes one",
        );
    }
    let keys = written.keys.iter().enumerate();
    Signature {
        keys: keys
            .map(|(index, path)| report.existing_file(&format!("{keys_key}[{index}]"), path))
            .collect(),
        min_version: written.min_version,
        max_age: written
            .max_age_days
            .map(|days| Duration::from_secs(u64::from(days) * 86_400)),
    }
}

fn require_signature(plugin: &Plugin, report: &mut Report<'_>) {
    let key = join(&join("plugins", &plugin.name), "signature");
    if plugin.signature.is_none() && !report.is_written(&key) {
        report.problem(
            &key,
            "require_signatures is true, and it is not said whose signature this plugin must bear",
            "add signature = { keys = [\"release.pub.pem\"] }, with the public key of who signs it",
        );
    }
}

fn grants(key: &str, written: &[written::Grant], report: &mut Report<'_>) -> Grants {
    let mut grants = Grants::default();
    for (index, grant) in written.iter().enumerate() {
        let granted = match grant {
            written::Grant::Connections => &mut grants.connections,
            written::Grant::Groups => &mut grants.groups,
        };
        if std::mem::replace(granted, true) {
            report.problem(
                &format!("{key}[{index}]"),
                "this is granted already",
                "remove the second one",
            );
        }
    }
    grants
}

fn log(written: written::Log, report: &mut Report<'_>) -> Log {
    if let Err(error) = EnvFilter::builder().parse(&written.level) {
        report.problem(
            "log.level",
            format!("{:?} is no level: {error}", written.level),
            "write \"error\", \"warn\", \"info\", \"debug\" or \"trace\", or module=level",
        );
    }
    Log {
        level: written.level,
        format: written.format,
    }
}
