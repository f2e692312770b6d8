//! Limits of the process that the daemon raises for itself.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::io;

/// How many files this process may have open.
pub fn open_files() -> io::Result<u64> {
    Ok(getrlimit(Resource::RLIMIT_NOFILE)?.0)
}

/// Raises the limit of open files to what is allowed, at most `wanted`; gives the limit that holds now.
pub fn raise_open_files(wanted: u64) -> io::Result<u64> {
    let (now, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let goal = wanted.min(most).max(now);
    if goal > now {
        setrlimit(Resource::RLIMIT_NOFILE, goal, most)?;
    }
    Ok(goal)
}
