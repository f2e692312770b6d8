//! Operators on UTF-8 and international domain names: `from_utf8`, `utf8clean`, `utf8_domain_*`.

use super::operator::Call;
use super::{ExpandError, failed, printing};
use crate::text::Value;
use bstr::{BString, ByteSlice};
use idna::AsciiDenyList;
use idna::uts46::{DnsLength, Hyphens};

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
            // 0xc0 and 0xc1 begin nothing.
            0xc2..=0xdf => 2,
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

/// To A-labels. What is plain ASCII stays as it is; a name that IDNA does not allow is an error.
pub fn domain_to_alabel(call: Call) -> Result<Value, ExpandError> {
    let text = call.text.bytes();
    if text.is_ascii() {
        return Ok(call.text);
    }
    let Ok(name) = text.to_str() else { return no_alabel(text, "string encoding error") };
    let uts46 = idna::uts46::Uts46::new();
    match uts46.to_ascii(name.as_bytes(), AsciiDenyList::EMPTY, Hyphens::Check, DnsLength::Ignore) {
        Ok(domain) if domain.split('.').all(|label| label.len() <= MAX_LABEL) => {
            Ok(call.text.derive(domain.as_bytes()))
        }
        Ok(_) => no_alabel(text, "punycode encoded data will be too large"),
        Err(_) => no_alabel(text, "string contains what a domain name may not"),
    }
}

/// Longest label of a domain name, RFC 1035 section 2.3.4.
const MAX_LABEL: usize = 63;

/// To U-labels; labels that are no A-labels stay as they are.
pub fn domain_from_alabel(call: Call) -> Result<Value, ExpandError> {
    let text = call.text.bytes();
    let mut labels: Vec<BString> = Vec::new();
    for label in text.split(|b| *b == b'.') {
        if !label.starts_with(PREFIX.as_bytes()) {
            labels.push(label.into());
            continue;
        }
        match idna::domain_to_unicode(&label.to_str_lossy()) {
            (unicode, Ok(())) => labels.push(unicode.into()),
            (_, Err(_)) => return no_utf8(text, "Invalid input"),
        }
    }
    Ok(call.text.derive(bstr::join(".", &labels)))
}

/// What stands before the punycode of a label.
const PREFIX: &str = "xn--";

/// A local part as one A-label; plain ASCII stays.
pub fn local_part_to_alabel(call: Call) -> Result<Value, ExpandError> {
    let bytes = call.text.bytes();
    if bytes.is_ascii() {
        return Ok(call.text);
    }
    let Ok(text) = bytes.to_str() else { return no_alabel(bytes, "l_u2a: bad UTF-8 input") };
    match idna::punycode::encode_str(text) {
        Some(code) => Ok(call.text.derive(format!("{PREFIX}{code}"))),
        None => no_alabel(bytes, "punycode encoded data will be too large"),
    }
}

/// And back; only an A-label can be.
pub fn local_part_from_alabel(call: Call) -> Result<Value, ExpandError> {
    let bytes = call.text.bytes();
    let text = bytes.to_str_lossy();
    let Some(code) = text.strip_prefix(PREFIX) else { return no_utf8(bytes, "bad alabel prefix") };
    match idna::punycode::decode_to_string(code) {
        Some(decoded) => Ok(call.text.derive(decoded.as_str())),
        None => no_utf8(bytes, "Invalid input"),
    }
}

fn no_alabel<T>(text: &[u8], why: &str) -> Result<T, ExpandError> {
    failed(format!("error converting utf8 ({}) to alabel: {why}", printing(text, false)))
}

fn no_utf8<T>(text: &[u8], why: &str) -> Result<T, ExpandError> {
    failed(format!("error converting alabel ({}) to utf8: {why}", printing(text, false)))
}
