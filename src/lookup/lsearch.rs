//! `lsearch`: literal keys in a text file, in any case.

use super::LookupError;
use super::line_file::LineFile;
use crate::text::Value;
use std::path::Path;

/// The data of the first line with this key. Its text is the file's: not from outside.
pub fn find(file: &Path, key: &[u8], full: bool) -> Result<Option<Value>, LookupError> {
    let mut lines = LineFile::open(file)?;
    let data = lines.find(full, |each| Ok(each.eq_ignore_ascii_case(key)))?;
    Ok(data.map(Value::clean))
}
