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

/// A question mark for each piece that is no UTF-8.
pub fn utf8clean(call: Call) -> Result<Value, ExpandError> {
    let mut out = BString::default();
    for chunk in call.text.bytes().utf8_chunks() {
        out.extend_from_slice(chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            out.push(b'?');
        }
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
