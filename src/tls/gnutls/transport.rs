//! The socket below a session: owned, every wait bounded by a deadline.
//!
//! GnuTLS reads and writes through [`Transport::pull`] and [`Transport::push`] (called from the callbacks in
//! `session`). A deadline that passes shows to GnuTLS as `EAGAIN`, so that the session stays sound: after a
//! read that timed out one can still say `421` over it.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, sendmsg};
use std::cell::Cell;
use std::io::{self, IoSlice};
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

/// How long after a deadline bytes that need no wait are still taken: enough for any record that is there.
const GRACE: Duration = Duration::from_secs(1);
/// How long a peer has to take notice of an alert before its connection is closed.
const PARTING: Duration = Duration::from_millis(500);
/// Most pieces of what it still sends that are thrown away meanwhile.
const PARTING_READS: usize = 64;

/// A socket, when to give up, and what went wrong on it.
pub(super) struct Transport {
    socket: TcpStream,
    deadline: Cell<Option<Instant>>,
    failure: Cell<Option<Errno>>,
}

impl Transport {
    pub(super) fn new(socket: TcpStream) -> Self {
        Self { socket, deadline: Cell::new(None), failure: Cell::new(None) }
    }

    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    pub(super) fn set_deadline(&self, deadline: Option<Instant>) {
        self.deadline.set(deadline);
    }

    /// The deadline passed so long ago.
    pub(super) fn is_late(&self, by: Duration) -> bool {
        self.deadline.get().is_some_and(|deadline| Instant::now().saturating_duration_since(deadline) > by)
    }

    /// What stopped the latest `pull` or `push`, asked for once.
    pub(super) fn take_failure(&self) -> Option<io::Error> {
        match self.failure.take()? {
            Errno::ETIMEDOUT => Some(io::ErrorKind::TimedOut.into()),
            errno => Some(errno.into()),
        }
    }

    /// Nothing more is sent; what comes is thrown away, for [`PARTING`] or up to the peer's end. Best effort.
    pub(super) fn part(&self) {
        if self.socket.shutdown(std::net::Shutdown::Write).is_err() {
            return;
        }
        self.deadline.set(Some(Instant::now() + PARTING));
        let mut buffer = [0; 4096];
        for _ in 0..PARTING_READS {
            if !matches!(self.pull(&mut buffer), Ok(1..)) {
                break;
            }
        }
        self.take_failure();
    }

    /// Receives at least one byte, or 0 at the end of the stream. What is there may be taken after the deadline too
    /// (one of zero asks without waiting), but not for ever: a peer that never stops sending must not hold its thread.
    pub(super) fn pull(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        if self.is_late(GRACE) {
            self.failure.set(Some(Errno::ETIMEDOUT));
            return Err(Errno::EAGAIN);
        }
        self.until_ready(PollFlags::POLLIN, || recv(self.socket.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT))
    }

    /// Sends at least one byte of these pieces.
    pub(super) fn push(&self, pieces: &[IoSlice<'_>]) -> Result<usize, Errno> {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        self.until_ready(PollFlags::POLLOUT, || {
            sendmsg::<()>(self.socket.as_raw_fd(), pieces, &[], flags, None)
        })
    }

    /// True as soon as there is something to read, false after `limit` (which GnuTLS may mean as "for ever") or at the
    /// deadline.
    pub(super) fn wait_readable(&self, limit: Duration) -> Result<bool, Errno> {
        let end = Instant::now() + limit;
        self.wait(PollFlags::POLLIN, Some(self.deadline.get().map_or(end, |deadline| deadline.min(end))))
    }

    /// Tries first and waits only if the socket is not ready: one system call where there is data.
    fn until_ready(
        &self,
        event: PollFlags,
        mut attempt: impl FnMut() -> Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        let result = loop {
            match attempt() {
                Err(Errno::EAGAIN) => match self.wait(event, self.deadline.get()) {
                    Ok(true) => continue,
                    Ok(false) => break Err(Errno::ETIMEDOUT),
                    Err(errno) => break Err(errno),
                },
                Err(Errno::EINTR) => continue,
                other => break other,
            }
        };
        if let Err(errno) = result {
            self.failure.set(Some(errno));
        }
        // A deadline looks like "not now" to GnuTLS; the caller finds the truth in `take_failure`.
        result.map_err(|errno| if errno == Errno::ETIMEDOUT { Errno::EAGAIN } else { errno })
    }

    fn wait(&self, event: PollFlags, deadline: Option<Instant>) -> Result<bool, Errno> {
        loop {
            let timeout = match deadline {
                None => PollTimeout::NONE,
                Some(deadline) => poll_timeout(deadline.saturating_duration_since(Instant::now())),
            };
            let mut descriptors = [PollFd::new(self.socket.as_fd(), event)];
            match poll(&mut descriptors, timeout) {
                Ok(0) if deadline.is_some_and(|deadline| Instant::now() >= deadline) => return Ok(false),
                Ok(0) | Err(Errno::EINTR) => continue,
                Ok(_) => return Ok(true),
                Err(errno) => return Err(errno),
            }
        }
    }
}

/// In milliseconds, rounded up, so that a wait never ends just before its deadline and spins.
fn poll_timeout(left: Duration) -> PollTimeout {
    let millis = left.as_micros().div_ceil(1000).min(i32::MAX as u128);
    PollTimeout::try_from(millis as i32).unwrap_or(PollTimeout::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;

    #[test]
    fn what_is_there_is_taken_at_the_deadline_but_not_long_after_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let transport = Transport::new(listener.accept().unwrap().0);
        peer.write_all(b"flood").unwrap();
        assert!(transport.wait_readable(Duration::from_secs(5)).unwrap());
        let mut byte = [0];
        transport.set_deadline(Some(Instant::now()));
        assert_eq!(transport.pull(&mut byte), Ok(1));
        let silent = Transport::new(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        silent.set_deadline(Some(Instant::now() + Duration::from_millis(50)));
        assert!(!silent.wait_readable(Duration::from_secs(3600)).unwrap());
        transport.set_deadline(Some(Instant::now() - GRACE * 2));
        assert_eq!(transport.pull(&mut byte), Err(Errno::EAGAIN));
        assert_eq!(transport.take_failure().unwrap().kind(), io::ErrorKind::TimedOut);
    }
}
