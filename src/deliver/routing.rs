//! Routing all addresses of a message that are not done: rounds of routing until no new addresses come.
//!
//! Order is Exim's, since logs and bounces show it: each round takes its addresses in order, routes them in
//! reverse, and puts their children before what waits already.

use super::message::{Attempt, RetryKey, Setback};
use super::report;
use super::retry::{errno, is_waiting};
use crate::mail::HeaderKind;
use crate::matching::{self, Match};
use crate::route::item::{Barred, Special, ancestors};
use crate::route::{How, Item, Routed, Trouble};
use crate::text::Value;
use crate::transport::{Driver, Problem};
use bstr::{BString, ByteSlice};
use std::collections::{HashSet, VecDeque};

/// Generations of redirection; more is a loop that the loop test does not see.
const GENERATIONS_MAX: usize = 100;
/// Addresses that one message may be routed to: a list that includes lists must end.
const ADDRESSES_MAX: usize = 500_000;

/// What the sender of a message that goes in circles is told.
const LOOP: &str = "Too many \"Received\" headers - suspected mail loop";

/// Routes all that is not done; fills `local`, `remote`, `deferred` and `failed`.
pub fn route_all(attempt: &mut Attempt) {
    let mut new: VecDeque<Item> = recipients(attempt).into();
    if attempt.how.give_up {
        for item in new {
            let setback = Setback { quiet: true, ..setback(item, Problem::default()) };
            attempt.failed.push(setback);
        }
        return;
    }
    if goes_in_circles(attempt) {
        for item in new {
            // The bounce names only the addresses, as Exim's does.
            let user_text = Some(BString::default());
            let problem = Problem { text: LOOP.into(), user_text, ..Problem::default() };
            fail(attempt, setback(item, problem));
        }
        return;
    }
    let mut routed_domains = HashSet::new();
    let mut count = 0;
    while !new.is_empty() {
        let mut round = Vec::new();
        while let Some(item) = new.pop_front() {
            count += 1;
            if let Some(item) = admit(attempt, item, count) {
                round.push(item);
            }
        }
        while let Some(item) = round.pop() {
            let domain = BString::from(item.address.domain());
            for answer in attempt.env.chain.route(&mut attempt.context, item, How::Deliver) {
                if !matches!(answer, Routed::Deferred(..)) {
                    routed_domains.insert(domain.clone());
                }
                take(attempt, answer, &mut new);
            }
        }
    }
    attempt.context.address = Default::default();
    forget_domains(attempt, &routed_domains);
}

/// More `Received:` headers than `received_headers_max`.
fn goes_in_circles(attempt: &Attempt) -> bool {
    let received =
        attempt.message.headers.iter().filter(|header| header.kind == HeaderKind::Received).count();
    let limit = attempt.env.globals.main.int("received_headers_max");
    i64::try_from(received).is_ok_and(|received| received > limit)
}

fn recipients(attempt: &Attempt) -> Vec<Item> {
    let envelope = &attempt.message.envelope;
    let mut items = Vec::new();
    let address_of = |index: usize| Some(envelope.recipients.get(index)?.address.clone());
    for (index, recipient) in envelope.recipients.iter().enumerate() {
        if attempt.is_done(recipient.address.to_bytes().as_bstr()) {
            continue;
        }
        let mut item = Item::new(recipient.address.clone(), index);
        item.errors_to = recipient.errors_to.clone();
        item.orcpt = recipient.orcpt.clone();
        item.dsn_flags = recipient.dsn_flags;
        item.one_time_parent = recipient.parent.and_then(address_of);
        items.push(item);
    }
    items
}

/// What comes before routing: files and pipes need none; done, held and waiting addresses stay.
fn admit(attempt: &mut Attempt, item: Item, count: usize) -> Option<Item> {
    if item.special.is_some() {
        admit_special(attempt, item);
        return None;
    }
    if attempt.is_done(item.unique().as_bstr()) {
        return None;
    }
    if count > ADDRESSES_MAX || ancestors(&item).count() > GENERATIONS_MAX {
        let problem = Problem { text: "too many redirections".into(), errno: -1, ..Problem::default() };
        defer(attempt, setback(item, problem));
        return None;
    }
    if let Some((text, errno)) = held(attempt, &item) {
        let problem = Problem { text: text.into(), errno, ..Problem::default() };
        let quiet = errno == errno::QUEUED;
        if quiet {
            report::routing_deferred(attempt, &item, &problem);
        }
        defer(attempt, Setback { quiet, ..setback(item, problem) });
        return None;
    }
    if attempt.how.queue_run && !attempt.how.force {
        let keys = [domain_key(&item), address_key(&item), sender_key(attempt, &item)];
        if keys.iter().any(|key| is_waiting(attempt, key.as_bstr())) {
            let problem = Problem {
                text: "retry time not reached".into(),
                errno: errno::ROUTE_RETRY,
                ..Problem::default()
            };
            report::routing_deferred(attempt, &item, &problem);
            let quiet = Setback { quiet: true, ..setback(item, problem) };
            attempt.deferred.push(quiet);
            return None;
        }
    }
    Some(item)
}

fn admit_special(attempt: &mut Attempt, item: Item) {
    if attempt.is_done(item.unique().as_bstr()) {
        return;
    }
    if let Some(barred) = item.barred.clone() {
        refuse_special(attempt, item, *barred);
        return;
    }
    if matches!(&item.special, Some(Special::File(path)) if path.bytes() == "/dev/null") {
        report::bypassed(attempt, &item);
        attempt.finish(item);
        return;
    }
    attempt.local.push(item);
}

/// A file or pipe that is forbidden fails; one without transport waits for a better configuration.
fn refuse_special(attempt: &mut Attempt, item: Item, barred: Barred) {
    let router = item.route.as_ref().map_or_else(BString::default, |route| route.router.clone());
    let transport = item.route.as_ref().map_or_else(BString::default, |route| route.transport.clone());
    let quiet = item.route.as_ref().is_some_and(|route| route.disable_logging);
    let what = if matches!(item.special, Some(Special::Pipe(_))) { "pipe" } else { "file" };
    let with = |item, problem| Setback {
        router: router.clone(),
        transport: transport.clone(),
        quiet,
        ..setback(item, problem)
    };
    match barred.no_transport {
        Some(text) if !barred.forbidden => {
            let problem = Problem { text, errno: errno::BAD_TRANSPORT, ..Problem::default() };
            defer(attempt, with(item, problem));
        }
        _ => {
            let text = format!("delivery to {what} forbidden").into();
            // The sender hears what failed, and not why.
            let user_text = Some(BString::default());
            fail(attempt, with(item, Problem { text, user_text, ..Problem::default() }));
        }
    }
}

/// `hold_domains` and, for a first delivery, `queue_domains`.
fn held(attempt: &Attempt, item: &Item) -> Option<(&'static str, i32)> {
    if attempt.how.force {
        return None;
    }
    let main = &attempt.env.globals.main;
    let domain = Value::tainted(item.address.domain());
    let matches = |list: &str| match main.text(list) {
        Some(list) => matches!(matching::domain(&attempt.context, &domain, list), Ok(Match::Yes(_))),
        None => false,
    };
    if matches("hold_domains") {
        return Some(("domain is held", errno::HELD));
    }
    if !attempt.how.queue_run && attempt.message.envelope.first_time && matches("queue_domains") {
        return Some(("domain is in queue_domains", errno::QUEUED));
    }
    None
}

/// Acts on a router's answer.
fn take(attempt: &mut Attempt, answer: Routed, new: &mut VecDeque<Item>) {
    match answer {
        Routed::Assigned(item) => assign(attempt, item),
        Routed::Children { children, .. } => {
            for child in children.into_iter().rev() {
                new.push_front(child);
            }
        }
        Routed::Discarded(item, router) => {
            report::discarded(attempt, &item, router.as_bstr());
            attempt.finish(item);
        }
        Routed::Deferred(item, trouble) => {
            log_trouble(attempt, &trouble);
            let local = trouble.retry_use_local_part;
            let key = if local { address_key(&item) } else { domain_key(&item) };
            let subject = if local { item.address.to_bytes() } else { any_at(&item) };
            if trouble.freeze {
                attempt.freeze = Some("Frozen".into());
            }
            let retry = RetryKey { key, subject, other: None, by_message: false, host: false };
            let setback = Setback {
                router: trouble.router.clone().unwrap_or_default(),
                retry: if trouble.our_fault { Vec::new() } else { vec![retry] },
                quiet: trouble.disable_logging,
                ..setback(item, problem_of(trouble))
            };
            defer(attempt, setback);
        }
        Routed::Failed(item, trouble) => {
            log_trouble(attempt, &trouble);
            let setback = Setback {
                router: trouble.router.clone().unwrap_or_default(),
                quiet: trouble.disable_logging,
                ..setback(item, problem_of(trouble))
            };
            fail(attempt, setback);
        }
    }
}

fn assign(attempt: &mut Attempt, item: Item) {
    // A child that is the same as its parent is only known by its transport.
    if attempt.is_done(item.unique().as_bstr()) {
        return;
    }
    let name = item.route.as_ref().map_or_else(BString::default, |route| route.transport.clone());
    let is_remote = match attempt.env.transports.get(name.as_bstr()) {
        Some(transport) => matches!(transport.driver, Driver::Remote(_)),
        None => false,
    };
    if is_remote { attempt.remote.push(item) } else { attempt.local.push(item) }
}

/// Keeps and logs a failure for good.
pub fn fail(attempt: &mut Attempt, mut setback: Setback) {
    setback.nth = attempt.next_setback();
    report::failed(attempt, &setback);
    attempt.failed.push(setback);
}

/// Keeps and logs a failure for now.
pub fn defer(attempt: &mut Attempt, mut setback: Setback) {
    setback.nth = attempt.next_setback();
    report::deferred(attempt, &setback);
    attempt.deferred.push(setback);
}

fn log_trouble(attempt: &Attempt, trouble: &Trouble) {
    if let Some(remark) = &trouble.remark {
        report::about(attempt, &remark.text());
    }
    for line in &trouble.log_lines {
        let text = format!("{} {line}", attempt.message.id);
        attempt.env.log().panic(text.as_bytes().as_bstr());
    }
}

fn problem_of(trouble: Trouble) -> Problem {
    let user_text = match trouble.only_for_log {
        true => Some(BString::default()),
        // `:fail:` without a text: the line for it is there, and empty.
        false => (trouble.for_peer && trouble.text.is_empty()).then(|| BString::from("\n")),
    };
    Problem {
        text: trouble.text,
        user_text,
        errno: trouble.errno,
        freeze: trouble.freeze,
        ..Problem::default()
    }
}

/// A setback with nothing but its address and problem.
pub fn setback(item: Item, problem: Problem) -> Setback {
    Setback {
        item,
        problem,
        router: BString::default(),
        transport: BString::default(),
        retry: Vec::new(),
        quiet: false,
        expired: false,
        timed_out: false,
        nth: 0,
    }
}

/// A domain that was routed is no longer failing.
fn forget_domains(attempt: &Attempt, domains: &HashSet<BString>) {
    if !attempt.env.hints.any_routing() {
        return;
    }
    for domain in domains {
        let key = BString::from([b"R:", domain.as_slice()].concat());
        if attempt.env.hints.retry(key.as_bstr()).is_some() {
            attempt.env.hints.remove_retry(key.as_bstr());
        }
    }
}

fn any_at(item: &Item) -> BString {
    [&b"*@"[..], item.address.domain()].concat().into()
}

fn domain_key(item: &Item) -> BString {
    [&b"R:"[..], item.address.domain()].concat().into()
}

fn address_key(item: &Item) -> BString {
    [b"R:", &item.address.to_bytes()[..]].concat().into()
}

/// Key of an address that a host refused for now, for this sender.
pub fn sender_key(attempt: &Attempt, item: &Item) -> BString {
    let sender = attempt.message.envelope.sender.to_bytes();
    [b"R:", &item.address.to_bytes()[..], b":<", &sender, b">"].concat().into()
}
