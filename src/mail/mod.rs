//! Mail's own values: addresses, headers, message ids, replies, dates.
pub mod address;
pub mod address_parse;
pub mod date;
pub mod envelope;
pub mod header;
pub mod host_text;
pub mod id_generator;
pub mod message_id;
pub mod reply;

pub use address::Address;
pub use address_parse::{AddressError, Parsed, Syntax, parse_address, parse_list};
pub use envelope::{Envelope, Origin, Recipient};
pub use header::{Header, HeaderKind};
pub use id_generator::{IdForm, IdGenerator};
pub use message_id::MessageId;
pub use reply::Reply;
