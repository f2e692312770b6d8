//! The steps that make a message ours, in order.
//!
//! Room in the spool; headers; body into -D; recipients (`-t`); fix-ups; Received:; the ACL's word; changes that
//! it asks for; commit; the arrival line; whoever delivers is told. Whatever fails before the commit leaves
//! nothing behind, and the peer hears why.

use super::body::{BodyError, BodyFacts, BodyLimits, drain, read_body};
use super::fixup::{Done, FixUp};
use super::from_line::{is_from_line, take_sender};
use super::headers::{HeaderError, HeaderLimits, HeaderSection, read_headers};
use super::lines::UntilDot;
use super::new_mail::{
    Arrival, Caller, Draft, HeaderAddition, NewMail, Outcome, Place, Refusal, Station, Verdict,
};
use super::received_line::{message_id_tail, received_line};
use super::record::{self, Facts, envelope_of, log_arrival};
use super::refused::{
    Refused, must_drain, refuse_configuration, refuse_headers, refuse_no_recipients, refuse_size,
    refuse_space, refuse_spool,
};
use super::settings::Settings;
use super::submission::extract_recipients;
use crate::expand::context::MessageVars;
use crate::expand::{Context, encode_words, headers_charset};
use crate::log::{Event, Selector};
use crate::mail::{Address, Header, HeaderKind, MessageId, Reply, Syntax};
use crate::spool::{BodyFile, commit, space};
use bstr::{BString, ByteSlice};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, ErrorKind};
use std::sync::Arc;
use std::time::SystemTime;

/// How often another id is tried when one is taken: another process would have to take them all.
const ID_TRIES: u32 = 10;

/// The ACL's part: sees the draft, may change what it holds, and decides.
pub type Ask<'a> = dyn FnMut(&mut Context, Draft) -> Verdict + 'a;

/// Takes one message in. `source` gives the message as it came, dots of SMTP removed, line ends as they were; its
/// end is the message's end, an error means that the peer is lost. `context` holds the session; its message part
/// is set here. Commits, logs and announces; on a refusal nothing is left in the spool.
pub fn accept(
    station: &Station,
    context: &mut Context,
    mail: NewMail,
    source: &mut dyn BufRead,
    ask: &mut Ask,
) -> Outcome {
    ::log::debug!(target: "receive", "{:?} message of {}", mail.arrival, mail.sender);
    accept_into(station, context, mail, source, ask, &mut Work::default())
}

/// As [`accept`]; what there is of a refused message is left in `work`.
pub(super) fn accept_into(
    station: &Station,
    context: &mut Context,
    mut mail: NewMail,
    source: &mut dyn BufRead,
    ask: &mut Ask,
    work: &mut Work,
) -> Outcome {
    let arrival = mail.arrival;
    let result = if mail.dot_ends {
        receive(station, context, &mut mail, &mut UntilDot::new(source), ask, work)
    } else {
        receive(station, context, &mut mail, source, ask, work)
    };
    match result {
        Ok(outcome) => outcome,
        Err(refused) if refused.why == Refusal::Lost => refused.outcome(true),
        Err(_) if must_drain(arrival) && drain(source).is_err() => Refused::lost().outcome(true),
        Err(refused) => refused.outcome(false),
    }
}

/// A message in the works. -D goes when this goes, unless it was committed.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// Header section as it was read, then fixed up.
    pub section: HeaderSection,
    /// -D.
    pub body: Option<BodyFile>,
    /// `-t`: items that are no addresses.
    pub bad: Vec<(BString, BString)>,
    /// The caller is told of bad addresses by mail, so the good ones get the message all the same.
    pub goes_on_with_good: bool,
    /// The ACL took the message and threw it away.
    pub discarded: bool,
    /// The body of a message that was taken although it had bad addresses, for the mail about them.
    pub copy: Option<(File, MessageId)>,
    /// The sender, where a `From ` line was met: who hears of errors.
    pub sender: Option<Address>,
}

fn receive(
    station: &Station,
    context: &mut Context,
    mail: &mut NewMail,
    source: &mut dyn BufRead,
    ask: &mut Ask,
    work: &mut Work,
) -> Result<Outcome, Refused> {
    let settings = Settings::read(context)
        .map_err(|(option, error)| refuse_configuration(&station.log, option, &error))?;
    check_space(station, &settings, mail.arrival)?;
    let Work { section, body: place_of_body, bad, goes_on_with_good, discarded, copy, sender } = work;
    let body = place_of_body.insert(create_body(station, context)?);
    read_header_section(station, context, mail, source, (&settings, section))?;
    if let Some(line) = &section.from_line {
        take_sender(context, mail, line, settings.syntax)
            .map_err(|error| refuse_configuration(&station.log, "uucp_from_sender", &error))?;
        *sender = Some(mail.sender.clone());
    }
    // from here on lines of the log name it
    context.message.id = Some(body.id().clone());
    let header_lines: usize = section.headers.iter().map(|header| header.text.find_iter(b"\n").count()).sum();
    let facts = read_whole_body(station, context, mail, source, (section, &settings), body)?;
    let headers = &mut section.headers;
    // before the lines are qualified: what is no address is told as it was written
    let done_already = take_recipients(context, mail, headers, &settings, bad);
    let fixed = fix_up(station, context, mail, headers, (&settings, body))?;
    check_recipients(station, mail, body, bad, *goes_on_with_good)?;
    set_message(context, mail, headers, &facts, body);
    // with the blank line, as recorded
    context.message.lines_received = Some(header_lines as u64 + 1 + facts.lines);
    add_received(station, context, headers)?;
    // what the ACLs before DATA asked for is seen by the one after it
    apply_header_changes(headers, mail);
    context.message.headers = Arc::new(headers.clone());
    let verdict = ask_acl(station, context, mail, headers, body, ask)?;
    let is_discarded = matches!(verdict, Verdict::Discard(_));
    let mut why_discarded = None;
    let reply = match verdict {
        Verdict::Refuse(reply) => return Err(Refused { why: Refusal::Acl, reply }),
        Verdict::Fake(reply) => Some(reply),
        Verdict::Discard(why) => {
            why_discarded = why;
            None
        }
        Verdict::Accept => None,
    };
    apply_header_changes(headers, mail);
    let parts = Parts { headers, facts, settings, fixed, done_already };
    if !bad.is_empty() {
        *copy = body.open_again().ok().map(|file| (file, body.id().clone()));
    }
    *discarded = is_discarded || mail.recipients.is_empty();
    match place_of_body.take() {
        Some(body) if *discarded => Ok(discard(station, context, mail, (&parts, why_discarded), &body)),
        Some(body) => keep(station, context, mail, &parts, body, reply),
        // It was put there above.
        None => Err(Refused::new(Refusal::Spool, 451, "Temporary local problem - please try later")),
    }
}

/// What the steps have made of the message so far.
struct Parts<'a> {
    headers: &'a [Header],
    facts: BodyFacts,
    settings: Settings,
    fixed: Done,
    done_already: BTreeSet<BString>,
}

/// `check_spool_space`, `check_spool_inodes`.
fn check_space(station: &Station, settings: &Settings, arrival: Arrival) -> Result<(), Refused> {
    match space::lacking(station.layout.root(), settings.spool_kilobytes, settings.spool_inodes) {
        Some(there) => Err(refuse_space(&station.log, there, arrival)),
        None => Ok(()),
    }
}

/// A new id, and its -D.
fn create_body(station: &Station, context: &Context) -> Result<BodyFile, Refused> {
    let origin = &context.session.origin;
    let mut tries = 1;
    loop {
        let id = station.ids.next_id();
        match BodyFile::create(&station.layout, &id) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && tries < ID_TRIES => tries += 1,
            body => return body.map_err(|error| refuse_spool(&station.log, Some(&id), origin, &error)),
        }
    }
}

fn read_header_section(
    station: &Station,
    context: &Context,
    mail: &NewMail,
    source: &mut dyn BufRead,
    into: (&Settings, &mut HeaderSection),
) -> Result<(), Refused> {
    let (settings, section) = into;
    let limits = HeaderLimits { section: settings.header_section, line: settings.header_line };
    let is_local = mail.arrival == Arrival::Local;
    let origin = &context.session.origin;
    let is_from_line = |line: &[u8]| is_local && is_from_line(context, line);
    read_headers(source, limits, &is_from_line, section).map_err(|error| match error {
        HeaderError::SectionTooLong => refuse_headers(&station.log, origin, limits.section, false),
        HeaderError::LineTooLong => refuse_headers(&station.log, origin, limits.line, true),
        HeaderError::Source(_) => Refused::lost(),
    })
}

fn read_whole_body(
    station: &Station,
    context: &Context,
    mail: &NewMail,
    source: &mut dyn BufRead,
    read_before: (&HeaderSection, &Settings),
    body: &mut BodyFile,
) -> Result<BodyFacts, Refused> {
    let (section, settings) = read_before;
    // Messages of our own making that answer another one are not measured: they could never be told.
    let size = if mail.local_error { 0 } else { settings.size_limit };
    let is_smtp = must_drain(mail.arrival);
    let limits =
        BodyLimits { size, visible: settings.body_visible, read_on: is_smtp, bare_lf_is_space: is_smtp };
    let read = read_body(source, section, body, limits);
    read.map_err(|error| match error {
        BodyError::TooBig { read } => {
            refuse_size(&station.log, body.id(), context, mail, &section.headers, (read, size))
        }
        BodyError::Spool(error) => {
            refuse_spool(&station.log, Some(body.id()), &context.session.origin, &error)
        }
        BodyError::Source => Refused::lost(),
    })
}

/// `-t`. Gives the addresses that are to get no copy.
fn take_recipients(
    context: &Context,
    mail: &mut NewMail,
    headers: &mut [Header],
    settings: &Settings,
    bad: &mut Vec<(BString, BString)>,
) -> BTreeSet<BString> {
    let Some(extract) = &mail.extract else { return BTreeSet::new() };
    let qualify_recipient = &context.globals.qualify_recipient;
    // A caller that writes eight-bit addresses is taken to mean an internationalized message.
    let syntax = Syntax { utf8_domains: true, ..settings.syntax };
    let found = extract_recipients(headers, extract, qualify_recipient, syntax);
    mail.smtputf8 |= found.recipients.iter().any(|recipient| !recipient.address.to_bytes().is_ascii());
    mail.recipients.extend(found.recipients);
    *bad = found.bad;
    found.removed
}

fn check_recipients(
    station: &Station,
    mail: &NewMail,
    body: &BodyFile,
    bad: &[(BString, BString)],
    goes_on_with_good: bool,
) -> Result<(), Refused> {
    if mail.extract.is_none() || (bad.is_empty() && !mail.recipients.is_empty()) {
        return Ok(());
    }
    let refused = refuse_no_recipients(&station.log, body.id(), bad);
    if mail.recipients.is_empty() || !goes_on_with_good { Err(refused) } else { Ok(()) }
}

fn fix_up(
    station: &Station,
    context: &Context,
    mail: &mut NewMail,
    headers: &mut Vec<Header>,
    from: (&Settings, &BodyFile),
) -> Result<Done, Refused> {
    let (settings, body) = from;
    let id_tail = message_id_tail(context)
        .map_err(|(option, error)| refuse_configuration(&station.log, option, &error))?;
    let authenticated_id = context.session.origin.authenticated_id.as_ref();
    let name = &mail.caller.full_name;
    let name = if name.is_ascii() { name.clone() } else { encode_words(name, &headers_charset(context)) };
    let caller = Caller { full_name: name, ..mail.caller.clone() };
    let fixup = FixUp {
        settings,
        // With `-oMa` a local message is not locally originated.
        arrival: if context.session.origin.host.is_some() { Arrival::Smtp } else { mail.arrival },
        caller: &caller,
        submission: mail.controls.submission.as_ref(),
        suppress_local: mail.controls.suppress_local_fixups,
        authenticated_id: authenticated_id.map(|id| id.as_bstr()),
        qualify_domain: context.globals.qualify_domain.as_bstr(),
        qualify_recipient: context.globals.qualify_recipient.as_bstr(),
        allow_unqualified_sender: mail.allow_unqualified_sender,
        allow_unqualified_recipient: mail.allow_unqualified_recipient,
        id: body.id(),
        id_tail,
        now: SystemTime::now(),
        zone: station.log.zone(),
    };
    let done = fixup.run(headers, &mut mail.sender);
    if let Some(before) = &done.sender_before
        && station.log.selectors().has(Selector::AddressRewrite)
    {
        let words = format!("\"{before}\" from env-from rewritten as \"{}\" by submission mode", mail.sender);
        station.log.event(&Event::About { id: body.id(), text: words.as_str().into() });
    }
    Ok(done)
}

/// Fills the message part of the context.
fn set_message(
    context: &mut Context,
    mail: &NewMail,
    headers: &[Header],
    facts: &BodyFacts,
    body: &BodyFile,
) {
    let recipients: Vec<_> = mail.recipients.iter().map(|recipient| recipient.address.clone()).collect();
    let received_for = match recipients.as_slice() {
        [only] => Some(only.to_bytes()),
        _ => None,
    };
    context.message = MessageVars {
        id: Some(body.id().clone()),
        sender: Some(mail.sender.clone()),
        headers: Arc::new(headers.to_vec()),
        body_start: Some(Arc::new(facts.start.clone())),
        body_end: Some(Arc::new(facts.end.clone())),
        body_size: body.size(),
        size: message_size(headers, body),
        body_lines: facts.lines,
        body_zeros: facts.zeros,
        max_received_line: facts.longest,
        recipients,
        originator_uid: mail.caller.uid,
        originator_gid: mail.caller.gid,
        received: Some(mail.started),
        received_for,
        ..MessageVars::default()
    };
}

/// Headers that will be sent, the blank line and the body.
fn message_size(headers: &[Header], body: &BodyFile) -> u64 {
    let sent = headers.iter().filter(|header| header.kind != HeaderKind::Deleted);
    sent.map(|header| header.text.len() as u64).sum::<u64>() + 1 + body.size()
}

fn add_received(station: &Station, context: &mut Context, headers: &mut Vec<Header>) -> Result<(), Refused> {
    let line = received_line(context, SystemTime::now(), station.log.zone())
        .map_err(|error| refuse_configuration(&station.log, "received_header_text", &error))?;
    if let Some(line) = line {
        headers.insert(0, line);
        context.message.headers = Arc::new(headers.clone());
    }
    Ok(())
}

fn ask_acl(
    station: &Station,
    context: &mut Context,
    mail: &mut NewMail,
    headers: &[Header],
    body: &mut BodyFile,
    ask: &mut Ask,
) -> Result<Verdict, Refused> {
    body.write_out()
        .map_err(|error| refuse_spool(&station.log, Some(body.id()), &context.session.origin, &error))?;
    let draft = Draft {
        id: body.id(),
        headers,
        size: message_size(headers, body),
        controls: &mut mail.controls,
        add_headers: &mut mail.add_headers,
        remove_headers: &mut mail.remove_headers,
        data: body.file(),
    };
    Ok(ask(context, draft))
}

/// `remove_header`, then `add_header`.
fn apply_header_changes(headers: &mut Vec<Header>, mail: &mut NewMail) {
    for name in mail.remove_headers.drain(..) {
        for header in headers.iter_mut().filter(|header| matches_name(header.name(), &name)) {
            header.kind = HeaderKind::Deleted;
        }
    }
    for HeaderAddition { place, mut text } in mail.add_headers.drain(..) {
        if !text.ends_with(b"\n") {
            text.push(b'\n');
        }
        let at = match place {
            Place::AtEnd => headers.len(),
            Place::AtStart => 0,
            Place::AfterReceived => leading(headers, |header| header.kind == HeaderKind::Received),
            Place::AtStartRfc => leading(headers, is_trace),
        };
        headers.insert(at, Header::new(text));
    }
}

fn leading(headers: &[Header], counts: fn(&Header) -> bool) -> usize {
    headers.iter().take_while(|header| counts(header)).count()
}

fn is_trace(header: &Header) -> bool {
    header.kind == HeaderKind::Received || header.name().to_ascii_lowercase().starts_with(b"resent-")
}

/// A name of `remove_header`: without case, `*` at its end matches the rest.
fn matches_name(name: &[u8], pattern: &[u8]) -> bool {
    match pattern.strip_suffix(b"*") {
        Some(start) => name.len() >= start.len() && name[..start.len()].eq_ignore_ascii_case(start),
        None => name.eq_ignore_ascii_case(pattern),
    }
}

/// The ACL took the message and wants none of it: the peer hears that it was accepted.
fn discard(
    station: &Station,
    context: &Context,
    mail: &NewMail,
    (parts, why): (&Parts, Option<BString>),
    body: &BodyFile,
) -> Outcome {
    let id = body.id();
    let size = message_size(parts.headers, body);
    let by = if mail.recipients.is_empty() { "RCPT" } else { "DATA" };
    let by =
        if mail.arrival == Arrival::Local { "non-SMTP" } else { mail.controls.discarded_by.unwrap_or(by) };
    log_arrival(station, context, mail, &facts_of(parts, body, size, false));
    record::count(station, context, mail, size);
    let mut words = BString::from(format!("=> blackhole ({by} ACL discarded recipients)"));
    if let Some(why) = why {
        words.extend_from_slice(b": ");
        words.extend_from_slice(&why);
    }
    station.log.event(&Event::About { id, text: words.as_bstr() });
    station.log.event(&Event::About { id, text: "Completed".into() });
    Outcome::Accepted { id: id.clone(), size, reply: None, deliver_now: false }
}

fn facts_of<'a>(parts: &'a Parts, body: &'a BodyFile, size: u64, fake: bool) -> Facts<'a> {
    Facts {
        id: body.id(),
        size,
        headers: parts.headers,
        message_id_created: parts.fixed.message_id_created,
        fake,
        top_bit_prints: parts.settings.top_bit_prints,
        message_logs: false,
    }
}

/// Commits, logs, announces.
fn keep(
    station: &Station,
    context: &Context,
    mail: &NewMail,
    parts: &Parts,
    body: BodyFile,
    reply: Option<Reply>,
) -> Result<Outcome, Refused> {
    let now = SystemTime::now();
    let id = body.id().clone();
    let size = message_size(parts.headers, &body);
    let envelope = envelope_of(context, mail, &parts.facts, parts.done_already.clone(), now);
    commit::commit(body, &envelope, parts.headers)
        .map_err(|error| refuse_spool(&station.log, Some(&id), &context.session.origin, &error))?;
    let facts = Facts {
        id: &id,
        size,
        headers: parts.headers,
        message_id_created: parts.fixed.message_id_created,
        fake: reply.is_some(),
        top_bit_prints: parts.settings.top_bit_prints,
        message_logs: parts.settings.message_logs,
    };
    log_arrival(station, context, mail, &facts);
    record::count(station, context, mail, size);
    if mail.controls.freeze {
        station.log.event(&Event::About { id: &id, text: "frozen by ACL".into() });
    }
    if mail.controls.queued_by_acl && !mail.controls.freeze {
        station.log.event(&Event::About { id: &id, text: "no immediate delivery: queued by ACL".into() });
    }
    let deliver_now = !mail.controls.freeze && !mail.controls.queue_only;
    if deliver_now {
        station.announce.ready(&id);
    }
    Ok(Outcome::Accepted { id, size, reply, deliver_now })
}

#[cfg(test)]
mod tests;
