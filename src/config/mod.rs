//! The written configuration: options as data, with positions. It parses and never acts.

pub mod build_settings;
