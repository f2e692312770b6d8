//! `wildlsearch` and `nwildlsearch`: a text file whose keys are patterns.

use super::LookupError;
use super::line_file::LineFile;
use crate::expand::{Context, ExpandError, compile_regex, expand_text};
use crate::text::Value;
use bstr::ByteSlice;
use std::path::Path;

/// The data of the first line whose pattern fits; `expanded`: keys are expanded first.
pub fn find(
    context: &Context,
    file: &Path,
    key: &[u8],
    full: bool,
    expanded: bool,
) -> Result<Option<Value>, LookupError> {
    let mut lines = LineFile::open(file)?;
    let data = lines.find(full, |pattern| {
        if !expanded {
            return fits(context, pattern, key);
        }
        match expand_text(&Value::clean(pattern), context) {
            Ok(pattern) => fits(context, pattern.bytes(), key),
            Err(ExpandError::Forced(_)) => Ok(false),
            Err(error) => Err(LookupError::Defer(format!(
                "failed to expand \"{}\" in wildcard search: {error}",
                pattern.as_bstr()
            ))),
        }
    })?;
    Ok(data.map(Value::clean))
}

/// `*end`, `^regular expression`, a lookup, or the text itself; case does not matter.
fn fits(context: &Context, pattern: &[u8], key: &[u8]) -> Result<bool, LookupError> {
    match pattern {
        [b'*', end @ ..] => {
            Ok(key.len().checked_sub(end.len()).is_some_and(|at| key[at..].eq_ignore_ascii_case(end)))
        }
        [b'^', ..] => {
            let regex =
                compile_regex(pattern, true).map_err(|error| LookupError::Failed(error.to_string()))?;
            regex.is_match(key).map_err(|error| LookupError::Failed(error.to_string()))
        }
        _ => match pattern.split_once_str(";") {
            Some((kind, data)) => {
                let kind = crate::syntax::LookupType::parse(kind).map_err(LookupError::Failed)?;
                let data = Value::clean(data);
                let found = match kind.def.single_key {
                    true => super::single_key(context, &kind, &data, &Value::clean(key))?,
                    false => super::query(context, &kind, &data)?,
                };
                Ok(found.is_some())
            }
            None => Ok(pattern.eq_ignore_ascii_case(key)),
        },
    }
}
