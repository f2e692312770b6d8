//! Items of host lists: addresses, CIDR, names, `*end` and `^regex` of names, lookups by name and `net-`.

use super::walk::{Answer, Item, State};
use super::{MatchError, host_name, pattern};
use crate::dns;
use crate::expand::Context;
use crate::syntax::LookupType;
use crate::text::Value;
use bstr::{BString, ByteSlice};
use std::cell::OnceCell;
use std::net::IpAddr;

/// Host lists, for one host.
pub struct HostItem<'w, 'h> {
    context: &'w Context<'h>,
    address: Option<IpAddr>,
    name: Option<BString>,
    only_addresses: bool,
    looked_up: OnceCell<Result<Vec<BString>, String>>,
}

impl<'w, 'h> HostItem<'w, 'h> {
    /// For this host; `only_addresses`: the rules of `match_ip`.
    pub fn new(
        context: &'w Context<'h>,
        address: Option<IpAddr>,
        name: Option<BString>,
        only_addresses: bool,
    ) -> Self {
        Self { context, address, name, only_addresses, looked_up: OnceCell::new() }
    }

    /// The host's names; none: it has none.
    fn names(&self) -> Result<Option<&[BString]>, MatchError> {
        if let Some(name) = &self.name {
            return Ok(Some(std::slice::from_ref(name)));
        }
        let Some(address) = self.address else { return Ok(None) };
        match self.looked_up.get_or_init(|| host_name::all(self.context, address)) {
            Ok(names) if names.is_empty() => Ok(None),
            Ok(names) => Ok(Some(names)),
            Err(why) => Err(MatchError::Defer(why.clone())),
        }
    }
}

impl Item for HostItem<'_, '_> {
    fn matches(&self, item: &Value, _: &State) -> Result<Answer, MatchError> {
        let text = item.bytes();
        let matched = |yes: bool| if yes { Answer::Yes(Some(item.clone())) } else { Answer::No };
        match text.as_ref() as &[u8] {
            b"" => return Ok(matched(self.address.is_none() && self.name.is_none())),
            b"*" => return Ok(matched(true)),
            b"@[]" => {
                let local = &self.context.globals.local_addresses;
                return Ok(matched(self.address.is_some_and(|address| local.contains(&address))));
            }
            _ => {}
        }
        if let Some(network) = Network::parse(text) {
            return Ok(matched(self.address.is_some_and(|address| network.contains(address))));
        }
        if text.starts_with(b"^") || !text.contains(&b';') {
            return if self.only_addresses { Ok(Answer::Unknown) } else { self.by_name(item) };
        }
        self.by_lookup(item)
    }
}

impl HostItem<'_, '_> {
    fn by_name(&self, item: &Value) -> Result<Answer, MatchError> {
        let text = item.bytes();
        let wild = text.starts_with(b"*") || text.starts_with(b"^");
        if !wild {
            return self.by_address_of(item);
        }
        if self.address.is_none() && self.name.is_none() {
            return Ok(Answer::No);
        }
        let Some(names) = self.names()? else { return Ok(Answer::Unknown) };
        for name in names {
            let subject = Value::tainted(name.to_ascii_lowercase());
            let yes = match text.strip_prefix(b"*") {
                Some(end) => pattern::ends_with(self.context, &subject, end, true),
                None => pattern::regex(self.context, &subject, item, true)?,
            };
            if yes {
                return Ok(Answer::Yes(Some(item.clone())));
            }
        }
        Ok(Answer::No)
    }

    /// A plain name stands for its addresses.
    fn by_address_of(&self, item: &Value) -> Result<Answer, MatchError> {
        let text = item.bytes();
        let name = if text == "@" { &self.context.globals.primary_hostname } else { &text.to_owned() };
        if self.name.as_ref().is_some_and(|mine| mine.eq_ignore_ascii_case(name)) {
            return Ok(Answer::Yes(Some(item.clone())));
        }
        let Some(address) = self.address else { return Ok(Answer::No) };
        match self.context.globals.dns.addresses(name) {
            dns::Answer::Found { records, .. } => {
                let yes = records.iter().any(|record| record.to_canonical() == address);
                Ok(if yes { Answer::Yes(Some(item.clone())) } else { Answer::No })
            }
            dns::Answer::NoData | dns::Answer::NoName => Ok(Answer::Unknown),
            dns::Answer::TryLater(why) => {
                Err(MatchError::Defer(format!("host lookup of \"{name}\" deferred: {why}")))
            }
        }
    }

    /// `type;data` by name, `net-type;data` and `net24-type;data` by address; queries need neither.
    fn by_lookup(&self, item: &Value) -> Result<Answer, MatchError> {
        let (mask, rest) = match net_prefix(item.bytes()) {
            Some((mask, rest)) => (Some(mask), item.derive(rest)),
            None => (None, item.clone()),
        };
        let Some((kind, data)) = pattern::as_lookup(&rest)? else { return Ok(Answer::No) };
        if !kind.def.single_key {
            return pattern::lookup(self.context, &kind, &data, &Value::default());
        }
        if mask.is_some() || self.only_addresses {
            let Some(address) = self.address else { return Ok(Answer::No) };
            let key = Value::clean(address_key(&kind, address, mask.flatten()));
            return pattern::lookup(self.context, &kind, &data, &key);
        }
        if self.address.is_none() && self.name.is_none() {
            return Ok(Answer::No);
        }
        let Some(names) = self.names()? else { return Ok(Answer::Unknown) };
        for name in names {
            let key = Value::tainted(name.to_ascii_lowercase());
            let answer = pattern::lookup(self.context, &kind, &data, &key)?;
            if answer != Answer::No {
                return Ok(answer);
            }
        }
        Ok(Answer::No)
    }
}

/// `net-` or `net24-` before a lookup type.
fn net_prefix(text: &[u8]) -> Option<(Option<u32>, &[u8])> {
    let rest = text.strip_prefix(b"net")?;
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let after = rest[digits..].strip_prefix(b"-")?;
    Some((rest[..digits].to_str().ok()?.parse().ok(), after))
}

/// How an address is written as a key: IPv6 in full, with dots (colons for `iplsearch`).
fn address_key(kind: &LookupType, address: IpAddr, mask: Option<u32>) -> String {
    let address = mask.map_or(address, |bits| Network { address, bits }.base());
    let between = if kind.def.name == "iplsearch" { ":" } else { "." };
    let shown = match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => {
            v6.segments().iter().map(|group| format!("{group:04x}")).collect::<Vec<_>>().join(between)
        }
    };
    match mask {
        Some(bits) => format!("{shown}/{bits}"),
        None => shown,
    }
}

/// An address and how many of its bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    /// `192.0.2.0/24`, `2001:db8::/32` or a bare address.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = text.to_str().ok()?;
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u32>().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(width);
        (bits <= width).then_some(Self { address, bits })
    }

    /// Is the address in it?
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && Self { address, bits: self.bits }.base() == self.base()
    }

    /// The address with only the bits that count.
    fn base(&self) -> IpAddr {
        match self.address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - self.bits.min(32)).unwrap_or(0);
                std::net::Ipv4Addr::from(u32::from(v4) & mask).into()
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - self.bits.min(128)).unwrap_or(0);
                std::net::Ipv6Addr::from(u128::from(v6) & mask).into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_the_addresses_under_its_mask() {
        let network = |text: &str| Network::parse(text.as_bytes());
        let holds = |text: &str, address: &str| network(text).unwrap().contains(address.parse().unwrap());
        assert!(holds("10.11.42.0/24", "10.11.42.99"));
        assert!(!holds("10.11.42.0/24", "10.11.43.99"));
        assert!(holds("0.0.0.0/0", "10.11.43.99"));
        assert!(holds("2001:db8::/32", "2001:db8:1::1"));
        assert!(holds("1.2.3.4", "::ffff:1.2.3.4"));
        assert!(!holds("0.0.0.0/0", "::1"));
        assert_eq!(network("1.2.3.0/33"), None);
        assert_eq!(network("1.2.3/24"), None);
    }

    #[test]
    fn an_address_is_a_key_in_full() {
        let key = |kind: &str, address: &str, mask| {
            address_key(&LookupType::parse(kind.as_bytes()).unwrap(), address.parse().unwrap(), mask)
        };
        assert_eq!(key("lsearch", "2001:db8::1", None), "2001.0db8.0000.0000.0000.0000.0000.0001");
        assert_eq!(key("iplsearch", "2001:db8::1", None), "2001:0db8:0000:0000:0000:0000:0000:0001");
        assert_eq!(key("lsearch", "192.168.34.6", Some(24)), "192.168.34.0/24");
    }
}
