//! Expansion text and ACL text to trees: pure, with positions.
pub mod acl;
pub mod acl_words;
pub mod position;
pub mod template;

pub use position::{Located, Position};
pub use template::{SyntaxError, Template};
