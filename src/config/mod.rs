//! The written configuration: options as data, with positions. It parses and never acts.
//!
//! Specification: chapter "The Exim runtime configuration file".
//!
//! [`read`] goes over the file once: [`source`] gives logical lines (with [`macros`] replaced), `section` sorts
//! them, `setting` and [`value`] read options by the rows of the tables, and [`print`](mod@print) shows them again.
pub mod build_settings;
pub mod macros;
pub mod main_options;
mod nearest;
pub mod option;
pub mod print;
mod section;
mod setting;
pub mod source;
pub mod value;
pub mod written;

pub use macros::MacroOverrides;
pub use option::{Effect, Flag, Kind, Number, OptionDef, Options, SettingValue};
pub use section::{read, read_all};
pub use setting::is_short_form;
pub use source::Opener;
pub use written::{ConfigError, DriverDef, Instance, NamedLists, Tables, Written};
