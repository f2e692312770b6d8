//! The files a thing was read from, and whether they are still the same.
//!
//! A change is seen by device, inode, size, mtime and ctime of what a path leads to, so replacing a file by `rename(2)`,
//! or turning any symbolic link on the way, is one.

use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Most files of one thing that are watched (a directory of authorities has some hundreds).
const MAX_FILES: usize = 4096;
/// Longest file that is read: a bundle of authorities has 250 KiB, a large revocation list some MiB.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// The files a thing was read from, as they were when it was.
#[derive(Default)]
pub struct Files {
    seen: Vec<(PathBuf, Option<Stamp>)>,
}

/// What tells one version of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Files {
    /// Reads a file, and remembers what it was.
    pub fn read(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        // The stamp comes first: a file that is replaced while it is read counts as changed.
        self.watch(path)?;
        let mut bytes = Vec::new();
        // Without waiting: a FIFO or a device in this place must not stop TLS for everybody.
        let file =
            OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
        let kind = file.metadata()?;
        if kind.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if !kind.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no regular file"));
        }
        file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {MAX_FILE} bytes")));
        }
        Ok(bytes)
    }

    /// The paths of a directory's files in order; a file that comes or goes is a change of the directory.
    pub fn list(&mut self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        self.watch(directory)?;
        let mut paths = Vec::new();
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_file() {
                if paths.len() == MAX_FILES {
                    // Nobody could tell which of them were left out.
                    let text = format!("more than {MAX_FILES} files in the directory");
                    return Err(io::Error::other(text));
                }
                paths.push(path);
            } else {
                let _ = self.watch(&path); // a link to nothing may become one to something
            }
        }
        paths.sort();
        Ok(paths)
    }

    /// A change of this file, or that it comes or goes, is one too, though somebody else reads it.
    pub fn follow(&mut self, path: &Path) {
        let _ = self.watch(path); // that it is not there is remembered
    }

    /// A change of this file would be seen.
    #[cfg(test)]
    pub fn follows(&self, path: &Path) -> bool {
        self.seen.iter().any(|(seen, _)| seen == path)
    }

    /// True if `path` is a directory.
    pub fn is_directory(&mut self, path: &Path) -> io::Result<bool> {
        Ok(self.watch(path)?.is_dir())
    }

    /// A change of one of the other's files is one of these too, from now on.
    pub(super) fn watch_also(&mut self, other: &Self) {
        for (path, _) in &other.seen {
            if !self.seen.iter().any(|(seen, _)| seen == path) {
                let _ = self.watch(path); // that it is not there is remembered too
            }
        }
    }

    fn watch(&mut self, path: &Path) -> io::Result<Metadata> {
        let metadata = fs::metadata(path);
        if self.seen.len() < MAX_FILES {
            self.seen.push((path.to_owned(), metadata.as_ref().ok().map(stamp)));
        }
        metadata
    }

    /// One of them is not what it was.
    pub fn are_changed(&self) -> bool {
        self.changed(&mut stamp_of)
    }

    pub(super) fn changed(&self, look: &mut impl FnMut(&Path) -> Option<Stamp>) -> bool {
        self.seen.iter().any(|(path, seen)| look(path) != *seen)
    }
}

pub(super) fn stamp_of(path: &Path) -> Option<Stamp> {
    fs::metadata(path).ok().as_ref().map(stamp)
}

fn stamp(metadata: &Metadata) -> Stamp {
    Stamp {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.size(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    }
}
