//! The string language: evaluation of expansion trees.
//!
//! Specification: chapter "String expansions". The way in is [`expand`] and [`condition`]; `eval` walks the
//! tree, one file for each family of operators (`op_*`), items (`item_*`) and conditions (`condition_*`), and
//! one table of variables in `variable` with its values in `variable_*`.
pub mod context;

mod condition_list;
mod condition_test;
mod eval;
mod evaluate_condition;
mod header;
mod item_call;
mod item_certificate;
mod item_extract;
mod item_list;
mod item_lookup;
mod item_prvs;
mod json;
mod op_address;
mod op_arithmetic;
mod op_base;
mod op_digest;
mod op_file;
mod op_ip;
mod op_list;
mod op_mime;
mod op_quote;
mod op_string;
mod op_time;
mod op_utf8;
mod operator;
mod regex;
mod rfc2047;
mod variable;
mod variable_address;
mod variable_config;
mod variable_message;
mod variable_session;
mod variable_time;
mod variable_tls;

pub use header::charset as headers_charset;
pub use op_quote::printing;
pub use rfc2047::encode as encode_words;

pub use context::Context;
pub use header::header_text;
pub use regex::{Regex, compile as compile_regex};

use crate::syntax::Template;
use crate::text::Value;

/// Why an expansion gave no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// `fail` was met: what that means is the caller's to say.
    #[error("{0}")]
    Forced(String),
    /// Something is not there just now (a lookup, a file): try later.
    #[error("{0}")]
    Defer(String),
    /// It can never work as written.
    #[error("{0}")]
    Failed(String),
}

impl ExpandError {
    /// Adds what stands around the place of the error; its kind stays.
    fn inside(self, what: &str) -> Self {
        match self {
            Self::Forced(text) => Self::Forced(text + " inside " + what),
            Self::Defer(text) => Self::Defer(text + " inside " + what),
            Self::Failed(text) => Self::Failed(text + " inside " + what),
        }
    }
}

/// A failure that stays.
fn failed<T>(text: impl Into<String>) -> Result<T, ExpandError> {
    Err(ExpandError::Failed(text.into()))
}

/// Deepest expansion in one another (`${expand:`, lists that are expanded while a string is): a named list
/// may lead back to itself.
const MAX_DEPTH: u32 = 20;

/// Expands a template.
pub fn expand(template: &Template, context: &Context) -> Result<Value, ExpandError> {
    if let Some(text) = template.as_literal() {
        return Ok(Value::clean(text));
    }
    if context.dynamic.borrow().depth >= MAX_DEPTH {
        return failed("expansions are nested too deeply");
    }
    context.dynamic.borrow_mut().depth += 1;
    let result = eval::tree(template.tree(), context);
    context.dynamic.borrow_mut().depth -= 1;
    match &result {
        Ok(value) => log::debug!(target: "expand", "{} => {}", template.text(), value.bytes()),
        Err(error) => log::debug!(target: "expand", "{} failed: {error}", template.text()),
    }
    result
}

/// Expands a template as a condition (`condition =` in ACLs and routers): empty, `0`, `no` and `false` are
/// false; any other number, `yes` and `true` are true; other text is an error. White space around the text
/// does not count, nor does the case of letters.
pub fn condition(template: &Template, context: &Context) -> Result<bool, ExpandError> {
    let value = expand(template, context)?;
    truth(value.bytes())
}

/// The value of an expanded boolean option: unlike [`condition`], nothing but the four words will do.
pub fn boolean(text: &[u8]) -> Option<bool> {
    match text.to_ascii_lowercase().as_slice() {
        b"yes" | b"true" => Some(true),
        b"no" | b"false" => Some(false),
        _ => None,
    }
}

/// The rule of [`condition`], for text that is expanded already.
pub fn truth(text: &[u8]) -> Result<bool, ExpandError> {
    use bstr::ByteSlice;
    let word = text.trim();
    let digits = word.strip_prefix(b"-").unwrap_or(word);
    if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) {
        return Ok(digits.iter().any(|b| *b != b'0'));
    }
    match word.to_ascii_lowercase().as_slice() {
        b"" | b"no" | b"false" => Ok(false),
        b"yes" | b"true" => Ok(true),
        _ => failed(format!("invalid \"condition\" value \"{}\"", text.as_bstr())),
    }
}

/// Expands text that was not known when the configuration was read (`${expand:`, `-be`); outside text is refused.
pub fn expand_text(text: &Value, context: &Context) -> Result<Value, ExpandError> {
    if text.is_tainted() {
        return failed(format!("attempt to expand tainted string '{}'", text.bytes()));
    }
    let at = crate::syntax::Position::nowhere("expansion");
    let template = Template::parse(text.bytes(), &at).map_err(|error| ExpandError::Failed(error.message))?;
    expand(&template, context)
}
