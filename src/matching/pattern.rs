//! Patterns that several kinds of list share: `*end`, `^regular expression`, lookups, plain text.

use super::MatchError;
use super::walk::Answer;
use crate::expand::{Context, ExpandError, compile_regex};
use crate::lookup::{self, LookupError};
use crate::syntax::LookupType;
use crate::text::Value;
use bstr::ByteSlice;

/// `^pattern`: the captures become `$0`, `$1` ...
pub fn regex(context: &Context, subject: &Value, item: &Value, caseless: bool) -> Result<bool, MatchError> {
    let regex = compile_regex(item.bytes(), caseless).map_err(|error| match error {
        ExpandError::Failed(text) => MatchError::Failed(text),
        other => MatchError::Defer(other.to_string()),
    })?;
    let found = regex
        .captures(subject.bytes())
        .map_err(|error| MatchError::Failed(format!("regular expression match failed: {error}")))?;
    let Some(found) = found else { return Ok(false) };
    context.dynamic.borrow_mut().captures = (0..found.len())
        .map(|index| found.get(index).map(|group| subject.derive(group.as_bytes())))
        .collect();
    Ok(true)
}

/// `*end`: `$0` is the subject, `$1` what the asterisk stands for.
pub fn ends_with(context: &Context, subject: &Value, end: &[u8], caseless: bool) -> bool {
    let text = subject.bytes();
    let Some(start) = text.len().checked_sub(end.len()) else { return false };
    let same =
        if caseless { text[start..].eq_ignore_ascii_case(end) } else { text[start..].as_bytes() == end };
    if same {
        context.dynamic.borrow_mut().captures =
            vec![Some(subject.clone()), Some(subject.derive(&text[..start]))];
    }
    same
}

/// Plain text.
pub fn equals(subject: &[u8], text: &[u8], caseless: bool) -> bool {
    if caseless { subject.eq_ignore_ascii_case(text) } else { subject == text }
}

/// An item that has the form of a lookup, in its two parts.
pub fn as_lookup(item: &Value) -> Result<Option<(LookupType, Value)>, MatchError> {
    let text = item.bytes();
    let Some((kind, data)) = text.split_once_str(";") else { return Ok(None) };
    let kind = LookupType::parse(kind).map_err(MatchError::Failed)?;
    Ok(Some((kind, item.derive(data.trim_start()))))
}

/// Looks a key up as an item of a list; partial matches set `$1` and `$2`.
pub fn lookup(context: &Context, kind: &LookupType, data: &Value, key: &Value) -> Result<Answer, MatchError> {
    let found = match kind.def.single_key {
        true => lookup::single_key(context, kind, data, key),
        false => lookup::query(context, kind, data),
    };
    match found {
        Ok(None) => Ok(Answer::No),
        Ok(Some(found)) => {
            if let Some((wild, fixed)) = &found.partial {
                context.dynamic.borrow_mut().captures = vec![
                    Some(key.clone()),
                    Some(key.derive(wild.as_bytes())),
                    Some(key.derive(fixed.as_bytes())),
                ];
            }
            Ok(Answer::Yes(Some(found.value)))
        }
        Err(LookupError::Defer(text) | LookupError::Failed(text)) => Err(MatchError::Defer(text)),
    }
}
