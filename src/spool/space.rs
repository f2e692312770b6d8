//! Room in the spool (`check_spool_space`, `check_spool_inodes`; spec chapter "Main configuration").

use nix::sys::statvfs::statvfs;
use std::io;
use std::path::Path;

/// What is free for us on the spool's file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Kilobytes.
    pub kilobytes: u64,
    /// Inodes; none if the file system does not count them.
    pub inodes: Option<u64>,
}

/// Asks the file system of `directory`, or of the first directory above it that is there.
pub fn free(directory: &Path) -> io::Result<Space> {
    let there = directory.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let facts = statvfs(there)?;
    let kilobytes = facts.blocks_available().saturating_mul(facts.fragment_size()) / 1024;
    let inodes = (facts.files() > 0).then(|| facts.files_available());
    Ok(Space { kilobytes, inodes })
}
