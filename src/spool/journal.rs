//! -J: the addresses delivered during an attempt, written before the next step so that a crash does not
//! deliver twice. One address a line, in the form that the -H file's tree has.

use super::body_file::FILE_MODE;
use super::layout::file_name;
use super::message::Message;
use bstr::{BString, ByteSlice};
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The journal of one attempt.
#[derive(Debug)]
pub struct Journal {
    file: File,
}

impl Journal {
    /// Opens or creates -J of a message that is locked.
    pub fn open(message: &Message) -> io::Result<Self> {
        let path = message.directory.join(file_name(&message.id, 'J'));
        let file = OpenOptions::new().append(true).create(true).mode(FILE_MODE).open(path)?;
        Ok(Self { file })
    }
    /// Notes that these addresses need no delivery any more: one write, on the disk when it returns.
    pub fn note(&mut self, addresses: &[BString]) -> io::Result<()> {
        let mut lines = Vec::new();
        for address in addresses {
            lines.extend_from_slice(address);
            lines.push(b'\n');
        }
        self.file.write_all(&lines)?;
        self.file.sync_data()
    }
}

/// The addresses of -J; none if there is no -J. A last line without its end was cut off by a crash: it is not
/// taken, since half an address is another address.
pub(super) fn read(path: &Path) -> io::Result<BTreeSet<BString>> {
    let text = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeSet::new()),
        text => text?,
    };
    let whole = text.rfind_byte(b'\n').map_or(&text[..0], |end| &text[..end]);
    Ok(whole.split_str("\n").filter(|line| !line.is_empty()).map(BString::from).collect())
}
