//! The string language: evaluation of expansion trees.
//!
//! Specification: chapter "String expansions".
pub mod context;

pub use context::Context;

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

/// Expands a template.
pub fn expand(template: &Template, context: &Context) -> Result<Value, ExpandError> {
    let _ = context;
    Ok(Value::clean(template.text()))
}

/// Expands a template as a condition (`condition =` in ACLs and routers): empty, `0`, `no` and `false` are
/// false; `1`.., `yes` and `true` (and any other number) are true; other text is an error.
pub fn condition(template: &Template, context: &Context) -> Result<bool, ExpandError> {
    let value = expand(template, context)?;
    Ok(!value.is_empty())
}
