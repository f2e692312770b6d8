//! Line ends of incoming messages (spec section "Line endings"): everything becomes `\n`.
//!
//! CR is a line end; a LF right after it is ignored. If the first header line ended with CRLF, a bare LF is no
//! line end: in the body it becomes a space, in a header (as a bare CR does) a fold.

use std::io::{self, BufRead};

/// How a line ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineEnd {
    /// CR LF
    CrLf,
    /// LF alone
    Lf,
    /// CR alone
    Cr,
    /// The end of the source.
    End,
}

/// Reads one line, at most `limit` bytes of it, without its end. At the limit the rest stays unread and the end
/// is given as `None`.
pub fn read_line(source: &mut dyn BufRead, line: &mut Vec<u8>, limit: usize) -> io::Result<Option<LineEnd>> {
    line.clear();
    loop {
        let chunk = source.fill_buf()?;
        if chunk.is_empty() {
            return Ok(Some(LineEnd::End));
        }
        let room = &chunk[..chunk.len().min(limit - line.len())];
        match memchr::memchr2(b'\r', b'\n', room) {
            Some(at) => {
                line.extend_from_slice(&room[..at]);
                let byte = room[at];
                source.consume(at + 1);
                return if byte == b'\n' { Ok(Some(LineEnd::Lf)) } else { after_cr(source).map(Some) };
            }
            None => {
                line.extend_from_slice(room);
                let length = room.len();
                source.consume(length);
                if line.len() >= limit {
                    return Ok(None);
                }
            }
        }
    }
}

fn after_cr(source: &mut dyn BufRead) -> io::Result<LineEnd> {
    if source.fill_buf()?.first() == Some(&b'\n') {
        source.consume(1);
        return Ok(LineEnd::CrLf);
    }
    Ok(LineEnd::Cr)
}

/// Turns the bytes of a body into lines that end with `\n`, in chunks.
#[derive(Debug)]
pub struct BodyLines {
    bare_lf_is_space: bool,
    after_cr: bool,
    line: u64,
    /// Lines so far.
    pub lines: u64,
    /// NUL bytes so far.
    pub zeros: u64,
    /// The longest line so far, without its end.
    pub longest: u64,
}

impl BodyLines {
    /// At the start of a body; `longest` from the header lines.
    pub fn new(bare_lf_is_space: bool, longest: u64) -> Self {
        Self { bare_lf_is_space, after_cr: false, line: 0, lines: 0, zeros: 0, longest }
    }
    /// Takes a chunk, appends lines to `out`.
    pub fn feed(&mut self, mut chunk: &[u8], out: &mut Vec<u8>) {
        self.zeros += memchr::memchr_iter(0, chunk).count() as u64;
        if self.after_cr && chunk.first() == Some(&b'\n') {
            chunk = &chunk[1..];
        }
        if !chunk.is_empty() {
            self.after_cr = false;
        }
        while let Some(at) = memchr::memchr2(b'\r', b'\n', chunk) {
            out.extend_from_slice(&chunk[..at]);
            self.line += at as u64;
            let byte = chunk[at];
            chunk = &chunk[at + 1..];
            if byte == b'\n' && self.bare_lf_is_space {
                out.push(b' ');
                self.line += 1;
                continue;
            }
            self.end_line(out);
            if byte == b'\r' {
                match chunk.first() {
                    Some(b'\n') => chunk = &chunk[1..],
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
        }
        out.extend_from_slice(chunk);
        self.line += chunk.len() as u64;
    }
    /// The end: a last line without its end gets one.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if self.line > 0 {
            self.end_line(out);
        }
    }
    fn end_line(&mut self, out: &mut Vec<u8>) {
        out.push(b'\n');
        self.lines += 1;
        self.longest = self.longest.max(self.line);
        self.line = 0;
    }
}

/// A local source that ends at a line with nothing but a dot (no `-i`); nothing is unstuffed.
/// Limit: as spec says, `CR . CR` is no end.
pub struct UntilDot<'s> {
    source: &'s mut dyn BufRead,
    ready: Vec<u8>,
    taken: usize,
    at_line_start: bool,
    ended: bool,
}

impl<'s> UntilDot<'s> {
    /// Reads from this source.
    pub fn new(source: &'s mut dyn BufRead) -> Self {
        Self { source, ready: Vec::new(), taken: 0, at_line_start: true, ended: false }
    }

    /// Copies up to the end of one line (or of what is there of it).
    fn refill(&mut self) -> io::Result<()> {
        self.ready.clear();
        self.taken = 0;
        if self.ended {
            return Ok(());
        }
        let chunk = self.source.fill_buf()?;
        if chunk.is_empty() {
            self.ended = true;
            return Ok(());
        }
        if self.at_line_start && chunk[0] == b'.' {
            self.source.consume(1);
            return self.after_dot();
        }
        let end = memchr::memchr(b'\n', chunk).map_or(chunk.len(), |at| at + 1);
        self.ready.extend_from_slice(&chunk[..end]);
        self.at_line_start = chunk[end - 1] == b'\n';
        self.source.consume(end);
        Ok(())
    }

    fn after_dot(&mut self) -> io::Result<()> {
        self.ready.push(b'.');
        self.at_line_start = false;
        for end in [&b"\n"[..], b"\r"] {
            let chunk = self.source.fill_buf()?;
            self.ended = chunk.is_empty();
            if chunk.starts_with(b"\n") || chunk.is_empty() {
                self.ended = true;
                self.ready.clear();
                let used = chunk.len().min(1);
                self.source.consume(used);
                return Ok(());
            }
            if end == b"\n" && chunk.starts_with(b"\r") {
                self.ready.push(b'\r');
                self.source.consume(1);
            } else {
                break;
            }
        }
        Ok(())
    }
}

impl BufRead for UntilDot<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.taken == self.ready.len() && !self.ended {
            self.refill()?;
        }
        Ok(&self.ready[self.taken..])
    }
    fn consume(&mut self, count: usize) {
        self.taken = (self.taken + count).min(self.ready.len());
    }
}

impl io::Read for UntilDot<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::{BufReader, Read};

    fn body(input: &[u8], bare_lf_is_space: bool) -> (Vec<u8>, u64) {
        let mut lines = BodyLines::new(bare_lf_is_space, 0);
        let mut out = Vec::new();
        lines.feed(input, &mut out);
        lines.finish(&mut out);
        (out, lines.lines)
    }

    #[test]
    fn all_line_ends_become_lf() {
        assert_eq!(body(b"\r\na\nb\rc\r\nd", true), (b"\na b\nc\nd\n".to_vec(), 4));
        assert_eq!(body(b"b\r\nc\rd\n\0e\n", false), (b"b\nc\nd\n\0e\n".to_vec(), 4));
        assert_eq!(body(b"", false), (b"".to_vec(), 0));
    }

    #[test]
    fn a_line_with_a_dot_ends_a_local_message() {
        for (input, output) in [
            (&b"a\n.\nafter\n"[..], &b"a\n"[..]),
            (b"a\n.\r\nafter\n", b"a\n"),
            (b".\n", b""),
            (b"a\n.", b"a\n"),
            (b"a\n..\n.b\n", b"a\n..\n.b\n"),
            (b"a\n.\rb\n", b"a\n.\rb\n"),
        ] {
            for size in [1, 2, 100] {
                let mut reader = BufReader::with_capacity(size, input);
                let mut text = Vec::new();
                UntilDot::new(&mut reader).read_to_end(&mut text).unwrap();
                assert_eq!(text, output, "{:?}", bstr::BStr::new(input));
            }
        }
    }

    proptest! {
        #[test]
        fn the_cut_into_chunks_changes_nothing(input in "[ab\r\n]{0,30}", at in 0_usize..30, space: bool) {
            let input = input.as_bytes();
            let at = at.min(input.len());
            let mut lines = BodyLines::new(space, 0);
            let mut out = Vec::new();
            lines.feed(&input[..at], &mut out);
            lines.feed(&input[at..], &mut out);
            lines.finish(&mut out);
            prop_assert_eq!((out, lines.lines), body(input, space));
        }
    }
}
