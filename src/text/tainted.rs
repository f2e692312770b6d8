//! Text that remembers whether it came from outside.
//!
//! Invariant: tainted text never becomes a file name, a command or a template; the conversions here
//! are the only way to those uses, and they refuse (the rule of spec chapter "tainted data").

use bstr::{BStr, BString, ByteSlice};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Bytes and whether a peer or a user supplied any of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Value {
    bytes: BString,
    tainted: bool,
}

/// A use of outside text that is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Tainted {use_of} '{text}'")]
pub struct TaintError {
    /// What the text was to be used for, such as `filename for search`.
    pub use_of: &'static str,
    /// The refused text.
    pub text: BString,
}

impl Value {
    /// Text from the configuration or of our own making.
    pub fn clean(bytes: impl Into<BString>) -> Self {
        Self { bytes: bytes.into(), tainted: false }
    }
    /// Text that a peer, a user or a message supplied.
    pub fn tainted(bytes: impl Into<BString>) -> Self {
        Self { bytes: bytes.into(), tainted: true }
    }
    /// Text whose origin is decided by the caller.
    pub fn with_taint(bytes: impl Into<BString>, tainted: bool) -> Self {
        Self { bytes: bytes.into(), tainted }
    }
    /// The bytes, for comparing, for output and for the wire.
    pub fn bytes(&self) -> &BStr {
        self.bytes.as_bstr()
    }
    /// The bytes, owned, for output and for the wire.
    pub fn into_bytes(self) -> BString {
        self.bytes
    }
    /// True if any part came from outside.
    pub fn is_tainted(&self) -> bool {
        self.tainted
    }
    /// True if there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
    /// Appends; the sum is tainted if either part is.
    pub fn push(&mut self, other: &Value) {
        self.bytes.extend_from_slice(&other.bytes);
        self.tainted |= other.tainted && !other.bytes.is_empty();
    }
    /// Appends text of our own making.
    pub fn push_clean(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }
    /// The same taint on other bytes: for operators that compute from this value.
    pub fn derive(&self, bytes: impl Into<BString>) -> Value {
        Value { bytes: bytes.into(), tainted: self.tainted }
    }
    /// As a path; refused for outside text.
    pub fn to_path(&self, use_of: &'static str) -> Result<PathBuf, TaintError> {
        self.to_clean(use_of).map(|bytes| PathBuf::from(OsStr::from_bytes(bytes)))
    }
    /// As text to be trusted (a command, a template, a path part); refused for outside text.
    pub fn to_clean(&self, use_of: &'static str) -> Result<&BStr, TaintError> {
        if self.tainted {
            return Err(TaintError { use_of, text: self.bytes.clone() });
        }
        Ok(self.bytes.as_bstr())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outside_text_cannot_become_a_path_and_taints_what_it_joins() {
        let mut value = Value::clean("/var/mail/");
        assert!(value.to_path("file").is_ok());
        value.push(&Value::tainted("joe"));
        assert!(value.to_path("file").is_err());
        assert_eq!(value.bytes(), "/var/mail/joe");
    }
}
