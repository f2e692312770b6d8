//! From the written configuration to the meant one.
pub mod tables;
pub mod users;
