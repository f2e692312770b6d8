//! Operators on lists: `listcount`, `listnamed`.

use super::operator::Call;
use super::{ExpandError, failed};
use crate::config::written::ListKind;
use crate::expand::Context;
use crate::text::{Value, list};
use bstr::{BString, ByteSlice};

/// Deepest nesting of named lists in one another; more is a loop.
const MAX_NAMED: u32 = 20;

/// The number of items.
pub fn listcount(call: Call) -> Result<Value, ExpandError> {
    Ok(Value::clean(list::items(call.text.bytes()).count().to_string()))
}

/// A named list as it was written, with the lists it names in their places.
pub fn listnamed(call: Call) -> Result<Value, ExpandError> {
    let (kinds, called): (&[ListKind], &str) = match call.suffix {
        None => (&[ListKind::Address, ListKind::Domain, ListKind::Host, ListKind::LocalPart], ""),
        Some(b"a") => (&[ListKind::Address], "address "),
        Some(b"d") => (&[ListKind::Domain], "domain "),
        Some(b"h") => (&[ListKind::Host], "host "),
        Some(b"l") => (&[ListKind::LocalPart], "localpart "),
        Some(_) => return failed("bad suffix on \"list\" operator"),
    };
    let name = call.text.bytes().strip_prefix(b"+").unwrap_or(call.text.bytes()).as_bstr();
    let known = |kind: &&ListKind| call.context.globals.lists.contains_key(&(**kind, name.into()));
    match kinds.iter().find(known) {
        Some(kind) => content(*kind, name, call.context, 0).map(Value::clean),
        None => failed(format!("\"{name}\" is not a {called}named list")),
    }
}

fn content(kind: ListKind, name: &[u8], context: &Context, depth: u32) -> Result<BString, ExpandError> {
    let Some(named) = context.globals.lists.get(&(kind, name.into())) else {
        return failed(format!("\"{}\" is not a named list", name.as_bstr()));
    };
    if depth > MAX_NAMED {
        return failed(format!("named list \"{}\" names itself", name.as_bstr()));
    }
    let text = named.items.text();
    let written = list::List::new(text);
    let mut pieces: Vec<BString> = Vec::new();
    let mut nested = written.separator != b':';
    for item in written.items() {
        match item
            .strip_prefix(b"+")
            .filter(|inner| context.globals.lists.contains_key(&(kind, (*inner).into())))
        {
            Some(inner) => {
                nested = true;
                pieces.push(content(kind, inner, context, depth + 1)?);
            }
            None => {
                let mut quoted = BString::default();
                list::quote_into(&mut quoted, &item, b':');
                pieces.push(quoted);
            }
        }
    }
    Ok(if nested { bstr::join(" : ", pieces).into() } else { text.into() })
}
