//! Mail to a local sender about an error in the message that was handed in (`-oem`, `-oee`); texts as recorded.

use super::Program;
use super::delivery::Worker;
use crate::mail::Address;
use crate::receive::Refusal;
use crate::upward::{NewMessage, Submit};
use bstr::BString;

/// Of the message at most this much is shown again.
pub const MOST_COPIED: usize = 100 * 1024;

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Complaint {
    /// An argument is no address.
    BadRecipient {
        /// The argument.
        item: BString,
        /// Why.
        reason: BString,
    },
    /// `-t`, and the headers name nobody.
    NoRecipients {
        /// They do, but all of them are arguments as well.
        suppressed: bool,
    },
    /// `-t`, and the headers name nobody that could be read.
    BadHeaders(BString),
    /// The ACL for local messages said no.
    Acl(BString),
    /// Anything else, in the words that an SMTP client would hear.
    Other(BString),
}

impl Complaint {
    /// From what `accept` said.
    pub fn of(why: Refusal, text: BString, program: &Program) -> Self {
        match why {
            Refusal::NoRecipients => {
                Self::NoRecipients { suppressed: !program.invocation.arguments.is_empty() }
            }
            Refusal::BadAddress => Self::BadHeaders(text),
            Refusal::Acl => Self::Acl(text),
            _ => Self::Other(text),
        }
    }

    /// After `exim: ` on standard error.
    pub fn for_terminal(&self) -> String {
        match self {
            Self::BadRecipient { item, reason } => format!("bad recipient address \"{item}\": {reason}"),
            Self::NoRecipients { .. } => "no recipients in message".into(),
            Self::BadHeaders(text) => format!("bad recipient address in message: {text}"),
            Self::Acl(text) => format!("message rejected by non-SMTP ACL: {text}"),
            Self::Other(text) => text.to_string(),
        }
    }

    fn subject(&self) -> &'static str {
        match self {
            Self::BadRecipient { .. } | Self::BadHeaders(_) => "Mail failure - malformed recipient address",
            Self::NoRecipients { .. } => "Mail failure - no recipient addresses",
            Self::Acl(_) => "Mail failure - rejected by local scanning code",
            Self::Other(_) => "Mail failure",
        }
    }

    fn body(&self) -> String {
        match self {
            Self::BadRecipient { item, reason } => format!(
                "A message that you sent contained a recipient address that was incorrectly\n\
                 constructed:\n\n  {item}  {reason}\n\n\
                 The message has not been delivered to any recipients.\n"
            ),
            Self::NoRecipients { suppressed: false } => {
                "A message that you sent contained no recipient addresses, \
                 and therefore no\ndelivery could be attempted.\n"
                    .into()
            }
            Self::NoRecipients { suppressed: true } => {
                "A message that you sent using the -t command line option \
                 contained no\naddresses that were not also on the command line, and were therefore\n\
                 suppressed. This left no recipient addresses, and so no delivery could\nbe attempted.\n"
                    .into()
            }
            Self::BadHeaders(text) => format!(
                "A message that you sent contained one or more recipient addresses that were\n\
                 incorrectly constructed:\n\n  {text}\n\n\
                 The message has not been delivered to any recipients.\n"
            ),
            Self::Acl(text) => format!(
                "A message that you sent was rejected by the local scanning code that\n\
                 checks incoming messages on this system. The following error was given:\n\n  {text}\n"
            ),
            Self::Other(text) => {
                format!("A message that you sent could not be accepted:\n\n  {text}\n")
            }
        }
    }
}

/// Puts the mail into the spool.
pub fn send(worker: &Worker, to: Address, complaint: &Complaint, mut copy: Vec<u8>) -> std::io::Result<()> {
    let domain = &worker.program.globals.qualify_domain;
    let mut text = format!(
        "From: Mail Delivery System <Mailer-Daemon@{domain}>\nTo: {to}\nSubject: {}\n\n{}",
        complaint.subject(),
        complaint.body()
    )
    .into_bytes();
    text.extend_from_slice(b"\n------ This is a copy of your message, including all the headers. ------\n\n");
    copy.truncate(MOST_COPIED);
    text.extend_from_slice(&copy);
    let new = NewMessage { sender: Address::null(), recipients: vec![to], text, ..NewMessage::default() };
    worker.submitter.submit(new).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_told_in_exims_words() {
        let bad = Complaint::BadRecipient { item: "x@".into(), reason: "domain missing or malformed".into() };
        assert_eq!(bad.for_terminal(), "bad recipient address \"x@\": domain missing or malformed");
        assert!(bad.body().contains("\n\n  x@  domain missing or malformed\n\n"));
        assert_eq!(Complaint::NoRecipients { suppressed: false }.for_terminal(), "no recipients in message");
        let acl = Complaint::Acl("no such thing".into());
        assert_eq!(acl.for_terminal(), "message rejected by non-SMTP ACL: no such thing");
    }
}
