//! DANE for SMTP: what the TLSA records of a host say of the certificates that it showed (RFC 7671, RFC 7672).
//!
//! | usage of a record | what it takes | what else counts |
//! |---|---|---|
//! | 3, DANE-EE | the server's own certificate | nothing: neither names nor times (RFC 7671 5.1) |
//! | 2, DANE-TA | an authority above it, which was sent too, or stands whole in the record | the way from the leaf to it: signatures, times, constraints; and the leaf's name (RFC 7671 5.2) |
//! | 0, 1 | | unusable with SMTP (RFC 7672 3.1.3) |
//!
//! One record that fits is enough: that is how keys are rolled over. Where the same thing is published by digests of both
//! kinds, the stronger one counts (RFC 7671 9). All of this is without libdane, which would bring a second resolver.

use super::gnutls::anchors;
use super::gnutls::hash::{Digest, digest};
use super::gnutls::x509::Certificate;
use crate::dns::Tlsa;
use bstr::BString;

/// DANE-TA.
const TRUST_ANCHOR: u8 = 2;
/// DANE-EE.
const END_ENTITY: u8 = 3;
/// The whole certificate.
const CERTIFICATE: u8 = 0;
/// Its public key.
const PUBLIC_KEY: u8 = 1;
/// As it is.
const EXACT: u8 = 0;
const SHA256: u8 = 1;
const SHA512: u8 = 2;
/// Most records of one host that are compared: a handful is usual, two generations of keys in every form are not many more.
const MAX_USED: usize = 64;

/// What DNS demands of a host's certificate: at least one usable record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Dane {
    /// In one order, each once: who demands the same is equal.
    records: Vec<Tlsa>,
    /// The TLSA base domain: the server is asked for it (SNI), and DANE-TA looks for it in the certificate.
    host: BString,
}

/// By what a chain was found good.
pub enum Found {
    /// By a record of its leaf.
    EndEntity,
    /// By a record of one of these authorities.
    TrustAnchor(Vec<Certificate>),
}

/// Why a chain is not good, in the words of Exim and libdane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There are records of leaves only, and none is of this one.
    #[error("Verification failed. The certificate differs. ")]
    Differs,
    /// No record is of this leaf or of an authority above it.
    #[error("Verification failed. CA constrains were violated. ")]
    NoAnchor,
    /// The authority is there, but the way to it is not good, or the name is another.
    #[error("certificate invalid")]
    Invalid,
}

impl Dane {
    /// From all the records of a host; none if it has no usable one.
    pub fn new(records: &[Tlsa], host: BString) -> Option<Self> {
        let records = usable(records);
        if records.is_empty() { None } else { Some(Self { records, host }) }
    }

    /// The name that the server is asked for.
    pub fn host(&self) -> &BString {
        &self.host
    }

    /// `$tls_out_tlsa_usage`: the bit of each usage.
    pub fn usages(&self) -> u8 {
        self.records.iter().fold(0, |bits, record| bits | 1 << record.usage)
    }

    /// Is a certificate status of use? Not where the leaf itself is in DNS, which is as quick as any responder.
    pub fn has_trust_anchors(&self) -> bool {
        self.records.iter().any(|record| record.usage == TRUST_ANCHOR)
    }

    /// Judges what the server sent, leaf first, in DER.
    pub fn judge(&self, sent: &[Vec<u8>]) -> Result<Found, Refusal> {
        judge(sent, &self.records, &[&self.host])
    }
}

/// The records that can be used with SMTP, sorted, each once.
fn usable(records: &[Tlsa]) -> Vec<Tlsa> {
    let mut good: Vec<Tlsa> = records.iter().filter(|record| is_usable(record)).cloned().collect();
    good.sort();
    good.dedup();
    let same = |a: &Tlsa, b: &Tlsa| (a.usage, a.selector) == (b.usage, b.selector);
    let strong: Vec<Tlsa> = good.iter().filter(|record| record.matching == SHA512).cloned().collect();
    good.retain(|record| record.matching != SHA256 || !strong.iter().any(|other| same(record, other)));
    good.truncate(MAX_USED);
    good
}

fn is_usable(record: &Tlsa) -> bool {
    let whole = || match record.selector {
        CERTIFICATE => Certificate::from_der(&record.data).is_ok(),
        _ => !record.data.is_empty(),
    };
    matches!(record.usage, TRUST_ANCHOR | END_ENTITY)
        && matches!(record.selector, CERTIFICATE | PUBLIC_KEY)
        && match record.matching {
            EXACT => whole(),
            SHA256 => record.data.len() == 32,
            SHA512 => record.data.len() == 64,
            _ => false,
        }
}

/// Judges a chain, leaf first, by usable records; `names`: those that the leaf may have where its name counts.
pub fn judge(sent: &[Vec<u8>], records: &[Tlsa], names: &[&BString]) -> Result<Found, Refusal> {
    let chain: Vec<Certificate> = sent.iter().map_while(|der| Certificate::from_der(der).ok()).collect();
    let (of_leaf, of_authorities): (Vec<&Tlsa>, Vec<&Tlsa>) =
        records.iter().partition(|record| record.usage == END_ENTITY);
    let Some(leaf) = chain.first() else {
        return Err(if of_authorities.is_empty() { Refusal::Differs } else { Refusal::NoAnchor });
    };
    if of_leaf.iter().any(|record| fits(record, leaf)) {
        return Ok(Found::EndEntity);
    }
    if of_authorities.is_empty() {
        return Err(Refusal::Differs);
    }
    let anchors = anchors_of(sent, &of_authorities);
    if anchors.is_empty() {
        return Err(Refusal::NoAnchor);
    }
    // What cannot be verified is not good.
    let leads = anchors::leads_to(&chain, &anchors).unwrap_or(false);
    let named = names.iter().any(|name| leaf.names_host(name));
    if leads && named { Ok(Found::TrustAnchor(anchors)) } else { Err(Refusal::Invalid) }
}

/// The authorities that the records name: among those that were sent above the leaf, or whole in a record. The leaf is
/// none, even if it signed itself.
fn anchors_of(sent: &[Vec<u8>], records: &[&Tlsa]) -> Vec<Certificate> {
    let above = sent.iter().skip(1).map(Vec::as_slice);
    let matching = above.filter(|der| {
        let read = Certificate::from_der(der);
        read.is_ok_and(|certificate| records.iter().any(|record| fits(record, &certificate)))
    });
    let whole = |record: &&&Tlsa| (record.selector, record.matching) == (CERTIFICATE, EXACT);
    let given = records.iter().filter(whole).map(|record| record.data.as_slice());
    let mut all: Vec<&[u8]> = matching.chain(given).collect();
    all.sort_unstable();
    all.dedup();
    let leaf = sent.first().map(Vec::as_slice);
    all.retain(|der| Some(*der) != leaf);
    all.into_iter().filter_map(|der| Certificate::from_der(der).ok()).collect()
}

/// True if the record is of this certificate.
fn fits(record: &Tlsa, certificate: &Certificate) -> bool {
    let selected = match record.selector {
        CERTIFICATE => certificate.der(),
        _ => certificate.public_key_info(),
    };
    // A certificate of an odd form has an empty key, and no record an empty one.
    let Some(selected) = selected.ok().filter(|bytes| !bytes.is_empty()) else { return false };
    match record.matching {
        EXACT => selected == record.data,
        SHA256 => digest(Digest::Sha256, &selected).is_ok_and(|hash| hash == record.data),
        SHA512 => digest(Digest::Sha512, &selected).is_ok_and(|hash| hash == record.data),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tlsa(usage: u8, selector: u8, matching: u8, length: usize) -> Tlsa {
        Tlsa { usage, selector, matching, data: vec![7; length] }
    }

    #[test]
    fn only_records_that_smtp_can_use_are_used() {
        let good = [tlsa(3, 1, 1, 32), tlsa(2, 0, 2, 64), tlsa(3, 1, 0, 91)];
        let bad = [
            tlsa(0, 0, 1, 32),
            tlsa(1, 1, 1, 32),
            tlsa(4, 0, 1, 32),
            tlsa(255, 0, 1, 32),
            tlsa(3, 2, 1, 32),
            tlsa(3, 1, 3, 32),
            tlsa(3, 1, 1, 31),
            tlsa(3, 1, 1, 64),
            tlsa(3, 1, 2, 32),
            tlsa(3, 1, 0, 0),
            tlsa(2, 0, 0, 20), // no certificate
        ];
        assert!(Dane::new(&bad, "mx.test".into()).is_none());
        let dane = Dane::new(&[&bad[..], &good[..]].concat(), "mx.test".into()).unwrap();
        assert_eq!((dane.records.len(), dane.usages()), (3, 12));
    }

    #[test]
    fn who_demands_the_same_in_another_order_is_equal() {
        let (a, b) = (tlsa(3, 1, 1, 32), tlsa(2, 1, 1, 32));
        let one = Dane::new(&[a.clone(), b.clone(), a.clone()], "mx.test".into());
        assert!(one.is_some() && one == Dane::new(&[b, a], "mx.test".into()));
    }

    #[test]
    fn the_stronger_digest_of_the_same_thing_counts_and_whole_data_besides() {
        let all =
            [tlsa(3, 1, 1, 32), tlsa(3, 1, 2, 64), tlsa(3, 1, 0, 91), tlsa(3, 0, 1, 32), tlsa(2, 1, 1, 32)];
        let kept: Vec<_> = usable(&all).iter().map(|r| (r.usage, r.selector, r.matching)).collect();
        assert_eq!(kept, [(2, 1, 1), (3, 0, 1), (3, 1, 0), (3, 1, 2)]);
    }

    #[test]
    fn without_a_certificate_nothing_fits() {
        let judged = |record| judge(&[], &[record], &[]).err();
        assert_eq!(judged(tlsa(3, 1, 1, 32)), Some(Refusal::Differs));
        assert_eq!(judged(tlsa(2, 1, 1, 32)), Some(Refusal::NoAnchor));
        assert_eq!(judge(&[vec![0x30, 0]], &[tlsa(3, 1, 1, 32)], &[]).err(), Some(Refusal::Differs));
    }
}
