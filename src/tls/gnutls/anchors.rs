//! A chain verified against a few certificates and nothing else: what DANE-TA asks for.
//!
//! The anchors need not sign themselves: GnuTLS trusts whatever is in its list, and looks no further.

use super::check::{Error, check};
use super::gnutls_sys as sys;
use super::memory::owned;
use super::x509::Certificate;
use std::ffi::c_uint;
use std::ptr;

owned! {
    /// A list of trusted certificates.
    TrustListHandle: sys::gnutls_x509_trust_list_t, free_list
}

/// Frees the list, not the certificates in it.
///
/// # Safety
/// As for every `deinit`: the handle is alive, and nobody uses it afterwards.
#[doc(alias = "gnutls_x509_trust_list_deinit")]
unsafe fn free_list(list: sys::gnutls_x509_trust_list_t) {
    // SAFETY: the caller vouches for the handle; 0 leaves the certificates to their owner.
    unsafe { sys::gnutls_x509_trust_list_deinit(list, 0) }
}

/// True if this chain, leaf first, leads to one of the anchors by good signatures of authorities, now. Of what the
/// anchors are, only the key and the name count.
#[doc(alias = "gnutls_x509_trust_list_init")]
#[doc(alias = "gnutls_x509_trust_list_add_cas")]
#[doc(alias = "gnutls_x509_trust_list_verify_crt")]
pub fn leads_to(chain: &[Certificate], anchors: &[Certificate]) -> Result<bool, Error> {
    super::start();
    let mut raw: sys::gnutls_x509_trust_list_t = ptr::null_mut();
    // SAFETY: the out pointer is ours; on success it holds a handle that we own. 0: the usual size.
    check(unsafe { sys::gnutls_x509_trust_list_init(&mut raw, 0) })?;
    let list = TrustListHandle::own(raw);
    let trusted: Vec<_> = anchors.iter().map(Certificate::raw).collect();
    let count =
        c_uint::try_from(trusted.len()).map_err(|_| Error::from_code(sys::GNUTLS_E_INVALID_REQUEST))?;
    // SAFETY: all handles are alive, and outlive the list, which ends with this function; it does not free them.
    check(unsafe { sys::gnutls_x509_trust_list_add_cas(list.raw(), trusted.as_ptr(), count, 0) })?;
    let mut sent: Vec<_> = chain.iter().map(Certificate::raw).collect();
    let count = c_uint::try_from(sent.len()).map_err(|_| Error::from_code(sys::GNUTLS_E_INVALID_REQUEST))?;
    let mut status: c_uint = c_uint::MAX;
    // SAFETY: all handles are alive; GnuTLS may put the array, which is ours, in another order; no callback is given.
    check(unsafe {
        sys::gnutls_x509_trust_list_verify_crt(
            list.raw(),
            sent.as_mut_ptr(),
            count,
            PROFILE,
            &mut status,
            None,
        )
    })?;
    Ok(status == 0)
}

/// `GNUTLS_PROFILE_TO_VFLAGS(GNUTLS_PROFILE_LOW)`, a macro that the bindings do not have: keys and digests have
/// to be at least as strong as GnuTLS's lowest level says (RSA of 1024 bits).
#[cfg(gnutls_sec_param_medium)]
const PROFILE: c_uint = 2 << 24;
/// These versions know no profiles.
#[cfg(not(gnutls_sec_param_medium))]
const PROFILE: c_uint = 0;
