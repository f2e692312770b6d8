//! Quoting: control characters for logs, local parts and phrases for header lines.

use bstr::{BString, ByteSlice};

/// Text as log lines show it: backslash doubled, line end as `\n`, control characters but tab (and,
/// unless `top_bit_prints`, bytes above 127) as `\ooo` (option `print_topbitchars`).
pub fn printable(text: &[u8], top_bit_prints: bool) -> BString {
    let mut shown = BString::new(Vec::with_capacity(text.len()));
    for &byte in text {
        match byte {
            b'\\' => shown.extend_from_slice(b"\\\\"),
            b'\n' => shown.extend_from_slice(b"\\n"),
            b'\r' => shown.extend_from_slice(b"\\r"),
            b'\t' => shown.push(byte),
            0..=31 | 127 => shown.extend_from_slice(format!("\\{byte:03o}").as_bytes()),
            128.. if !top_bit_prints => shown.extend_from_slice(format!("\\{byte:03o}").as_bytes()),
            _ => shown.push(byte),
        }
    }
    shown
}

/// `"text"` as the fields `T=` and `C=` have it: quote marks and backslashes get a backslash.
pub fn quoted_field(text: &[u8], top_bit_prints: bool) -> BString {
    let mut shown = BString::from("\"");
    for (at, part) in text.split_str("\"").enumerate() {
        if at > 0 {
            shown.extend_from_slice(b"\\\"");
        }
        shown.extend_from_slice(&printable(part, top_bit_prints));
    }
    shown.push(b'"');
    shown
}

/// A phrase before an address in a header line (RFC 5322): as it is if it is made of atoms and spaces, else in
/// quotes.
pub fn phrase(text: &[u8]) -> BString {
    let is_plain =
        |byte: &u8| byte.is_ascii_alphanumeric() || *byte > 127 || b" !#$%&'*+-/=?^_`{|}~".contains(byte);
    if text.iter().all(is_plain) {
        return text.into();
    }
    quote(text)
}

/// A local part as it may stand before `@` (RFC 5321): in quotes if it must.
pub fn local_part(text: &[u8]) -> BString {
    let is_atom =
        |byte: &u8| byte.is_ascii_alphanumeric() || *byte > 127 || b"!#$%&'*+-/=?^_`{|}~".contains(byte);
    let dots_stand_well = !text.is_empty() && text.split_str(".").all(|word| !word.is_empty());
    if dots_stand_well && text.iter().all(|byte| is_atom(byte) || *byte == b'.') {
        return text.into();
    }
    quote(text)
}

fn quote(text: &[u8]) -> BString {
    let mut quoted = BString::from("\"");
    for &byte in text {
        if byte == b'"' || byte == b'\\' {
            quoted.push(b'\\');
        }
        quoted.push(byte);
    }
    quoted.push(b'"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_is_shown_as_exim_shows_it() {
        assert_eq!(quoted_field("h\u{e9}llo \"x\"".as_bytes(), false), "\"h\\303\\251llo \\\"x\\\"\"");
        assert_eq!(quoted_field(b"250 a\n250 b", false), "\"250 a\\n250 b\"");
        assert_eq!(printable(b"a\x01b\\", true), "a\\001b\\\\");
    }

    #[test]
    fn what_needs_quotes_gets_them() {
        assert_eq!(phrase(b"Zaphod Beeblebrox"), "Zaphod Beeblebrox");
        assert_eq!(phrase(b"Dr. \"Z\""), "\"Dr. \\\"Z\\\"\"");
        assert_eq!(local_part(b"a.b"), "a.b");
        assert_eq!(local_part(b"a b"), "\"a b\"");
        assert_eq!(local_part(b".a"), "\".a\"");
        assert_eq!(local_part(b""), "\"\"");
    }
}
