//! Which addresses go together in one delivery.

use super::message::Attempt;
use crate::route::Item;
use bstr::{BString, ByteSlice};

/// Addresses for one call of a remote transport, in order.
#[derive(Clone, Debug)]
pub struct Group {
    /// The transport.
    pub transport: BString,
    /// The addresses; at least one.
    pub items: Vec<Item>,
}

/// Takes the addresses that go with the first one: same transport, hosts, return path and header changes, and the
/// same domain unless `multi_domain`; at most `max` (0: no limit). The others stay in `items`, in order.
pub fn take_group(attempt: &Attempt, items: &mut Vec<Item>, max: usize, multi_domain: bool) -> Option<Group> {
    if items.is_empty() {
        return None;
    }
    let mut group: Vec<Item> = Vec::new();
    let mut rest = Vec::new();
    for item in items.drain(..) {
        let room = max == 0 || group.len() < max;
        let fits = group.first().is_none_or(|first| goes_with(attempt, first, &item, multi_domain));
        if room && fits { group.push(item) } else { rest.push(item) }
    }
    *items = rest;
    let transport =
        group.first()?.route.as_ref().map_or_else(BString::default, |route| route.transport.clone());
    Some(Group { transport, items: group })
}

fn goes_with(attempt: &Attempt, first: &Item, other: &Item, multi_domain: bool) -> bool {
    let (Some(one), Some(two)) = (&first.route, &other.route) else { return false };
    one.transport == two.transport
        && same_hosts(&one.hosts, &two.hosts)
        && attempt.errors_to(first) == attempt.errors_to(other)
        && first.headers_add == other.headers_add
        && first.headers_remove == other.headers_remove
        && (multi_domain || first.address.domain().eq_ignore_ascii_case(other.address.domain()))
}

/// The same hosts; hosts that were shuffled may stand in another order.
fn same_hosts(one: &[crate::transport::Host], two: &[crate::transport::Host]) -> bool {
    let shuffled = one.iter().any(|host| host.randomized);
    if !shuffled {
        return one == two;
    }
    one.len() == two.len() && one.iter().all(|host| two.contains(host))
}

/// The local part and domain for the wire or mailbox: without affixes, unless the transport keeps them.
pub fn wire_address(item: &Item, with_affixes: bool) -> crate::mail::Address {
    let Some(route) = item.route.as_ref().filter(|_| !with_affixes) else { return item.address.clone() };
    let length = |part: &Option<crate::text::Value>| part.as_ref().map_or(0, |part| part.bytes().len());
    let (prefix, suffix) = (length(&route.vars.local_part_prefix), length(&route.vars.local_part_suffix));
    let local_part = item.address.local_part();
    if prefix + suffix == 0 || local_part.starts_with(b"\"") || prefix + suffix > local_part.len() {
        return item.address.clone();
    }
    crate::mail::Address::new(&local_part[prefix..local_part.len() - suffix], item.address.domain())
}

/// Envelope recipients that these addresses stem from, for `Envelope-to:`.
pub fn envelope_to(attempt: &Attempt, items: &[Item]) -> BString {
    let mut seen: Vec<BString> = Vec::new();
    for item in items {
        let original = item.top().map_or_else(|| item.address.to_bytes(), |top| top.to_bytes());
        if !seen.contains(&original) {
            seen.push(original);
        }
    }
    let _ = attempt;
    bstr::join(", ", seen.iter().map(|address| address.as_bytes())).into()
}
