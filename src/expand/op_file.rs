//! Operators and items that look at files: `stat`, `readfile`.

use super::operator::Call;
use super::{ExpandError, eval, failed};
use crate::text::Value;
use bstr::{BString, ByteSlice};
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// `name=value` for all that stat tells; outside text may be asked about, only numbers come out.
pub fn stat(call: Call) -> Result<Value, ExpandError> {
    let path = Path::new(OsStr::from_bytes(call.text.bytes()));
    let found = match std::fs::metadata(path) {
        Ok(found) => found,
        Err(error) => {
            return failed(format!("stat({}) failed: {}", path.display(), crate::sys::system_words(&error)));
        }
    };
    Ok(Value::clean(format!(
        "mode={:04o} smode={} inode={} device={} links={} uid={} gid={} size={} atime={} mtime={} ctime={}",
        found.mode() & 0o7777,
        symbolic_mode(found.mode()),
        found.ino(),
        found.dev(),
        found.nlink(),
        found.uid(),
        found.gid(),
        found.size(),
        found.atime(),
        found.mtime(),
        found.ctime()
    )))
}

/// As `ls -l` shows it.
fn symbolic_mode(mode: u32) -> String {
    let kind = match mode & libc::S_IFMT {
        libc::S_IFDIR => 'd',
        libc::S_IFLNK => 'l',
        libc::S_IFCHR => 'c',
        libc::S_IFBLK => 'b',
        libc::S_IFIFO => 'p',
        libc::S_IFSOCK => 's',
        _ => '-',
    };
    let mut text = String::from(kind);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (bits & 1 != 0, mode & special != 0) {
            (true, true) => letter,
            (false, true) => letter.to_ascii_uppercase(),
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// `${readfile{name}{end of line}}`.
pub fn read_file(name: &Value, end_of_line: Option<&Value>) -> Result<Value, ExpandError> {
    let path = name.to_path("filename").map_err(|error| ExpandError::Failed(error.to_string()))?;
    let unreadable = |error: std::io::Error| {
        ExpandError::Failed(format!(
            "failed to open {}: {}",
            path.display(),
            crate::sys::system_words(&error)
        ))
    };
    let file = crate::sys::files::open_without_waiting(&path).map_err(unreadable)?;
    let mut text = Vec::new();
    file.take(eval::MAX_LENGTH as u64 + 1).read_to_end(&mut text).map_err(unreadable)?;
    eval::check_length(&text)?;
    match end_of_line {
        None => Ok(Value::clean(text)),
        Some(end) => {
            let replaced = BString::from(text.replace(b"\n", end.bytes()));
            Ok(Value::with_taint(replaced, end.is_tainted()))
        }
    }
}
