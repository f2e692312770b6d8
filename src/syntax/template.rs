//! One expandable string, parsed once.

use super::Position;
use bstr::{BStr, BString, ByteSlice};

/// An expandable string: the text as written, and (once parsed) its tree.
#[derive(Clone, Debug)]
pub struct Template {
    text: BString,
    at: Position,
}

/// Text that is not an expandable string.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SyntaxError {
    /// Exim's words for what is wrong.
    pub message: String,
    /// Byte offset in the text.
    pub offset: usize,
}

impl Template {
    /// Parses `text`, written at `at`.
    pub fn parse(text: &[u8], at: &Position) -> Result<Template, SyntaxError> {
        Ok(Template { text: text.into(), at: at.clone() })
    }
    /// Text that is never expanded (an option without expansion, a fixed list): no character is special.
    pub fn literal(text: &[u8], at: &Position) -> Template {
        Template { text: text.into(), at: at.clone() }
    }
    /// The text as written.
    pub fn text(&self) -> &BStr {
        self.text.as_bstr()
    }
    /// Where it was written.
    pub fn at(&self) -> &Position {
        &self.at
    }
}
