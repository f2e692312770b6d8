//! Values: lists, intervals, quoting, and text that remembers whether it came from outside.
pub mod interval;
pub mod list;
pub mod quote;
pub mod tainted;

pub use tainted::{TaintError, Value};
