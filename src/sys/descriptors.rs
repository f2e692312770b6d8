//! Standard descriptors made valid, all others closed: what a caller of a set-id program may have prepared.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

/// Opens `/dev/null` on each of descriptors 0 to 2 that is closed, so that no later file lands there and
/// is written to as if it were standard output.
pub fn make_standard_valid() -> io::Result<()> {
    for number in 0..=2 {
        if is_open(number) {
            continue;
        }
        // The lowest free number is taken: all lower ones are open already.
        let null = open("/dev/null", OFlag::O_RDWR, Mode::empty())?;
        if null.as_raw_fd() != number {
            return Err(Errno::EBADF.into());
        }
        let _stays_open = null.into_raw_fd();
    }
    Ok(())
}

/// True if what is written here goes to a pipe or socket whose other end is closed.
pub fn has_no_reader(descriptor: BorrowedFd) -> bool {
    let mut asked = [PollFd::new(descriptor, PollFlags::POLLOUT)];
    let answer = poll(&mut asked, PollTimeout::ZERO);
    let gone = PollFlags::POLLERR | PollFlags::POLLHUP;
    answer.is_ok() && asked[0].revents().is_some_and(|events| events.intersects(gone))
}

/// True if this number is an open descriptor.
pub fn is_open(number: RawFd) -> bool {
    // SAFETY: F_GETFD only looks the number up; it is not used as a descriptor if it is none.
    unsafe { libc::fcntl(number, libc::F_GETFD) != -1 }
}

/// Closes every descriptor from `first` on. Only for a process that has just started or forked: no value
/// of this process may own one of them.
pub fn close_from(first: RawFd) -> io::Result<()> {
    let first = u32::try_from(first).map_err(|_| Errno::EINVAL)?;
    // SAFETY: close_range touches the descriptor table alone; the caller holds no owner of these (see above).
    let answer = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0u32) };
    if answer == 0 {
        return Ok(());
    }
    // Before Linux 5.9 one by one.
    let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?.0;
    for number in first..u32::try_from(limit.min(1 << 20)).unwrap_or(1 << 20) {
        // SAFETY: as above.
        unsafe { libc::close(number as RawFd) };
    }
    Ok(())
}

/// Closes all descriptors from 3 on but `kept`, which keeps its number. As [`close_from`].
pub fn close_all_but(kept: RawFd) -> io::Result<()> {
    for number in 3..kept {
        // SAFETY: closing a number that is not open is harmless; the caller holds no owner of it.
        unsafe { libc::close(number) };
    }
    close_from(kept.max(2) + 1)
}

/// The descriptor that the parent left at this number for us. Give it out once only.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    if !is_open(number) {
        return Err(Errno::EBADF.into());
    }
    set_cloexec(number)?;
    // SAFETY: it is open, and by contract nothing else in this process owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn set_cloexec(number: RawFd) -> io::Result<()> {
    // SAFETY: the number was just seen to be open; the borrow ends with this call.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl(fd, FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
    Ok(())
}

/// A copy of a descriptor, close-on-exec.
pub fn copy(fd: BorrowedFd) -> io::Result<OwnedFd> {
    fd.try_clone_to_owned()
}

/// Points descriptors 0 to 2 (as `which` says) to `/dev/null`: a daemon has left its terminal.
pub fn standard_to_null(which: &[RawFd]) -> io::Result<()> {
    let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
    for number in which {
        // SAFETY: dup2 on descriptors 0 to 2, which std uses by number and never owns.
        if unsafe { libc::dup2(null.as_raw_fd(), *number) } == -1 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
