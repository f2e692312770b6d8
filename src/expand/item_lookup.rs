//! `${lookup`.

use super::eval::{self, Saved};
use super::{ExpandError, failed};
use crate::expand::Context;
use crate::lookup::{self, LookupError};
use crate::syntax::LookupType;
use crate::syntax::tree::{Branches, Tree};
use crate::text::Value;
use bstr::ByteSlice;

/// Looks up, and gives one of the two strings; `$1` and `$2` are the wild and the fixed part of a partial match.
pub fn lookup(
    kind: &LookupType,
    key: Option<&Tree>,
    data: &Tree,
    branches: &Branches,
    context: &Context,
) -> Result<Value, ExpandError> {
    let key = key.map(|tree| eval::tree(tree, context)).transpose()?;
    let data = eval::tree(data, context)?;
    let found = match &key {
        Some(key) => lookup::single_key(context, kind, &data, key),
        None => lookup::query(context, kind, &data),
    };
    let subject = key.as_ref().unwrap_or(&data);
    let found = match found {
        Ok(found) => found,
        Err(LookupError::Defer(text)) => {
            let subject = subject.bytes();
            return Err(ExpandError::Defer(format!("lookup of \"{subject}\" gave DEFER: {text}")));
        }
        Err(LookupError::Failed(text)) => return failed(text),
    };
    let Some(found) = found else { return eval::choose_with_value("lookup", None, branches, context) };
    let _saved = Saved::of(context);
    if let Some((wild, fixed)) = &found.partial {
        let mut dynamic = context.dynamic.borrow_mut();
        dynamic.captures =
            vec![None, Some(subject.derive(wild.as_bytes())), Some(subject.derive(fixed.as_bytes()))];
    }
    eval::choose_with_value("lookup", Some(found.value), branches, context)
}
