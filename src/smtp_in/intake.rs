//! The way from a session into [`crate::receive`].

use crate::expand::context::Context;
use crate::mail::Reply;
use crate::receive::{Draft, NewMail, Outcome, Refusal, Station, Verdict};
use std::io::BufRead;

/// Reads one message to its end and commits it.
pub(super) fn accept(
    _station: &Station,
    _context: &mut Context,
    _mail: NewMail,
    source: &mut dyn BufRead,
    _ask: &mut dyn FnMut(&mut Context, Draft) -> Verdict,
) -> Outcome {
    let lost = std::io::copy(source, &mut std::io::sink()).is_err();
    let reply = Reply::new(451, "Temporary local problem - please try later");
    Outcome::Refused { why: if lost { Refusal::Lost } else { Refusal::Spool }, reply, must_close: lost }
}
