//! The text files of `lsearch` and its kin: lines of keys and data.
//!
//! A key ends at a colon, white space or the line's end, or is quoted; data goes on in lines that begin with
//! white space; empty lines and lines that begin with `#` count nowhere.

use super::LookupError;
use bstr::{BString, ByteSlice};
use std::borrow::Cow;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// Longest line, with its continuation; the administrator writes the file, but it may be damaged.
const MAX_LINE: usize = 8 * 1024 * 1024;
/// Bytes read at once.
const BUFFER: usize = 64 * 1024;

/// Reads entries one by one.
pub struct LineFile {
    reader: BufReader<std::fs::File>,
    line: Vec<u8>,
    /// `line` was read and not used yet.
    waits: bool,
}

impl LineFile {
    /// Opens the file.
    pub fn open(path: &Path) -> Result<Self, LookupError> {
        let file = super::open(path, "linear search")?;
        if !file.metadata()?.is_file() {
            let path = path.display();
            return Err(LookupError::Failed(format!("{path} is not a regular file (lsearch lookup)")));
        }
        Ok(Self { reader: BufReader::with_capacity(BUFFER, file), line: Vec::new(), waits: false })
    }

    /// Makes `line` the next line that counts, without its end; false: there is none.
    fn advance(&mut self) -> Result<bool, LookupError> {
        if std::mem::take(&mut self.waits) {
            return Ok(true);
        }
        loop {
            self.line.clear();
            if self.reader.read_until(b'\n', &mut self.line)? == 0 {
                return Ok(false);
            }
            if self.line.len() > MAX_LINE {
                return Err(too_long());
            }
            let kept = self.line.trim_end().len();
            self.line.truncate(kept);
            if !self.line.is_empty() && self.line[0] != b'#' {
                return Ok(true);
            }
        }
    }

    /// The data of the first entry whose key fits. `full`: the whole entry, with its key.
    pub fn find(
        &mut self,
        full: bool,
        mut fits: impl FnMut(&[u8]) -> Result<bool, LookupError>,
    ) -> Result<Option<BString>, LookupError> {
        while self.advance()? {
            // Data that goes on belongs to a key that did not fit.
            if self.line[0].is_ascii_whitespace() {
                continue;
            }
            let (key, data) = split(&self.line);
            if fits(&key)? {
                let mut text = if full { full_line(&self.line) } else { BString::from(data) };
                self.continue_data(&mut text)?;
                return Ok(Some(text));
            }
        }
        Ok(None)
    }

    /// Appends the lines that begin with white space, one space at each junction.
    fn continue_data(&mut self, text: &mut BString) -> Result<(), LookupError> {
        while self.advance()? {
            if !self.line[0].is_ascii_whitespace() {
                self.waits = true;
                break;
            }
            if text.len() + self.line.len() > MAX_LINE {
                return Err(too_long());
            }
            text.push(b' ');
            text.extend_from_slice(self.line.trim_start());
        }
        Ok(())
    }
}

fn too_long() -> LookupError {
    LookupError::Failed("line is too long in file for linear search".into())
}

/// Key and data of a line.
fn split(line: &[u8]) -> (Cow<'_, [u8]>, &[u8]) {
    let (key, rest) = if line[0] == b'"' {
        let (key, rest) = quoted(&line[1..]);
        (Cow::Owned(key.into()), rest)
    } else {
        let end = line.iter().position(|b| *b == b':' || b.is_ascii_whitespace()).unwrap_or(line.len());
        (Cow::Borrowed(&line[..end]), &line[end..])
    };
    let rest = rest.trim_start();
    (key, rest.strip_prefix(b":").unwrap_or(rest).trim_start())
}

/// The whole line, its key without quotes.
fn full_line(line: &[u8]) -> BString {
    match line.strip_prefix(b"\"") {
        Some(inner) => {
            let (key, rest) = quoted(inner);
            bstr::concat([key.as_slice(), rest]).into()
        }
        None => line.into(),
    }
}

/// A key in quotes, whose backslashes count as in quoted configuration strings.
fn quoted(text: &[u8]) -> (BString, &[u8]) {
    let mut key = BString::default();
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        at += 1;
        match byte {
            b'"' => break,
            b'\\' => {
                match text.get(at) {
                    Some(b'n') => key.push(b'\n'),
                    Some(b'r') => key.push(b'\r'),
                    Some(b't') => key.push(b'\t'),
                    Some(other) => key.push(*other),
                    None => {}
                }
                at += 1;
            }
            other => key.push(*other),
        }
    }
    (key, &text[at.min(text.len())..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn find(text: &str, key: &str, full: bool) -> Option<String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let mut lines = LineFile::open(file.path()).unwrap();
        lines.find(full, |each| Ok(each == key.as_bytes())).unwrap().map(|data| data.to_string())
    }

    #[test]
    fn data_goes_on_in_indented_lines_across_comments_and_empty_lines() {
        assert_eq!(find("a: b\n# c\n\n   d  \n\te\nf: g\n", "a", false).unwrap(), "b d e");
        assert_eq!(find("a:\n   d\n", "a", false).unwrap(), " d");
        assert_eq!(find("a: b\n  a: c\nf: g", "f", false).unwrap(), "g");
    }

    #[test]
    fn keys_end_at_colons_and_spaces_or_are_quoted() {
        assert_eq!(find("a b\n", "a", false).unwrap(), "b");
        assert_eq!(find("a : b\n", "a", false).unwrap(), "b");
        assert_eq!(find("baduser:  :fail:\n", "baduser", false).unwrap(), ":fail:");
        assert_eq!(find("\"a:\\\"b c\": d\n", "a:\"b c", false).unwrap(), "d");
        assert_eq!(find("a : b\n", "a", true).unwrap(), "a : b");
    }
}
