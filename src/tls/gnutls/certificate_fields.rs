//! What a certificate says of itself, for those who show it (`${certextract`): fields that nothing is decided by.

use super::check::{Error, check, static_text};
use super::gnutls_sys as sys;
use super::x509::{Certificate, MAX_ENTRIES, grow};
use std::ffi::c_int;
use std::ptr;

/// A subject alternative name of a kind that can be shown as text (RFC 5280 4.2.1.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AltName {
    /// `dNSName`
    Dns(Vec<u8>),
    /// `uniformResourceIdentifier`
    Uri(Vec<u8>),
    /// `rfc822Name`
    Mail(Vec<u8>),
}

impl Certificate {
    /// Version: 3 for every certificate of our time.
    #[doc(alias = "gnutls_x509_crt_get_version")]
    pub fn version(&self) -> Result<i32, Error> {
        // SAFETY: the handle is alive.
        check(unsafe { sys::gnutls_x509_crt_get_version(self.raw()) })
    }

    /// Name of the algorithm that the issuer signed with, `RSA-SHA256`; none if the library does not know it.
    #[doc(alias = "gnutls_x509_crt_get_signature_algorithm")]
    #[doc(alias = "gnutls_sign_get_name")]
    pub fn signature_algorithm(&self) -> Option<&'static str> {
        // SAFETY: the handle is alive.
        let number = check(unsafe { sys::gnutls_x509_crt_get_signature_algorithm(self.raw()) }).ok()?;
        let number = sys::gnutls_sign_algorithm_t::try_from(number).ok()?;
        // SAFETY: takes any number and returns a static string or NULL.
        let name = static_text(unsafe { sys::gnutls_sign_get_name(number) });
        Some(name).filter(|name| !name.is_empty())
    }

    /// The issuer's signature.
    #[doc(alias = "gnutls_x509_crt_get_signature")]
    pub fn signature(&self) -> Result<Vec<u8>, Error> {
        grow(|buffer, size| {
            // SAFETY: `buffer` has room for `*size` bytes.
            unsafe { sys::gnutls_x509_crt_get_signature(self.raw(), buffer.cast(), size) }
        })
    }

    /// Subject alternative names that are text, in the certificate's order; other kinds (addresses) are left out.
    #[doc(alias = "gnutls_x509_crt_get_subject_alt_name")]
    pub fn alt_names(&self) -> Result<Vec<AltName>, Error> {
        let mut names = Vec::new();
        for sequence in 0..MAX_ENTRIES {
            let mut kind = 0;
            let name = grow(|buffer, size| {
                // SAFETY: `buffer` has room for `*size` bytes; no criticality is asked for.
                kind = unsafe {
                    sys::gnutls_x509_crt_get_subject_alt_name(
                        self.raw(),
                        sequence,
                        buffer.cast(),
                        size,
                        ptr::null_mut(),
                    )
                };
                kind
            });
            match name {
                Ok(name) if kind == sys::GNUTLS_SAN_DNSNAME as c_int => names.push(AltName::Dns(name)),
                Ok(name) if kind == sys::GNUTLS_SAN_URI as c_int => names.push(AltName::Uri(name)),
                Ok(name) if kind == sys::GNUTLS_SAN_RFC822NAME as c_int => names.push(AltName::Mail(name)),
                Ok(_) => {}
                Err(error) if error.is_not_available() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(names)
    }
}
