//! The checks beyond the schema: addresses, names, paths, and references between keys.
//!
//! Each function gives its part of the model as far as it is valid. The report decides whether that is used.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::LoadMode;
use super::access_key;
use super::access_log;
use super::address::{Address, MAX_PATH_BYTES, MODE, Mode, UNIX};
use super::api;
use super::authorizer;
use super::doubt;
use super::file;
use super::log;
use super::management;
use super::model::{
    CertificateFiles, ClientCertificates, Config, GatewayLimits, Health, Listener, Log, Tls,
};
use super::otlp;
use super::plugin;
use super::proxies;
use super::report::{Report, join};
use super::usage_plan;

/// Makes the configuration of `file`.
pub(super) fn config(file: file::File, load_mode: LoadMode, report: &mut Report<'_>) -> Config {
    let mut bound = BoundAddresses::default();
    let listeners = listeners(file.listeners, load_mode, &mut bound, report);
    let management = file
        .management
        .and_then(|written| management::management(written, &mut bound, report))
        .filter(|management| load_mode == LoadMode::Serve || management.address.is_local());
    let health = file
        .health
        .and_then(|written| health(written, &mut bound, report))
        .filter(|health| load_mode == LoadMode::Serve || health.address.is_local());
    let integrations = api::integrations(file.integrations, report);
    let apis = api::apis(file.apis, &integrations, report);
    let plans = usage_plan::usage_plans(file.usage_plans, report);
    let authorizers = authorizer::authorizers(file.authorizers, &plans, report);
    usage_plan::check_api_keys(&apis, &authorizers, report);
    usage_plan::check_files(&authorizers, report);
    let access_keys = access_key::access_keys(file.access_keys, report);
    let limits = GatewayLimits::from(file.limits);
    let sources = plugin::ComponentSources {
        registries: plugin::registries(file.registries, report),
        cache: file
            .component_cache
            .map(|folder| report.path("component_cache", &folder)),
        patience: limits.pull,
        mode: load_mode,
    };
    let mut plugins = plugin::plugins(file.plugins, &sources, file.require_signatures, report);
    plugin::assign_roles(&mut plugins, &apis, &authorizers);
    doubt::unused(&apis, &authorizers, &plugins, integrations.values(), report);
    doubt::mocks(&apis, report);
    doubt::scopes(&apis, report);
    doubt::renewals(&apis, &authorizers, report);
    doubt::certificates(&authorizers, &listeners, report);
    doubt::selection(&apis, report);
    let access_log = access_log::access_log(file.access_log, &apis, report);
    let otlp = file.otlp.map(|written| otlp::otlp(written, report));
    access_key::doubt_unused(&apis, &authorizers, &access_keys, report);
    Config {
        listeners,
        management,
        health,
        apis,
        authorizers,
        plugins,
        access_keys,
        limits,
        compile_cache: file
            .compile_cache
            .map(|folder| report.path("compile_cache", &folder)),
        log: logging(file.log, report),
        access_log,
        otlp,
        doubts: report.take_doubts(),
    }
}

/// The addresses bound so far, each with its key.
#[derive(Default)]
pub(super) struct BoundAddresses {
    addresses: BTreeMap<SocketAddr, String>,
    paths: BTreeMap<PathBuf, String>,
}

fn listeners(
    written: Vec<file::Listener>,
    load_mode: LoadMode,
    bound: &mut BoundAddresses,
    report: &mut Report<'_>,
) -> Vec<Listener> {
    if written.is_empty() && load_mode == LoadMode::Serve && report.is_clean("listeners") {
        report.problem(
            "listeners",
            "there is no listener, so no client could connect",
            "add [[listeners]] with address = \"127.0.0.1:8443\" and tls = \"self-signed\"",
        );
    }
    written
        .into_iter()
        .enumerate()
        .filter(|(_, written)| load_mode == LoadMode::Serve || is_local(&written.address))
        .filter_map(|(index, written)| {
            let key = format!("listeners[{index}]");
            listener(&key, written, bound, report)
        })
        .collect()
}

/// Whether only this machine can connect there. True for a malformed address, which is reported later.
fn is_local(address: &str) -> bool {
    Address::of_listener(address).is_none_or(|address| address.is_local())
}

fn listener(
    key: &str,
    written: file::Listener,
    bound: &mut BoundAddresses,
    report: &mut Report<'_>,
) -> Option<Listener> {
    let keys = (join(key, "address"), join(key, "mode"));
    let mode = (written.mode.as_deref(), MODE);
    let address = listener_address(&keys, &written.address, mode, bound, report);
    let proxies = proxies::proxies(key, &written, report);
    let tls_key = join(key, "tls");
    let is_local = address.as_ref().is_none_or(Address::is_local);
    if !report.is_written(&tls_key) && !is_local {
        report.problem(
            &tls_key,
            "other machines can connect, and tls is not set",
            "write tls = { certificate = \"…\", key = \"…\" }, or tls = \"off\" deliberately",
        );
    }
    let tls = match written.tls {
        None | Some(file::Tls::Word(file::TlsWord::Off)) => Tls::Off,
        Some(file::Tls::Word(file::TlsWord::SelfSigned)) => Tls::SelfSigned,
        Some(file::Tls::Files(files)) => {
            Tls::Files(vec![certificate_files(&tls_key, &files, report)])
        }
        Some(file::Tls::Several(several)) => {
            if several.is_empty() {
                report.problem(
                    &tls_key,
                    "the list of certificates is empty",
                    "write tls = [{ certificate = \"…\", key = \"…\" }]",
                );
            }
            let several = several.iter().enumerate();
            let files = several.map(|(index, files)| {
                certificate_files(&format!("{tls_key}[{index}]"), files, report)
            });
            Tls::Files(files.collect())
        }
    };
    let http2 = written.http2.unwrap_or(tls != Tls::Off);
    if http2 && tls == Tls::Off && report.is_clean(&tls_key) {
        report.problem(
            &join(key, "http2"),
            "HTTP/2 needs TLS: it is negotiated in the TLS handshake",
            "remove http2, or set tls",
        );
    }
    if written.quic == Some(true) {
        check_quic(key, &written.address, written.proxy_protocol, &tls, report);
    }
    let clients_key = join(key, "client_certificates");
    if written.client_certificates.is_some() && tls == Tls::Off && report.is_clean(&tls_key) {
        report.problem(
            &clients_key,
            "clients show certificates in TLS, and this listener has none",
            "set tls, or remove client_certificates",
        );
    }
    if written.client_certificates.is_some() && written.quic == Some(true) {
        report.problem(
            &join(key, "quic"),
            "clients are not asked for certificates over QUIC, and this listener has client_certificates",
            "remove quic, or serve it with a listener without client_certificates",
        );
    }
    let clients = written
        .client_certificates
        .map(|written| ClientCertificates {
            ca: report.existing_file(&join(&clients_key, "ca"), &written.ca),
            crl: written
                .crl
                .map(|crl| report.existing_file(&join(&clients_key, "crl"), &crl)),
            required: written.required,
        });
    Some(Listener {
        address: address?,
        clients,
        tls,
        http2,
        quic: written.quic,
        proxies,
    })
}

/// Reports what QUIC cannot be served with.
fn check_quic(key: &str, address: &str, proxy_protocol: bool, tls: &Tls, report: &mut Report<'_>) {
    let quic = join(key, "quic");
    if *tls == Tls::Off && report.is_clean(&join(key, "tls")) {
        report.problem(
            &quic,
            "QUIC is always encrypted, and the listener has no TLS",
            "remove quic, or set tls",
        );
    }
    if address.starts_with(UNIX) {
        report.problem(
            &quic,
            "QUIC is served over UDP, and a socket in the file system has no port",
            "remove quic, or write an IP address and port",
        );
    }
    if proxy_protocol {
        report.problem(
            &quic,
            "a PROXY header stands before TCP connections only",
            "remove quic, or serve it with a listener without proxy_protocol",
        );
    }
}

/// Reads a listener's address and permissions, which stand at these keys; the permissions have a default.
pub(super) fn listener_address(
    (address_key, mode_key): &(String, String),
    written: &str,
    (mode, default_mode): (Option<&str>, Mode),
    bound: &mut BoundAddresses,
    report: &mut Report<'_>,
) -> Option<Address> {
    let Some(path) = written.strip_prefix(UNIX) else {
        if mode.is_some() {
            report.problem(
                mode_key,
                "only a socket in the file system has permissions",
                "remove mode, or write address = \"unix:PATH\"",
            );
        }
        return address(address_key, written, &mut bound.addresses, report).map(Address::Ip);
    };
    let mode = mode.map_or(Some(default_mode), |mode| {
        let octal = u32::from_str_radix(mode, 8).ok();
        octal
            .filter(|octal| *octal <= 0o777 && mode.bytes().all(|byte| byte.is_ascii_digit()))
            .map(|bits| Mode {
                bits,
                is_meant: true,
            })
    });
    if mode.is_none() {
        report.problem(
            mode_key,
            "these are no permissions of a file",
            "write them in octal, as in \"0600\", \"0660\" or \"0666\"",
        );
    }
    if path.is_empty() || path.starts_with('@') || path.contains('\0') {
        report.problem(
            address_key,
            format!("{:?} names no file", written),
            "write a path, as in \"unix:/run/lockgate/clients.sock\"",
        );
        return None;
    }
    // Normalises the spelling, as far as that takes no look at the file system.
    let path: PathBuf = report.path(address_key, path).components().collect();
    let bytes = path.as_os_str().len();
    if bytes > MAX_PATH_BYTES {
        report.problem(
            address_key,
            format!("the path has {bytes} bytes, and a socket's path has at most {MAX_PATH_BYTES}"),
            "write a shorter path",
        );
    }
    if let Some(other) = bound
        .paths
        .insert(resolve_folder(&path), address_key.clone())
    {
        report.problem(
            address_key,
            format!("{written:?} is already the address of {other}"),
            "give each its own path",
        );
    }
    Some(Address::Unix { path, mode: mode? })
}

/// Resolves links in the folder of a path, so that two spellings of one path are equal.
fn resolve_folder(path: &Path) -> PathBuf {
    let folder = path.parent().and_then(|folder| {
        let here = folder.as_os_str().is_empty();
        fs::canonicalize(if here { Path::new(".") } else { folder }).ok()
    });
    match (folder, path.file_name()) {
        (Some(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}

pub(super) fn certificate_files(
    key: &str,
    written: &file::TlsFiles,
    report: &mut Report<'_>,
) -> CertificateFiles {
    CertificateFiles {
        certificate: report.existing_file(&join(key, "certificate"), &written.certificate),
        key: report.existing_file(&join(key, "key"), &written.key),
    }
}

fn health(
    written: file::Health,
    bound: &mut BoundAddresses,
    report: &mut Report<'_>,
) -> Option<Health> {
    let (key, written) = match written {
        file::Health::Address(address) => (
            "health",
            file::HealthTable {
                address,
                mode: None,
                metrics: false,
            },
        ),
        file::Health::Table(table) => ("health.address", table),
    };
    let keys = (key.into(), "health.mode".into());
    let mode = (written.mode.as_deref(), MODE);
    let address = listener_address(&keys, &written.address, mode, bound, report)?;
    Some(Health {
        address,
        metrics: written.metrics,
    })
}

/// Reads an address and port, and notes that `key` binds it.
fn address(
    key: &str,
    written: &str,
    addresses: &mut BTreeMap<SocketAddr, String>,
    report: &mut Report<'_>,
) -> Option<SocketAddr> {
    let Ok(address) = written.parse::<SocketAddr>() else {
        if let Some(probable) = with_port(written) {
            report.problem(
                key,
                format!("{written:?} is an IPv6 address without a port, since it has no brackets"),
                format!("write \"{probable}\", or \"[{written}]:8443\" for that address"),
            );
        } else if let Ok(ip) = written.parse::<IpAddr>() {
            report.problem(
                key,
                format!("the address {written:?} has no port"),
                format!("add one, as in \"{}\"", SocketAddr::new(ip, 8443)),
            );
        } else {
            let port = written.strip_prefix("localhost:");
            let port = port.and_then(|port| port.parse::<u16>().ok());
            let remedy = match port {
                None if written.starts_with('/') => format!("write \"unix:{written}\""),
                Some(port) => format!("write \"127.0.0.1:{port}\" or \"[::1]:{port}\""),
                None if key.starts_with("management") => {
                    "write one of this machine's own, as in \"127.0.0.1:9090\", or \"unix:PATH\""
                        .into()
                }
                None => {
                    "write one, as in \"127.0.0.1:8443\", \"0.0.0.0:443\" or \"[::1]:8443\"".into()
                }
            };
            report.problem(
                key,
                format!("{written:?} is not an IP address and port"),
                remedy,
            );
        }
        return None;
    };
    if let SocketAddr::V6(v6) = address
        && let Some(v4) = v6.ip().to_ipv4_mapped()
    {
        report.problem(
            key,
            format!(
                "{address} is an IPv4 address in an IPv6 one, and an IPv6 socket takes no IPv4"
            ),
            format!("write \"{}\"", SocketAddr::new(v4.into(), v6.port())),
        );
        return None;
    }
    if let Some((other, of)) = addresses
        .iter()
        .find(|(other, _)| overlap(**other, address))
    {
        let message = if *other == address {
            format!("{address} is already the address of {of}")
        } else {
            format!(
                "{address} and {other}, the address of {of}, cannot both be bound: one contains the other"
            )
        };
        report.problem(key, message, "give each its own port");
    }
    addresses.insert(address, key.to_owned());
    Some(address)
}

/// Splits an IPv6 address whose last part may be meant as a port.
fn with_port(written: &str) -> Option<SocketAddr> {
    written.parse::<Ipv6Addr>().ok()?;
    let (address, port) = written.rsplit_once(':')?;
    let address = address.parse::<Ipv6Addr>().ok()?;
    Some(SocketAddr::from((address, port.parse().ok()?)))
}

/// Whether two sockets cannot be bound at both addresses. An IPv6 socket takes IPv6 only.
pub(crate) fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let (a, b) = (one.ip(), other.ip());
    one.port() != 0
        && one.port() == other.port()
        && a.is_ipv4() == b.is_ipv4()
        && (a == b || a.is_unspecified() || b.is_unspecified())
}

fn logging(written: file::Log, report: &mut Report<'_>) -> Log {
    let filter = log::filter(&written.level).unwrap_or_else(|(message, remedy)| {
        report.problem("log.level", message, remedy);
        written.level
    });
    Log {
        filter,
        format: written.format,
    }
}
