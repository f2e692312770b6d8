//! Where log lines go: files, syslog, or (in tests) memory.
//!
//! A line is one write(2) on a file opened for appending, so lines of several threads and processes do not
//! mix. Before each write the file's name is looked at: if it was renamed or removed, it is opened anew.

use super::Selector;
use super::echo::Echo;
use super::selector::Selectors;
use super::syslog::{self, SyslogSettings};
use crate::mail::date;
use bstr::{BStr, BString, ByteSlice};
use jiff::tz::TimeZone;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// Mode of log files.
const FILE_MODE: u32 = 0o640;
/// Mode of a log directory that is made here.
const DIRECTORY_MODE: u32 = 0o750;

/// Which log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Which {
    /// mainlog
    Main,
    /// rejectlog
    Reject,
    /// paniclog
    Panic,
}

impl Which {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Reject => "reject",
            Self::Panic => "panic",
        }
    }
}

/// What the configuration says of logs.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// Path with `%s`, and `%D` or `%M`; none: no files (`log_file_path`, expanded).
    pub path: Option<BString>,
    /// Syslog, if `log_file_path` names it.
    pub syslog: Option<SyslogSettings>,
    /// `log_selector`
    pub selectors: Selectors,
    /// `timezone`
    pub zone: TimeZone,
    /// `log_timezone`
    pub show_zone: bool,
    /// `write_rejectlog`
    pub write_rejectlog: bool,
    /// uid and gid that files created by root are given.
    pub owner: Option<(u32, u32)>,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            path: None,
            syslog: None,
            selectors: Selectors::default(),
            zone: TimeZone::system(),
            show_zone: false,
            write_rejectlog: true,
            owner: None,
        }
    }
}

/// `log_file_path`: a list with colons of a path and `syslog`; an empty item is `default`.
/// Gives the first path and whether syslog is named.
pub fn parse_log_file_path(list: &[u8], default: &[u8]) -> (Option<BString>, bool) {
    let mut path: Option<BString> = None;
    let mut syslog = false;
    for item in list.split_str(":").map(ByteSlice::trim) {
        match item {
            b"syslog" => syslog = true,
            b"" if path.is_none() => path = Some(default.into()),
            item if path.is_none() => path = Some(item.into()),
            _ => {}
        }
    }
    (path, syslog)
}

/// The logs of this process.
#[derive(Clone, Debug)]
pub struct Log {
    settings: LogSettings,
    pid: u32,
    files: Arc<Mutex<Files>>,
    memory: Option<Arc<Mutex<Vec<MemoryLine>>>>,
    /// `-v`
    echo: Option<Echo>,
    /// Lines are shown and not written.
    unwritten: bool,
}

/// One line of a log in memory: where it went, and its text without time stamp.
type MemoryLine = (Which, Vec<u8>);

#[derive(Debug, Default)]
struct Files {
    open: [Option<OpenFile>; 3],
    complained: bool,
}

#[derive(Debug)]
struct OpenFile {
    path: PathBuf,
    file: File,
    inode: (u64, u64),
}

impl Default for Log {
    fn default() -> Self {
        Self::memory()
    }
}

impl Log {
    /// A log that keeps lines in memory, for tests.
    pub fn memory() -> Self {
        Self::memory_with(Selectors::default())
    }
    /// The same, with other selectors.
    pub fn memory_with(selectors: Selectors) -> Self {
        let settings = LogSettings { selectors, ..LogSettings::default() };
        Self { memory: Some(Arc::default()), ..Self::new(settings) }
    }
    /// A log as the configuration says. Files are opened when they are first written.
    pub fn new(settings: LogSettings) -> Self {
        Self {
            settings,
            pid: std::process::id(),
            files: Arc::default(),
            memory: None,
            echo: None,
            unwritten: false,
        }
    }
    /// What is selected.
    pub fn selectors(&self) -> Selectors {
        self.settings.selectors
    }
    /// The same logs, each line shown by `echo` too.
    pub fn shown_by(&self, echo: Echo) -> Self {
        Self { echo: Some(echo), ..self.clone() }
    }
    /// Each line is shown by `echo`, and written nowhere.
    pub fn only_shown_by(&self, echo: Echo) -> Self {
        Self { unwritten: true, ..self.shown_by(echo) }
    }
    /// Each line goes to standard error, as it would stand in the log.
    pub fn on_standard_error(&self) -> Self {
        let settings = LogSettings { path: None, syslog: None, ..self.settings.clone() };
        Self { settings, ..self.clone() }
    }
    /// Whether a line of this selector has a reader: it is selected, or all lines are shown.
    pub fn wants(&self, selector: Selector) -> bool {
        self.echo.is_some() || self.settings.selectors.has(selector)
    }
    /// A line that is written only if it is selected.
    pub fn optional(&self, selector: Selector, which: Which, text: &BStr) {
        self.show(Some(selector), &[which], text);
        if self.settings.selectors.has(selector) {
            self.put(which, text);
        }
    }
    /// What is said to whoever asked for `-v`, and in no log.
    pub fn remark(&self, text: impl AsRef<[u8]>) {
        if let Some(echo) = &self.echo {
            echo.remark(text.as_ref());
        }
    }
    /// Whether remarks are shown.
    pub fn is_shown(&self) -> bool {
        self.echo.is_some()
    }
    fn show(&self, selector: Option<Selector>, logs: &[Which], text: &BStr) {
        if let (Some(echo), Some(first)) = (&self.echo, logs.first()) {
            let mut line = Vec::new();
            push_printable(&mut line, text, *first);
            echo.line(selector, logs, &line);
        }
    }
    /// Directories that the files lie in, for who restricts where this process may write: as written up to the first
    /// part with a name or date in it, and where links of existing files lead.
    pub fn places(&self) -> Vec<PathBuf> {
        let Some(pattern) = &self.settings.path else { return Vec::new() };
        let fixed = pattern.find_byte(b'%').map_or(pattern.as_slice(), |at| &pattern[..at]);
        let directory = fixed.rfind_byte(b'/').map_or(&b"/"[..], |at| &fixed[..=at]);
        let mut places = vec![PathBuf::from(OsStr::from_bytes(directory))];
        for which in [Which::Main, Which::Reject, Which::Panic] {
            let path = path_of(pattern, which, SystemTime::now(), &self.settings.zone);
            places.extend(fs::canonicalize(path).ok().and_then(|real| real.parent().map(Path::to_path_buf)));
        }
        places
    }
    /// The time stamp of a line, as selected, with a space after it: also for message logs.
    pub fn stamp(&self, now: SystemTime) -> String {
        let millisec = self.settings.selectors.has(Selector::Millisec);
        let mut stamp = date::log(now, &self.settings.zone, self.settings.show_zone, millisec);
        if self.settings.selectors.has(Selector::Pid) {
            stamp.push_str(&format!(" [{}]", self.pid));
        }
        stamp.push(' ');
        stamp
    }
    /// The zone that dates are written in.
    pub fn zone(&self) -> &TimeZone {
        &self.settings.zone
    }
    /// What a memory log holds, in order.
    pub fn lines(&self) -> Vec<(Which, BString)> {
        let Some(memory) = &self.memory else { return Vec::new() };
        let lines = memory.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(|(which, text)| (*which, text.clone().into())).collect()
    }
    /// Writes one line; the time stamp (and pid, if selected) is put before it, `\n` after it.
    /// `text` is all that follows the time stamp, with the message id first if there is one.
    /// Control characters are shown as `\ooo`; a line end inside goes on with a space, so that no text from
    /// outside can pass for a line of its own.
    pub fn write(&self, which: Which, text: &BStr) {
        // What goes to the reject log alone is the long form of a line that is in the main log.
        if which != Which::Reject {
            self.show(None, &[which], text);
        }
        self.put(which, text);
    }

    fn put(&self, which: Which, text: &BStr) {
        if self.unwritten {
            return;
        }
        if let Some(memory) = &self.memory {
            memory.lock().unwrap_or_else(PoisonError::into_inner).push((which, text.to_vec()));
            return;
        }
        if which == Which::Reject && !self.settings.write_rejectlog {
            return;
        }
        let now = SystemTime::now();
        let mut line = self.stamp(now).into_bytes();
        let stamp_length = line.len();
        push_printable(&mut line, text, which);
        line.push(b'\n');
        if self.settings.path.is_some() {
            self.write_file(which, now, &line);
        }
        if let Some(syslog) = &self.settings.syslog {
            let from = if syslog.with_timestamp { 0 } else { stamp_length };
            syslog::send(syslog, which, self.pid, line[from..line.len() - 1].as_bstr());
        }
        if self.settings.path.is_none() && self.settings.syslog.is_none() {
            // No place was given: better on the terminal than lost.
            let _ = io::stderr().write_all(&line);
        }
    }
    /// Writes the main-log line of an event; gives its text (without time stamp) for the message's own log.
    pub fn event(&self, event: &super::Event) -> BString {
        let line = event.line(self.settings.selectors);
        self.write(Which::Main, line.as_bstr());
        line
    }
    /// Writes the same line to the main and the panic log: what an administrator must see.
    pub fn panic(&self, text: &BStr) {
        self.write_to(&[Which::Main, Which::Panic], text);
    }
    /// Writes the same line to the main and the reject log.
    pub fn rejected(&self, text: &BStr) {
        self.write_to(&[Which::Main, Which::Reject], text);
    }
    /// Writes the same line to several logs.
    pub fn write_to(&self, logs: &[Which], text: &BStr) {
        self.show(None, logs, text);
        logs.iter().for_each(|which| self.put(*which, text));
    }
    /// Opens the main log: an error at start is told before anything depends on the log.
    pub fn check(&self) -> io::Result<()> {
        match &self.settings.path {
            Some(pattern) => {
                let path = path_of(pattern, Which::Main, SystemTime::now(), &self.settings.zone);
                open(&path, self.settings.owner).map(drop).map_err(|error| cannot_open(&path, &error))
            }
            None => Ok(()),
        }
    }

    fn write_file(&self, which: Which, now: SystemTime, line: &[u8]) {
        let Some(pattern) = &self.settings.path else { return };
        let path = path_of(pattern, which, now, &self.settings.zone);
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = &mut files.open[which as usize];
        if slot.as_ref().is_some_and(|open| !open.is_still(&path)) {
            *slot = None;
        }
        if slot.is_none() {
            *slot = open(&path, self.settings.owner).map_err(|error| complain(&path, &error)).ok();
        }
        let written = slot.as_ref().is_some_and(|open| {
            (&open.file).write_all(line).map_err(|error| complain(&path, &error)).is_ok()
        });
        if !written && !files.complained {
            files.complained = true;
            let words = format!("could not write {} log", which.name());
            syslog::send(&SyslogSettings::default(), Which::Panic, self.pid, words.as_str().into());
        }
        if !written {
            let _ = io::stderr().write_all(line);
        }
    }
}

impl OpenFile {
    fn is_still(&self, path: &Path) -> bool {
        self.path == path && fs::metadata(path).is_ok_and(|facts| (facts.dev(), facts.ino()) == self.inode)
    }
}

fn complain(path: &Path, error: &io::Error) {
    log::error!("Cannot write log file {}: {error}", path.display());
}

/// Exim's words, with who tried: rights are the usual reason.
fn cannot_open(path: &Path, error: &io::Error) -> io::Error {
    let reason = crate::sys::system_words(error);
    let (euid, egid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let path = path.display();
    let words = format!("Cannot open main log file \"{path}\": {reason}: euid={euid} egid={egid}");
    io::Error::new(error.kind(), words)
}

fn open(path: &Path, owner: Option<(u32, u32)>) -> io::Result<OpenFile> {
    let file = match append_to(path, owner) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if let Some(directory) = path.parent() {
                make_directory(directory, owner)?;
            }
            append_to(path, owner)?
        }
        file => file?,
    };
    let facts = file.metadata()?;
    Ok(OpenFile { path: path.to_path_buf(), file, inode: (facts.dev(), facts.ino()) })
}

fn append_to(path: &Path, owner: Option<(u32, u32)>) -> io::Result<File> {
    let existing = OpenOptions::new().append(true).open(path);
    if !existing.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        return existing;
    }
    let file = OpenOptions::new().append(true).create(true).mode(FILE_MODE).open(path)?;
    if let Some((uid, gid)) = owner.filter(|_| nix::unistd::geteuid().is_root()) {
        fchown(&file, Some(uid), Some(gid))?;
    }
    Ok(file)
}

fn make_directory(directory: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory)?;
    if let Some((uid, gid)) = owner.filter(|_| nix::unistd::geteuid().is_root()) {
        fchown(File::open(directory)?, Some(uid), Some(gid))?;
    }
    Ok(())
}

/// The file of a log: `%s` is its name, `%D` and `%M` are the date (none in the panic log's name).
fn path_of(pattern: &BString, which: Which, now: SystemTime, zone: &TimeZone) -> PathBuf {
    let mut path = pattern.replacen("%s", which.name(), 1);
    for (mark, text) in [("%D", date::log_file_day(now, zone)), ("%M", date::log_file_month(now, zone))] {
        if let Some(at) = path.find(mark) {
            let rest = path.split_off(at + 2);
            path.truncate(at);
            push_date(&mut path, which, &text, &rest);
        }
    }
    PathBuf::from(OsStr::from_bytes(&path))
}

/// Puts the date between two parts of a name; the panic log has none, and loses the sign beside it.
fn push_date(path: &mut Vec<u8>, which: Which, date: &str, rest: &[u8]) {
    let mut rest = rest;
    if which != Which::Panic {
        path.extend_from_slice(date.as_bytes());
    } else if path.ends_with(b"/") {
        rest = rest.strip_prefix(&rest[..usize::from(is_sign(rest.first()))]).unwrap_or(rest);
    } else if is_sign(path.last()) {
        path.pop();
    }
    path.extend_from_slice(rest);
}

fn is_sign(byte: Option<&u8>) -> bool {
    byte.is_some_and(|byte| !byte.is_ascii_alphanumeric())
}

fn push_printable(line: &mut Vec<u8>, text: &[u8], which: Which) {
    for (at, &byte) in text.iter().enumerate() {
        match byte {
            b'\n' => {
                line.push(b'\n');
                let next = text.get(at + 1);
                if which == Which::Main && next.is_some_and(|next| *next != b' ' && *next != b'\t') {
                    line.push(b' ');
                }
            }
            b'\t' => line.push(b'\t'),
            0..=31 | 127 => line.extend_from_slice(format!("\\{byte:03o}").as_bytes()),
            _ => line.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn log_in(directory: &Path, pattern: &str) -> Log {
        let path = directory.join(pattern).to_str().map(BString::from);
        Log::new(LogSettings { path, ..LogSettings::default() })
    }

    #[test]
    fn a_renamed_log_is_opened_anew() {
        let directory = tempfile::tempdir().unwrap();
        let log = log_in(directory.path(), "new/%slog");
        let path = directory.path().join("new/mainlog");
        log.write(Which::Main, "one".into());
        fs::rename(&path, directory.path().join("old")).unwrap();
        log.write(Which::Main, "two\nforged \x01".into());
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.ends_with(" two\n forged \\001\n"), "{text}");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777 & !0o027, 0o640);
    }

    #[test]
    fn datestamps_stand_in_names_but_not_in_the_panic_logs() {
        let time = UNIX_EPOCH + Duration::from_secs(1_795_443_564);
        let name = |pattern: &str, which| {
            path_of(&pattern.into(), which, time, &TimeZone::UTC).to_str().unwrap().to_owned()
        };
        for (pattern, main, panic) in [
            ("/log/%slog-%D", "/log/mainlog-20261123", "/log/paniclog"),
            ("/log/exim-%s-%D.log", "/log/exim-main-20261123.log", "/log/exim-panic.log"),
            ("/log/%D-%slog", "/log/20261123-mainlog", "/log/paniclog"),
            ("/log/%s.%M", "/log/main.202611", "/log/panic"),
        ] {
            assert_eq!(name(pattern, Which::Main), main);
            assert_eq!(name(pattern, Which::Panic), panic);
        }
    }

    #[test]
    fn the_list_of_log_file_path_is_read() {
        assert_eq!(parse_log_file_path(b"syslog", b"/d"), (None, true));
        assert_eq!(parse_log_file_path(b":syslog", b"/d"), (Some("/d".into()), true));
        assert_eq!(parse_log_file_path(b"/a/%s", b"/d"), (Some("/a/%s".into()), false));
        assert_eq!(parse_log_file_path(b"", b"/d"), (Some("/d".into()), false));
    }
}
