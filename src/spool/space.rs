//! Room in the spool (`check_spool_space`, `check_spool_inodes`; spec chapter "Main configuration").

use nix::sys::statvfs::statvfs;
use std::fmt;
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

/// What is there, if it is less than what must be; none if it is enough, or if nothing is asked for (zeros). A file
/// system that cannot be asked counts as enough: writing will tell.
pub fn lacking(directory: &Path, kilobytes: u64, inodes: u64) -> Option<Space> {
    if kilobytes == 0 && inodes == 0 {
        return None;
    }
    let space = free(directory).ok()?;
    let few_inodes = space.inodes.is_some_and(|there| there < inodes);
    (space.kilobytes < kilobytes || few_inodes).then_some(space)
}

/// As the main log tells it.
impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inodes = self.inodes.map_or_else(|| "-1".to_owned(), |inodes| inodes.to_string());
        write!(f, "spool directory space check failed: space={} inodes={inodes}", self.kilobytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_told_only_when_it_is_too_little() {
        let there = free(Path::new("/")).unwrap();
        assert_eq!(lacking(Path::new("/"), 0, 0), None);
        assert_eq!(lacking(Path::new("/"), 1, 0), None);
        let lacks = lacking(Path::new("/nonexistent"), u64::MAX, 0).unwrap();
        assert_eq!(lacks.inodes.is_some(), there.inodes.is_some());
        let told = Space { kilobytes: 7, inodes: None }.to_string();
        assert_eq!(told, "spool directory space check failed: space=7 inodes=-1");
    }
}
