//! A host list of a router to hosts with addresses (spec sections "Format of one host item" and "How the
//! list of hosts is used").

use super::generic::Generic;
use super::item::Trouble;
use super::precondition::items;
use crate::dns::{Answer, Mx};
use crate::expand::Context;
use crate::matching::{self, HostSubject, Match, MatchError};
use crate::text::Value;
use crate::transport::Host;
use crate::transport::dnssec::{Dnssec, Worth};
use bstr::{BStr, BString, ByteSlice};
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// One item of a host list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostItem {
    /// A name or the text of an address.
    pub name: BString,
    /// The address, if the item is one.
    pub address: Option<IpAddr>,
    /// The port, if one is given.
    pub port: Option<u16>,
    /// `/MX`: the hosts are the name's MX records.
    pub mx: bool,
}

/// What a look-up found.
pub enum Found {
    /// Hosts with addresses; empty if all were ignored.
    Hosts {
        /// The hosts.
        hosts: Vec<Host>,
        /// The first of them is this host.
        self_first: bool,
    },
    /// There is no address.
    Nothing,
    /// Not known now.
    TryLater(String),
    /// Nobody vouches for what is known of this name, and somebody has to (`dnssec_require_domains`).
    Insecure(BString),
}

/// The items with the number of their group (`+` ends a group).
pub fn parse(list: &[u8]) -> Vec<(usize, HostItem)> {
    let mut group = 0;
    let mut found = Vec::new();
    for item in items(list, b':') {
        if item == "+" {
            group += 1;
        } else {
            found.push((group, parse_item(item.as_bstr())));
        }
    }
    found
}

fn parse_item(item: &BStr) -> HostItem {
    let (name, port) = split_port(item);
    let (name, mx) = match name.len().checked_sub(3).map(|at| name.split_at(at)) {
        Some((start, end)) if end.eq_ignore_ascii_case(b"/mx") => (start.as_bstr(), true),
        _ => (name, false),
    };
    let address = name.to_str().ok().and_then(|text| text.parse().ok());
    HostItem { name: name.into(), address, port, mx }
}

fn split_port(item: &BStr) -> (&BStr, Option<u16>) {
    if let Some((inner, rest)) = item.strip_prefix(b"[").and_then(|rest| rest.split_once_str("]")) {
        // Brackets are only there to tell the address from its port: without one they belong to the name.
        let port = rest.strip_prefix(b":").and_then(|port| port.to_str().ok()?.trim().parse().ok());
        return if port.is_some() { (inner.as_bstr(), port) } else { (item, None) };
    }
    if item.to_str().is_ok_and(|text| text.parse::<IpAddr>().is_ok()) {
        return (item, None);
    }
    match item.rsplit_once_str(":") {
        Some((name, port)) => match port.to_str().ok().and_then(|port| port.trim().parse().ok()) {
            Some(port) => (name.trim().as_bstr(), Some(port)),
            None => (item, None),
        },
        None => (item, None),
    }
}

/// Shuffles the items inside each group.
pub fn randomize(list: &mut [(usize, HostItem)]) {
    let random = RandomState::new();
    let key = |index: usize| {
        let mut hasher = random.build_hasher();
        hasher.write_usize(index);
        hasher.finish()
    };
    let mut keyed: Vec<_> =
        list.iter().cloned().enumerate().map(|(index, (group, item))| ((group, key(index)), item)).collect();
    keyed.sort_by_key(|(key, _)| *key);
    for (slot, ((group, _), item)) in list.iter_mut().zip(keyed) {
        *slot = (group, item);
    }
}

/// How the addresses of a host name are looked for (spec section "How the options are used").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LookUp {
    /// Where.
    pub by: By,
    /// Which.
    pub family: Family,
}

/// Where addresses are looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum By {
    /// In DNS, then in /etc/hosts for what the DNS does not have.
    #[default]
    DnsThenName,
    /// /etc/hosts, then DNS: what the system's look-up function does (`byname`).
    Name,
    /// Only in DNS (`bydns`).
    Dns,
}

/// Which addresses are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// All, as they come.
    #[default]
    Any,
    /// Only IPv4 (`ipv4_only`).
    OnlyIpv4,
    /// IPv4 first (`ipv4_prefer`).
    Ipv4First,
}

impl LookUp {
    /// With `only_secure` what the DNS does not have is not looked for elsewhere: a forger could send us there.
    fn addresses(self, name: &BString, only_secure: bool, context: &Context) -> Answer<IpAddr> {
        let dns = &context.globals.dns;
        // localhost is nobody's to publish (RFC 6761 section 6.3), so only `bydns` asks for it.
        let by = match self.by {
            By::DnsThenName if name.eq_ignore_ascii_case(b"localhost") => By::Name,
            by => by,
        };
        if by == By::Name {
            return without_security(dns.addresses(name));
        }
        let in_dns = match dns.addresses_in_dns(name) {
            Answer::Found { records, secure, alias_of } => self.of_family(records, secure, alias_of),
            other => other,
        };
        match in_dns {
            Answer::NoData | Answer::NoName if by == By::DnsThenName && !only_secure => {
                without_security(dns.addresses(name))
            }
            answer => answer,
        }
    }

    /// `ipv4_only` and `ipv4_prefer` are for direct questions to the DNS.
    fn of_family(self, mut records: Vec<IpAddr>, secure: bool, alias_of: Option<BString>) -> Answer<IpAddr> {
        match self.family {
            Family::Any => {}
            Family::OnlyIpv4 => records.retain(IpAddr::is_ipv4),
            Family::Ipv4First => records.sort_by_key(IpAddr::is_ipv6),
        }
        if records.is_empty() { Answer::NoData } else { Answer::Found { records, secure, alias_of } }
    }
}

/// The system's look-up function tells addresses alone.
fn without_security(answer: Answer<IpAddr>) -> Answer<IpAddr> {
    match answer {
        Answer::Found { records, .. } => Answer::Found { records, secure: false, alias_of: None },
        other => other,
    }
}

/// The addresses of one name, under the name that they belong to, or what is to be said instead of them.
struct Addresses {
    name: BString,
    addresses: Vec<IpAddr>,
    secure: bool,
}

fn look_up_host(
    name: &BString,
    look_up: LookUp,
    dnssec: &Dnssec,
    context: &Context,
) -> Result<Addresses, Found> {
    let unknown = |error: MatchError| Found::TryLater(format!("dnssec_require_domains: {error}"));
    let by_name = look_up.by == By::Name;
    let only_secure = !by_name && dnssec.requires(name.as_bstr(), context).map_err(unknown)?;
    match look_up.addresses(name, only_secure, context) {
        Answer::Found { records, secure, alias_of } => {
            let worth = match by_name {
                true => Worth::Insecure,
                false => dnssec.worth(name.as_bstr(), secure, context).map_err(unknown)?,
            };
            if worth == Worth::Refused {
                return Err(Found::Insecure(name.clone()));
            }
            let name = alias_of.unwrap_or_else(|| name.clone());
            Ok(Addresses { name, addresses: records, secure: worth == Worth::Secure })
        }
        Answer::NoData | Answer::NoName => Err(Found::Nothing),
        Answer::TryLater(why) => Err(Found::TryLater(why)),
    }
}

/// Addresses of one item.
pub fn find(
    item: &HostItem,
    look_up: LookUp,
    dnssec: &Dnssec,
    group: Option<usize>,
    context: &Context,
) -> Found {
    if let Some(address) = item.address.filter(|_| !item.mx) {
        let hosts = vec![host(&item.name, Some(address), item.port, -1, false, group)];
        return marked(hosts, context);
    }
    if item.mx {
        // An address has no MX records, whatever a resolver would say of its text as a name.
        if item.address.is_some() {
            return Found::Nothing;
        }
        return find_mx(item, look_up, dnssec, group, context).unwrap_or_else(|found| found);
    }
    match look_up_host(&item.name, look_up, dnssec, context) {
        Ok(found) => {
            let one = |address| host(&found.name, Some(address), item.port, -1, found.secure, group);
            marked(found.addresses.iter().map(|address| one(*address)).collect(), context)
        }
        Err(found) => found,
    }
}

/// An error is what was found in place of hosts.
fn find_mx(
    item: &HostItem,
    look_up: LookUp,
    dnssec: &Dnssec,
    group: Option<usize>,
    context: &Context,
) -> Result<Found, Found> {
    let (mut records, secure) = match context.globals.dns.mx(&item.name) {
        Answer::Found { records, secure, .. } => (records, secure),
        Answer::NoData | Answer::NoName => return Err(Found::Nothing),
        Answer::TryLater(why) => return Err(Found::TryLater(why)),
    };
    let worth = dnssec.worth(item.name.as_bstr(), secure, context);
    let worth = worth.map_err(|error| Found::TryLater(format!("dnssec_require_domains: {error}")))?;
    if worth == Worth::Refused {
        return Err(Found::Insecure(item.name.clone()));
    }
    let secure = worth == Worth::Secure;
    records.sort_by_key(|mx| mx.preference);
    let mut hosts = Vec::new();
    for Mx { preference, exchange } in records {
        match look_up_host(&exchange, LookUp { by: By::Dns, ..look_up }, dnssec, context) {
            Ok(found) => {
                let is_ours = |address| context.globals.local_addresses.contains(address);
                if found.addresses.iter().any(is_ours) && !hosts.is_empty() {
                    // This host in the middle: it and those not preferred to it are left out.
                    hosts.retain(|host: &Host| host.preference < i32::from(preference));
                    break;
                }
                hosts.extend(found.addresses.iter().map(|address| {
                    let secure = secure && found.secure;
                    host(&found.name, Some(*address), item.port, i32::from(preference), secure, group)
                }));
            }
            Err(Found::TryLater(why)) if hosts.is_empty() => return Err(Found::TryLater(why)),
            Err(insecure @ Found::Insecure(_)) => return Err(insecure),
            Err(_) => {}
        }
    }
    Ok(if hosts.is_empty() { Found::Nothing } else { marked(hosts, context) })
}

fn host(
    name: &BString,
    address: Option<IpAddr>,
    port: Option<u16>,
    preference: i32,
    secure: bool,
    group: Option<usize>,
) -> Host {
    Host { name: name.clone(), address, port, preference, secure, randomized: group.is_some() }
}

fn marked(hosts: Vec<Host>, context: &Context) -> Found {
    let is_ours = |address: IpAddr| {
        address == IpAddr::V4(Ipv4Addr::LOCALHOST)
            || address == IpAddr::V6(Ipv6Addr::LOCALHOST)
            || context.globals.local_addresses.contains(&address)
    };
    let self_first = hosts.first().and_then(|host| host.address).is_some_and(is_ours);
    Found::Hosts { hosts, self_first }
}

/// `ignore_target_hosts`: such addresses do not exist.
pub fn drop_ignored(found: Found, router: &Generic, context: &mut Context) -> Result<Found, Trouble> {
    let (Found::Hosts { hosts, .. }, Some(list)) = (&found, &router.ignore_target_hosts) else {
        return Ok(found);
    };
    let mut kept = Vec::new();
    for host in hosts {
        let address_text = host.address.map(|address| Value::clean(address.to_string()));
        context.address.host_address = address_text;
        let subject = HostSubject { address: host.address, name: Some(host.name.clone()) };
        match matching::host(context, &subject, list) {
            Ok(Match::Yes(_)) => {}
            Ok(Match::No) => kept.push(host.clone()),
            Err(error) => {
                let text = format!("ignore_target_hosts: {error}");
                return Err(Trouble::defer(router.name.as_bstr(), text));
            }
        }
    }
    context.address.host_address = None;
    Ok(if kept.is_empty() { Found::Nothing } else { marked(kept, context) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(name: &str, port: Option<u16>, mx: bool) -> HostItem {
        HostItem { name: name.into(), address: name.parse().ok(), port, mx }
    }

    #[test]
    fn items_are_names_or_addresses_with_ports() {
        let list = parse(b"a.example::25 : 127.0.0.1::2525 : + : x.y/MX::26 : z");
        assert_eq!(
            list,
            vec![
                (0, item("a.example", Some(25), false)),
                (0, item("127.0.0.1", Some(2525), false)),
                (1, item("x.y", Some(26), true)),
                (1, item("z", None, false)),
            ]
        );
        assert_eq!(
            parse(b"</ [::1]:1225 / ::1"),
            vec![(0, item("::1", Some(1225), false)), (0, item("::1", None, false))]
        );
    }

    #[test]
    fn only_ipv4_and_ipv4_first_are_kept() {
        let records = || vec!["::2".parse().unwrap(), "192.0.2.1".parse::<IpAddr>().unwrap()];
        let taken = |family| match (LookUp { family, ..LookUp::default() }).of_family(records(), false, None)
        {
            Answer::Found { records, .. } => records.iter().map(ToString::to_string).collect::<Vec<_>>(),
            _ => Vec::new(),
        };
        assert_eq!(taken(Family::Any), ["::2", "192.0.2.1"]);
        assert_eq!(taken(Family::OnlyIpv4), ["192.0.2.1"]);
        assert_eq!(taken(Family::Ipv4First), ["192.0.2.1", "::2"]);
    }

    #[test]
    fn shuffling_keeps_the_groups() {
        let mut list = parse(b"a:b:c:+:d:e");
        randomize(&mut list);
        assert!(list[..3].iter().all(|(group, _)| *group == 0));
        assert!(list[3..].iter().all(|(group, _)| *group == 1));
    }
}
