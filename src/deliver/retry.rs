//! Retry.
/// Rules
pub struct Rules;
