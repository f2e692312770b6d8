//! What is written to the main, reject and panic logs, and how.
pub mod sink;

pub use sink::{Log, Which};
