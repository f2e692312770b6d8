//! Operators on UTF-8 and international domain names: `from_utf8`, `utf8clean`, `utf8_domain_*`.

use super::operator::Call;
use super::{ExpandError, failed};
use crate::text::Value;
use bstr::{BString, ByteSlice};

/// UTF-8 to ISO-8859-1; characters without a place there are underscores.
pub fn from_utf8(call: Call) -> Result<Value, ExpandError> {
    let latin = |c: char| u8::try_from(u32::from(c)).unwrap_or(b'_');
    let bytes: Vec<u8> = call.text.bytes().chars().map(latin).collect();
    Ok(call.text.derive(bytes))
}

/// A question mark for each sequence that is no UTF-8.
pub fn utf8clean(call: Call) -> Result<Value, ExpandError> {
    let mut out = BString::default();
    let mut rest: &[u8] = call.text.bytes();
    while let Some(first) = rest.first() {
        let wanted = match first {
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf7 => 4,
            _ => 1,
        };
        // The bytes that have the form of a continuation belong to the sequence, right or wrong.
        let more = rest[1..].iter().take(wanted - 1).take_while(|b| **b & 0xc0 == 0x80).count();
        let (sequence, after) = rest.split_at(1 + more);
        match sequence.to_str() {
            Ok(_) => out.extend_from_slice(sequence),
            Err(_) => out.push(b'?'),
        }
        rest = after;
    }
    Ok(call.text.derive(out))
}

/// To A-labels.
pub fn domain_to_alabel(call: Call) -> Result<Value, ExpandError> {
    match idna::domain_to_ascii_cow(call.text.bytes(), idna::AsciiDenyList::EMPTY) {
        Ok(domain) => Ok(call.text.derive(domain.as_bytes())),
        Err(_) => failed(format!("error converting utf8 to alabel: \"{}\"", call.text.bytes())),
    }
}

/// To U-labels.
pub fn domain_from_alabel(call: Call) -> Result<Value, ExpandError> {
    let text = call.text.bytes().to_str_lossy();
    match idna::domain_to_unicode(&text) {
        (domain, Ok(())) => Ok(call.text.derive(domain.as_bytes())),
        (_, Err(_)) => failed(format!("error converting alabel to utf8: \"{text}\"")),
    }
}

/// What stands before the punycode of a label.
const PREFIX: &str = "xn--";

/// A local part as one A-label; plain ASCII stays.
pub fn local_part_to_alabel(call: Call) -> Result<Value, ExpandError> {
    let text = call.text.bytes().to_str_lossy();
    if text.is_ascii() {
        return Ok(call.text);
    }
    match idna::punycode::encode_str(&text) {
        Some(code) => Ok(call.text.derive(format!("{PREFIX}{code}"))),
        None => failed(format!("error converting utf8 to alabel: \"{text}\"")),
    }
}

/// And back.
pub fn local_part_from_alabel(call: Call) -> Result<Value, ExpandError> {
    let text = call.text.bytes().to_str_lossy();
    let Some(code) = text.strip_prefix(PREFIX) else { return Ok(call.text) };
    match idna::punycode::decode_to_string(code) {
        Some(decoded) => Ok(call.text.derive(decoded.as_str())),
        None => failed(format!("error converting alabel to utf8: \"{text}\"")),
    }
}
