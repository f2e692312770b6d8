//! The written configuration: options as data, with positions. It parses and never acts.
//!
//! Specification: chapter "The Exim runtime configuration file".
pub mod build_settings;
pub mod option;
pub mod written;

pub use option::{Effect, Kind, OptionDef, Options, SettingValue};
pub use written::{ConfigError, DriverDef, Instance, NamedLists, Tables, Written};
