//! The envelope that is written, and the lines that tell of a message that was taken.

use super::body::BodyFacts;
use super::new_mail::{Arrival, NewMail, Station};
use crate::expand::{self, Context};
use crate::log::{self, Event, Selector, Which};
use crate::mail::{Address, Envelope, Header, HeaderKind, MessageId, Syntax, parse_address};
use crate::metrics::Counter;
use crate::spool::message_log;
use crate::syntax::{Position, Template};
use crate::text::Value;
use bstr::{BStr, BString, ByteSlice};
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

/// The envelope of a message that is about to be committed.
pub(super) fn envelope_of(
    context: &Context,
    mail: &NewMail,
    body: &BodyFacts,
    done: BTreeSet<BString>,
    now: SystemTime,
) -> Envelope {
    let own = Address::new(mail.caller.login.as_bstr(), context.globals.qualify_domain.as_bstr());
    let is_own = !mail.caller.trusted || mail.sender == own;
    Envelope {
        login: mail.caller.login.clone(),
        uid: mail.caller.uid,
        gid: mail.caller.gid,
        sender: mail.sender.clone(),
        received: mail.started,
        received_complete: Some(now),
        warnings_sent: 0,
        first_time: true,
        frozen: mail.controls.freeze.then_some(now),
        manually_thawed: false,
        sender_set_untrusted: mail.sender_set_untrusted,
        sender_local: mail.arrival != Arrival::Smtp && is_own,
        local_error: mail.local_error,
        body_8bitmime: mail.body_8bitmime,
        smtputf8: mail.smtputf8,
        body_lines: body.lines,
        body_zeros: body.zeros,
        max_received_line: body.longest,
        allow_unqualified_recipient: mail.allow_unqualified_recipient,
        allow_unqualified_sender: mail.allow_unqualified_sender,
        local_scan_data: None,
        spam: [None, None, None],
        dsn_envid: mail.dsn_envid.clone(),
        dsn_ret: mail.dsn_ret,
        acl_variables: context.dynamic.borrow().acl_variables.clone(),
        origin: context.session.origin.clone(),
        recipients: mail.recipients.clone(),
        done,
        unknown_lines: Vec::new(),
    }
}

/// What the arrival line needs besides the envelope.
pub(super) struct Facts<'a> {
    pub id: &'a MessageId,
    pub size: u64,
    pub headers: &'a [Header],
    pub message_id_created: bool,
    pub fake: bool,
    pub top_bit_prints: bool,
    pub message_logs: bool,
}

/// Writes the `<=` line, and the first line of the message's own log.
pub(super) fn log_arrival(station: &Station, context: &Context, mail: &NewMail, facts: &Facts) {
    let recipients: Vec<Address> =
        mail.recipients.iter().map(|recipient| recipient.address.clone()).collect();
    let selectors = station.log.selectors();
    let subject = if selectors.has(Selector::Subject) { subject_text(context, facts.headers) } else { None };
    let receive_time = SystemTime::now().duration_since(mail.started).unwrap_or(Duration::ZERO);
    let arrival = log::Arrival {
        id: facts.id,
        fake: facts.fake,
        sender: &mail.sender,
        raw_sender: &mail.raw_sender,
        about: mail.about.as_ref(),
        origin: &context.session.origin,
        pipelining: mail.pipelining.as_bstr(),
        chunking: false,
        size: facts.size,
        body_8bitmime: mail.body_8bitmime,
        receive_time,
        message_id: message_id_of(facts.headers, facts.message_id_created),
        message_id_created: facts.message_id_created,
        subject: subject.as_ref().map(|text| text.bytes()),
        recipients: &recipients,
        top_bit_prints: facts.top_bit_prints,
    };
    if facts.message_logs {
        let mut line = BString::from(station.log.stamp(SystemTime::now()));
        line.extend_from_slice(&arrival.message_log_line(selectors));
        if let Err(error) = message_log::append(&station.layout, facts.id, &line) {
            let text = format!("{} Couldn't open message log: {error}", facts.id);
            station.log.write(Which::Panic, text.as_str().into());
        }
    }
    station.log.event(&Event::Arrival(arrival));
}

/// Counts a message that was taken.
pub(super) fn count(station: &Station, context: &Context, mail: &NewMail, size: u64) {
    let counters = &station.globals.counters;
    counters.count(match mail.arrival {
        Arrival::Local => Counter::ReceivedLocal,
        Arrival::LocalSmtp => Counter::ReceivedLocalSmtp,
        Arrival::Smtp if context.session.origin.tls.is_some() => Counter::ReceivedSmtpTls,
        Arrival::Smtp => Counter::ReceivedSmtp,
    });
    counters.add(Counter::RecipientsReceived, mail.recipients.len() as u64);
    counters.add(Counter::BytesReceived, size);
}

/// The Message-ID between its angle brackets; none if it has not the form of one, or if it is a
/// Resent-Message-ID that was made here.
fn message_id_of(headers: &[Header], created: bool) -> Option<&BStr> {
    let header = headers.iter().find(|header| header.kind == HeaderKind::Id)?;
    if created && !header.name().eq_ignore_ascii_case(b"message-id") {
        return None;
    }
    let Some(opened) = header.body().trim().strip_prefix(b"<") else {
        // One without brackets counts if it can be read as an address.
        let parsed = parse_address(header.body(), Syntax::default()).ok()?;
        return header.body().get(parsed.span).map(|id| id.as_bstr());
    };
    let inside = opened.strip_suffix(b">")?;
    let well_formed = !inside.is_empty() && inside.iter().all(|byte| *byte > b' ' && *byte != b'>');
    well_formed.then(|| inside.as_bstr())
}

/// The subject, MIME words decoded; none without Subject: line.
fn subject_text(context: &Context, headers: &[Header]) -> Option<Value> {
    headers.iter().find(|header| header.name().eq_ignore_ascii_case(b"subject"))?;
    let template = Template::parse(b"$h_subject:", &Position::nowhere("subject")).ok()?;
    expand::expand(&template, context).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_well_formed_message_id_is_logged() {
        for (line, id) in [
            ("Message-ID: <foo@bar>\n", Some("foo@bar")),
            ("Message-ID:\n <foo@bar> \n", Some("foo@bar")),
            ("Message-ID: <a b> c\n", None),
            ("Message-ID: \n", None),
            ("Message-ID: x@y (c)\n", Some("x@y")),
            ("Message-ID: x y\n", None),
        ] {
            assert_eq!(message_id_of(&[Header::new(line)], false), id.map(|id| id.into()), "{line}");
        }
    }
}
