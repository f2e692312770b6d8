//! Diffie-Hellman parameters: the prime and generator that a server offers to clients without elliptic curves.
//!
//! Since 3.6 GnuTLS takes from them only how strong they are meant to be, and offers its own group of RFC 7919 of that
//! strength; older versions offer them as they are.

use super::check::{Error, check};
use super::gnutls_sys as sys;
use super::memory::{datum, owned};
use std::ptr;

owned! {
    /// One set of parameters.
    DhHandle: sys::gnutls_dh_params_t, sys::gnutls_dh_params_deinit
}

/// Prime and generator; not changed once they are made.
pub struct DhParameters(DhHandle);

impl DhParameters {
    /// These numbers, big-endian.
    #[doc(alias = "gnutls_dh_params_import_raw")]
    pub fn from_numbers(prime: &[u8], generator: &[u8]) -> Result<Self, Error> {
        let parameters = Self::empty()?;
        let (prime, generator) = (datum(prime), datum(generator));
        // SAFETY: the handle is ours; both numbers are only read, and only during the call.
        check(unsafe { sys::gnutls_dh_params_import_raw(parameters.raw(), &prime, &generator) })?;
        Ok(parameters)
    }

    /// From a PEM text (PKCS#3, `-----BEGIN DH PARAMETERS-----`).
    #[doc(alias = "gnutls_dh_params_import_pkcs3")]
    pub fn from_pem(pem: &[u8]) -> Result<Self, Error> {
        let parameters = Self::empty()?;
        let data = datum(pem);
        // SAFETY: the handle is ours; `pem` is only read, and only during the call.
        check(unsafe {
            sys::gnutls_dh_params_import_pkcs3(parameters.raw(), &data, sys::GNUTLS_X509_FMT_PEM)
        })?;
        Ok(parameters)
    }

    /// A new prime of about this many bits. Takes a part of a second, with old versions minutes.
    #[doc(alias = "gnutls_dh_params_generate2")]
    pub fn generate(bits: u32) -> Result<Self, Error> {
        let parameters = Self::empty()?;
        // SAFETY: the handle is ours and empty.
        check(unsafe { sys::gnutls_dh_params_generate2(parameters.raw(), bits) })?;
        Ok(parameters)
    }

    /// As PEM, to be kept in a file.
    #[doc(alias = "gnutls_dh_params_export_pkcs3")]
    pub fn to_pem(&self) -> Result<Vec<u8>, Error> {
        super::x509::grow(|buffer, size| {
            // SAFETY: `buffer` has room for `*size` bytes.
            unsafe {
                sys::gnutls_dh_params_export_pkcs3(self.raw(), sys::GNUTLS_X509_FMT_PEM, buffer.cast(), size)
            }
        })
    }

    fn empty() -> Result<Self, Error> {
        super::start();
        let mut handle: sys::gnutls_dh_params_t = ptr::null_mut();
        // SAFETY: the out pointer is ours; on success it holds a handle that we own.
        check(unsafe { sys::gnutls_dh_params_init(&mut handle) })?;
        Ok(Self(DhHandle::own(handle)))
    }

    pub(super) fn raw(&self) -> sys::gnutls_dh_params_t {
        self.0.raw()
    }
}

/// How many bits GnuTLS thinks a prime should have in a server of our time (its level "medium", once "normal").
#[doc(alias = "gnutls_sec_param_to_pk_bits")]
#[cfg(gnutls_sec_param_medium)]
pub fn normal_bits() -> u32 {
    // SAFETY: plain numbers.
    unsafe { sys::gnutls_sec_param_to_pk_bits(sys::GNUTLS_PK_DH, sys::GNUTLS_SEC_PARAM_MEDIUM) }
}
/// These versions say 2432.
#[cfg(not(gnutls_sec_param_medium))]
pub fn normal_bits() -> u32 {
    2432
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_made_written_and_read_back() {
        let made = DhParameters::generate(512).unwrap();
        let pem = made.to_pem().unwrap();
        let read = DhParameters::from_pem(&pem).unwrap();
        assert_eq!(read.to_pem().unwrap(), pem);
        assert!(DhParameters::from_pem(b"nothing").is_err());
    }
}
