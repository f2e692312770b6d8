//! The manual: code map, privileges, differences from Exim, and what excludes classes of past bugs.
//!
//! These modules hold only text; read them with `cargo doc --open`.

pub mod code_map;
pub mod differences;
pub mod fault_table;
pub mod past_bugs;
pub mod privileges;
pub mod tls_rows;
