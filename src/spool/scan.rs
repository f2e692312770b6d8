//! The messages in the spool.

use super::layout::Layout;
use crate::mail::MessageId;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// One message, by its -H file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its id.
    pub id: MessageId,
    /// Where its files lie.
    pub directory: PathBuf,
}

/// All messages, oldest first (ids begin with the time). Split and plain directories are both read.
/// An empty spool, or one that was never written, is no error.
pub fn scan(layout: &Layout) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for directory in directories(layout)? {
        for entry in fs::read_dir(&directory)? {
            let name = entry?.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix("-H"));
            if let Some(id) = id.and_then(|id| MessageId::parse(id.as_bytes())) {
                entries.push(Entry { id, directory: directory.clone() });
            }
        }
    }
    entries.sort();
    Ok(entries)
}

/// `input/` and those of its subdirectories that a split spool has.
pub(super) fn directories(layout: &Layout) -> io::Result<Vec<PathBuf>> {
    directories_below(&layout.input())
}

/// The directory itself and those of its subdirectories that a split spool has.
pub(super) fn directories_below(top: &Path) -> io::Result<Vec<PathBuf>> {
    let listing = match fs::read_dir(top) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        listing => listing?,
    };
    let mut directories = vec![top.to_owned()];
    for entry in listing {
        let entry = entry?;
        let name = entry.file_name();
        let one_letter =
            name.to_str().is_some_and(|n| n.len() == 1 && n.as_bytes()[0].is_ascii_alphanumeric());
        if one_letter && entry.file_type()?.is_dir() {
            directories.push(entry.path());
        }
    }
    Ok(directories)
}
