//! What the system tells of this host: its name and the addresses of its interfaces.

use bstr::{BString, ByteSlice};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrLike;
use nix::unistd::gethostname;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::OsStrExt;

/// The default of `primary_hostname`: the system's name, made full by the hosts file if it has no dot
/// (spec chapter "Main configuration", `primary_hostname`).
pub fn primary_hostname() -> BString {
    let name: BString = match gethostname() {
        Ok(name) => name.as_bytes().into(),
        Err(_) => "localhost".into(),
    };
    if name.contains(&b'.') {
        return name;
    }
    full_name(&std::fs::read("/etc/hosts").unwrap_or_default(), &name).unwrap_or(name)
}

/// The first name with a dot on the first line of the hosts file that has `name`.
fn full_name(hosts: &[u8], name: &[u8]) -> Option<BString> {
    hosts
        .lines()
        .map(|line| line.split_once_str("#").map_or(line, |(before, _)| before))
        .map(|line| line.fields().skip(1).collect::<Vec<_>>())
        .find(|names| names.iter().any(|known| known.eq_ignore_ascii_case(name)))
        .and_then(|names| names.into_iter().find(|known| known.contains(&b'.')).map(BString::from))
}

/// Addresses of all interfaces, loopback too: what `@[]` means and what counts as this host when routing.
pub fn local_addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = getifaddrs() else {
        return vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    };
    let mut addresses: Vec<IpAddr> = interfaces
        .filter_map(|interface| interface.address)
        .filter(|address| address.family().is_some())
        .filter_map(|address| {
            let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
        })
        .collect();
    addresses.dedup();
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_host_name_is_made_full_by_the_hosts_file() {
        let hosts = b"127.0.0.1 localhost\n# 10.0.0.1 mail.wrong mail\n127.0.1.1 mail Mail.example.net\n";
        assert_eq!(full_name(hosts, b"MAIL").unwrap(), "Mail.example.net");
        assert_eq!(full_name(hosts, b"other"), None);
        assert_eq!(full_name(hosts, b"localhost"), None);
    }

    #[test]
    fn loopback_is_among_the_local_addresses() {
        assert!(local_addresses().contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }
}
