//! Our Received: line (option `received_header_text`) and the tail of a new Message-ID.

use crate::expand::{self, Context, ExpandError};
use crate::mail::{Header, HeaderKind, date};
use bstr::{BString, ByteSlice};
use jiff::tz::TimeZone;
use std::time::SystemTime;

/// The line; none if the option expands to nothing.
pub(super) fn received_line(
    context: &Context,
    now: SystemTime,
    zone: &TimeZone,
) -> Result<Option<Header>, ExpandError> {
    let Some(template) = context.globals.main.text("received_header_text") else { return Ok(None) };
    let mut text = expand::expand(template, context)?.into_bytes();
    if text.is_empty() {
        return Ok(None);
    }
    text.extend_from_slice(format!(";\n\t{}\n", date::full(now, zone)).as_bytes());
    Ok(Some(Header { kind: HeaderKind::Received, text }))
}

/// `.text@domain` of a new Message-ID (`message_id_header_text`, `message_id_header_domain`). An option that is
/// forced to fail or is empty is ignored; what may not stand there becomes a hyphen.
pub(super) fn message_id_tail(context: &Context) -> Result<BString, (&'static str, ExpandError)> {
    let mut tail = BString::default();
    if let Some(text) = optional(context, "message_id_header_text")? {
        tail.push(b'.');
        tail.extend(text.iter().map(|byte| if is_id_byte(*byte) { *byte } else { b'-' }));
    }
    tail.push(b'@');
    match optional(context, "message_id_header_domain")? {
        Some(domain) => {
            let is_domain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
            tail.extend(domain.iter().map(|byte| if is_domain(*byte) { *byte } else { b'-' }));
        }
        None => tail.extend_from_slice(&context.globals.primary_hostname),
    }
    Ok(tail)
}

fn is_id_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte)
}

fn optional(context: &Context, option: &'static str) -> Result<Option<BString>, (&'static str, ExpandError)> {
    let Some(template) = context.globals.main.text(option) else { return Ok(None) };
    match expand::expand(template, context) {
        Ok(value) => Ok(Some(value.into_bytes()).filter(|text| !text.trim().is_empty())),
        Err(ExpandError::Forced(_)) => Ok(None),
        Err(error) => Err((option, error)),
    }
}
