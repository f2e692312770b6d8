//! Waiting for the first word on a certificate that promises a staple (must-staple, RFC 7633): a client that is served
//! before there is a proof has to refuse the session.
//!
//! Each wait is bounded, and so is the waiting for one certificate in all: it begins with the first who waits, and who
//! comes after its end does not wait. A responder that is dead costs the first sessions a moment, once. Who waits does
//! so in a thread of its own and holds no lock, so that nobody else is held up.

use super::{Entry, Registry, State, Word, lock};
use crate::ocsp::obtain;
use crate::tls::gnutls::x509::Certificate;
use std::time::{Duration, Instant, SystemTime};

/// How long in all a certificate keeps those waiting that want to show it. A responder that answers at all does so in a
/// second or two, and no client gives up a handshake as early as this.
pub const FIRST_WORD_PATIENCE: Duration = Duration::from_secs(5);

/// The certificate promises a staple, and there is somebody who can be asked for it.
pub fn demands_proof(certificate: &Certificate, responder: Option<&str>) -> bool {
    certificate.demands_staple() && has_responder(certificate, responder)
}

/// There is somebody who can be asked about it: whom the configuration names, or the certificate.
pub fn has_responder(certificate: &Certificate, responder: Option<&str>) -> bool {
    responder.is_some() || obtain::responder_of(certificate).is_ok_and(|url| url.is_some())
}

impl Entry {
    /// As [`demands_proof`], of this certificate.
    pub fn demands_proof(&self) -> bool {
        let responder = self.wanted.responder.as_deref();
        Certificate::from_der(&self.wanted.certificate)
            .is_ok_and(|certificate| demands_proof(&certificate, responder))
    }

    /// Somebody who wants to show it now should wait: there may be a word on it soon.
    pub fn is_awaited(&self, now: SystemTime) -> bool {
        let state = lock(&self.state);
        let is_open = !state.is_settled(now) && state.patience.is_none_or(|end| Instant::now() < end);
        drop(state);
        is_open && self.registry.upgrade().is_some_and(|registry| registry.keeper.fetches())
    }

    /// Begins the waiting, if it has not begun yet; gives its end.
    fn begin_waiting(&self, patience: Duration) -> Instant {
        *lock(&self.state).patience.get_or_insert_with(|| Instant::now() + patience)
    }
}

impl State {
    /// There is a word on it, or an attempt to get one has failed.
    fn is_settled(&self, now: SystemTime) -> bool {
        match &self.word {
            Word::Good(proof) if proof.usable(now).is_ok() => true,
            Word::Revoked(_) => true,
            Word::Good(_) | Word::Nothing => !self.report.last_error.is_empty(),
        }
    }
}

impl Registry {
    /// Waits until there is a word on each of these, up to the end of its `patience` and not beyond the `deadline`.
    pub fn await_words(
        &self,
        entries: &[&Entry],
        patience: Duration,
        deadline: Option<Instant>,
        now: SystemTime,
    ) {
        let awaited: Vec<&Entry> = entries.iter().filter(|entry| entry.is_awaited(now)).copied().collect();
        let Some(end) = awaited.iter().map(|entry| entry.begin_waiting(patience)).max() else { return };
        let end = deadline.map_or(end, |deadline| end.min(deadline));
        self.wait(end, || awaited.iter().all(|entry| lock(&entry.state).is_settled(now)));
    }
}
