//! One header field of a message (RFC 5322 section 2.2), as the spool keeps it.

use bstr::{BStr, BString, ByteSlice};

/// What a header is to us; the letter is the spool's (spec chapter "Format of spool files").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HeaderKind {
    /// `B` Bcc:
    Bcc,
    /// `C` Cc:
    Cc,
    /// `F` From:
    From,
    /// `I` Message-Id:
    Id,
    /// `P` Received:
    Received,
    /// `R` Reply-To:
    ReplyTo,
    /// `S` Sender:
    Sender,
    /// `T` To:
    To,
    /// `*` removed or replaced; kept in the spool only
    Deleted,
    /// space: any other
    Other,
}

/// A header field: whole text with its line ends (`\n`), name and all, as it will be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// What it is to us.
    pub kind: HeaderKind,
    /// `Name: text\n`, folded lines included, `\n` line ends, the last byte is `\n`.
    pub text: BString,
}

impl Header {
    /// A header whose kind is found from its name (resent- forms included).
    pub fn new(text: impl Into<BString>) -> Self {
        let text = text.into();
        let kind = HeaderKind::of(name_of(&text));
        Self { kind, text }
    }
    /// The field name, without the colon.
    pub fn name(&self) -> &BStr {
        name_of(&self.text).as_bstr()
    }
    /// What follows the colon, unprocessed, last line end included.
    pub fn body(&self) -> &BStr {
        match self.text.find_byte(b':') {
            Some(colon) => self.text[colon + 1..].as_bstr(),
            None => b"".as_bstr(),
        }
    }
}

fn name_of(text: &[u8]) -> &[u8] {
    text.find_byte(b':').map_or(&text[..0], |colon| text[..colon].trim_end())
}

impl HeaderKind {
    /// The kind of a field name, in any case; `Resent-` forms count as the plain ones.
    pub fn of(name: &[u8]) -> Self {
        let lower = name.to_ascii_lowercase();
        // Resent-Reply-To: is obsolete (RFC 5322 section 4.5.6), and nothing to us.
        let plain = lower.strip_prefix(b"resent-").filter(|name| name != b"reply-to").unwrap_or(&lower);
        match plain {
            b"bcc" => Self::Bcc,
            b"cc" => Self::Cc,
            b"from" => Self::From,
            b"message-id" => Self::Id,
            b"received" => Self::Received,
            b"reply-to" => Self::ReplyTo,
            b"sender" => Self::Sender,
            b"to" => Self::To,
            _ => Self::Other,
        }
    }
    /// The spool's letter.
    pub fn letter(self) -> u8 {
        match self {
            Self::Bcc => b'B',
            Self::Cc => b'C',
            Self::From => b'F',
            Self::Id => b'I',
            Self::Received => b'P',
            Self::ReplyTo => b'R',
            Self::Sender => b'S',
            Self::To => b'T',
            Self::Deleted => b'*',
            Self::Other => b' ',
        }
    }
}
