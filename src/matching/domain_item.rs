//! Items of domain lists: `@`, `@[]`, `@mx_*`, `*end`, `^regex`, lookups, names.

use super::walk::{Answer, Item, State};
use super::{HostSubject, MatchError, pattern};
use crate::dns;
use crate::expand::Context;
use crate::syntax::{Position, Template};
use crate::text::Value;
use bstr::{BString, ByteSlice};
use std::net::IpAddr;

/// Domain lists, for one domain in lower case.
pub struct DomainItem<'w, 'h> {
    /// Where patterns leave their captures.
    pub context: &'w Context<'h>,
    /// The domain.
    pub domain: &'w Value,
}

impl Item for DomainItem<'_, '_> {
    fn matches(&self, item: &Value, _: &State) -> Result<Answer, MatchError> {
        let text = item.bytes();
        let matched = |yes: bool| if yes { Answer::Yes(Some(item.clone())) } else { Answer::No };
        match text.as_ref() as &[u8] {
            b"" => Ok(matched(self.domain.is_empty())),
            [b'*', end @ ..] => Ok(matched(pattern::ends_with(self.context, self.domain, end, true))),
            [b'^', ..] => pattern::regex(self.context, self.domain, item, true).map(matched),
            b"@" if !item.is_tainted() => {
                let name = &self.context.globals.primary_hostname;
                let same = self.domain.bytes().eq_ignore_ascii_case(name);
                Ok(if same { Answer::Yes(Some(Value::clean(name.clone()))) } else { Answer::No })
            }
            b"@[]" if !item.is_tainted() => Ok(matched(self.is_local_literal())),
            [b'@', b'm', b'x', b'_', ..] if !item.is_tainted() => self.mx(text).map(matched),
            _ => match pattern::as_lookup(item)? {
                Some((kind, data)) => pattern::lookup(self.context, &kind, &data, self.domain),
                None => Ok(matched(pattern::equals(self.domain.bytes(), text, true))),
            },
        }
    }
}

impl DomainItem<'_, '_> {
    /// `[192.0.2.1]` with an address of this host.
    fn is_local_literal(&self) -> bool {
        let inner = self.domain.bytes().strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]"));
        let Some(inner) = inner else { return false };
        let inner = inner.strip_prefix(b"ipv6:").unwrap_or(inner);
        let address: Option<IpAddr> = inner.to_str().ok().and_then(|text| text.parse().ok());
        address.is_some_and(|address| self.is_local(address))
    }

    fn is_local(&self, address: IpAddr) -> bool {
        self.context.globals.local_addresses.contains(&address)
    }

    /// `@mx_any`, `@mx_primary`, `@mx_secondary`, each with `/ignore=list`.
    fn mx(&self, item: &[u8]) -> Result<bool, MatchError> {
        let (which, ignored) = match item.split_once_str("/ignore=") {
            Some((which, ignored)) => (which, ignored),
            None => (item, &b""[..]),
        };
        if !matches!(which, b"@mx_any" | b"@mx_primary" | b"@mx_secondary") {
            return Err(MatchError::Failed(format!("unknown domain list item \"{}\"", which.as_bstr())));
        }
        let domain = self.domain.bytes();
        let mut records = match self.context.globals.dns.mx(domain) {
            dns::Answer::Found { records, .. } => records,
            dns::Answer::NoData | dns::Answer::NoName => return Ok(false),
            dns::Answer::TryLater(why) => {
                return Err(MatchError::Defer(format!("DNS lookup of \"{domain}\" deferred: {why}")));
            }
        };
        records.sort_by_key(|record| record.preference);
        let Some(best) = records.first().map(|record| record.preference) else { return Ok(false) };
        let ignored = Template::literal(ignored, &Position::nowhere("ignore="));
        let (mut primary, mut secondary) = (false, false);
        for record in &records {
            if self.leads_here(&record.exchange, &ignored)? {
                if record.preference == best { primary = true } else { secondary = true }
            }
        }
        Ok(match which {
            b"@mx_any" => primary || secondary,
            b"@mx_primary" => primary,
            _ => secondary && !primary,
        })
    }

    /// Is the host this one, or one that is to be treated so?
    fn leads_here(&self, name: &BString, ignored: &Template) -> Result<bool, MatchError> {
        let main = &self.context.globals.main;
        if main.def("hosts_treat_as_local").is_some()
            && let Some(list) = main.text("hosts_treat_as_local")
        {
            let host = Value::clean(name.clone());
            if super::domain(self.context, &host, list)?.is_yes() {
                return Ok(true);
            }
        }
        let addresses = match self.context.globals.dns.addresses(name) {
            dns::Answer::Found { records, .. } => records,
            dns::Answer::NoData | dns::Answer::NoName => return Ok(false),
            dns::Answer::TryLater(why) => {
                return Err(MatchError::Defer(format!("DNS lookup of \"{name}\" deferred: {why}")));
            }
        };
        for address in addresses {
            let subject = HostSubject { address: Some(address), name: None };
            if self.is_local(address) && !super::ip(self.context, &subject, ignored)?.is_yes() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
