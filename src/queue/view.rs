//! Looking at one message of the queue (`-Mvh`, `-Mvb`, `-Mvl`, `-Mvc`).

use crate::mail::{HeaderKind, MessageId};
use crate::spool::Layout;
use crate::spool::layout::file_name;
use crate::spool::message::{OpenError, read_header};
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

/// -H or -D as it is.
pub fn file(layout: &Layout, id: &MessageId, letter: char, out: &mut dyn Write) -> io::Result<bool> {
    for place in layout.places_of(id) {
        if let Ok(mut file) = File::open(place.join(file_name(id, letter))) {
            io::copy(&mut file, out)?;
            return Ok(true);
        }
    }
    not_there(&file_name(id, letter), out)
}

/// The message's own log.
pub fn log(layout: &Layout, id: &MessageId, out: &mut dyn Write) -> io::Result<bool> {
    match File::open(layout.message_log(id)) {
        Ok(mut file) => io::copy(&mut file, out).map(|_| true),
        Err(_) => {
            writeln!(out, "Failed to open msglog file for {id}: No such file or directory")?;
            Ok(false)
        }
    }
}

/// The message as it would be delivered: headers that are not deleted, blank line, body.
pub fn copy(layout: &Layout, id: &MessageId, out: &mut dyn Write) -> io::Result<bool> {
    for place in layout.places_of(id) {
        let Ok((_, headers)) = read_header(&place, id) else { continue };
        for header in headers.iter().filter(|header| header.kind != HeaderKind::Deleted) {
            out.write_all(&header.text)?;
        }
        out.write_all(b"\n")?;
        write_body(&place, id, out)?;
        return Ok(true);
    }
    not_there(&file_name(id, 'H'), out)
}

/// Why the headers of a message cannot be had.
pub fn header_error(layout: &Layout, id: &MessageId) -> Option<OpenError> {
    let mut answers = layout.places_of(id).into_iter().map(|place| read_header(&place, id).err());
    let first = answers.next()?;
    match first {
        Some(OpenError::Gone) => answers.next()?,
        other => other,
    }
}

/// Why there is no copy of a message: its body or its headers cannot be had.
pub fn copy_error(layout: &Layout, id: &MessageId) -> Option<OpenError> {
    let has_body = layout.places_of(id).iter().any(|place| place.join(file_name(id, 'D')).exists());
    if has_body { header_error(layout, id) } else { Some(OpenError::Gone) }
}

fn write_body(place: &Path, id: &MessageId, out: &mut dyn Write) -> io::Result<()> {
    let mut data = File::open(place.join(file_name(id, 'D')))?;
    data.seek(SeekFrom::Start(id.as_str().len() as u64 + 3))?;
    io::copy(&mut data, out)?;
    Ok(())
}

fn not_there(name: &str, out: &mut dyn Write) -> io::Result<bool> {
    writeln!(out, "Failed to open input file for {name}: No such file or directory")?;
    Ok(false)
}
