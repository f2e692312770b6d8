//! Priority strings (`tls_require_ciphers`): which versions, ciphers and signatures a session may use.

use super::check::{Error, check};
use super::gnutls_sys as sys;
use super::memory::owned;
use std::ffi::{CString, c_char};
use std::ptr;

owned! {
    /// One parsed priority string.
    PriorityHandle: sys::gnutls_priority_t, sys::gnutls_priority_deinit
}

/// A parsed priority string; shared between sessions.
pub struct Priority(PriorityHandle);

// SAFETY: after gnutls_priority_init the object is only read: gnutls_priority_set takes a copy or a
// reference of it, and the manual ("priority cache") shares one between sessions of many threads.
unsafe impl Sync for Priority {}

/// What is wrong with a priority string.
#[derive(Debug, thiserror::Error)]
pub enum PriorityError {
    /// It has a NUL byte.
    #[error("(gnutls_priority_init): NUL byte in priority string")]
    Nul,
    /// GnuTLS stopped at the text given. In Exim's words.
    #[error("(gnutls_priority_init({text}) failed at offset {offset}, \"{rest}..\"): {error}")]
    Syntax {
        /// The whole string.
        text: String,
        /// Bytes before the text that was refused.
        offset: usize,
        /// Up to six characters from there.
        rest: String,
        /// GnuTLS's reason.
        error: Error,
    },
}

impl Priority {
    /// Parses a priority string such as `NORMAL` or `SECURE192:-VERS-ALL:+VERS-TLS1.3`.
    #[doc(alias = "gnutls_priority_init")]
    pub fn parse(text: &[u8]) -> Result<Self, PriorityError> {
        super::start();
        let string = CString::new(text).map_err(|_| PriorityError::Nul)?;
        let mut handle: sys::gnutls_priority_t = ptr::null_mut();
        let mut stopped: *const c_char = ptr::null();
        // SAFETY: both out pointers are ours, the string is NUL-terminated and outlives the call.
        let code = unsafe { sys::gnutls_priority_init(&mut handle, string.as_ptr(), &mut stopped) };
        check(code).map_err(|error| {
            // On a syntax error GnuTLS points into our string; else it may leave NULL.
            let start = string.as_ptr() as usize;
            let offset = (stopped as usize).checked_sub(start).filter(|at| *at <= text.len()).unwrap_or(0);
            let rest = String::from_utf8_lossy(&text[offset..]).chars().take(6).collect();
            let text = String::from_utf8_lossy(text).into_owned();
            PriorityError::Syntax { text, offset, rest, error }
        })?;
        Ok(Self(PriorityHandle::own(handle)))
    }

    pub(super) fn raw(&self) -> sys::gnutls_priority_t {
        self.0.raw()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_priority_string_is_refused_with_its_place() {
        assert!(Priority::parse(b"NORMAL:-VERS-ALL:+VERS-TLS1.2").is_ok());
        let text = Priority::parse(b"NORMAL:+NONSENSE").err().map(|error| error.to_string()).unwrap();
        assert!(text.contains("at offset 7"), "{text}");
    }
}
