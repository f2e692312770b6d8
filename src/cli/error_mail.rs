//! Mail to a local sender about an error that was found before the message was read (`-oem`, `-oee`); texts as
//! recorded. (Errors in the message itself are [`crate::receive::report`]'s.)

use super::submit::Intake;
use crate::mail::Address;
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
    /// The ACL for local messages said no.
    Acl(BString),
}

impl Complaint {
    /// After `exim: ` on standard error.
    pub fn for_terminal(&self) -> String {
        match self {
            Self::BadRecipient { item, reason } => format!("bad recipient address \"{item}\": {reason}"),
            Self::Acl(text) => format!("message rejected by non-SMTP ACL: {text}"),
        }
    }

    fn subject(&self) -> &'static str {
        match self {
            Self::BadRecipient { .. } => "Mail failure - malformed recipient address",
            Self::Acl(_) => "Mail failure - rejected by local scanning code",
        }
    }

    fn body(&self) -> String {
        match self {
            Self::BadRecipient { item, reason } => format!(
                "A message that you sent contained a recipient address that was incorrectly\n\
                 constructed:\n\n  {item}  {reason}\n\n\
                 The message has not been delivered to any recipients.\n"
            ),
            Self::Acl(text) => format!(
                "A message that you sent was rejected by the local scanning code that\n\
                 checks incoming messages on this system. The following error was given:\n\n  {text}\n"
            ),
        }
    }
}

/// Puts the mail into the spool.
pub fn send(intake: &Intake, to: Address, complaint: &Complaint, mut copy: Vec<u8>) -> std::io::Result<()> {
    let domain = &intake.asked.globals.qualify_domain;
    let mut text = format!(
        "Auto-Submitted: auto-replied\nFrom: Mail Delivery System <Mailer-Daemon@{domain}>\nTo: {to}\nSubject: {}\n\n{}",
        complaint.subject(),
        complaint.body()
    )
    .into_bytes();
    text.extend_from_slice(
        b"\n------ This is a copy of your message, including all the headers. ------\n\n\n",
    );
    copy.truncate(MOST_COPIED);
    text.extend_from_slice(&copy);
    let new = NewMessage {
        sender: Address::null(),
        recipients: vec![to],
        text,
        local_error: true,
        ..NewMessage::default()
    };
    intake.submitter.submit(new).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_told_in_exims_words() {
        let bad = Complaint::BadRecipient { item: "x@".into(), reason: "domain missing or malformed".into() };
        assert_eq!(bad.for_terminal(), "bad recipient address \"x@\": domain missing or malformed");
        assert!(bad.body().contains("\n\n  x@  domain missing or malformed\n\n"));
        let acl = Complaint::Acl("no such thing".into());
        assert_eq!(acl.for_terminal(), "message rejected by non-SMTP ACL: no such thing");
    }
}
