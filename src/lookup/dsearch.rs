//! `dsearch`: an entry of a directory. The answer is the name, and not from outside: it exists there.

use super::LookupError;
use crate::syntax::LookupType;
use crate::text::Value;
use bstr::{BString, ByteSlice};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Is there an entry of this name, of the kind that `filter=` asks for?
pub fn find(kind: &LookupType, directory: &Path, key: &[u8]) -> Result<Option<Value>, LookupError> {
    if !directory.is_absolute() && !directory.as_os_str().is_empty() {
        return Err(LookupError::Failed(format!(
            "dirname for dsearch is not absolute: {}",
            directory.display()
        )));
    }
    std::fs::read_dir(directory).map_err(|error| super::not_opened(directory, "directory search", &error))?;
    check_key(kind, key)?;
    let path = directory.join(OsStr::from_bytes(key));
    let found = match std::fs::symlink_metadata(&path) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ENOTDIR as i32) => return Ok(None),
        Err(error) => {
            return Err(LookupError::Defer(format!(
                "{}: {}",
                path.display(),
                crate::sys::system_words(&error)
            )));
        }
    };
    let fits = match kind.option("filter") {
        Some(b"file") => found.is_file(),
        Some(b"dir") => found.is_dir(),
        Some(b"subdir") => found.is_dir() && key != b"." && key != b"..",
        _ => true,
    };
    let answer = match kind.option("ret") {
        Some(b"full") => BString::from(path.as_os_str().as_bytes()),
        _ => key.into(),
    };
    Ok(fits.then(|| Value::clean(answer)))
}

/// One path component, or with `key=path` several without `..`.
fn check_key(kind: &LookupType, key: &[u8]) -> Result<(), LookupError> {
    let path = kind.option("key") == Some(b"path");
    if !path && key.contains(&b'/') {
        return Err(LookupError::Defer(format!(
            "key for dsearch lookup contains a slash: {}",
            key.as_bstr()
        )));
    }
    if path && (key.starts_with(b"/") || key.split(|b| *b == b'/').any(|part| part == b"..")) {
        return Err(LookupError::Defer(format!(
            "key for dsearch lookup leaves its directory: {}",
            key.as_bstr()
        )));
    }
    if key.contains(&0) {
        return Err(LookupError::Defer("key for dsearch lookup contains a zero byte".into()));
    }
    Ok(())
}
