//! All messages: queue runs, the list of the queue, and the administrator's acts on messages.
//!
//! (The hand-over of a new message to the delivery worker is `process::trigger`.)
pub mod admin;
pub mod list;
pub mod runner;
pub mod view;

pub use admin::{Act, Who, act};
pub use list::{Listing, list};
pub use runner::{Run, Selection, run, untried};
