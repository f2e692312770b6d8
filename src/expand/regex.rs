//! Regular expressions: PCRE2, bytes, with Exim's words for what is wrong with one.
//!
//! Compiled expressions are kept for the thread, so that a fixed one is compiled once.

use super::ExpandError;
use crate::text::Value;
use bstr::{BString, ByteSlice};
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// A compiled expression.
pub type Regex = pcre2::bytes::Regex;

/// Compiled expressions a thread keeps: a configuration has some dozens; the rest come from expansions.
const KEPT: usize = 256;

thread_local! {
    static COMPILED: RefCell<HashMap<(BString, bool), Rc<Regex>>> = RefCell::new(HashMap::new());
}

/// Compiles an expression, or finds it compiled.
pub fn compile(pattern: &[u8], caseless: bool) -> Result<Rc<Regex>, ExpandError> {
    let key = (BString::from(pattern), caseless);
    if let Some(regex) = COMPILED.with_borrow(|kept| kept.get(&key).cloned()) {
        return Ok(regex);
    }
    let regex = Rc::new(build(pattern, caseless)?);
    COMPILED.with_borrow_mut(|kept| {
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(key, regex.clone());
    });
    Ok(regex)
}

fn build(pattern: &[u8], caseless: bool) -> Result<Regex, ExpandError> {
    let mut builder = pcre2::bytes::RegexBuilder::new();
    builder.caseless(caseless).jit_if_available(true);
    let text = pattern.as_bstr();
    builder.build(&as_str(pattern)).map_err(|error| {
        let offset = error.offset().unwrap_or(0);
        let whole = error.to_string();
        let message = whole.rsplit_once(": ").map_or(whole.as_str(), |(_, message)| message);
        ExpandError::Failed(format!("regular expression error in \"{text}\": {message} at offset {offset}"))
    })
}

/// The crate takes text; bytes that are none are written as escapes, which mean the same to PCRE2.
fn as_str(pattern: &[u8]) -> Cow<'_, str> {
    match pattern.to_str() {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(pattern.iter().map(|byte| escaped(*byte)).collect()),
    }
}

fn escaped(byte: u8) -> String {
    if byte.is_ascii() { char::from(byte).into() } else { format!("\\x{byte:02x}") }
}

/// Matches, and gives the captured strings (`$0` first) with the subject's taint.
pub fn captures(regex: &Regex, subject: &Value) -> Result<Option<Vec<Option<Value>>>, ExpandError> {
    let found = regex
        .captures(subject.bytes())
        .map_err(|error| ExpandError::Failed(format!("regular expression match failed: {error}")))?;
    Ok(found.map(|found| {
        (0..found.len()).map(|index| found.get(index).map(|group| subject.derive(group.as_bytes()))).collect()
    }))
}
