//! Replies and log lines for what ACLs say: codes in messages, multi-line replies, rejections.
//!
//! Specification: sections on the `message` modifier and on `verify = sender`; texts recorded from Exim.

use super::session::{Next, Session};
use crate::acl::effects::SenderVerifyFailure;
use crate::acl::{Answer, Place, Verdict};
use crate::log::line::tls_fields;
use crate::log::{Selector, Which};
use crate::mail::Reply;
use bstr::{BString, ByteSlice};

/// Text of a reply line is cut at a space before it grows longer than this (RFC 5321 allows 512 bytes for
/// a line; Exim keeps them readable).
const LINE_WIDTH: usize = 75;

/// A reply made of an ACL's `message`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Worded {
    /// The reply, with the extended code on each line.
    pub reply: Reply,
    /// The message with the code that is really sent, if it had one.
    pub message: BString,
    /// The message had a code of the wrong class: for main and panic log.
    pub fault: Option<String>,
}

/// Splits `550 5.7.1 text` and makes the reply; `code` is what is sent if there is none.
pub(super) fn word_reply(code: u16, message: &[u8]) -> Worded {
    let mut text = message;
    let mut sent = code;
    let mut fault = None;
    let mut shown = BString::from(message);
    if let Some((digits, rest)) = split_code(message) {
        if digits / 100 == code / 100 {
            sent = digits;
            text = rest;
        } else {
            let expected = code / 100;
            fault = Some(format!(
                "configured error code starts with incorrect digit (expected {expected}) in \"{}\"",
                message.as_bstr()
            ));
            text = after_foreign_code(rest);
            shown = format!("{code} {}", text.as_bstr()).into();
        }
    }
    let (extended, text) = split_extended(text, sent);
    let mut lines: Vec<BString> = Vec::new();
    for (index, line) in text.split(|b| *b == b'\n').enumerate() {
        // Lines after the first lose their white space; one that has nothing else is none.
        let line = if index == 0 { line } else { line.trim_start() };
        if index > 0 && line.is_empty() {
            continue;
        }
        let (own, line) = split_extended(line, sent);
        let code = if own.is_empty() { extended } else { own };
        let mut wrapped = Vec::new();
        wrap(line, &mut wrapped);
        lines.extend(wrapped.into_iter().map(|line| BString::from([code, line].concat())));
    }
    Worded { reply: Reply::new(sent, bstr::join("\n", lines)), message: shown, fault }
}

/// Three digits and a space.
fn split_code(message: &[u8]) -> Option<(u16, &[u8])> {
    let (digits, rest) = message.split_at_checked(3)?;
    let rest = rest.strip_prefix(b" ")?;
    let code = digits.to_str().ok().filter(|_| digits.iter().all(u8::is_ascii_digit))?.parse().ok()?;
    Some((code, rest))
}

/// What follows an extended code that went with the wrong code.
fn after_foreign_code(text: &[u8]) -> &[u8] {
    let class = text.first().map_or(0, |digit| u16::from(digit.wrapping_sub(b'0')));
    split_extended(text, class * 100).1
}

/// `n.n.n ` of the class of the code (RFC 3463).
fn split_extended(text: &[u8], code: u16) -> (&[u8], &[u8]) {
    let end = text.iter().position(|b| !b.is_ascii_digit() && *b != b'.').unwrap_or(text.len());
    let parts: Vec<&[u8]> = text[..end].split(|b| *b == b'.').collect();
    let fits = parts.len() == 3
        && parts.iter().all(|part| (1..=3).contains(&part.len()))
        && parts[0] == (code / 100).to_string().as_bytes()
        && text.get(end) == Some(&b' ');
    if fits { text.split_at(end + 1) } else { (b"", text) }
}

fn wrap<'t>(mut line: &'t [u8], lines: &mut Vec<&'t [u8]>) {
    while line.len() > LINE_WIDTH {
        let cut = line[..=LINE_WIDTH].rfind_byte(b' ').or_else(|| line.find_byte(b' '));
        let Some(cut) = cut.filter(|cut| *cut > 0) else { break };
        lines.push(&line[..cut]);
        line = line[cut..].trim_start();
    }
    lines.push(line);
}

/// The default code of a rejection.
fn code_of(verdict: Verdict) -> u16 {
    match verdict {
        Verdict::Defer | Verdict::Error => 451,
        _ => 550,
    }
}

/// The verdict of an ACL that is not there, where that means no.
pub(super) fn denial() -> Answer {
    Answer {
        verdict: Verdict::Deny,
        message: None,
        log_message: None,
        log_targets: vec![Which::Main, Which::Reject],
        sender_failure: None,
    }
}

impl Session<'_, '_> {
    /// Answers a command that an ACL accepted: its `message`, or `text`.
    pub(super) fn reply_accepted(&mut self, code: u16, answer: Option<&Answer>, text: &str) -> Next {
        let message = answer.and_then(|answer| answer.message.clone()).unwrap_or_else(|| text.into());
        let reply = self.word(code, &message).reply;
        self.reply(&reply)
    }

    /// Makes a reply, and logs a code of the wrong class.
    pub(super) fn word(&self, code: u16, message: &[u8]) -> Worded {
        self.word_about("", code, message)
    }

    /// The same for a message: its id (and a space) is put before what is logged.
    fn word_about(&self, id: &str, code: u16, message: &[u8]) -> Worded {
        let worded = word_reply(code, message);
        if let Some(fault) = &worded.fault {
            self.log_panic(&format!("{id}{fault}"));
        }
        if self.runner.session_effects().no_multiline_responses {
            let first = worded.reply.text.lines().next().unwrap_or_default().into();
            return Worded { reply: Reply { text: first, ..worded.reply }, ..worded };
        }
        worded
    }

    /// Logs and answers a rejection. `what` is what the log says was rejected (`RCPT <a@b>`), `sender` puts
    /// `F=<...>` before it.
    pub(super) fn reject(&mut self, place: Place, answer: &Answer, what: &[u8]) -> Next {
        let mut answer = answer.clone();
        // Why the sender failed is told once for each MAIL.
        if answer.sender_failure.is_some()
            && let Some(transaction) = &mut self.transaction
            && std::mem::replace(&mut transaction.sender_failure_told, true)
        {
            answer.sender_failure = None;
        }
        let reply = self.log_and_word_rejection(&answer, what, "", place == Place::Rcpt);
        match answer.verdict {
            Verdict::Drop => self.drop_connection(&reply),
            _ => self.reply(&reply),
        }
    }

    /// An ACL closes the connection.
    pub(super) fn drop_connection(&mut self, reply: &Reply) -> Next {
        let line = format!("SMTP connection from {} closed by DROP in ACL", self.peer(false));
        self.log_optional(Selector::SmtpConnection, &line);
        self.reply_and_close(reply, "acl-drop")
    }

    /// Logs a rejection, and makes the reply. `id` is put before the line (`1abc... `).
    pub(super) fn log_and_word_rejection(
        &self,
        answer: &Answer,
        what: &[u8],
        id: &str,
        sender: bool,
    ) -> Reply {
        let code = code_of(answer.verdict);
        let reply = match (&answer.message, self.details(answer, what)) {
            (Some(message), _) => self.word_about(id, code, message).reply,
            (None, Some(details)) => self.word_about(id, code, &details).reply,
            (None, None) if code == 451 => Reply::new(451, "Temporary local problem - please try later"),
            (None, None) => Reply::new(550, "Administrative prohibition"),
        };
        for line in self.rejection_lines(answer, what, id, sender) {
            self.context.globals.log.write_to(&answer.log_targets, line.as_bstr());
        }
        self.with_sender_details(reply, answer.sender_failure.as_ref())
    }

    /// The text for the log goes to the peer where `smtp_return_error_details` says so.
    fn details(&self, answer: &Answer, what: &[u8]) -> Option<BString> {
        if !self.context.globals.main.bool("smtp_return_error_details") || code_of(answer.verdict) == 451 {
            return None;
        }
        let log = answer.log_message.as_ref()?;
        Some(bstr::concat([&b"Rejected "[..], what, b": ", log]).into())
    }

    /// What the logs say of a rejection: the failed sender first, if there is one.
    pub(super) fn rejection_lines(
        &self,
        answer: &Answer,
        what: &[u8],
        id: &str,
        sender: bool,
    ) -> Vec<BString> {
        let code = code_of(answer.verdict);
        let peer = self.peer(true);
        let mut lines = Vec::new();
        let with_detail = self.context.globals.log.selectors().has(Selector::SenderVerifyFail);
        if let Some(failure) = answer.sender_failure.as_ref().filter(|_| with_detail) {
            let kind = if failure.temporary { "defer" } else { "fail" };
            let SenderVerifyFailure { address, log_message, .. } = failure;
            let head = format!("{id}{peer} sender verify {kind} for <{address}>: ");
            lines.push(bstr::concat([head.as_bytes(), log_message]).into());
        }
        let logged = match (&answer.log_message, &answer.message) {
            (Some(log), message) if Some(log) != message.as_ref() => Some(log.clone()),
            (_, Some(message)) => Some(word_reply(code, message).message),
            (log, None) => log.clone(),
        };
        let how = if code == 451 { "temporarily " } else { "" };
        let mut line = BString::from(format!("{id}{peer}"));
        if let Some(tls) = &self.context.session.origin.tls {
            line.extend_from_slice(&tls_fields(tls, self.context.globals.log.selectors(), true));
        }
        line.push(b' ');
        if sender {
            line.extend_from_slice(&bstr::concat([&b"F=<"[..], &self.sender(), b"> "]));
        }
        line.extend_from_slice(&bstr::concat([how.as_bytes(), b"rejected ", what]));
        if let Some(text) = &logged {
            line.extend_from_slice(b": ");
            line.extend_from_slice(text.lines().next().unwrap_or_default());
        }
        lines.push(line);
        lines
    }

    /// `550-Verification failed for <a@b>`, why, and then the reply: permanent failures only.
    fn with_sender_details(&self, reply: Reply, failure: Option<&SenderVerifyFailure>) -> Reply {
        match failure {
            Some(failure)
                if !failure.temporary
                    && reply.code >= 500
                    && !self.runner.session_effects().no_multiline_responses =>
            {
                let text = format!(
                    "Verification failed for <{}>\n{}\n{}",
                    failure.address, failure.message, reply.text
                );
                Reply::new(reply.code, text)
            }
            _ => reply,
        }
    }

    pub(super) fn sender(&self) -> BString {
        self.context.message.sender.as_ref().map(|sender| sender.to_bytes()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_may_begin_with_codes_of_its_class() {
        let worded = word_reply(550, b"554 5.7.1 a\nb");
        assert_eq!(worded.reply, Reply::new(554, "5.7.1 a\n5.7.1 b"));
        assert_eq!(worded.fault, None);
        let worded = word_reply(550, b"5.1.1 ext only");
        assert_eq!(worded.reply, Reply::new(550, "5.1.1 ext only"));
        let worded = word_reply(550, b"550-a");
        assert_eq!(worded.reply, Reply::new(550, "550-a"));
    }

    #[test]
    fn a_code_of_the_wrong_class_is_replaced_and_told() {
        let worded = word_reply(550, b"250 wrong class");
        assert_eq!(worded.reply, Reply::new(550, "wrong class"));
        assert_eq!(worded.message, "550 wrong class");
        assert_eq!(
            worded.fault.as_deref(),
            Some("configured error code starts with incorrect digit (expected 5) in \"250 wrong class\"")
        );
    }

    #[test]
    fn long_lines_are_cut_at_words() {
        let text = format!("{} {} {}", "a".repeat(54), "b".repeat(40), "c".repeat(20));
        let worded = word_reply(550, text.as_bytes());
        let lines: Vec<_> = worded.reply.text.lines().map(<[u8]>::len).collect();
        assert_eq!(lines, [54, 61]);
        let unbroken = "x".repeat(200);
        assert_eq!(word_reply(550, unbroken.as_bytes()).reply.text, unbroken.as_str());
    }
}
