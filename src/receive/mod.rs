//! One message in: from bytes to a committed spool entry.
//!
//! `smtp_in` and the command line fill a [`NewMail`] and call `accept`, which reads headers and body
//! from a [`BufRead`](std::io::BufRead), fixes the headers up, asks the ACL through a callback, and commits.

pub mod accept;
mod body;
mod fixup;
mod from_line;
pub mod headers;
pub mod lines;
pub mod new_mail;
pub mod own_message;
mod qualify;
mod received_line;
mod record;
mod refused;
pub mod report;
mod settings;
mod submission;

pub use accept::{Ask, accept};
pub use new_mail::{
    Arrival, Caller, Controls, Draft, Extract, HeaderAddition, NewMail, Outcome, Place, Refusal, Station,
    Submission, Verdict,
};
pub use own_message::OwnMessages;
pub use report::{ErrorsTo, LocalAnswer, accept_local};
pub use settings::size_limit;
