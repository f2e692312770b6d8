//! The few calls that go upward through the layers, each a named trait. Tests put fakes here.
//!
//! (The hooks of expansions are [`crate::expand::context::Hooks`].)

use crate::expand::Context;
use crate::mail::{Address, MessageId};
use crate::text::Value;
use bstr::BString;

/// A message was committed to the spool: whoever delivers may start. A lost call costs time, never mail.
pub trait Announce: Send + Sync {
    /// This message is ready.
    fn ready(&self, id: &MessageId);
}

/// Address verification by the routers (`verify = recipient` and kin).
pub trait Verifier {
    /// Routes the address without delivering.
    fn verify(&self, context: &Context, address: &Address, as_sender: bool) -> Verified;
}

/// Answer of [`Verifier::verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verified {
    /// It can be routed; `$address_data` of the last router.
    Ok {
        /// `$address_data` that routing set.
        address_data: Option<Value>,
    },
    /// It cannot: text for the peer, text for the log.
    Failed {
        /// For the peer (`$acl_verify_message`).
        message: BString,
        /// For the log.
        log_message: BString,
        /// The message came from `:fail:` or `cannot_route_message`.
        forced: bool,
    },
    /// Not known now.
    Deferred {
        /// For the peer.
        message: BString,
        /// For the log.
        log_message: BString,
    },
}

/// A message of our own making: bounces, warnings, automatic replies, freeze notices.
pub trait Submit: Send + Sync {
    /// Takes headers and body (`\n` line ends) into the spool; gives its id. An error is temporary.
    fn submit(&self, new: NewMessage) -> std::io::Result<MessageId>;
}

/// What [`Submit::submit`] takes.
#[derive(Clone, Debug, Default)]
pub struct NewMessage {
    /// Reverse path; null for bounces.
    pub sender: Address,
    /// Recipients.
    pub recipients: Vec<Address>,
    /// Headers, blank line, body, with `\n` line ends. Received:, Message-ID: and Date: are added.
    pub text: Vec<u8>,
    /// `R=` of the arrival line: the message this is about.
    pub about: Option<MessageId>,
    /// Do not bounce this message if it fails (`local_error`).
    pub local_error: bool,
    /// File to append to `text` (a body to return), with offset and length.
    pub attach: Option<(std::sync::Arc<std::fs::File>, u64, u64)>,
    /// Whoever submits it has it delivered, or leaves it to the queue: nobody else is told.
    pub unannounced: bool,
}
