//! What the administrator's monitoring is told: numbers that all processes of a daemon count together, the text format
//! that shows them, and where they are shown (`openmetrics_listen`).
//!
//! Counters never go back while the daemon's master lives: they lie in memory that it hands to every role, so a role
//! that dies, or is replaced at a reload, takes none along.
//!
//! Specification: OpenMetrics 1.0.

mod counters;
mod place;
mod text;

pub use counters::{Counter, Counters, FAMILIES, Family, Side, new_page};
pub use place::{ListenPlace, PlaceError};
pub use text::{CONTENT_TYPE, Kind, Samples, Text};
