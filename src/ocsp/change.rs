//! What the log is told of a certificate that is looked after: one line for each change of its state, however many
//! units show it, and none for each attempt or handshake.

use super::Unfit;
use super::registry::{Entry, State, Word};
use super::unfit::date;
use crate::tls::gnutls::x509::Certificate;
use bstr::ByteSlice;
use std::time::SystemTime;

/// A line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The line.
    pub text: String,
    /// Somebody should do something: the panic log's too.
    pub alarming: bool,
}

/// The states that the log tells apart. The reason of a failure may change without a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Told {
    /// There is a usable proof, or nothing went wrong yet.
    #[default]
    Well,
    /// Fetching fails, and the proof in hand is still usable.
    Failing,
    /// Fetching fails, and there never was a proof.
    Without,
    /// The proof in hand cannot be shown any more.
    RanOut,
    /// The certificate is revoked.
    Revoked,
}

impl Entry {
    /// The line for the log, if the state is another than the one that was told last.
    pub fn change(&self, now: SystemTime) -> Option<Change> {
        let mut state = self.state();
        let is = state_now(&state, now);
        let was = std::mem::replace(&mut state.told, is);
        let alarming = is == Told::Revoked;
        let words = if was == is { None } else { Some(words(&state, is)) };
        drop(state);
        words.map(|words| Change { text: format!("OCSP: {}: {words}", self.name()), alarming })
    }

    /// The certificate, for people: its subject and serial number.
    pub fn name(&self) -> String {
        let named = Certificate::from_der(&self.wanted().certificate).and_then(|certificate| {
            let serial: String = certificate.serial()?.iter().map(|byte| format!("{byte:02X}")).collect();
            Ok(format!("{} (serial {serial})", certificate.dn()?.to_str_lossy()))
        });
        named.unwrap_or_else(|_| format!("certificate {}", self.key()))
    }
}

fn state_now(state: &State, now: SystemTime) -> Told {
    let fails = !state.report.last_error.is_empty();
    match &state.word {
        Word::Revoked(_) => Told::Revoked,
        Word::Good(proof) if proof.usable(now).is_err() => Told::RanOut,
        Word::Good(_) if fails => Told::Failing,
        Word::Nothing if fails => Told::Without,
        Word::Good(_) | Word::Nothing => Told::Well,
    }
}

fn words(state: &State, is: Told) -> String {
    let source = &state.report.source;
    let reason = match state.report.last_error.as_str() {
        "" => String::new(),
        error => format!(" ({source}: {error})"),
    };
    let until = match &state.word {
        Word::Good(proof) => date(proof.until()),
        Word::Nothing | Word::Revoked(_) => String::new(),
    };
    match (is, &state.word) {
        (Told::Revoked, Word::Revoked(since)) => {
            format!("{}; nothing is stapled", Unfit::Revoked(*since))
        }
        (Told::RanOut, _) => format!("its proof ran out at {until} and is not stapled any more{reason}"),
        (Told::Failing, _) => {
            format!("no new proof{reason}; the one in hand is stapled until {until}")
        }
        (Told::Without, _) => format!("no proof yet{reason}; nothing is stapled"),
        (Told::Well, Word::Good(_)) => format!("a new proof is stapled until {until}"),
        _ => "no proof is missed any more".to_owned(), // the responder was taken out of the configuration
    }
}
