//! A new proof for a certificate: asked for, and believed only after the same check as everything that is stapled.

use super::fetch::{self, FetchError};
use super::http::{Url, UrlError};
use super::proof::{Proof, Subject};
use super::unfit::Unfit;
use crate::tls::gnutls;
use crate::tls::gnutls::ocsp as library;
use crate::tls::gnutls::x509::Certificate;
use std::time::{Duration, SystemTime};

/// Why there is no new proof.
#[derive(Debug, thiserror::Error)]
pub enum ObtainError {
    /// The two certificates do not belong together.
    #[error("the issuer's certificate is not the one that signed the certificate")]
    NotItsIssuer,
    /// No question can be made of these certificates.
    #[error("cannot ask about the certificate: {0}")]
    Question(gnutls::Error),
    /// No answer came.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// An answer came, and it is of no use.
    #[error("the answer is not used: {0}")]
    Unfit(#[from] Unfit),
}

/// Where to ask, and how long.
#[derive(Clone, Debug)]
pub struct Way<'a> {
    /// The responder.
    pub responder: &'a Url,
    /// `http_proxy`
    pub proxy: Option<&'a Url>,
    /// For all of it.
    pub deadline: Duration,
}

/// Asks about `certificate`; a proof that says it is good `now` and is signed as RFC 6960 4.2.2.2 wants it.
pub fn obtain(
    certificate: &Certificate,
    issuer: Certificate,
    way: &Way,
    now: SystemTime,
) -> Result<Proof, ObtainError> {
    let question = library::question(certificate, &issuer).map_err(ObtainError::Question)?;
    let subject = Subject::new(certificate, issuer).ok_or(ObtainError::NotItsIssuer)?;
    let answer = fetch::fetch(way.responder, &question, way.proxy, way.deadline)?;
    Ok(Proof::check_to_show(&answer, &subject, now)?)
}

/// The first responder that the certificate names and that can be asked; none if it names none, as most certificates
/// of public authorities since 2025.
pub fn responder_of(certificate: &Certificate) -> Result<Option<Url>, UrlError> {
    let mut failure = None;
    for uri in library::responders(certificate) {
        match Url::parse(&uri) {
            Ok(url) => return Ok(Some(url)),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    failure.map_or(Ok(None), Err)
}
