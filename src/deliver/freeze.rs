//! Frozen messages: when they are skipped, thawed, thrown away, and who is told (spec options `auto_thaw`,
//! `timeout_frozen_after`, `ignore_bounce_errors_after`, `freeze_tell`).

use super::env::{Delivery, Env};
use super::message::{Attempt, Setback};
use super::report::{self, about, about_optional};
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
        attempt.message.envelope.manually_thawed = true;
        thaw(attempt, "Unfrozen by forced delivery");
    } else if auto_thaw > Duration::ZERO && frozen_for > auto_thaw {
        thaw(attempt, "Unfrozen by auto-thaw");
    } else {
        about_optional(attempt, Selector::SkipDelivery, "Message is frozen");
        return Check::Skip(Delivery::Frozen);
    }
    Check::Go
}

fn thaw(attempt: &mut Attempt, text: &str) {
    attempt.message.envelope.frozen = None;
    attempt.changed = true;
    about(attempt, text.as_bytes());
}

/// Freezes the message and tells whom `freeze_tell` names; `kept` are failed addresses that stay.
pub fn freeze(attempt: &mut Attempt, text: &BString, kept: &[Setback]) {
    attempt.message.envelope.frozen = Some(attempt.now);
    attempt.changed = true;
    tell(attempt, text, kept);
    about(attempt, text);
    // The one line of a message log that bears no time, as recorded.
    attempt.message_log.extend_from_slice(&[b"*** ", text.as_slice(), b"\n"].concat());
}

/// `freeze_tell`
pub fn told(env: &Env) -> Vec<Address> {
    let list = env.globals.main.plain("freeze_tell").unwrap_or_default();
    crate::route::precondition::items(&list, b',')
        .iter()
        .flat_map(|part| crate::route::precondition::items(part, b':'))
        .map(|text| Address::split(&text))
        .map(|address| match address.domain().is_empty() {
            true => Address::new(address.local_part(), env.globals.qualify_recipient.clone()),
            false => address,
        })
        .collect()
}

/// The message to `freeze_tell`; not about messages that are such notices or bounces themselves, lest they
/// go round.
fn tell(attempt: &mut Attempt, text: &BString, kept: &[Setback]) {
    let recipients = told(attempt.env);
    if attempt.message.envelope.local_error || recipients.is_empty() {
        return;
    }
    let id = &attempt.message.id;
    let from = super::bounce::from_header(&attempt.context);
    // `Frozen (why)` becomes `has been frozen (why).`
    let why = text.strip_prefix(b"Frozen").unwrap_or_default().as_bstr();
    let mut body = format!(
        "Auto-Submitted: auto-replied\nFrom: {from}\nTo: {}\n{}Subject: Message frozen\n\n\
         Message {id} has been frozen{why}.\nThe sender is <{}>.\n\n\
         The following address(es) have yet to be delivered:\n",
        bstr::join(", ", recipients.iter().map(Address::to_bytes)).as_bstr(),
        super::bounce::references(attempt).as_bstr(),
        attempt.message.envelope.sender.to_bytes()
    );
    let mut open: Vec<&Setback> = attempt.deferred.iter().chain(kept).collect();
    open.sort_by_key(|setback| std::cmp::Reverse(setback.nth));
    for setback in open {
        body.push_str(&format!("  {}: {}\n", report::with_original(&setback.item), setback.problem.text));
    }
    let text = body.into_bytes();
    let new = NewMessage { recipients, text, local_error: true, ..NewMessage::default() };
    if let Err(error) = attempt.submit(new) {
        let line = format!("{} failed to send a message about freezing: {error}", attempt.message.id);
        attempt.env.log().panic(line.as_bytes().as_bstr());
    }
    attempt.deliver_own_mail();
}
