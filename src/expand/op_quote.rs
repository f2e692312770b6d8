//! Operators that quote or escape: `quote`, `quote_local_part`, `quote_<lookup>`, `escape`, `escape8bit`,
//! `hexquote`, `rxquote`, `xtextd`.

use super::operator::Call;
use super::{ExpandError, failed};
use crate::syntax::lookup_def;
use crate::text::Value;
use bstr::{BString, ByteSlice};

/// Double quotes around what is not a plain word; with a suffix, as that lookup type wants it.
pub fn quote(call: Call) -> Result<Value, ExpandError> {
    if let Some(kind) = call.suffix {
        return quote_for_lookup(&call, kind);
    }
    let text = call.text.bytes();
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    if !text.is_empty() && text.iter().all(plain) {
        return Ok(call.text);
    }
    let mut out = BString::from("\"");
    for byte in text.iter() {
        match byte {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\\' | b'"' => out.extend_from_slice(&[b'\\', *byte]),
            other => out.push(*other),
        }
    }
    out.push(b'"');
    Ok(call.text.derive(out))
}

/// Text of a type with one key needs no quotes; in SQLite, single quotes are doubled.
fn quote_for_lookup(call: &Call, kind: &[u8]) -> Result<Value, ExpandError> {
    // Only what stands before the next underscore is the type's name.
    let kind = kind.split(|b| *b == b'_').next().unwrap_or_default();
    let Some(def) = lookup_def(kind) else {
        return failed(format!("unknown lookup type \"{}\"", kind.as_bstr()));
    };
    if !def.supported {
        return super::eval::not_yet(def.name);
    }
    if def.name == "sqlite" {
        return Ok(call.text.derive(call.text.bytes().replace("'", "''")));
    }
    Ok(call.text.clone())
}

/// Double quotes where RFC 5322 needs them around a local part.
pub fn quote_local_part(call: Call) -> Result<Value, ExpandError> {
    let text = call.text.bytes();
    let atom = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(b);
    let dots = text.starts_with(b".") || text.ends_with(b".");
    if !text.is_empty() && !dots && text.iter().all(atom) {
        return Ok(call.text);
    }
    let mut out = BString::from("\"");
    for byte in text.iter() {
        match byte {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\\' | b'"' => out.extend_from_slice(&[b'\\', *byte]),
            other => out.push(*other),
        }
    }
    out.push(b'"');
    Ok(call.text.derive(out))
}

/// Bytes that do not print as escape sequences; `print_topbitchars` lets those above 127 print.
pub fn escape(call: Call) -> Result<Value, ExpandError> {
    let main = &call.context.globals.main;
    let top = main.def("print_topbitchars").is_some() && main.bool("print_topbitchars");
    Ok(call.text.derive(printing(call.text.bytes(), top)))
}

/// The same as [`escape`], for other callers.
pub fn printing(text: &[u8], top_bit_prints: bool) -> BString {
    let mut out = BString::default();
    for byte in text {
        match byte {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0b => out.extend_from_slice(b"\\v"),
            0x0c => out.extend_from_slice(b"\\f"),
            b'\t' | b' '..=b'~' => out.push(*byte),
            0x80.. if top_bit_prints => out.push(*byte),
            _ => out.extend_from_slice(format!("\\{byte:03o}").as_bytes()),
        }
    }
    out
}

/// Bytes above 126 and backslashes in octal.
pub fn escape8bit(call: Call) -> Result<Value, ExpandError> {
    let mut out = BString::default();
    for byte in call.text.bytes().iter() {
        if *byte >= 127 || *byte == b'\\' {
            out.extend_from_slice(format!("\\{byte:03o}").as_bytes());
        } else {
            out.push(*byte);
        }
    }
    Ok(call.text.derive(out))
}

/// All that does not print as `\xNN`.
pub fn hexquote(call: Call) -> Result<Value, ExpandError> {
    let mut out = BString::default();
    for byte in call.text.bytes().iter() {
        if byte.is_ascii_graphic() {
            out.push(*byte);
        } else {
            out.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
        }
    }
    Ok(call.text.derive(out))
}

/// A backslash before all that is no letter or digit.
pub fn rxquote(call: Call) -> Result<Value, ExpandError> {
    let mut out = BString::default();
    for byte in call.text.bytes().iter() {
        if !byte.is_ascii_alphanumeric() {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    Ok(call.text.derive(out))
}

/// `+XX` is a byte (RFC 3461 section 4).
pub fn xtextd(call: Call) -> Result<Value, ExpandError> {
    let text = call.text.bytes();
    let mut out = BString::default();
    let mut at = 0;
    while at < text.len() {
        let hexadecimal = text.get(at + 1..at + 3).and_then(|two| two.to_str().ok());
        match (text[at], hexadecimal.and_then(|two| u8::from_str_radix(two, 16).ok())) {
            (b'+', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (b'+', None) => {
                return failed(format!("string \"{text}\" is not well-formed for \"xtextd\" operator"));
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    Ok(call.text.derive(out))
}
