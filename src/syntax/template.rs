//! One expandable string, parsed once.

use super::Position;
use super::expansion::{self, Unsupported};
use super::tree::{Part, Tree};
use bstr::{BStr, BString, ByteSlice};
use std::sync::Arc;

/// An expandable string: the text as written and its tree. A copy costs two counts.
#[derive(Clone, Debug)]
pub struct Template {
    text: Arc<BString>,
    at: Position,
    tree: Arc<Tree>,
    unsupported: Arc<[Unsupported]>,
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

impl SyntaxError {
    /// Names the item or condition around the error, as Exim does.
    pub(super) fn inside(mut self, what: &str) -> Self {
        self.message.push_str(" inside ");
        self.message.push_str(what);
        self
    }
}

impl Template {
    /// Parses `text`, written at `at`.
    pub fn parse(text: &[u8], at: &Position) -> Result<Template, SyntaxError> {
        let (tree, unsupported) = expansion::parse(text)?;
        Ok(Template {
            text: Arc::new(text.into()),
            at: at.clone(),
            tree: Arc::new(tree),
            unsupported: unsupported.into(),
        })
    }
    /// Text that is never expanded (an option without expansion, a fixed list): no character is special.
    pub fn literal(text: &[u8], at: &Position) -> Template {
        let parts = if text.is_empty() { Vec::new() } else { vec![Part::Literal(text.into())] };
        Template {
            text: Arc::new(text.into()),
            at: at.clone(),
            tree: Arc::new(Tree { parts }),
            unsupported: Arc::default(),
        }
    }
    /// The text as written.
    pub fn text(&self) -> &BStr {
        self.text.as_bstr()
    }
    /// Where it was written.
    pub fn at(&self) -> &Position {
        &self.at
    }
    /// The tree.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }
    /// True if nothing in it is ever replaced.
    pub fn is_literal(&self) -> bool {
        self.tree.literal().is_some()
    }
    /// The text after escapes, if nothing in it is ever replaced.
    pub fn as_literal(&self) -> Option<&BStr> {
        self.tree.literal().map(|text| text.as_bstr())
    }
    /// What it uses that is known but not supported yet; evaluation refuses there.
    pub fn unsupported(&self) -> &[Unsupported] {
        &self.unsupported
    }
}
