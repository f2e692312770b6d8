//! Revocation lists of the certificates that this host shows (`tls_crl_fetch` beside `tls_ocsp_fetch`): whoever cares for
//! the host hears that one of them was revoked, though its authority has no responder.
//!
//! Nothing else follows: clients that look at lists see the same, and a proof that says "good" is the authority's word too.

use crate::ocsp::Crl;
use crate::ocsp::registry::{Entry, Key, ListEntry, Registry, Side};
use crate::tls::gnutls::crl;
use crate::tls::gnutls::x509::Certificate;
use bstr::ByteSlice;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

/// Most addresses of one certificate's list that are asked.
const MAX_POINTS: usize = 2;

/// What is looked after, by certificate.
#[derive(Default)]
pub struct OwnLists(HashMap<Key, One>);

struct One {
    certificate: Certificate,
    lists: Vec<Arc<ListEntry>>,
    /// The log knows that it is revoked.
    told: bool,
}

impl OwnLists {
    /// Has the lists of new certificates looked after, forgets those of old ones, and tells of each that was revoked.
    pub fn look(&mut self, registry: &Registry, now: SystemTime, log: &dyn Fn(&str, bool)) {
        let entries = registry.entries();
        self.0.retain(|key, _| entries.iter().any(|entry| entry.key() == *key));
        for entry in &entries {
            if !self.0.contains_key(&entry.key())
                && let Some(one) = One::of(entry, registry, now)
            {
                self.0.insert(entry.key(), one);
            }
            let Some(one) = self.0.get_mut(&entry.key()) else { continue };
            let revoked = one.revoked(now);
            if let Some(url) = revoked.as_ref().filter(|_| !one.told) {
                log(
                    &format!("OCSP: {}: the revocation list {url} says that it is revoked", entry.name()),
                    true,
                );
            }
            one.told = revoked.is_some();
        }
    }
}

impl One {
    fn of(entry: &Entry, registry: &Registry, now: SystemTime) -> Option<Self> {
        let wanted = entry.wanted();
        let certificate = Certificate::from_der(&wanted.certificate).ok()?;
        let issuer = Certificate::from_der(&wanted.issuer).ok()?;
        let points = crl::distribution_points(&certificate);
        let urls = points.iter().filter_map(|url| url.to_str().ok());
        let urls = urls.filter(|url| crate::ocsp::http::Url::parse(url.as_bytes()).is_ok()).take(MAX_POINTS);
        let look_after = |url| registry.look_after_list(&issuer, url, Side::Server, now).ok().flatten();
        let lists = urls.filter_map(look_after).collect();
        Some(Self { certificate, lists, told: false })
    }

    /// The address of a list that names it.
    fn revoked(&self, now: SystemTime) -> Option<String> {
        let serial = self.certificate.serial().ok()?;
        let names = |crl: &Crl| {
            crl.usable(now).is_ok() && crl.covers(&self.certificate) && crl.revoked(&serial).is_some()
        };
        let list = self.lists.iter().find(|list| list.crl().is_some_and(|crl| names(&crl)))?;
        Some(list.wanted().url.clone())
    }
}
