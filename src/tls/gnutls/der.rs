//! Just enough DER (X.690) for what GnuTLS has no function for: the bits of a certificate's public key (what a CertID
//! hashes, and a TLSA record may), the list of TLS features, and revocation lists (`crate::ocsp::crl`), for whose size GnuTLS is not made.

/// BOOLEAN
pub const BOOLEAN: u8 = 0x01;
/// INTEGER
pub const INTEGER: u8 = 0x02;
/// BIT STRING
pub const BIT_STRING: u8 = 0x03;
/// OCTET STRING
pub const OCTET_STRING: u8 = 0x04;
/// OBJECT IDENTIFIER
pub const OBJECT_ID: u8 = 0x06;
/// UTCTime
pub const UTC_TIME: u8 = 0x17;
/// GeneralizedTime
pub const GENERALIZED_TIME: u8 = 0x18;
/// SEQUENCE
pub const SEQUENCE: u8 = 0x30;
/// `[0]`, constructed: a certificate's version
const VERSION: u8 = 0xa0;

/// One element: its tag, its contents, and what follows it. None if it is cut off or longer than any file we read.
pub fn split(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (contents, rest) = rest.split_at_checked(length)?;
    Some((tag, contents, rest))
}

/// The contents of the next element, which must have this tag, and what follows it.
pub fn expect(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    split(bytes).filter(|(found, ..)| *found == tag).map(|(_, contents, rest)| (contents, rest))
}

/// The subject's public key in a certificate (RFC 5280 4.1, SubjectPublicKeyInfo), whole: what a TLSA record with the
/// selector SPKI speaks of (RFC 6698 2.1.2).
pub(super) fn public_key_info(certificate: &[u8]) -> Option<&[u8]> {
    let (certificate, _) = expect(certificate, SEQUENCE)?;
    let (mut rest, _) = expect(certificate, SEQUENCE)?;
    if let Some((_, after)) = expect(rest, VERSION) {
        rest = after;
    }
    // serial number, signature algorithm, issuer, validity, subject
    for tag in [INTEGER, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE] {
        (_, rest) = expect(rest, tag)?;
    }
    let (_, after) = expect(rest, SEQUENCE)?;
    rest.get(..rest.len() - after.len())
}

/// The bits of the subject's public key, without tag, length and number of unused bits: what `issuerKeyHash` is made of
/// (RFC 6960 4.1.1).
pub(super) fn public_key_bits(certificate: &[u8]) -> Option<&[u8]> {
    let (key_info, _) = expect(public_key_info(certificate)?, SEQUENCE)?;
    let (_, after_algorithm) = expect(key_info, SEQUENCE)?;
    let (bits, _) = expect(after_algorithm, BIT_STRING)?;
    bits.split_first().map(|(_unused, bits)| bits)
}

/// Longest modulus of an RSA key that is used (16384 bits and a zero in front), and longest exponent (64 bits): OpenSSL's limits.
const MAX_MODULUS: usize = 2049;
const MAX_EXPONENT: usize = 9;
/// Longest parameters of a key (DSA's, of 3072 bits, have 800 bytes).
const MAX_PARAMETERS: usize = 1200;

/// True if checking a signature with a certificate's key takes milliseconds. It takes seconds with a key that somebody made
/// for that, since the time grows with the exponent; GnuTLS has no limit of its own.
pub(super) fn has_quick_key(certificate: &[u8]) -> bool {
    let Some((key_info, _)) = public_key_info(certificate).and_then(|info| expect(info, SEQUENCE)) else {
        return false;
    };
    let Some((parameters, _)) = expect(key_info, SEQUENCE) else { return false };
    let Some(bits) = public_key_bits(certificate) else { return false };
    let rsa = expect(bits, SEQUENCE).filter(|(_, rest)| rest.is_empty()).and_then(|(numbers, _)| {
        let (modulus, rest) = expect(numbers, INTEGER)?;
        let (exponent, _) = expect(rest, INTEGER)?;
        Some((modulus.len(), exponent.len()))
    });
    parameters.len() <= MAX_PARAMETERS
        && rsa.is_none_or(|(modulus, exponent)| modulus <= MAX_MODULUS && exponent <= MAX_EXPONENT)
}

/// True if a list of TLS features (RFC 7633: `SEQUENCE OF INTEGER`) has this one, a number below 128.
pub(super) fn has_feature(features: &[u8], wanted: u8) -> bool {
    let Some((mut rest, _)) = expect(features, SEQUENCE) else { return false };
    while let Some((number, after)) = expect(rest, INTEGER) {
        if number == [wanted] {
            return true;
        }
        rest = after;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_read_number_by_number() {
        assert!(has_feature(&[0x30, 3, 2, 1, 5], 5));
        assert!(has_feature(&[0x30, 6, 2, 1, 17, 2, 1, 5], 5));
        assert!(!has_feature(&[0x30, 4, 2, 2, 1, 5], 5));
        assert!(!has_feature(&[0x30, 9, 2, 1, 5], 5));
        assert!(!has_feature(&[], 5));
    }

    #[test]
    fn nonsense_has_no_public_key() {
        for bytes in
            [&b""[..], b"\x30", b"\x30\x84\xff\xff\xff\xff", b"\x30\x02\x30\x00", b"\x30\x80\x00\x00"]
        {
            assert_eq!((public_key_bits(bytes), public_key_info(bytes)), (None, None));
            assert!(!has_quick_key(bytes));
        }
    }
}
