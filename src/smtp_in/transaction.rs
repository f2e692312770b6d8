//! A mail transaction: from MAIL to the end of the message (RFC 5321 section 3.3).

use crate::mail::{Address, Recipient};
use bstr::BString;
use std::time::SystemTime;

/// Recipients of one message when `recipients_max` is 0 (no limit): memory must not be the limit.
pub const RECIPIENTS_MAX: usize = 1_000_000;

/// What MAIL began.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// Reverse path, qualified.
    pub sender: Address,
    /// Recipients accepted so far.
    pub recipients: Vec<Recipient>,
    /// `BODY=`: 0 not given, 7, 8.
    pub body_8bitmime: u8,
    /// When MAIL came.
    pub started: SystemTime,
    /// The MAIL ACL discards all recipients; with its text for the log.
    pub discarded: Option<Option<BString>>,
    /// A recipient was discarded by the RCPT ACL.
    pub rcpt_discarded: bool,
    /// RCPT commands (`$rcpt_count`), deferred ones, failed ones.
    pub rcpt_count: u32,
    /// See above.
    pub rcpt_deferred: u32,
    /// See above.
    pub rcpt_failed: u32,
    /// Too many recipients came; the message is refused if `recipients_max_reject` is set.
    pub too_many: bool,
    /// The peer and the log were told why the sender could not be verified.
    pub sender_failure_told: bool,
}

/// What DATA says if no recipient was accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Rejections {
    /// No RCPT was rejected.
    #[default]
    None,
    /// All with this text.
    Same(BString),
    /// With different texts, or some were not rejected.
    Mixed,
}

impl Rejections {
    /// One more rejection.
    pub fn add(&mut self, text: &BString) {
        *self = match self {
            Self::None => Self::Same(text.clone()),
            Self::Same(old) if old == text => return,
            _ => Self::Mixed,
        };
    }
}

impl Transaction {
    /// A new transaction.
    pub fn new(sender: Address, started: SystemTime) -> Self {
        Self {
            sender,
            recipients: Vec::new(),
            body_8bitmime: 0,
            started,
            discarded: None,
            rcpt_discarded: false,
            rcpt_count: 0,
            rcpt_deferred: 0,
            rcpt_failed: 0,
            too_many: false,
            sender_failure_told: false,
        }
    }

    /// True if DATA may come: somebody was accepted, if only to be discarded.
    pub fn has_recipient(&self) -> bool {
        !self.recipients.is_empty() || self.rcpt_discarded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejections_are_the_same_until_one_differs() {
        let mut rejections = Rejections::default();
        rejections.add(&"no".into());
        rejections.add(&"no".into());
        assert_eq!(rejections, Rejections::Same("no".into()));
        rejections.add(&"other".into());
        assert_eq!(rejections, Rejections::Mixed);
    }
}
