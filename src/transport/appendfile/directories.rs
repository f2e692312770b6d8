//! Directories of mailboxes: made if they are missing and may be made.

use super::errno;
use super::perform::{io_trouble, path_of, trouble};
use crate::as_user::order::{Append, Trouble};
use bstr::{BStr, ByteSlice};
use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

/// Sees to it that `path` is a directory; tells whether it was made.
pub(super) fn ensure(path: &Path, order: &Append) -> Result<bool, Trouble> {
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => Ok(false),
        Ok(_) => Err(trouble(errno::NOT_DIRECTORY, format!("{} is not a directory", path.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound && order.create_directory => {
            check_place(order, path)?;
            make(path, order.directory_mode)
                .map_err(|error| io_trouble(format!("cannot create {}", path.display()), &error))?;
            Ok(true)
        }
        Err(error) => {
            let text = format!("stat() error for {}: {}", path.display(), error_words(&error));
            Err(io_trouble(text, &error))
        }
    }
}

/// Makes a directory and those above it, on the disk; the mode is set whatever the umask.
fn make(path: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => {
            std::fs::set_permissions(path, Permissions::from_mode(mode))?;
            flush_name(path)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let Some(parent) = path.parent() else { return Err(error) };
            make(parent, mode)?;
            make(path, mode)
        }
        Err(error) => Err(error),
    }
}

/// Puts the name of something new on the disk: without its directory's entry a flushed file is lost in a power cut. A
/// directory that this user may not read cannot be flushed by him; the file systems in use write it with the file.
pub(super) fn flush_name(path: &Path) -> io::Result<()> {
    match path.parent().map(File::open) {
        Some(Ok(directory)) => directory.sync_all(),
        Some(Err(_)) | None => Ok(()),
    }
}

/// `create_file`: new files and directories may have to lie below the home directory.
pub(super) fn check_place(order: &Append, path: &Path) -> Result<(), Trouble> {
    let Some(home) = &order.create_below else { return Ok(()) };
    let text = path.as_os_str().as_bytes().as_bstr();
    let inside = below(text, home.as_bstr());
    let directly = inside.is_some_and(|rest| !rest.contains(&b'/'));
    if home.is_empty() || inside.is_none() || (order.create_directly && !directly) {
        return Err(trouble(
            errno::BAD_CREATE,
            format!(
                "mailbox {text} does not exist, but creation outside the home directory is not permitted"
            ),
        ));
    }
    if text.contains_str("..") {
        return Err(trouble(
            errno::BAD_PATH,
            format!("mailbox {text}: \"..\" is not allowed in the name of a new file"),
        ));
    }
    Ok(())
}

fn below<'a>(path: &'a BStr, home: &BStr) -> Option<&'a [u8]> {
    path.strip_prefix(home.trim_end_with(|c| c == '/'))?.strip_prefix(b"/")
}

/// Directories above a file.
pub(super) fn ensure_parent(order: &Append) -> Result<(), Trouble> {
    let path = path_of(order.path.as_bstr());
    let Some(parent) = path.parent() else { return Ok(()) };
    if !order.create_directory || parent.exists() {
        return Ok(());
    }
    check_place(order, &path)?;
    make(parent, order.directory_mode).map_err(|error| {
        let text = format!("failed to create directories for {}: {}", path.display(), error_words(&error));
        io_trouble(text, &error)
    })
}

/// The system's words for an error, without the number that Rust adds.
pub(super) fn error_words(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}
