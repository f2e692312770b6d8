//! Digests and keyed digests (RFC 2104) of bytes in memory, by GnuTLS, so that there is one
//! cryptographic library in the program.

use super::check::{Error, check};
use super::gnutls_sys as sys;
use std::ffi::c_void;

/// Algorithms that Exim's operators and conditions name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Digest {
    /// 16 bytes
    Md5,
    /// 20 bytes
    Sha1,
    /// 28 bytes
    Sha224,
    /// 32 bytes
    Sha256,
    /// 48 bytes
    Sha384,
    /// 64 bytes
    Sha512,
}

impl Digest {
    /// Length of the result in bytes.
    pub fn size(self) -> usize {
        match self {
            Digest::Md5 => 16,
            Digest::Sha1 => 20,
            Digest::Sha224 => 28,
            Digest::Sha256 => 32,
            Digest::Sha384 => 48,
            Digest::Sha512 => 64,
        }
    }

    pub(super) fn algorithm(self) -> sys::gnutls_digest_algorithm_t {
        match self {
            Digest::Md5 => sys::GNUTLS_DIG_MD5,
            Digest::Sha1 => sys::GNUTLS_DIG_SHA1,
            Digest::Sha224 => sys::GNUTLS_DIG_SHA224,
            Digest::Sha256 => sys::GNUTLS_DIG_SHA256,
            Digest::Sha384 => sys::GNUTLS_DIG_SHA384,
            Digest::Sha512 => sys::GNUTLS_DIG_SHA512,
        }
    }

    /// The algorithm by GnuTLS's number.
    #[cfg(ocsp_stapling)]
    pub(super) fn from_gnutls(number: sys::gnutls_digest_algorithm_t) -> Option<Self> {
        use Digest::*;
        [Md5, Sha1, Sha224, Sha256, Sha384, Sha512].into_iter().find(|known| known.algorithm() == number)
    }

    fn mac(self) -> sys::gnutls_mac_algorithm_t {
        match self {
            Digest::Md5 => sys::GNUTLS_MAC_MD5,
            Digest::Sha1 => sys::GNUTLS_MAC_SHA1,
            Digest::Sha224 => sys::GNUTLS_MAC_SHA224,
            Digest::Sha256 => sys::GNUTLS_MAC_SHA256,
            Digest::Sha384 => sys::GNUTLS_MAC_SHA384,
            Digest::Sha512 => sys::GNUTLS_MAC_SHA512,
        }
    }
}

/// Digest of `data`. It fails only where a policy of the system forbids the algorithm (FIPS mode and MD5).
#[doc(alias = "gnutls_hash_fast")]
pub fn digest(algorithm: Digest, data: &[u8]) -> Result<Vec<u8>, Error> {
    let mut result = vec![0; algorithm.size()];
    // SAFETY: `data` is readable for its length; `result` is as long as the algorithm writes (a test
    // compares with gnutls_hash_get_len).
    check(unsafe {
        sys::gnutls_hash_fast(
            algorithm.algorithm(),
            data.as_ptr().cast::<c_void>(),
            data.len(),
            result.as_mut_ptr().cast::<c_void>(),
        )
    })?;
    Ok(result)
}

/// HMAC of `data` under `key`.
#[doc(alias = "gnutls_hmac_fast")]
pub fn hmac(algorithm: Digest, key: &[u8], data: &[u8]) -> Result<Vec<u8>, Error> {
    let mut result = vec![0; algorithm.size()];
    // SAFETY: as in `digest`; `key` is readable for its length.
    check(unsafe {
        sys::gnutls_hmac_fast(
            algorithm.mac(),
            key.as_ptr().cast::<c_void>(),
            key.len(),
            data.as_ptr().cast::<c_void>(),
            data.len(),
            result.as_mut_ptr().cast::<c_void>(),
        )
    })?;
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn digests_are_those_of_the_standards() {
        assert_eq!(hex(&digest(Digest::Md5, b"abc").unwrap()), "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(hex(&digest(Digest::Sha1, b"abc").unwrap()), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(
            hex(&digest(Digest::Sha256, b"").unwrap()),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    #[test]
    fn lengths_are_what_the_library_writes() {
        use Digest::*;
        for algorithm in [Md5, Sha1, Sha224, Sha256, Sha384, Sha512] {
            // SAFETY: plain numbers in and out.
            let (digest, mac) = unsafe {
                (sys::gnutls_hash_get_len(algorithm.algorithm()), sys::gnutls_hmac_get_len(algorithm.mac()))
            };
            assert_eq!((digest as usize, mac as usize), (algorithm.size(), algorithm.size()));
        }
    }

    #[test]
    fn hmac_is_that_of_rfc_2202() {
        let result = hmac(Digest::Md5, b"Jefe", b"what do ya want for nothing?").unwrap();
        assert_eq!(hex(&result), "750c783e6ab0b503eaa86e310a5db738");
    }
}
