//! DATA (RFC 5321 section 4.1.1.4): may it come, the message itself, and what became of it.

use super::command::Command;
use super::data_reader::{DataReader, LineEnds};
use super::session::{Next, Session};
use super::transaction::{Rejections, Transaction};
use super::wire::NoLine;
use crate::acl::effects::{AddedHeader, HeaderPlace};
use crate::acl::{Answer, MessageEffects, Place, Verdict};
use crate::expand::context::Context;
use crate::log::{Selector, Which};
use crate::mail::{Address, Header, Reply};
use crate::receive::{self, Arrival, Caller, Controls, Draft, HeaderAddition, NewMail, Outcome};
use bstr::{BString, ByteSlice};

impl Session<'_, '_> {
    pub(super) fn data(&mut self, command: &Command, last_was_rcpt: bool) -> Next {
        if let Some(next) = self.check_data_allowed(command, last_was_rcpt) {
            return next;
        }
        let answer = self.ask_acl(Place::Predata, None);
        if let Some(answer) = &answer
            && answer.verdict != Verdict::Accept
        {
            return self.reject(Place::Predata, answer, b"DATA");
        }
        let text = "Enter message, ending with \".\" on a line by itself";
        if let Next::Close(reason) = self.reply_accepted(354, answer.as_ref(), text) {
            return Next::Close(reason);
        }
        let Some(transaction) = self.transaction.take() else { return Next::Close("") };
        let next = self.receive(transaction);
        self.reset_transaction();
        self.counts.message_done();
        next
    }

    fn check_data_allowed(&mut self, command: &Command, last_was_rcpt: bool) -> Option<Next> {
        let transaction = self.transaction.as_ref();
        if !transaction.is_some_and(Transaction::has_recipient) {
            let mut text = String::new();
            if let Rejections::Same(rejection) = &self.rejections
                && !self.runner.session_effects().no_multiline_responses
            {
                text = format!("All RCPT commands were rejected with this error:\n{rejection}\n");
            }
            // sent together with RCPT commands it is no error of its own
            if self.pipelining_advertised && last_was_rcpt {
                return Some(self.reply(&Reply::new(503, text + "Valid RCPT command must precede DATA")));
            }
            let logged = "valid RCPT command must precede DATA";
            return Some(self.synprot_error(command, "protocol", 503, &(text + logged), logged));
        }
        if transaction.is_some_and(|transaction| transaction.too_many)
            && self.context.globals.main.bool("recipients_max_reject")
        {
            self.reset_transaction();
            return Some(self.reply(&Reply::new(554, "Too many recipients")));
        }
        None
    }

    /// Reads the message and answers.
    fn receive(&mut self, transaction: Transaction) -> Next {
        if self.wire.flush().is_err() {
            return Next::Close("connection-lost");
        }
        let mail = self.new_mail(&transaction);
        let has_recipients = !transaction.recipients.is_empty();
        let ends = if self.is_tcp() { LineEnds::Crlf } else { LineEnds::Any };
        let mut asked = Asked::default();
        let mut context = self.context.clone();
        // What -oMai says stays, as recorded.
        let told = self.local.as_ref().is_some_and(|local| local.origin.is_some());
        if !told && self.sends_in_another_name(&mail) {
            context.session.origin.authenticated_id = None;
        }
        let (outcome, ended, fault) = {
            // the reader holds the wire, so the ACL's words are kept until the data is read
            let mut wire = self.wire.lend();
            let mut reader = DataReader::new(&mut wire, ends);
            let mut ask = |context: &mut Context, draft: Draft| {
                if has_recipients {
                    self.ask_data_acl(context, draft, &mut asked)
                } else {
                    receive::Verdict::Accept
                }
            };
            let outcome = receive::accept(&self.server.station, &mut context, mail, &mut reader, &mut ask);
            let ended = reader.has_ended();
            let fault = reader.fault.take().map(|fault| (fault, reader.broke_off()));
            drop(reader);
            self.wire.give_back(wire);
            (outcome, ended, fault)
        };
        self.context.dynamic.replace(context.dynamic.into_inner());
        if let Some((NoLine::Lost, _)) = fault {
            let about = context.message.id.map_or_else(String::new, |id| format!("{id} "));
            self.log_tls_fault(&about);
        }
        match fault {
            Some((fault, place)) => self.end_within_data(&fault, place),
            None => self.answer_data(outcome, &asked, ended),
        }
    }

    /// A trusted local caller who gives another sender is not authenticated by being who calls.
    fn sends_in_another_name(&self, mail: &NewMail) -> bool {
        let domain = &self.context.globals.qualify_domain;
        !self.is_tcp() && mail.sender != Address::new(mail.caller.login.clone(), domain.clone())
    }

    /// The peer broke off; nothing of the message is kept.
    fn end_within_data(&mut self, fault: &NoLine, place: &str) -> Next {
        let peer = self.peer(false);
        match fault {
            NoLine::Lost => {
                let line = format!("SMTP connection from {peer} lost while reading message data{place}");
                self.log_optional(Selector::LostIncomingConnection, &line);
                self.reply_and_close(&Reply::new(421, "Lost incoming connection"), "connection-lost")
            }
            NoLine::TimedOut => {
                let sender = self.sender();
                let line =
                    format!("SMTP data timeout (message abandoned) on connection from {peer} F=<{sender}>");
                self.log_optional(Selector::LostIncomingConnection, &line);
                self.close_421("SMTP incoming data timeout - closing connection.", "data-timeout")
            }
            NoLine::Stopping => self.close_421("Service not available - closing connection", "signal-exit"),
        }
    }

    fn answer_data(&mut self, outcome: Outcome, asked: &Asked, ended: bool) -> Next {
        match outcome {
            Outcome::Accepted { id, reply, .. } => {
                if let Some(why) = self.why_queued() {
                    self.log_optional(Selector::DelayDelivery, &format!("{id} no immediate delivery: {why}"));
                }
                let reply = match (reply, &asked.accepted) {
                    (Some(reply), _) => reply,
                    (None, Some(message)) => self.word(250, message).reply,
                    (None, None) => Reply::new(250, format!("OK id={id}")),
                };
                self.reply(&reply)
            }
            Outcome::Refused { why: receive::Refusal::Lost, .. } => Next::Close("connection-lost"),
            Outcome::Refused { reply, must_close, .. } => {
                if asked.drop {
                    return self.drop_connection(&reply);
                }
                if must_close || !ended {
                    return self.reply_and_close(&reply, "");
                }
                self.reply(&reply)
            }
        }
    }

    /// Why the message that was just taken waits for a queue run, if it is for the number of its like.
    fn why_queued(&self) -> Option<String> {
        let main = &self.context.globals.main;
        let beyond = |limit: &str, count: u64| {
            u64::try_from(main.int(limit)).ok().filter(|max| self.is_tcp() && *max > 0 && count > *max)
        };
        let connections = u64::from(self.context.session.count_at_start);
        if let Some(max) = beyond("smtp_accept_queue", connections) {
            return Some(format!("too many connections ({connections}, max {max})"));
        }
        let max = beyond("smtp_accept_queue_per_connection", self.counts.messages + 1)?;
        Some(format!("more than {max} messages received in one connection"))
    }

    fn new_mail(&self, transaction: &Transaction) -> NewMail {
        let effects = self.runner.message_effects();
        let (add, remove) = self.runner.take_headers();
        NewMail {
            arrival: if self.is_remote() { Arrival::Smtp } else { Arrival::LocalSmtp },
            caller: self.caller(),
            sender: self.sender_of_caller(transaction.sender.clone()),
            raw_sender: transaction.sender.clone(),
            sender_set_untrusted: false,
            recipients: transaction.recipients.clone(),
            extract: None,
            body_8bitmime: transaction.body_8bitmime,
            smtputf8: false,
            dsn_envid: None,
            dsn_ret: 0,
            allow_unqualified_sender: self.qualifies("sender_unqualified_hosts"),
            allow_unqualified_recipient: self.qualifies("recipient_unqualified_hosts"),
            dot_ends: false,
            started: transaction.started,
            controls: self.controls(&effects),
            add_headers: add.into_iter().map(added_header).collect(),
            remove_headers: remove,
            about: None,
            local_error: false,
            pipelining: self.pipelining_mark().into(),
        }
    }

    /// The arrival line's mark: the extension was used in this session, or offered and not used.
    fn pipelining_mark(&self) -> &'static str {
        match (self.pipelining_used, self.pipelining_advertised) {
            (true, _) => "L",
            (false, true) => "L-",
            (false, false) => "",
        }
    }

    fn caller(&self) -> Caller {
        match &self.local {
            Some(local) => local.caller.clone(),
            None => Caller {
                login: self.server.login.clone(),
                uid: self.context.globals.oxim_uid,
                gid: self.context.globals.oxim_gid,
                full_name: BString::default(),
                trusted: true,
            },
        }
    }

    fn controls(&self, effects: &MessageEffects) -> Controls {
        let main = &self.context.globals.main;
        let per_connection = main.int("smtp_accept_queue_per_connection");
        let many =
            per_connection > 0 && i64::try_from(self.counts.messages).unwrap_or(i64::MAX) >= per_connection;
        Controls {
            freeze: effects.freeze.is_some(),
            queue_only: effects.queue_only || self.queue_only || (many && self.is_tcp()),
            queued_by_acl: effects.queue_only,
            submission: effects.submission.as_ref().map(|submission| receive::Submission {
                sender_retain: submission.sender_retain,
                domain: submission.domain.clone(),
                name: submission.name.clone().unwrap_or_default(),
            }),
            suppress_local_fixups: effects.suppress_local_fixups || self.suppress_fixups,
            discarded_by: effects.discarded_by,
        }
    }

    /// The ACL after DATA; its rejection is logged here, with the headers in the reject log.
    fn ask_data_acl(&self, context: &mut Context, draft: Draft, asked: &mut Asked) -> receive::Verdict {
        let Some(answer) = self.runner.run_option(context, Place::Data, None) else {
            return receive::Verdict::Accept;
        };
        let effects = self.runner.message_effects();
        let (add, remove) = self.runner.take_headers();
        draft.add_headers.extend(add.into_iter().map(added_header));
        draft.remove_headers.extend(remove);
        *draft.controls = self.controls(&effects);
        match answer.verdict {
            Verdict::Accept => {
                asked.accepted = answer.message;
                receive::Verdict::Accept
            }
            Verdict::Discard => receive::Verdict::Discard(answer.log_message.or(answer.message)),
            verdict => {
                asked.drop = verdict == Verdict::Drop;
                receive::Verdict::Refuse(self.refuse_data(&answer, &draft))
            }
        }
    }

    fn refuse_data(&self, answer: &Answer, draft: &Draft) -> Reply {
        let id = format!("{} ", draft.id);
        let with_headers = answer.log_targets.contains(&Which::Reject);
        let mut without = answer.clone();
        without.log_targets.retain(|target| *target != Which::Reject);
        let reply = self.log_and_word_rejection(&without, b"after DATA", &id, true);
        if with_headers {
            self.log_rejected_message(answer, draft, &id);
        }
        reply
    }

    fn log_rejected_message(&self, answer: &Answer, draft: &Draft, id: &str) {
        for line in self.rejection_lines(answer, b"after DATA", id, true) {
            let mut entry = line;
            if entry.find("rejected after DATA").is_some() {
                let added = draft.add_headers.iter().map(|added| Header::new(added.text.clone()));
                let headers: Vec<Header> = draft.headers.iter().cloned().chain(added).collect();
                entry.extend_from_slice(&rejected_headers(&self.context, &headers));
            }
            self.context.globals.log.write(Which::Reject, entry.as_bstr());
        }
    }
}

/// What the DATA ACL said besides its verdict.
#[derive(Debug, Default)]
struct Asked {
    accepted: Option<BString>,
    drop: bool,
}

/// A header line that an ACL added, for `receive`.
pub fn added_header(added: AddedHeader) -> HeaderAddition {
    let place = match added.place {
        HeaderPlace::AtEnd => receive::Place::AtEnd,
        HeaderPlace::AtStart => receive::Place::AtStart,
        HeaderPlace::AfterReceived => receive::Place::AfterReceived,
        HeaderPlace::AtStartRfc => receive::Place::AtStartRfc,
    };
    HeaderAddition { place, text: added.header.text }
}

/// Envelope and headers as the reject log shows them, after the line itself, where they are selected.
pub fn rejected_headers(context: &Context, headers: &[Header]) -> Vec<u8> {
    if !context.globals.log.selectors().has(Selector::RejectedHeader) {
        return Vec::new();
    }
    let sender = context.message.sender.as_ref().map(|sender| sender.to_bytes()).unwrap_or_default();
    let mut text = format!("\nEnvelope-from: <{sender}>").into_bytes();
    for (i, recipient) in context.message.recipients.iter().enumerate() {
        let lead = if i == 0 { "Envelope-to:" } else { "   " };
        text.extend_from_slice(format!("\n{lead} <{recipient}>").as_bytes());
    }
    for header in headers {
        text.extend_from_slice(b"\n");
        text.extend_from_slice(&[header.kind.letter(), b' ']);
        text.extend_from_slice(header.text.trim_end());
    }
    text
}
