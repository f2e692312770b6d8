//! Domain, host, address and local part lists.
//!
//! Specification: chapter "Domain, host, address, and local part lists". Each function expands the list
//! (forced failure: no match), splits it, and goes through its items: negation, named lists, files, patterns,
//! lookups, CIDR, regular expressions. What a match found (`$domain_data` ...) is returned, the caller
//! puts it into the context.

use crate::expand::Context;
use crate::syntax::Template;
use crate::text::Value;
use bstr::BString;
use std::net::IpAddr;

/// Answer of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// It matched; the data of the item, if it gave any.
    Yes(Option<Value>),
    /// It did not.
    No,
}

/// Why a list gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MatchError {
    /// Try later (a lookup or DNS had no answer now).
    #[error("{0}")]
    Defer(String),
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
pub fn domain(_context: &Context, _domain: &Value, _list: &Template) -> Result<Match, MatchError> {
    Err(MatchError::Failed("matching is not built".into()))
}
/// Is the host in a host list? The name is looked up (reverse DNS, verified forward) only if an item needs it.
pub fn host(_context: &Context, _host: &HostSubject, _list: &Template) -> Result<Match, MatchError> {
    Err(MatchError::Failed("matching is not built".into()))
}
/// Is the address in an address list?
pub fn address(_context: &Context, _address: &Value, _list: &Template) -> Result<Match, MatchError> {
    Err(MatchError::Failed("matching is not built".into()))
}
/// Is the local part in a local part list? `caseful`: compared as written.
pub fn local_part(
    _context: &Context,
    _local_part: &Value,
    _list: &Template,
    _caseful: bool,
) -> Result<Match, MatchError> {
    Err(MatchError::Failed("matching is not built".into()))
}
