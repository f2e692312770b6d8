//! One message out: all its addresses.
pub mod env;
pub mod retry;

pub use env::{Delivery, Env, How};
