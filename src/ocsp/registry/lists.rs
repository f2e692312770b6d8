//! Revocation lists that are looked after, as certificates are ([`super`]): known by who signs them and where they are
//! published, and checked once more when they come.

use super::{Inner, Key, Registry, Report, lock};
use crate::ocsp::{Crl, UnfitCrl};
use crate::tls::gnutls;
use crate::tls::gnutls::hash::{Digest, digest};
use crate::tls::gnutls::x509::Certificate;
use std::sync::{Arc, Mutex, Weak};
use std::time::SystemTime;

/// Most lists that are looked after at once. Each is in memory ([`crate::ocsp::MAX_CRL_SIZE`] at most).
pub const MAX_LISTS: usize = 256;
/// Most bytes of lists that are held at once. One that has no room is as one that did not come.
pub const MAX_BYTES: usize = 256 * 1024 * 1024;

/// On which side of TLS something is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// This host is the server: the certificates that it shows, and those that clients show to it.
    #[default]
    Server,
    /// It is the client: the certificates of servers that it delivers to.
    Client,
    /// Both.
    Both,
}

impl Side {
    /// Its name, in the table, in JSON and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
            Self::Both => "both",
        }
    }
}

/// A list, with all that is needed to fetch and check it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedList {
    /// Where it is published.
    pub url: String,
    /// The certificate of who signs it, in DER.
    pub issuer: Vec<u8>,
}

/// One list that is looked after, as long as somebody holds this.
pub struct ListEntry {
    key: Key,
    wanted: WantedList,
    state: Mutex<ListState>,
    registry: Weak<Inner>,
}

#[derive(Default)]
struct ListState {
    crl: Option<Crl>,
    report: Report,
    side: Option<Side>,
}

impl Key {
    /// The key of a list: the SHA-256 of the name and key of who signs it, and of its address.
    pub fn of_list(issuer: &Certificate, url: &str) -> Result<Self, gnutls::Error> {
        let mut text = b"list".to_vec();
        for part in [&issuer.raw_dn()?[..], &issuer.public_key_bits()?, url.as_bytes()] {
            text.extend_from_slice(&(part.len() as u64).to_be_bytes());
            text.extend_from_slice(part);
        }
        let hash = digest(Digest::Sha256, &text)?;
        let mut key = [0; 32];
        let length = key.len().min(hash.len());
        key[..length].copy_from_slice(&hash[..length]);
        Ok(Self(key))
    }
}

impl WantedList {
    /// The list of `issuer` at this address; the key that goes with it.
    pub fn new(issuer: &Certificate, url: &str) -> Result<(Key, Self), gnutls::Error> {
        Ok((Key::of_list(issuer, url)?, Self { url: url.to_owned(), issuer: issuer.der()? }))
    }
}

impl Registry {
    /// Looks after a list as long as the entry is held. None: there are too many.
    pub fn want_list(&self, key: Key, wanted: WantedList) -> Option<Arc<ListEntry>> {
        let mut lists = lock(&self.0.lists);
        // The key says all that there is to a list but which of an issuer's certificates was at hand.
        if let Some(entry) = lists.get(&key).and_then(Weak::upgrade) {
            return Some(entry);
        }
        if lists.len() >= MAX_LISTS && !lists.contains_key(&key) {
            return None;
        }
        let (state, registry) = (Mutex::default(), Arc::downgrade(&self.0));
        let entry = Arc::new(ListEntry { key, wanted, state, registry });
        lists.insert(key, Arc::downgrade(&entry));
        drop(lists);
        self.0.keeper.want_list(key, &entry.wanted);
        Some(entry)
    }

    /// As [`Self::want_list`], for this side; what an earlier run of the keeper has left is taken at once, if it still
    /// holds `now`.
    pub fn look_after_list(
        &self,
        issuer: &Certificate,
        url: &str,
        side: Side,
        now: SystemTime,
    ) -> Result<Option<Arc<ListEntry>>, gnutls::Error> {
        let (key, wanted) = WantedList::new(issuer, url)?;
        let Some(entry) = self.want_list(key, wanted) else { return Ok(None) };
        entry.use_for(side);
        if entry.crl().is_none()
            && let Some(bytes) = self.0.keeper.stored(key)
        {
            // What does not hold any more is as good as none.
            let _ = self.heard_list(key, &bytes, now);
        }
        Ok(Some(entry))
    }

    /// All lists that are looked after.
    pub fn lists(&self) -> Vec<Arc<ListEntry>> {
        lock(&self.0.lists).values().filter_map(Weak::upgrade).collect()
    }

    /// The list of this key.
    pub fn list(&self, key: Key) -> Option<Arc<ListEntry>> {
        lock(&self.0.lists).get(&key).and_then(Weak::upgrade)
    }

    /// Takes a list that the keeper or the store has, after checking it. One made before the one in hand does not take
    /// its place.
    pub fn heard_list(&self, key: Key, bytes: &[u8], now: SystemTime) -> Result<(), UnfitCrl> {
        let Some(entry) = self.list(key) else { return Ok(()) }; // forgotten meanwhile
        let issuer = Certificate::from_der(&entry.wanted.issuer)?;
        let crl = Crl::check(bytes, &issuer, now)?;
        let held =
            self.lists().iter().filter_map(|entry| entry.crl()).map(|crl| crl.der().len()).sum::<usize>();
        if held + crl.der().len() > MAX_BYTES {
            return Err(UnfitCrl::NoRoom(MAX_BYTES));
        }
        let mut state = lock(&entry.state);
        if state.crl.as_ref().is_none_or(|old| old.since() <= crl.since()) {
            state.crl = Some(crl);
        }
        drop(state);
        self.0.tell();
        Ok(())
    }
}

impl ListEntry {
    /// Which list.
    pub fn key(&self) -> Key {
        self.key
    }
    /// All that is needed to fetch it.
    pub fn wanted(&self) -> &WantedList {
        &self.wanted
    }
    /// The newest that came; perhaps past its end ([`Crl::usable`]).
    pub fn crl(&self) -> Option<Crl> {
        lock(&self.state).crl.clone()
    }
    /// For which side it was asked for.
    pub fn side(&self) -> Side {
        lock(&self.state).side.unwrap_or(Side::Server)
    }
    fn use_for(&self, side: Side) {
        let mut state = lock(&self.state);
        state.side = Some(state.side.filter(|before| *before != side).map_or(side, |_| Side::Both));
    }
    /// How the fetching goes.
    pub fn report(&self) -> Report {
        lock(&self.state).report.clone()
    }
    pub(super) fn set_report(&self, report: Report) {
        lock(&self.state).report = report;
    }
}

impl Drop for ListEntry {
    fn drop(&mut self) {
        let Some(registry) = self.registry.upgrade() else { return };
        let mut lists = lock(&registry.lists);
        // Another entry may have its place already.
        if lists.get(&self.key).is_some_and(|entry| entry.strong_count() == 0) {
            lists.remove(&self.key);
            drop(lists);
            registry.keeper.forget(self.key);
        }
    }
}
