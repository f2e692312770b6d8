//! The -D file while a message comes in: created, locked, written, and removed again unless it is kept.
//!
//! Form: the line `<id>-D`, then the body with `\n` line ends (spec section "Format of the -D file").

use super::layout::{Layout, file_name};
use crate::mail::MessageId;
use crate::sys::file_lock;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Mode of new files of the spool (the program runs with umask 0).
pub const FILE_MODE: u32 = 0o640;
/// Mode of new directories of the spool.
pub const DIRECTORY_MODE: u32 = 0o750;
/// Bytes gathered before a write: most messages then take one.
const GATHER: usize = 64 * 1024;

/// A -D file that is being written. Dropped without [`BodyFile::keep`], it is removed.
#[derive(Debug)]
pub struct BodyFile {
    id: MessageId,
    directory: PathBuf,
    file: File,
    gathered: Vec<u8>,
    size: u64,
    kept: bool,
}

impl BodyFile {
    /// Creates and locks -D. `AlreadyExists`: the id is taken (by another process, or by a -D that is left
    /// over); the caller takes another one.
    pub fn create(layout: &Layout, id: &MessageId) -> io::Result<Self> {
        let directory = layout.input_for(id);
        let file = create_new(&directory, &file_name(id, 'D'))?;
        Self::lock(directory, id, file)
    }

    /// Between its creation and its lock a sweep may have taken -D for a left-over: it holds the lock and will remove
    /// the file by itself, or it has removed it already. What is written after that would be in no directory.
    pub(super) fn lock(directory: PathBuf, id: &MessageId, file: File) -> io::Result<Self> {
        let mut body = Self { id: id.clone(), directory, file, gathered: Vec::new(), size: 0, kept: false };
        let is_ours = file_lock::try_lock(&body.file)? && body.file.metadata()?.nlink() > 0;
        if !is_ours {
            body.kept = true;
            return Err(ErrorKind::AlreadyExists.into());
        }
        body.gathered.extend_from_slice(file_name(id, 'D').as_bytes());
        body.gathered.push(b'\n');
        Ok(body)
    }

    /// Whose body it is.
    pub fn id(&self) -> &MessageId {
        &self.id
    }
    /// The directory it lies in.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
    /// Bytes of the body so far.
    pub fn size(&self) -> u64 {
        self.size
    }
    /// Appends to the body.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.gathered.extend_from_slice(bytes);
        self.size += bytes.len() as u64;
        if self.gathered.len() >= GATHER { self.write_out() } else { Ok(()) }
    }
    /// Writes what is gathered, so that others can read the file.
    pub fn write_out(&mut self) -> io::Result<()> {
        self.file.write_all(&self.gathered)?;
        self.gathered.clear();
        Ok(())
    }
    /// The file, for reading with `pread`; [`BodyFile::write_out`] comes first.
    pub fn file(&self) -> &File {
        &self.file
    }
    /// A descriptor of its own, read-only and without the lock.
    pub fn open_again(&self) -> io::Result<File> {
        File::open(self.directory.join(file_name(&self.id, 'D')))
    }
    /// Makes the body durable.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.write_out()?;
        self.file.sync_data()
    }
    /// -D stays, and its lock ends.
    pub(super) fn keep_and_close(mut self) {
        self.kept = true;
    }
}

impl Drop for BodyFile {
    fn drop(&mut self) {
        if !self.kept {
            // Nothing can be done if it fails; the sweep at the next start removes it.
            let _ = fs::remove_file(self.directory.join(file_name(&self.id, 'D')));
        }
    }
}

/// Creates a file that is not there yet, and its directory if that is missing.
pub(super) fn create_new(directory: &Path, name: &str) -> io::Result<File> {
    let open = || {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(FILE_MODE);
        options.open(directory.join(name))
    };
    match open() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            create_directory(directory)?;
            open()
        }
        result => result,
    }
}

/// Creates a directory of the spool and what is missing above it; its name is on the disk when this returns.
pub(super) fn create_directory(directory: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory)?;
    match directory.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}
