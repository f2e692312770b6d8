//! Digests: `md5`, `sha1`, `sha256`, `sha2`, and the item `hmac`. All of them are GnuTLS's; a digest of outside
//! text is not from outside any more.

use super::operator::Call;
use super::{ExpandError, failed};
use crate::text::Value;
use crate::tls::gnutls::hash::{self, Digest};

fn digest(call: &Call, algorithm: Digest, upper: bool) -> Result<Value, ExpandError> {
    let bytes = hash::digest(algorithm, call.text.bytes())
        .map_err(|error| ExpandError::Failed(format!("digest is not available: {error}")))?;
    Ok(Value::clean(hexadecimal(&bytes, upper || call.certificate)))
}

fn hexadecimal(bytes: &[u8], upper: bool) -> String {
    let digits = |b: &u8| if upper { format!("{b:02X}") } else { format!("{b:02x}") };
    bytes.iter().map(digits).collect()
}

/// 32 digits.
pub fn md5(call: Call) -> Result<Value, ExpandError> {
    digest(&call, Digest::Md5, false)
}

/// 40 digits.
pub fn sha1(call: Call) -> Result<Value, ExpandError> {
    digest(&call, Digest::Sha1, true)
}

/// 64 digits.
pub fn sha256(call: Call) -> Result<Value, ExpandError> {
    digest(&call, Digest::Sha256, true)
}

/// As long as its suffix says.
pub fn sha2(call: Call) -> Result<Value, ExpandError> {
    match call.suffix {
        None | Some(b"256") => digest(&call, Digest::Sha256, true),
        Some(b"384") => digest(&call, Digest::Sha384, true),
        Some(b"512") => digest(&call, Digest::Sha512, true),
        Some(_) => failed("unrecognised sha2 variant"),
    }
}

/// `${hmac{algorithm}{secret}{text}}`.
pub fn hmac(name: &Value, secret: &Value, text: &Value) -> Result<Value, ExpandError> {
    let algorithm = match name.bytes().as_ref() as &[u8] {
        b"md5" => Digest::Md5,
        b"sha1" => Digest::Sha1,
        _ => return failed(format!("hmac algorithm \"{}\" is not recognised", name.bytes())),
    };
    let bytes = hash::hmac(algorithm, secret.bytes(), text.bytes())
        .map_err(|error| ExpandError::Failed(format!("digest is not available: {error}")))?;
    Ok(Value::clean(hexadecimal(&bytes, false)))
}
