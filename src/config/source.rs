//! The configuration file as logical lines: comments, continuation, includes, conditionals and macros are
//! dealt with here, physical line by physical line, and each logical line keeps where it began.
//!
//! Specification: sections "Configuration file format" to "Conditional skips in the configuration file".
//! Order for each physical line: white space at both ends goes, macros are replaced, conditionals and
//! includes act, comments go, and what ends with a backslash is continued.

use super::macros::Macros;
use super::written::ConfigError;
use crate::syntax::{Located, Position};
use bstr::{BStr, BString, ByteSlice};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Nesting of `.include`. Exim has no limit; a file that includes itself must end some time.
pub const MAX_INCLUDE_DEPTH: usize = 50;
/// Length of a logical line after macros: macros that double each other must end some time.
pub const MAX_LINE_LENGTH: usize = 4 * 1024 * 1024;
/// Length of one file: a device or a wrong path must not fill the memory.
pub const MAX_FILE_LENGTH: usize = 64 * 1024 * 1024;

/// Errors that are kept: nobody reads more, and a file that is no configuration has one in each line.
pub const MAX_ERRORS: usize = 200;
/// Bytes of a line that are shown with an error.
const MAX_SHOWN: usize = 200;

/// Opens the files that `.include` names: the caller decides with which rights.
pub trait Opener {
    /// The content of the file, or none if it does not exist.
    fn open(&mut self, path: &Path) -> std::io::Result<Option<Vec<u8>>>;
}

impl<F: FnMut(&Path) -> std::io::Result<Option<Vec<u8>>>> Opener for F {
    fn open(&mut self, path: &Path) -> std::io::Result<Option<Vec<u8>>> {
        self(path)
    }
}

/// One open file.
struct OpenFile {
    path: Arc<PathBuf>,
    bytes: Vec<u8>,
    next: usize,
    line: u32,
}

impl OpenFile {
    fn next_line(&mut self) -> Option<BString> {
        if self.next >= self.bytes.len() {
            return None;
        }
        let rest = &self.bytes[self.next..];
        let length = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        self.next += length + 1;
        self.line += 1;
        Some(rest[..length].trim().into())
    }

    fn at(&self) -> Position {
        Position { file: self.path.clone(), line: self.line }
    }
}

/// One `.ifdef` that is open.
struct Condition {
    at: Position,
    /// Lines of the present branch are read.
    active: bool,
    /// Some branch was read, or the whole stands in a branch that is not: no other branch is.
    settled: bool,
}

/// The logical lines of a configuration, in order.
pub struct Source<'a> {
    files: Vec<OpenFile>,
    conditions: Vec<Condition>,
    opener: &'a mut dyn Opener,
    /// The macros defined so far.
    pub macros: Macros,
    /// What is wrong so far.
    pub errors: Vec<ConfigError>,
    /// `# line "file"` wherever reading goes on in another file, since these were last taken.
    pub markers: Vec<Located<BString>>,
    last: Position,
}

impl<'a> Source<'a> {
    /// Starts with the main file, which the caller has opened.
    pub fn new(path: &Path, bytes: &[u8], macros: Macros, opener: &'a mut dyn Opener) -> Self {
        let path = Arc::new(path.to_owned());
        let last = Position { file: path.clone(), line: 0 };
        let file = OpenFile { path, bytes: bytes.to_owned(), next: 0, line: 0 };
        Self {
            files: vec![file],
            conditions: Vec::new(),
            opener,
            macros,
            errors: Vec::new(),
            markers: Vec::new(),
            last,
        }
    }

    /// The next logical line; it is never empty and never a comment.
    pub fn next_line(&mut self) -> Option<Located<BString>> {
        loop {
            let line = self.join_lines()?;
            if !line.value.is_empty() {
                return Some(line);
            }
        }
    }

    /// A physical line and what continues it.
    fn join_lines(&mut self) -> Option<Located<BString>> {
        let mut logical: Option<Located<BString>> = None;
        while let Some(physical) = self.next_physical(logical.is_some()) {
            let (text, continued) = match physical.value.strip_suffix(b"\\") {
                Some(text) => (BString::from(text), true),
                None => (physical.value, false),
            };
            match &mut logical {
                Some(line) => self.append(line, &text),
                None => logical = Some(Located { value: text, at: physical.at }),
            }
            if !continued {
                break;
            }
        }
        let mut line = logical?;
        let length = line.value.trim_end().len();
        line.value.truncate(length);
        Some(line)
    }

    /// Says what is wrong with a line.
    pub fn error(&mut self, at: &Position, message: String, line: Option<&BStr>) {
        self.push_error(ConfigError {
            at: at.clone(),
            message,
            line: line.map(shortened),
            unsupported: false,
        });
    }

    /// Says that a line asks for what is not supported yet.
    pub fn unsupported(&mut self, at: &Position, message: String, line: &BStr) {
        self.push_error(ConfigError {
            at: at.clone(),
            message,
            line: Some(shortened(line)),
            unsupported: true,
        });
    }

    /// Beyond [`MAX_ERRORS`] only the first real one still counts: it decides whether the file can be used.
    fn push_error(&mut self, error: ConfigError) {
        let usable = || self.errors.iter().all(|error| error.unsupported);
        if self.errors.len() < MAX_ERRORS || (!error.unsupported && usable()) {
            self.errors.push(error);
        }
    }

    fn append(&mut self, line: &mut Located<BString>, text: &[u8]) {
        if line.value.len() + text.len() > MAX_LINE_LENGTH {
            self.error(&line.at.clone(), "configuration line is too long".to_owned(), None);
            line.value.clear();
            return;
        }
        line.value.extend_from_slice(text);
    }

    /// The next physical line that says something; in a continued line an empty one does: it ends it.
    fn next_physical(&mut self, continuing: bool) -> Option<Located<BString>> {
        loop {
            let Some(file) = self.files.last_mut() else {
                self.check_conditions_are_closed();
                return None;
            };
            let Some(raw) = file.next_line() else {
                self.files.pop();
                self.mark();
                continue;
            };
            let at = file.at();
            self.last = at.clone();
            if raw.first() == Some(&b'#') {
                continue;
            }
            if raw.is_empty() {
                if continuing && self.is_active() {
                    return Some(Located { value: raw, at });
                }
                continue;
            }
            if let Some(line) = self.read_physical(raw, &at, continuing) {
                return Some(Located { value: line, at });
            }
        }
    }

    /// Replaces macros and obeys directives; gives what is left for the logical line.
    fn read_physical(&mut self, raw: BString, at: &Position, continuing: bool) -> Option<BString> {
        if !self.is_active() && !is_conditional(&raw) {
            return None;
        }
        let replaced = self.macros.replace(&raw, !continuing);
        if replaced.too_long {
            self.error(at, "configuration line is too long".to_owned(), Some(raw.as_bstr()));
            return None;
        }
        let line: BString = replaced.text.trim().into();
        if line.first() == Some(&b'.') && self.obey(&line, replaced.any, at) {
            return None;
        }
        (self.is_active() && !line.is_empty() && line[0] != b'#').then_some(line)
    }

    /// Obeys a directive; false if the line is none.
    fn obey(&mut self, line: &BString, any_macro: bool, at: &Position) -> bool {
        let (word, rest) =
            line.split_once_str(" ").or_else(|| line.split_once_str("\t")).unwrap_or((line, b""));
        match word {
            b".ifdef" => self.begin_condition(any_macro, at),
            b".ifndef" => self.begin_condition(!any_macro, at),
            b".elifdef" => self.next_branch(any_macro, word, at),
            b".elifndef" => self.next_branch(!any_macro, word, at),
            b".else" => self.next_branch(true, word, at),
            b".endif" => {
                if self.conditions.pop().is_none() {
                    self.error(at, ".endif without matching .ifdef".to_owned(), None);
                }
            }
            b".include" if self.is_active() => self.include(rest.trim(), true, at),
            b".include_if_exists" if self.is_active() => self.include(rest.trim(), false, at),
            _ => return false,
        }
        true
    }

    /// Notes the place in the present file.
    fn mark(&mut self) {
        if let Some(file) = self.files.last() {
            let at = file.at();
            self.markers.push(marker(&file.path, file.line, &at));
        }
    }

    fn is_active(&self) -> bool {
        self.conditions.last().is_none_or(|condition| condition.active)
    }

    fn begin_condition(&mut self, holds: bool, at: &Position) {
        let outer = self.is_active();
        let active = outer && holds;
        self.conditions.push(Condition { at: at.clone(), active, settled: active || !outer });
    }

    fn next_branch(&mut self, holds: bool, word: &[u8], at: &Position) {
        match self.conditions.last_mut() {
            Some(condition) => {
                condition.active = holds && !condition.settled;
                condition.settled |= condition.active;
            }
            None => self.error(at, format!("{} without matching .ifdef", word.as_bstr()), None),
        }
    }

    fn check_conditions_are_closed(&mut self) {
        for condition in std::mem::take(&mut self.conditions) {
            let message = format!(
                "Unexpected end of configuration file: .endif missing (the condition begins in line {})",
                condition.at.line
            );
            let at = self.last.clone();
            self.error(&at, message, None);
        }
    }

    fn include(&mut self, name: &[u8], must_exist: bool, at: &Position) {
        let name = name.strip_prefix(b"\"").and_then(|name| name.strip_suffix(b"\"")).unwrap_or(name);
        let name = PathBuf::from(std::ffi::OsStr::from_bytes(name));
        if self.files.len() > MAX_INCLUDE_DEPTH {
            return self.error(at, format!("more than {MAX_INCLUDE_DEPTH} nested .include files"), None);
        }
        let path = if name.is_absolute() {
            name
        } else if must_exist {
            at.file.parent().unwrap_or(Path::new("")).join(name)
        } else {
            let message = format!(".include specifies a non-absolute path \"{}\"", name.display());
            return self.error(at, message, None);
        };
        let failed = |why: &str| {
            let shown = path.display();
            format!("failed to open included configuration file {shown}{why}")
        };
        match self.opener.open(&path) {
            Ok(Some(bytes)) if bytes.len() > MAX_FILE_LENGTH => {
                let message = failed(": it is too long");
                self.error(at, message, None);
            }
            Ok(Some(bytes)) => {
                self.mark();
                self.markers.push(marker(&path, 1, at));
                self.files.push(OpenFile { path: Arc::new(path), bytes, next: 0, line: 0 });
            }
            Ok(None) if must_exist => {
                let message = failed("");
                self.error(at, message, None);
            }
            Ok(None) => {}
            Err(error) => {
                let message = failed(&format!(": {error}"));
                self.error(at, message, None);
            }
        }
    }
}

/// As much of a line as an error shows.
fn shortened(line: &BStr) -> BString {
    line[..line.len().min(MAX_SHOWN)].into()
}

fn marker(path: &Path, line: u32, at: &Position) -> Located<BString> {
    Located { value: format!("# {line} \"{}\"", path.display()).into(), at: at.clone() }
}

fn is_conditional(line: &[u8]) -> bool {
    [&b".if"[..], b".el", b".end"].iter().any(|start| line.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> (Vec<(u32, String)>, Vec<String>) {
        let mut opener = |path: &Path| -> std::io::Result<Option<Vec<u8>>> {
            Ok((path == Path::new("/etc/inc")).then(|| b"from = include\n".to_vec()))
        };
        let mut source =
            Source::new(Path::new("/etc/main"), text.as_bytes(), Macros::new(Vec::new()), &mut opener);
        let mut lines = Vec::new();
        while let Some(line) = source.next_line() {
            lines.push((line.at.line, line.value.to_string()));
        }
        (lines, source.errors.iter().map(|error| error.to_string()).collect())
    }

    #[test]
    fn continued_lines_keep_the_place_where_they_began_and_lose_comments() {
        let (lines, _) = lines("# c\na = b \\  \n  # no\n   c \\\n\nd = e\\\n");
        assert_eq!(lines, [(2, "a = b c".to_owned()), (6, "d = e".to_owned())]);
    }

    #[test]
    fn includes_are_relative_to_the_including_file() {
        assert_eq!(lines(".include inc\n").0, [(1, "from = include".to_owned())]);
        let (_, errors) = lines(".include /none\n.include_if_exists /none\n.include_if_exists rel\n");
        assert_eq!(errors.len(), 2);
    }

    #[test]
    fn a_file_that_includes_itself_is_refused() {
        let mut opener =
            |_: &Path| -> std::io::Result<Option<Vec<u8>>> { Ok(Some(b".include x\n".to_vec())) };
        let mut source = Source::new(Path::new("x"), b".include x\n", Macros::new(Vec::new()), &mut opener);
        assert!(source.next_line().is_none());
        assert_eq!(source.errors.len(), 1);
    }

    #[test]
    fn macros_that_double_each_other_are_refused_before_they_fill_the_memory() {
        let mut macros = Macros::default();
        macros.define(b"AA = xxxxxxxxxxxxxxxx").unwrap();
        let doubled = macros.replace("AA".repeat(MAX_LINE_LENGTH / 4).as_bytes(), true);
        assert!(doubled.any && doubled.too_long);
    }

    #[test]
    fn errors_are_counted_up_to_a_limit() {
        let (_, errors) = lines(&".endif\n".repeat(MAX_ERRORS * 2));
        assert_eq!(errors.len(), MAX_ERRORS);
    }

    #[test]
    fn conditions_nest_and_unclosed_ones_are_named() {
        let (found, errors) =
            lines(".ifdef A\nx\n.ifdef B\n.else\ny\n.endif\n.else\nz\n.endif\n.endif\n.ifndef C\n");
        assert_eq!(found, [(8, "z".to_owned())]);
        assert_eq!(errors.len(), 2);
    }
}
