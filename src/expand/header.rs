//! Header variables: `$h_`, `$bh_`, `$rh_`, `$lh_`.
//!
//! Specification: section "Expansion items" under `$header_`.

use super::{ExpandError, rfc2047};
use crate::expand::Context;
use crate::mail::{Header, HeaderKind};
use crate::syntax::tree::{HeaderForm, HeaderName};
use crate::text::{Value, list};
use bstr::{BString, ByteSlice};

/// Longest text of all headers of one name together, as Exim has it.
const MAX_TOGETHER: usize = 64 * 1024;

/// Is there a header of this name?
pub fn exists(name: &HeaderName, context: &Context) -> bool {
    named(context, &name.name).next().is_some()
}

/// The text of all headers of a name; empty if there are none.
pub fn value(name: &HeaderName, context: &Context) -> Result<Value, ExpandError> {
    let text = match name.form {
        HeaderForm::Raw => raw(context, &name.name),
        HeaderForm::List => as_list(context, &name.name),
        HeaderForm::Bare => rfc2047::decode(&joined(context, &name.name), &options(context), None),
        HeaderForm::Decoded => decode(context, &joined(context, &name.name)),
    };
    Ok(if text.is_empty() { Value::default() } else { Value::tainted(text) })
}

/// The decoded text of all headers of a name, as `$h_name:` gives it.
pub fn header_text(context: &Context, name: &[u8]) -> BString {
    decode(context, &joined(context, name))
}

/// MIME words decoded and translated to `headers_charset`.
pub fn decode(context: &Context, text: &[u8]) -> BString {
    rfc2047::decode(text, &options(context), Some(&charset(context)))
}

/// `check_rfc2047_length`.
pub fn options(context: &Context) -> rfc2047::Limits {
    let main = &context.globals.main;
    rfc2047::Limits {
        check_length: main.def("check_rfc2047_length").is_none() || main.bool("check_rfc2047_length"),
    }
}

/// `headers_charset`.
pub fn charset(context: &Context) -> BString {
    let main = &context.globals.main;
    let option = main.def("headers_charset").and_then(|_| main.plain("headers_charset"));
    option.unwrap_or_else(|| crate::config::build_settings::HEADERS_CHARSET.into())
}

fn named<'c>(context: &'c Context, name: &'c [u8]) -> impl Iterator<Item = &'c Header> {
    context
        .message
        .headers
        .iter()
        .filter(move |header| header.kind != HeaderKind::Deleted && header.name().eq_ignore_ascii_case(name))
}

/// As they came, with their line ends, the last one too.
fn raw(context: &Context, name: &[u8]) -> BString {
    let mut text: BString = bstr::concat(named(context, name).map(Header::body)).into();
    text.truncate(MAX_TOGETHER);
    text
}

/// One item for each header; an empty last one is none, as in every list.
fn as_list(context: &Context, name: &[u8]) -> BString {
    let items = named(context, name).map(|header| {
        let mut item = BString::default();
        list::quote_into(&mut item, header.body().trim_end_with(|c| c == '\n'), b':');
        item
    });
    bstr::join(":", items).into()
}

/// All headers of a name, trimmed, on lines of their own; lists of addresses are joined by commas.
fn joined(context: &Context, name: &[u8]) -> BString {
    let mut text = BString::default();
    for header in named(context, name) {
        let body = header.body().trim();
        if body.is_empty() || text.len() + body.len() > MAX_TOGETHER {
            continue;
        }
        if !text.is_empty() {
            text.extend_from_slice(if holds_addresses(header.kind) { b",\n" } else { b"\n" });
        }
        text.extend_from_slice(body);
    }
    text
}

fn holds_addresses(kind: HeaderKind) -> bool {
    use HeaderKind::{Bcc, Cc, From, ReplyTo, Sender, To};
    matches!(kind, Bcc | Cc | From | ReplyTo | Sender | To)
}
