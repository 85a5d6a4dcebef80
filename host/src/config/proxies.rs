//! The check of the proxies in front of a listener.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use super::file;
use super::model::Proxies;
use super::report::{Report, join};

impl Proxies {
    /// Whether a proxy at this address may name its clients.
    pub(crate) fn trust(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted
            .iter()
            .any(|network| network.contains(&address))
    }
}

/// Checks the proxies of the listener `key`.
pub(super) fn proxies(key: &str, written: &file::Listener, report: &mut Report<'_>) -> Proxies {
    let trusted_key = join(key, "trusted_proxies");
    let list = written.trusted_proxies.iter().enumerate();
    let trusted: Vec<_> = list
        .filter_map(|(index, text)| network(&format!("{trusted_key}[{index}]"), text, report))
        .collect();
    for (name, is_used) in [
        ("proxy_protocol", written.proxy_protocol),
        ("forwarded_header", written.forwarded_header.is_some()),
    ] {
        if is_used && trusted.is_empty() && report.is_clean(&trusted_key) {
            report.problem(
                &join(key, name),
                "no proxy is trusted, so nobody may name a client",
                "add trusted_proxies = [\"ADDRESS\"] with the addresses or networks of the proxies",
            );
        }
    }
    Proxies {
        trusted,
        protocol: written.proxy_protocol,
        header: written
            .forwarded_header
            .unwrap_or(if written.proxy_protocol {
                super::ForwardedHeader::None
            } else {
                super::ForwardedHeader::XForwardedFor
            }),
    }
}

/// Parses an address, or a network with its prefix.
fn network(key: &str, text: &str, report: &mut Report<'_>) -> Option<IpNet> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    let Ok(network) = address.or_else(|_| text.parse()).map(canonical) else {
        report.problem(
            key,
            format!("{text:?} is neither an IP address nor a network"),
            "write one, as in \"10.0.0.7\", \"10.0.0.0/8\" or \"2001:db8::/32\"",
        );
        return None;
    };
    if network.prefix_len() == 0 {
        report.problem(
            key,
            format!("{text:?} trusts everyone, so every client could choose its address"),
            "write the networks that the proxies are in",
        );
        return None;
    }
    if network.trunc() != network {
        report.problem(
            key,
            format!("{text:?} has bits beyond its prefix"),
            format!(
                "write \"{}\", or \"{}\" for that address alone",
                network.trunc(),
                network.addr()
            ),
        );
        return None;
    }
    Some(network)
}

/// Turns an IPv4 network that is written in IPv6 into IPv4.
fn canonical(network: IpNet) -> IpNet {
    match (
        network.addr().to_canonical(),
        network.prefix_len().checked_sub(96),
    ) {
        (IpAddr::V4(address), Some(prefix)) if network.addr().is_ipv6() => {
            Ipv4Net::new(address, prefix).map_or(network, IpNet::V4)
        }
        _ => network,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(network: &str, address: &str, expected: bool) {
        let network: IpNet = network.parse().expect("a network");
        let proxies = Proxies {
            trusted: vec![canonical(network)],
            ..Proxies::default()
        };
        let address = address.parse().expect("an address");
        assert_eq!(proxies.trust(address), expected, "{network} {address}");
    }

    #[test]
    fn address_is_trusted_in_either_of_its_forms() {
        check("10.0.0.0/8", "10.255.0.1", true);
        check("10.0.0.0/8", "::ffff:10.255.0.1", true);
        check("10.0.0.0/8", "11.0.0.1", false);
        check("::ffff:10.0.0.0/104", "10.255.0.1", true);
        check("::ffff:10.0.0.0/104", "11.0.0.1", false);
        check("2001:db8::/32", "2001:db8:1::1", true);
        check("2001:db8::/32", "2001:db9::1", false);
        check("192.0.2.1/32", "192.0.2.2", false);
    }
}
