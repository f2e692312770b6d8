//! What a process knows of the status of certificates: which ones it shows, and the newest proof of each.
//!
//! A unit of TLS registers each certificate that it shows ([`Registry::want`]) and asks its [`Entry`] for the
//! proof at each handshake; the staple keeper is told of new ones, and what it found is checked once more before it is
//! used ([`Registry::heard`]): the keeper reads bytes of the network, and is believed no more than those.
//!
//! Entries are known by issuer and serial number, never by a path: after a change of the certificate an old proof
//! cannot be shown with the new one.

mod awaited;
mod lists;

pub use awaited::{FIRST_WORD_PATIENCE, demands_proof, has_responder};
pub use lists::{ListEntry, MAX_BYTES, MAX_LISTS, Side, WantedList};

use super::{Proof, Subject, Unfit};
use crate::tls::gnutls;
use crate::tls::gnutls::hash::{Digest, digest};
use crate::tls::gnutls::x509::Certificate;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

/// Most certificates that are looked after at once. A host with more of them still works: those beyond have no
/// fetched proof, and the log says so.
pub const MAX_ENTRIES: usize = 4096;

/// Which certificate: the SHA-256 of its issuer's name, its issuer's key and its serial number.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(pub [u8; 32]);

/// A certificate that is shown, with all that is needed to ask about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The certificate in DER.
    pub certificate: Vec<u8>,
    /// Its issuer's in DER.
    pub issuer: Vec<u8>,
    /// The responder that the configuration names; it wins over the one that the certificate names.
    pub responder: Option<String>,
}

/// Who fetches.
pub trait Keeper: Send + Sync {
    /// Look after this certificate from now on. Told again after the keeper has died.
    fn want(&self, key: Key, wanted: &Wanted);
    /// Look after this revocation list from now on, likewise.
    fn want_list(&self, key: Key, wanted: &WantedList);
    /// Nobody needs it any more, certificate or list.
    fn forget(&self, key: Key);
    /// The response that an earlier run has left, as it lies there: not checked.
    fn stored(&self, _: Key) -> Option<Vec<u8>> {
        None
    }
    /// It is at work: there may be a word soon on what is wanted.
    fn fetches(&self) -> bool {
        true
    }
}

/// How the fetching goes, as the keeper tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Who is asked; empty: nobody, since neither the certificate nor the configuration names a responder.
    pub source: String,
    /// When it is asked next.
    pub next_attempt: Option<SystemTime>,
    /// Proofs that were fetched and found good, or a revocation.
    pub successes: u64,
    /// Attempts that brought nothing.
    pub failures: u64,
    /// Why the last attempt brought nothing; empty after a success.
    pub last_error: String,
}

/// The newest word on a certificate.
#[derive(Clone, Debug, Default)]
pub enum Word {
    /// None yet.
    #[default]
    Nothing,
    /// It is good, as this proves; perhaps not any more ([`Proof::usable`]).
    Good(Proof),
    /// It is revoked, since then.
    Revoked(SystemTime),
}

/// One certificate that is looked after, as long as somebody holds this.
pub struct Entry {
    key: Key,
    wanted: Wanted,
    /// Shared with whoever holds the certificate with another responder: a word on it is a word on it.
    state: Arc<Mutex<State>>,
    registry: Weak<Inner>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) word: Word,
    /// Counts the words, so that who built something from one knows that there is a newer.
    version: u64,
    pub(super) report: Report,
    /// What the log was told last.
    pub(super) told: super::change::Told,
    /// Until when somebody who wants to show it waits for the first word.
    patience: Option<Instant>,
}

/// All entries of a process; cheap to clone.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

struct Inner {
    keeper: Arc<dyn Keeper>,
    entries: Mutex<HashMap<Key, Weak<Entry>>>,
    lists: Mutex<HashMap<Key, Weak<ListEntry>>>,
    news: Condvar,
    /// Guards nothing but the waiting for news.
    waiting: Mutex<()>,
}

impl Key {
    /// The key of a certificate under its issuer.
    pub fn of(certificate: &Certificate, issuer: &Certificate) -> Result<Self, gnutls::Error> {
        let mut text = Vec::new();
        for part in [certificate.raw_issuer_dn()?, issuer.public_key_bits()?, certificate.serial()?] {
            text.extend_from_slice(&(part.len() as u64).to_be_bytes());
            text.extend_from_slice(&part);
        }
        let hash = digest(Digest::Sha256, &text)?;
        let mut key = [0; 32];
        let length = key.len().min(hash.len());
        key[..length].copy_from_slice(&hash[..length]);
        Ok(Self(key))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Wanted {
    /// Of these two certificates; the key that goes with it.
    pub fn new(
        certificate: &Certificate,
        issuer: &Certificate,
        responder: Option<String>,
    ) -> Result<(Key, Self), gnutls::Error> {
        let wanted = Self { certificate: certificate.der()?, issuer: issuer.der()?, responder };
        Ok((Key::of(certificate, issuer)?, wanted))
    }

    fn subject(&self) -> Option<Subject> {
        let certificate = Certificate::from_der(&self.certificate).ok()?;
        Subject::new(&certificate, Certificate::from_der(&self.issuer).ok()?)
    }
}

impl Registry {
    /// Nothing known yet.
    pub fn new(keeper: Arc<dyn Keeper>) -> Self {
        let (entries, lists) = (Mutex::default(), Mutex::default());
        let (news, waiting) = (Condvar::new(), Mutex::default());
        Self(Arc::new(Inner { keeper, entries, lists, news, waiting }))
    }

    /// Looks after a certificate as long as the entry is held. None: there are too many.
    pub fn want(&self, key: Key, wanted: Wanted) -> Option<Arc<Entry>> {
        // Declared before the lock is taken: should this be the last holder, it needs the lock when it goes.
        let known;
        let mut entries = lock(&self.0.entries);
        known = entries.get(&key).and_then(Weak::upgrade);
        if let Some(entry) = known.as_ref().filter(|entry| entry.wanted == wanted) {
            return Some(Arc::clone(entry));
        }
        if entries.len() >= MAX_ENTRIES && !entries.contains_key(&key) {
            return None;
        }
        let state = known.as_ref().map(|entry| Arc::clone(&entry.state)).unwrap_or_default();
        let entry = Arc::new(Entry { key, wanted, state, registry: Arc::downgrade(&self.0) });
        entries.insert(key, Arc::downgrade(&entry));
        drop(entries);
        self.0.keeper.want(key, &entry.wanted);
        Some(entry)
    }

    /// As [`Self::want`]; what an earlier run of the keeper has left is taken at once, if it still holds `now`.
    pub fn look_after(
        &self,
        certificate: &Certificate,
        issuer: &Certificate,
        responder: Option<String>,
        now: SystemTime,
    ) -> Result<Option<Arc<Entry>>, gnutls::Error> {
        let (key, wanted) = Wanted::new(certificate, issuer, responder)?;
        let Some(entry) = self.want(key, wanted) else { return Ok(None) };
        if entry.word().1 == 0
            && let Some(der) = self.0.keeper.stored(key)
        {
            // What does not hold any more is as good as none.
            let _ = self.heard(key, &der, now);
        }
        Ok(Some(entry))
    }

    /// All certificates that are looked after.
    pub fn entries(&self) -> Vec<Arc<Entry>> {
        lock(&self.0.entries).values().filter_map(Weak::upgrade).collect()
    }

    /// The entry of this key.
    pub fn entry(&self, key: Key) -> Option<Arc<Entry>> {
        lock(&self.0.entries).get(&key).and_then(Weak::upgrade)
    }

    /// Takes a response that the keeper or the store has for this certificate, after checking it. A good one that
    /// ends before the one in hand does not take its place.
    pub fn heard(&self, key: Key, der: &[u8], now: SystemTime) -> Result<(), Unfit> {
        let Some(entry) = self.entry(key) else { return Ok(()) }; // forgotten meanwhile
        let subject = entry.wanted.subject().ok_or(Unfit::IssuerUnknown)?;
        let word = match Proof::check_to_show(der, &subject, now) {
            Ok(proof) => Word::Good(proof),
            Err(Unfit::Revoked(since)) => Word::Revoked(since),
            Err(unfit) => return Err(unfit),
        };
        let mut state = lock(&entry.state);
        let older =
            matches!((&word, &state.word), (Word::Good(new), Word::Good(old)) if new.until() < old.until());
        if !older {
            state.word = word;
            state.version += 1;
            // Its report follows. Whoever looks in between is not told that the attempt that brought this one failed.
            state.report.last_error.clear();
        }
        drop(state);
        self.0.tell();
        Ok(())
    }

    /// Takes what the keeper tells of its attempts.
    pub fn told(&self, key: Key, report: Report) {
        if let Some(entry) = self.entry(key) {
            lock(&entry.state).report = report;
        } else if let Some(list) = self.list(key) {
            list.set_report(report);
        }
        self.0.tell();
    }

    /// Waits until `done` says so, looking again at each news, up to `deadline`; tells whether it did.
    pub fn wait(&self, deadline: Instant, done: impl Fn() -> bool) -> bool {
        let mut turn = lock(&self.0.waiting);
        while !done() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return false;
            }
            turn = self.0.news.wait_timeout(turn, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Tells the keeper of everything again: it has been started anew.
    pub fn tell_all(&self) {
        for entry in self.entries() {
            self.0.keeper.want(entry.key, &entry.wanted);
        }
        for list in self.lists() {
            self.0.keeper.want_list(list.key(), list.wanted());
        }
    }
}

impl Inner {
    /// There are news.
    fn tell(&self) {
        let _turn = lock(&self.waiting);
        self.news.notify_all();
    }
}

impl Entry {
    /// Which certificate.
    pub fn key(&self) -> Key {
        self.key
    }
    /// All that is needed to ask about it.
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }
    /// The newest word, and its number, which grows with each.
    pub fn word(&self) -> (Word, u64) {
        let state = lock(&self.state);
        (state.word.clone(), state.version)
    }
    /// How the fetching goes.
    pub fn report(&self) -> Report {
        lock(&self.state).report.clone()
    }
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let Some(registry) = self.registry.upgrade() else { return };
        let mut entries = lock(&registry.entries);
        // Another entry may have its place already.
        if entries.get(&self.key).is_some_and(|entry| entry.strong_count() == 0) {
            entries.remove(&self.key);
            drop(entries);
            registry.keeper.forget(self.key);
        }
    }
}

/// A panic leaves what is locked as it was: each change is one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Listed(Mutex<Vec<String>>);
    impl Keeper for Listed {
        fn want(&self, key: Key, _: &Wanted) {
            lock(&self.0).push(format!("want {}", key.0[0]));
        }
        fn want_list(&self, key: Key, _: &WantedList) {
            lock(&self.0).push(format!("want list {}", key.0[0]));
        }
        fn forget(&self, key: Key) {
            lock(&self.0).push(format!("forget {}", key.0[0]));
        }
    }

    fn wanted(responder: Option<&str>) -> Wanted {
        Wanted { certificate: vec![1], issuer: vec![2], responder: responder.map(str::to_owned) }
    }

    #[test]
    fn a_certificate_is_told_once_and_forgotten_with_its_last_holder() {
        let keeper = Arc::new(Listed::default());
        let registry = Registry::new(keeper.clone());
        let first = registry.want(Key([1; 32]), wanted(None)).unwrap();
        let second = registry.want(Key([1; 32]), wanted(None)).unwrap();
        drop(first);
        assert_eq!(registry.entries().len(), 1);
        drop(second);
        assert_eq!(registry.entries().len(), 0);
        assert_eq!(*lock(&keeper.0), ["want 1", "forget 1"]);
    }

    #[test]
    fn another_responder_takes_the_place_of_the_former_and_is_not_forgotten_with_it() {
        let keeper = Arc::new(Listed::default());
        let registry = Registry::new(keeper.clone());
        let first = registry.want(Key([1; 32]), wanted(None)).unwrap();
        let second = registry.want(Key([1; 32]), wanted(Some("http://other/"))).unwrap();
        drop(first);
        assert_eq!(
            registry.entry(Key([1; 32])).unwrap().wanted().responder.as_deref(),
            Some("http://other/")
        );
        drop(second);
        assert_eq!(*lock(&keeper.0), ["want 1", "want 1", "forget 1"]);
    }

    #[test]
    fn there_is_an_end_to_what_is_looked_after() {
        let registry = Registry::new(Arc::new(Listed::default()));
        let key = |number: usize| {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&number.to_be_bytes());
            Key(key)
        };
        let mut held: Vec<_> =
            (0..MAX_ENTRIES).map(|n| registry.want(key(n), wanted(None)).unwrap()).collect();
        assert!(registry.want(key(MAX_ENTRIES), wanted(None)).is_none());
        held.pop();
        assert!(registry.want(key(MAX_ENTRIES), wanted(None)).is_some());
    }

    #[test]
    fn a_list_is_told_once_told_again_and_forgotten_with_its_last_holder() {
        let keeper = Arc::new(Listed::default());
        let registry = Registry::new(keeper.clone());
        let wanted = WantedList { url: "http://lists/one".into(), issuer: vec![2] };
        let first = registry.want_list(Key([1; 32]), wanted.clone()).unwrap();
        let second = registry.want_list(Key([1; 32]), wanted).unwrap();
        drop(first);
        registry.tell_all();
        registry.told(Key([1; 32]), Report { failures: 3, ..Report::default() });
        assert_eq!((second.report().failures, second.crl().is_none()), (3, true));
        drop(second);
        assert_eq!(registry.lists().len(), 0);
        assert_eq!(*lock(&keeper.0), ["want list 1", "want list 1", "forget 1"]);
    }

    #[test]
    fn what_proves_nothing_is_not_taken() {
        let registry = Registry::new(Arc::new(Listed::default()));
        let entry = registry.want(Key([1; 32]), wanted(None)).unwrap();
        assert!(registry.heard(Key([1; 32]), b"nonsense", SystemTime::UNIX_EPOCH).is_err());
        assert!(matches!(entry.word(), (Word::Nothing, 0)));
    }
}
