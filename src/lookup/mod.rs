//! Lookups, one file for each type.

use crate::text::Value;
use bstr::BString;
use std::collections::HashMap;

/// Answers kept for the life of a context: by type, file and key.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    /// The answers; none: not there.
    pub answers: HashMap<(BString, BString, BString), Option<Value>>,
}
