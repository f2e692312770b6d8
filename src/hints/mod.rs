//! Hints that may be lost: retry times, waiting and damaged messages, in one SQLite database (`db/hints.sqlite3` in the
//! spool).
//!
//! Invariants: no error of the database ever stops or loses mail: it is told once to the debug log, and
//! the answer is "nothing known". The file may be deleted at any time. One connection for each process,
//! behind a mutex; WAL lets processes share it.
//!
//! Keys of retry records are Exim's: `R:domain`, `R:local@domain` for routing, `T:local@domain` for local
//! deliveries, `T:host:address` (with `:port` if it is not the transport's), with `:<sender>` or the message
//! id behind for what concerns one sender or message.
pub mod damaged;
pub mod retry;
pub mod wait;

use rusqlite::Connection;
use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

pub use retry::RetryRecord;

/// How long another process may hold the database before we go on without hints.
const BUSY: Duration = Duration::from_millis(2000);

/// How long the answer to "does anything fail in routing?" holds: asking for each message would cost more than
/// a hint is worth.
const ROUTING_HOLDS: Duration = Duration::from_secs(1);

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS retry (
  key BLOB PRIMARY KEY, first_failed INTEGER NOT NULL, last_try INTEGER NOT NULL, next_try INTEGER NOT NULL,
  expired INTEGER NOT NULL, errno INTEGER NOT NULL, more_errno INTEGER NOT NULL, text BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS wait (
  transport BLOB NOT NULL, host BLOB NOT NULL, id TEXT NOT NULL,
  PRIMARY KEY (transport, host, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS damaged (
  id TEXT PRIMARY KEY, size INTEGER NOT NULL, changed INTEGER NOT NULL, inode INTEGER NOT NULL,
  what BLOB NOT NULL) WITHOUT ROWID;
";

/// The database, opened at first use.
#[derive(Debug)]
pub struct Hints {
    file: Option<PathBuf>,
    open: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    connection: Option<Connection>,
    /// The inode that is open: a deleted file is seen and made anew.
    inode: u64,
    /// Whether any domain or address fails in routing, and when that was asked.
    routing: Option<(Instant, bool)>,
}

impl Hints {
    /// Hints below this spool directory.
    pub fn new(spool: &Path) -> Self {
        Self { file: Some(spool.join("db").join("hints.sqlite3")), open: Mutex::default() }
    }

    /// Hints that nobody keeps, for tests and one-off programs.
    pub fn none() -> Self {
        Self { file: None, open: Mutex::default() }
    }

    /// Reads from the database; none if there is none or it fails.
    fn read<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Option<T> {
        self.with(false, work)
    }

    /// Changes the database, which is made if it is not there; none if it fails.
    fn write<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Option<T> {
        self.with(true, work)
    }

    fn with<T>(&self, create: bool, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Option<T> {
        let file = self.file.as_deref()?;
        let mut state = self.open.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        ensure_open(&mut state, file, create);
        let connection = state.connection.as_ref()?;
        match work(connection) {
            Ok(value) => Some(value),
            Err(error) => {
                log::warn!(target: "hints_lookup", "{}: {error}", file.display());
                close(state);
                None
            }
        }
    }
}

fn close(mut state: MutexGuard<State>) {
    state.connection = None;
}

fn ensure_open(state: &mut State, file: &Path, create: bool) {
    use std::os::unix::fs::MetadataExt;
    let inode = std::fs::metadata(file).map(|meta| meta.ino()).ok();
    if state.connection.is_some() && inode == Some(state.inode) {
        return;
    }
    state.connection = None;
    if inode.is_none() && !create {
        return;
    }
    match open(file) {
        Ok(connection) => {
            state.inode = std::fs::metadata(file).map_or(0, |meta| meta.ino());
            state.connection = Some(connection);
        }
        Err(error) => log::warn!(target: "hints_lookup", "{}: {error}", file.display()),
    }
}

fn open(file: &Path) -> rusqlite::Result<Connection> {
    // Failures here are told by SQLite, which finds no file.
    if let Some(directory) = file.parent() {
        let _ = DirBuilder::new().recursive(true).mode(0o750).create(directory);
    }
    let _ = OpenOptions::new().append(true).create(true).mode(0o640).open(file);
    let connection = match prepare(file) {
        Err(rusqlite::Error::SqliteFailure(error, _)) if error.code == rusqlite::ErrorCode::NotADatabase => {
            // Not ours or torn: hints may be lost, mail may not wait for them.
            let _ = std::fs::remove_file(file);
            prepare(file)?
        }
        other => other?,
    };
    Ok(connection)
}

fn prepare(file: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(file)?;
    // As a pragma: rusqlite's own call needs a newer libsqlite3 than Debian 12 has.
    connection.pragma_update(None, "busy_timeout", BUSY.as_millis() as i64)?;
    // Hints need not survive a power cut: no flush on commit.
    connection.pragma_update(None, "synchronous", "OFF")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.execute_batch(SCHEMA)?;
    Ok(connection)
}
