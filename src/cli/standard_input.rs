//! The standard input of a call, this process's own or one over the submission socket: with a deadline, and with a copy
//! of what was read where a mail about an error may need it.

use super::error_mail::MOST_COPIED;
use std::io::{self, Read};
use std::time::{Duration, Instant};

/// Input of a call.
pub trait CallInput: Read {
    /// From now on, give up after this time; zero is never.
    fn set_time(&mut self, time: Duration);
    /// From now on, what is read is copied, up to a limit.
    fn keep_copy(&mut self, keep: bool);
    /// The copy.
    fn take_copy(&mut self) -> Vec<u8>;
}

/// A reader, and how to wait for it.
pub struct TimedInput<R, W> {
    reader: R,
    wait: W,
    end: Option<Instant>,
    copy: Vec<u8>,
    keep: bool,
}

impl<R: Read, W: FnMut(Duration) -> io::Result<()>> TimedInput<R, W> {
    /// `wait` comes back when there is input, or with an error.
    pub fn new(reader: R, wait: W) -> Self {
        Self { reader, wait, end: None, copy: Vec::new(), keep: false }
    }
}

impl<R: Read, W: FnMut(Duration) -> io::Result<()>> CallInput for TimedInput<R, W> {
    fn set_time(&mut self, time: Duration) {
        self.end = (!time.is_zero()).then(|| Instant::now() + time);
    }
    fn keep_copy(&mut self, keep: bool) {
        self.keep = keep;
    }
    fn take_copy(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.copy)
    }
}

impl<R: Read, W: FnMut(Duration) -> io::Result<()>> Read for TimedInput<R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(end) = self.end {
            (self.wait)(end.saturating_duration_since(Instant::now()))?;
        }
        let read = self.reader.read(buffer)?;
        if self.keep && self.copy.len() < MOST_COPIED {
            self.copy.extend_from_slice(&buffer[..read]);
        }
        Ok(read)
    }
}
