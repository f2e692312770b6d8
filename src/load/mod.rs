//! tmp
pub mod globals;
pub mod host_facts;
pub mod tables;
