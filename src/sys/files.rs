//! Files that somebody else may have put there: opened in a way that waits for nobody.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Opens for reading. A FIFO without a writer reads as empty and one whose writer says nothing is an error: whoever
/// can put a FIFO where a file is looked for must not stop the reader.
pub fn open_without_waiting(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)
}

/// Opens a directory, to flush it; what is none is an error.
pub fn open_directory(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::Mode;
    use std::io::Read;

    #[test]
    fn a_fifo_stops_no_reader() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fifo");
        nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
        let mut text = String::new();
        assert_eq!(open_without_waiting(&path).unwrap().read_to_string(&mut text).unwrap(), 0);
        let _silent = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let read = open_without_waiting(&path).unwrap().read_to_string(&mut text);
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(open_directory(&path).is_err());
        assert!(open_directory(directory.path()).is_ok());
    }
}
