//! Routers: where an address goes.
//!
//! [`chain::Chain`] asks the routers of the configuration in order; each is compiled once by its driver's
//! `compile`. Routing never writes a log line and never touches the spool: it answers with
//! [`item::Routed`] values, and `deliver` (or the tests of `-bt` and `-bv`) acts on them.
//!
//! Specification: chapters "Generic options for routers" and the one of each driver.
pub mod accept;
pub mod address_test;
pub mod chain;
pub mod generic;
pub mod host_list;
pub mod identity;
pub mod item;
pub mod manualroute;
pub mod options;
pub mod precondition;
pub mod redirect;
pub mod redirect_list;
pub mod variables;
pub mod verify;

pub use chain::{Chain, How};
pub use item::{Ancestor, Item, Route, Routed, Trouble};
