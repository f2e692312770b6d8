//! The environment, changed only while the process has one thread.

use std::ffi::{OsStr, OsString};

/// Empties the environment and puts these variables in.
///
/// Call it before the first thread is started (the one place is the start of the program).
pub fn replace(kept: &[(OsString, OsString)]) {
    for (name, _) in std::env::vars_os() {
        if usable(&name) {
            // SAFETY: only one thread runs (see above), so nobody reads the environment meanwhile.
            unsafe { std::env::remove_var(&name) };
        }
    }
    for (name, value) in kept {
        if usable(name) {
            // SAFETY: as above.
            unsafe { std::env::set_var(name, value) };
        }
    }
}

/// `std::env` panics on names that no variable can have.
fn usable(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    !name.is_empty() && !name.contains(&b'=') && !name.contains(&0)
}
