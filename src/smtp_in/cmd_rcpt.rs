//! RCPT TO (RFC 5321 section 4.1.1.3).

use super::command::Command;
use super::reject::word_reply;
use super::session::{Next, Session};
use super::transaction::RECIPIENTS_MAX;
use crate::acl::{Answer, Place, Verdict};
use crate::mail::address_parse::parse_address;
use crate::mail::{Address, Recipient, Reply};
use crate::text::Value;
use bstr::{BStr, BString};

impl Session<'_, '_> {
    pub(super) fn rcpt(&mut self, command: &Command) -> Next {
        if self.transaction.is_none() {
            return self.rcpt_without_mail(command);
        }
        self.count_rcpt();
        if command.argument.is_empty() {
            return self.rcpt_fault(
                command,
                "RCPT must have an address operand",
                "RCPT must have an address operand",
            );
        }
        let recipient = match self.read_recipient(command, command.argument) {
            Ok(recipient) => recipient,
            Err(next) => return next,
        };
        if let Some(next) = self.check_recipient_count() {
            return next;
        }
        let discarded = self.transaction.as_ref().and_then(|transaction| transaction.discarded.clone());
        if let Some(log) = discarded {
            return self.accept_discarded(command.argument, "MAIL ACL", None, log);
        }
        let answer = self.ask_rcpt_acl(&recipient);
        self.obey_rcpt(answer, recipient, command.argument)
    }

    /// With PIPELINING it is expected after a rejected MAIL, and not counted.
    fn rcpt_without_mail(&mut self, command: &Command) -> Next {
        let text = "sender not yet given";
        self.rejections.add(&format!("503 {text}").into());
        if self.pipelining_advertised && self.mail_was_rejected {
            return self.reply(&Reply::new(503, text));
        }
        self.protocol_error(command, 503, text)
    }

    fn count_rcpt(&mut self) {
        let Some(transaction) = &mut self.transaction else { return };
        transaction.rcpt_count += 1;
        self.context.session.rcpt_count = transaction.rcpt_count;
    }

    fn rcpt_fault(&mut self, command: &Command, text: &str, logged: &str) -> Next {
        self.fail_recipient(&format!("501 {text}").into());
        self.synprot_error(command, "syntax", 501, text, logged)
    }

    fn read_recipient(&mut self, command: &Command, path: &BStr) -> Result<Address, Next> {
        let address = match parse_address(path, self.address_syntax()) {
            Ok(parsed) => parsed.address,
            Err(error) => {
                let text = format!("{path}: {}", error.message);
                return Err(self.rcpt_fault(command, &text, &error.message.to_string()));
            }
        };
        if !address.domain().is_empty() {
            return Ok(address);
        }
        let is_postmaster = address.local_part().eq_ignore_ascii_case(b"postmaster");
        if is_postmaster || self.qualifies("recipient_unqualified_hosts") {
            return Ok(Address::new(address.local_part(), self.context.globals.qualify_recipient.clone()));
        }
        self.log_unqualified("recipient", &address);
        let text = format!("{path}: recipient address must contain a domain");
        self.fail_recipient(&format!("501 {text}").into());
        Err(self.reply(&Reply::new(501, text)))
    }

    fn check_recipient_count(&mut self) -> Option<Next> {
        let reject = self.context.globals.main.bool("recipients_max_reject");
        let max = if self.recipients_max == 0 { RECIPIENTS_MAX } else { self.recipients_max };
        let peer = self.peer(true);
        let sender = self.sender();
        let transaction = self.transaction.as_mut()?;
        if usize::try_from(transaction.rcpt_count).unwrap_or(usize::MAX) <= max {
            return None;
        }
        let first = !std::mem::replace(&mut transaction.too_many, true);
        let (what, code) =
            if reject { ("message rejected", 552) } else { ("excess temporarily rejected", 452) };
        if first {
            let line = format!("too many recipients: {what}: sender=<{sender}> {peer}");
            self.log_rejection(&line);
        }
        Some(self.reply(&Reply::new(code, "too many recipients")))
    }

    fn ask_rcpt_acl(&mut self, recipient: &Address) -> Option<Answer> {
        let local_part = recipient.unquoted_local_part().to_ascii_lowercase();
        self.context.address.local_part = Some(Value::tainted(local_part));
        self.context.address.domain = Some(Value::tainted(recipient.lower_domain()));
        let answer = self.ask_acl(Place::Rcpt, Some(recipient));
        self.context.address = Default::default();
        answer
    }

    fn obey_rcpt(&mut self, answer: Option<Answer>, recipient: Address, path: &BStr) -> Next {
        // without an ACL nobody is accepted
        let answer = answer.unwrap_or_else(super::reject::denial);
        match answer.verdict {
            Verdict::Accept => self.accept_recipient(recipient, Some(&answer)),
            Verdict::Discard => {
                let log = answer.log_message.clone();
                self.accept_discarded(path, "RCPT ACL", Some(&answer), log)
            }
            _ => self.refuse_rcpt(&answer, path),
        }
    }

    fn refuse_rcpt(&mut self, answer: &Answer, path: &BStr) -> Next {
        let temporary = matches!(answer.verdict, Verdict::Defer | Verdict::Error);
        let text = answer.message.clone().unwrap_or_else(|| {
            if temporary {
                "Temporary local problem - please try later".into()
            } else {
                "Administrative prohibition".into()
            }
        });
        if temporary {
            if let Some(transaction) = &mut self.transaction {
                transaction.rcpt_deferred += 1;
                self.context.session.rcpt_defer_count = transaction.rcpt_deferred;
            }
            self.rejections.add(&word_reply(451, &text).reply.text);
        } else {
            self.fail_recipient(&word_reply(550, &text).reply.text);
        }
        self.reject(Place::Rcpt, answer, &bstr::concat([&b"RCPT "[..], path]))
    }

    fn fail_recipient(&mut self, text: &BString) {
        self.rejections.add(text);
        let Some(transaction) = &mut self.transaction else { return };
        transaction.rcpt_failed += 1;
        self.context.session.rcpt_fail_count = transaction.rcpt_failed;
    }

    fn accept_recipient(&mut self, recipient: Address, answer: Option<&Answer>) -> Next {
        self.context.message.recipients.push(recipient.clone());
        if let Some(transaction) = &mut self.transaction {
            transaction.recipients.push(Recipient { address: recipient, ..Recipient::default() });
        }
        self.reply_accepted(250, answer, "Accepted")
    }

    fn accept_discarded(
        &mut self,
        path: &BStr,
        by: &str,
        answer: Option<&Answer>,
        log: Option<BString>,
    ) -> Next {
        if let Some(transaction) = &mut self.transaction {
            transaction.rcpt_discarded = true;
        }
        let why = log.map_or_else(String::new, |log| format!(": {log}"));
        let line = format!("{} F=<{}> RCPT {path}: discarded by {by}{why}", self.peer(true), self.sender());
        self.log_rejection(&line);
        self.reply_accepted(250, answer, "Accepted")
    }
}
