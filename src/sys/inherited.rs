//! What the caller of a set-id program may have left for it besides descriptors and environment: timers that end it in
//! the middle of a mailbox, signals that are ignored or held back, limits that cut its files.

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use std::io;

/// Timers are stopped, no signal is held back, and the end of a child is told (SIGCHLD) as is usual. Needs no rights.
pub fn forget_timers_and_signals() -> io::Result<()> {
    let stopped = libc::itimerval {
        it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 },
        it_value: libc::timeval { tv_sec: 0, tv_usec: 0 },
    };
    for which in [libc::ITIMER_REAL, libc::ITIMER_VIRTUAL, libc::ITIMER_PROF] {
        // SAFETY: the new value lives longer than the call; the old one is not asked for.
        if unsafe { libc::setitimer(which, &raw const stopped, std::ptr::null_mut()) } == -1 {
            return Err(io::Error::last_os_error());
        }
    }
    // A write that is too long for a limit is an error, which is undone, and no death in the middle of a mailbox.
    super::signals::ignore(Signal::SIGXFSZ)?;
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGCHLD, Signal::SIGALRM] {
        // SAFETY: the default action runs no code of ours.
        unsafe { sigaction(signal, &default) }?;
    }
    SigSet::all().thread_unblock()?;
    Ok(())
}

/// Limits on time, files, memory and processes go, or (in a container where even root may not raise them) are what the
/// caller could raise them to himself. Only for a process that keeps root's rights: a caller
/// whose rights it gives up must not get rid of his limits by it.
pub fn forget_limits() -> io::Result<()> {
    for resource in [
        Resource::RLIMIT_FSIZE,
        Resource::RLIMIT_CPU,
        Resource::RLIMIT_AS,
        Resource::RLIMIT_DATA,
        Resource::RLIMIT_NPROC,
    ] {
        if setrlimit(resource, RLIM_INFINITY, RLIM_INFINITY).is_err() {
            let (_, hard) = getrlimit(resource)?;
            setrlimit(resource, hard, hard)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::time::Duration;

    /// Tells the test below that this process is its child.
    const CHILD: &str = "OXIM_TEST_INHERITED_CHILD";

    #[test]
    fn a_callers_timers_signals_and_limits_are_forgotten() {
        let name = "sys::inherited::tests::a_callers_timers_signals_and_limits_are_forgotten";
        if std::env::var_os(CHILD).is_none() {
            let mut child = Command::new(std::env::current_exe().unwrap());
            let output = child.args(["--exact", name, "--nocapture"]).env(CHILD, "yes").output().unwrap();
            assert!(output.status.success(), "{output:?}");
            return;
        }
        let soon = libc::timeval { tv_sec: 0, tv_usec: 200_000 };
        let timer = libc::itimerval { it_interval: soon, it_value: soon };
        // SAFETY: as in forget_timers_and_signals.
        assert_eq!(unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) }, 0);
        crate::sys::signals::ignore(Signal::SIGCHLD).unwrap();
        SigSet::all().thread_block().unwrap();
        forget_timers_and_signals().unwrap();
        std::thread::sleep(Duration::from_millis(400));
        assert!(SigSet::thread_get_mask().unwrap().iter().next().is_none());
        assert!(Command::new("true").status().unwrap().success(), "the end of a child is seen");
        if crate::sys::identity::is_root() {
            setrlimit(Resource::RLIMIT_FSIZE, 1 << 10, 1 << 30).unwrap();
            forget_limits().unwrap();
            let (soft, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
            assert_eq!(soft, hard, "as far as root may raise it here");
            assert!(hard >= 1 << 30);
        }
    }
}
