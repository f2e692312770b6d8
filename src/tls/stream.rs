//! A TLS session as a stream that owns its connection.
//!
//! It is made from a bare socket, so no clear text that was received before STARTTLS can reach it, and what it
//! has buffered dies with it: no byte of one world is ever read in the other (CVE-2011-0411, CVE-2026-45185).

use super::gnutls::resumption::ticket_has_come;
use super::gnutls::session::{Session, SessionError};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// How long the close_notify may take when nobody waits for it any more.
const GOODBYE: Duration = Duration::from_secs(2);

/// Clear text in, clear text out; TLS on the wire.
pub struct TlsStream {
    session: Session,
    state: State,
    /// Looks at the session before it ends, if it ends well.
    at_end: Option<AtEnd>,
}

/// What is done with a session that ends.
pub(super) type AtEnd = Box<dyn FnOnce(&Session) + Send>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The peer said close_notify: nothing more is read.
    PeerClosed,
    /// We said close_notify, or the session broke: nothing more is read or written.
    Closed,
}

impl TlsStream {
    pub(super) fn new(session: Session) -> Self {
        Self { session, state: State::Open, at_end: None }
    }

    /// Has this look at the session before it ends. (Under TLS 1.3 a ticket comes some time after the handshake.)
    pub(super) fn at_end(&mut self, look: AtEnd) {
        self.at_end = Some(look);
    }

    fn look_at_end(&mut self) {
        if let Some(look) = self.at_end.take() {
            look(&self.session);
        }
    }

    /// When reads and writes give up with `TimedOut`; None: never.
    pub fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.session.set_deadline(deadline);
    }

    /// The connection below: for addresses and polling, not for reading or writing.
    pub fn socket(&self) -> &TcpStream {
        self.session.socket()
    }

    /// The server has given a ticket by now, with which this session could be gone on with.
    pub fn ticket_has_come(&self) -> bool {
        ticket_has_come(&self.session)
    }

    /// Bytes that can be read without waiting (already decrypted): the input check of SMTP's synchronisation needs
    /// them beside what the socket has.
    pub fn pending(&self) -> usize {
        self.session.pending()
    }

    /// Says close_notify, for which a peer has two seconds. The connection is closed when the stream is dropped, which does this too.
    pub fn shutdown(&mut self) -> io::Result<()> {
        if self.state == State::Closed {
            return Ok(());
        }
        self.look_at_end();
        self.state = State::Closed;
        self.session.set_deadline(Some(Instant::now() + GOODBYE));
        self.session.bye().map_err(io_error)
    }
}

impl Read for TlsStream {
    /// 0 after the peer's close_notify; a connection that just ends is an error (`UnexpectedEof`).
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.state != State::Open {
            return Ok(0);
        }
        match self.session.receive(buffer) {
            Ok(0) => {
                self.state = State::PeerClosed;
                Ok(0)
            }
            Ok(count) => Ok(count),
            Err(error) => Err(self.broken(error)),
        }
    }
}

impl Write for TlsStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.state == State::Closed {
            return Err(io::ErrorKind::NotConnected.into());
        }
        // Whatever stopped it, a deadline included, a record may be half sent: GnuTLS would take the next bytes
        // for the rest of it. So that was the last word, close_notify included.
        self.session.send(bytes).map_err(|error| {
            self.state = State::Closed;
            io_error(error)
        })
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl TlsStream {
    /// After any failure to read but a deadline the session is not used again, not even for a close_notify.
    fn broken(&mut self, error: SessionError) -> io::Error {
        let error = io_error(error);
        if error.kind() != io::ErrorKind::TimedOut {
            self.state = State::Closed;
        }
        error
    }
}

impl Drop for TlsStream {
    fn drop(&mut self) {
        if self.state != State::Closed {
            self.look_at_end();
            self.session.set_deadline(Some(Instant::now() + GOODBYE));
            // The peer may be gone, which is no news to anybody.
            let _ = self.session.bye();
        }
    }
}

/// In terms of I/O: what GnuTLS says becomes the text of the error.
fn io_error(error: SessionError) -> io::Error {
    match error {
        SessionError::Connection(error) => error,
        SessionError::Tls(error) if error.is_premature_end() => {
            io::Error::new(io::ErrorKind::UnexpectedEof, error.text())
        }
        other => io::Error::other(other.to_string()),
    }
}
