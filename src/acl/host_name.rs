//! Reverse look-up of the calling host, and verification of HELO names.
//!
//! A name from a PTR record counts only if it leads back to the address (spec: option `host_lookup`).

use crate::dns::{Answer, Resolver};
use bstr::{BString, ByteSlice};
use std::net::IpAddr;

/// PTR records looked at for one address: whoever owns the reverse zone chooses how many there are.
const NAMES_MAX: usize = 10;

/// Answer of [`look_up`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostName {
    /// The name, verified forward.
    Found(BString),
    /// There is none; for the log.
    NotFound(String),
    /// There are names, but none that leads back; for `verify = reverse_host_lookup`.
    Mismatch(String),
    /// Not known now; why, for the log.
    TryLater(String),
}

/// The verified name of an address.
pub fn look_up(dns: &dyn Resolver, address: IpAddr) -> HostName {
    let names = match dns.names(address) {
        Answer::Found { records, .. } => records,
        Answer::NoData | Answer::NoName => {
            return HostName::NotFound(format!("no host name found for IP address {address}"));
        }
        Answer::TryLater(why) => return HostName::TryLater(why),
    };
    let mut later = None;
    for name in names.iter().take(NAMES_MAX) {
        match leads_to(dns, name, address) {
            Ok(true) => return HostName::Found(name.to_ascii_lowercase().into()),
            Ok(false) => {}
            Err(why) => later = Some(why),
        }
    }
    match (later, names.first()) {
        (Some(why), _) => HostName::TryLater(why),
        (None, Some(name)) => {
            HostName::Mismatch(format!("{address} does not match any IP address for {name}"))
        }
        (None, None) => HostName::NotFound(format!("no host name found for IP address {address}")),
    }
}

/// Does the name have this address? An error is temporary.
pub fn leads_to(dns: &dyn Resolver, name: &[u8], address: IpAddr) -> Result<bool, String> {
    match dns.addresses_in_dns(name) {
        Answer::Found { records, .. } => Ok(records.contains(&address)),
        Answer::NoData | Answer::NoName => Ok(false),
        Answer::TryLater(why) => Err(why),
    }
}

/// Does a HELO argument belong to the address: a literal of it, its verified name, or a name that has it?
/// (spec: option `helo_try_verify_hosts`)
pub fn helo_matches(
    dns: &dyn Resolver,
    helo: &[u8],
    address: IpAddr,
    name: Option<&BString>,
) -> Result<bool, String> {
    if let Some(literal) = helo.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]")) {
        let literal = literal.strip_prefix(b"IPv6:").unwrap_or(literal);
        return Ok(literal.to_str().ok().and_then(|text| text.parse().ok()) == Some(address));
    }
    if name.is_some_and(|name| name.eq_ignore_ascii_case(helo)) {
        return Ok(true);
    }
    if name.is_none()
        && matches!(look_up(dns, address), HostName::Found(name) if name.eq_ignore_ascii_case(helo))
    {
        return Ok(true);
    }
    leads_to(dns, helo, address)
}
