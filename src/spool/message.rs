//! One message of the spool, opened and locked.

use crate::mail::{Envelope, Header, MessageId};
use std::fs::File;
use std::path::PathBuf;

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
}
