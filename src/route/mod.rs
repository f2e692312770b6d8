//! Routers: where an address goes.
pub mod options;
