//! MAIL FROM (RFC 5321 section 4.1.1.2) with SIZE (RFC 1870) and BODY (RFC 6152).

use super::command::Command;
use super::session::{Next, Session};
use super::transaction::Transaction;
use crate::acl::{Place, Verdict};
use crate::log::Which;
use crate::mail::address_parse::{Syntax, parse_address};
use crate::mail::{Address, Reply};
use crate::matching;
use crate::spool::space;
use crate::text::Value;
use bstr::{BStr, ByteSlice};
use std::time::SystemTime;

/// A declared size from here on is shown as `>=` this: Exim keeps it in an int.
const SIZE_SHOWN_MAX: u64 = 0x7fff_ffff;

/// Parameters of MAIL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Parameters {
    size: Option<u64>,
    body: u8,
}

impl Session<'_, '_> {
    pub(super) fn mail(&mut self, command: &Command) -> Next {
        self.counts.mails += 1;
        if let Some(next) = self.check_mail_allowed(command) {
            return next;
        }
        let (path, parameters) = match self.cut_parameters(command.argument) {
            Ok(cut) => cut,
            Err(fault) => return self.syntax_error(command, 501, fault),
        };
        let sender = match self.read_sender(command, path) {
            Ok(sender) => sender,
            Err(next) => return next,
        };
        if let Some(next) = self.check_size(&sender, parameters.size) {
            return next;
        }
        self.begin_transaction(sender, parameters);
        let answer = self.ask_acl(Place::Mail, None);
        match answer {
            Some(answer) if answer.verdict == Verdict::Discard => {
                if let Some(transaction) = &mut self.transaction {
                    transaction.discarded =
                        Some(answer.log_message.clone().or_else(|| answer.message.clone()));
                }
                self.reply_accepted(250, Some(&answer), "OK")
            }
            Some(answer) if answer.verdict != Verdict::Accept => {
                let what = bstr::concat([&b"MAIL "[..], path]);
                self.reset_transaction();
                self.reject(Place::Mail, &answer, &what)
            }
            answer => self.reply_accepted(250, answer.as_ref(), "OK"),
        }
    }

    fn check_mail_allowed(&mut self, command: &Command) -> Option<Next> {
        if !self.greeted && self.host_in("hosts_require_helo") {
            self.log_rejection(&format!("rejected MAIL from {}: no HELO/EHLO given", self.peer(false)));
            return Some(self.reply(&Reply::new(503, "HELO or EHLO required")));
        }
        if self.transaction.is_some() {
            return Some(self.protocol_error(command, 503, "sender already given"));
        }
        if command.argument.is_empty() {
            return Some(self.protocol_error(command, 501, "MAIL must have an address operand"));
        }
        let limit = match self.expand_number("smtp_accept_max_per_connection") {
            Ok(limit) => limit,
            Err(why) => {
                self.log_panic(&why);
                return Some(self.reply(&Reply::new(451, "Temporary local problem - please try later")));
            }
        };
        if limit > 0 && self.counts.mails > limit && self.is_tcp() {
            let peer = self.peer(true);
            self.log_rejection(&format!("rejected MAIL command {peer}: too many messages in one connection"));
            return Some(self.reply(&Reply::new(421, "too many messages in this connection")));
        }
        None
    }

    /// Takes known parameters off the end, as Exim does, after EHLO; what it does not know is left for the address
    /// parser to complain about. The error is what the peer hears.
    fn cut_parameters<'a>(&self, argument: &'a BStr) -> Result<(&'a BStr, Parameters), &'static str> {
        let mut rest = argument;
        let mut parameters = Parameters::default();
        if !self.esmtp {
            return Ok((rest, parameters));
        }
        while let Some(space) = rest.rfind_byteset(b" \t") {
            let (name, value) = rest[space + 1..].split_once_str("=").unwrap_or((&rest[space + 1..], b""));
            match name.to_ascii_uppercase().as_slice() {
                b"SIZE" => parameters.size = Some(size_of(value)),
                b"BODY" if self.context.globals.main.bool("accept_8bitmime") => {
                    match value.to_ascii_uppercase().as_slice() {
                        b"8BITMIME" => parameters.body = 8,
                        b"7BIT" => parameters.body = 7,
                        b"" => {}
                        _ => return Err("invalid data for BODY"),
                    }
                }
                b"SMTPUTF8" => return Err("SMTPUTF8 used when not advertised"),
                // Of DSN and AUTH, which are not advertised.
                b"RET" | b"ENVID" | b"AUTH" if rest[space + 1..].contains(&b'=') => {}
                _ => break,
            }
            rest = rest[..space].trim_end().as_bstr();
        }
        Ok((rest, parameters))
    }

    fn read_sender(&mut self, command: &Command, path: &BStr) -> Result<Address, Next> {
        let syntax = Syntax { null: true, ..self.address_syntax() };
        let address = match parse_address(path, syntax) {
            Ok(parsed) => parsed.address,
            Err(error) => {
                let text = format!("{path}: {}", error.message);
                return Err(self.synprot_error(command, "syntax", 501, &text, &error.message.to_str_lossy()));
            }
        };
        if address.is_null() || !address.domain().is_empty() {
            return Ok(address);
        }
        if self.qualifies("sender_unqualified_hosts") {
            return Ok(Address::new(address.local_part(), self.context.globals.qualify_domain.clone()));
        }
        self.log_unqualified("sender", &address);
        let text = format!("{path}: sender address must contain a domain");
        Err(self.reply(&Reply::new(501, text)))
    }

    /// `-bs` by a caller who is not trusted: the sender is the caller whatever MAIL says (`<>` too), unless
    /// `untrusted_set_sender` allows it (spec, option `-bs`). The ACLs before the message see what MAIL said.
    pub(super) fn sender_of_caller(&self, given: Address) -> Address {
        let Some(local) = self.local.as_ref().filter(|local| !local.caller.trusted) else { return given };
        let globals = &self.context.globals;
        let listed = globals.main.text("untrusted_set_sender").filter(|list| !list.text().is_empty());
        let address = Value::tainted(given.to_bytes());
        let allowed = listed.is_some_and(|list| {
            matching::address(&self.context, &address, list).is_ok_and(|answer| answer.is_yes())
        });
        if allowed { given } else { Address::new(local.caller.login.clone(), globals.qualify_domain.clone()) }
    }

    /// The declared size against the limit; the spool must have room for it besides what `check_spool_space` asks for.
    fn check_size(&mut self, sender: &Address, size: Option<u64>) -> Option<Next> {
        let declared = size.unwrap_or(0);
        if self.size_limit > 0 && declared > self.size_limit {
            let shown = if declared >= SIZE_SHOWN_MAX { ">=" } else { "=" };
            self.log_rejection(&format!(
                "rejected MAIL FROM:<{sender}> {}: message too big: size{shown}{} max={}",
                self.peer(true),
                declared.min(SIZE_SHOWN_MAX),
                self.size_limit
            ));
            return Some(self.reply(&Reply::new(552, "Message size exceeds maximum permitted")));
        }
        let main = &self.context.globals.main;
        let number = |name: &str| main.int(name).max(0).cast_unsigned();
        let counted = if main.bool("smtp_check_spool_space") { declared } else { 0 };
        let kilobytes = number("check_spool_space").saturating_add(counted.div_ceil(1024));
        let spool = &self.context.globals.spool_directory;
        let lacking = space::lacking(spool, kilobytes, number("check_spool_inodes"))?;
        self.log(Which::Main, &lacking.to_string());
        Some(self.reply(&Reply::new(452, "Space shortage, please try later")))
    }

    fn begin_transaction(&mut self, sender: Address, parameters: Parameters) {
        self.runner.reset_message(&self.context);
        let mut transaction = Transaction::new(sender.clone(), SystemTime::now());
        transaction.body_8bitmime = parameters.body;
        self.transaction = Some(transaction);
        self.context.message = crate::expand::context::MessageVars {
            sender: Some(sender),
            size: parameters.size.unwrap_or(0),
            ..Default::default()
        };
        let session = &mut self.context.session;
        (session.rcpt_count, session.rcpt_defer_count, session.rcpt_fail_count) = (0, 0, 0);
    }

    /// What address syntax the options allow.
    pub(super) fn address_syntax(&self) -> Syntax {
        let main = &self.context.globals.main;
        Syntax {
            domain_literals: main.bool("allow_domain_literals"),
            utf8_domains: main.bool("allow_utf8_domains"),
            strip_trailing_dot: main.bool("strip_trailing_dot"),
            null: false,
        }
    }
}

/// The number that the value begins with, as Exim reads it: nothing is 0, and what is below zero or does not fit is more
/// than any limit.
fn size_of(value: &[u8]) -> u64 {
    let digits: Vec<u8> = value.iter().copied().take_while(u8::is_ascii_digit).collect();
    match digits.to_str() {
        Ok("") if value.starts_with(b"-") => u64::MAX,
        Ok("") => 0,
        digits => digits.ok().and_then(|digits| digits.parse().ok()).unwrap_or(u64::MAX),
    }
}
