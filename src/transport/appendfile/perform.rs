//! Carrying an order out, with the rights at hand.

use super::{maildir, mbox, single_file};
use crate::as_user::order::{Answer, Append, CheckFiles, Done, FileRead, Format, Order, ReadFile, Trouble};
use crate::transport::write_message::{BodyPart, LineForm, write_message};
use bstr::{BStr, ByteSlice};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Bytes that are gathered before a write: one system call for a message of usual size.
const WRITE_BUFFER: usize = 64 * 1024;

/// Appends one message to a mailbox; when this returns [`Done`] the message is flushed to disk and can be
/// seen by readers.
pub fn perform(order: &Append, data: &File) -> Result<Done, Trouble> {
    if !order.current_directory.is_empty() {
        let directory = path_of(order.current_directory.as_bstr());
        std::fs::metadata(directory.join("."))
            .map_err(|error| io_trouble(format!("failed to chdir to {}", order.current_directory), &error))?;
    }
    match order.format {
        Format::Mbox => mbox::append(order, data),
        Format::Maildir => maildir::append(order, data),
        Format::Directory => single_file::append(order, data),
    }
}

/// Carries out the orders that need no new process. [`Order::Run`] is not among them.
pub fn perform_order(order: &Order, files: &[&File]) -> Answer {
    match order {
        Order::Append(append) => match files.first() {
            Some(data) => match perform(append, data) {
                Ok(done) => Answer::Done(done),
                Err(trouble) => Answer::Trouble(trouble),
            },
            None => Answer::Trouble(Trouble::ours("no message came with the order")),
        },
        Order::ReadFile(read) => match read_file(read) {
            Ok(file) => Answer::File(file),
            Err(error) => Answer::Trouble(Trouble::from_io(error.to_string(), &error)),
        },
        Order::CheckFiles(check) => Answer::Checked(check_files(check)),
        Order::Run(_) => Answer::Trouble(Trouble::ours("commands are not run here")),
    }
}

/// Puts the names in a directory on the disk.
pub(super) fn sync_directory(directory: &Path) -> Result<(), Trouble> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|error| io_trouble(format!("while flushing {}", directory.display()), &error))
}

fn read_file(order: &ReadFile) -> io::Result<FileRead> {
    let file = File::open(path_of(order.path.as_bstr()))?;
    let meta = file.metadata()?;
    let mut content = Vec::new();
    file.take(order.limit.saturating_add(1)).read_to_end(&mut content)?;
    if content.len() as u64 > order.limit {
        return Err(io::Error::from_raw_os_error(libc::EFBIG));
    }
    Ok(FileRead { content: content.into(), uid: meta.uid(), gid: meta.gid(), mode: meta.mode() })
}

fn check_files(order: &CheckFiles) -> Vec<i32> {
    let errno = |path: &bstr::BString| match std::fs::metadata(path_of(path.as_bstr())) {
        Ok(_) => 0,
        Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
    };
    order.paths.iter().map(errno).collect()
}

/// Writes the whole message; does not flush to disk.
pub(super) fn write_all(order: &Append, file: &File, data: &File) -> io::Result<u64> {
    let lines = LineForm {
        crlf: order.use_crlf,
        check: order.check_string.clone(),
        escape: order.escape_string.clone(),
    };
    let prefix_end = if lines.check.is_empty() { 0 } else { first_line_end(&order.before) };
    let room =
        order.before.len() + order.after.len() + usize::try_from(order.body_size).unwrap_or(WRITE_BUFFER);
    let mut out = BufWriter::with_capacity(room.min(WRITE_BUFFER), file);
    // The prefix line `From ` of a mailbox is not itself escaped.
    out.write_all(&order.before[..prefix_end])?;
    let body = BodyPart { offset: order.body_offset, size: order.body_size };
    let mut size = prefix_end as u64;
    size += write_message(&mut out, &order.before[prefix_end..], data, Some(body), &lines)?;
    size += order.after.len() as u64;
    out.write_all(&order.after)?;
    out.flush()?;
    Ok(size)
}

fn first_line_end(before: &[u8]) -> usize {
    if before.starts_with(b"From ") { before.find_byte(b'\n').map_or(before.len(), |end| end + 1) } else { 0 }
}

pub(super) fn path_of(path: &BStr) -> PathBuf {
    Path::new(OsStr::from_bytes(path)).to_path_buf()
}

pub(super) fn trouble(errno: i32, text: impl Into<bstr::BString>) -> Trouble {
    Trouble { errno, text: text.into(), ..Trouble::default() }
}

/// From a failed system call; the log puts the error's own words before the text.
pub(super) fn io_trouble(text: impl Into<bstr::BString>, error: &io::Error) -> Trouble {
    Trouble::from_io(text, error)
}
