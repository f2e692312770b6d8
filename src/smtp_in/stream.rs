//! The connection a session owns: clear text, TLS, or a pair of pipes.
//!
//! STARTTLS consumes the clear connection and gives a new one, so that nothing can be read or written
//! in clear after it. Every read and write has a deadline.

use crate::expand::context::Context;
use crate::mail::envelope::TlsInfo;
use crate::ocsp::standing::Standings;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, send};
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant, SystemTime};

/// Bytes in, bytes out, and a way to wait for input.
pub trait Transport: Send {
    /// Reads what is there; waits no longer than `time` for it (half a TLS record may be there). 0 is the end.
    fn read(&mut self, buffer: &mut [u8], time: Duration) -> io::Result<usize>;
    /// Writes everything, or fails after `time`.
    fn write_all(&mut self, bytes: &[u8], time: Duration) -> io::Result<()>;
    /// True if there is input (or its end) within `time`; zero asks without waiting.
    fn wait_input(&mut self, time: Duration) -> io::Result<bool>;
    /// Says goodbye where the protocol has one (TLS close_notify).
    fn close(&mut self) {}
}

/// Makes TLS sessions: built from the credentials, shared by all sessions.
pub trait TlsAcceptor: Send + Sync {
    /// Gets everything ready that can fail before `220` is sent (certificate, key, options that are
    /// expanded). An error is for the log; the peer hears 454.
    /// `on_connect`: TLS comes before anything else.
    fn prepare<'h>(
        &self,
        context: &Context<'h>,
        on_connect: bool,
    ) -> Result<Box<dyn TlsHandshake + 'h>, String>;
    /// Loads, before anybody connects, what does not depend on the peer; what is wrong with it goes into the log
    /// (STARTTLS tries again each time).
    fn preload(&self, _: &Context) {}
    /// Loads the same before that, so that proofs of it are fetched; nothing is said of them yet.
    fn register(&self, _: &Context) {}
    /// How it stands with the certificates that are shown, and with revocation lists.
    fn standings(&self, _: SystemTime) -> Standings {
        Standings::default()
    }
}

/// One handshake, prepared.
pub trait TlsHandshake {
    /// Shakes hands within `time`. An error is for the log; the connection is closed.
    fn run(self: Box<Self>, stream: TcpStream, time: Duration) -> Result<TlsSession, String>;
}

/// A TLS session that was established.
pub struct TlsSession {
    /// The connection.
    pub transport: Box<dyn Transport>,
    /// What is known of it.
    pub info: TlsInfo,
}

/// The connection of a session.
pub enum Connection {
    /// TCP without TLS: may become TLS.
    Clear(TcpStream),
    /// TLS.
    Secured(Box<dyn Transport>),
    /// Anything else: `-bs`, tests.
    Other(Box<dyn Transport>),
    /// After a STARTTLS that failed.
    Gone(Nothing),
}

impl Connection {
    /// The transport beneath, whatever it is.
    pub fn transport(&mut self) -> &mut dyn Transport {
        match self {
            Self::Clear(stream) => stream,
            Self::Secured(transport) | Self::Other(transport) => &mut **transport,
            Self::Gone(nothing) => nothing,
        }
    }
    /// Takes the clear TCP connection out, for STARTTLS.
    pub fn take_clear(&mut self) -> Option<TcpStream> {
        match std::mem::replace(self, Self::Gone(Nothing)) {
            Self::Clear(stream) => Some(stream),
            other => {
                *self = other;
                None
            }
        }
    }
}

/// Waits until the descriptor has one of these events, or the time is over.
pub(super) fn wait_for(fd: BorrowedFd, events: PollFlags, time: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + time;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(fd, events)], timeout) {
            Ok(0) if left.is_zero() => return Ok(false),
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Tries first, and waits only where the socket is not ready.
fn when_ready(
    socket: &TcpStream,
    event: PollFlags,
    time: Duration,
    mut attempt: impl FnMut(RawFd) -> nix::Result<usize>,
) -> io::Result<usize> {
    let deadline = Instant::now() + time;
    loop {
        match attempt(socket.as_raw_fd()) {
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let left = deadline.saturating_duration_since(Instant::now());
                if !wait_for(socket.as_fd(), event, left)? {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
            other => return Ok(other?),
        }
    }
}

impl Transport for TcpStream {
    fn read(&mut self, buffer: &mut [u8], time: Duration) -> io::Result<usize> {
        when_ready(self, PollFlags::POLLIN, time, |socket| recv(socket, buffer, MsgFlags::MSG_DONTWAIT))
    }
    fn write_all(&mut self, bytes: &[u8], time: Duration) -> io::Result<()> {
        let deadline = Instant::now() + time;
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let mut rest = bytes;
        while !rest.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let written = when_ready(self, PollFlags::POLLOUT, left, |socket| send(socket, rest, flags))?;
            rest = &rest[written..];
        }
        Ok(())
    }
    fn wait_input(&mut self, time: Duration) -> io::Result<bool> {
        wait_for(self.as_fd(), PollFlags::POLLIN, time)
    }
}

/// Standard input and output of `-bs`.
pub struct Pipes {
    input: File,
    output: File,
}

impl Pipes {
    /// A session on these two descriptors (they may be one socket).
    pub fn new(input: File, output: File) -> Self {
        Self { input, output }
    }
}

impl Transport for Pipes {
    fn read(&mut self, buffer: &mut [u8], _: Duration) -> io::Result<usize> {
        self.input.read(buffer)
    }
    fn write_all(&mut self, bytes: &[u8], time: Duration) -> io::Result<()> {
        // A regular file or terminal is always ready; a full pipe is waited for.
        let deadline = Instant::now() + time;
        for piece in bytes.chunks(PIPE_PIECE) {
            let left = deadline.saturating_duration_since(Instant::now());
            if !wait_for(self.output.as_fd(), PollFlags::POLLOUT, left)? {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.output.write_all(piece)?;
        }
        Ok(())
    }
    fn wait_input(&mut self, time: Duration) -> io::Result<bool> {
        wait_for(self.input.as_fd(), PollFlags::POLLIN, time)
    }
}

/// A pipe that is ready for writing takes at least this much (POSIX PIPE_BUF is 4096 on Linux).
const PIPE_PIECE: usize = 4096;

/// The transport of a connection that is gone: no input, and writing fails.
#[derive(Clone, Copy, Debug)]
pub struct Nothing;

impl Transport for Nothing {
    fn read(&mut self, _: &mut [u8], _: Duration) -> io::Result<usize> {
        Ok(0)
    }
    fn write_all(&mut self, _: &[u8], _: Duration) -> io::Result<()> {
        Err(io::ErrorKind::NotConnected.into())
    }
    fn wait_input(&mut self, _: Duration) -> io::Result<bool> {
        Ok(true)
    }
}
