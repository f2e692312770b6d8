//! What is looked after: the status of one certificate, or one revocation list; and how it is asked about.
//!
//! A [`Matter`] is read once, when it is wanted; [`Matter::ask`] makes one attempt: question, answer, check. Nothing that
//! fails the check is handed on.

use crate::ocsp::crl::Crl;
use crate::ocsp::fetch;
use crate::ocsp::http::Url;
use crate::ocsp::registry::{Key, Report, Wanted, WantedList};
use crate::ocsp::schedule::Life;
use crate::ocsp::store::Kind;
use crate::ocsp::{Proof, Subject, Unfit, obtain};
use crate::tls::gnutls::ocsp as library;
use crate::tls::gnutls::x509::Certificate;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Longest certificate that is looked after; the largest real ones are a tenth of it.
pub const MAX_CERTIFICATE: usize = 64 * 1024;

/// Something that is looked after, read once.
#[derive(Clone)]
pub struct Matter {
    /// Who is asked. None: the certificate names nobody, so there is nothing to do. Error: what it names cannot be asked.
    pub source: Result<Option<Url>, String>,
    /// It is not asked about after this moment: the end of the certificate.
    pub end: SystemTime,
    what: What,
}

#[derive(Clone)]
enum What {
    Proof { certificate: Arc<[u8]>, issuer: Arc<[u8]> },
    List { issuer: Arc<[u8]> },
}

/// Something that was found good, with its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The bytes as they came.
    pub der: Arc<[u8]>,
    /// From when to when.
    pub life: Life,
}

/// What an attempt brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The certificate is good, or this is the list.
    Good(Found),
    /// The certificate is revoked since then; properly signed.
    Revoked {
        /// The bytes as they came.
        der: Arc<[u8]>,
        /// Since when.
        since: SystemTime,
    },
    /// Nothing; why.
    Failed(String),
}

impl Matter {
    /// The status of a certificate, with its key; an error if the two certificates cannot be read or do not belong together.
    pub fn of_certificate(wanted: &Wanted) -> Result<(Key, Self), String> {
        if wanted.certificate.len().max(wanted.issuer.len()) > MAX_CERTIFICATE {
            return Err(format!("the certificate is longer than {MAX_CERTIFICATE} bytes"));
        }
        let read = |der: &[u8]| Certificate::from_der(der).map_err(|error| error.to_string());
        let (certificate, issuer) = (read(&wanted.certificate)?, read(&wanted.issuer)?);
        if !certificate.is_signed_by(&issuer) {
            return Err(obtain::ObtainError::NotItsIssuer.to_string());
        }
        let source = match &wanted.responder {
            Some(url) => Url::parse(url.as_bytes()).map(Some).map_err(|why| unusable_url("given", &why)),
            None => obtain::responder_of(&certificate)
                .map_err(|why| unusable_url("that the certificate names", &why)),
        };
        let what = What::Proof {
            certificate: wanted.certificate.as_slice().into(),
            issuer: wanted.issuer.as_slice().into(),
        };
        let key = Key::of(&certificate, &issuer).map_err(|error| error.to_string())?;
        Ok((key, Self { source, end: certificate.not_after(), what }))
    }

    /// A revocation list, with its key.
    pub fn of_list(list: &WantedList) -> Result<(Key, Self), String> {
        if list.issuer.len() > MAX_CERTIFICATE {
            return Err(format!("the certificate is longer than {MAX_CERTIFICATE} bytes"));
        }
        let issuer = Certificate::from_der(&list.issuer).map_err(|error| error.to_string())?;
        let source = Url::parse(list.url.as_bytes()).map(Some).map_err(|why| unusable_url("given", &why));
        let what = What::List { issuer: list.issuer.as_slice().into() };
        let key = Key::of_list(&issuer, &list.url).map_err(|error| error.to_string())?;
        Ok((key, Self { source, end: issuer.not_after(), what }))
    }

    /// Of which kind.
    pub fn kind(&self) -> Kind {
        match self.what {
            What::Proof { .. } => Kind::Proof,
            What::List { .. } => Kind::List,
        }
    }

    /// Uses the issuer's bytes that others use already, so that a thousand certificates of one issuer keep it once.
    pub(super) fn share_issuer(&mut self, shared: impl FnOnce(&Arc<[u8]>) -> Arc<[u8]>) {
        let (What::Proof { issuer, .. } | What::List { issuer }) = &mut self.what;
        *issuer = shared(issuer);
    }

    pub(super) fn issuer(&self) -> &Arc<[u8]> {
        let (What::Proof { issuer, .. } | What::List { issuer }) = &self.what;
        issuer
    }

    /// Before anything was asked.
    pub(super) fn first_report(&self) -> Report {
        let source = self.source.as_ref().ok().and_then(Option::as_ref);
        Report {
            source: source.map(Url::to_string).unwrap_or_default(),
            last_error: self.source.as_ref().err().cloned().unwrap_or_default(),
            ..Report::default()
        }
    }

    /// The same thing, asked in the same place.
    pub(super) fn is(&self, other: &Self) -> bool {
        let same = match (&self.what, &other.what) {
            (
                What::Proof { certificate, issuer },
                What::Proof { certificate: other_certificate, issuer: other_issuer },
            ) => certificate == other_certificate && issuer == other_issuer,
            (What::List { issuer }, What::List { issuer: other }) => issuer == other,
            _ => false,
        };
        same && self.source == other.source
    }

    /// One attempt, from the question to the check, within the deadline (for a list [`LIST_DEADLINE_FACTOR`] times as
    /// long). `now` is looked at after the answer came.
    pub fn ask(&self, proxy: Option<&Url>, deadline: Duration, now: &dyn Fn() -> SystemTime) -> Outcome {
        let Ok(Some(url)) = &self.source else { return Outcome::Failed("nobody can be asked".into()) };
        let fetched = match &self.what {
            What::Proof { certificate, issuer } => match question(certificate, issuer) {
                Ok(question) => fetch::fetch(url, &question, proxy, deadline),
                Err(why) => return Outcome::Failed(why),
            },
            What::List { .. } => fetch::fetch_list(url, proxy, deadline * LIST_DEADLINE_FACTOR),
        };
        match fetched {
            Ok(answer) => self.check(answer.into(), now()),
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }

    /// What these bytes say, from a responder or from the disk.
    pub fn check(&self, der: Arc<[u8]>, now: SystemTime) -> Outcome {
        match &self.what {
            What::Proof { certificate, issuer } => check_proof(der, certificate, issuer, now),
            What::List { issuer } => check_list(der, issuer, now),
        }
    }
}

/// A list may have a thousand times the length of a proof, and gets so many times as long.
pub const LIST_DEADLINE_FACTOR: u32 = 6;

impl fmt::Debug for Matter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} from {:?}", self.kind(), self.source)
    }
}

fn unusable_url(which: &str, why: &dyn fmt::Display) -> String {
    format!("the URL {which} cannot be asked: {why}")
}

fn question(certificate: &[u8], issuer: &[u8]) -> Result<Vec<u8>, String> {
    let read = |der| Certificate::from_der(der);
    read(certificate)
        .and_then(|certificate| library::question(&certificate, &read(issuer)?))
        .map_err(|error| obtain::ObtainError::Question(error).to_string())
}

fn check_proof(der: Arc<[u8]>, certificate: &[u8], issuer: &[u8], now: SystemTime) -> Outcome {
    let read = |der| Certificate::from_der(der).ok();
    let subject = read(certificate).zip(read(issuer)).and_then(|(leaf, issuer)| Subject::new(&leaf, issuer));
    let checked =
        subject.ok_or(Unfit::IssuerUnknown).and_then(|subject| Proof::check_to_show(&der, &subject, now));
    match checked {
        Ok(proof) => Outcome::Good(Found { der, life: proof.life() }),
        Err(Unfit::Revoked(since)) => Outcome::Revoked { der, since },
        Err(unfit) => Outcome::Failed(obtain::ObtainError::Unfit(unfit).to_string()),
    }
}

fn check_list(der: Arc<[u8]>, issuer: &[u8], now: SystemTime) -> Outcome {
    let issuer = match Certificate::from_der(issuer) {
        Ok(issuer) => issuer,
        Err(error) => return Outcome::Failed(error.to_string()),
    };
    match Crl::check(&der, &issuer, now) {
        Ok(crl) => {
            let life = Life { since: crl.since(), until: crl.until() };
            Outcome::Good(Found { der, life })
        }
        Err(unfit) => Outcome::Failed(format!("the list is not used: {unfit}")),
    }
}
