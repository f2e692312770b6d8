//! What is added to, removed from and changed in the header lines of a message (spec chapter "Message
//! processing"; the order of the changes recorded from Exim).

use super::new_mail::{Arrival, Caller, Submission};
use super::qualify::{Domains, qualify_headers};
use super::settings::Settings;
use crate::mail::{Address, Header, HeaderKind, MessageId, date, parse_list};
use crate::text::quote;
use bstr::{BStr, BString, ByteSlice};
use jiff::tz::TimeZone;
use std::time::SystemTime;

/// What fix-ups depend on, besides the headers.
pub(super) struct FixUp<'a> {
    pub settings: &'a Settings,
    pub arrival: Arrival,
    pub caller: &'a Caller,
    pub submission: Option<&'a Submission>,
    pub suppress_local: bool,
    pub authenticated_id: Option<&'a BStr>,
    pub qualify_domain: &'a BStr,
    pub qualify_recipient: &'a BStr,
    pub allow_unqualified_sender: bool,
    pub allow_unqualified_recipient: bool,
    pub id: &'a MessageId,
    /// What stands in a new Message-ID between `E<id>` and `>`: `.text@domain`.
    pub id_tail: BString,
    pub now: SystemTime,
    pub zone: &'a TimeZone,
}

/// What fix-ups did besides changing headers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Done {
    /// A Message-ID was made.
    pub message_id_created: bool,
    /// The reverse path before submission mode changed it.
    pub sender_before: Option<Address>,
}

impl FixUp<'_> {
    fn is_local(&self) -> bool {
        self.arrival != Arrival::Smtp && !self.suppress_local
    }
    fn adds_lines(&self) -> bool {
        self.is_local() || self.submission.is_some()
    }

    /// Fixes up; `sender` is the reverse path, which submission mode may change.
    pub fn run(&self, headers: &mut Vec<Header>, sender: &mut Address) -> Done {
        let mut done = Done::default();
        let resent = settle_kinds(headers);
        self.remove_delivery_lines(headers);
        self.remove_sender(headers, resent);
        let own_from = self.expand_login_in_from(headers, resent);
        self.qualify(headers);
        headers.extend(own_from);
        if !self.adds_lines() {
            return done;
        }
        let prefix = if resent { "Resent-" } else { "" };
        if !has(headers, prefix, "message-id") {
            let line = format!("{prefix}Message-Id: <E{}{}>\n", self.id, self.id_tail);
            add(headers, Header { kind: HeaderKind::Id, text: line.into() }, resent);
            done.message_id_created = true;
        }
        self.add_from(headers, sender, prefix);
        self.add_sender(headers, sender, prefix, &mut done);
        if !has(headers, prefix, "date") {
            let line = format!("{prefix}Date: {}\n", date::full(self.now, self.zone));
            add(headers, Header { kind: HeaderKind::Other, text: line.into() }, resent);
        }
        done
    }

    /// Return-path:, Envelope-to:, Delivery-date: belong to a delivery that is over.
    fn remove_delivery_lines(&self, headers: &mut [Header]) {
        for header in headers {
            let name = header.name().to_ascii_lowercase();
            if self.settings.removed_names.contains(&name.as_slice()) {
                header.kind = HeaderKind::Deleted;
            }
        }
    }

    /// Sender: of an untrusted local caller, or in submission mode, says nothing that we know.
    fn remove_sender(&self, headers: &mut [Header], resent: bool) {
        let local = self.is_local() && !self.caller.trusted && !self.settings.local_sender_retain;
        let submitted = self.submission.is_some_and(|submission| !submission.sender_retain);
        if !local && !submitted {
            return;
        }
        for header in headers.iter_mut().filter(|header| header.kind == HeaderKind::Sender) {
            if is_resent(header) == resent {
                header.kind = HeaderKind::Deleted;
            }
        }
    }

    /// `From: login` of a message that is not SMTP's becomes `From: Full Name <login@domain>`: the old line is
    /// marked as deleted, the new one is given back.
    fn expand_login_in_from(&self, headers: &mut [Header], resent: bool) -> Vec<Header> {
        let mut new = Vec::new();
        if self.arrival != Arrival::Local {
            return new;
        }
        let counts = |header: &Header| header.kind == HeaderKind::From && is_resent(header) == resent;
        for header in headers.iter_mut().filter(|header| counts(header)) {
            // White space after the name makes it another address, as recorded.
            let body = header.body();
            let written = body.strip_suffix(b"\n").unwrap_or(body).trim_start();
            if written == self.caller.login.as_slice() {
                let mut text = BString::from(header.name());
                text.extend_from_slice(b": ");
                // The angle brackets stand even where there is no name.
                text.extend_from_slice(&quote::phrase(&self.caller.full_name));
                text.extend_from_slice(format!(" <{}>\n", self.own_address()).as_bytes());
                header.kind = HeaderKind::Deleted;
                new.push(Header { kind: HeaderKind::From, text });
            }
        }
        new
    }

    fn qualify(&self, headers: &mut Vec<Header>) {
        let domains = Domains {
            sender: self.allow_unqualified_sender.then_some(self.qualify_domain.as_bytes()),
            recipient: self.allow_unqualified_recipient.then_some(self.qualify_recipient.as_bytes()),
        };
        qualify_headers(headers, domains, self.settings.syntax);
    }

    /// The caller's address.
    fn own_address(&self) -> Address {
        Address::new(quote::local_part(&self.caller.login), self.qualify_domain)
    }

    /// The address that submission mode gives an authenticated peer.
    fn submitted_address(&self, submission: &Submission) -> Option<Address> {
        let id = self.authenticated_id.filter(|id| !id.is_empty())?;
        Some(match &submission.domain {
            None => Address::new(id, self.qualify_domain),
            Some(domain) if domain.is_empty() => Address::split(id),
            Some(domain) => Address::new(id, domain.as_bstr()),
        })
    }

    /// `Full Name <address>`, or the address alone.
    fn mailbox(&self, name: &[u8], address: &Address) -> BString {
        if name.is_empty() {
            return address.to_bytes();
        }
        let mut text = quote::phrase(name);
        text.extend_from_slice(b" <");
        text.extend_from_slice(&address.to_bytes());
        text.push(b'>');
        text
    }

    fn add_from(&self, headers: &mut Vec<Header>, sender: &Address, prefix: &str) {
        if has(headers, prefix, "from") {
            return;
        }
        let from = match self.submission {
            Some(submission) if self.arrival == Arrival::Smtp => {
                let address = (!sender.is_null()).then(|| sender.clone());
                let address = address.or_else(|| self.submitted_address(submission));
                address.map(|address| self.mailbox(&submission.name, &address))
            }
            // The sender is the caller's own address unless untrusted_set_sender let another be set.
            _ if !self.caller.trusted && sender.is_null() => {
                Some(self.mailbox(&self.caller.full_name, &self.own_address()))
            }
            _ if !self.caller.trusted => Some(self.mailbox(&self.caller.full_name, sender)),
            _ if sender.is_null() => None,
            _ if self.arrival == Arrival::LocalSmtp => Some(sender.to_bytes()),
            _ => Some(self.mailbox(&self.caller.full_name, sender)),
        };
        if let Some(from) = from {
            let text = format!("{prefix}From: {from}\n");
            headers.push(Header { kind: HeaderKind::From, text: text.into() });
        }
    }

    /// Sender: where From: is not the one whom we know to have sent it.
    fn add_sender(&self, headers: &mut Vec<Header>, sender: &mut Address, prefix: &str, done: &mut Done) {
        let (address, name, is_submission) = match self.submission {
            Some(submission) if self.arrival == Arrival::Smtp => {
                if submission.sender_retain {
                    return;
                }
                let Some(address) = self.submitted_address(submission) else { return };
                (address, &submission.name, true)
            }
            _ if !self.caller.trusted && self.settings.local_from_check => {
                (self.own_address(), &self.caller.full_name, false)
            }
            _ => return,
        };
        if self.says_from(headers, prefix, &address) {
            return;
        }
        let text = format!("{prefix}Sender: {}\n", self.mailbox(name, &address));
        headers.push(Header { kind: HeaderKind::Sender, text: text.into() });
        if is_submission && *sender != address && !sender.is_null() {
            done.sender_before = Some(std::mem::replace(sender, address));
        }
    }

    /// True if From: holds this one address, with the prefixes and suffixes that `local_from_*` allow.
    fn says_from(&self, headers: &[Header], prefix: &str, address: &Address) -> bool {
        // Of several it is the last that counts, as recorded.
        let Some(from) = headers.iter().rfind(|header| named(header, prefix, "from")) else { return false };
        let items = parse_list(from.body(), self.settings.syntax);
        let [item] = items.as_slice() else { return false };
        let Ok(parsed) = &item.parsed else { return false };
        let found = &parsed.address;
        if found.lower_domain() != address.lower_domain() {
            return false;
        }
        let local_part = found.local_part();
        let bare = without_prefix(local_part, &self.settings.local_from_prefix);
        let bare = without_suffix(bare, &self.settings.local_from_suffix);
        [local_part.as_bytes(), bare].iter().any(|part| part.eq_ignore_ascii_case(address.local_part()))
    }
}

/// Takes off what `prefix-` or `*-` matches.
fn without_prefix<'t>(text: &'t [u8], pattern: &[u8]) -> &'t [u8] {
    match pattern.strip_prefix(b"*") {
        Some(end) if !end.is_empty() => text.rfind(end).map_or(text, |at| &text[at + end.len()..]),
        _ => text.strip_prefix(pattern).unwrap_or(text),
    }
}

/// Takes off what `-suffix` or `-*` matches.
fn without_suffix<'t>(text: &'t [u8], pattern: &[u8]) -> &'t [u8] {
    match pattern.strip_suffix(b"*") {
        Some(start) if !start.is_empty() => text.find(start).map_or(text, |at| &text[..at]),
        _ => text.strip_suffix(pattern).unwrap_or(text),
    }
}

fn is_resent(header: &Header) -> bool {
    header.name().get(..7).is_some_and(|start| start.eq_ignore_ascii_case(b"resent-"))
}

/// Only one Message-ID counts: the first, or in a message that was sent again the first Resent-Message-ID. Gives
/// whether there are Resent- lines.
fn settle_kinds(headers: &mut [Header]) -> bool {
    let resent = headers.iter().any(|header| header.kind != HeaderKind::Deleted && is_resent(header));
    let mut seen = false;
    for header in headers.iter_mut().filter(|header| header.kind == HeaderKind::Id) {
        if seen || (resent && !is_resent(header)) {
            header.kind = HeaderKind::Other;
        } else {
            seen = true;
        }
    }
    resent
}

fn named(header: &Header, prefix: &str, name: &str) -> bool {
    let full = header.name();
    header.kind != HeaderKind::Deleted
        && full.len() == prefix.len() + name.len()
        && full[..prefix.len()].eq_ignore_ascii_case(prefix.as_bytes())
        && full[prefix.len()..].eq_ignore_ascii_case(name.as_bytes())
}

fn has(headers: &[Header], prefix: &str, name: &str) -> bool {
    headers.iter().any(|header| named(header, prefix, name))
}

/// New lines go to the end, those of a message that was sent again to the start (RFC 5322 section 3.6.6).
fn add(headers: &mut Vec<Header>, header: Header, resent: bool) {
    if resent {
        headers.insert(0, header);
    } else {
        headers.push(header);
    }
}

#[cfg(test)]
mod tests;
