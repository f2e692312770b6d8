//! Lookups, one file for each type.
