//! Message ids: Exim's two forms, `tttttt-pppppp-ss` (to 4.96) and `tttttt-ppppppppppp-ssss` (4.97 and later).

use bstr::{BStr, BString, ByteSlice};
use std::fmt;

/// A message id that has one of the two forms, so it is safe as a part of a file name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(String);

impl MessageId {
    /// Length of the old form.
    pub const SHORT: usize = 16;
    /// Length of the form of 4.97 and later.
    pub const LONG: usize = 23;

    /// Checks the form; anything else is no message id.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let dashes: &[usize] = match text.len() {
            Self::SHORT => &[6, 13],
            Self::LONG => &[6, 18],
            _ => return None,
        };
        let good = text
            .iter()
            .enumerate()
            .all(|(i, b)| if dashes.contains(&i) { *b == b'-' } else { b.is_ascii_alphanumeric() });
        good.then(|| Self(text.to_str_lossy().into_owned()))
    }
    /// From text that the generator composed: it has the form.
    pub(super) fn from_checked_text(text: String) -> Self {
        debug_assert!(Self::parse(text.as_bytes()).is_some(), "{text} is no message id");
        Self(text)
    }
    /// When the message began to be received, in seconds since 1970, as the id tells.
    pub fn seconds(&self) -> u64 {
        self.0.bytes().take(6).fold(0, |sum, digit| sum * 62 + u64::from(digit_value(digit)))
    }
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// The id as bytes.
    pub fn as_bstr(&self) -> &BStr {
        self.0.as_bytes().as_bstr()
    }
}

/// The value of a base-62 digit; `parse` has let no other byte in.
fn digit_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'A'..=b'Z' => digit - b'A' + 10,
        _ => digit.wrapping_sub(b'a').wrapping_add(36),
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl From<&MessageId> for BString {
    fn from(id: &MessageId) -> BString {
        id.0.as_bytes().into()
    }
}
