//! Operators on MIME words: `rfc2047`, `rfc2047d`.

use super::operator::Call;
use super::{ExpandError, header, rfc2047 as words};
use crate::text::Value;

/// Encodes.
pub fn rfc2047(call: Call) -> Result<Value, ExpandError> {
    Ok(call.text.derive(words::encode(call.text.bytes(), &header::charset(call.context))))
}

/// Decodes.
pub fn rfc2047d(call: Call) -> Result<Value, ExpandError> {
    Ok(call.text.derive(header::decode(call.context, call.text.bytes())))
}
