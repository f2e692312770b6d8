//! The spool on disk: Exim's -H, -D and -J files, and the order in which they are written ([`commit`]).
pub mod body_file;
pub mod commit;
pub mod header_read;
pub mod header_write;
pub mod journal;
pub mod layout;
pub mod message;
pub mod message_log;
pub mod scan;
pub mod space;

pub use body_file::BodyFile;
pub use header_read::FormatError;
pub use journal::Journal;
pub use layout::Layout;
pub use message::{Message, OpenError};
pub use scan::{Entry, scan};

#[cfg(test)]
mod tests;
