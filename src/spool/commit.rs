//! How a message gets into the spool and out of it, step by step.
//!
//! | state | on disk | after a crash |
//! |---|---|---|
//! | R0 | nothing | nothing |
//! | R1 | -D, locked, growing | the sweep removes -D: no -H names it |
//! | R2 | -D on the disk (fdatasync) | as R1 |
//! | R3 | `hdr.<id>`, written and on the disk (fdatasync) | the sweep removes both |
//! | R4 | -H, by rename | a message, or R3 if the directory was not on the disk yet; nobody was told `250` |
//! | R5 | the directory on the disk (fsync) | a message: only now `250` goes out |
//!
//! Rewriting -H (after a delivery attempt): `hdr.<id>` written and on the disk, renamed to -H, directory on
//! the disk, and only then -J is removed: a -J beside an old -H says what was delivered since.
//!
//! Removal: -H, then -J, then -D, then the message's log. Without -H there is no message, so a crash after the
//! first step never delivers twice; the sweep removes what is left.
//!
//! The sweep (at the start of the delivery worker, when an SMTP worker takes the place of one that died, and before each
//! queue run of the daemon): what has no -H beside it and whose -D can be locked is removed: -D, -J and `hdr.<id>`. A -D
//! that is being received cannot be locked; the moment between its creation and its lock is [`BodyFile`]'s to see to.
//! A message's log that is left over is removed too.

use super::body_file::{BodyFile, create_new};
use super::header_write::header_file;
use super::layout::{Layout, file_name, temporary_header_name};
use super::message::Message;
use crate::mail::{Envelope, Header, MessageId};
use crate::sys::file_lock;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

/// Makes a received message durable: states R2 to R5. On an error nothing is left behind.
pub fn commit(mut body: BodyFile, envelope: &Envelope, headers: &[Header]) -> io::Result<()> {
    body.sync()?;
    write_header(body.directory(), body.id(), envelope, headers)?;
    if let Err(error) = sync_directory(body.directory()) {
        remove_if_there(&body.directory().join(file_name(body.id(), 'H')))?;
        return Err(error);
    }
    body.keep_and_close();
    Ok(())
}

/// Replaces -H after a delivery attempt and removes -J.
pub fn rewrite(message: &Message) -> io::Result<()> {
    write_header(&message.directory, &message.id, &message.envelope, &message.headers)?;
    sync_directory(&message.directory)?;
    remove_if_there(&message.directory.join(file_name(&message.id, 'J')))
}

/// Removes a message that is done: -H, -J, -D. (Its log is [`super::message_log`]'s.)
pub fn remove(message: &Message) -> io::Result<()> {
    for letter in ['H', 'J', 'D'] {
        remove_if_there(&message.directory.join(file_name(&message.id, letter)))?;
    }
    Ok(())
}

/// States R3 and R4.
fn write_header(directory: &Path, id: &MessageId, envelope: &Envelope, headers: &[Header]) -> io::Result<()> {
    let temporary = directory.join(temporary_header_name(id));
    let written = write_temporary(directory, id, &header_file(id, envelope, headers))
        .and_then(|()| fs::rename(&temporary, directory.join(file_name(id, 'H'))));
    if written.is_err() {
        // The error that is told is the first one.
        let _ = remove_if_there(&temporary);
    }
    written
}

fn write_temporary(directory: &Path, id: &MessageId, text: &[u8]) -> io::Result<()> {
    let name = temporary_header_name(id);
    let mut file = match create_new(directory, &name) {
        // Left by a crash: whoever holds the lock on -D may take its place.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs::remove_file(directory.join(&name))?;
            create_new(directory, &name)?
        }
        result => result?,
    };
    file.write_all(text)?;
    file.sync_data()
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes what crashes left in the spool; gives the names of what was removed.
pub fn sweep(layout: &Layout) -> io::Result<Vec<String>> {
    let mut removed = Vec::new();
    for directory in super::scan::directories(layout)? {
        for entry in fs::read_dir(&directory)? {
            let name = entry?.file_name();
            if let Some((id, name)) = name.to_str().and_then(|name| Some((leftover_of(name)?, name))) {
                sweep_one(&directory, &id, name, &mut removed)?;
            }
        }
    }
    Ok(removed)
}

/// The message that a -D, -J or `hdr.` file belongs to.
fn leftover_of(name: &str) -> Option<MessageId> {
    let id =
        name.strip_prefix("hdr.").or_else(|| name.strip_suffix("-D")).or_else(|| name.strip_suffix("-J"))?;
    MessageId::parse(id.as_bytes())
}

fn sweep_one(directory: &Path, id: &MessageId, name: &str, removed: &mut Vec<String>) -> io::Result<()> {
    // A hdr. file beside -H is an interrupted rewriting; -D and -J beside -H are the message.
    // A disk that cannot tell is no reason to remove anything.
    let has_header = || directory.join(file_name(id, 'H')).try_exists();
    if has_header()? && !name.starts_with("hdr.") {
        return Ok(());
    }
    let data = OpenOptions::new().read(true).write(true).open(directory.join(file_name(id, 'D')));
    let _lock = match data {
        Ok(file) if file_lock::try_lock(&file)? => Some(file),
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    // Once more under the lock: it may have been committed meanwhile.
    if !has_header()? || name.starts_with("hdr.") {
        remove_if_there(&directory.join(name))?;
        removed.push(name.to_owned());
    }
    Ok(())
}
