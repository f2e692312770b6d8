//! Numbers that several processes count together: a memfd that each maps, of a size that nobody can change any more.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

/// Makes a file of so many zeros, to be handed to other processes.
pub fn make(count: usize) -> io::Result<OwnedFd> {
    let fd = memfd_create(c"oxim-counters", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    let file = File::from(fd);
    file.set_len(bytes(count)? as u64)?;
    // A page that one process cuts off would kill the others at their next count.
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file.into())
}

/// The numbers, mapped: every process that maps the same file sees the same ones.
#[derive(Debug)]
pub struct SharedWords {
    start: NonNull<c_void>,
    count: usize,
}

// SAFETY: the memory belongs to this value until it is dropped, wherever it is then, and is only lent out as atomics.
unsafe impl Send for SharedWords {}
// SAFETY: as above; atomics may be used by any number of threads.
unsafe impl Sync for SharedWords {}

impl SharedWords {
    /// Maps a file of [`make`] that has at least so many; an error for any other file.
    pub fn map(fd: impl AsFd, count: usize) -> io::Result<Self> {
        let length = bytes(count)?;
        let file = File::from(fd.as_fd().try_clone_to_owned()?);
        let seals = fcntl(&file, FcntlArg::F_GET_SEALS)?;
        if seals & SealFlag::F_SEAL_SHRINK.bits() == 0 || file.metadata()?.len() < length as u64 {
            return Err(Errno::EINVAL.into());
        }
        let size = NonZeroUsize::new(length).ok_or(Errno::EINVAL)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at a place of the kernel's choice touches no memory of ours; the file is long enough
        // and, by its seal, stays so.
        let start = unsafe { mmap(None, size, access, MapFlags::MAP_SHARED, &file, 0) }?;
        Ok(Self { start, count })
    }

    /// All of them.
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping starts at a page, so is aligned, has room for `count`, lives as long as `self`, and
        // everybody who has it uses atomics; any bits are a number.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast::<AtomicU64>(), self.count) }
    }
}

impl Drop for SharedWords {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that was made, with its length; nothing borrows from it any more.
        let _ = unsafe { munmap(self.start, self.count * size_of::<AtomicU64>()) }; // cannot fail for a mapping of ours
    }
}

fn bytes(count: usize) -> io::Result<usize> {
    Ok(count.checked_mul(size_of::<AtomicU64>()).filter(|length| *length > 0).ok_or(Errno::EINVAL)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn what_one_mapping_counts_is_seen_in_the_other_and_outlives_both() {
        let fd = make(3).unwrap();
        let (one, other) = (SharedWords::map(&fd, 3).unwrap(), SharedWords::map(&fd, 3).unwrap());
        std::thread::scope(|scope| {
            for words in [&one, &other] {
                scope.spawn(move || {
                    for _ in 0..1000 {
                        words.words()[2].fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(other.words()[2].load(Ordering::Relaxed), 2000);
        drop((one, other));
        assert_eq!(SharedWords::map(&fd, 3).unwrap().words()[2].load(Ordering::Relaxed), 2000);
    }

    #[test]
    fn a_file_that_is_too_short_or_could_become_so_is_not_mapped() {
        let fd = make(3).unwrap();
        assert!(SharedWords::map(&fd, 4).is_err());
        assert!(File::from(fd).set_len(0).is_err(), "its length is sealed");
        let plain = tempfile::tempfile().unwrap();
        plain.set_len(100).unwrap();
        assert!(SharedWords::map(&plain, 3).is_err());
        assert!(make(0).is_err());
    }
}
