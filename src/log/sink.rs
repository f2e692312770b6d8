//! Where log lines go: files or syslog.

use bstr::BStr;
use std::sync::Mutex;

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

/// The logs of this process.
#[derive(Debug, Default)]
pub struct Log {
    lines: Mutex<Vec<(Which, Vec<u8>)>>,
}

impl Log {
    /// A log that keeps lines in memory, for tests.
    pub fn memory() -> Self {
        Self::default()
    }
    /// Writes one line; the time stamp (and pid, if selected) is put before it, `\n` after it.
    /// `text` is all that follows the time stamp, with the message id first if there is one.
    pub fn write(&self, which: Which, text: &BStr) {
        if let Ok(mut lines) = self.lines.lock() {
            lines.push((which, text.to_vec()));
        }
    }
}
