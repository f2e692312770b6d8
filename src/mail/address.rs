//! A mailbox address with its two parts (RFC 5321 section 4.1.2), as bytes.

use bstr::{BStr, BString, ByteSlice};
use std::fmt;

/// An address: local part and domain as written (quotes and case kept, as Exim keeps them in spool and log).
/// Domains are compared without case: [`Address::lower_domain`].
/// An empty domain is an unqualified local part; both empty is the null reverse path `<>`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    local_part: BString,
    domain: BString,
}

impl Address {
    /// From parts that were parsed before.
    pub fn new(local_part: impl Into<BString>, domain: impl Into<BString>) -> Self {
        Self { local_part: local_part.into(), domain: domain.into() }
    }
    /// Splits at the last `@` outside quotes; no check of either part (for what our own spool holds).
    pub fn split(text: &[u8]) -> Self {
        match text.rfind_byte(b'@') {
            Some(at) if !text.ends_with(b"\"") => Self::new(&text[..at], &text[at + 1..]),
            _ => Self::new(text, ""),
        }
    }
    /// The null reverse path.
    pub fn null() -> Self {
        Self::default()
    }
    /// True for the null reverse path.
    pub fn is_null(&self) -> bool {
        self.local_part.is_empty() && self.domain.is_empty()
    }
    /// The part before the `@`, with its quotes if it has any.
    pub fn local_part(&self) -> &BStr {
        self.local_part.as_bstr()
    }
    /// The local part without quotes and their backslashes: what ACLs and routers see as `$local_part`.
    pub fn unquoted_local_part(&self) -> BString {
        let Some(inner) = self.local_part.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""))
        else {
            return self.local_part.clone();
        };
        let mut plain = BString::default();
        let mut escaped = false;
        for &byte in inner {
            if byte == b'\\' && !escaped {
                escaped = true;
            } else {
                plain.push(byte);
                escaped = false;
            }
        }
        plain
    }
    /// The part after the `@`; empty if unqualified.
    pub fn domain(&self) -> &BStr {
        self.domain.as_bstr()
    }
    /// The domain in lower case, for comparing and routing.
    pub fn lower_domain(&self) -> BString {
        self.domain.to_ascii_lowercase().into()
    }
    /// True if there is no domain (and it is not the null reverse path).
    pub fn is_unqualified(&self) -> bool {
        self.domain.is_empty() && !self.local_part.is_empty()
    }
    /// The same local part at this domain.
    pub fn qualified(self, domain: &[u8]) -> Self {
        Self { local_part: self.local_part, domain: domain.into() }
    }
    /// `local@domain`, `local` if unqualified, empty for the null reverse path.
    pub fn to_bytes(&self) -> BString {
        let mut text = self.local_part.clone();
        if !self.domain.is_empty() {
            text.push(b'@');
            text.extend_from_slice(&self.domain);
        }
        text
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.to_bytes())
    }
}
