//! Revocation lists (RFC 5280 chapter 5): read, checked, asked.
//!
//! [`Unsigned`] is what was read; with the issuer's certificate it becomes a [`Crl`], which says who is revoked. Neither
//! is more than the text of the list and four bytes for each entry: a list of [`MAX_CRL_SIZE`] takes at most 20 MiB,
//! and reading it takes time in proportion. (GnuTLS's own lists are no way for bytes of the network, see
//! [`crate::tls::gnutls::crl`].)
//!
//! A list proves something only if it is complete: no delta, no indirect list, no list of attribute certificates or of
//! some reasons. One that speaks of a part of the issuer's certificates ([`Crl::covers`]) proves nothing of others.

use super::crl_der::{self, Fields, Scope};
use crate::tls::gnutls;
use crate::tls::gnutls::crl::{distribution_points, is_signed_by, may_sign_lists};
use crate::tls::gnutls::x509::Certificate;
use bstr::ByteSlice;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Longest list that is read. The largest of public authorities have some MiB; those beyond are cut into parts.
pub const MAX_CRL_SIZE: usize = 16 * 1024 * 1024;
/// Most lists in one file.
pub const MAX_IN_FILE: usize = 1000;
/// How far a thisUpdate may lie in the future: clocks differ, as for proofs (row S6).
const FUTURE_SKEW: Duration = Duration::from_secs(300);
const BEGIN: &[u8] = b"-----BEGIN X509 CRL-----";
const END: &[u8] = b"-----END X509 CRL-----";

/// Why a list is of no use.
#[derive(Debug, thiserror::Error)]
pub enum UnfitCrl {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// Nothing in it.
    #[error("no revocation list in it")]
    Empty,
    /// Longer than any list that is read.
    #[error("longer than {0} bytes")]
    TooLong(usize),
    /// More lists than are read.
    #[error("more than {0} lists")]
    TooMany(usize),
    /// Not a revocation list.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// A signature that proves nothing, or that is not known here.
    #[error("signed with an algorithm that is too weak or not supported")]
    Algorithm,
    /// An extension that must be understood, and is not.
    #[error("it has a critical extension that is not known")]
    UnknownExtension,
    /// The changes since another list.
    #[error("a delta CRL, not a complete one")]
    Delta,
    /// It speaks of certificates of several issuers.
    #[error("an indirect CRL")]
    Indirect,
    /// It speaks of attribute certificates.
    #[error("a CRL of attribute certificates")]
    Attributes,
    /// It speaks of some reasons.
    #[error("a CRL of some reasons of revocation only")]
    SomeReasons,
    /// Another authority's.
    #[error("of another issuer")]
    OtherIssuer,
    /// Whose list it would have to be cannot be told.
    #[error("who issued a certificate of the chain is not known")]
    IssuerUnknown,
    /// Not signed by the issuer.
    #[error("bad signature, or not signed by the issuer")]
    BadSignature,
    /// It speaks of other certificates of the issuer.
    #[error("a part of the issuer's CRL that does not speak of this certificate")]
    OtherPart,
    /// Left out when it was read, for this reason.
    #[error("{0}")]
    LeftOut(String),
    /// There is no memory for it.
    #[error("no room: {0} bytes of revocation lists are held already")]
    NoRoom(usize),
    /// Made in the future.
    #[error("not valid before {}", super::unfit::date(*.0))]
    NotYetValid(SystemTime),
    /// Without an end, it could be shown for ever.
    #[error("no nextUpdate")]
    NoNextUpdate,
    /// Too old.
    #[error("expired at {}", super::unfit::date(*.0))]
    Expired(SystemTime),
}

/// A list that was read, and nobody vouches for yet. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Unsigned(Arc<Text>);

/// A list that its issuer signed. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Crl(Arc<Text>);

#[derive(Debug)]
struct Text {
    der: Vec<u8>,
    fields: Fields,
}

impl Text {
    fn usable(&self, now: SystemTime) -> Result<(), UnfitCrl> {
        let fields = &self.fields;
        if fields.this_update > now + FUTURE_SKEW {
            return Err(UnfitCrl::NotYetValid(fields.this_update));
        }
        match fields.next_update {
            None => Err(UnfitCrl::NoNextUpdate),
            Some(end) if now > end => Err(UnfitCrl::Expired(end)),
            Some(_) => Ok(()),
        }
    }
}

impl Unsigned {
    /// Reads a list in DER.
    pub fn parse(der: Vec<u8>) -> Result<Self, UnfitCrl> {
        if der.is_empty() {
            return Err(UnfitCrl::Empty);
        }
        if der.len() > MAX_CRL_SIZE {
            return Err(UnfitCrl::TooLong(MAX_CRL_SIZE));
        }
        let fields = crl_der::read(&der)?;
        Ok(Self(Arc::new(Text { der, fields })))
    }

    /// Reads all lists of a file: one in DER, or any number in PEM among other text.
    pub fn all(bytes: &[u8]) -> Result<Vec<Self>, UnfitCrl> {
        texts(bytes)?.into_iter().map(Self::parse).collect()
    }

    /// DER of the name of whose list this would be, if it could be used.
    pub fn issuer_of(der: &[u8]) -> Option<&[u8]> {
        crl_der::issuer(der).map(|issuer| &der[issuer])
    }

    /// Bytes of its text.
    pub fn size(&self) -> usize {
        self.0.der.len()
    }

    /// Made then.
    pub fn since(&self) -> SystemTime {
        self.0.fields.this_update
    }

    /// The next one is there by then.
    pub fn next_update(&self) -> Option<SystemTime> {
        self.0.fields.next_update
    }

    /// It could say something now, if its issuer has signed it.
    pub fn usable(&self, now: SystemTime) -> Result<(), UnfitCrl> {
        self.0.usable(now)
    }

    /// DER of its issuer's name.
    pub fn issuer(&self) -> &[u8] {
        &self.0.der[self.0.fields.issuer.clone()]
    }

    /// Believed, if this is the issuer and has signed it. The hash over all of it is made here.
    pub fn signed_by(&self, issuer: &Certificate) -> Result<Crl, UnfitCrl> {
        let (der, fields) = (&self.0.der, &self.0.fields);
        if issuer.raw_dn().is_ok_and(|name| name != self.issuer()) || !may_sign_lists(issuer) {
            return Err(UnfitCrl::OtherIssuer);
        }
        let signed = is_signed_by(
            &der[fields.signed.clone()],
            &der[fields.signature.clone()],
            fields.algorithm,
            issuer,
        );
        match signed {
            Ok(true) => Ok(Crl(Arc::clone(&self.0))),
            Ok(false) => Err(UnfitCrl::BadSignature),
            Err(error) => Err(error.into()),
        }
    }
}

impl Crl {
    /// Checks a list (DER, or PEM with that one list): complete, signed by `issuer`, and usable `now`.
    pub fn check(bytes: &[u8], issuer: &Certificate, now: SystemTime) -> Result<Self, UnfitCrl> {
        let mut texts = texts(bytes)?;
        if texts.len() != 1 {
            return Err(UnfitCrl::Malformed("several lists in place of one"));
        }
        let crl = Unsigned::parse(texts.remove(0))?.signed_by(issuer)?;
        crl.usable(now)?;
        Ok(crl)
    }

    /// It says something now.
    pub fn usable(&self, now: SystemTime) -> Result<(), UnfitCrl> {
        self.0.usable(now)
    }

    /// Made then.
    pub fn since(&self) -> SystemTime {
        self.0.fields.this_update
    }

    /// It says something up to this moment. (A list without an end says nothing: that of its beginning.)
    pub fn until(&self) -> SystemTime {
        self.0.fields.next_update.unwrap_or(self.0.fields.this_update)
    }

    /// Since when the certificate with this serial number is revoked, if it is.
    pub fn revoked(&self, serial: &[u8]) -> Option<SystemTime> {
        let (der, entries) = (&self.0.der, &self.0.fields.entries);
        let serial_at = |place: u32| crl_der::serial_at(der, place).unwrap_or_default();
        let found = entries.binary_search_by(|place| crl_der::compare(serial_at(*place), serial)).ok()?;
        Some(crl_der::date_at(der, entries[found]).unwrap_or(SystemTime::UNIX_EPOCH))
    }

    /// True if it speaks of this certificate of its issuer: not only of authorities or users where it is the other, and of
    /// its part, if the list is cut into parts (RFC 5280 6.3.3 b 2).
    pub fn covers(&self, certificate: &Certificate) -> bool {
        let Scope { users, authorities, points } = &self.0.fields.scope;
        if *users && certificate.is_authority() || *authorities && !certificate.is_authority() {
            return false;
        }
        match points {
            None => true,
            Some(points) => distribution_points(certificate).iter().any(|named| points.contains(named)),
        }
    }

    /// How many certificates it lists.
    pub fn len(&self) -> usize {
        self.0.fields.entries.len()
    }

    /// Nobody is revoked.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The list, DER.
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }
}

impl From<gnutls::Error> for UnfitCrl {
    fn from(_: gnutls::Error) -> Self {
        UnfitCrl::Algorithm
    }
}

/// The lists of a file, each in DER.
pub fn texts(bytes: &[u8]) -> Result<Vec<Vec<u8>>, UnfitCrl> {
    use base64::Engine;
    if bytes.trim().is_empty() {
        return Err(UnfitCrl::Empty);
    }
    if bytes.starts_with(&[gnutls::der::SEQUENCE]) && !bytes.contains_str(BEGIN) {
        return Ok(vec![bytes.to_vec()]);
    }
    let mut all = Vec::new();
    let mut rest = bytes;
    while let Some((_, after)) = rest.split_once_str(BEGIN) {
        if all.len() == MAX_IN_FILE {
            return Err(UnfitCrl::TooMany(MAX_IN_FILE));
        }
        let cut = UnfitCrl::Malformed("PEM that is cut off");
        let (body, after) = after.split_once_str(END).ok_or(cut)?;
        // Text of a base64 line has 4 letters for 3 bytes.
        if body.len() / 2 > MAX_CRL_SIZE {
            return Err(UnfitCrl::TooLong(MAX_CRL_SIZE));
        }
        let body: Vec<u8> = body.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let der = base64::engine::general_purpose::STANDARD.decode(body);
        all.push(der.map_err(|_| UnfitCrl::Malformed("PEM whose text is no base64"))?);
        rest = after;
    }
    if all.is_empty() { Err(UnfitCrl::Empty) } else { Ok(all) }
}
