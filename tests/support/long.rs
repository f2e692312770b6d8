//! Tests that have a long form: `make check-long` sets `OXIM_LONG=1`, and what is thousands of rounds then is a few in
//! `make check`.
//!
//! A test with a long form includes this file (`#[path = "support/long.rs"] mod long;`) and takes its number of rounds,
//! or of threads, or a list of cases from [`short_or_long`]. Including it is all: `tests/check` finds every file of
//! `tests/` that does, and `make check-long` runs it again, built for release, as a stage of its own.

/// The first for `make check`, the second for `make check-long`.
pub fn short_or_long<T>(short: T, long: T) -> T {
    if std::env::var_os("OXIM_LONG").is_some_and(|value| value == "1") { long } else { short }
}
