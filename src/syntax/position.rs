//! Where a piece of configuration was written.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// File and line (from 1) of the first physical line of a piece of configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// The file, as it was named when it was opened.
    pub file: Arc<PathBuf>,
    /// Line number from 1; 0 for text that is in no file (a default, a command line).
    pub line: u32,
}

impl Position {
    /// A position outside every file; `what` names the source (`default`, `-be`).
    pub fn nowhere(what: &str) -> Self {
        Self { file: Arc::new(PathBuf::from(what)), line: 0 }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            write!(f, "{}", self.file.display())
        } else {
            write!(f, "{}:{}", self.file.display(), self.line)
        }
    }
}

/// A thing and where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located<T> {
    /// The thing.
    pub value: T,
    /// Where it was written.
    pub at: Position,
}
