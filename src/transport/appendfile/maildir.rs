//! Maildir: a message is written below `tmp`, flushed, and renamed into `new`, which is flushed too.
//!
//! Invariants: a reader never sees half a message; no message ever takes another's name (the rename refuses to
//! replace); nothing is left in `tmp` when an attempt fails.

use super::directories::ensure;
use super::perform::{io_trouble, path_of, sync_directory, write_all};
use crate::as_user::order::{Append, Done, Trouble};
use bstr::{BString, ByteSlice};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Wait before another name is tried: long enough for the clock to give one.
const NAME_WAIT: Duration = Duration::from_micros(50);
/// Names that are tried at least, whatever `maildir_retries` says.
const NAME_TRIES: u32 = 10;

/// Delivers one message.
pub(super) fn append(order: &Append, data: &File) -> Result<Done, Trouble> {
    let root = path_of(order.path.as_bstr());
    // In the usual case all is there: one open tells it, without a look at each directory.
    let (mut name, file) = match create(order, &root) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => {
            ensure_all(order, &root)?;
            create(order, &root)
        }
        other => other,
    }
    .map_err(|error| io_trouble(format!("while creating file in {}/tmp", root.display()), &error))?;
    let temporary = root.join("tmp").join(OsStr::from_bytes(&name));
    let written = write_all(order, &file, data).and_then(|size| file.sync_all().map(|()| size));
    let size = match written {
        Ok(size) => size,
        Err(error) => {
            let _ = std::fs::remove_file(&temporary);
            return Err(io_trouble(format!("error while writing to {}", temporary.display()), &error));
        }
    };
    drop(file);
    name.extend_from_slice(&order.maildir_tag);
    let target = publish(order, &root, &temporary, &mut name)?;
    // Until the directory is on the disk a crash could lose the new name, and the spool entry goes next. A reader may
    // have seen the message by now: then it comes twice, which is better than not at all.
    sync_directory(&root.join("new")).inspect_err(|_| drop(std::fs::remove_file(&target)))?;
    Ok(Done { file: target.as_os_str().as_bytes().into(), size, mailbox_size: 0 })
}

fn ensure_all(order: &Append, root: &Path) -> Result<(), Trouble> {
    ensure(root, order)?;
    for part in ["tmp", "new", "cur"] {
        ensure(&root.join(part), order)?;
    }
    Ok(())
}

/// Creates a file of a new name below `tmp`.
fn create(order: &Append, root: &Path) -> io::Result<(BString, File)> {
    let mut tries = order.maildir_retries.max(NAME_TRIES);
    loop {
        let name = unique_name(order);
        let path = root.join("tmp").join(OsStr::from_bytes(&name));
        match OpenOptions::new().write(true).create_new(true).mode(order.mode).open(&path) {
            Ok(file) => return Ok((name, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && tries > 1 => {
                tries -= 1;
                std::thread::sleep(NAME_WAIT);
            }
            Err(error) => return Err(error),
        }
    }
}

/// `seconds.MmicrosecondsPpid.host`
fn unique_name(order: &Append) -> BString {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let host = order.hostname.replace("/", "\\057").replace(":", "\\072");
    let (seconds, micros, pid) = (now.as_secs(), now.subsec_micros(), std::process::id());
    format!("{seconds}.M{micros}P{pid}.{}", host.as_bstr()).into()
}

/// Renames into `new`; never over another message.
fn publish(order: &Append, root: &Path, temporary: &Path, name: &mut BString) -> Result<PathBuf, Trouble> {
    let mut tries = order.maildir_retries.max(NAME_TRIES);
    loop {
        let target = root.join("new").join(OsStr::from_bytes(name));
        match rename_new(temporary, &target) {
            Ok(()) => return Ok(target),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) && tries > 1 && temporary.exists() => {
                tries -= 1;
                if let Err(trouble) = ensure_all(order, root) {
                    let _ = std::fs::remove_file(temporary);
                    return Err(trouble);
                }
            }
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) && tries > 1 => {
                tries -= 1;
                std::thread::sleep(NAME_WAIT);
                *name = unique_name(order);
                name.extend_from_slice(&order.maildir_tag);
            }
            Err(error) => {
                let _ = std::fs::remove_file(temporary);
                // A file where `new` should be is told as such.
                ensure_all(order, root)?;
                let text = format!("while renaming {} as {}", temporary.display(), target.display());
                return Err(io_trouble(text, &error));
            }
        }
    }
}

fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
        Ok(()) => Ok(()),
        // A file system or kernel without that flag: a link refuses to replace, too.
        Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOSYS) => {
            std::fs::hard_link(from, to)?;
            std::fs::remove_file(from)
        }
        Err(errno) => Err(errno.into()),
    }
}
