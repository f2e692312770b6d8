//! Where the files of a message lie: `input/`, `msglog/`, `db/`, split or not, named queues.

use crate::mail::MessageId;
use std::path::{Path, PathBuf};

/// The directories of one spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
    split: bool,
}

impl Layout {
    /// A spool at `root`; `split`: new messages go into subdirectories (both forms are always read).
    pub fn new(root: impl Into<PathBuf>, split: bool) -> Self {
        Self { root: root.into(), split }
    }
    /// The spool directory.
    pub fn root(&self) -> &Path {
        &self.root
    }
    /// Whether new messages go into subdirectories.
    pub fn is_split(&self) -> bool {
        self.split
    }
    /// The directory for a new message's files: `input` or `input/<letter>`.
    pub fn input_for(&self, id: &MessageId) -> PathBuf {
        let input = self.root.join("input");
        if self.split { input.join(&id.as_str()[5..6]) } else { input }
    }
}
