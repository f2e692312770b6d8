//! Domain, host, address and local part lists.
//!
//! Specification: chapter "Domain, host, address, and local part lists". Each function expands the list
//! (forced failure: no match), splits it, and goes through its items: negation, named lists, files, patterns,
//! lookups, CIDR, regular expressions. What a match found (`$domain_data` ...) is returned, the caller
//! puts it into the context. `walk` goes through a list; what one item means is in the file of its kind.
mod address_item;
mod domain_item;
mod host_item;
pub mod host_name;
mod local_part_item;
mod pattern;
mod walk;

use crate::config::written::ListKind;
use crate::expand::{Context, ExpandError, expand};
use crate::syntax::Template;
use crate::text::Value;
use bstr::{BString, ByteSlice};
pub use host_item::Network;
use std::net::IpAddr;
use walk::{State, Walk};

/// Answer of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// It matched; the data of the item, if it gave any.
    Yes(Option<Value>),
    /// It did not.
    No,
}

impl Match {
    /// True if it matched.
    pub fn is_yes(&self) -> bool {
        matches!(self, Self::Yes(_))
    }
}

/// Why a list gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MatchError {
    /// Try later (a lookup or DNS had no answer now).
    #[error("{0}")]
    Defer(String),
    /// The list could not be expanded, and the panic log was told why.
    #[error("the list cannot be expanded")]
    Unexpanded,
    /// The list cannot work as written.
    #[error("{0}")]
    Failed(String),
}

/// A host as lists see it.
#[derive(Clone, Debug, Default)]
pub struct HostSubject {
    /// Its address; none for a local submission (matches an empty item only).
    pub address: Option<IpAddr>,
    /// Its name if it is known (a remote host we connect to, or one looked up before).
    pub name: Option<BString>,
}

/// Is `domain` in a domain list?
pub fn domain(context: &Context, domain: &Value, list: &Template) -> Result<Match, MatchError> {
    let lower = domain.derive(domain.bytes().to_ascii_lowercase());
    let item = domain_item::DomainItem { context, domain: &lower };
    run(context, ListKind::Domain, &item, &lower, list, State::default())
}

/// Is the host in a host list? The name is looked up (reverse DNS, verified forward) only if an item needs it.
pub fn host(context: &Context, host: &HostSubject, list: &Template) -> Result<Match, MatchError> {
    host_list(context, host, list, false)
}

/// Is the address in a list of addresses (`match_ip`)? No name is ever looked up.
pub fn ip(context: &Context, host: &HostSubject, list: &Template) -> Result<Match, MatchError> {
    host_list(context, host, list, true)
}

fn host_list(
    context: &Context,
    host: &HostSubject,
    list: &Template,
    only_addresses: bool,
) -> Result<Match, MatchError> {
    let address = host.address.map(|address| address.to_canonical());
    let name = host.name.as_ref().map(ToString::to_string).unwrap_or_default();
    let shown = address.map(|address| address.to_string()).unwrap_or_default();
    let key = Value::clean(format!("{only_addresses} {shown} {name}"));
    let item = host_item::HostItem::new(context, address, host.name.clone(), only_addresses);
    run(context, ListKind::Host, &item, &key, list, State::default())
}

/// Is the address in an address list?
pub fn address(context: &Context, address: &Value, list: &Template) -> Result<Match, MatchError> {
    let item = address_item::AddressItem::new(context, address);
    run(context, ListKind::Address, &item, address, list, State::default())
}

/// Is the local part in a local part list? `caseful`: compared as written.
pub fn local_part(
    context: &Context,
    local_part: &Value,
    list: &Template,
    caseful: bool,
) -> Result<Match, MatchError> {
    let item = local_part_item::LocalPartItem { context, local_part };
    run(context, ListKind::LocalPart, &item, local_part, list, State { caseful, ..State::default() })
}

/// Expands the list and walks it; a forced failure is a list without items.
fn run(
    context: &Context,
    kind: ListKind,
    item: &dyn walk::Item,
    subject: &Value,
    list: &Template,
    state: State,
) -> Result<Match, MatchError> {
    let walk = Walk { context, kind, item, subject };
    match expand_list(context, list)? {
        Some(text) => walk.list(&text, state),
        None => Ok(Match::No),
    }
}

/// The text of a list; none: its expansion was forced to fail.
fn expand_list(context: &Context, list: &Template) -> Result<Option<Value>, MatchError> {
    let text = match expand(list, context) {
        Ok(text) => return Ok(Some(text)),
        Err(ExpandError::Forced(_)) => return Ok(None),
        Err(ExpandError::Defer(text) | ExpandError::Failed(text)) => text,
    };
    let id = context.message.id.as_ref().map_or_else(String::new, |id| format!("{id} "));
    let line = format!("{id}failed to expand \"{}\" while checking a list: {text}", list.text());
    context.globals.log.panic(line.as_bytes().as_bstr());
    Err(MatchError::Unexpanded)
}
