//! The log of one message (`msglog/<id>`): copies of its lines of the main log, without id and flag.
//! `preserve_message_logs` moves it to `msglog.OLD/<id>` when the message is done.

use super::body_file::{FILE_MODE, create_directory};
use super::commit::remove_if_there;
use super::layout::{Layout, file_name};
use crate::mail::MessageId;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

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

/// Removes the logs of messages that are no more: their removal was cut short by a crash. Gives the names.
pub fn sweep(layout: &Layout) -> io::Result<Vec<String>> {
    let mut removed = Vec::new();
    for directory in super::scan::directories_below(&layout.root().join("msglog"))? {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let Some(id) = entry.file_name().to_str().and_then(|name| MessageId::parse(name.as_bytes()))
            else {
                continue;
            };
            // -D comes before everything else of a message, and goes last but for this log; a message that has lost
            // its -D has its -H.
            let has =
                |place: &PathBuf, letter| place.join(file_name(&id, letter)).try_exists().unwrap_or(true);
            let is_there = |place: &PathBuf| has(place, 'D') || has(place, 'H');
            if !layout.places_of(&id).iter().any(is_there) {
                remove_if_there(&entry.path())?;
                removed.push(format!("msglog/{id}"));
            }
        }
    }
    Ok(removed)
}

/// Keeps it when the message is done. None was written: there is nothing to keep.
pub fn preserve(layout: &Layout, id: &MessageId) -> io::Result<()> {
    let (from, to) = (layout.message_log(id), layout.preserved_message_log(id));
    match fs::rename(&from, &to) {
        Err(error) if error.kind() == ErrorKind::NotFound && from.exists() => {
            to.parent().map_or(Ok(()), create_directory)?;
            fs::rename(&from, &to)
        }
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes it, when the message is done.
pub fn remove(layout: &Layout, id: &MessageId) -> io::Result<()> {
    remove_if_there(&layout.message_log(id))
}
