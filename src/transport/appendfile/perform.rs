//! Carrying an order out, with the rights at hand.

use super::{errno, maildir, mbox, single_file};
use crate::as_user::order::{Answer, Append, CheckFiles, Done, FileRead, Format, Order, ReadFile, Trouble};
use crate::sys::files;
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
    check_names(order)?;
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

/// Parts of file names may come from the message (`directory_file = $h_subject:`): none leads out of the mailbox.
fn check_names(order: &Append) -> Result<(), Trouble> {
    let leads_out = |name: &[u8]| name.starts_with(b"/") || name.split_str("/").any(|part| part == b"..");
    let has_slash = |name: &[u8]| name.contains(&b'/');
    let bad = [
        ("directory_file", &order.directory_file, leads_out(&order.directory_file)),
        ("maildir_tag", &order.maildir_tag, has_slash(&order.maildir_tag)),
        ("primary_hostname", &order.hostname, has_slash(&order.hostname)),
    ];
    match bad.into_iter().find(|(.., is_bad)| *is_bad) {
        Some((option, name, _)) => {
            Err(trouble(errno::BAD_PATH, format!("{option} \"{name}\" leads out of the mailbox")))
        }
        None => Ok(()),
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

/// Puts the names in a directory on the disk. What its user has put in the directory's place (a FIFO) is not waited for.
pub(super) fn sync_directory(directory: &Path) -> Result<(), Trouble> {
    let synced = files::open_directory(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|error| io_trouble(format!("while flushing {}", directory.display()), &error))
}

/// A FIFO or a device is told by its mode and never read: its user would decide how long this takes.
pub fn read_file(order: &ReadFile) -> io::Result<FileRead> {
    let file = files::open_without_waiting(&path_of(order.path.as_bstr()))?;
    let meta = file.metadata()?;
    let mut content = Vec::new();
    if meta.is_file() {
        file.take(order.limit.saturating_add(1)).read_to_end(&mut content)?;
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_that_a_message_may_choose_leads_out_of_the_mailbox() {
        let directory = tempfile::tempdir().unwrap();
        let data = tempfile::tempfile().unwrap();
        let path = |name: &str| directory.path().join(name).as_os_str().as_bytes().into();
        let order = Append { format: Format::Directory, path: path("box"), mode: 0o600, ..Append::default() };
        std::fs::create_dir(directory.path().join("box")).unwrap();
        for name in [path("outside"), "../outside".into(), "x/../../outside".into()] {
            let order = Append { directory_file: name, ..order.clone() };
            assert_eq!(perform(&order, &data).unwrap_err().errno, errno::BAD_PATH);
        }
        let order = Append { directory_file: "a..b".into(), ..order };
        perform(&order, &data).unwrap();
        let order = Append { format: Format::Maildir, maildir_tag: "/../../outside".into(), ..order };
        assert_eq!(perform(&order, &data).unwrap_err().errno, errno::BAD_PATH);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_fifo_in_place_of_a_forward_file_or_a_directory_stops_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let order = ReadFile { path: fifo.as_os_str().as_bytes().into(), limit: 100 };
        let read = read_file(&order).unwrap();
        assert_eq!((read.mode & libc::S_IFMT, read.content.len()), (libc::S_IFIFO, 0));
        assert_eq!(sync_directory(&fifo).unwrap_err().errno, libc::ENOTDIR);
    }
}
