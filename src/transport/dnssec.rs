//! `dnssec_request_domains` and `dnssec_require_domains` of routers and of the smtp transport: for which names the
//! resolver's word that an answer is genuine counts, and for which it must be had.
//!
//! The names are those that are looked up (of hosts, or the domain of an MX look-up), as with Exim, not the address's domain.

use crate::config::Options;
use crate::expand::Context;
use crate::matching::{self, Match, MatchError};
use crate::syntax::Template;
use crate::text::Value;
use bstr::BStr;

/// The two lists of one router or transport.
#[derive(Clone, Debug)]
pub struct Dnssec {
    request: Option<Template>,
    require: Option<Template>,
}

/// What an answer is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// It is genuine.
    Secure,
    /// It may be used, and nobody vouches for it.
    Insecure,
    /// It must not be used.
    Refused,
}

impl Dnssec {
    /// As the options say.
    pub fn of(options: &Options) -> Self {
        let list = |name| options.text(name).filter(|list| !list.text().is_empty()).cloned();
        Self { request: list("dnssec_request_domains"), require: list("dnssec_require_domains") }
    }

    /// Must answers about this name be secure?
    pub fn requires(&self, name: &BStr, context: &Context) -> Result<bool, MatchError> {
        is_in(self.require.as_ref(), name, context)
    }

    /// What an answer about this name is worth; `secure`: the resolver vouches for it.
    pub fn worth(&self, name: &BStr, secure: bool, context: &Context) -> Result<Worth, MatchError> {
        match self.requires(name, context)? {
            true if secure => Ok(Worth::Secure),
            true => Ok(Worth::Refused),
            false if secure && is_in(self.request.as_ref(), name, context)? => Ok(Worth::Secure),
            false => Ok(Worth::Insecure),
        }
    }
}

fn is_in(list: Option<&Template>, name: &BStr, context: &Context) -> Result<bool, MatchError> {
    let Some(list) = list else { return Ok(false) };
    // A name of the configuration or of DNS, which a list is only compared with.
    let name = Value::tainted(name);
    Ok(matches!(matching::domain(context, &name, list)?, Match::Yes(_)))
}
