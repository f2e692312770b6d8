//! Certificates and keys in a token (a smart card, an HSM), named by a `pkcs11:` URL (RFC 7512).
//!
//! A token is spoken to by a module: foreign code that is loaded into the process, as p11-kit's configuration of the
//! system says. So none is loaded unless the process has [allowed](allow_modules) it before it first uses the library.
//! The key stays in its token, which signs in each handshake; GnuTLS lets one thread at a time use a key.
//!
//! Specification: option `gnutls_allow_auto_pkcs11`; the URLs are GnuTLS's own, with `pin-value` and `pin-source`.

use super::check::Error;
use super::credentials::CredentialsBuilder;
use super::x509::Certificate;
use bstr::{BStr, ByteSlice};
use std::ffi::CString;
use std::sync::OnceLock;

/// Whether the library can show certificates whose keys are in a token.
pub const TOKENS: bool = cfg!(gnutls_tokens);

/// A process says it once, and cannot take it back.
static ALLOWED: OnceLock<()> = OnceLock::new();

/// Lets GnuTLS load the system's PKCS#11 modules, in this process, when it first needs one; to be said before the library
/// is used.
pub fn allow_modules() {
    ALLOWED.get_or_init(|| ());
}

pub(super) fn are_allowed() -> bool {
    ALLOWED.get().is_some()
}

/// Whether GnuTLS may load modules in this process. Starts the library, so that it is known from here on.
pub fn may_load_modules() -> bool {
    super::start()
}

/// An object in a token.
pub struct Object(
    #[cfg_attr(not(gnutls_tokens), expect(dead_code, reason = "nothing can be asked for"))] CString,
);

impl Object {
    /// From its URL; none if this is no URL of one.
    pub fn from_url(url: &BStr) -> Option<Self> {
        CString::new(url.strip_prefix(b"pkcs11:").map(|_| url.as_bytes())?).ok().map(Self)
    }
}

#[cfg(gnutls_tokens)]
mod with_tokens {
    use super::super::check::check;
    use super::super::gnutls_sys as sys;
    use super::super::memory::{free, owned};
    use super::super::x509::MAX_CHAIN;
    use super::{Certificate, CredentialsBuilder, Error, Object};
    use std::ffi::{c_int, c_uint, c_void};
    use std::mem::forget;
    use std::ptr;

    owned! {
        /// A key that may be anywhere.
        AnyKeyHandle: sys::gnutls_privkey_t, sys::gnutls_privkey_deinit
    }

    /// A certificate in the form that credentials take over.
    #[repr(transparent)]
    struct Shown(sys::gnutls_pcert_st);

    impl Drop for Shown {
        #[doc(alias = "gnutls_pcert_deinit")]
        fn drop(&mut self) {
            // SAFETY: it was filled by GnuTLS, and is ours.
            unsafe { sys::gnutls_pcert_deinit(&mut self.0) }
        }
    }

    impl Object {
        /// The certificate, and those of its issuers that the token has, leaf first.
        #[doc(alias = "gnutls_x509_crt_list_import_url")]
        pub fn certificates(&self) -> Result<Vec<Certificate>, Error> {
            super::super::start();
            let mut list: *mut sys::gnutls_x509_crt_t = ptr::null_mut();
            let mut count: c_uint = 0;
            // SAFETY: out pointers are ours; on success `list` is an allocation with `count` handles that we own. There is
            // nobody to be asked for a PIN.
            check(unsafe {
                sys::gnutls_x509_crt_list_import_url(
                    &mut list,
                    &mut count,
                    self.0.as_ptr(),
                    None,
                    ptr::null_mut(),
                    0,
                )
            })?;
            // SAFETY: as said above; each handle is taken over exactly once.
            let all: Vec<Certificate> =
                (0..count as usize).map(|at| Certificate::own(unsafe { *list.add(at) })).collect();
            // SAFETY: the array (not the handles) is an allocation of GnuTLS that is ours.
            unsafe { free(list.cast::<c_void>()) };
            if all.is_empty() || all.len() > MAX_CHAIN {
                return Err(Error::from_code(sys::GNUTLS_E_INVALID_REQUEST));
            }
            Ok(all)
        }

        #[doc(alias = "gnutls_privkey_import_url")]
        fn key(&self) -> Result<AnyKeyHandle, Error> {
            let mut handle: sys::gnutls_privkey_t = ptr::null_mut();
            // SAFETY: the out pointer is ours; on success it holds a handle that we own.
            check(unsafe { sys::gnutls_privkey_init(&mut handle) })?;
            let key = AnyKeyHandle::own(handle);
            // SAFETY: the handle is ours and empty; the text ends with NUL and is only read.
            check(unsafe { sys::gnutls_privkey_import_url(key.raw(), self.0.as_ptr(), 0) })?;
            Ok(key)
        }
    }

    impl CredentialsBuilder {
        /// The certificate to show, leaf first, whose key is in a token. Fails if they do not belong together.
        #[doc(alias = "gnutls_certificate_set_key")]
        pub fn set_token_key(&mut self, chain: &[Certificate], key: &Object) -> Result<(), Error> {
            let key = key.key()?;
            let mut shown = chain.iter().map(shown).collect::<Result<Vec<Shown>, Error>>()?;
            let count = c_int::try_from(shown.len()).expect("a chain is limited when it is read");
            // SAFETY: a `Shown` is laid out as what it holds, and all are alive during the call. GnuTLS copies the array;
            // what its elements point to, and the key, are its own if it succeeds, and stay ours if it does not.
            check(unsafe {
                sys::gnutls_certificate_set_key(
                    self.raw(),
                    ptr::null_mut(),
                    0,
                    shown.as_mut_ptr().cast::<sys::gnutls_pcert_st>(),
                    count,
                    key.raw(),
                )
            })?;
            shown.into_iter().for_each(forget);
            forget(key);
            Ok(())
        }
    }

    #[doc(alias = "gnutls_pcert_import_x509")]
    fn shown(certificate: &Certificate) -> Result<Shown, Error> {
        let mut shown = std::mem::MaybeUninit::<sys::gnutls_pcert_st>::zeroed();
        // SAFETY: the place is ours; the certificate is only read.
        check(unsafe { sys::gnutls_pcert_import_x509(shown.as_mut_ptr(), certificate.raw(), 0) })?;
        // SAFETY: all zeroes is a value of the type, and GnuTLS has filled it.
        Ok(Shown(unsafe { shown.assume_init() }))
    }
}

#[cfg(not(gnutls_tokens))]
mod without_tokens {
    use super::super::gnutls_sys as sys;
    use super::{Certificate, CredentialsBuilder, Error, Object};

    impl Object {
        /// Nothing: this library is too old.
        pub fn certificates(&self) -> Result<Vec<Certificate>, Error> {
            Err(Error::from_code(sys::GNUTLS_E_INVALID_REQUEST))
        }
    }

    impl CredentialsBuilder {
        /// Nothing: this library is too old.
        pub fn set_token_key(&mut self, _: &[Certificate], _: &Object) -> Result<(), Error> {
            Err(Error::from_code(sys::GNUTLS_E_INVALID_REQUEST))
        }
    }
}
