//! X.509 certificates and private keys: read, asked, made.
//!
//! The handles stay with the thread that loads them (they are `Send`, not `Sync`); what sessions share is
//! copied out as plain values.

use super::certificate_fields::AltName;
use super::check::{Error, check};
use super::der;
use super::gnutls_sys as sys;
use super::hash::Digest;
use super::memory::{datum, empty_datum, free, owned, take_bytes};
use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::ptr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

owned! {
    /// One certificate.
    CertificateHandle: sys::gnutls_x509_crt_t, sys::gnutls_x509_crt_deinit
}
owned! {
    /// One private key.
    KeyHandle: sys::gnutls_x509_privkey_t, sys::gnutls_x509_privkey_deinit
}

/// A certificate.
pub struct Certificate(CertificateHandle);

/// A private key.
pub struct PrivateKey(KeyHandle);

/// Most certificates in one file: a chain has a handful, and each costs memory.
pub const MAX_CHAIN: usize = 32;
/// Longest field that is copied out of a certificate; the largest real ones (lists of names) are far below.
const MAX_FIELD: usize = 64 * 1024;
/// Most entries of a list inside a certificate that are looked at.
pub(super) const MAX_ENTRIES: c_uint = 1000;
/// The TLS feature extension (RFC 7633).
const OID_TLS_FEATURE: &str = "1.3.6.1.5.5.7.1.24";
/// The feature that demands a stapled proof: the number of the extension status_request.
const FEATURE_STATUS_REQUEST: u8 = 5;
/// id-kp-OCSPSigning (RFC 6960 4.2.2.2).
const OID_OCSP_SIGNING: &str = "1.3.6.1.5.5.7.3.9";

impl Certificate {
    /// The certificate in a DER text.
    #[doc(alias = "gnutls_x509_crt_import")]
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        let certificate = Self::empty()?;
        let data = datum(der);
        // SAFETY: the handle is ours; `der` is only read during the call.
        check(unsafe { sys::gnutls_x509_crt_import(certificate.raw(), &data, sys::GNUTLS_X509_FMT_DER) })?;
        Ok(certificate)
    }

    /// All certificates in a PEM text, in its order; at most [`MAX_CHAIN`].
    #[doc(alias = "gnutls_x509_crt_list_import2")]
    pub fn list_from_pem(pem: &[u8]) -> Result<Vec<Self>, Error> {
        super::start();
        let data = datum(pem);
        let mut list: *mut sys::gnutls_x509_crt_t = ptr::null_mut();
        let mut count: c_uint = 0;
        // SAFETY: out pointers are ours; on success `list` is an allocation with `count` handles that we own.
        check(unsafe {
            sys::gnutls_x509_crt_list_import2(&mut list, &mut count, &data, sys::GNUTLS_X509_FMT_PEM, 0)
        })?;
        // SAFETY: as said above; each handle is taken over exactly once.
        let all: Vec<Self> =
            (0..count as usize).map(|at| Self(CertificateHandle::own(unsafe { *list.add(at) }))).collect();
        // SAFETY: the array (not the handles) is an allocation of GnuTLS that is ours.
        unsafe { free(list.cast::<c_void>()) };
        if all.len() > MAX_CHAIN {
            return Err(Error::from_code(sys::GNUTLS_E_INVALID_REQUEST));
        }
        Ok(all)
    }

    fn empty() -> Result<Self, Error> {
        super::start();
        let mut handle: sys::gnutls_x509_crt_t = ptr::null_mut();
        // SAFETY: the out pointer is ours; on success it holds a handle that we own.
        check(unsafe { sys::gnutls_x509_crt_init(&mut handle) })?;
        Ok(Self(CertificateHandle::own(handle)))
    }

    pub(super) fn raw(&self) -> sys::gnutls_x509_crt_t {
        self.0.raw()
    }

    pub(super) fn own(handle: sys::gnutls_x509_crt_t) -> Self {
        Self(CertificateHandle::own(handle))
    }

    /// DER.
    #[doc(alias = "gnutls_x509_crt_export")]
    pub fn der(&self) -> Result<Vec<u8>, Error> {
        grow(|buffer, size| {
            // SAFETY: `buffer` has room for `*size` bytes.
            unsafe { sys::gnutls_x509_crt_export(self.raw(), sys::GNUTLS_X509_FMT_DER, buffer.cast(), size) }
        })
    }

    /// Subject as Exim shows it (RFC 4514 with the most significant part first): `C=GB,O=Ex\, ample,CN=mx.test`.
    #[doc(alias = "gnutls_x509_crt_get_dn")]
    pub fn dn(&self) -> Result<Vec<u8>, Error> {
        text(|buffer, size| {
            // SAFETY: `buffer` has room for `*size` bytes.
            unsafe { sys::gnutls_x509_crt_get_dn(self.raw(), buffer.cast(), size) }
        })
    }

    /// Issuer, in the form of [`Self::dn`].
    #[doc(alias = "gnutls_x509_crt_get_issuer_dn")]
    pub fn issuer_dn(&self) -> Result<Vec<u8>, Error> {
        text(|buffer, size| {
            // SAFETY: `buffer` has room for `*size` bytes.
            unsafe { sys::gnutls_x509_crt_get_issuer_dn(self.raw(), buffer.cast(), size) }
        })
    }

    /// DER of the issuer's name: what a CertID hashes.
    #[doc(alias = "gnutls_x509_crt_get_raw_issuer_dn")]
    pub fn raw_issuer_dn(&self) -> Result<Vec<u8>, Error> {
        let mut name = empty_datum();
        // SAFETY: the handle is alive; the function allocates what it returns.
        check(unsafe { sys::gnutls_x509_crt_get_raw_issuer_dn(self.raw(), &mut name) })?;
        // SAFETY: the allocation was given to us.
        Ok(unsafe { take_bytes(name) })
    }

    /// DER of the subject's name.
    #[doc(alias = "gnutls_x509_crt_get_raw_dn")]
    pub fn raw_dn(&self) -> Result<Vec<u8>, Error> {
        let mut name = empty_datum();
        // SAFETY: the handle is alive; the function allocates what it returns.
        check(unsafe { sys::gnutls_x509_crt_get_raw_dn(self.raw(), &mut name) })?;
        // SAFETY: the allocation was given to us.
        Ok(unsafe { take_bytes(name) })
    }

    /// The bits of the public key: what a CertID hashes of its issuer. Empty if the certificate has an odd form.
    pub fn public_key_bits(&self) -> Result<Vec<u8>, Error> {
        Ok(der::public_key_bits(&self.der()?).unwrap_or_default().to_vec())
    }

    /// SubjectPublicKeyInfo in DER: what a TLSA record may speak of. Empty if the certificate has an odd form.
    pub fn public_key_info(&self) -> Result<Vec<u8>, Error> {
        Ok(der::public_key_info(&self.der()?).unwrap_or_default().to_vec())
    }

    /// Serial number, big-endian, as in the certificate.
    #[doc(alias = "gnutls_x509_crt_get_serial")]
    pub fn serial(&self) -> Result<Vec<u8>, Error> {
        grow(|buffer, size| {
            // SAFETY: `buffer` has room for `*size` bytes.
            unsafe { sys::gnutls_x509_crt_get_serial(self.raw(), buffer.cast(), size) }
        })
    }

    /// Fingerprint over the DER.
    #[doc(alias = "gnutls_x509_crt_get_fingerprint")]
    pub fn fingerprint(&self, digest: Digest) -> Result<Vec<u8>, Error> {
        grow(|buffer, size| {
            // SAFETY: `buffer` has room for `*size` bytes.
            unsafe {
                sys::gnutls_x509_crt_get_fingerprint(self.raw(), digest.algorithm(), buffer.cast(), size)
            }
        })
    }

    /// First moment of validity.
    #[doc(alias = "gnutls_x509_crt_get_activation_time")]
    pub fn not_before(&self) -> SystemTime {
        // SAFETY: the handle is alive.
        time_of(unsafe { sys::gnutls_x509_crt_get_activation_time(self.raw()) })
    }

    /// Last moment of validity.
    #[doc(alias = "gnutls_x509_crt_get_expiration_time")]
    pub fn not_after(&self) -> SystemTime {
        // SAFETY: the handle is alive.
        time_of(unsafe { sys::gnutls_x509_crt_get_expiration_time(self.raw()) })
    }

    /// DNS names of the subject alternative name extension.
    pub fn dns_names(&self) -> Result<Vec<Vec<u8>>, Error> {
        let dns = |name| match name {
            AltName::Dns(name) => Some(name),
            AltName::Uri(_) | AltName::Mail(_) => None,
        };
        Ok(self.alt_names()?.into_iter().filter_map(dns).collect())
    }

    /// True if the certificate names `host` (RFC 6125 as GnuTLS does it, wildcards included).
    #[doc(alias = "gnutls_x509_crt_check_hostname")]
    pub fn names_host(&self, host: &[u8]) -> bool {
        let Ok(host) = CString::new(host) else { return false };
        // SAFETY: the string is NUL-terminated and outlives the call.
        unsafe { sys::gnutls_x509_crt_check_hostname(self.raw(), host.as_ptr()) != 0 }
    }

    /// True if `issuer` is named as this certificate's issuer, may issue, and signed it. Times are not looked at, nor how
    /// strong the signature's algorithm is: that is for who verifies, and whoever allows a weak one
    /// (`%VERIFY_ALLOW_SIGN_WITH_SHA1`) wants to know the issuer all the same, whose list may name the certificate.
    #[doc(alias = "gnutls_x509_crt_verify")]
    pub fn is_signed_by(&self, issuer: &Certificate) -> bool {
        if !self.names_as_issuer(issuer) || !issuer.has_quick_key() {
            return false;
        }
        let mut status: c_uint = c_uint::MAX;
        let authorities = [issuer.raw()];
        // SAFETY: both handles are alive; the list has one element and is only read.
        let code = unsafe {
            sys::gnutls_x509_crt_verify(self.raw(), authorities.as_ptr(), 1, WHOEVER_SIGNED, &mut status)
        };
        code >= 0 && status == 0
    }

    /// True if `issuer` has the name, and the key by its identifier if there is one, that this certificate says of its issuer.
    #[doc(alias = "gnutls_x509_crt_check_issuer")]
    pub fn names_as_issuer(&self, issuer: &Certificate) -> bool {
        // SAFETY: both handles are alive.
        unsafe { sys::gnutls_x509_crt_check_issuer(self.raw(), issuer.raw()) != 0 }
    }

    /// True if checking a signature with its key takes no time to speak of.
    pub fn has_quick_key(&self) -> bool {
        self.der().is_ok_and(|der| der::has_quick_key(&der))
    }

    /// True if the certificate is an authority's (basic constraints).
    #[doc(alias = "gnutls_x509_crt_get_ca_status")]
    pub fn is_authority(&self) -> bool {
        // SAFETY: the handle is alive; no criticality is asked for.
        unsafe { sys::gnutls_x509_crt_get_ca_status(self.raw(), ptr::null_mut()) > 0 }
    }

    /// True if the certificate demands a stapled proof (TLS feature status_request, RFC 7633).
    #[doc(alias = "gnutls_x509_crt_get_extension_by_oid")]
    pub fn demands_staple(&self) -> bool {
        let oid = CString::new(OID_TLS_FEATURE).expect("a literal without NUL");
        let extension = grow(|buffer, size| {
            // SAFETY: `buffer` has room for `*size` bytes; no criticality is asked for.
            unsafe {
                sys::gnutls_x509_crt_get_extension_by_oid(
                    self.raw(),
                    oid.as_ptr(),
                    0,
                    buffer.cast(),
                    size,
                    ptr::null_mut(),
                )
            }
        });
        extension.is_ok_and(|features| der::has_feature(&features, FEATURE_STATUS_REQUEST))
    }

    /// True if the certificate may sign proofs for its issuer (extended key usage id-kp-OCSPSigning; "any" does not do).
    #[doc(alias = "gnutls_x509_crt_get_key_purpose_oid")]
    pub fn may_sign_proofs(&self) -> bool {
        (0..MAX_ENTRIES)
            .map_while(|sequence| {
                text(|buffer, size| {
                    // SAFETY: `buffer` has room for `*size` bytes; no criticality is asked for.
                    unsafe {
                        sys::gnutls_x509_crt_get_key_purpose_oid(
                            self.raw(),
                            sequence,
                            buffer.cast(),
                            size,
                            ptr::null_mut(),
                        )
                    }
                })
                .ok()
            })
            .any(|purpose| purpose == OID_OCSP_SIGNING.as_bytes())
    }
}

impl PrivateKey {
    /// The key in a PEM text: PKCS#8 without password, or the older RSA and EC forms.
    #[doc(alias = "gnutls_x509_privkey_import")]
    pub fn from_pem(pem: &[u8]) -> Result<Self, Error> {
        let key = Self::empty()?;
        let data = datum(pem);
        // SAFETY: the handle is ours; `pem` is only read during the call.
        let first =
            check(unsafe { sys::gnutls_x509_privkey_import(key.raw(), &data, sys::GNUTLS_X509_FMT_PEM) });
        let Err(error) = first else { return Ok(key) };
        // Older versions read PKCS#8 by another function only.
        let key = Self::empty()?;
        let plain = sys::GNUTLS_PKCS_PLAIN as c_uint;
        // SAFETY: as above; NULL is the password of an unencrypted key.
        let second = check(unsafe {
            sys::gnutls_x509_privkey_import_pkcs8(
                key.raw(),
                &data,
                sys::GNUTLS_X509_FMT_PEM,
                ptr::null(),
                plain,
            )
        });
        second.map(|_| key).map_err(|_| error)
    }

    /// A new RSA key.
    #[doc(alias = "gnutls_x509_privkey_generate")]
    pub fn generate_rsa(bits: u32) -> Result<Self, Error> {
        let key = Self::empty()?;
        // SAFETY: the handle is ours and empty.
        check(unsafe { sys::gnutls_x509_privkey_generate(key.raw(), sys::GNUTLS_PK_RSA, bits, 0) })?;
        Ok(key)
    }

    fn empty() -> Result<Self, Error> {
        super::start();
        let mut handle: sys::gnutls_x509_privkey_t = ptr::null_mut();
        // SAFETY: the out pointer is ours; on success it holds a handle that we own.
        check(unsafe { sys::gnutls_x509_privkey_init(&mut handle) })?;
        Ok(Self(KeyHandle::own(handle)))
    }

    pub(super) fn raw(&self) -> sys::gnutls_x509_privkey_t {
        self.0.raw()
    }
}

/// Only who signed is asked, not when and how well.
const WHOEVER_SIGNED: c_uint = sys::GNUTLS_VERIFY_DISABLE_TIME_CHECKS as c_uint
    | sys::GNUTLS_VERIFY_ALLOW_SIGN_RSA_MD5 as c_uint
    | SHA1_SIGNED;
#[cfg(gnutls_calls_sha1_weak)]
const SHA1_SIGNED: c_uint = sys::GNUTLS_VERIFY_ALLOW_SIGN_WITH_SHA1 as c_uint;
#[cfg(not(gnutls_calls_sha1_weak))]
const SHA1_SIGNED: c_uint = 0;

/// A certificate signed with its own key, valid from `now` for `life`. `name` are parts of the
/// subject, OID and text.
#[doc(alias = "gnutls_x509_crt_sign2")]
pub fn self_signed(
    key: &PrivateKey,
    serial: &[u8],
    name: &[(&str, &[u8])],
    now: SystemTime,
    life: Duration,
) -> Result<Certificate, Error> {
    let certificate = Certificate::empty()?;
    let raw = certificate.raw();
    let seconds = |time: SystemTime| {
        let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        sys::time_t::try_from(seconds).unwrap_or(sys::time_t::MAX)
    };
    // SAFETY: the handle is ours alone; all buffers are read only during each call.
    unsafe {
        check(sys::gnutls_x509_crt_set_version(raw, 3))?;
        check(sys::gnutls_x509_crt_set_serial(raw, serial.as_ptr().cast(), serial.len()))?;
        check(sys::gnutls_x509_crt_set_activation_time(raw, seconds(now)))?;
        check(sys::gnutls_x509_crt_set_expiration_time(raw, seconds(now + life)))?;
        check(sys::gnutls_x509_crt_set_key(raw, key.raw()))?;
    }
    for (oid, value) in name {
        let oid = CString::new(*oid).expect("object ids are literals without NUL");
        let size = c_uint::try_from(value.len()).unwrap_or(0);
        // SAFETY: as above.
        check(unsafe {
            sys::gnutls_x509_crt_set_dn_by_oid(raw, oid.as_ptr(), 0, value.as_ptr().cast(), size)
        })?;
    }
    // SAFETY: as above; issuer is the certificate itself.
    check(unsafe { sys::gnutls_x509_crt_sign2(raw, raw, key.raw(), sys::GNUTLS_DIG_SHA256, 0) })?;
    Ok(certificate)
}

/// Calls a function that wants a buffer and its size, with a larger one if it says so.
pub(super) fn grow(mut fill: impl FnMut(*mut c_char, &mut usize) -> c_int) -> Result<Vec<u8>, Error> {
    let mut buffer = vec![0u8; 256];
    loop {
        let mut size = buffer.len();
        match check(fill(buffer.as_mut_ptr().cast(), &mut size)) {
            Ok(_) => {
                buffer.truncate(size);
                return Ok(buffer);
            }
            Err(error) if error.is_short_buffer() && size > buffer.len() && size <= MAX_FIELD => {
                buffer.resize(size, 0);
            }
            Err(error) => return Err(error),
        }
    }
}

/// As [`grow`], for functions that write a C string (some count its NUL, some do not).
fn text(fill: impl FnMut(*mut c_char, &mut usize) -> c_int) -> Result<Vec<u8>, Error> {
    let mut bytes = grow(fill)?;
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    Ok(bytes)
}

/// A name in DER as text, in the form of [`Certificate::dn`].
#[doc(alias = "gnutls_x509_rdn_get")]
pub fn name_text(der: &[u8]) -> Result<Vec<u8>, Error> {
    let name = datum(der);
    text(|buffer, size| {
        // SAFETY: the name is alive during the call; `buffer` has room for `*size` bytes.
        unsafe { sys::gnutls_x509_rdn_get(&name, buffer, size) }
    })
}

/// GnuTLS's time; its error value -1 becomes the epoch, which is expired.
pub(super) fn time_of(seconds: sys::time_t) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}
