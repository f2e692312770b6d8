//! Why a proof is of no use: one reason each, with the text that logs show.

use super::proof::FUTURE_SKEW;
use crate::tls::gnutls;
use jiff::Timestamp;
use std::io;
use std::time::SystemTime;

/// Why a proof is not stapled, or not believed.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// There is no such file.
    #[error("no such file")]
    Missing,
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// Nothing in it.
    #[error("empty")]
    Empty,
    /// Longer than any real proof.
    #[error("longer than {0} bytes")]
    TooLong(usize),
    /// Not an OCSP response.
    #[error("malformed: {0}")]
    Malformed(String),
    /// The responder did not answer the question; such a response is not even signed.
    #[error("the responder answered {}", response_status(*.0))]
    NotSuccessful(u8),
    /// It speaks of other certificates.
    #[error("for another certificate")]
    OtherCertificate,
    /// Nobody knows the issuer's certificate, so the signature cannot be checked.
    #[error("the issuer's certificate is not known (neither in the certificate file nor in the CA file)")]
    IssuerUnknown,
    /// Not signed by the issuer or its delegate.
    #[error("bad signature, or not signed by the issuer or its delegate")]
    BadSignature,
    /// A proof of a certificate above the leaf that GnuTLS's clients would take for a forged one.
    #[error(
        "the certificate that signed it is neither in it nor in the chain, and clients refuse it without"
    )]
    SignerNotSent,
    /// It speaks of the certificate, but of another one first.
    #[error("its first entry is for another certificate, and clients with GnuTLS look at no other")]
    NotFirst,
    /// The certificate is revoked.
    #[error("the certificate is revoked (since {})", date(*.0))]
    Revoked(SystemTime),
    /// The responder does not know the certificate.
    #[error("the responder does not know the certificate (status unknown)")]
    Unknown,
    /// Made in the future.
    #[error("not valid before {}", date(*.0))]
    NotYetValid(SystemTime),
    /// Without an end, it could be shown for ever.
    #[error("no nextUpdate")]
    NoNextUpdate,
    /// Too old.
    #[error("expired at {}", date(*.0))]
    Expired(SystemTime),
}

impl Unfit {
    /// True for the reason that is bad news about the certificate, not about the proof.
    pub fn is_revoked(&self) -> bool {
        matches!(self, Unfit::Revoked(_))
    }

    /// True if it was a matter of time and is none any more: the time has come, or the clock was set right. The proof is
    /// to be judged again.
    pub fn is_over(&self, now: SystemTime) -> bool {
        match self {
            Unfit::NotYetValid(begin) => *begin <= now + FUTURE_SKEW,
            Unfit::Expired(end) => now <= *end,
            _ => false,
        }
    }
}

impl From<gnutls::Error> for Unfit {
    fn from(error: gnutls::Error) -> Self {
        Unfit::Malformed(error.to_string())
    }
}

/// RFC 6960 4.2.1.
fn response_status(number: u8) -> &'static str {
    match number {
        1 => "malformedRequest",
        2 => "internalError",
        3 => "tryLater",
        5 => "sigRequired",
        6 => "unauthorized",
        _ => "with an undefined status",
    }
}

/// UTC, in seconds.
pub(super) fn date(time: SystemTime) -> String {
    let text = Timestamp::try_from(time).map(|stamp| stamp.strftime("%Y-%m-%d %H:%M:%SZ").to_string());
    text.unwrap_or_else(|_| "an impossible time".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn what_was_a_matter_of_time_is_over_when_the_time_is_another() {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let second = Duration::from_secs(1);
        let early = Unfit::NotYetValid(now + FUTURE_SKEW);
        assert!(early.is_over(now) && !early.is_over(now - second));
        let late = Unfit::Expired(now);
        assert!(late.is_over(now) && !late.is_over(now + second));
        assert!(!Unfit::Revoked(now).is_over(now) && !Unfit::BadSignature.is_over(now));
    }
}
