//! Writing one message to a mailbox or to the wire: the header block as one piece of memory, the body
//! streamed from -D with `pread`.
//!
//! Order of what is written (spec chapter "Generic options for transports"): prefix, `Return-path:`,
//! `Envelope-to:`, `Delivery-date:`, the spooled headers without those that are deleted or removed,
//! added headers, a blank line, the body, suffix. Removals never touch added headers.
//!
//! The header block is made while options can be expanded; the body is copied where the rights are.

use crate::mail::{Header, HeaderKind};
use bstr::{BStr, BString, ByteSlice};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

/// Bytes of the body that are read at once: large enough that system calls do not count.
const BODY_CHUNK: usize = 64 * 1024;

/// What is put before, taken out of, and put after the spooled headers.
#[derive(Clone, Debug, Default)]
pub struct HeaderChanges<'a> {
    /// Value of `Return-path:`, if it is to be added (without angle brackets; may be empty).
    pub return_path: Option<&'a BStr>,
    /// Value of `Envelope-to:`, if it is to be added.
    pub envelope_to: Option<&'a BStr>,
    /// Value of `Delivery-date:`, if it is to be added.
    pub delivery_date: Option<&'a BStr>,
    /// Names to remove, compared without case; a trailing `*` matches the rest of a name.
    pub remove: &'a [BString],
    /// Whole header lines to add, each ending in `\n`.
    pub add: &'a [BString],
}

/// How lines leave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LineForm {
    /// `\n` becomes CRLF.
    pub crlf: bool,
    /// A body or header line that starts with this text...
    pub check: BString,
    /// ...has it replaced by this one (SMTP: `.` by `..`; mbox: `From ` by `>From `).
    pub escape: BString,
}

impl LineForm {
    /// The form of an SMTP DATA (RFC 5321 section 4.5.2): CRLF and doubled leading dots.
    pub fn smtp() -> Self {
        Self { crlf: true, check: ".".into(), escape: "..".into() }
    }
    /// The form of an SMTP BDAT (RFC 3030): CRLF and nothing else.
    pub fn smtp_chunk() -> Self {
        Self { crlf: true, ..Self::default() }
    }
    fn changes_nothing(&self) -> bool {
        !self.crlf && self.check.is_empty()
    }
}

/// The header block with `\n` line ends, without the blank line that ends it.
pub fn header_block(headers: &[Header], changes: &HeaderChanges) -> Vec<u8> {
    let spooled: usize = headers.iter().map(|header| header.text.len()).sum();
    let mut block = Vec::with_capacity(spooled + 256);
    if let Some(path) = changes.return_path {
        push_field(&mut block, "Return-path: <", path, ">\n");
    }
    if let Some(recipients) = changes.envelope_to {
        push_field(&mut block, "Envelope-to: ", recipients, "\n");
    }
    if let Some(date) = changes.delivery_date {
        push_field(&mut block, "Delivery-date: ", date, "\n");
    }
    for header in headers {
        if header.kind != HeaderKind::Deleted && !is_removed(header.name(), changes.remove) {
            block.extend_from_slice(&header.text);
        }
    }
    for added in changes.add {
        block.extend_from_slice(added);
        if !added.ends_with(b"\n") {
            block.push(b'\n');
        }
    }
    block
}

fn push_field(block: &mut Vec<u8>, start: &str, value: &BStr, end: &str) {
    block.extend_from_slice(start.as_bytes());
    block.extend_from_slice(value);
    block.extend_from_slice(end.as_bytes());
}

/// Is this header name on a list of names to remove?
pub fn is_removed(name: &BStr, remove: &[BString]) -> bool {
    remove.iter().any(|item| match item.strip_suffix(b"*") {
        Some(start) => name.len() >= start.len() && name[..start.len()].eq_ignore_ascii_case(start),
        None => name.eq_ignore_ascii_case(item),
    })
}

/// Where the body lies in -D.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyPart {
    /// Offset of its first byte.
    pub offset: u64,
    /// Its length in bytes.
    pub size: u64,
}

/// Writes `head` (a header block, with its blank line if a body follows) and the body in the form of
/// `lines`; tells how many bytes went out. A body that does not end with a line end gets one when
/// `lines` changes anything.
pub fn write_message(
    out: &mut dyn Write,
    head: &[u8],
    data: &File,
    body: Option<BodyPart>,
    lines: &LineForm,
) -> io::Result<u64> {
    let mut writer = LineWriter::new(out, lines);
    writer.write(head)?;
    if let Some(part) = body {
        copy_body(&mut writer, data, part)?;
    }
    writer.finish()
}

fn copy_body(writer: &mut LineWriter, data: &File, part: BodyPart) -> io::Result<()> {
    let end = part.offset + part.size;
    let mut at = part.offset;
    let mut chunk = vec![0; BODY_CHUNK.min(usize::try_from(part.size).unwrap_or(BODY_CHUNK)).max(1)];
    while at < end {
        let want = chunk.len().min(usize::try_from(end - at).unwrap_or(chunk.len()));
        let got = data.read_at(&mut chunk[..want], at)?;
        if got == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "-D is shorter than the message"));
        }
        writer.write(&chunk[..got])?;
        at += got as u64;
    }
    Ok(())
}

/// Turns `\n` lines into their outgoing form, across any borders between pieces.
struct LineWriter<'a> {
    out: &'a mut dyn Write,
    lines: &'a LineForm,
    /// Start of a line that may still become `check`.
    held: Vec<u8>,
    at_line_start: bool,
    after_cr: bool,
    written: u64,
}

impl<'a> LineWriter<'a> {
    fn new(out: &'a mut dyn Write, lines: &'a LineForm) -> Self {
        Self { out, lines, held: Vec::new(), at_line_start: true, after_cr: false, written: 0 }
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        if self.lines.changes_nothing() {
            return self.put(piece);
        }
        let joined;
        let mut rest = piece;
        if !self.held.is_empty() {
            self.held.extend_from_slice(piece);
            joined = std::mem::take(&mut self.held);
            rest = &joined;
        }
        let mut out = Vec::with_capacity(rest.len() + rest.len() / 16 + 16);
        while !rest.is_empty() {
            rest = self.write_line(rest, &mut out);
        }
        self.put(&out)
    }

    /// Writes up to the next line end, or holds back what is too short to tell; gives the rest.
    fn write_line<'p>(&mut self, mut rest: &'p [u8], out: &mut Vec<u8>) -> &'p [u8] {
        let check = &self.lines.check;
        if self.at_line_start && !check.is_empty() {
            if rest.starts_with(check) {
                out.extend_from_slice(&self.lines.escape);
                rest = &rest[check.len()..];
                self.at_line_start = false;
            } else if rest.len() < check.len() && check.starts_with(rest) {
                self.held = rest.to_vec();
                return &[];
            }
        }
        match rest.find_byte(b'\n') {
            Some(end) => {
                out.extend_from_slice(&rest[..end]);
                // A body received with bare CR before LF is not given a second CR.
                let has_cr = if end == 0 { self.after_cr } else { rest[end - 1] == b'\r' };
                if self.lines.crlf && !has_cr {
                    out.push(b'\r');
                }
                out.push(b'\n');
                self.at_line_start = true;
                self.after_cr = false;
                &rest[end + 1..]
            }
            None => {
                out.extend_from_slice(rest);
                self.at_line_start = rest.is_empty() && self.at_line_start;
                self.after_cr = rest.ends_with(b"\r");
                &[]
            }
        }
    }

    fn finish(mut self) -> io::Result<u64> {
        if self.lines.changes_nothing() {
            return Ok(self.written);
        }
        let held = std::mem::take(&mut self.held);
        if !held.is_empty() {
            self.put(&held)?;
            self.at_line_start = false;
        }
        if !self.at_line_start {
            let end: &[u8] = if self.lines.crlf { b"\r\n" } else { b"\n" };
            self.put(end)?;
        }
        Ok(self.written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(body: &[u8]) -> (File, BodyPart) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"1xVUtn-0002pH-1y-D\n").unwrap();
        file.write_all(body).unwrap();
        (file, BodyPart { offset: 19, size: body.len() as u64 })
    }

    fn written(head: &[u8], body: &[u8], lines: &LineForm) -> BString {
        let (file, part) = data(body);
        let mut out = Vec::new();
        let count = write_message(&mut out, head, &file, Some(part), lines).unwrap();
        assert_eq!(count, out.len() as u64);
        out.into()
    }

    #[test]
    fn smtp_form_doubles_leading_dots_and_ends_lines_with_crlf() {
        assert_eq!(
            written(b"A: b\n\n", b".\nx.\n..y\nz", &LineForm::smtp()),
            "A: b\r\n\r\n..\r\nx.\r\n...y\r\nz\r\n"
        );
    }

    #[test]
    fn mbox_form_quotes_from_lines_even_across_chunks() {
        let lines = LineForm { crlf: false, check: "From ".into(), escape: ">From ".into() };
        let mut out = Vec::new();
        let mut writer = LineWriter::new(&mut out, &lines);
        for piece in [&b"a\nFr"[..], b"om x\nFro", b"g\nFrom"] {
            writer.write(piece).unwrap();
        }
        writer.finish().unwrap();
        assert_eq!(out.as_bstr(), "a\n>From x\nFrog\nFrom\n");
    }

    #[test]
    fn a_plain_body_is_copied_as_it_is() {
        let big = vec![b'x'; BODY_CHUNK * 2 + 5];
        assert_eq!(written(b"", &big, &LineForm::default()), big.as_bstr());
    }

    #[test]
    fn removed_and_deleted_headers_are_left_out_and_added_ones_stand_last() {
        let mut gone = Header::new("To: old\n");
        gone.kind = HeaderKind::Deleted;
        let headers =
            [Header::new("X-One: 1\n"), gone, Header::new("Subject: s\n"), Header::new("X-Two: 2\n")];
        let changes = HeaderChanges {
            return_path: Some("".into()),
            envelope_to: Some("a@b".into()),
            remove: &["x-*".into()],
            add: &["X-Three: 3\n".into()],
            ..HeaderChanges::default()
        };
        assert_eq!(
            header_block(&headers, &changes).as_bstr(),
            "Return-path: <>\nEnvelope-to: a@b\nSubject: s\nX-Three: 3\n"
        );
    }
}
