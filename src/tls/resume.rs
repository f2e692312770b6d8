//! Sessions to go on with (`tls_resumption_hosts`, row C6): a client keeps them, a server has the key of their tickets.
//!
//! What a client keeps is known by everything that decides whether a certificate and its status are good, so a session is
//! never gone on with under another requirement than it was made under; and it ends when the first thing ends that it was
//! found good by (a proof, a list, a certificate). Both are in this process's memory only.

use super::client::{ClientRequest, ClientSettings, Verify};
use super::gnutls;
use super::gnutls::resumption::TicketKey;
use super::gnutls::session::ClientCertificate;
use super::terms::ClientTerms;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

/// Most sessions that are kept: one has some KiB (the server's certificates are in it).
const MAX_KEPT: usize = 512;
/// Longest data of a session that is kept.
const MAX_DATA: usize = 64 * 1024;
/// Longest that a session is gone on with: what it was found good by may have been withdrawn since.
const LONGEST: Duration = Duration::from_secs(2 * 3600);
/// How long tickets are made with one key. Those made with the former one are not taken any more.
const KEY_LIFE: Duration = Duration::from_secs(6 * 3600);

/// What a session was made for: all that decides about the server's certificate, its status, and the cipher.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Purpose {
    host: SocketAddr,
    settings: ClientSettings,
    ciphers: Option<Vec<u8>>,
    sni: Option<Vec<u8>>,
    host_name: Option<Vec<u8>>,
    verify: Verify,
    asks_for_staple: bool,
    require_ocsp: bool,
    require_status: bool,
    terms: ClientTerms,
}

/// Sessions of a client; `U` is what they were verified with.
pub(super) struct Sessions<U>(Mutex<HashMap<Purpose, Kept<U>>>);

struct Kept<U> {
    data: Vec<u8>,
    until: SystemTime,
    unit: Weak<U>,
}

/// A session that was kept, and until when it may be gone on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Former {
    pub data: Vec<u8>,
    pub until: SystemTime,
}

impl Purpose {
    /// Of a connection to this host.
    pub fn of(host: SocketAddr, request: &ClientRequest<'_>) -> Self {
        Self {
            host,
            settings: request.settings.clone(),
            ciphers: request.ciphers.map(<[u8]>::to_vec),
            sni: request.sni.map(<[u8]>::to_vec),
            host_name: request.host_name.map(<[u8]>::to_vec),
            verify: request.verify,
            asks_for_staple: request.asks_for_staple(),
            require_ocsp: request.require_ocsp,
            require_status: request.require_status,
            terms: request.terms.clone(),
        }
    }
}

impl<U> Default for Sessions<U> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<U> Sessions<U> {
    /// A session for this purpose, to be used once (RFC 8446 appendix C.4); none if what it was verified with (files of
    /// trust and lists) has changed, or something has ended since.
    pub fn take(&self, purpose: &Purpose, unit: &Arc<U>, now: SystemTime) -> Option<Former> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = all.remove(purpose)?;
        let same = std::ptr::eq(kept.unit.as_ptr(), Arc::as_ptr(unit));
        (same && now <= kept.until).then_some(Former { data: kept.data, until: kept.until })
    }

    /// Keeps a session, up to `until` at most.
    pub fn put(
        &self,
        purpose: Purpose,
        unit: &Arc<U>,
        data: Vec<u8>,
        made: SystemTime,
        until: Option<SystemTime>,
    ) {
        if data.len() > MAX_DATA {
            return;
        }
        let until = until.map_or(made + LONGEST, |until| until.min(made + LONGEST));
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_KEPT && !all.contains_key(&purpose) {
            let first = all.iter().min_by_key(|(_, kept)| kept.until).map(|(purpose, _)| purpose.clone());
            first.and_then(|first| all.remove(&first));
        }
        all.insert(purpose, Kept { data, until, unit: Arc::downgrade(unit) });
    }
}

/// The keys of a server's tickets: one for each wish for the client's certificate, so that no session is gone on with that
/// was made under a lesser one; made anew every six hours.
#[derive(Default)]
pub(super) struct TicketKeys(Mutex<[Option<Dated>; 3]>);

/// A key, and when it was made.
type Dated = (Instant, Arc<TicketKey>);

impl TicketKeys {
    /// The key for this wish.
    pub fn get(&self, wish: ClientCertificate, now: Instant) -> Result<Arc<TicketKey>, gnutls::Error> {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = &mut keys[match wish {
            ClientCertificate::Ignored => 0,
            ClientCertificate::Requested => 1,
            ClientCertificate::Required => 2,
        }];
        if let Some((made, key)) = place
            && now.saturating_duration_since(*made) < KEY_LIFE
        {
            return Ok(Arc::clone(key));
        }
        let key = Arc::new(TicketKey::generate()?);
        *place = Some((now, Arc::clone(&key)));
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn purpose(port: u16, require_status: bool) -> Purpose {
        purpose_of(port, &ClientSettings::default(), |request| request.require_status = require_status)
    }

    fn purpose_of(
        port: u16,
        settings: &ClientSettings,
        change: impl FnOnce(&mut ClientRequest<'_>),
    ) -> Purpose {
        let mut request = ClientRequest {
            settings,
            ciphers: None,
            sni: None,
            verify: Verify::Try,
            host_name: None,
            request_ocsp: true,
            require_ocsp: false,
            require_status: false,
            registry: None,
            resume: true,
            deadline: None,
            on_connect: false,
            now: SystemTime::UNIX_EPOCH,
            notify: &|_| {},
            terms: ClientTerms::default(),
        };
        change(&mut request);
        Purpose::of(SocketAddr::from(([127, 0, 0, 1], port)), &request)
    }

    #[test]
    fn whatever_decides_about_a_certificate_is_part_of_the_purpose() {
        let plain = ClientSettings::default();
        let lists = ClientSettings { crl: Some("/lists".into()), ..ClientSettings::default() };
        let trust =
            ClientSettings { verify_certificates: Some("/trust".into()), ..ClientSettings::default() };
        let terms = ClientTerms { require_protocol: true, ..ClientTerms::default() };
        let all = [
            purpose_of(25, &plain, |_| {}),
            purpose_of(26, &plain, |_| {}),
            purpose_of(25, &lists, |_| {}),
            purpose_of(25, &trust, |_| {}),
            purpose_of(25, &plain, |request| request.ciphers = Some(b"SECURE192")),
            purpose_of(25, &plain, |request| request.sni = Some(b"a.example")),
            purpose_of(25, &plain, |request| request.sni = Some(b"b.example")),
            purpose_of(25, &plain, |request| request.host_name = Some(b"a.example")),
            purpose_of(25, &plain, |request| request.verify = Verify::No),
            purpose_of(25, &plain, |request| request.verify = Verify::Require),
            purpose_of(25, &plain, |request| request.request_ocsp = false),
            purpose_of(25, &plain, |request| request.require_ocsp = true),
            purpose_of(25, &plain, |request| request.require_status = true),
            purpose_of(25, &plain, |request| request.terms = terms),
        ];
        for (at, one) in all.iter().enumerate() {
            for (other_at, other) in all.iter().enumerate() {
                assert_eq!(one == other, at == other_at, "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn a_session_is_used_once_for_its_purpose_and_as_long_as_what_it_was_found_good_by() {
        let (sessions, unit, now) = (Sessions::default(), Arc::new(1), SystemTime::now());
        let minute = Duration::from_secs(60);
        let put = |until| sessions.put(purpose(25, false), &unit, vec![1], now, until);
        put(None);
        assert_eq!(sessions.take(&purpose(26, false), &unit, now), None);
        assert_eq!(sessions.take(&purpose(25, true), &unit, now), None);
        let terms = ClientTerms { require_protocol: true, ..ClientTerms::default() };
        assert_eq!(sessions.take(&Purpose { terms, ..purpose(25, false) }, &unit, now), None);
        let taken = sessions.take(&purpose(25, false), &unit, now + LONGEST);
        assert_eq!(taken, Some(Former { data: vec![1], until: now + LONGEST }));
        assert_eq!(sessions.take(&purpose(25, false), &unit, now), None);
        put(Some(now + minute));
        assert_eq!(sessions.take(&purpose(25, false), &unit, now + 2 * minute), None);
        put(None);
        assert_eq!(sessions.take(&purpose(25, false), &Arc::new(1), now), None, "other files");
        put(None);
        assert_eq!(sessions.take(&purpose(25, false), &unit, now + LONGEST + minute), None);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let (sessions, unit, now) = (Sessions::default(), Arc::new(1), SystemTime::now());
        for port in 1..2000 {
            sessions.put(purpose(port, false), &unit, vec![0; 10], now, None);
        }
        sessions.put(purpose(1, true), &unit, vec![0; MAX_DATA + 1], now, None);
        let kept = sessions.0.lock().unwrap();
        assert!(kept.len() == MAX_KEPT && !kept.contains_key(&purpose(1, true)));
    }

    #[test]
    fn a_ticket_key_lives_six_hours_and_is_not_shared_between_wishes() {
        let (keys, now) = (TicketKeys::default(), Instant::now());
        let get = |wish, now| keys.get(wish, now).unwrap();
        let first = get(ClientCertificate::Ignored, now);
        assert!(Arc::ptr_eq(&first, &get(ClientCertificate::Ignored, now + KEY_LIFE / 2)));
        assert!(!Arc::ptr_eq(&first, &get(ClientCertificate::Required, now)));
        assert!(!Arc::ptr_eq(&first, &get(ClientCertificate::Ignored, now + KEY_LIFE)));
    }
}
