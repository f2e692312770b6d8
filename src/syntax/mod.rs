//! Expansion text and ACL text to trees: pure, with positions.
pub mod acl;
pub mod acl_words;
pub mod expansion;
mod expansion_condition;
mod expansion_item;
pub mod lookup_type;
pub mod names;
pub mod position;
pub mod template;
pub mod tree;
mod variable_names;

pub use expansion::Unsupported;
pub use expansion_condition::relation;
pub use expansion_item::is_number;
pub use lookup_type::{LookupType, lookup_def};
pub use position::{Located, Position};
pub use template::{SyntaxError, Template};
