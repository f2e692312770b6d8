//! In place of `ocsp` where certificate status is not compiled in: the same names, without any GnuTLS function.
//! No response can be parsed, none is asked for, none is received.

use super::check::Error;
use super::credentials::CredentialsBuilder;
use super::gnutls_sys as sys;
use super::hash::Digest;
use super::session::Session;
use super::x509::Certificate;
use std::convert::Infallible;
use std::time::SystemTime;

/// Never there.
pub struct Response(Infallible);

/// See the real one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertId {
    /// Algorithm of both hashes.
    pub digest: Option<Digest>,
    /// Hash of the issuer's name.
    pub issuer_name_hash: Vec<u8>,
    /// Hash of the issuer's public key.
    pub issuer_key_hash: Vec<u8>,
    /// Serial number, big-endian.
    pub serial: Vec<u8>,
}

/// See the real one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertStatus {
    /// Not revoked.
    Good,
    /// Revoked at this time.
    Revoked(SystemTime),
    /// The responder does not know it.
    Unknown,
}

/// See the real one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Single {
    /// Of which certificate.
    pub cert_id: CertId,
    /// What of it.
    pub status: CertStatus,
    /// True from this time.
    pub this_update: SystemTime,
    /// Newer information will be there by this time.
    pub next_update: Option<SystemTime>,
}

impl Response {
    /// Always an error.
    pub fn parse(_: &[u8]) -> Result<Self, Error> {
        Err(Error::from_code(sys::GNUTLS_E_INVALID_REQUEST))
    }
    /// Never called.
    pub fn status(&self) -> Result<u8, Error> {
        match self.0 {}
    }
    /// Never called.
    pub fn singles(&self) -> Result<Vec<Single>, Error> {
        match self.0 {}
    }
    /// Never called.
    pub fn certificates(&self) -> Result<Vec<Certificate>, Error> {
        match self.0 {}
    }
    /// Never called.
    pub fn is_signed_for(&self, _: &Certificate) -> Result<bool, Error> {
        match self.0 {}
    }
}

/// No question can be made.
pub fn question(_: &Certificate, _: &Certificate) -> Result<Vec<u8>, Error> {
    Err(Error::from_code(sys::GNUTLS_E_INVALID_REQUEST))
}

/// None is looked for.
pub fn responders(_: &Certificate) -> Vec<Vec<u8>> {
    Vec::new()
}

/// Nothing is stapled.
pub(super) fn load_responses(_: &mut CredentialsBuilder, _: usize, _: &[&[u8]]) -> Result<(), Error> {
    Err(Error::from_code(sys::GNUTLS_E_INVALID_REQUEST))
}

/// Does nothing.
pub fn request_staple(_: &mut Session) -> Result<(), Error> {
    Ok(())
}

/// Nothing is received.
pub fn received_staple(_: &Session, _: usize) -> Option<Vec<u8>> {
    None
}

/// Nothing is checked.
pub fn library_checked_staple(_: &Session) -> bool {
    false
}
