//! `directory` without a format: each message is a file of its own (option `directory_file`).

use super::directories::ensure;
use super::perform::{io_trouble, path_of, sync_directory, write_all};
use crate::as_user::order::{Append, Done, Trouble};
use bstr::ByteSlice;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

/// Stands for `$inode` in the name until the file is there.
pub(super) const INODE_MARK: &str = "\u{1}inode\u{1}";

/// Delivers one message: written under a temporary name, flushed, renamed.
pub(super) fn append(order: &Append, data: &File) -> Result<Done, Trouble> {
    let directory = path_of(order.path.as_bstr());
    ensure(&directory, order)?;
    let temporary = directory.join(format!("temp.{}.{}", std::process::id(), order.hostname));
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(order.mode)
        .open(&temporary)
        .map_err(|error| io_trouble(format!("while creating file {}", temporary.display()), &error))?;
    let written = write_all(order, &file, data)
        .and_then(|size| file.sync_all().map(|()| size))
        .and_then(|size| Ok((size, file.metadata()?.ino())));
    let renamed = written.and_then(|(size, inode)| {
        let name = order.directory_file.replace(INODE_MARK, inode.to_string());
        let target = directory.join(OsStr::from_bytes(&name));
        std::fs::rename(&temporary, &target).map(|()| (size, target))
    });
    match renamed {
        Ok((size, target)) => {
            sync_directory(&directory)?;
            Ok(Done { file: target.as_os_str().as_bytes().into(), size, mailbox_size: 0 })
        }
        Err(error) => {
            let _ = std::fs::remove_file(&temporary);
            Err(io_trouble(format!("error while writing to {}", directory.display()), &error))
        }
    }
}
