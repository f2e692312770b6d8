//! What a local caller hears of a message that was not taken (options `-oem`, `-oee`, `-oep`, `-oeq`, `-oew`): a
//! mail with a copy of the message, or a line on the terminal. Texts as Exim's.

use super::accept::{Ask, Work, accept_into};
use super::new_mail::{NewMail, Outcome, Refusal, Station};
use crate::expand::Context;
use crate::log::Which;
use crate::mail::{Address, Header, HeaderKind, MessageId};
use crate::upward::{NewMessage, Submit};
use bstr::{BString, ByteSlice};
use std::fs::File;
use std::io::BufRead;
use std::sync::Arc;
use std::time::SystemTime;

/// Bytes of a refused body that a report gives back: what is too big must not come back whole.
const COPIED_BODY_MAX: u64 = 100 * 1024;

/// How errors in a submitted message are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErrorsTo {
    /// `-oem`, `-oew`: by mail, exit status 1. The default.
    #[default]
    Mail,
    /// `-oee`: by mail, exit status 0.
    MailStatusZero,
    /// `-oep`, `-oeq`: on the terminal, exit status 1.
    Terminal,
}

/// What the command line does after a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalAnswer {
    /// What became of the message.
    pub outcome: Outcome,
    /// The exit status.
    pub status: u8,
    /// For standard error, with line ends; empty: nothing.
    pub words: BString,
}

/// Takes in a message of a local caller ([`accept`](super::accept::accept)), and tells the caller of errors. `own`
/// takes the report.
pub fn accept_local(
    station: &Station,
    context: &mut Context,
    mail: NewMail,
    source: &mut dyn BufRead,
    ask: &mut Ask,
    errors: (ErrorsTo, &dyn Submit),
) -> LocalAnswer {
    let (errors_to, own) = errors;
    let by_mail = errors_to != ErrorsTo::Terminal;
    let mut work = Work { goes_on_with_good: by_mail, ..Work::default() };
    let sender = mail.sender.clone();
    let outcome = accept_into(station, context, mail, source, ask, &mut work);
    if let Some(body) = &mut work.body {
        // What cannot be written is left out of the report.
        let _ = body.write_out();
    }
    let why = match &outcome {
        Outcome::Refused { why, .. } => Some(*why),
        Outcome::Accepted { .. } if !work.bad.is_empty() => Some(Refusal::BadAddress),
        Outcome::Accepted { .. } => None,
    };
    let Some(why) = why else {
        // Exim's exit status is 1 for a message that the ACL has discarded.
        let status = u8::from(work.discarded);
        return LocalAnswer { outcome, status, words: BString::default() };
    };
    let taken = matches!(outcome, Outcome::Accepted { .. });
    let sender = work.sender.as_ref().unwrap_or(&sender);
    let report = Report { station, work: &work, sender, taken };
    let mut words = report.terminal_words(why, &outcome, by_mail);
    let mailed = if by_mail && report.has_mail(why) {
        own.submit(report.mail(why, &outcome)).map(drop)
    } else {
        Ok(())
    };
    if let Err(error) = mailed {
        let text = format!("report of a refused message could not be mailed: {error}");
        station.log.panic(text.as_str().into());
        words.extend_from_slice(text.as_bytes());
        words.push(b'\n');
    }
    let status = match errors_to {
        _ if taken => 0,
        // Nobody was told by mail: the exit status must tell.
        ErrorsTo::Mail | ErrorsTo::MailStatusZero if sender.is_null() => {
            if why == Refusal::NoRecipients {
                2
            } else {
                1
            }
        }
        ErrorsTo::MailStatusZero => 0,
        ErrorsTo::Mail | ErrorsTo::Terminal => 1,
    };
    LocalAnswer { outcome, status, words }
}

struct Report<'a> {
    station: &'a Station,
    work: &'a Work,
    sender: &'a Address,
    /// Some recipients were good: the message was taken for them.
    taken: bool,
}

impl Report<'_> {
    /// Nobody gets a report who sent with a null sender, and one of a full disk cannot be written.
    fn has_mail(&self, why: Refusal) -> bool {
        let has_words = !matches!(why, Refusal::Spool | Refusal::Configuration | Refusal::Lost);
        if has_words && self.sender.is_null() {
            let id =
                self.work.body.as_ref().map(|body| body.id()).or(self.work.copy.as_ref().map(|(_, id)| id));
            let id = id.map(|id| format!("{id} ")).unwrap_or_default();
            let reason = match (why, self.work.bad.first()) {
                (Refusal::NoRecipients, _) => "no recipient addresses".to_owned(),
                (Refusal::BadAddress, Some((address, wrong))) => {
                    format!("at least one malformed recipient address: {address} - {wrong}")
                }
                _ => "message abandoned".to_owned(),
            };
            let text = format!("{id}Error while reading message with no usable sender address: {reason}");
            self.station.log.write(Which::Main, text.as_str().into());
        }
        has_words && !self.sender.is_null()
    }

    /// What standard error shows. The words on `-t` are a log line, which Exim shows there in any mode.
    fn terminal_words(&self, why: Refusal, outcome: &Outcome, by_mail: bool) -> BString {
        let id = self.work.body.as_ref().map(|body| body.id().to_string());
        let id = match outcome {
            Outcome::Accepted { id, .. } => id.to_string(),
            Outcome::Refused { .. } => id.unwrap_or_default(),
        };
        let stamp = self.station.log.stamp(SystemTime::now());
        let main = &self.station.globals.main;
        let text = match why {
            Refusal::NoRecipients => {
                let told = if by_mail { "" } else { "\nexim: no recipients in message" };
                format!("{stamp}{id} {id} no recipients found in headers{told}")
            }
            Refusal::BadAddress => {
                let mut text = format!("{stamp}{id} {id} bad addresses found in headers");
                let label = if self.work.bad.len() > 1 { "es:\n" } else { ":" };
                for (at, (address, wrong)) in self.work.bad.iter().filter(|_| !by_mail).enumerate() {
                    let before =
                        if at == 0 { format!("exim: invalid address{label}") } else { String::new() };
                    text.push_str(&format!("\n{before}  {address}: {wrong}"));
                }
                text
            }
            Refusal::Lost => String::new(),
            Refusal::Spool | Refusal::Configuration => format!("exim: {}", reply_text(outcome)),
            _ if by_mail => String::new(),
            Refusal::TooBig => format!("exim: message rejected: message too big (max={})", self.size_limit()),
            Refusal::HeadersTooBig if self.is_one_line(outcome) => format!(
                "exim: message header line longer than {} characters received: message not accepted",
                main.int("header_line_maxsize")
            ),
            Refusal::HeadersTooBig => format!(
                "exim: message header longer than {} characters received: message not accepted",
                main.int("header_maxsize")
            ),
            Refusal::Acl => format!("exim: message rejected by non-SMTP ACL: {}", reply_text(outcome)),
        };
        let mut words = BString::from(text);
        if !words.is_empty() {
            words.push(b'\n');
        }
        words
    }

    fn size_limit(&self) -> BString {
        self.station.globals.main.plain("message_size_limit").unwrap_or_default()
    }

    fn is_one_line(&self, outcome: &Outcome) -> bool {
        reply_text(outcome) == "A message header line is too long"
    }

    fn mail(&self, why: Refusal, outcome: &Outcome) -> NewMessage {
        let (subject, text) = self.subject_and_text(why, outcome);
        let domain = &self.station.globals.qualify_domain;
        let mut message = BString::from(format!(
            "Auto-Submitted: auto-replied\nFrom: Mail Delivery System <Mailer-Daemon@{domain}>\nTo: {}\n",
            self.sender
        ));
        let about = match outcome {
            Outcome::Accepted { id, .. } => Some(id.clone()),
            Outcome::Refused { .. } if why == Refusal::HeadersTooBig => None,
            Outcome::Refused { .. } => self.work.body.as_ref().map(|body| body.id().clone()),
        };
        if let Some(id) = &about {
            let host = &self.station.globals.primary_hostname;
            message.extend_from_slice(format!("References: <E{id}@{host}>\n").as_bytes());
        }
        message.extend_from_slice(format!("Subject: Mail failure - {subject}\n\n").as_bytes());
        message.extend_from_slice(&text);
        match why {
            Refusal::TooBig => message.extend_from_slice(
                format!(
                    "\n------ This is a copy of your message, including all the headers.\n\
                     ------ No more than {} characters of the body are included.\n\n",
                    self.size_limit()
                )
                .as_bytes(),
            ),
            _ => message.extend_from_slice(
                b"\n------ This is a copy of your message, including all the headers. ------\n\n",
            ),
        }
        push_headers(&mut message, &self.work.section.headers, self.work.copy.as_ref().map(|(_, id)| id));
        if why != Refusal::HeadersTooBig {
            message.push(b'\n');
        }
        NewMessage {
            sender: Address::null(),
            recipients: vec![self.sender.clone()],
            text: message.into(),
            about,
            local_error: true,
            attach: self.copied_body(),
            unannounced: false,
        }
    }

    /// The body as far as it was read; it is read through a descriptor of its own.
    fn copied_body(&self) -> Option<(Arc<File>, u64, u64)> {
        let (file, id) = match (&self.work.copy, &self.work.body) {
            (Some((file, id)), _) => (file.try_clone().ok()?, id),
            (None, Some(body)) => (body.open_again().ok()?, body.id()),
            (None, None) => return None,
        };
        let start = id.as_str().len() as u64 + 3;
        let length = file.metadata().ok()?.len().saturating_sub(start);
        Some((Arc::new(file), start, length.min(COPIED_BODY_MAX)))
    }

    fn subject_and_text(&self, why: Refusal, outcome: &Outcome) -> (&'static str, BString) {
        match why {
            Refusal::NoRecipients => (
                "no recipient addresses",
                "A message that you sent contained no recipient addresses, and therefore no\n\
                 delivery could be attempted.\n"
                    .into(),
            ),
            Refusal::BadAddress => ("malformed recipient address", self.bad_addresses()),
            Refusal::TooBig => (
                "message too big",
                "A message that you sent was longer than the maximum size allowed on this\n\
                 system. It was not delivered to any recipients.\n"
                    .into(),
            ),
            Refusal::HeadersTooBig if self.is_one_line(outcome) => (
                "overlong header line",
                "A message that you sent contained a header line that was excessively\n\
                 long and could not be handled by the mail transmission software. The\n\
                 message has not been delivered to any recipients.\n"
                    .into(),
            ),
            Refusal::HeadersTooBig => (
                "overlong header section",
                "A message that you sent contained a header section that was excessively\n\
                 long and could not be handled by the mail transmission software. The\n\
                 message has not been delivered to any recipients.\n"
                    .into(),
            ),
            _ => {
                let mut text = BString::from(
                    "A message that you sent was rejected by the local scanning code that\n\
                     checks incoming messages on this system. ",
                );
                text.extend_from_slice(
                    format!("The following error was given:\n\n  {}\n", reply_text(outcome)).as_bytes(),
                );
                ("rejected by local scanning code", text)
            }
        }
    }

    fn bad_addresses(&self) -> BString {
        let mut text = BString::from(
            "A message that you sent contained one or more recipient addresses that were\n\
             incorrectly constructed:\n\n",
        );
        for (address, wrong) in &self.work.bad {
            text.extend_from_slice(b"  ");
            text.extend_from_slice(address);
            text.extend_from_slice(b": ");
            text.extend_from_slice(wrong);
            text.push(b'\n');
        }
        let several = self.work.bad.len() > 1;
        text.push(b'\n');
        text.extend_from_slice(if several { b"These addresses have" } else { b"This address has" });
        text.extend_from_slice(b" been ignored. ");
        text.extend_from_slice(if self.taken {
            b"The other addresses in the message were\n\
              syntactically valid and have been passed on for an attempt at delivery.\n"
        } else {
            b"There were no other addresses in your\nmessage, and so no attempt at delivery was possible.\n"
        });
        text
    }
}

fn reply_text(outcome: &Outcome) -> BString {
    match outcome {
        Outcome::Refused { reply, .. } => reply.text.clone(),
        Outcome::Accepted { .. } => BString::default(),
    }
}

/// The headers as they stand; of a message that was taken, without the Received: line that names it.
fn push_headers(message: &mut BString, headers: &[Header], taken: Option<&MessageId>) {
    for header in headers.iter().filter(|header| header.kind != HeaderKind::Deleted) {
        let names_it = |id: &MessageId| header.text.contains_str(id.as_str());
        if header.kind != HeaderKind::Received || !taken.is_some_and(names_it) {
            message.extend_from_slice(&header.text);
        }
    }
}
