//! The log of one message (`msglog/<id>`): copies of its lines of the main log, without id and flag.

use super::body_file::{FILE_MODE, create_directory};
use super::commit::remove_if_there;
use super::layout::Layout;
use crate::mail::MessageId;
use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;

/// Appends one line (time stamp included, without its end), in one write.
pub fn append(layout: &Layout, id: &MessageId, line: &[u8]) -> io::Result<()> {
    let path = layout.message_log(id);
    let open = || OpenOptions::new().append(true).create(true).mode(FILE_MODE).open(&path);
    let mut file = match open() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            path.parent().map_or(Ok(()), create_directory)?;
            open()?
        }
        file => file?,
    };
    let mut whole = Vec::with_capacity(line.len() + 1);
    whole.extend_from_slice(line);
    whole.push(b'\n');
    file.write_all(&whole)
}

/// Removes it, when the message is done.
pub fn remove(layout: &Layout, id: &MessageId) -> io::Result<()> {
    remove_if_there(&layout.message_log(id))
}
