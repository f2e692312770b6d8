//! One configuration for all roles: the files as the master read them, handed on in a sealed memfd, so that a
//! file that changes later (or that only root may read) is the same to everyone.

use crate::as_user::Wire;
use crate::sys::sealed;
use crate::wire_struct;
use bstr::BString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Bytes of all files of a configuration together.
pub const MAX_SNAPSHOT: usize = 256 * 1024 * 1024;

wire_struct! {
    /// What every role of one generation starts from.
    pub struct Snapshot {
        /// The main configuration file.
        pub config_file: BString,
        /// `-D` macros.
        pub macros: Vec<(BString, BString)>,
        /// Every file that was asked for while the configuration was read; none: it did not exist.
        pub files: Vec<(BString, Option<BString>)>,
        /// What of the command line matters to a role, by name (`queue_interval` in seconds ...).
        pub settings: Vec<(BString, BString)>,
    }
}

impl Snapshot {
    /// The content of a file as the master read it: `None` if it did not exist, an error if it was not read.
    pub fn file(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let name = path.as_os_str().as_bytes();
        match self.files.iter().find(|(known, _)| *known == name) {
            Some((_, content)) => Ok(content.as_ref().map(|content| content.to_vec())),
            None => Err(io::Error::other(format!("{} is not part of the configuration", path.display()))),
        }
    }
    /// Keeps what reading a file gave.
    pub fn keep(&mut self, path: &Path, content: Option<&[u8]>) {
        let name = BString::from(path.as_os_str().as_bytes());
        if !self.files.iter().any(|(known, _)| *known == name) {
            self.files.push((name, content.map(BString::from)));
        }
    }
    /// A setting by name.
    pub fn setting(&self, name: &str) -> Option<&BString> {
        self.settings.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }
    /// Into a memfd that nobody can change any more.
    pub fn to_memfd(&self) -> io::Result<OwnedFd> {
        sealed::make(c"oxim-configuration", &self.to_wire())
    }
    /// From the memfd, which several roles share.
    pub fn from_memfd(fd: OwnedFd) -> io::Result<Self> {
        Self::from_wire(&sealed::read(fd, MAX_SNAPSHOT)?).map_err(io::Error::other)
    }
}

/// Reads a whole file of a configuration; none if it does not exist.
pub fn read_file(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match File::open(path) {
        Ok(file) => {
            let mut content = Vec::new();
            file.take(MAX_SNAPSHOT as u64).read_to_end(&mut content)?;
            Ok(Some(content))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_read_by_everyone_and_changed_by_nobody() {
        let mut snapshot = Snapshot { config_file: "/etc/oxim/oxim.conf".into(), ..Snapshot::default() };
        snapshot.keep(Path::new("/etc/oxim/oxim.conf"), Some(b"qualify_domain = x\n"));
        snapshot.keep(Path::new("/etc/oxim/absent"), None);
        let fd = snapshot.to_memfd().unwrap();
        let copy = fd.try_clone().unwrap();
        assert_eq!(Snapshot::from_memfd(copy).unwrap(), snapshot);
        assert!(io::Write::write_all(&mut File::from(fd), b"x").is_err());
        assert_eq!(snapshot.file(Path::new("/etc/oxim/absent")).unwrap(), None);
        assert!(snapshot.file(Path::new("/etc/shadow")).is_err());
    }
}
