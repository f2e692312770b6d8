//! The accept router: takes every address that meets its preconditions (spec chapter "The accept router").

use super::chain::Verdict;
use super::generic::wrong;
use crate::config::{ConfigError, Instance};

/// It has no private options, but what it accepts must be delivered by something, unless it only verifies.
pub fn compile(instance: &Instance) -> Result<(), Vec<ConfigError>> {
    let options = &instance.options;
    if options.text("transport").is_none() && !options.bool("verify_only") {
        let text = format!("{} router:\n  a transport is required for this router", instance.name);
        return Err(vec![wrong(instance, "driver", text)]);
    }
    Ok(())
}

/// Accepts.
pub fn run() -> Verdict {
    Verdict::Accept { transport: None, hosts: Vec::new(), host_list: None }
}
