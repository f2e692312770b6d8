//! Child processes: plain forks (one thread only) and this program executed anew in another role.

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

/// The number at which a role finds its control socket.
pub const CONTROL_FD: RawFd = 3;

/// Which of the two processes after a fork this is.
#[derive(Debug)]
pub enum Forked {
    /// The parent, with the child's process id.
    Parent(i32),
    /// The child.
    Child,
}

/// Forks. The caller has one thread: a child of a threaded process may only call async-signal-safe functions.
pub fn fork() -> io::Result<Forked> {
    // SAFETY: by contract there is no other thread that could hold a lock the child needs.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Forked::Parent(child.as_raw())),
        ForkResult::Child => Ok(Forked::Child),
    }
}

/// Number of threads of this process (`/proc/self/task`), to hold [`fork`]'s contract in checks.
pub fn thread_count() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count)
}

/// Ends this process at once, without running what the parent has registered for its own end.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With this code.
    Exit(i32),
    /// By this signal.
    Signal(i32),
}

/// Waits for this child.
pub fn wait_for(child: i32) -> io::Result<Ended> {
    loop {
        match waitpid(Pid::from_raw(child), None) {
            Ok(WaitStatus::Exited(_, code)) => return Ok(Ended::Exit(code)),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(Ended::Signal(signal as i32)),
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Whether this child has ended, without waiting; it is gone from the process table if so.
pub fn has_ended(child: i32) -> io::Result<bool> {
    match waitpid(Pid::from_raw(child), Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) | Err(nix::errno::Errno::ECHILD) => Ok(true),
        Ok(_) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// The next child that has ended, without waiting.
pub fn reap() -> Option<(i32, Ended)> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(child, code)) => return Some((child.as_raw(), Ended::Exit(code))),
            Ok(WaitStatus::Signaled(child, signal, _)) => {
                return Some((child.as_raw(), Ended::Signal(signal as i32)));
            }
            Ok(WaitStatus::StillAlive) | Err(nix::errno::Errno::ECHILD) => return None,
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return None,
        }
    }
}

/// Sends a signal to a child of ours.
pub fn signal(child: i32, signal: nix::sys::signal::Signal) -> io::Result<()> {
    Ok(nix::sys::signal::kill(Pid::from_raw(child), signal)?)
}

/// Executes this program anew (`/proc/self/exe`) with these arguments, with `control` at [`CONTROL_FD`] and nothing
/// else open but 0 to 2. Gives the child's process id.
///
/// The rights stay what they are: the role gives them up itself. If they were given up before, the new program could be
/// looked into and changed by others of its uid from `exec` on until it forbids that.
pub fn role(arguments: &[&str], control: BorrowedFd) -> io::Result<i32> {
    let arguments: Vec<CString> = arguments
        .iter()
        .map(|text| CString::new(*text))
        .collect::<Result<_, _>>()
        .map_err(io::Error::other)?;
    match fork()? {
        Forked::Parent(child) => Ok(child),
        Forked::Child => {
            let error = become_role(&arguments, control.as_raw_fd());
            eprintln!("oxim: cannot start a role: {error}");
            exit_now(127)
        }
    }
}

/// In the child: never comes back unless something failed.
fn become_role(arguments: &[CString], control: RawFd) -> io::Error {
    let prepare = || -> io::Result<()> {
        super::signals::reset()?;
        // A set-uid bit on the program must not give the role its rights back. Where there is none, a role may
        // still run what needs such a bit (`${run{sudo ...}}`).
        if super::secure::own_program_gives_rights() {
            super::secure::forbid_new_rights()?;
        }
        place_at(control, CONTROL_FD)?;
        super::descriptors::close_from(CONTROL_FD + 1)
    };
    if let Err(error) = prepare() {
        return error;
    }
    let program = c"/proc/self/exe";
    match nix::unistd::execv(program, arguments) {
        Ok(never) => match never {},
        Err(errno) => errno.into(),
    }
}

/// Puts a descriptor at this number, not close-on-exec.
fn place_at(from: RawFd, to: RawFd) -> io::Result<()> {
    if from == to {
        // SAFETY: the descriptor is open and stays so; only its flag changes.
        return if unsafe { libc::fcntl(from, libc::F_SETFD, 0) } == -1 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        };
    }
    // SAFETY: in a forked child that is about to exec; whatever was at `to` is not used again.
    if unsafe { libc::dup2(from, to) } == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
