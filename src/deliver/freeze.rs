//! Frozen messages: when they are skipped, thawed, thrown away, and who is told (spec options `auto_thaw`,
//! `timeout_frozen_after`, `ignore_bounce_errors_after`, `freeze_tell`).

use super::env::Delivery;
use super::message::Attempt;
use super::report::about;
use crate::log::Selector;
use crate::mail::Address;
use crate::upward::NewMessage;
use bstr::{BString, ByteSlice};
use std::time::Duration;

/// Is the message to be delivered now?
pub enum Check {
    /// Yes; it may just have been thawed.
    Go,
    /// No.
    Skip(Delivery),
}

/// Looks at the frozen mark.
pub fn check(attempt: &mut Attempt) -> Check {
    let Some(since) = attempt.message.envelope.frozen else { return Check::Go };
    let main = &attempt.env.globals.main;
    let frozen_for = attempt.now.duration_since(since).unwrap_or_default();
    let timeout = main.time("timeout_frozen_after");
    let is_bounce = attempt.message.envelope.sender.is_null();
    if timeout > Duration::ZERO && attempt.age() >= timeout && !attempt.message.envelope.manually_thawed {
        thaw(attempt, "cancelled by timeout_frozen_after");
        attempt.how.give_up = true;
        return Check::Go;
    }
    let ignore_after = main.time("ignore_bounce_errors_after");
    let auto_thaw = main.time("auto_thaw");
    if is_bounce && attempt.age() >= ignore_after {
        thaw(attempt, "Unfrozen by errmsg timer");
    } else if attempt.how.thaw {
        thaw(attempt, "Unfrozen by forced delivery");
    } else if auto_thaw > Duration::ZERO && frozen_for > auto_thaw {
        thaw(attempt, "Unfrozen by auto-thaw");
    } else {
        if attempt.env.log().selectors().has(Selector::SkipDelivery) {
            about(attempt, b"Message is frozen");
        }
        return Check::Skip(Delivery::Frozen);
    }
    Check::Go
}

fn thaw(attempt: &mut Attempt, text: &str) {
    attempt.message.envelope.frozen = None;
    attempt.changed = true;
    about(attempt, text.as_bytes());
    attempt.note(text.as_bytes());
}

/// Freezes the message and tells whom `freeze_tell` names.
pub fn freeze(attempt: &mut Attempt, text: &BString) {
    attempt.message.envelope.frozen = Some(attempt.now);
    attempt.message.envelope.manually_thawed = false;
    attempt.changed = true;
    about(attempt, text);
    attempt.note(text);
    tell(attempt, text);
}

/// The message to `freeze_tell`; not about messages that are such notices or bounces themselves, lest they
/// go round.
fn tell(attempt: &Attempt, text: &BString) {
    let main = &attempt.env.globals.main;
    let Some(list) = main.plain("freeze_tell").filter(|list| !list.is_empty()) else { return };
    if attempt.message.envelope.local_error {
        return;
    }
    let recipients: Vec<Address> = crate::route::precondition::items(&list, b',')
        .iter()
        .flat_map(|part| crate::route::precondition::items(part, b':'))
        .map(|text| Address::split(&text))
        .map(|address| match address.domain().is_empty() {
            true => Address::new(address.local_part(), attempt.env.globals.qualify_recipient.clone()),
            false => address,
        })
        .collect();
    let host = &attempt.env.globals.primary_hostname;
    let id = &attempt.message.id;
    let to = list.as_bstr();
    let from = super::bounce::from_header(attempt);
    let mut body = format!(
        "From: {from}\nTo: {to}\nSubject: Message frozen\nAuto-Submitted: auto-generated\n\n\
         Message {id} has been frozen by the mail delivery software\non {host}.\n\n\
         The sender is <{}>.\n\nThe following address(es) have yet to be delivered:\n\n",
        attempt.message.envelope.sender.to_bytes()
    );
    for setback in attempt.deferred.iter().rev().chain(attempt.failed.iter().rev()) {
        body.push_str(&format!("  {}: {}\n", setback.item.text(), setback.problem.text));
    }
    body.push_str(&format!("\n{text}\n"));
    let new = NewMessage {
        sender: Address::null(),
        recipients,
        text: body.into_bytes(),
        about: Some(id.clone()),
        local_error: true,
        attach: None,
    };
    if let Err(error) = attempt.env.submit.submit(new) {
        let line = format!("{id} failed to send a message about freezing: {error}");
        attempt.env.log().panic(line.as_bytes().as_bstr());
    }
}
