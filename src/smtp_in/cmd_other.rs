//! RSET, HELP, QUIT, VRFY, EXPN and ETRN.

use super::command::Command;
use super::reject::denial;
use super::session::{Next, Session};
use super::transaction::Rejections;
use crate::acl::{Answer, Place, Verdict};
use crate::expand::context::MessageVars;
use crate::log::{Selector, Which};
use crate::mail::Address;
use crate::mail::Reply;
use crate::mail::address_parse::parse_address;
use crate::text::Value;
use crate::upward::Verified;

impl Session<'_, '_> {
    pub(super) fn rset(&mut self) -> Next {
        self.log_incomplete("RSET");
        self.reset_transaction();
        self.reply(&Reply::new(250, "Reset OK"))
    }

    pub(super) fn help(&mut self) -> Next {
        // AUTH and BDAT are named, and refused as not advertised, as Exim does
        let has_tls = self.server.tls.is_some() && self.host_in("tls_advertise_hosts");
        let tls = if has_tls { " STARTTLS" } else { "" };
        let mut text =
            format!("Commands supported:\nAUTH{tls} HELO EHLO MAIL RCPT DATA BDAT NOOP QUIT RSET HELP");
        if self.context.globals.main.written("acl_smtp_vrfy").is_some() {
            text.push_str(" VRFY");
        }
        self.reply(&Reply::new(214, text))
    }

    pub(super) fn quit(&mut self) -> Next {
        self.log_incomplete("QUIT");
        let answer = self.ask_acl(Place::Quit, None);
        if let Some(answer) = answer.as_ref().filter(|answer| answer.verdict == Verdict::Error) {
            let why = answer.log_message.clone().unwrap_or_default();
            self.log_panic(&format!("ACL for QUIT returned ERROR: {why}"));
        }
        let text = match answer.and_then(|answer| answer.message) {
            Some(message) => self.word(221, &message).reply.text,
            None => format!("{} closing connection", self.active_hostname()).into(),
        };
        let next = self.reply(&Reply::new(221, text));
        let line = format!("SMTP connection from {} closed by QUIT", self.peer(false));
        self.log_optional(Selector::SmtpConnection, &line);
        if next == Next::Command { Next::Quit } else { next }
    }

    pub(super) fn vrfy(&mut self, command: &Command) -> Next {
        let text = command.argument;
        let address = match parse_address(text, self.address_syntax()) {
            Ok(parsed) => parsed.address,
            Err(error) => return self.reply(&Reply::new(501, error.message)),
        };
        let address = if !address.domain().is_empty() {
            address
        } else if self.qualifies("recipient_unqualified_hosts") {
            Address::new(address.local_part(), self.context.globals.qualify_recipient.clone())
        } else {
            self.log_unqualified("verify", &address);
            return self.reply(&Reply::new(501, format!("{text}: recipient address must contain a domain")));
        };
        let local_part = address.unquoted_local_part().to_ascii_lowercase();
        self.context.address.local_part = Some(Value::tainted(local_part));
        self.context.address.domain = Some(Value::tainted(address.lower_domain()));
        let answer = self.ask_acl(Place::Vrfy, Some(&address));
        self.context.address = Default::default();
        match answer {
            Some(answer) if matches!(answer.verdict, Verdict::Accept | Verdict::Discard) => {
                self.answer_vrfy(&address)
            }
            answer => self.refuse_vrfy(answer.as_ref(), command),
        }
    }

    /// 252 unless the ACL has an own code: clients that VRFY before each RCPT are not stopped.
    fn refuse_vrfy(&mut self, answer: Option<&Answer>, command: &Command) -> Next {
        let denied = denial();
        let answer = answer.unwrap_or(&denied);
        let what = bstr::concat([&b"VRFY "[..], command.argument]);
        let reply = self.log_and_word_rejection(answer, &what, "", false);
        let has_code = answer.message.as_ref().is_some_and(|message| message.starts_with(b"5"));
        let code = if has_code || reply.is_temporary() { reply.code } else { 252 };
        let reply = Reply::new(code, reply.text);
        if answer.verdict == Verdict::Drop { self.drop_connection(&reply) } else { self.reply(&reply) }
    }

    fn answer_vrfy(&mut self, address: &Address) -> Next {
        let reply = match self.server.verifier.verify(&self.context, address, false) {
            Verified::Ok { .. } => Reply::new(250, format!("<{address}> is deliverable")),
            Verified::Deferred { message, .. } => {
                Reply::new(451, format!("<{address}> cannot be resolved at this time: {message}"))
            }
            Verified::Failed { message, .. } => {
                let line = format!("VRFY failed for {address} {}", self.peer(true));
                self.log(Which::Main, &line);
                Reply::new(550, format!("<{address}> {message}"))
            }
        };
        self.reply(&reply)
    }

    pub(super) fn expn(&mut self, command: &Command) -> Next {
        self.reject(Place::Expn, &denial(), &bstr::concat([&b"EXPN "[..], command.argument]))
    }

    pub(super) fn etrn(&mut self, command: &Command) -> Next {
        if self.transaction.is_some() {
            return self.protocol_error(command, 503, "ETRN is not permitted inside a transaction");
        }
        let line = format!("ETRN {} received from {}", command.argument, self.peer(false));
        self.log_optional(Selector::Etrn, &line);
        let reply = self.log_and_word_rejection(
            &denial(),
            &bstr::concat([&b"ETRN "[..], command.argument]),
            "",
            false,
        );
        self.reply(&Reply::new(458, reply.text))
    }

    /// Forgets the transaction and what ACLs set for it.
    pub(super) fn reset_transaction(&mut self) {
        self.transaction = None;
        self.rejections = Rejections::default();
        self.mail_was_rejected = false;
        self.context.message = MessageVars::default();
        self.runner.reset_message(&self.context);
    }
}
