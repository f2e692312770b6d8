//! What a peer may do in one session: counts of errors, of unknown and of non-mail commands, of messages.
//!
//! Specification: sections "Unrecognized SMTP commands", "Syntax and protocol errors in SMTP commands",
//! "Use of non-mail SMTP commands".

use super::command::{Command, Verb};
use super::session::{Next, Session};
use crate::log::Selector;
use crate::mail::Reply;
use std::collections::VecDeque;

/// Commands that `$smtp_command_history` and the log show.
const HISTORY_MAX: usize = 20;

/// Counts of one session.
#[derive(Debug)]
pub struct Counts {
    synprot: i64,
    unknown: i64,
    nonmail: i64,
    /// MAIL commands.
    pub mails: u64,
    /// Messages that came in, accepted or not.
    pub messages: u64,
    history: VecDeque<&'static str>,
    forgotten: bool,
    /// One of each is not counted between messages.
    free_rset: bool,
    free_helo: bool,
    free_starttls: bool,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            synprot: 0,
            unknown: 0,
            nonmail: 0,
            mails: 0,
            messages: 0,
            history: VecDeque::new(),
            forgotten: false,
            free_rset: true,
            free_helo: true,
            free_starttls: true,
        }
    }
}

impl Counts {
    /// Keeps a command for the history.
    pub fn remember(&mut self, word: &'static str) {
        self.history.push_back(word);
        if self.history.len() > HISTORY_MAX {
            self.history.pop_front();
            self.forgotten = true;
        }
    }

    /// `EHLO,MAIL,RCPT`; with `...` before it if there were more.
    pub fn history(&self) -> String {
        let words: Vec<&str> = self.history.iter().copied().collect();
        format!("{}{}", if self.forgotten { "..." } else { "" }, words.join(","))
    }

    /// A message came in: the next one may be prepared for.
    pub fn message_done(&mut self) {
        self.messages += 1;
        self.free_rset = true;
        self.free_helo = true;
        self.free_starttls = true;
    }

    /// TLS was started: another EHLO is expected.
    pub fn tls_started(&mut self) {
        self.free_helo = true;
    }

    fn is_free(&mut self, verb: Verb) -> bool {
        match verb {
            Verb::Rset => std::mem::take(&mut self.free_rset),
            Verb::Helo | Verb::Ehlo => std::mem::take(&mut self.free_helo),
            Verb::Starttls => std::mem::take(&mut self.free_starttls),
            _ => false,
        }
    }
}

impl Session<'_, '_> {
    /// Counts a command outside mail transactions; too many end the session.
    pub(super) fn count_nonmail(&mut self, command: &Command) -> Option<Next> {
        if !command.is_nonmail() || self.counts.is_free(command.verb) {
            return None;
        }
        self.counts.nonmail += 1;
        let main = &self.context.globals.main;
        if self.counts.nonmail <= main.int("smtp_accept_max_nonmail") || !self.is_tcp() {
            return None;
        }
        if !self.host_in("smtp_accept_max_nonmail_hosts") {
            return None;
        }
        self.log_rejection(&format!(
            "SMTP call from {} dropped: too many nonmail commands (last was \"{}\")",
            self.peer(false),
            self.shown(command.line)
        ));
        Some(self.reply_and_close(&Reply::new(554, "Too many nonmail commands"), "bad-commands"))
    }

    /// A command with a fault in its form.
    pub(super) fn syntax_error(&mut self, command: &Command, code: u16, text: &str) -> Next {
        self.synprot_error(command, "syntax", code, text, text)
    }

    /// A command that cannot come now.
    pub(super) fn protocol_error(&mut self, command: &Command, code: u16, text: &str) -> Next {
        self.synprot_error(command, "protocol", code, text, text)
    }

    /// Logs (if selected), answers, counts; too many end the session. `logged` is without the command's data.
    pub(super) fn synprot_error(
        &mut self,
        command: &Command,
        kind: &'static str,
        code: u16,
        text: &str,
        logged: &str,
    ) -> Next {
        self.log_command_error(command, kind, logged);
        self.count_error(command, &Reply::new(code, text))
    }

    fn log_command_error(&self, command: &Command, kind: &'static str, logged: &str) {
        let selector = if kind == "syntax" { Selector::SmtpSyntaxError } else { Selector::SmtpProtocolError };
        if self.wants(selector) {
            let said = self.shown(command.line);
            let line = format!("SMTP {kind} error in \"{said}\" {} {logged}", self.peer(true));
            self.log_optional(selector, &line);
        }
    }

    /// Answers an error that was logged already, and counts it.
    pub(super) fn count_error(&mut self, command: &Command, reply: &Reply) -> Next {
        if !self.is_one_too_many(command) {
            return self.reply(reply);
        }
        let text = format!("{}\nToo many syntax or protocol errors", reply.text);
        self.reply_and_close(&Reply::new(reply.code, text), "bad-commands")
    }

    /// The same, but the last reply does not say why the session ends (HELO).
    pub(super) fn count_quietly(&mut self, command: &Command, reply: &Reply) -> Next {
        if self.is_one_too_many(command) {
            self.reply_and_close(reply, "bad-commands")
        } else {
            self.reply(reply)
        }
    }

    fn is_one_too_many(&mut self, command: &Command) -> bool {
        self.counts.synprot += 1;
        let too_many = self.counts.synprot > self.context.globals.main.int("smtp_max_synprot_errors");
        if too_many {
            self.log_rejection(&format!(
                "SMTP call from {} dropped: too many syntax or protocol errors (last command was \"{}\",  C={})",
                self.peer(false),
                self.shown(command.line),
                self.counts.history()
            ));
        }
        too_many
    }

    /// A verb that nobody knows.
    pub(super) fn unknown(&mut self, command: &Command) -> Next {
        self.counts.unknown += 1;
        if self.counts.unknown > self.context.globals.main.int("smtp_max_unknown_commands") {
            self.log_command_error(command, "syntax", "unrecognized command");
            self.log_incomplete("unrecognized command");
            self.run_notquit("bad-commands");
            self.log_rejection(&format!(
                "SMTP call from {} dropped: too many unrecognized commands (last was \"{}\")",
                self.peer(false),
                self.shown(command.line)
            ));
            // Exim ends well here: the exit code of `-bs` is 0.
            return match self.reply(&Reply::new(500, "Too many unrecognized commands")) {
                Next::Command => Next::Quit,
                other => other,
            };
        }
        self.syntax_error(command, 500, "unrecognized command")
    }
}
