//! Mail's own values: addresses, headers, message ids, replies, dates.
pub mod address;
pub mod envelope;
pub mod header;
pub mod message_id;
pub mod reply;

pub use address::Address;
pub use envelope::{Envelope, Origin, Recipient};
pub use header::{Header, HeaderKind};
pub use message_id::MessageId;
pub use reply::Reply;
