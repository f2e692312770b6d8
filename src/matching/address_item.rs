//! Items of address lists: `local@domain`, `domain`, `^regex`, whole-address lookups, `@@lookup`.

use super::domain_item::DomainItem;
use super::local_part_item::LocalPartItem;
use super::walk::{Answer, Item, State, Walk};
use super::{Match, MatchError, pattern};
use crate::config::written::ListKind;
use crate::expand::Context;
use crate::syntax::LookupType;
use crate::text::{Value, list};
use bstr::ByteSlice;

/// Links of a chain of local part lists (`>key` in `@@` data), as the specification has it.
const MAX_CHAIN: u32 = 50;

/// Address lists, for one address.
pub struct AddressItem<'w, 'h> {
    context: &'w Context<'h>,
    /// Local part in its own case, domain in lower case.
    address: Value,
    local_part: Value,
    domain: Value,
    qualified: bool,
}

impl<'w, 'h> AddressItem<'w, 'h> {
    /// For this address.
    pub fn new(context: &'w Context<'h>, address: &Value) -> Self {
        let text = address.bytes();
        let at = text.rfind_byte(b'@');
        let local_part: &[u8] = &text[..at.unwrap_or(text.len())];
        let domain = at.map_or(vec![], |at| text[at + 1..].to_ascii_lowercase());
        let whole = match at {
            Some(_) => bstr::concat([local_part, &b"@"[..], domain.as_slice()]),
            None => local_part.to_vec(),
        };
        Self {
            context,
            local_part: address.derive(local_part),
            domain: address.derive(domain),
            address: address.derive(whole),
            qualified: at.is_some(),
        }
    }

    /// The whole address as it is compared now.
    fn subject(&self, state: &State) -> Value {
        if state.caseful {
            self.address.clone()
        } else {
            self.address.derive(self.address.bytes().to_ascii_lowercase())
        }
    }
}

impl Item for AddressItem<'_, '_> {
    fn matches(&self, item: &Value, state: &State) -> Result<Answer, MatchError> {
        let text = item.bytes();
        if text.is_empty() {
            return Ok(if self.address.is_empty() { Answer::Yes(Some(item.clone())) } else { Answer::No });
        }
        // Only a whole address can fit a pattern or be looked up.
        if !self.qualified && !self.address.is_empty() {
            return Ok(Answer::No);
        }
        if text.starts_with(b"^") {
            return pattern::regex(self.context, &self.subject(state), item, !state.caseful)
                .map(Answer::from);
        }
        if let Some(rest) = text.strip_prefix(b"@@") {
            return self.split_lookup(&item.derive(rest), state);
        }
        let semicolon = text.find_byte(b';');
        let at = text.find_byte(b'@');
        let whole_lookup = semicolon.is_some_and(|semicolon| {
            at.is_none_or(|at| at > semicolon || text[..semicolon].ends_with(b"*@"))
        });
        if whole_lookup && let Some((kind, data)) = pattern::as_lookup(item)? {
            return self.whole_lookup(kind, &data, state);
        }
        if !self.qualified {
            return Ok(Answer::No);
        }
        match text.rfind_byte(b'@') {
            Some(at) => self.two_parts(item, at, state),
            None => self.domain_only(item, state),
        }
    }
}

impl AddressItem<'_, '_> {
    /// Partial matching makes no sense for a whole address and is left out; an empty key is never there.
    fn whole_lookup(&self, mut kind: LookupType, data: &Value, state: &State) -> Result<Answer, MatchError> {
        kind.partial = None;
        if kind.def.single_key && self.address.is_empty() {
            return Ok(Answer::No);
        }
        pattern::lookup(self.context, &kind, data, &self.subject(state))
    }

    fn domain_walk(&self, domain: &Value, state: &State) -> Result<Match, MatchError> {
        let item = DomainItem { context: self.context, domain: &self.domain };
        let walk = Walk { context: self.context, kind: ListKind::Domain, item: &item, subject: &self.domain };
        // One item, whatever separators stand in it.
        let quoted = bstr::concat([&b"<\x01 "[..], domain.bytes()]);
        walk.list(&domain.derive(quoted), State { depth: state.depth, ..State::default() })
    }

    /// `local@domain`: the local part may start with an asterisk, the domain is an item of a domain list.
    fn two_parts(&self, item: &Value, at: usize, state: &State) -> Result<Answer, MatchError> {
        let text = item.bytes();
        let (local, domain) = (&text[..at], &text[at + 1..]);
        let mine = self.local_part.bytes();
        let caseless = !state.caseful;
        let fits = match local.strip_prefix(b"*") {
            Some(end) => mine
                .len()
                .checked_sub(end.len())
                .is_some_and(|start| pattern::equals(&mine[start..], end, caseless)),
            None => pattern::equals(mine, local, caseless),
        };
        if !fits {
            return Ok(Answer::No);
        }
        let captures = self.context.dynamic.borrow().captures.clone();
        let answer = self.domain_walk(&item.derive(domain), state)?;
        self.context.dynamic.borrow_mut().captures = captures;
        match answer {
            Match::Yes(data) => {
                let mut value = item.derive(&text[..at + 1]);
                value.push(&data.unwrap_or_default());
                Ok(Answer::Yes(Some(value)))
            }
            Match::No => Ok(Answer::No),
        }
    }

    /// A domain or `*end` alone.
    fn domain_only(&self, item: &Value, state: &State) -> Result<Answer, MatchError> {
        match self.domain_walk(item, state)? {
            Match::Yes(data) => {
                let mut value = Value::clean("@");
                value.push(&data.unwrap_or_default());
                Ok(Answer::Yes(Some(value)))
            }
            Match::No => Ok(Answer::No),
        }
    }

    /// `@@lookup`: the domain's data is a list of local parts, whose last item may name a further key with
    /// such a list (`>key`); all links together are one list.
    fn split_lookup(&self, item: &Value, state: &State) -> Result<Answer, MatchError> {
        if !self.qualified {
            return Ok(Answer::No);
        }
        let Some((kind, data)) = pattern::as_lookup(item)? else {
            return Err(MatchError::Failed(format!("\"@@{}\" is not a lookup", item.bytes())));
        };
        let mut patterns = list::Builder::new(b':');
        let mut next = Some(self.domain.clone());
        for _ in 0..MAX_CHAIN {
            let Some(key) = next.take() else { break };
            let Answer::Yes(Some(found)) = pattern::lookup(self.context, &kind, &data, &key)? else { break };
            for each in list::items(found.bytes()) {
                match each.strip_prefix(b">") {
                    Some(rest) if kind.def.single_key => next = Some(found.derive(rest.trim_start())),
                    _ => patterns.push(&each),
                }
            }
        }
        let local = LocalPartItem { context: self.context, local_part: &self.local_part };
        let walk = Walk {
            context: self.context,
            kind: ListKind::LocalPart,
            item: &local,
            subject: &self.local_part,
        };
        let inner = State { caseful: state.caseful, depth: state.depth, ..State::default() };
        match walk.list(&Value::clean(patterns.finish()), inner)? {
            Match::Yes(data) => Ok(Answer::Yes(data)),
            Match::No if next.is_some() => Err(MatchError::Failed(format!(
                "Loop detected in lookup of local part of {}",
                self.address.bytes()
            ))),
            Match::No => Ok(Answer::No),
        }
    }
}
