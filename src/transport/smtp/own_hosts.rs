//! The transport's own `hosts` and `fallback_hosts`: a list of names or addresses, each with a port if
//! it has one, to hosts with addresses (spec chapter "The smtp transport").

use super::policy::expand_option;
use super::trouble::{Failure, Scope, exim_errno};
use crate::config::Options;
use crate::dns::Answer;
use crate::expand::Context;
use crate::transport::Host;
use crate::transport::dnssec::{Dnssec, Worth};
use bstr::{BStr, ByteSlice};
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;

/// Hosts beyond this are not looked up: each costs a connection before the message is given up.
const MAX_HOSTS: usize = 100;

/// The hosts that this option gives, in order, or with `randomize` in any order within their group (`+` ends one); a name that is not there is left out.
/// One that turns out to be this host is a mistake unless `allow_localhost` is set.
pub fn hosts_of(
    transport: &BStr,
    options: &Options,
    name: &'static str,
    context: &Context,
    randomize: bool,
) -> Result<Vec<Host>, Failure> {
    let Some(template) = options.text(name) else { return Ok(Vec::new()) };
    let list = expand_option(name, template, context)?.unwrap_or_default();
    let dnssec = Dnssec::of(options);
    let mut hosts = Vec::new();
    let mut insecure = None;
    let mut group = 0;
    for item in crate::text::list::items(&list).take(MAX_HOSTS) {
        if item == "+" {
            group = hosts.len();
            continue;
        }
        let (host, port) = split_port(item.as_bstr());
        match look_up(host, port, &dnssec, context)? {
            Some(found) => hosts.extend(found),
            None => insecure = Some(host.to_owned()),
        }
        if randomize {
            shuffle(&mut hosts[group..]);
        }
    }
    if let Some(name) = insecure.filter(|_| hosts.is_empty()) {
        let text = format!("lookup of IP address for {name} was insecure");
        return Err(Failure::new(Scope::Message, exim_errno::HOST_LOOKUP, text));
    }
    let is_local = |host: &&Host| host.address.is_some_and(|address| is_this_host(address, context));
    if let Some(host) = hosts.iter().find(is_local)
        && !options.bool("allow_localhost")
    {
        let text = format!("{transport} transport found host {} to be local", host.name);
        return Err(Failure::new(Scope::Message, exim_errno::LOCAL_HOST, text));
    }
    Ok(hosts)
}

/// Any order is as likely as any other: crude load sharing.
pub fn shuffle(hosts: &mut [Host]) {
    let random = RandomState::new();
    let mut index = 0_u32;
    hosts.sort_by_cached_key(|_| {
        index += 1;
        random.hash_one(index)
    });
}

fn is_this_host(address: IpAddr, context: &Context) -> bool {
    address.is_loopback() || context.globals.local_addresses.contains(&address)
}

/// None: there are addresses, but nobody vouches for them, and somebody has to.
fn look_up(
    name: &BStr,
    port: Option<u16>,
    dnssec: &Dnssec,
    context: &Context,
) -> Result<Option<Vec<Host>>, Failure> {
    let later = |why: &dyn std::fmt::Display| {
        Failure::new(Scope::Message, -1, format!("lookup of host \"{name}\" failed: {why}"))
    };
    match context.globals.dns.addresses(name) {
        Answer::Found { records, secure, alias_of } => {
            let is_address = name.to_str().is_ok_and(|text| text.parse::<IpAddr>().is_ok());
            let worth = match is_address {
                true => Worth::Insecure,
                false => dnssec.worth(name, secure, context).map_err(|error| later(&error))?,
            };
            let host = |address: IpAddr| Host {
                name: alias_of.clone().unwrap_or_else(|| name.to_owned()),
                address: Some(address),
                port,
                preference: -1,
                secure: worth == Worth::Secure,
                randomized: false,
            };
            Ok((worth != Worth::Refused).then(|| records.into_iter().map(host).collect()))
        }
        Answer::NoData | Answer::NoName => Ok(Some(Vec::new())),
        Answer::TryLater(why) => Err(later(&why)),
    }
}

/// `name`, `name:port`, `[address]:port`, or an address.
fn split_port(item: &BStr) -> (&BStr, Option<u16>) {
    let number = |text: &[u8]| text.to_str().ok().and_then(|text| text.trim().parse().ok());
    if let Some((inner, rest)) = item.strip_prefix(b"[").and_then(|rest| rest.split_once_str("]")) {
        return (inner.as_bstr(), rest.strip_prefix(b":").and_then(number));
    }
    if item.to_str().is_ok_and(|text| text.parse::<IpAddr>().is_ok()) {
        return (item, None);
    }
    match item.rsplit_once_str(":") {
        Some((name, port)) if number(port).is_some() => (name.trim().as_bstr(), number(port)),
        _ => (item, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_split_from_names_and_bracketed_addresses_only() {
        let split = |text: &'static str| split_port(text.as_bytes().as_bstr());
        assert_eq!(split("mx.example:26"), (b"mx.example".as_bstr(), Some(26)));
        assert_eq!(split("::1"), (b"::1".as_bstr(), None));
        assert_eq!(split("[::1]:2525"), (b"::1".as_bstr(), Some(2525)));
        assert_eq!(split("127.0.0.1:25"), (b"127.0.0.1".as_bstr(), Some(25)));
    }

    #[test]
    fn each_host_comes_first_now_and_then() {
        let host = |name: &str| Host {
            name: name.into(),
            address: None,
            port: None,
            preference: -1,
            secure: false,
            randomized: false,
        };
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let mut hosts = vec![host("a"), host("b"), host("c")];
            shuffle(&mut hosts);
            assert_eq!(hosts.len(), 3);
            seen.insert(hosts[0].name.to_string());
        }
        // Each of them stays away with a chance of (2/3)^200.
        assert_eq!(seen.len(), 3);
    }
}
