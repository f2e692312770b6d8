//! Standard input with a deadline, and with a copy of what was read where a mail about an error may need it.

use super::error_mail::MOST_COPIED;
use crate::process::orders::wait_readable;
use std::io::{self, Read};
use std::time::{Duration, Instant};

/// Standard input; see the module's text.
pub struct TimedInput {
    /// When to give up; none: never.
    end: Option<Instant>,
    copy: Vec<u8>,
    keep: bool,
}

impl TimedInput {
    /// Zero is no limit. `keep`: what is read is copied, up to a limit.
    pub fn new(time: Duration, keep: bool) -> Self {
        Self { end: (!time.is_zero()).then(|| Instant::now() + time), copy: Vec::new(), keep }
    }
    /// What was read.
    pub fn into_copy(self) -> Vec<u8> {
        self.copy
    }
}

impl Read for TimedInput {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(end) = self.end {
            wait_readable(io::stdin(), end.saturating_duration_since(Instant::now()))?;
        }
        let read = io::stdin().lock().read(buffer)?;
        if self.keep && self.copy.len() < MOST_COPIED {
            self.copy.extend_from_slice(&buffer[..read]);
        }
        Ok(read)
    }
}
