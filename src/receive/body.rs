//! The body of an incoming message: from the source into -D, counted and limited.

use super::headers::HeaderSection;
use super::lines::BodyLines;
use crate::spool::BodyFile;
use bstr::BString;
use std::io::{self, BufRead};

/// What is known of a body.
#[derive(Debug, Default)]
pub(super) struct BodyFacts {
    /// Lines.
    pub lines: u64,
    /// NUL bytes.
    pub zeros: u64,
    /// Longest line of header and body.
    pub longest: u64,
    /// Its first bytes, for `$message_body`.
    pub start: BString,
    /// Its last bytes, for `$message_body_end`.
    pub end: BString,
}

/// Why a body was not taken.
#[derive(Debug)]
pub(super) enum BodyError {
    /// Header and body are larger than the limit; what was read of both.
    TooBig { read: u64 },
    /// -D cannot be written.
    Spool(io::Error),
    /// The source failed.
    Source,
}

/// What limits a body.
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyLimits {
    /// Bytes of header and body together; 0: no limit.
    pub size: u64,
    /// Bytes kept for `$message_body` and for `$message_body_end`.
    pub visible: usize,
    /// Read on to the end of a message that is too big, to tell its size (SMTP).
    pub read_on: bool,
    /// A bare LF is no line end, if the header lines ended with CRLF (SMTP).
    pub bare_lf_is_space: bool,
}

/// Reads the rest of the message into `file`.
pub(super) fn read_body(
    source: &mut dyn BufRead,
    section: &HeaderSection,
    file: &mut BodyFile,
    limits: BodyLimits,
) -> Result<BodyFacts, BodyError> {
    let bare_lf_is_space = section.crlf && limits.bare_lf_is_space;
    let mut lines = BodyLines::new(bare_lf_is_space, section.longest);
    let mut facts = BodyFacts::default();
    let mut read = section.size;
    let mut chunk_lines = Vec::new();
    lines.feed(&section.body_start, &mut chunk_lines);
    if section.body_start.ends_with(b"\n") && bare_lf_is_space {
        // The line was read as a line already: its end is not a bare LF.
        chunk_lines.pop();
        lines.feed(b"\r\n", &mut chunk_lines);
    }
    let mut ended = section.ended;
    loop {
        read += chunk_lines.len() as u64;
        let too_big = limits.size > 0 && read > limits.size;
        if too_big && (ended || !limits.read_on) {
            let read = if limits.read_on { read } else { limits.size + 1 };
            return Err(BodyError::TooBig { read });
        }
        if !too_big {
            file.write(&chunk_lines).map_err(BodyError::Spool)?;
            facts.keep_visible(&chunk_lines, limits.visible);
        }
        chunk_lines.clear();
        if ended {
            break;
        }
        let chunk = source.fill_buf().map_err(|_| BodyError::Source)?;
        ended = chunk.is_empty();
        lines.feed(chunk, &mut chunk_lines);
        let length = chunk.len();
        source.consume(length);
        if ended {
            lines.finish(&mut chunk_lines);
        }
    }
    (facts.lines, facts.zeros, facts.longest) = (lines.lines, lines.zeros, lines.longest);
    Ok(facts)
}

impl BodyFacts {
    fn keep_visible(&mut self, bytes: &[u8], visible: usize) {
        let room = visible.saturating_sub(self.start.len());
        self.start.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.end.extend_from_slice(&bytes[bytes.len().saturating_sub(visible)..]);
        let surplus = self.end.len().saturating_sub(visible);
        self.end.drain(..surplus);
    }
}

/// Reads a source to its end and forgets it, so that an SMTP session stays in step.
pub(super) fn drain(source: &mut dyn BufRead) -> io::Result<()> {
    loop {
        let length = source.fill_buf()?.len();
        if length == 0 {
            return Ok(());
        }
        source.consume(length);
    }
}
