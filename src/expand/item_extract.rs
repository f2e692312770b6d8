//! `${extract` and `${listextract`: a part of a string by name or number.

use super::{ExpandError, eval, failed, json};
use crate::expand::Context;
use crate::syntax::is_number;
use crate::syntax::tree::{Branches, ExtractForm, Otherwise, Tree};
use crate::text::{Value, list};
use bstr::{BString, ByteSlice};

/// `${extract`: a number among single characters as separators, a key among `key=value`, or JSON.
pub fn extract(
    form: ExtractForm,
    arguments: &[Tree],
    fail: bool,
    context: &Context,
) -> Result<Value, ExpandError> {
    let key_value = match arguments.first() {
        Some(tree) => eval::tree(tree, context)?,
        None => Value::default(),
    };
    let key = key_value.bytes().trim();
    if key.is_empty() {
        return failed("first argument of \"extract\" must not be empty");
    }
    let fields = form == ExtractForm::Plain && is_number(key);
    let fixed = if fields { 3 } else { 2 };
    if arguments.len() < fixed {
        return failed(format!("missing '{{' for arg {fixed} of extract"));
    }
    if arguments.len() > fixed + 2 || (fail && arguments.len() != fixed + 1) {
        return failed("curly-bracket problem in conditional yes/no parsing: did not close with '}'");
    }
    let data = eval::tree(&arguments[fixed - 1], context)?;
    let found = match form {
        ExtractForm::Plain if fields => {
            let separators = eval::tree(&arguments[1], context)?;
            field(data.bytes(), index(key), separators.bytes()).map(BString::from)
        }
        ExtractForm::Plain => keyed(data.bytes(), key),
        _ => json_member(form, data.bytes(), key)?,
    };
    let branches = Branches {
        yes: arguments.get(fixed).cloned(),
        no: match arguments.get(fixed + 1) {
            Some(tree) => Otherwise::Text(tree.clone()),
            None if fail => Otherwise::Fail,
            None => Otherwise::Nothing,
        },
    };
    eval::choose_with_value("extract", found.map(|text| data.derive(text)), &branches, context)
}

/// A number that is known to be one; what is too large names no field.
fn index(text: &[u8]) -> i64 {
    text.to_str_lossy().parse().unwrap_or(i64::MAX)
}

/// One of the pieces between separators: 1 is the first, -1 the last, 0 the whole.
fn field<'t>(text: &'t [u8], number: i64, separators: &[u8]) -> Option<&'t [u8]> {
    if number == 0 {
        return Some(text);
    }
    let mut fields = text.split(|b| separators.contains(b));
    match usize::try_from(number.unsigned_abs()) {
        Ok(count) if number > 0 => fields.nth(count - 1),
        Ok(count) => fields.rev().nth(count - 1),
        Err(_) => None,
    }
}

/// The value of a key in `key=value key2="va lue"`; the case of the key does not matter.
fn keyed(text: &[u8], key: &[u8]) -> Option<BString> {
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let end = rest.iter().position(|b| *b == b'=' || b.is_ascii_whitespace()).unwrap_or(rest.len());
        let name = &rest[..end];
        rest = rest[end..].trim_start();
        rest = rest.strip_prefix(b"=").map_or(rest, |after| after.trim_start());
        let (value, after) = value(rest);
        if name.eq_ignore_ascii_case(key) {
            return Some(value);
        }
        rest = after.trim_start();
    }
    None
}

/// A value, quoted or up to white space, and what follows it.
fn value(text: &[u8]) -> (BString, &[u8]) {
    if text.first() != Some(&b'"') {
        let end = text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len());
        return (text[..end].into(), &text[end..]);
    }
    let mut out = BString::default();
    let mut at = 1;
    while let Some(byte) = text.get(at) {
        at += 1;
        match byte {
            b'"' => break,
            b'\\' => at += escaped(&text[at..], &mut out),
            other => out.push(*other),
        }
    }
    (out, &text[at..])
}

/// What a backslash in quotes stands for; gives the bytes it took.
fn escaped(text: &[u8], out: &mut BString) -> usize {
    let digits = |radix: u32, from: usize, most: usize| {
        text[from..].iter().take(most).take_while(|b| char::from(**b).is_digit(radix)).count()
    };
    let number = |radix: u32, from: usize, count: usize| {
        (u32::from_str_radix(&text[from..from + count].to_str_lossy(), radix).unwrap_or(0) & 0xff) as u8
    };
    match text.first() {
        None => 0,
        Some(b'n') => push(out, b'\n'),
        Some(b'r') => push(out, b'\r'),
        Some(b't') => push(out, b'\t'),
        Some(b'x') => {
            let count = digits(16, 1, 2);
            out.push(number(16, 1, count));
            1 + count
        }
        Some(b'0'..=b'7') => {
            let count = digits(8, 0, 3);
            out.push(number(8, 0, count));
            count
        }
        Some(other) => push(out, *other),
    }
}

fn push(out: &mut BString, byte: u8) -> usize {
    out.push(byte);
    1
}

fn json_member(form: ExtractForm, text: &[u8], key: &[u8]) -> Result<Option<BString>, ExpandError> {
    let found = if is_number(key) {
        let elements = json::elements(text).map_err(ExpandError::Failed)?;
        match index(key) {
            0 => Some(text.trim()),
            number if number > 0 => elements.get((number - 1) as usize).copied(),
            number => elements.len().checked_sub(number.unsigned_abs() as usize).map(|place| elements[place]),
        }
    } else {
        json::member(text, key).map_err(ExpandError::Failed)?
    };
    let Some(found) = found else { return Ok(None) };
    if form == ExtractForm::Json {
        return Ok(Some(found.into()));
    }
    match json::string_content(found) {
        Some(content) => Ok(Some(content)),
        None => failed("missing '\"' wrapping string result for extract jsons"),
    }
}

/// `${listextract`.
pub fn list_extract(
    number: &Tree,
    items: &Tree,
    branches: &Branches,
    context: &Context,
) -> Result<Value, ExpandError> {
    let number = eval::tree(number, context)?;
    let items = eval::list(items, context)?;
    let word = number.bytes().trim();
    if word.is_empty() {
        return failed("first argument of \"listextract\" must not be empty");
    }
    if !is_number(word) {
        return failed("first argument of \"listextract\" must be numeric");
    }
    let all: Vec<BString> = list::items(items.bytes()).collect();
    let place = match index(word) {
        number if number > 0 => usize::try_from(number - 1).ok(),
        0 => None,
        number => all.len().checked_sub(number.unsigned_abs() as usize),
    };
    let found = place.and_then(|place| all.get(place)).map(|item| items.derive(item.clone()));
    eval::choose_with_value("listextract", found, branches, context)
}
