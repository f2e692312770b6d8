//! The end of an attempt: retry records, bounces, warnings, and then the spool.
//!
//! Order, so that a crash costs no mail: deliveries are done; bounces are committed to the spool; only then the
//! addresses they are about are marked as finished (-H rewritten, or the message removed).

use super::env::Delivery;
use super::message::{Attempt, Setback};
use super::{bounce, freeze, report, retry, warn};
use crate::log::Event;
use crate::mail::Recipient;
use crate::metrics::Counter;
use crate::route::Item;
use crate::route::item::{Ancestor, ancestors};
use crate::spool::{commit, message_log};
use bstr::{BString, ByteSlice};
use std::collections::HashSet;
use std::sync::Arc;

/// Ends the attempt.
pub fn finish(attempt: &mut Attempt) -> Delivery {
    let delivery = settle(attempt);
    match delivery {
        Delivery::Completed => report::count(attempt, Counter::MessagesCompleted),
        Delivery::Frozen => report::count(attempt, Counter::MessagesFrozen),
        Delivery::Deferred | Delivery::Skipped => report::count(attempt, Counter::MessagesDeferred),
    }
    delivery
}

fn settle(attempt: &mut Attempt) -> Delivery {
    give_up_expired(attempt);
    let failed = attempt.failed.len();
    let kept = settle_failures(attempt);
    let counters = &attempt.env.globals.counters;
    counters.add(Counter::Failed, failed.saturating_sub(kept.len()) as u64);
    counters.add(Counter::Deferred, attempt.deferred.len() as u64);
    if attempt.deferred.is_empty() && kept.is_empty() {
        return complete(attempt);
    }
    let open_twins = settle_twins(attempt);
    mark_done(attempt, &kept, &open_twins);
    keep_children_of_one_time(attempt, &kept, &open_twins);
    if !attempt.deferred.is_empty() && attempt.freeze.is_none() {
        warn::send_if_due(attempt);
    }
    if let Some(text) = attempt.freeze.take() {
        freeze::freeze(attempt, &text, &kept);
    }
    keep(attempt)
}

/// Updates the retry records; an address whose rules have run out fails.
fn give_up_expired(attempt: &mut Attempt) {
    let mut still = Vec::new();
    while let Some(mut setback) = attempt.deferred.pop() {
        let expired = setback.expired || retry::update(attempt, &setback);
        if !expired {
            still.push(setback);
            continue;
        }
        let line = format!("** {}: retry timeout exceeded", report::with_original(&setback.item));
        report::about(attempt, line.as_bytes());
        attempt.note(&line.as_bytes()[3..]);
        // What the system said is in the log; a bounce repeats only words of our own.
        let before =
            if setback.problem.errno > 0 { BString::default() } else { setback.problem.text.clone() };
        setback.problem.text = match before.is_empty() {
            true => "retry timeout exceeded".into(),
            false => format!("{before}: retry timeout exceeded").into(),
        };
        setback.problem.errno = 0;
        setback.timed_out = true;
        attempt.failed.push(setback);
    }
    still.reverse();
    attempt.deferred = still;
}

/// Bounces what failed, or ignores it, or keeps it in a frozen bounce. Gives what is kept.
fn settle_failures(attempt: &mut Attempt) -> Vec<Setback> {
    let mut kept = Vec::new();
    let mut bounces: Vec<(BString, Vec<Setback>)> = Vec::new();
    while let Some(setback) = attempt.failed.pop() {
        let to = attempt.errors_to(&setback.item);
        if !to.is_empty() {
            match bounces.iter_mut().find(|(address, _)| *address == to) {
                Some((_, group)) => group.push(setback),
                None => bounces.push((to, vec![setback])),
            }
            continue;
        }
        if attempt.how.give_up {
            attempt.finish(setback.item);
        } else if is_ignored(attempt, &setback) {
            let line = format!("{}: error ignored", report::with_original(&setback.item));
            report::about(attempt, line.as_bytes());
            attempt.note(line.as_bytes());
            attempt.finish(setback.item);
        } else {
            let why = match attempt.message.envelope.sender_set_untrusted {
                true => "message created with -f <>",
                false => "delivery error message",
            };
            attempt.freeze = Some(format!("Frozen ({why})").into());
            kept.push(setback);
        }
    }
    for (to, group) in bounces {
        match bounce::send(attempt, to.as_bstr(), &group) {
            Ok(()) => {
                report::count(attempt, Counter::Bounces);
                for setback in group {
                    attempt.finish(setback.item);
                }
                attempt.deliver_own_mail();
            }
            Err(error) => {
                let line = format!("{} failed to send a bounce message: {error}", attempt.message.id);
                attempt.env.log().panic(line.as_bytes().as_bstr());
                kept.extend(group);
            }
        }
    }
    kept
}

/// Errors nobody wants: `errors_to` empty, and bounces that have failed for long enough, be it by the retry rules
/// (where none is, the first failure is the last).
fn is_ignored(attempt: &Attempt, setback: &Setback) -> bool {
    setback.timed_out
        || setback.item.errors_to.as_ref().is_some_and(|to| to.is_empty())
        || attempt.age() >= attempt.env.globals.main.time("ignore_bounce_errors_after")
}

/// Nothing is left: the message goes.
fn complete(attempt: &mut Attempt) -> Delivery {
    if let Err(error) = commit::remove(&attempt.message) {
        let line = format!("{} failed to remove spool files: {error}", attempt.message.id);
        attempt.env.log().panic(line.as_bytes().as_bstr());
        // What is done must not be done again by each queue run until the files can be removed.
        attempt.write_journal();
        return Delivery::Deferred;
    }
    let message = &attempt.message;
    if !message.envelope.first_time {
        attempt.env.hints.remove_waiting(&message.id);
    }
    let queue_time = attempt.now.duration_since(message.envelope.received).unwrap_or_default();
    attempt.env.log().event(&Event::Completed { id: &message.id, queue_time });
    let main = &attempt.env.globals.main;
    if main.bool("message_logs") && main.bool("preserve_message_logs") {
        preserve_message_log(attempt);
    } else if main.bool("message_logs") {
        let _ = message_log::remove(&attempt.env.layout, &message.id);
    }
    Delivery::Completed
}

fn preserve_message_log(attempt: &mut Attempt) {
    write_message_log(attempt);
    if let Err(error) = message_log::preserve(&attempt.env.layout, &attempt.message.id) {
        let line = format!("{} failed to keep the message log: {error}", attempt.message.id);
        attempt.env.log().panic(line.as_bytes().as_bstr());
    }
}

/// What was noted; a message log that cannot be written costs no mail.
fn write_message_log(attempt: &mut Attempt) {
    if attempt.env.globals.main.bool("message_logs") && !attempt.message_log.is_empty() {
        let text = std::mem::take(&mut attempt.message_log);
        let text = text.trim_end_with(|c| c == '\n');
        let _ = message_log::append(&attempt.env.layout, &attempt.message.id, text);
    }
}

/// The same address by another way shares the fate of the first; gives those that are not finished.
fn settle_twins(attempt: &mut Attempt) -> Vec<Item> {
    if attempt.twins.is_empty() {
        return Vec::new();
    }
    let finished: HashSet<BString> = attempt.finished.iter().map(Item::unique).collect();
    let twins = std::mem::take(&mut attempt.twins);
    let (done, open) = twins.into_iter().partition(|twin| finished.contains(&twin.unique()));
    attempt.finished.extend::<Vec<Item>>(done);
    open
}

/// Marks what is finished, and parents all of whose children are.
fn mark_done(attempt: &mut Attempt, kept: &[Setback], open_twins: &[Item]) {
    let setbacks = attempt.deferred.iter().chain(kept).map(|setback| &setback.item);
    let open: HashSet<_> =
        setbacks.chain(open_twins).flat_map(|item| ancestors(item).map(Arc::as_ptr)).collect();
    let finished: Vec<Item> = std::mem::take(&mut attempt.finished);
    for item in &finished {
        attempt.message.envelope.done.insert(item.unique());
        for ancestor in ancestors(item) {
            if open.contains(&Arc::as_ptr(ancestor)) {
                break;
            }
            if attempt.message.envelope.done.insert(ancestor.unique.clone()) {
                let line = format!("{}: children all complete", ancestor.address.to_bytes());
                attempt.note(line.as_bytes());
            }
        }
        attempt.changed = true;
    }
    attempt.unjournaled.clear();
}

/// `one_time`: what such a redirection gave and was not delivered becomes a recipient in its parent's place, so that
/// the list is not read again.
fn keep_children_of_one_time(attempt: &mut Attempt, kept: &[Setback], open_twins: &[Item]) {
    let setbacks = attempt.deferred.iter().chain(kept).map(|setback| &setback.item);
    let mut made: Vec<(Arc<Ancestor>, Recipient)> = Vec::new();
    for item in setbacks.chain(open_twins) {
        let mut child = (item.address.clone(), item.dsn_flags);
        let mut outermost = None;
        for ancestor in ancestors(item) {
            if ancestor.one_time {
                outermost = Some((ancestor, child.clone()));
            }
            child.0 = ancestor.address.clone();
        }
        let Some((parent, (address, dsn_flags))) = outermost else { continue };
        let errors_to = item.errors_to.clone();
        let recipient =
            Recipient { address, errors_to, parent: Some(item.recipient), dsn_flags, ..Recipient::default() };
        made.push((Arc::clone(parent), recipient));
    }
    // A child that is its own parent cannot take its place: what is done and what is not would bear one name.
    let names_itself: HashSet<BString> = made
        .iter()
        .filter(|(parent, child)| parent.address == child.address)
        .map(|(parent, _)| parent.unique.clone())
        .collect();
    for (parent, child) in made.into_iter().filter(|(parent, _)| !names_itself.contains(&parent.unique)) {
        let envelope = &mut attempt.message.envelope;
        if !envelope.recipients.iter().any(|known| known.address == child.address) {
            envelope.recipients.push(child);
        }
        envelope.done.insert(parent.unique.clone());
        attempt.changed = true;
    }
}

/// Something is left: -H says what, the message's log says why.
fn keep(attempt: &mut Attempt) -> Delivery {
    if attempt.message.envelope.first_time {
        attempt.message.envelope.first_time = false;
        attempt.changed = true;
    }
    if attempt.changed
        && let Err(error) = commit::rewrite(&attempt.message)
    {
        let line = format!("{} failed to rewrite the header file: {error}", attempt.message.id);
        attempt.env.log().panic(line.as_bytes().as_bstr());
        // What was delivered must not be delivered again: the journal is the second way to say so.
        attempt.unjournaled = attempt.message.envelope.done.iter().cloned().collect();
        attempt.write_journal();
    }
    write_message_log(attempt);
    if attempt.message.envelope.frozen.is_some() { Delivery::Frozen } else { Delivery::Deferred }
}
