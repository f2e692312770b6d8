//! The command loop of one connection.
//!
//! A command is checked for synchronisation and counted here; its own `cmd_*` file does the rest and
//! says whether the session goes on ([`Next`]). Everything a peer hears comes from [`Session::reply`].

use super::command::{Command, Verb};
use super::limits::Counts;
use super::stream::Connection;
use super::transaction::{Rejections, Transaction};
use super::wire::{NoLine, Wire};
use super::{LocalCall, Server};
use crate::acl::{Answer, Place, Runner, peer};
use crate::expand::context::Context;
use crate::expand::printing;
use crate::expand::{ExpandError, expand};
use crate::log::line::show_time;
use crate::log::{Selector, Which};
use crate::mail::{Address, Reply};
use crate::matching::{self, HostSubject, Match, MatchError};
use bstr::{BStr, BString, ByteSlice};
use std::time::{Duration, Instant};

/// What follows a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The next command.
    Command,
    /// The end, after QUIT.
    Quit,
    /// The end, without QUIT: the value of `$smtp_notquit_reason`; empty: the not-QUIT ACL is not run.
    Close(&'static str),
}

/// One connection.
pub struct Session<'s, 'h> {
    pub(super) server: &'s Server,
    pub(super) runner: &'h Runner<'s>,
    pub(super) context: Context<'h>,
    pub(super) wire: Wire<'s>,
    pub(super) counts: Counts,
    /// How `-bs` was called; none over TCP.
    pub(super) local: Option<LocalCall>,
    /// TLS comes before the banner.
    pub(super) tls_on_connect: bool,
    /// From the daemon: accepted messages are only queued.
    pub(super) queue_only: bool,
    /// `-G`
    pub(super) suppress_fixups: bool,
    /// `message_size_limit`, expanded for this connection; 0: none.
    pub(super) size_limit: u64,
    /// `recipients_max`, expanded; 0: none.
    pub(super) recipients_max: usize,
    /// HELO or EHLO was accepted.
    pub(super) greeted: bool,
    /// The last greeting was EHLO.
    pub(super) esmtp: bool,
    pub(super) pipelining_advertised: bool,
    /// A command came before the answer to the one before it, as the extension allows.
    pub(super) pipelining_used: bool,
    pub(super) tls_advertised: bool,
    /// Between MAIL and the end of the message.
    pub(super) transaction: Option<Transaction>,
    /// The errors that RCPT commands got since MAIL.
    pub(super) rejections: Rejections,
    /// MAIL was rejected, and nothing but RCPT came since: they were sent with it and are no errors of their own.
    pub(super) mail_was_rejected: bool,
    /// The last command was RCPT.
    pub(super) last_was_rcpt: bool,
    /// The banner was sent.
    pub(super) welcomed: bool,
    /// A MAIL command came.
    mail_was_seen: bool,
    pub(super) started: Instant,
}

impl<'s, 'h> Session<'s, 'h> {
    /// A session that has not begun; `context.session` tells the peer.
    pub fn new(
        server: &'s Server,
        runner: &'h Runner<'s>,
        connection: Connection,
        context: Context<'h>,
    ) -> Self {
        Self {
            server,
            runner,
            wire: Wire::new(connection, RECEIVE_TIME, &server.stop),
            context,
            counts: Counts::default(),
            local: None,
            tls_on_connect: false,
            queue_only: false,
            suppress_fixups: false,
            size_limit: 0,
            recipients_max: 0,
            greeted: false,
            esmtp: false,
            pipelining_advertised: false,
            pipelining_used: false,
            tls_advertised: false,
            transaction: None,
            rejections: Rejections::default(),
            mail_was_rejected: false,
            last_was_rcpt: false,
            welcomed: false,
            mail_was_seen: false,
            started: Instant::now(),
        }
    }

    /// Greeting, commands, end.
    pub fn run(&mut self) -> Next {
        let mut next = self.greet();
        while next == Next::Command {
            next = self.next_command();
        }
        if let Next::Close(reason) = next {
            self.run_notquit(reason);
        }
        self.log_no_mail();
        // nobody is left to hear of an error
        let _ = self.wire.flush();
        self.wire.connection.transport().close();
        next
    }

    fn next_command(&mut self) -> Next {
        let (line, too_long) = match self.wire.read_line() {
            Ok(line) => line,
            Err(fault) => return self.end_without_line(&fault),
        };
        let has_nul = line.find_byte(0).is_some();
        let line = if has_nul { line.replace("\0", "?").into() } else { line };
        let command = Command::parse(&line);
        self.set_command_variables(&command);
        if has_nul {
            let text = "NUL characters are not allowed in SMTP commands";
            let logged = "NUL character(s) present (shown as '?')";
            return self.synprot_error(&command, "syntax", 501, text, logged);
        }
        if too_long {
            return self.syntax_error(&command, 500, "Line too long");
        }
        if self.is_out_of_step(&command) {
            return self.reject_out_of_step(&command);
        }
        if command.has_bad_argument() {
            return self.syntax_error(&command, 501, "unexpected argument data");
        }
        if command.verb != Verb::Unknown {
            self.counts.remember(command.word());
            self.context.session.smtp_command_history = self.counts.history().into();
        }
        if let Some(next) = self.count_nonmail(&command) {
            return next;
        }
        let last_was_rcpt = std::mem::replace(
            &mut self.last_was_rcpt,
            command.verb == Verb::Rcpt && (self.transaction.is_some() || self.mail_was_rejected),
        );
        self.mail_was_seen |= command.verb == Verb::Mail;
        self.mail_was_rejected &= command.verb == Verb::Rcpt;
        match command.verb {
            Verb::Helo | Verb::Ehlo => self.helo(&command),
            Verb::Mail => {
                let had_sender = self.transaction.is_some();
                let next = self.mail(&command);
                self.mail_was_rejected = !had_sender && self.transaction.is_none();
                next
            }
            Verb::Rcpt => self.rcpt(&command),
            Verb::Data => self.data(&command, last_was_rcpt),
            Verb::Rset => self.rset(),
            Verb::Noop => self.reply(&Reply::new(250, "OK")),
            Verb::Help => self.help(),
            Verb::Quit => self.quit(),
            Verb::Vrfy => self.vrfy(&command),
            Verb::Expn => self.expn(&command),
            Verb::Etrn => self.etrn(&command),
            Verb::Starttls => self.starttls(&command),
            Verb::Auth => self.protocol_error(&command, 503, "AUTH command used when not advertised"),
            Verb::Bdat => {
                self.protocol_error(&command, 503, "BDAT command used when CHUNKING not advertised")
            }
            Verb::Unknown => self.unknown(&command),
        }
    }

    /// Sends a reply: at once only if nothing more has come (RFC 2920 section 3.2).
    pub(super) fn reply(&mut self, reply: &Reply) -> Next {
        match self.wire.send(&reply.to_wire()) {
            Ok(()) => Next::Command,
            Err(_) => Next::Close("connection-lost"),
        }
    }

    /// Sends a reply and ends the session.
    pub(super) fn reply_and_close(&mut self, reply: &Reply, reason: &'static str) -> Next {
        match self.reply(reply) {
            Next::Command => Next::Close(reason),
            other => other,
        }
    }

    /// Runs the ACL of a place. Replies that were held back go first if an ACL may wait, so that small delays do not
    /// add up to one that the peer does not bear.
    pub(super) fn ask_acl(&mut self, place: Place, recipient: Option<&Address>) -> Option<Answer> {
        if self.server.acls.may_delay() && !self.runner.session_effects().no_delay_flush {
            // a connection that is lost is seen at the next reply
            let _ = self.wire.flush();
        }
        self.runner.run_option(&mut self.context, place, recipient)
    }

    /// The peer as log lines name it.
    pub(super) fn peer(&self, label: bool) -> BString {
        peer::host_and_ident(&self.context.session.origin, self.context.globals.log.selectors(), label)
    }

    pub(super) fn log(&self, which: Which, line: &str) {
        self.context.globals.log.write(which, line.as_bytes().as_bstr());
    }

    /// Selector `smtp_connection`: a connection begins, with how many there are.
    pub(super) fn log_connection(&self, count: u32) {
        if self.wants(Selector::SmtpConnection) {
            let peer = self.peer(false);
            self.log_optional(
                Selector::SmtpConnection,
                &format!("SMTP connection from {peer} (TCP/IP connection count = {count})"),
            );
        }
    }

    /// The same for a caller of `-bs`.
    pub(super) fn log_local_connection(&self) {
        let line = format!("SMTP connection from {}", self.peer(false));
        self.log_optional(Selector::SmtpConnection, &line);
    }

    /// Main and panic log.
    pub(super) fn log_panic(&self, line: &str) {
        self.context.globals.log.panic(line.as_bytes().as_bstr());
    }

    /// Main and reject log.
    pub(super) fn log_rejection(&self, line: &str) {
        self.context.globals.log.rejected(line.as_bytes().as_bstr());
    }

    /// An address without a domain: in the reject log always, in the main log if syntax errors are.
    pub(super) fn log_unqualified(&self, what: &str, address: &Address) {
        let line = format!("unqualified {what} rejected: <{}> {}", address.to_bytes(), self.peer(true));
        self.log_optional(Selector::SmtpSyntaxError, &line);
        self.log(Which::Reject, &line);
    }

    /// Is the peer in the host list of this main option? A list that cannot be tested counts as no match,
    /// and says so in the main log.
    pub(super) fn host_in(&self, option: &str) -> bool {
        self.ask_host_list(option).unwrap_or(false)
    }

    /// The same; none if the list cannot be tested.
    pub(super) fn ask_host_list(&self, option: &str) -> Option<bool> {
        let Some(list) = self.context.globals.main.text(option) else { return Some(false) };
        if list.text().is_empty() {
            return Some(false);
        }
        let origin = &self.context.session.origin;
        let host = HostSubject { address: origin.host.map(|host| host.ip()), name: origin.host_name.clone() };
        match matching::host(&self.context, &host, list) {
            Ok(Match::Yes(_)) => Some(true),
            Ok(Match::No) => Some(false),
            Err(MatchError::Unexpanded) => None, // the panic log has it
            Err(error) => {
                self.log(
                    Which::Main,
                    &format!("host list \"{option}\" cannot be tested for {}: {error}", self.peer(false)),
                );
                None
            }
        }
    }

    /// An option that is expanded to a number with K, M or G; an error is for the log.
    pub(super) fn expand_number(&self, option: &str) -> Result<u64, String> {
        let main = &self.context.globals.main;
        let Some(template) = main.text(option) else { return Ok(main.int(option).max(0).cast_unsigned()) };
        match expand(template, &self.context) {
            Ok(value) => parse_number(value.bytes())
                .ok_or_else(|| format!("bad value for {option}: \"{}\"", value.bytes())),
            Err(ExpandError::Forced(_)) => Ok(0),
            Err(error) => Err(format!("failed to expand {option}: {error}")),
        }
    }

    /// The SMTP host name of this session.
    pub(super) fn active_hostname(&self) -> BString {
        let name = &self.context.session.smtp_active_hostname;
        if name.is_empty() { self.context.globals.primary_hostname.clone() } else { name.clone() }
    }

    pub(super) fn is_tcp(&self) -> bool {
        self.local.is_none()
    }

    /// The messages come from another host, or (`-bs` with `-oMa`) are said to.
    pub(super) fn is_remote(&self) -> bool {
        self.context.session.origin.host.is_some()
    }

    /// Whether an address without domain gets one: by a local caller without `-bnq`, or by a peer of this list.
    pub(super) fn qualifies(&self, hosts: &str) -> bool {
        let by_caller = self.local.as_ref().is_some_and(|local| !self.is_remote() && !local.no_qualify);
        by_caller || (self.is_remote() && self.host_in(hosts))
    }

    fn set_command_variables(&mut self, command: &Command) {
        let session = &mut self.context.session;
        session.smtp_command = command.line.into();
        session.smtp_command_argument = command.argument.into();
    }

    /// The peer sent something before it could know our answer.
    fn is_out_of_step(&mut self, command: &Command) -> bool {
        let pipelined = self.pipelining_advertised && command.may_be_followed();
        self.pipelining_used |= pipelined && !self.wire.unread().is_empty();
        self.enforces_sync() && self.is_tcp() && !pipelined && self.wire.has_input()
    }

    pub(super) fn enforces_sync(&self) -> bool {
        let set = self.runner.session_effects().enforce_sync;
        set.unwrap_or_else(|| self.context.globals.main.bool("smtp_enforce_sync"))
    }

    /// Input before the banner.
    pub(super) fn reject_early_talk(&mut self) -> Next {
        let shown = printable(&self.wire.unread()[..self.wire.unread().len().min(INPUT_SHOWN)]);
        let peer = self.peer(true);
        self.log_rejection(&format!(
            "SMTP protocol synchronization error (input sent without waiting for greeting): \
             rejected connection from {peer} input=\"{shown}\""
        ));
        self.reply_and_close(&Reply::new(554, "SMTP synchronization error"), "")
    }

    fn reject_out_of_step(&mut self, command: &Command) -> Next {
        let was = if self.pipelining_advertised { "was" } else { "was not" };
        let shown = printable(&self.wire.unread()[..self.wire.unread().len().min(INPUT_SHOWN)]);
        let peer = self.peer(true);
        self.log_rejection(&format!(
            "SMTP protocol synchronization error (next input sent too soon: pipelining {was} advertised): \
             rejected \"{}\" {peer} next input=\"{shown}\"",
            self.shown(command.line)
        ));
        self.reply_and_close(&Reply::new(554, "SMTP synchronization error"), "synchronization-error")
    }

    fn end_without_line(&mut self, fault: &NoLine) -> Next {
        match fault {
            NoLine::Lost => self.end_lost(),
            NoLine::TimedOut => {
                let peer = self.peer(false);
                self.log_optional(
                    Selector::LostIncomingConnection,
                    &format!("SMTP command timeout on connection from {peer}"),
                );
                self.log_incomplete("command timeout");
                let text = format!("{}: SMTP command timeout - closing connection", self.active_hostname());
                self.reply_and_close(&Reply::new(421, text), "command-timeout")
            }
            NoLine::Stopping => {
                self.log(Which::Main, &format!("SMTP call from {} closed: shutting down", self.peer(false)));
                self.close_421("Service not available - closing connection", "signal-exit")
            }
        }
    }

    /// Says why TLS could not be read any more, if that is how the peer was lost. `about` is a message's id and a space.
    pub(super) fn log_tls_fault(&mut self, about: &str) {
        if let Some(fault) = self.wire.tls_fault.take() {
            let line = format!("{about}TLS error on connection from {} (recv): {fault}", self.peer(false));
            self.log(Which::Main, &line);
        }
    }

    /// The peer is gone without QUIT. Outside a transaction that is no incident: some clients never say QUIT. A
    /// local caller that still listens hears it.
    fn end_lost(&mut self) -> Next {
        let within = self.transaction.is_some();
        self.log_tls_fault("");
        self.log_incomplete("connection lost");
        self.run_notquit("connection-lost");
        let peer = self.peer(false);
        let took = self.duration();
        if within {
            let what = if self.is_tcp() { "disconnection" } else { "EOF" };
            let line = format!("unexpected {what} while reading SMTP command from {peer} D={took}");
            self.log_optional(Selector::LostIncomingConnection, &line);
        } else {
            let line = format!("SMTP connection from {peer} lost D={took}");
            self.log_optional(Selector::SmtpConnection, &line);
        }
        if self.is_tcp() { Next::Close("") } else { self.close_421("lost input connection", "") }
    }

    /// What the peer said, as a log line shows it. With `print_topbitchars` bytes over 127 stay as they are, where they
    /// are UTF-8.
    pub(super) fn shown(&self, text: &[u8]) -> BString {
        let top_bit_prints = self.context.globals.main.bool("print_topbitchars") && text.to_str().is_ok();
        printing(text, top_bit_prints)
    }

    /// Whether a line of this selector has a reader.
    pub(super) fn wants(&self, selector: Selector) -> bool {
        self.context.globals.log.wants(selector)
    }

    /// A line of the main log that is written if it is selected.
    pub(super) fn log_optional(&self, selector: Selector, line: &str) {
        self.context.globals.log.optional(selector, Which::Main, line.as_bytes().as_bstr());
    }

    /// `D=`: how long the session has lasted.
    fn duration(&self) -> String {
        show_time(self.started.elapsed(), self.context.globals.log.selectors().has(Selector::Millisec))
    }

    /// `smtp_incomplete_transaction`: a transaction ends without its message.
    pub(super) fn log_incomplete(&self, why: &str) {
        let Some(transaction) =
            self.transaction.as_ref().filter(|_| self.wants(Selector::SmtpIncompleteTransaction))
        else {
            return;
        };
        let mut line =
            format!("{} incomplete transaction ({why}) from <{}>", self.peer(true), transaction.sender);
        for (i, recipient) in transaction.recipients.iter().enumerate() {
            line.push_str(if i == 0 { " for " } else { " " });
            line.push_str(&recipient.address.to_string());
        }
        self.log_optional(Selector::SmtpIncompleteTransaction, &line);
    }

    /// `smtp_no_mail`: a connection that was welcome ends without a MAIL command.
    fn log_no_mail(&self) {
        if !self.welcomed
            || self.mail_was_seen
            || !self.wants(Selector::SmtpNoMail)
            || self.host_in("hosts_connection_nolog")
        {
            return;
        }
        let history = self.counts.history();
        let commands = if history.is_empty() { String::new() } else { format!(" C={history}") };
        let took = self.duration();
        self.log_optional(
            Selector::SmtpNoMail,
            &format!("no MAIL in SMTP connection from {} D={took}{commands}", self.peer(false)),
        );
    }

    /// `421 <host> text`
    pub(super) fn close_421(&mut self, text: &str, reason: &'static str) -> Next {
        let host = self.active_hostname();
        self.reply_and_close(&Reply::new(421, format!("{host} {text}")), reason)
    }

    pub(super) fn run_notquit(&mut self, reason: &'static str) {
        if reason.is_empty() {
            return;
        }
        self.context.session.notquit_reason = reason.into();
        let _ = self.ask_acl(Place::Notquit, None);
    }
}

/// Time for a line until the option is expanded, and if it says 0: a peer must not hold a thread for ever.
pub(super) const RECEIVE_TIME: Duration = Duration::from_secs(300);
/// Bytes of unexpected input that the log shows.
const INPUT_SHOWN: usize = 150;

/// With `\r`, `\n` and octal escapes, as Exim's log shows input.
pub(super) fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'\r' => text.push_str("\\r"),
            b'\n' => text.push_str("\\n"),
            b'\t' => text.push_str("\\t"),
            b' '..=b'~' => text.push(char::from(*byte)),
            other => text.push_str(&format!("\\{other:03o}")),
        }
    }
    text
}

/// Digits with K, M or G; empty is 0.
fn parse_number(text: &BStr) -> Option<u64> {
    let text = text.trim();
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    if digits == 0 {
        return text.is_empty().then_some(0);
    }
    let number: u64 = text[..digits].to_str().ok()?.parse().ok()?;
    let factor = match &text[digits..] {
        b"" => 1,
        b"k" | b"K" => 1 << 10,
        b"m" | b"M" => 1 << 20,
        b"g" | b"G" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}
