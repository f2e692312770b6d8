//! The spool on disk: Exim's -H, -D and -J files, and the order in which they are written.
pub mod layout;
pub mod message;

pub use layout::Layout;
pub use message::Message;
