//! The names of a host from its address: reverse DNS, of which only names that lead back count.

use crate::dns::Answer;
use crate::expand::Context;
use bstr::BString;
use std::net::IpAddr;

/// Names of one address that are checked: its owner decides how many there are, each costs a question.
const MAX_NAMES: usize = 10;

/// All verified names, the first found first; the error is the reason to try later.
pub fn all(context: &Context, address: IpAddr) -> Result<Vec<BString>, String> {
    let dns = &context.globals.dns;
    let names = match dns.names(address) {
        Answer::Found { records, .. } => records,
        Answer::NoData | Answer::NoName => return Ok(Vec::new()),
        Answer::TryLater(why) => return Err(format!("host name lookup of {address} deferred: {why}")),
    };
    let mut verified = Vec::new();
    let mut deferred = None;
    for name in names.into_iter().take(MAX_NAMES) {
        match dns.addresses_in_dns(&name) {
            Answer::Found { records, .. } => {
                if records.iter().any(|record| record.to_canonical() == address.to_canonical()) {
                    verified.push(name);
                }
            }
            Answer::NoData | Answer::NoName => {}
            Answer::TryLater(why) => deferred = Some(why),
        }
    }
    match deferred {
        Some(why) if verified.is_empty() => Err(format!("host name lookup of {address} deferred: {why}")),
        _ => Ok(verified),
    }
}

/// The first verified name.
pub fn verified(context: &Context, address: IpAddr) -> Result<Option<BString>, String> {
    all(context, address).map(|names| names.into_iter().next())
}
