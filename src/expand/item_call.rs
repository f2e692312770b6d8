//! Items whose arguments are just expanded: `substr`, `hash`, `sg`, `tr`, `hmac`, `readfile`, `listquote`,
//! `acl` and so on; and `env`.

use super::{ExpandError, eval, failed, item_prvs, op_digest, op_file, op_string, regex};
use crate::expand::Context;
use crate::expand::context::AclAnswer;
use crate::syntax::tree::{Branches, Tree};
use crate::text::{Value, list};
use bstr::{BString, ByteSlice};

/// Evaluates the item.
pub fn call(name: &str, arguments: &[Tree], context: &Context) -> Result<Value, ExpandError> {
    if crate::syntax::names::ITEMS_NOT_YET.contains(&name) {
        return eval::not_yet(name);
    }
    if name == "prvscheck" {
        return item_prvs::check(arguments, context);
    }
    if name == "acl" {
        return call_acl(arguments, context).map(|(_, message)| message);
    }
    let values: Vec<Value> =
        arguments.iter().map(|tree| eval::tree(tree, context)).collect::<Result<_, ExpandError>>()?;
    match (name, values.as_slice()) {
        ("length", [count, text]) => Ok(op_string::first_bytes(text, number(count, name, false)?)),
        ("substr" | "hash" | "nhash", [first, text]) => numbered(name, first, None, text),
        ("substr" | "hash" | "nhash", [first, second, text]) => numbered(name, first, Some(second), text),
        ("sg", [subject, pattern, replacement]) => substitute(subject, pattern, replacement),
        ("tr", [text, from, to]) => Ok(translate(text, from, to)),
        ("hmac", [algorithm, secret, text]) => op_digest::hmac(algorithm, secret, text),
        ("prvs", [address, secret]) => item_prvs::sign(address, secret, None, context),
        ("prvs", [address, secret, key]) => item_prvs::sign(address, secret, Some(key), context),
        ("readfile", [file]) => op_file::read_file(file, None),
        ("readfile", [file, end]) => op_file::read_file(file, Some(end)),
        ("listquote", [separator, text]) => list_quote(separator, text),
        _ => failed(format!("wrong number of arguments for '{name}'")),
    }
}

fn numbered(name: &str, first: &Value, second: Option<&Value>, text: &Value) -> Result<Value, ExpandError> {
    let first = number(first, name, true)?;
    let second = second.map(|value| number(value, name, false)).transpose()?;
    match name {
        "substr" => Ok(op_string::part(text, first, second)),
        "hash" => op_string::textual_hash(text, first, second),
        _ => op_string::numeric_hash(text, first, second),
    }
}

/// A number argument; nothing is 0.
fn number(value: &Value, item: &str, signed: bool) -> Result<i64, ExpandError> {
    let text = value.bytes();
    // As C's strtol reads it.
    let word = text.trim_start();
    let word = word.strip_prefix(b"+").unwrap_or(word);
    let minus = signed && word.len() == text.trim_start().len();
    let digits = if minus { word.strip_prefix(b"-").unwrap_or(word) } else { word };
    if text.is_empty() {
        return Ok(0);
    }
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        let kind = if signed { "number" } else { "positive number" };
        return failed(format!("\"{text}\" is not a {kind} (in \"{item}\" expansion)"));
    }
    Ok(word.to_str_lossy().parse().unwrap_or(i64::MAX))
}

/// `${sg`: each match is replaced by the third argument, expanded with the captures.
fn substitute(subject: &Value, pattern: &Value, replacement: &Value) -> Result<Value, ExpandError> {
    let regex = regex::compile(pattern.bytes(), false)?;
    let text = subject.bytes();
    let mut out = Value::default();
    let (mut from, mut copied) = (0, 0);
    let mut places = regex.capture_locations();
    while from <= text.len() {
        let found = regex
            .captures_read_at(&mut places, text, from)
            .map_err(|error| ExpandError::Failed(format!("regular expression match failed: {error}")))?;
        let Some(whole) = found else { break };
        out.push(&subject.derive(&text[copied..whole.start()]));
        let group = |index| places.get(index).map(|(start, end)| subject.derive(&text[start..end]));
        let captures: Vec<Option<Value>> = (0..places.len()).map(group).collect();
        out.push(&fill_in(replacement, &captures));
        eval::check_length(out.bytes())?;
        copied = whole.end();
        // After an empty match, the next one is a byte further on.
        from = if whole.start() == whole.end() { whole.end() + 1 } else { whole.end() };
    }
    out.push(&subject.derive(&text[copied..]));
    Ok(out)
}

/// The replacement of `${sg`: `$1`, `${1}` and backslashes, nothing else.
fn fill_in(replacement: &Value, captures: &[Option<Value>]) -> Value {
    let text = replacement.bytes();
    let mut out = Value::default();
    let mut at = 0;
    while at < text.len() {
        let special = text[at..].find_byteset(b"$\\").map_or(text.len(), |next| at + next);
        out.push(&replacement.derive(&text[at..special]));
        at = special;
        if at == text.len() {
            break;
        }
        let rest = &text[at + 1..];
        if text[at] == b'\\' {
            out.push(&replacement.derive(&rest[..rest.len().min(1)]));
            at += 2;
            continue;
        }
        let braced = usize::from(rest.first() == Some(&b'{'));
        let digits = rest[braced..].iter().take_while(|b| b.is_ascii_digit()).count();
        let closed = braced == 0 || rest.get(braced + digits) == Some(&b'}');
        if digits == 0 || !closed {
            out.push(&replacement.derive("$"));
            at += 1;
            continue;
        }
        let number: usize = rest[braced..braced + digits].to_str_lossy().parse().unwrap_or(usize::MAX);
        if let Some(Some(value)) = captures.get(number) {
            out.push(value);
        }
        at += 1 + digits + 2 * braced;
    }
    out
}

/// `${tr`: of a character that is listed twice, the last counts; the last replacement serves for all that follow.
fn translate(text: &Value, from: &Value, to: &Value) -> Value {
    let (from, to) = (from.bytes(), to.bytes());
    let Some(last) = to.last() else { return text.clone() };
    let swap = |byte: &u8| match from.rfind_byte(*byte) {
        Some(place) => *to.get(place).unwrap_or(last),
        None => *byte,
    };
    text.derive(text.bytes().iter().map(swap).collect::<Vec<u8>>())
}

/// `${listquote`: an empty text is a space, so that it stays an item.
fn list_quote(separator: &Value, text: &Value) -> Result<Value, ExpandError> {
    if text.is_empty() {
        return Ok(text.derive(" "));
    }
    let mut out = BString::default();
    match separator.bytes().first() {
        Some(separator) => list::quote_into(&mut out, text.bytes(), *separator),
        None => out.extend_from_slice(text.bytes()),
    }
    Ok(text.derive(out))
}

/// Calls an ACL: its verdict, and the text that it set.
pub fn call_acl(arguments: &[Tree], context: &Context) -> Result<(bool, Value), ExpandError> {
    let mut values: Vec<Value> =
        arguments.iter().map(|tree| eval::tree(tree, context)).collect::<Result<_, ExpandError>>()?;
    if values.is_empty() {
        return failed("too few arguments or bracketing error for acl");
    }
    let name = values.remove(0);
    if name.is_empty() {
        return Ok((false, Value::default()));
    }
    let saved = std::mem::replace(&mut context.dynamic.borrow_mut().acl_arguments, values.clone());
    let answer = context.hooks.call_acl(context, name.bytes(), &values);
    context.dynamic.borrow_mut().acl_arguments = saved;
    match answer {
        Ok(AclAnswer::Accept(message)) => Ok((true, message)),
        Ok(AclAnswer::Deny(message)) => Ok((false, message)),
        Ok(AclAnswer::Defer(_)) => Err(ExpandError::Forced(format!("DEFER from acl \"{}\"", name.bytes()))),
        Err(_) => failed(format!("ERROR from acl \"{}\"", name.bytes())),
    }
}

/// `${env`.
pub fn env(key: &Tree, branches: &Branches, context: &Context) -> Result<Value, ExpandError> {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let key = eval::tree(key, context)?;
    let name = key.bytes().trim();
    // A name with these could not be one, and std would panic in std::env::var_os on older releases.
    let found = if name.is_empty() || name.iter().any(|b| matches!(b, 0 | b'=')) {
        None
    } else {
        std::env::var_os(std::ffi::OsStr::from_bytes(name)).map(|value| Value::tainted(value.into_vec()))
    };
    eval::choose_with_value("env", found, branches, context)
}
