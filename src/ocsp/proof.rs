//! A proof that was found good once, and until when it may be shown.
//!
//! [`Proof::check`] does the work in two steps: `Facts` are read from the response through GnuTLS, then
//! [`judge`] (pure, no clock of its own) decides.

use super::Unfit;
use super::schedule::Life;
use crate::tls::gnutls::hash::digest;
use crate::tls::gnutls::ocsp::{CertId, CertStatus, Response, Single};
use crate::tls::gnutls::x509::Certificate;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Longest proof that is read. Real ones have 300 bytes to 3 KiB; a handshake message has to carry it.
pub const MAX_PROOF_SIZE: usize = 64 * 1024;
/// How far a thisUpdate may lie in the future: clocks differ (row S6).
pub(super) const FUTURE_SKEW: Duration = Duration::from_secs(300);

/// A checked, good proof: its bytes and its life.
#[derive(Clone, Debug)]
pub struct Proof {
    der: Arc<[u8]>,
    life: Life,
    signer_inside: bool,
}

/// The certificate a proof has to speak of, with its issuer.
pub struct Subject {
    serial: Vec<u8>,
    issuer_name: Vec<u8>,
    issuer_key: Vec<u8>,
    issuer: Certificate,
}

/// What a response says, as read from it.
#[derive(Debug)]
struct Facts {
    status: u8,
    singles: Vec<Single>,
    /// Signed by the issuer or its delegate.
    signed: bool,
    /// End of the certificate that signed it.
    signer_end: SystemTime,
    /// That certificate is in the response.
    signer_inside: bool,
}

impl Subject {
    /// A certificate and the one that issued it; None if `issuer` did not.
    pub fn new(leaf: &Certificate, issuer: Certificate) -> Option<Self> {
        if !leaf.is_signed_by(&issuer) {
            return None;
        }
        Some(Self {
            serial: leaf.serial().ok()?,
            issuer_name: leaf.raw_issuer_dn().ok()?,
            issuer_key: issuer.public_key_bits().ok().filter(|bits| !bits.is_empty())?,
            issuer,
        })
    }

    /// True if a CertID speaks of this certificate: serial, name and key of its issuer all fit.
    fn is_named_by(&self, id: &CertId) -> bool {
        let Some(algorithm) = id.digest else { return false };
        let hashes_to = |bytes: &[u8], hash: &[u8]| digest(algorithm, bytes).is_ok_and(|own| own == hash);
        without_leading_zeros(&id.serial) == without_leading_zeros(&self.serial)
            && hashes_to(&self.issuer_name, &id.issuer_name_hash)
            && hashes_to(&self.issuer_key, &id.issuer_key_hash)
    }
}

impl Proof {
    /// Checks a response in DER: good news about `subject`, properly signed, and usable `now`. What a server stapled.
    pub fn check(der: &[u8], subject: &Subject, now: SystemTime) -> Result<Self, Unfit> {
        if der.is_empty() {
            return Err(Unfit::Empty);
        }
        if der.len() > MAX_PROOF_SIZE {
            return Err(Unfit::TooLong(MAX_PROOF_SIZE));
        }
        let response = Response::parse(der)?;
        let facts = read_facts(&response, subject)?;
        let life = judge(&facts, |id| subject.is_named_by(id), now)?;
        Ok(Self { der: der.into(), life, signer_inside: facts.signer_inside })
    }

    /// The same of a response that is to be stapled. One that speaks of another certificate first is not: clients with
    /// GnuTLS look at no other entry, and refuse the whole handshake (openssl's find theirs).
    pub fn check_to_show(der: &[u8], subject: &Subject, now: SystemTime) -> Result<Self, Unfit> {
        let proof = Self::check(der, subject, now)?;
        let first = Response::parse(der)?.singles()?.into_iter().next();
        if first.is_some_and(|first| subject.is_named_by(&first.cert_id)) {
            Ok(proof)
        } else {
            Err(Unfit::NotFirst)
        }
    }

    /// The certificates inside a response, one of which may be the issuer's.
    pub fn certificates_inside(der: &[u8]) -> Vec<Certificate> {
        Response::parse(der).and_then(|response| response.certificates()).unwrap_or_default()
    }

    /// One for tests of what is done with proofs.
    #[cfg(test)]
    pub(super) fn for_test(since: SystemTime, until: SystemTime) -> Self {
        Self { der: Arc::new([]), life: Life { since, until }, signer_inside: false }
    }

    /// The bytes, as they came.
    pub fn der(&self) -> &Arc<[u8]> {
        &self.der
    }

    /// Its signer's certificate is in it, so that a client need not know that from elsewhere.
    pub fn has_signer_inside(&self) -> bool {
        self.signer_inside
    }

    /// It may be shown up to this moment.
    pub fn until(&self) -> SystemTime {
        self.life.until
    }

    /// From its thisUpdate to [`Self::until`].
    pub fn life(&self) -> Life {
        self.life
    }

    /// It may be shown now.
    pub fn usable(&self, now: SystemTime) -> Result<(), Unfit> {
        if self.life.usable(now) { Ok(()) } else { Err(Unfit::Expired(self.life.until)) }
    }
}

fn read_facts(response: &Response, subject: &Subject) -> Result<Facts, Unfit> {
    let status = response.status()?;
    if status != 0 {
        // Such a response has no body, and no signature.
        return Err(Unfit::NotSuccessful(status));
    }
    let inside = response.certificates()?;
    // A peer may have put a certificate in whose key takes a second for each signature.
    let signed = inside.iter().all(Certificate::has_quick_key)
        && response.is_signed_for(&subject.issuer).unwrap_or(false);
    let inside = if signed { signer_inside(response, &inside) } else { None };
    let signer_end = inside.unwrap_or_else(|| subject.issuer.not_after());
    Ok(Facts { status, singles: response.singles()?, signed, signer_end, signer_inside: inside.is_some() })
}

/// The end of the certificate that signed, if it is inside; otherwise the issuer signed.
fn signer_inside(response: &Response, inside: &[Certificate]) -> Option<SystemTime> {
    let signers = inside.iter().filter(|candidate| response.is_signed_for(candidate).unwrap_or(false));
    signers.map(Certificate::not_after).min()
}

/// The judgement: from when to when this may be shown, or why not at all.
fn judge(facts: &Facts, is_ours: impl Fn(&CertId) -> bool, now: SystemTime) -> Result<Life, Unfit> {
    if facts.status != 0 {
        return Err(Unfit::NotSuccessful(facts.status));
    }
    let ours: Vec<&Single> = facts.singles.iter().filter(|single| is_ours(&single.cert_id)).collect();
    if ours.is_empty() {
        return Err(Unfit::OtherCertificate);
    }
    if !facts.signed {
        return Err(Unfit::BadSignature);
    }
    // Should a response speak of the certificate more than once, all of it has to be good.
    let mut life = Life { since: SystemTime::UNIX_EPOCH, until: facts.signer_end };
    for single in ours {
        life.until = life.until.min(judge_single(single, now)?);
        life.since = life.since.max(single.this_update);
    }
    if life.usable(now) { Ok(life) } else { Err(Unfit::Expired(life.until)) }
}

fn judge_single(single: &Single, now: SystemTime) -> Result<SystemTime, Unfit> {
    match single.status {
        CertStatus::Good => {}
        CertStatus::Revoked(since) => return Err(Unfit::Revoked(since)),
        CertStatus::Unknown => return Err(Unfit::Unknown),
    }
    if single.this_update > now + FUTURE_SKEW {
        return Err(Unfit::NotYetValid(single.this_update));
    }
    match single.next_update {
        None => Err(Unfit::NoNextUpdate),
        Some(end) if now > end => Err(Unfit::Expired(end)),
        Some(end) => Ok(end),
    }
}

fn without_leading_zeros(number: &[u8]) -> &[u8] {
    let start = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    &number[start..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    const DAY: Duration = Duration::from_secs(86_400);

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn single(status: CertStatus) -> Single {
        let cert_id =
            CertId { digest: None, issuer_name_hash: vec![], issuer_key_hash: vec![], serial: vec![1] };
        Single { cert_id, status, this_update: now() - DAY, next_update: Some(now() + DAY) }
    }

    fn facts(singles: Vec<Single>) -> Facts {
        Facts { status: 0, singles, signed: true, signer_end: now() + 30 * DAY, signer_inside: false }
    }

    fn verdict(facts: &Facts) -> Result<SystemTime, Unfit> {
        judge(facts, |id| id.serial == [1], now()).map(|life| life.until)
    }

    #[test]
    fn a_good_proof_lasts_until_its_next_update_or_its_signers_end() {
        let mut good = facts(vec![single(CertStatus::Good)]);
        assert_eq!(verdict(&good).unwrap(), now() + DAY);
        good.signer_end = now() + DAY / 2;
        assert_eq!(verdict(&good).unwrap(), now() + DAY / 2);
        good.signer_end = now() - DAY;
        assert!(matches!(verdict(&good), Err(Unfit::Expired(_))));
    }

    #[test]
    fn what_gnutls_would_accept_is_refused() {
        assert!(matches!(verdict(&facts(vec![single(CertStatus::Unknown)])), Err(Unfit::Unknown)));
        let try_later = Facts { status: 3, ..facts(vec![]) };
        assert!(matches!(verdict(&try_later), Err(Unfit::NotSuccessful(3))));
        let mut future = facts(vec![single(CertStatus::Good)]);
        future.singles[0].this_update = now() + 5 * DAY;
        assert!(matches!(verdict(&future), Err(Unfit::NotYetValid(_))));
        let endless = Single { next_update: None, ..single(CertStatus::Good) };
        assert!(matches!(verdict(&facts(vec![endless])), Err(Unfit::NoNextUpdate)));
    }

    #[test]
    fn a_clock_may_be_five_minutes_behind_the_responders() {
        let mut future = facts(vec![single(CertStatus::Good)]);
        future.singles[0].this_update = now() + FUTURE_SKEW;
        assert!(verdict(&future).is_ok());
    }

    #[test]
    fn a_proof_is_not_shown_a_second_past_its_next_update() {
        let mut proof = facts(vec![single(CertStatus::Good)]);
        proof.singles[0].next_update = Some(now());
        assert!(verdict(&proof).is_ok());
        proof.singles[0].next_update = Some(now() - Duration::from_secs(1));
        assert!(matches!(verdict(&proof), Err(Unfit::Expired(_))));
    }

    #[test]
    fn one_bad_word_about_the_certificate_outweighs_a_good_one() {
        let both = facts(vec![single(CertStatus::Good), single(CertStatus::Revoked(now() - DAY))]);
        assert!(matches!(verdict(&both), Err(Unfit::Revoked(_))));
    }

    #[test]
    fn an_unsigned_bad_word_is_a_bad_signature_not_a_revocation() {
        let unsigned = Facts { signed: false, ..facts(vec![single(CertStatus::Revoked(now()))]) };
        assert!(matches!(verdict(&unsigned), Err(Unfit::BadSignature)));
    }

    #[test]
    fn words_about_other_certificates_do_not_count() {
        let mut other = single(CertStatus::Good);
        other.cert_id.serial = vec![2];
        assert!(matches!(verdict(&facts(vec![other.clone()])), Err(Unfit::OtherCertificate)));
        assert!(verdict(&facts(vec![other, single(CertStatus::Good)])).is_ok());
    }
}
