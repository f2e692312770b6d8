//! The names of a host from its address, and whether the name that it gives itself is one of them.
//!
//! A name from a PTR record counts only if it leads back to the address (spec: option `host_lookup`).

use crate::dns::{Answer, Resolver};
use crate::expand::Context;
use crate::log::{Selector, Which};
use crate::mail::envelope::Origin;
use bstr::{BString, ByteSlice};
use std::net::IpAddr;

/// Names of one address that are checked: its owner decides how many there are, each costs a question.
const NAMES_MAX: usize = 10;

/// Answer of [`look_up`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostName {
    /// The names that lead back, at least one.
    Found(Vec<BString>),
    /// There is none; for the log.
    NotFound(String),
    /// There are names, but none that leads back; for `verify = reverse_host_lookup`.
    Mismatch(String),
    /// Not known now; why, for the log.
    TryLater(String),
}

/// The verified names of an address, in lower case.
pub fn look_up(dns: &dyn Resolver, address: IpAddr) -> HostName {
    let names = match dns.names(address) {
        Answer::Found { records, .. } => records,
        Answer::NoData | Answer::NoName => Vec::new(),
        Answer::TryLater(why) => return HostName::TryLater(why),
    };
    let Some(first) = names.first() else {
        return HostName::NotFound(format!("no host name found for IP address {address}"));
    };
    let mut verified = Vec::new();
    let mut later = None;
    for name in names.iter().take(NAMES_MAX) {
        match leads_to(dns, name, address) {
            Ok(true) => verified.push(name.to_ascii_lowercase().into()),
            Ok(false) => {}
            Err(why) => later = Some(why),
        }
    }
    match later {
        _ if !verified.is_empty() => HostName::Found(verified),
        Some(why) => HostName::TryLater(why),
        None => HostName::Mismatch(format!("{address} does not match any IP address for {first}")),
    }
}

/// The same; that there is none is logged (selector `host_lookup_failed`).
pub fn look_up_and_log(context: &Context, address: IpAddr) -> HostName {
    let found = look_up(&*context.globals.dns, address);
    let log = &context.globals.log;
    if let HostName::NotFound(why) = &found
        && log.selectors().has(Selector::HostLookupFailed)
    {
        log.write(Which::Main, why.as_str().into());
    }
    found
}

/// What an expansion found out about the peer's name holds for the session from now on: logs, Received: and -H
/// show it.
pub fn settle(context: &mut Context) {
    let Some(found) = context.dynamic.get_mut().sender_host.take() else { return };
    context.session.host_name_looked_up = true;
    set_name(&mut context.session.origin, found);
}

/// The name, or why there is none.
pub fn set_name(origin: &mut Origin, found: HostName) {
    match found {
        HostName::Found(names) => origin.host_name = names.into_iter().next(),
        HostName::NotFound(_) | HostName::Mismatch(_) => origin.host_lookup_failed = true,
        // not known is not failed: the variables tell the two apart
        HostName::TryLater(_) => origin.host_lookup_deferred = true,
    }
}

/// Does the name have this address? An error is temporary.
fn leads_to(dns: &dyn Resolver, name: &[u8], address: IpAddr) -> Result<bool, String> {
    match dns.addresses_in_dns(name) {
        Answer::Found { records, .. } => {
            Ok(records.iter().any(|record| record.to_canonical() == address.to_canonical()))
        }
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
    let is_helo = |name: &BString| name.eq_ignore_ascii_case(helo);
    if name.is_some_and(is_helo) {
        return Ok(true);
    }
    if name.is_none() && matches!(look_up(dns, address), HostName::Found(names) if names.iter().any(is_helo))
    {
        return Ok(true);
    }
    leads_to(dns, helo, address)
}

/// All verified names, for a list; the error is the reason to try later.
pub fn all(context: &Context, address: IpAddr) -> Result<Vec<BString>, String> {
    match look_up(&*context.globals.dns, address) {
        HostName::Found(names) => Ok(names),
        HostName::NotFound(_) | HostName::Mismatch(_) => Ok(Vec::new()),
        HostName::TryLater(why) => Err(format!("host name lookup of {address} deferred: {why}")),
    }
}
