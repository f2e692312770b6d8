//! `hosts_require_status`: revocation lists that a verified certificate names are asked for, and looked at.
//!
//! They are fetched by the staple keeper, so a list that was never asked for is not there yet: the host is then deferred,
//! and tried again. Lists stay wanted, and so fresh, until [`MAX_HELD`] others were needed since.

use super::revocation::{Link, Word};
use crate::ocsp::Crl;
use crate::ocsp::http::Url;
use crate::ocsp::registry::{Key, ListEntry, MAX_LISTS, Registry, Side};
use bstr::ByteSlice;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

/// Most lists that are kept in hand: what the registry has room for, less some for the certificates of this host.
const MAX_HELD: usize = MAX_LISTS / 4 * 3;
/// Most addresses of one certificate that are asked.
const MAX_POINTS: usize = 8;

/// What is known of a certificate's status, where one is required.
#[derive(Debug)]
pub(super) enum Status {
    /// Nobody asks.
    NotRequired,
    /// Not revoked; this holds up to then.
    Good(SystemTime),
    /// Revoked.
    Revoked,
    /// Nothing proves it.
    Unproven,
    /// Its list is not there yet, for this reason.
    Waiting(String),
}

/// The lists that are wanted, by whoever connects.
#[derive(Default)]
pub(super) struct Held(Mutex<HashMap<Key, (Arc<ListEntry>, Instant)>>);

/// Where to ask.
pub(super) struct Asked<'a> {
    pub held: &'a Held,
    /// None: lists are not fetched (`tls_crl_fetch` is off).
    pub registry: Option<&'a Registry>,
}

impl Held {
    /// The entry of a list; it stays wanted.
    fn entry(&self, registry: &Registry, link: &Link, url: &str, now: SystemTime) -> Option<Arc<ListEntry>> {
        let key = Key::of_list(&link.issuer, url).ok()?;
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((entry, used)) = held.get_mut(&key) {
            *used = Instant::now();
            return Some(Arc::clone(entry));
        }
        let entry = registry.look_after_list(&link.issuer, url, Side::Client, now).ok()??;
        if held.len() >= MAX_HELD {
            let oldest = held.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| *key);
            oldest.and_then(|oldest| held.remove(&oldest));
        }
        held.insert(key, (Arc::clone(&entry), Instant::now()));
        Some(entry)
    }
}

impl Asked<'_> {
    /// What the lists that the certificate names say of it; `weigh` is asked with those that are there.
    pub fn status(&self, leaf: &Link, now: SystemTime, weigh: impl Fn(Vec<Crl>) -> Word) -> Status {
        let Some(registry) = self.registry else { return Status::Unproven };
        let points = crate::tls::gnutls::crl::distribution_points(&leaf.certificate);
        let urls =
            points.iter().filter_map(|point| point.to_str().ok().filter(|_| Url::parse(point).is_ok()));
        let wanted: Vec<&str> = urls.take(MAX_POINTS).collect();
        if wanted.is_empty() {
            return Status::Unproven;
        }
        let entries: Vec<_> =
            wanted.iter().filter_map(|url| self.held.entry(registry, leaf, url, now)).collect();
        match weigh(entries.iter().filter_map(|entry| entry.crl()).collect()) {
            Word::Good(end) => Status::Good(end),
            Word::Revoked => Status::Revoked,
            Word::Silent | Word::Unfit(_) => Status::Waiting(waiting(&entries, &wanted, now)),
        }
    }
}

/// Why there is no list, for the log.
fn waiting(entries: &[Arc<ListEntry>], wanted: &[&str], now: SystemTime) -> String {
    let Some(entry) = entries.first() else {
        let url = wanted.first().unwrap_or(&"");
        return format!("too many revocation lists are in use to fetch {url}");
    };
    let (url, report) = (&entry.wanted().url, entry.report());
    match (entry.crl().map(|crl| crl.usable(now)), report.last_error.as_str()) {
        (Some(Ok(())), _) => format!("the revocation list {url} does not speak of the certificate"),
        (Some(Err(unfit)), "") => format!("revocation list {url}: {unfit}"),
        (_, "") => format!("revocation list {url} is not there yet"),
        (_, error) => format!("revocation list {url} cannot be had: {error}"),
    }
}
