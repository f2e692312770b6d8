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
    /// `input/`
    pub fn input(&self) -> PathBuf {
        self.root.join("input")
    }
    /// The directory for a new message's files: `input` or `input/<letter>`.
    pub fn input_for(&self, id: &MessageId) -> PathBuf {
        let input = self.input();
        if self.split { input.join(letter(id)) } else { input }
    }
    /// Where a message's files may lie: the place for new ones first, then the other form's.
    pub fn places_of(&self, id: &MessageId) -> [PathBuf; 2] {
        let (plain, split) = (self.input(), self.input().join(letter(id)));
        if self.split { [split, plain] } else { [plain, split] }
    }
    /// The log of one message: `msglog/<id>` or `msglog/<letter>/<id>`.
    pub fn message_log(&self, id: &MessageId) -> PathBuf {
        let logs = self.root.join("msglog");
        if self.split { logs.join(letter(id)).join(id.as_str()) } else { logs.join(id.as_str()) }
    }
    /// Where the log of a message that is done is kept; not split, as in Exim.
    pub fn preserved_message_log(&self, id: &MessageId) -> PathBuf {
        self.root.join("msglog.OLD").join(id.as_str())
    }
}

/// The directory of a split spool: the last digit of the seconds.
fn letter(id: &MessageId) -> &str {
    &id.as_str()[5..6]
}

/// The name of one file of a message: `<id>-H`, `-D`, `-J`.
pub fn file_name(id: &MessageId, letter: char) -> String {
    format!("{id}-{letter}")
}

/// The name under which a -H file is written before its rename.
pub fn temporary_header_name(id: &MessageId) -> String {
    format!("hdr.{id}")
}
