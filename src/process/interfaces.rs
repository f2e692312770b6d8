//! Where the daemon listens: `local_interfaces`, `daemon_smtp_ports` and `-oX` together, and how the log tells it.
//!
//! Specification: chapter "Starting the daemon and the use of network interfaces". Pure: lists come split,
//! and names of services are looked up by a function that is passed in.

use bstr::{BString, ByteSlice};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Text that makes no interface or port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InterfaceError {
    /// `-oX` or an option has an item that is no address.
    #[error("Malformed IP address \"{text}\" in {place}")]
    Address {
        /// The item, without its port.
        text: String,
        /// `-oX data` or the option's name.
        place: &'static str,
    },
    /// A name that no service has.
    #[error("TCP port \"{0}\" not found")]
    Port(String),
}

/// Lists of interfaces and ports as they are written.
#[derive(Clone, Copy, Debug)]
pub struct Written<'a> {
    /// Items of `local_interfaces`.
    pub interfaces: &'a [BString],
    /// Items of `daemon_smtp_ports`.
    pub ports: &'a [BString],
    /// Items of `-oX`.
    pub override_items: &'a [BString],
}

/// The addresses to listen on, in order. `service` gives the port of a TCP service name.
pub fn resolve(
    written: Written,
    service: impl Fn(&str) -> Option<u16>,
) -> Result<Vec<SocketAddr>, InterfaceError> {
    let is_address = |item: &&BString| item.contains(&b'.') || item.contains(&b':');
    let (addresses, ports): (Vec<&BString>, Vec<&BString>) =
        written.override_items.iter().partition(is_address);
    let place = if addresses.is_empty() { "local_interfaces" } else { "-oX data" };
    let interfaces = if addresses.is_empty() { written.interfaces.iter().collect() } else { addresses };
    let ports = if ports.is_empty() { written.ports.iter().collect() } else { ports };
    let mut found = Vec::new();
    for item in interfaces {
        let (address, port) = interface(item, place)?;
        let ports = match port {
            Some(port) => vec![port],
            None => ports.iter().map(|name| port_number(name, &service)).collect::<Result<_, _>>()?,
        };
        for port in ports {
            let address = SocketAddr::new(address, port);
            if !found.contains(&address) {
                found.push(address);
            }
        }
    }
    Ok(found)
}

/// `1.2.3.4`, `1.2.3.4.25`, `[1.2.3.4]:25`, and the same for IPv6.
fn interface(item: &BString, place: &'static str) -> Result<(IpAddr, Option<u16>), InterfaceError> {
    let text = item.to_str_lossy();
    let malformed = |text: &str| InterfaceError::Address { text: text.to_owned(), place };
    if let Ok(address) = text.parse() {
        return Ok((address, None));
    }
    if let Some((address, port)) = text.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        let port = match port.strip_prefix(':') {
            Some(digits) => Some(digits.parse().map_err(|_| malformed(&text))?),
            None if port.is_empty() => None,
            None => return Err(malformed(&text)),
        };
        return Ok((address.parse().map_err(|_| malformed(address))?, port));
    }
    let Some((address, port)) = text.rsplit_once('.') else { return Err(malformed(&text)) };
    match (address.parse(), port.parse()) {
        (Ok(address), Ok(port)) => Ok((address, Some(port))),
        (_, Ok(_port)) if port.len() > 3 || address.matches('.').count() >= 3 => Err(malformed(address)),
        _ => Err(malformed(&text)),
    }
}

fn port_number(name: &BString, service: &impl Fn(&str) -> Option<u16>) -> Result<u16, InterfaceError> {
    let name = name.to_str_lossy();
    name.parse().ok().or_else(|| service(&name)).ok_or_else(|| InterfaceError::Port(name.into_owned()))
}

/// The port of a TCP service in the text of `/etc/services`.
pub fn service_port(services: &[u8], name: &str) -> Option<u16> {
    services.lines().find_map(|line| {
        let line = line.split(|b| *b == b'#').next()?;
        let mut words = line.fields();
        let official = words.next()?;
        let port = words.next()?.strip_suffix(b"/tcp")?;
        let known = official == name.as_bytes() || words.any(|alias| alias == name.as_bytes());
        if known { port.to_str().ok()?.parse().ok() } else { None }
    })
}

/// The port that a number or a service name of this system means.
pub fn system_port(text: &[u8]) -> Option<u16> {
    let text = text.to_str().ok()?;
    text.parse().ok().or_else(|| system_service(text))
}

/// The port of a service name in this system's `/etc/services`; those of mail are known without it.
pub fn system_service(name: &str) -> Option<u16> {
    service_port(&std::fs::read("/etc/services").unwrap_or_default(), name).or(match name {
        "smtp" => Some(25),
        "smtps" | "submissions" => Some(465),
        "submission" => Some(587),
        _ => None,
    })
}

/// `listening for SMTP on [127.0.0.1]:{25,26} and for SMTPS on port 465 (IPv6 and IPv4)`.
pub fn describe(addresses: &[SocketAddr], tls_ports: &[u16]) -> String {
    if addresses.is_empty() {
        return "not listening for SMTP".into();
    }
    let (tls, plain): (Vec<SocketAddr>, Vec<SocketAddr>) =
        addresses.iter().partition(|address| tls_ports.contains(&address.port()));
    let plain = (!plain.is_empty()).then(|| format!("for SMTP on {}", places(&plain)));
    let tls = (!tls.is_empty()).then(|| format!("for SMTPS on {}", places(&tls)));
    let both: Vec<String> = plain.into_iter().chain(tls).collect();
    format!("listening {}", both.join(" and "))
}

fn places(addresses: &[SocketAddr]) -> String {
    let mut told: Vec<SocketAddr> = Vec::new();
    let mut texts = Vec::new();
    for address in addresses {
        if told.contains(address) {
            continue;
        }
        let same: Vec<SocketAddr> = match address.ip().is_unspecified() {
            true => addresses
                .iter()
                .filter(|other| other.ip().is_unspecified() && other.port() == address.port())
                .copied()
                .collect(),
            false => addresses.iter().filter(|other| other.ip() == address.ip()).copied().collect(),
        };
        texts.push(if address.ip().is_unspecified() { wildcard(&same) } else { one_address(&same) });
        told.extend(same);
    }
    texts.join(" ")
}

fn wildcard(same: &[SocketAddr]) -> String {
    let families = match (same.iter().any(SocketAddr::is_ipv6), same.iter().any(SocketAddr::is_ipv4)) {
        (true, true) => "IPv6 and IPv4",
        (true, false) => "IPv6",
        _ => "IPv4",
    };
    format!("port {} ({families})", same[0].port())
}

fn one_address(same: &[SocketAddr]) -> String {
    let ports: Vec<String> = same.iter().map(|address| address.port().to_string()).collect();
    match ports.as_slice() {
        [port] => format!("[{}]:{port}", same[0].ip()),
        ports => format!("[{}]:{{{}}}", same[0].ip(), ports.join(",")),
    }
}

/// A time as the log writes it: `1h30m`.
pub fn short_interval(time: Duration) -> String {
    let mut left = time.as_secs();
    let mut text = String::new();
    for (size, unit) in [(604_800, 'w'), (86_400, 'd'), (3_600, 'h'), (60, 'm'), (1, 's')] {
        if left >= size {
            text.push_str(&format!("{}{unit}", left / size));
            left %= size;
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(items: &[&str]) -> Vec<BString> {
        items.iter().map(|item| BString::from(*item)).collect()
    }

    fn told(interfaces: &[&str], ports: &[&str], override_items: &[&str]) -> String {
        let (interfaces, ports, items) = (list(interfaces), list(ports), list(override_items));
        let written = Written { interfaces: &interfaces, ports: &ports, override_items: &items };
        match resolve(written, |name| (name == "smtp").then_some(25)) {
            Ok(addresses) => describe(&addresses, &[465]),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_log_tells_interfaces_as_exim_does() {
        let any = &["::0", "0.0.0.0"];
        assert_eq!(told(any, &["smtp"], &[]), "listening for SMTP on port 25 (IPv6 and IPv4)");
        assert_eq!(
            told(any, &["smtp"], &["2525", "465"]),
            "listening for SMTP on port 2525 (IPv6 and IPv4) and for SMTPS on port 465 (IPv6 and IPv4)"
        );
        assert_eq!(
            told(any, &["smtp"], &["127.0.0.1.2525", "[127.0.0.1]:2526", "127.0.0.2.2525"]),
            "listening for SMTP on [127.0.0.1]:{2525,2526} [127.0.0.2]:2525"
        );
        assert_eq!(
            told(any, &["smtp"], &["0.0.0.0.2525", "::1.2526"]),
            "listening for SMTP on port 2525 (IPv4) [::1]:2526"
        );
        assert_eq!(told(&[], &[], &[]), "not listening for SMTP");
    }

    #[test]
    fn what_is_no_address_or_port_is_named() {
        let any = &["::0"];
        assert_eq!(told(any, &["smtp"], &["a.b.c.d"]), "Malformed IP address \"a.b.c.d\" in -oX data");
        assert_eq!(told(any, &["smtp"], &["256.1.1.1.25"]), "Malformed IP address \"256.1.1.1\" in -oX data");
        assert_eq!(told(any, &["foo"], &[]), "TCP port \"foo\" not found");
    }

    #[test]
    fn services_are_found_by_name_and_alias() {
        let services = b"smtp\t25/tcp\t\tmail\nsubmissions 465/tcp ssmtp smtps # x\ntftp 69/udp\n";
        assert_eq!(service_port(services, "smtps"), Some(465));
        assert_eq!(service_port(services, "mail"), Some(25));
        assert_eq!(service_port(services, "tftp"), None);
    }

    #[test]
    fn times_are_told_short() {
        assert_eq!(short_interval(Duration::from_secs(5400)), "1h30m");
        assert_eq!(short_interval(Duration::from_secs(604_800)), "1w");
    }
}
