//! One message out: all its addresses.
//!
//! [`message::deliver`] locks a message, routes what is not done, delivers it, and leaves the spool in a state that
//! a crash at any point turns into a second delivery at worst, never into a lost one: the journal (or the
//! removal of -H) follows the delivery, and a bounce is committed before its message goes.
pub mod bounce;
pub mod damaged;
pub mod env;
pub mod finish;
pub mod freeze;
pub mod grouping;
pub mod here;
pub mod local;
pub mod message;
pub mod own_mail;
pub mod remote;
pub mod report;
pub mod retry;
pub mod routing;
pub mod warn;

pub use env::{Delivery, Env, How, OwnMail};
pub use here::Here;
pub use message::{deliver, deliver_open, deliver_told};
