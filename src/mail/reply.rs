//! An SMTP reply (RFC 5321 section 4.2, RFC 3463).

use bstr::BString;

/// A reply: what the peer hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Three digits, 200 to 599.
    pub code: u16,
    /// The text after code and space; several lines are separated by `\n`.
    pub text: BString,
}

impl Reply {
    /// A reply with this code and text.
    pub fn new(code: u16, text: impl Into<BString>) -> Self {
        Self { code, text: text.into() }
    }
    /// The bytes for the wire, CRLF at each line's end.
    pub fn to_wire(&self) -> Vec<u8> {
        let mut wire = Vec::with_capacity(self.text.len() + 16);
        let mut lines = self.text.split(|b| *b == b'\n').peekable();
        while let Some(line) = lines.next() {
            wire.extend_from_slice(self.code.to_string().as_bytes());
            wire.push(if lines.peek().is_some() { b'-' } else { b' ' });
            wire.extend_from_slice(line);
            wire.extend_from_slice(b"\r\n");
        }
        wire
    }
    /// True for 4yz.
    pub fn is_temporary(&self) -> bool {
        self.code / 100 == 4
    }
    /// True for 2yz and 3yz.
    pub fn is_positive(&self) -> bool {
        self.code < 400
    }
}
