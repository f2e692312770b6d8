//! What GnuTLS does for revocation lists (RFC 5280 chapter 5): it checks the signature, and tells what a certificate
//! says of lists. Their text is read by `crate::ocsp::crl`: GnuTLS 3.7.9 needs 160 s and 310 MB to parse a list
//! with 100,000 entries (5 MB), so that no list of the network may ever reach its parser.

use super::check::{Error, check};
use super::gnutls_sys as sys;
use super::memory::{datum, owned};
use super::x509::{Certificate, MAX_ENTRIES, grow};
use std::ffi::{c_int, c_uint};
use std::ptr;

owned! {
    /// One public key.
    PublicKeyHandle: sys::gnutls_pubkey_t, sys::gnutls_pubkey_deinit
}

/// How a list is signed: the algorithms that authorities use today. SHA-1 and older are no proof any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signature {
    /// sha256WithRSAEncryption
    RsaSha256,
    /// sha384WithRSAEncryption
    RsaSha384,
    /// sha512WithRSAEncryption
    RsaSha512,
    /// ecdsa-with-SHA256
    EcdsaSha256,
    /// ecdsa-with-SHA384
    EcdsaSha384,
    /// ecdsa-with-SHA512
    EcdsaSha512,
    /// id-Ed25519
    Ed25519,
}

impl Signature {
    /// By the contents of its object identifier in DER; None: unknown, or too weak.
    pub fn from_object_id(id: &[u8]) -> Option<Self> {
        Some(match id {
            [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11] => Self::RsaSha256,
            [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 12] => Self::RsaSha384,
            [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 13] => Self::RsaSha512,
            [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2] => Self::EcdsaSha256,
            [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3] => Self::EcdsaSha384,
            [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4] => Self::EcdsaSha512,
            [0x2b, 0x65, 0x70] => Self::Ed25519,
            _ => return None,
        })
    }

    fn algorithm(self) -> Option<sys::gnutls_sign_algorithm_t> {
        Some(match self {
            Self::RsaSha256 => sys::GNUTLS_SIGN_RSA_SHA256,
            Self::RsaSha384 => sys::GNUTLS_SIGN_RSA_SHA384,
            Self::RsaSha512 => sys::GNUTLS_SIGN_RSA_SHA512,
            Self::EcdsaSha256 => sys::GNUTLS_SIGN_ECDSA_SHA256,
            Self::EcdsaSha384 => sys::GNUTLS_SIGN_ECDSA_SHA384,
            Self::EcdsaSha512 => sys::GNUTLS_SIGN_ECDSA_SHA512,
            Self::Ed25519 => return ed25519(),
        })
    }
}

#[cfg(gnutls_ed25519)]
fn ed25519() -> Option<sys::gnutls_sign_algorithm_t> {
    Some(sys::GNUTLS_SIGN_EDDSA_ED25519)
}
/// These versions do not know it.
#[cfg(not(gnutls_ed25519))]
fn ed25519() -> Option<sys::gnutls_sign_algorithm_t> {
    None
}

/// True if the key of `issuer` signed these bytes. An error means that it could not be checked.
#[doc(alias = "gnutls_pubkey_verify_data2")]
pub fn is_signed_by(
    signed: &[u8],
    signature: &[u8],
    algorithm: Signature,
    issuer: &Certificate,
) -> Result<bool, Error> {
    super::start();
    let Some(algorithm) = algorithm.algorithm() else {
        return Err(Error::from_code(sys::GNUTLS_E_UNKNOWN_ALGORITHM));
    };
    let mut handle: sys::gnutls_pubkey_t = ptr::null_mut();
    // SAFETY: the out pointer is ours; on success it holds a handle that we own.
    check(unsafe { sys::gnutls_pubkey_init(&mut handle) })?;
    let key = PublicKeyHandle::own(handle);
    // SAFETY: both handles are alive; the key is copied.
    check(unsafe { sys::gnutls_pubkey_import_x509(key.raw(), issuer.raw(), 0) })?;
    let (signed, signature) = (datum(signed), datum(signature));
    // SAFETY: the handle is alive, both texts are only read, and only during the call.
    let code = unsafe { sys::gnutls_pubkey_verify_data2(key.raw(), algorithm, 0, &signed, &signature) };
    Ok(check(code).is_ok())
}

/// True if the certificate's key may sign revocation lists (key usage cRLSign, or no word on usage).
#[doc(alias = "gnutls_x509_crt_get_key_usage")]
pub fn may_sign_lists(certificate: &Certificate) -> bool {
    let mut usage: c_uint = 0;
    // SAFETY: the handle is alive; no criticality is asked for.
    let code = unsafe { sys::gnutls_x509_crt_get_key_usage(certificate.raw(), &mut usage, ptr::null_mut()) };
    match check(code) {
        Ok(_) => usage & sys::GNUTLS_KEY_CRL_SIGN != 0,
        Err(error) => error.is_not_available(),
    }
}

/// The addresses of complete revocation lists that a certificate names (RFC 5280 4.2.1.13), in its order. Lists of some
/// reasons only are left out.
#[doc(alias = "gnutls_x509_crt_get_crl_dist_points")]
pub fn distribution_points(certificate: &Certificate) -> Vec<Vec<u8>> {
    let mut points = Vec::new();
    for sequence in 0..MAX_ENTRIES {
        let mut reasons: c_uint = 0;
        let mut kind: c_int = 0;
        let point = grow(|buffer, size| {
            // SAFETY: `buffer` has room for `*size` bytes; no criticality is asked for.
            kind = unsafe {
                sys::gnutls_x509_crt_get_crl_dist_points(
                    certificate.raw(),
                    sequence,
                    buffer.cast(),
                    size,
                    &mut reasons,
                    ptr::null_mut(),
                )
            };
            kind
        });
        match point {
            Ok(point) if kind == sys::GNUTLS_SAN_URI as c_int && reasons == 0 => points.push(point),
            Ok(_) => {}
            Err(_) => break,
        }
    }
    points
}
