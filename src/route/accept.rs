//! The accept router: takes every address that meets its preconditions (spec chapter "The accept router").

use super::chain::Verdict;
use crate::config::{ConfigError, Instance};

/// It has no private options; a missing transport is found when an address is to be delivered, as
/// Exim does (it may only verify).
pub fn compile(_: &Instance) -> Result<(), Vec<ConfigError>> {
    Ok(())
}

/// Accepts.
pub fn run() -> Verdict {
    Verdict::Accept { transport: None, hosts: Vec::new(), host_list: None }
}
