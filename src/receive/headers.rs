//! The header section of an incoming message: from lines to header fields, with limits.
//!
//! The section ends at a blank line, at the first line that is neither a header nor a continuation (which then
//! begins the body), or at the end of the message.

use super::lines::{LineEnd, read_line};
use crate::mail::Header;
use std::io::{self, BufRead};

/// Limits of a header section.
#[derive(Clone, Copy, Debug)]
pub struct HeaderLimits {
    /// Bytes of the whole section (`header_maxsize`).
    pub section: usize,
    /// Bytes of one header, folds included (`header_line_maxsize`); 0: no limit of its own.
    pub line: usize,
}

/// A header section that was read.
#[derive(Debug, Default)]
pub struct HeaderSection {
    /// The headers.
    pub headers: Vec<Header>,
    /// Start of the body that was read already: a line that is no header, with its `\n`.
    pub body_start: Vec<u8>,
    /// The first header line ended with CRLF.
    pub crlf: bool,
    /// Longest physical line, without its end.
    pub longest: u64,
    /// Bytes read, counted with `\n` line ends, the blank line included.
    pub size: u64,
    /// The message ended within the section.
    pub ended: bool,
    /// A UUCP `From ` line that stood before the headers.
    pub from_line: Option<Vec<u8>>,
}

/// Why a section was not read.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// Larger than [`HeaderLimits::section`].
    #[error("header section too long")]
    SectionTooLong,
    /// A header larger than [`HeaderLimits::line`].
    #[error("header line too long")]
    LineTooLong,
    /// The source failed.
    #[error(transparent)]
    Source(#[from] io::Error),
}

/// Reads into an empty section, which after an error holds what was read before it. `is_from_line` tells whether
/// a first line is a UUCP `From ` line.
pub fn read_headers(
    source: &mut dyn BufRead,
    limits: HeaderLimits,
    is_from_line: &dyn Fn(&[u8]) -> bool,
    section: &mut HeaderSection,
) -> Result<(), HeaderError> {
    let mut current: Vec<u8> = Vec::new();
    let result = read_lines(source, limits, is_from_line, section, &mut current);
    finish_header(&mut section.headers, &mut current);
    result
}

fn read_lines(
    source: &mut dyn BufRead,
    limits: HeaderLimits,
    is_from_line: &dyn Fn(&[u8]) -> bool,
    section: &mut HeaderSection,
    current: &mut Vec<u8>,
) -> Result<(), HeaderError> {
    let mut line = Vec::new();
    let mut fold_next = false;
    let mut first = true;
    loop {
        let end = read_line(source, &mut line, limits.section + 1)?.ok_or(HeaderError::SectionTooLong)?;
        section.longest = section.longest.max(line.len() as u64);
        if end == LineEnd::End && line.is_empty() {
            section.ended = true;
            break;
        }
        section.size += line.len() as u64 + 1;
        if section.size > limits.section as u64 {
            return Err(HeaderError::SectionTooLong);
        }
        if first && is_from_line(&line) {
            section.from_line = Some(std::mem::take(&mut line));
            continue;
        }
        if first {
            section.crlf = end == LineEnd::CrLf;
            first = false;
        }
        if line.is_empty() && !fold_next {
            break;
        }
        if !take_line(section, current, &line, fold_next) {
            line.push(b'\n');
            section.size -= line.len() as u64;
            section.body_start = std::mem::take(&mut line);
            section.ended = end == LineEnd::End;
            break;
        }
        if limits.line > 0 && current.len() > limits.line {
            return Err(HeaderError::LineTooLong);
        }
        fold_next = end == LineEnd::Cr || (end == LineEnd::Lf && section.crlf);
        if end == LineEnd::End {
            section.ended = true;
            break;
        }
    }
    Ok(())
}

/// Adds a line to the section; false if it is none of it.
fn take_line(section: &mut HeaderSection, current: &mut Vec<u8>, line: &[u8], fold: bool) -> bool {
    let continues = fold || line.first().is_some_and(|byte| *byte == b' ' || *byte == b'\t');
    if continues && !current.is_empty() {
        // A fold of nothing but white space is dropped: it would look like the end of the headers.
        if line.iter().any(|byte| *byte != b' ' && *byte != b'\t') {
            if fold {
                current.push(b' ');
            }
            current.extend_from_slice(line);
            current.push(b'\n');
        }
        return true;
    }
    if !is_header_line(line) {
        return false;
    }
    finish_header(&mut section.headers, current);
    current.extend_from_slice(line);
    current.push(b'\n');
    true
}

fn finish_header(headers: &mut Vec<Header>, current: &mut Vec<u8>) {
    if !current.is_empty() {
        headers.push(Header::new(std::mem::take(current)));
    }
}

/// A name of printable characters (it may be empty; bytes above 127 count as such), white space, a colon.
fn is_header_line(line: &[u8]) -> bool {
    let name = line.iter().take_while(|byte| **byte > b' ' && !b":\x7f".contains(byte)).count();
    let space = line[name..].iter().take_while(|byte| **byte == b' ' || **byte == b'\t').count();
    line.get(name + space) == Some(&b':')
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeaderLimits = HeaderLimits { section: 3000, line: 500 };

    fn read(mut input: &[u8]) -> Result<(Vec<String>, String, String), String> {
        let is_from_line = |line: &[u8]| line.starts_with(b"From ");
        let mut section = HeaderSection::default();
        read_headers(&mut input, LIMITS, &is_from_line, &mut section).map_err(|error| error.to_string())?;
        let texts = section.headers.iter().map(|header| header.text.to_string()).collect();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((texts, text(&section.body_start), text(input)))
    }

    #[test]
    fn sections_end_where_exim_ends_them() {
        for (input, headers, body_start, rest) in [
            ("A: b\r\nC: d\r\n\r\nx", &["A: b\n", "C: d\n"][..], "", "x"),
            ("A: b\nC: d\r\n\r\nx", &["A: b\n", "C: d\n"], "", "x"),
            ("Subject: x\r\nA: b\nC: d\r\n\r\nb", &["Subject: x\n", "A: b\n C: d\n"], "", "b"),
            ("Subject: x\rA: b\n\nq", &["Subject: x\n A: b\n"], "", "q"),
            ("Subject: x\n folded\n\tmore\nX: \n\n", &["Subject: x\n folded\n\tmore\n", "X: \n"], "", ""),
            ("A:b\r\n c\r\n \r\nX: y\r\n\r\n", &["A:b\n c\n", "X: y\n"], "", ""),
            ("no header", &[], "no header\n", ""),
            ("Foo : y\nbad line\nTo: q\n\nb\n", &["Foo : y\n"], "bad line\n", "To: q\n\nb\n"),
            (": foo\n\n", &[": foo\n"], "", ""),
            ("S\u{fc}bject: y\n\n", &["S\u{fc}bject: y\n"], "", ""),
            ("From a@b now\nFrom c@d now\nX: y\n\nb", &["X: y\n"], "", "b"),
            ("\n\nx", &[], "", "\nx"),
            ("From a@b now\nX: y\n\nb", &["X: y\n"], "", "b"),
            ("X: y\nFrom a@b now\n\nb", &["X: y\n"], "From a@b now\n", "\nb"),
            ("", &[], "", ""),
            ("X: y", &["X: y\n"], "", ""),
        ] {
            let expected = headers.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
            assert_eq!(read(input.as_bytes()), Ok((expected, body_start.into(), rest.into())), "{input:?}");
        }
    }

    #[test]
    fn limits_are_kept() {
        let long_line = format!("Subject: {}\n\n", "x".repeat(600));
        assert_eq!(read(long_line.as_bytes()), Err("header line too long".into()));
        let long_section = format!("Subject: {}\n", "x".repeat(400)).repeat(9);
        assert_eq!(read(long_section.as_bytes()), Err("header section too long".into()));
        assert_eq!(read(&[b'x'; 5000]), Err("header section too long".into()));
    }
}
