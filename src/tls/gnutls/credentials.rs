//! Certificate credentials: what one side of a session shows and trusts.
//!
//! They are built by one thread ([`CredentialsBuilder`]) and then only read: [`Credentials`] has no
//! function that changes it, which is the condition under which GnuTLS allows threads to share them.

use super::check::{Error, check};
use super::dh::DhParameters;
use super::gnutls_sys as sys;
use super::memory::{datum, owned};
use super::x509::{Certificate, PrivateKey};
use std::ffi::c_int;
use std::ptr;

owned! {
    /// Certificates, keys and trust.
    CredentialsHandle: sys::gnutls_certificate_credentials_t, sys::gnutls_certificate_free_credentials
}

/// Whether the library can staple proofs for a whole chain ([`CredentialsBuilder::staple_chain`]).
pub const STAPLES_CHAINS: bool = cfg!(all(ocsp_stapling, gnutls_loads_proofs));

/// Credentials that nobody shares yet.
pub struct CredentialsBuilder(CredentialsHandle, Option<DhParameters>);

/// Credentials that sessions of many threads use at once; never changed again.
// The order matters: the handle, which is freed first, points to the parameters.
pub struct Credentials(
    CredentialsHandle,
    #[allow(dead_code, reason = "only kept: the handle points to it")] Option<DhParameters>,
);

// SAFETY: no function here changes the credentials after `CredentialsBuilder::share` (which takes the
// builder by value), and GnuTLS only reads them in handshakes and verification. Its manual (Thread
// safety) allows sharing under exactly that condition.
unsafe impl Sync for Credentials {}

impl CredentialsBuilder {
    /// Empty credentials.
    #[doc(alias = "gnutls_certificate_allocate_credentials")]
    pub fn new() -> Result<Self, Error> {
        super::start();
        let mut handle: sys::gnutls_certificate_credentials_t = ptr::null_mut();
        // SAFETY: the out pointer is ours; on success it holds a handle that we own.
        check(unsafe { sys::gnutls_certificate_allocate_credentials(&mut handle) })?;
        Ok(Self(CredentialsHandle::own(handle), None))
    }

    /// The certificate to show, leaf first, with its key. Fails if they do not belong together.
    #[doc(alias = "gnutls_certificate_set_x509_key")]
    pub fn set_key(&mut self, chain: &[Certificate], key: &PrivateKey) -> Result<(), Error> {
        let mut handles: Vec<_> = chain.iter().map(Certificate::raw).collect();
        let count = c_int::try_from(handles.len()).expect("a chain is limited when it is read");
        // SAFETY: all handles are alive during the call; GnuTLS copies certificates and key.
        check(unsafe {
            sys::gnutls_certificate_set_x509_key(self.0.raw(), handles.as_mut_ptr(), count, key.raw())
        })?;
        Ok(())
    }

    /// What a server offers for Diffie-Hellman key exchange; without it that is not offered (but in TLS 1.3).
    #[doc(alias = "gnutls_certificate_set_dh_params")]
    pub fn set_dh(&mut self, parameters: DhParameters) {
        // SAFETY: both handles are alive. GnuTLS keeps the pointer; the parameters are freed after the credentials.
        unsafe { sys::gnutls_certificate_set_dh_params(self.0.raw(), parameters.raw()) };
        self.1 = Some(parameters);
    }

    /// Trusts the certificates in a PEM text; tells how many.
    #[doc(alias = "gnutls_certificate_set_x509_trust_mem")]
    pub fn trust_pem(&mut self, pem: &[u8]) -> Result<usize, Error> {
        let data = datum(pem);
        // SAFETY: `pem` is only read, and only during the call.
        let count = check(unsafe {
            sys::gnutls_certificate_set_x509_trust_mem(self.0.raw(), &data, sys::GNUTLS_X509_FMT_PEM)
        })?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// Trusts what the system trusts; tells how many certificates that is.
    #[doc(alias = "gnutls_certificate_set_x509_system_trust")]
    pub fn trust_system(&mut self) -> Result<usize, Error> {
        // SAFETY: the handle is ours alone.
        let count = check(unsafe { sys::gnutls_certificate_set_x509_system_trust(self.0.raw()) })?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// Lets each session that uses these credentials staple what [`super::session::Session::set_staples`]
    /// gave it. The credentials themselves hold no proof, so a new proof needs no new credentials.
    #[doc(alias = "gnutls_certificate_set_ocsp_status_request_function")]
    pub fn staple_by_session(&mut self) {
        super::reach::register_staple_callback(self);
    }

    /// Staples these responses, the leaf's first, with the certificate that was set as number `at` (from 0). Under TLS 1.3
    /// each goes out with its certificate of the chain, under TLS 1.2 the leaf's alone. They outrank what the session
    /// would staple; each must be good and checked, and is not sent past its nextUpdate. See [`STAPLES_CHAINS`].
    #[doc(alias = "gnutls_certificate_set_ocsp_status_request_mem")]
    pub fn staple_chain(&mut self, at: usize, responses: &[&[u8]]) -> Result<(), Error> {
        super::ocsp::load_responses(self, at, responses)
    }

    /// No more changes: from here on it is shared.
    pub fn share(self) -> Credentials {
        Credentials(self.0, self.1)
    }

    #[cfg(any(ocsp_stapling, gnutls_tokens))]
    pub(super) fn raw(&mut self) -> sys::gnutls_certificate_credentials_t {
        self.0.raw()
    }
}

impl Credentials {
    /// The trusted certificate that issued this one, in DER.
    #[doc(alias = "gnutls_certificate_get_issuer")]
    pub fn trusted_issuer(&self, certificate: &Certificate) -> Result<Vec<u8>, Error> {
        let _turn = issuer_turn();
        let mut issuer: sys::gnutls_x509_crt_t = ptr::null_mut();
        // SAFETY: both handles are alive. Asked for a copy, GnuTLS changes nothing in the credentials; without that it
        // may note in them an issuer that it found in a PKCS#11 trust store, which the lock makes one thread's at a time.
        check(unsafe {
            sys::gnutls_certificate_get_issuer(self.0.raw(), certificate.raw(), &mut issuer, ISSUER_FLAGS)
        })?;
        let issuer = std::mem::ManuallyDrop::new(Certificate::own(issuer));
        let der = issuer.der();
        if ISSUER_FLAGS != 0 {
            // A copy is ours to free; what is not a copy belongs to the credentials.
            drop(std::mem::ManuallyDrop::into_inner(issuer));
        }
        der
    }

    pub(super) fn raw(&self) -> sys::gnutls_certificate_credentials_t {
        self.0.raw()
    }
}

/// Ask for a copy of the issuer, where the library surely knows that wish.
#[cfg(gnutls_issuer_copy)]
const ISSUER_FLAGS: std::ffi::c_uint = sys::GNUTLS_TL_GET_COPY as std::ffi::c_uint;
#[cfg(not(gnutls_issuer_copy))]
const ISSUER_FLAGS: std::ffi::c_uint = 0;

/// One thread at a time, where looking for an issuer may change the credentials.
fn issuer_turn() -> Option<std::sync::MutexGuard<'static, ()>> {
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
    (ISSUER_FLAGS == 0).then(|| TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
}
