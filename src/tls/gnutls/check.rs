//! The one gate for GnuTLS's return codes.
//!
//! A negative code is an [`Error`] that carries the number, its name and GnuTLS's own text; logs show
//! the text (as Exim does), tests and decisions use the number through the predicates.

use super::gnutls_sys as sys;
use std::ffi::{CStr, c_char, c_int};
use std::fmt;

/// What GnuTLS refused, in its own words.
#[derive(Clone, PartialEq, Eq)]
pub struct Error {
    code: c_int,
}

impl Error {
    /// An error by its number; for codes that callers make up themselves, see [`check`].
    pub(super) fn from_code(code: c_int) -> Self {
        Self { code }
    }

    /// GnuTLS's number, negative.
    pub fn code(&self) -> i32 {
        self.code
    }

    /// Name of the number, `GNUTLS_E_...`.
    #[doc(alias = "gnutls_strerror_name")]
    pub fn name(&self) -> &'static str {
        // SAFETY: takes any number and returns a static string or NULL.
        static_text(unsafe { sys::gnutls_strerror_name(self.code) })
    }

    /// GnuTLS's text for the number, as logs show it.
    #[doc(alias = "gnutls_strerror")]
    pub fn text(&self) -> &'static str {
        // SAFETY: takes any number and returns a static string.
        static_text(unsafe { sys::gnutls_strerror(self.code) })
    }

    /// The peer sent an alert that ends the session.
    pub fn is_fatal_alert(&self) -> bool {
        self.code == sys::GNUTLS_E_FATAL_ALERT_RECEIVED
    }

    /// The peer closed the connection without ending the session (no close_notify).
    pub fn is_premature_end(&self) -> bool {
        self.code == sys::GNUTLS_E_PREMATURE_TERMINATION
    }

    /// Certificate and private key do not belong together.
    pub fn is_key_mismatch(&self) -> bool {
        self.code == sys::GNUTLS_E_CERTIFICATE_KEY_MISMATCH
    }

    /// The buffer given to GnuTLS was too short; it said how much it needs.
    pub(super) fn is_short_buffer(&self) -> bool {
        self.code == sys::GNUTLS_E_SHORT_MEMORY_BUFFER
    }

    /// What was asked for is not there (an extension, a name, a list's end).
    pub(super) fn is_not_available(&self) -> bool {
        self.code == sys::GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE
    }

    /// What was asked for is there in another form than the one asked for.
    #[cfg(ocsp_stapling)]
    pub(super) fn is_unknown_algorithm(&self) -> bool {
        self.code == sys::GNUTLS_E_UNKNOWN_ALGORITHM
    }

    /// The operation may be tried again (GNUTLS.md 4.5: also on blocking sockets).
    #[doc(alias = "gnutls_error_is_fatal")]
    pub(super) fn is_worth_retrying(&self) -> bool {
        // SAFETY: takes any number.
        unsafe { sys::gnutls_error_is_fatal(self.code) == 0 }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.text())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({}: {})", self.name(), self.code, self.text())
    }
}

impl std::error::Error for Error {}

/// The gate: a negative code becomes an [`Error`], others are passed on (some functions count).
pub(super) fn check(code: c_int) -> Result<c_int, Error> {
    if code < 0 { Err(Error::from_code(code)) } else { Ok(code) }
}

/// A string that lives as long as the program; empty for NULL. Bytes that are not UTF-8 (GnuTLS has
/// none in its tables; translations may) make it empty too.
pub(super) fn static_text(text: *const c_char) -> &'static str {
    if text.is_null() {
        return "";
    }
    // SAFETY: not NULL; GnuTLS's tables are NUL-terminated and live as long as the library is loaded.
    unsafe { CStr::from_ptr(text) }.to_str().unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negative_codes_are_errors_with_number_name_and_text() {
        let error = check(sys::GNUTLS_E_CERTIFICATE_KEY_MISMATCH).unwrap_err();
        assert_eq!(error.code(), -60);
        assert_eq!(error.name(), "GNUTLS_E_CERTIFICATE_KEY_MISMATCH");
        assert_eq!(error.text(), "The certificate and the given key do not match.");
        assert_eq!(check(3), Ok(3));
    }
}
