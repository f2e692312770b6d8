//! A message that is not taken: what the peer hears, and what the logs tell.

use super::new_mail::{Arrival, NewMail, Outcome, Refusal};
use crate::expand::{Context, ExpandError};
use crate::log::line::{full_host_as_selected, peer_fields};
use crate::log::{Log, Selector, Selectors, Which};
use crate::mail::{Header, HeaderKind, MessageId, Origin, Reply};
use crate::spool::space::Space;
use bstr::{BString, ByteSlice};
use std::io;

/// Headers that the reject log shows at most, in bytes: a header section may have megabytes.
const SHOWN_HEADERS_MAX: usize = 8192;

/// A refusal on its way out.
#[derive(Debug)]
pub(super) struct Refused {
    pub why: Refusal,
    pub reply: Reply,
}

impl Refused {
    pub fn new(why: Refusal, code: u16, text: impl Into<BString>) -> Self {
        Self { why, reply: Reply::new(code, text) }
    }
    pub fn outcome(self, must_close: bool) -> Outcome {
        Outcome::Refused { why: self.why, reply: self.reply, must_close }
    }
    /// The peer is gone: nobody hears the reply.
    pub fn lost() -> Self {
        Self::new(Refusal::Lost, 421, "lost connection")
    }
}

/// Who sends, as these lines name it: the host, or the login of a local caller.
fn sender_name(origin: &Origin, selectors: Selectors) -> BString {
    if origin.host.is_some() {
        return full_host_as_selected(origin, selectors);
    }
    origin.ident.clone().unwrap_or_default()
}

/// An option could not be expanded: ours to mend, so the peer may try again.
pub(super) fn refuse_configuration(log: &Log, option: &str, error: &ExpandError) -> Refused {
    log.panic(format!("expansion of {option} failed: {error}").as_str().into());
    Refused::new(Refusal::Configuration, 451, "Temporary local problem - please try later")
}

/// There is too little room in the spool to begin.
pub(super) fn refuse_space(log: &Log, there: Space, arrival: Arrival) -> Refused {
    log.write(Which::Main, there.to_string().as_str().into());
    let text = match arrival {
        Arrival::Local => "insufficient disk space",
        Arrival::Smtp | Arrival::LocalSmtp => "Space shortage, please try later",
    };
    Refused::new(Refusal::Spool, 452, text)
}

/// The spool cannot be written: a full disk is 452, all else 451.
pub(super) fn refuse_spool(log: &Log, id: Option<&MessageId>, origin: &Origin, error: &io::Error) -> Refused {
    let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let id = id.map(|id| format!("{id} ")).unwrap_or_default();
    let name = sender_name(origin, log.selectors());
    let text = format!(
        "{id}Message abandoned: Spool write error ({}) while receiving message from {name}",
        crate::sys::system_words(error)
    );
    let line = BString::from(text);
    if full {
        log.write(Which::Main, line.as_bstr());
        return Refused::new(Refusal::Spool, 452, "Space shortage, please try later");
    }
    log.panic(line.as_bstr());
    Refused::new(Refusal::Spool, 451, "Error while writing spool file")
}

/// A header section or line beyond its limit.
pub(super) fn refuse_headers(log: &Log, origin: &Origin, limit: usize, one_line: bool) -> Refused {
    let name = sender_name(origin, log.selectors());
    let (what, reply) = if one_line {
        ("overlong message header line", "A message header line is too long")
    } else {
        ("ridiculously long message header", "Message header is ridiculously long")
    };
    let text = format!("{what} received from {name} (more than {limit} characters): message abandoned");
    log.write(Which::Main, BString::from(text).as_bstr());
    Refused::new(Refusal::HeadersTooBig, 552, reply)
}

/// A message beyond `message_size_limit`.
pub(super) fn refuse_size(
    log: &Log,
    id: &MessageId,
    context: &Context,
    mail: &NewMail,
    headers: &[Header],
    sizes: (u64, u64),
) -> Refused {
    let selectors = log.selectors();
    if log.wants(Selector::SizeReject) {
        let mut origin = context.session.origin.clone();
        origin.interface = None;
        let (read, limit) = sizes;
        let line = format!(
            "{id} rejected from <{}> {}: message too big: read={read} max={limit}",
            mail.sender,
            peer_fields(&origin, selectors)
        );
        log.optional(Selector::SizeReject, Which::Main, line.as_str().into());
        let mut entry = BString::from(line);
        push_message(&mut entry, mail, headers, selectors);
        if selectors.has(Selector::SizeReject) {
            log.write(Which::Reject, entry.as_bstr());
        }
    }
    Refused::new(Refusal::TooBig, 552, "Message size exceeds maximum permitted")
}

/// Envelope and headers as the reject log shows them.
fn push_message(entry: &mut BString, mail: &NewMail, headers: &[Header], selectors: Selectors) {
    if !selectors.has(Selector::RejectedHeader) {
        return;
    }
    entry.extend_from_slice(format!("\nEnvelope-from: <{}>", mail.sender).as_bytes());
    for (at, recipient) in mail.recipients.iter().enumerate() {
        let label = if at == 0 { "Envelope-to:" } else { "   " };
        entry.extend_from_slice(format!("\n{label} <{}>", recipient.address).as_bytes());
    }
    for header in headers.iter().filter(|header| header.kind != HeaderKind::Deleted) {
        if entry.len() > SHOWN_HEADERS_MAX {
            break;
        }
        entry.extend_from_slice(&[b'\n', header.kind.letter(), b' ']);
        entry.extend_from_slice(header.text.trim_end());
    }
}

/// `-t` found nobody, or what is no address. (Exim's line has the id twice.)
pub(super) fn refuse_no_recipients(log: &Log, id: &MessageId, bad: &[(BString, BString)]) -> Refused {
    if bad.is_empty() {
        log.panic(format!("{id} {id} no recipients found in headers").as_str().into());
        return Refused::new(Refusal::NoRecipients, 550, "no recipients found in headers");
    }
    log.panic(format!("{id} {id} bad addresses found in headers").as_str().into());
    let mut text = BString::default();
    for (address, wrong) in bad {
        if !text.is_empty() {
            text.push(b'\n');
        }
        text.extend_from_slice(address);
        text.extend_from_slice(b": ");
        text.extend_from_slice(wrong);
    }
    Refused::new(Refusal::BadAddress, 550, text)
}

/// True where a source must be read to its end before the peer can hear a reply.
pub(super) fn must_drain(arrival: Arrival) -> bool {
    arrival != Arrival::Local
}
