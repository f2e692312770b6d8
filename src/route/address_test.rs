//! What `-bt` and `-bv` say about an address, as exim4 4.96 says it.

use super::chain::{Chain, How};
use super::item::{Ancestor, Barred, Item, Routed, Special, Trouble};
use super::verify;
use crate::expand::Context;
use crate::mail::Address;
use crate::mail::address_parse::{Syntax, parse_address};
use crate::upward::Verified;
use bstr::{BString, ByteSlice};
use std::collections::{HashSet, VecDeque};
use std::io::{self, Write};
use std::sync::Arc;

/// Rounds of redirection; more is a loop that the loop test does not see.
const ROUNDS_MAX: usize = 100;

/// What the tests of one command share: addresses that were shown are duplicates when they come again.
#[derive(Debug, Default)]
pub struct Shown {
    seen: HashSet<BString>,
    /// Why an address failed, which may tell of files and look-ups: for admin users.
    reasons: bool,
}

impl Shown {
    /// Nothing was shown yet.
    pub fn new(reasons: bool) -> Self {
        Self { seen: HashSet::new(), reasons }
    }
}

/// Exit codes: the worst of all addresses counts.
pub mod exit {
    /// All is well.
    pub const GOOD: u8 = 0;
    /// Something could not be decided now.
    pub const DEFERRED: u8 = 1;
    /// Something failed.
    pub const FAILED: u8 = 2;
}

/// `-bt`: where would mail to this address go?
pub fn test(
    chain: &Chain,
    context: &mut Context,
    text: &[u8],
    shown: &mut Shown,
    out: &mut dyn Write,
) -> io::Result<u8> {
    let address = match qualified(context, text) {
        Ok(Some(address)) => address,
        Ok(None) => return Ok(exit::GOOD),
        Err(problem) => {
            writeln!(out, "syntax error: {problem}")?;
            return Ok(exit::FAILED);
        }
    };
    let mut code = exit::GOOD;
    let (mut local, mut remote) = (Vec::new(), Vec::new());
    let mut new = VecDeque::from([Item::new(address, 0)]);
    let mut rounds = 0;
    while let Some(item) = new.pop_front() {
        rounds += 1;
        if rounds > ROUNDS_MAX {
            break;
        }
        for answer in chain.route(context, item, How::AddressTest) {
            verify::log_remark(context, &answer);
            match answer {
                Routed::Assigned(item) => {
                    let is_remote = item.route.as_ref().is_some_and(|route| !route.hosts.is_empty());
                    if is_remote { remote.push(item) } else { local.push(item) }
                }
                Routed::Children { children, .. } => {
                    let (special, addresses): (Vec<_>, Vec<_>) =
                        children.into_iter().partition(|child| child.special.is_some());
                    for child in &special {
                        write_routed(out, child, shown)?;
                    }
                    for child in addresses.into_iter().rev() {
                        new.push_front(child);
                    }
                }
                Routed::Discarded(item, _) => {
                    writeln!(out, "mail to {} is discarded", item.address.to_bytes())?;
                }
                Routed::Failed(item, trouble) => {
                    code = code.max(exit::FAILED);
                    write_trouble(out, &item, "is undeliverable", &trouble, shown)?;
                }
                Routed::Deferred(item, trouble) => {
                    code = code.max(exit::DEFERRED);
                    write_trouble(out, &item, "cannot be resolved at this time", &trouble, shown)?;
                }
            }
        }
    }
    for item in local.iter().rev().chain(remote.iter().rev()) {
        write_routed(out, item, shown)?;
    }
    Ok(code)
}

/// `-bv` (`as_sender`: `-bvs`): would this address be accepted?
pub fn verify(
    chain: &Chain,
    context: &mut Context,
    text: &[u8],
    as_sender: bool,
    shown: &Shown,
    out: &mut dyn Write,
) -> io::Result<u8> {
    let address = match qualified(context, text) {
        Ok(Some(address)) => address,
        Ok(None) => return Ok(exit::GOOD),
        Err(problem) => {
            writeln!(out, "syntax error: {problem}")?;
            return Ok(exit::FAILED);
        }
    };
    let how = if as_sender { How::VerifySender } else { How::VerifyRecipient };
    let name = address.to_bytes();
    match verify::verify(chain, context, &address, how) {
        Verified::Ok { .. } => {
            writeln!(out, "{name} verified")?;
            Ok(exit::GOOD)
        }
        Verified::Failed { log_message, .. } => {
            write_reason(out, &name, "failed to verify", &log_message, shown)?;
            Ok(exit::FAILED)
        }
        Verified::Deferred { log_message, .. } => {
            write_reason(out, &name, "cannot be resolved at this time", &log_message, shown)?;
            Ok(exit::DEFERRED)
        }
    }
}

fn qualified(context: &Context, text: &[u8]) -> Result<Option<Address>, BString> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let syntax = Syntax { domain_literals: true, ..Syntax::default() };
    let address = parse_address(text, syntax).map_err(|error| error.message)?.address;
    Ok(Some(if address.domain().is_empty() {
        Address::new(address.local_part(), context.globals.qualify_recipient.clone())
    } else {
        address
    }))
}

fn write_trouble(
    out: &mut dyn Write,
    item: &Item,
    what: &str,
    trouble: &Trouble,
    shown: &Shown,
) -> io::Result<()> {
    write_reason(out, &item.text(), what, &trouble.text, shown)?;
    write_parents(out, item.parent.as_ref())
}

fn write_reason(
    out: &mut dyn Write,
    name: &BString,
    what: &str,
    why: &BString,
    shown: &Shown,
) -> io::Result<()> {
    match shown.reasons && !why.is_empty() {
        true => writeln!(out, "{name} {what}: {why}"),
        false => writeln!(out, "{name} {what}"),
    }
}

fn write_parents(out: &mut dyn Write, parent: Option<&Arc<Ancestor>>) -> io::Result<()> {
    let mut next = parent;
    while let Some(ancestor) = next {
        writeln!(out, "    <-- {}", ancestor.address.to_bytes())?;
        next = ancestor.parent.as_ref();
    }
    Ok(())
}

fn write_routed(out: &mut dyn Write, item: &Item, shown: &mut Shown) -> io::Result<()> {
    let Some(route) = &item.route else { return Ok(()) };
    if let Some(special) = &item.special {
        let target = match special {
            Special::Pipe(_) | Special::File(_) | Special::Directory(_) => item.text(),
        };
        let mark = match item.barred.as_deref() {
            Some(Barred { no_transport: None, .. }) => " *** forbidden ***",
            _ => "",
        };
        writeln!(out, "{} -> {target}{mark}", item.address.to_bytes())?;
        match item.barred.as_deref() {
            Some(Barred { no_transport: Some(why), .. }) => {
                return writeln!(out, "*** Error in setting up pipe, file, or autoreply:\n{why}");
            }
            Some(_) => return Ok(()),
            None => {}
        }
        let transport =
            if route.transport.is_empty() { "**bypassed**".into() } else { route.transport.clone() };
        return writeln!(out, "  transport = {transport}");
    }
    let duplicate =
        if shown.seen.insert(item.unique()) { "" } else { "   [duplicate, would not be delivered]" };
    writeln!(out, "{}{duplicate}", item.address.to_bytes())?;
    write_parents(out, item.parent.as_ref())?;
    let transport =
        if route.transport.is_empty() { "<none>".to_owned() } else { route.transport.to_string() };
    writeln!(out, "  router = {}, transport = {transport}", route.router)?;
    let width = route.hosts.iter().map(|host| host.name.len()).max().unwrap_or(0);
    let addresses: Vec<String> = route
        .hosts
        .iter()
        .map(|host| host.address.map_or_else(|| "[unknown]".to_owned(), |address| format!("[{address}]")))
        .collect();
    let address_width = addresses.iter().map(String::len).max().unwrap_or(0);
    for (host, address) in route.hosts.iter().zip(addresses) {
        let mut line = format!("  host {:<width$} {address:<address_width$}", host.name.to_string());
        if host.preference >= 0 {
            line.push_str(&format!(" MX={}", host.preference));
        }
        if let Some(port) = host.port {
            line.push_str(&format!(" port={port}"));
        }
        writeln!(out, "{line}")?;
    }
    Ok(())
}
