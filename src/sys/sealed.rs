//! Bytes in a memfd that nobody can change any more: what is too long for a packet, handed from one process to another.

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

/// Neither bytes nor length change.
const CONTENT: SealFlag = SealFlag::F_SEAL_WRITE.union(SealFlag::F_SEAL_GROW).union(SealFlag::F_SEAL_SHRINK);

/// Makes one; `name` is what `/proc` shows.
pub fn make(name: &CStr, bytes: &[u8]) -> io::Result<OwnedFd> {
    let fd = memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    let mut file = File::from(fd);
    file.write_all(bytes)?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(CONTENT | SealFlag::F_SEAL_SEAL))?;
    Ok(file.into())
}

/// The bytes in one that came from a process that is not trusted: anything but a sealed memfd of at most `most` bytes
/// is an error. Nothing else could be read without the risk of waiting for ever.
pub fn read(fd: OwnedFd, most: usize) -> io::Result<Vec<u8>> {
    // Only what lies in memory knows of seals.
    let seals = SealFlag::from_bits_truncate(fcntl(&fd, FcntlArg::F_GET_SEALS)?);
    if !seals.contains(CONTENT) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not sealed"));
    }
    let file = File::from(fd);
    let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    if length > most {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("longer than {most} bytes")));
    }
    let mut bytes = vec![0; length];
    // By position: several processes may hold the same one.
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_read_by_everyone_and_changed_by_nobody() {
        let fd = make(c"test", b"bytes").unwrap();
        let copy = fd.try_clone().unwrap();
        assert_eq!(read(fd.try_clone().unwrap(), 5).unwrap(), b"bytes");
        assert_eq!(read(fd, 5).unwrap(), b"bytes", "again, from the start");
        let mut writer = File::from(copy);
        assert!(writer.write_all(b"x").is_err() && writer.set_len(0).is_err());
    }

    #[test]
    fn nothing_else_is_read() {
        assert!(read(make(c"test", b"bytes").unwrap(), 4).is_err(), "too long");
        assert!(read(memfd_create(c"test", MFdFlags::MFD_ALLOW_SEALING).unwrap(), 9).is_err(), "not sealed");
        assert!(read(tempfile::tempfile().unwrap().into(), 9).is_err(), "a file");
        assert!(
            read(io::pipe().unwrap().0.into(), 9).is_err(),
            "a pipe, which could hold up whoever reads it"
        );
    }
}
