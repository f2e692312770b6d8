//! Lines of the main log and of the message's own log about single addresses.

use super::grouping::wire_address;
use super::message::{Attempt, Setback};
use crate::log::{Delivery as Line, DeliveryHost, Event, Flag};
use crate::metrics::Counter;
use crate::route::Item;
use crate::route::item::ancestors;
use crate::sys::errno_words;
use crate::transport::{Delivered, Host, Problem};
use bstr::{BStr, BString, ByteSlice};
use std::time::Duration;

/// The strings that a line borrows.
struct Parts {
    shown: BString,
    parents: Vec<BString>,
    by_parent: bool,
    original: Option<BString>,
    return_path: BString,
    router: BString,
    transport: BString,
    /// The system's words, where they do not stand in the reason.
    error: BString,
    reason: BString,
}

/// An address that was delivered; `first`: it is the first of its delivery.
pub fn delivered(attempt: &mut Attempt, item: &Item, done: &Delivered, first: bool, took: Duration) {
    let remote = done.host.is_some();
    count(attempt, if remote { Counter::DeliveredRemotely } else { Counter::DeliveredLocally });
    let Some(route) = &item.route else { return };
    let local = route.log_as_local && item.special.is_none() && done.host.is_none();
    let mut parts = parts_of(attempt, item);
    parts.router = route.router.clone();
    parts.transport = route.transport.clone();
    if local {
        parts.shown = route.shown_local_part.clone();
        parts.original = Some(original_of(item));
    }
    let of_transport = attempt.env.transports.get(route.transport.as_bstr());
    if !route.disable_logging && !of_transport.is_some_and(|transport| transport.generic.disable_logging) {
        let flag = if first { Flag::Delivered } else { Flag::Another };
        let mut line = line_of(attempt, flag, &parts);
        line.size = Some(done.size);
        line.host = done.host.as_ref().map(|host| host_of(host, done.continued, done.interface));
        line.tls = done.tls.as_ref();
        line.pipelined = done.pipelined;
        line.chunking = done.used_chunking;
        line.confirmation = done.confirmation.as_bstr();
        line.queue_time = Some(attempt.age());
        line.delivery_time = Some(took);
        attempt.env.log().event(&Event::Delivery(line));
    }
    let text = format!("{}: {} transport succeeded", with_original(item), route.transport);
    attempt.note(text.as_bytes());
}

/// `:blackhole:`
pub fn discarded(attempt: &mut Attempt, item: &Item, router: &BStr) {
    count(attempt, Counter::Discarded);
    let mut parts = parts_of(attempt, item);
    parts.shown = ":blackhole:".into();
    parts.original = Some(item.address.to_bytes());
    parts.parents.clear();
    parts.router = router.into();
    let line = Line { is_discarded: true, ..line_of(attempt, Flag::Delivered, &parts) };
    attempt.env.log().event(&Event::Delivery(line));
    attempt.note(format!("{}: discarded", with_original(item)).as_bytes());
}

/// `/dev/null`
pub fn bypassed(attempt: &mut Attempt, item: &Item) {
    count(attempt, Counter::Discarded);
    let mut parts = parts_of(attempt, item);
    parts.router = item.route.as_ref().map_or_else(BString::default, |route| route.router.clone());
    parts.transport = "**bypassed**".into();
    attempt.env.log().event(&Event::Delivery(line_of(attempt, Flag::Delivered, &parts)));
    attempt.note(format!("{}: **bypassed** transport succeeded", with_original(item)).as_bytes());
}

/// `**`
pub fn failed(attempt: &mut Attempt, setback: &Setback) {
    reported(attempt, setback, Flag::Failed);
}

/// `==`
pub fn deferred(attempt: &mut Attempt, setback: &Setback) {
    reported(attempt, setback, Flag::Deferred);
}

/// Counts for the administrator.
pub fn count(attempt: &Attempt, counter: Counter) {
    attempt.env.globals.counters.count(counter);
}

fn reported(attempt: &mut Attempt, setback: &Setback, flag: Flag) {
    if setback.quiet {
        return;
    }
    let mut parts = parts_of(attempt, &setback.item);
    parts.router = setback.router.clone();
    parts.transport = setback.transport.clone();
    let problem = &setback.problem;
    if flag == Flag::Deferred && problem.errno > 0 && shows_host(problem) {
        parts.error = errno_words(problem.errno).into();
        parts.reason = problem.text.replace("\n", "\\n").into();
    } else {
        parts.reason = reason(problem);
    }
    let mut line = line_of(attempt, flag, &parts);
    line.errno = setback.problem.errno;
    line.host = setback
        .problem
        .host
        .as_ref()
        .filter(|_| shows_host(&setback.problem))
        .map(|host| host_of(host, false, None));
    line.tls = setback.problem.tls.as_ref();
    let text = attempt.env.log().event(&Event::Delivery(line));
    if setback.problem.of_configuration {
        attempt.env.log().write(crate::log::Which::Panic, text.as_bstr());
    }
    // The message's own log has the line without id and flag.
    let rest = text.splitn_str(3, " ").nth(2).unwrap_or_default().to_vec();
    attempt.note(&rest);
}

/// `== x routing defer (-52): retry time not reached`
pub fn routing_deferred(attempt: &mut Attempt, item: &Item, problem: &Problem) {
    let text = format!("== {} routing defer ({}): {}", with_original(item), problem.errno, problem.text);
    about_optional(attempt, crate::log::Selector::RetryDefer, &text);
}

/// A line of the message's own log about a host: `H=name [address] error` or `...: text` (the main log
/// has it from the transport).
pub fn host_problem(attempt: &mut Attempt, host: &Host, problem: &Problem) {
    let mut text = BString::from(format!("H={}", host.name));
    if let Some(address) = host.address {
        text.extend_from_slice(format!(" [{address}]").as_bytes());
    }
    if let Some(tls) = &problem.tls {
        text.extend_from_slice(&crate::log::line::tls_fields(tls, attempt.env.log().selectors(), false));
    }
    text.extend_from_slice(if problem.errno > 0 { b" " } else { b": " });
    text.extend_from_slice(&reason(problem));
    attempt.note(&text);
}

/// Any line about the message.
pub fn about(attempt: &Attempt, text: &[u8]) {
    attempt.env.log().event(&Event::About { id: &attempt.message.id, text: text.as_bstr() });
}

/// The same if this selector is on.
pub fn about_optional(attempt: &Attempt, selector: crate::log::Selector, text: &str) {
    let line = format!("{} {text}", attempt.message.id);
    attempt.env.log().optional(selector, crate::log::Which::Main, line.as_bytes().as_bstr());
}

/// The words of a problem: the system's for its errors, then its own.
pub fn reason(problem: &Problem) -> BString {
    if problem.errno <= 0 {
        // One line of the log: the lines of a response are told apart by two characters.
        return problem.text.replace("\n", "\\n").into();
    }
    let words = errno_words(problem.errno);
    if problem.text.is_empty() || problem.text == words {
        return words.into();
    }
    format!("{words}: {}", problem.text).into()
}

/// A host is not named again where the connection itself failed: the line about the host did that.
fn shows_host(problem: &Problem) -> bool {
    problem.host.is_some() && !problem.text.is_empty() && problem.text != errno_words(problem.errno)
}

/// `address <original>`
pub fn with_original(item: &Item) -> BString {
    let text = item.text();
    match item.top() {
        Some(top) => format!("{text} <{}>", top.to_bytes()).into(),
        None => text,
    }
}

fn original_of(item: &Item) -> BString {
    item.top().map_or_else(|| item.address.to_bytes(), |top| top.to_bytes())
}

/// An address as its transport sees it: without affixes, unless the transport keeps them.
fn shown(attempt: &Attempt, item: &Item) -> BString {
    let route = item.route.as_ref().filter(|_| item.special.is_none());
    match route.and_then(|route| attempt.env.transports.get(route.transport.as_bstr())) {
        Some(transport) => wire_address(item, transport.generic.rcpt_include_affixes).to_bytes(),
        None => item.text(),
    }
}

fn parts_of(attempt: &Attempt, item: &Item) -> Parts {
    let shown = shown(attempt, item);
    let mut parents: Vec<BString> = ancestors(item).map(|ancestor| ancestor.address.to_bytes()).collect();
    parents.pop();
    let original = Some(original_of(item)).filter(|original| *original != shown);
    Parts {
        shown,
        parents,
        by_parent: item.special.is_some(),
        original,
        return_path: attempt.errors_to(item),
        router: BString::default(),
        transport: BString::default(),
        error: BString::default(),
        reason: BString::default(),
    }
}

fn line_of<'a>(attempt: &'a Attempt, flag: Flag, parts: &'a Parts) -> Line<'a> {
    Line {
        id: &attempt.message.id,
        flag,
        shown: parts.shown.clone(),
        parents: parts.parents.clone(),
        by_parent: parts.by_parent,
        original: parts.original.clone(),
        sender: &attempt.message.envelope.sender,
        return_path: Some(parts.return_path.as_bstr()),
        is_discarded: false,
        router: parts.router.as_bstr(),
        transport: parts.transport.as_bstr(),
        size: None,
        host: None,
        tls: None,
        pipelined: false,
        chunking: false,
        confirmation: b"".as_bstr(),
        queue_time: None,
        delivery_time: None,
        errno: 0,
        error: parts.error.as_bstr(),
        reason: parts.reason.as_bstr(),
    }
}

fn host_of(host: &Host, continued: bool, interface: Option<(std::net::IpAddr, u16)>) -> DeliveryHost<'_> {
    DeliveryHost {
        name: host.name.as_bstr(),
        address: host.address,
        secure: host.secure,
        port: host.port.unwrap_or(25),
        continued,
        interface,
    }
}
