//! One message of the spool, opened and locked.

use super::header_read::{FormatError, read_header_file};
use super::journal;
use super::layout::{Layout, file_name};
use crate::mail::{Envelope, Header, MessageId};
use crate::sys::file_lock;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A message that this process has locked: envelope and headers read, -D open.
#[derive(Debug)]
pub struct Message {
    /// Its id.
    pub id: MessageId,
    /// The directory its files lie in.
    pub directory: PathBuf,
    /// Envelope, the journal's addresses included in `done`.
    pub envelope: Envelope,
    /// Headers, deleted ones included.
    pub headers: Vec<Header>,
    /// -D, open and locked; the body starts at [`Message::body_offset`]. Read with `pread` only.
    pub data: File,
    /// Size of the body in bytes.
    pub body_size: u64,
}

impl Message {
    /// Bytes before the body in -D: the line `<id>-D\n`.
    pub fn body_offset(&self) -> u64 {
        self.id.as_str().len() as u64 + 3
    }

    /// Opens and locks a message: -D, then -H and -J. The lock lives as long as `data`.
    pub fn open(layout: &Layout, id: &MessageId) -> Result<Self, OpenError> {
        let (directory, data) = open_data(layout, id)?;
        if !file_lock::try_lock(&data)? {
            return Err(OpenError::Locked);
        }
        let facts = data.metadata()?;
        if facts.nlink() == 0 {
            // Its last owner removed it between our open and our lock.
            return Err(OpenError::Gone);
        }
        let (mut envelope, headers) = read_header(&directory, id)?;
        envelope.done.append(&mut journal::read(&directory.join(file_name(id, 'J')))?);
        let body_size = facts.len().saturating_sub(id.as_str().len() as u64 + 3);
        Ok(Self { id: id.clone(), directory, envelope, headers, data, body_size })
    }
}

/// Why a message cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no such message (any more).
    #[error("spool file not found")]
    Gone,
    /// Another process or thread works on it. (Exim's words for its log and for `-M`.)
    #[error("Spool file is locked")]
    Locked,
    /// -H cannot be understood; its size in bytes.
    #[error("Format error in spool file {name}: size={size}")]
    Format {
        /// `<id>-H`
        name: String,
        /// Its size in bytes.
        size: usize,
        /// The line at fault.
        source: FormatError,
    },
    /// It cannot be read.
    #[error("Error reading spool file: {0}")]
    Io(#[from] io::Error),
}

fn open_data(layout: &Layout, id: &MessageId) -> Result<(PathBuf, File), OpenError> {
    for directory in layout.places_of(id) {
        match OpenOptions::new().read(true).write(true).open(directory.join(file_name(id, 'D'))) {
            Ok(file) => return Ok((directory, file)),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(OpenError::Gone)
}

/// Reads -H of a message that need not be locked (listings). The directory is from a scan.
pub fn read_header(directory: &Path, id: &MessageId) -> Result<(Envelope, Vec<Header>), OpenError> {
    let name = file_name(id, 'H');
    let text = match fs::read(directory.join(&name)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(OpenError::Gone),
        text => text?,
    };
    read_header_file(id, &text).map_err(|source| OpenError::Format { name, size: text.len(), source })
}
