//! Lines in and replies out, over a [`Connection`], with a deadline for each and a limit on each.

use super::stream::{Connection, Nothing};
use bstr::{BString, ByteSlice};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Longest command line in bytes, its end included. RFC 5321 asks for 512, AUTH (RFC 4954) for 12288;
/// Exim's buffer holds this much.
pub const COMMAND_LINE_MAX: usize = 16384;
/// What is kept of a line that is too long, for the log.
const CUT_LINE: usize = 256;
/// Bytes read at once.
const READ_SIZE: usize = 8192;
/// Replies held back for one write (PIPELINING); more are sent at once.
const REPLIES_HELD_MAX: usize = 8192;
/// How often a session that waits looks whether the process is to end.
const STOP_SLICE: Duration = Duration::from_secs(1);

/// What a peer hears when its session broke.
const LAST_WORD: &[u8] = b"421 Unexpected failure, please try later\r\n";

/// Why no line came.
#[derive(Debug)]
pub enum NoLine {
    /// The peer closed or the connection failed.
    Lost,
    /// Nothing came in time.
    TimedOut,
    /// The process is to end.
    Stopping,
}

/// The connection with its buffers.
pub struct Wire<'s> {
    /// The connection.
    pub connection: Connection,
    input: Vec<u8>,
    taken: usize,
    output: Vec<u8>,
    /// Time for one line of input, and for one write (`smtp_receive_timeout`).
    pub time: Duration,
    /// Why TLS could not be read any more (an alert of the peer, an end without close_notify): for the log.
    pub tls_fault: Option<String>,
    stop: &'s AtomicBool,
}

impl<'s> Wire<'s> {
    /// A connection with nothing read and nothing to send.
    pub fn new(connection: Connection, time: Duration, stop: &'s AtomicBool) -> Self {
        Self { connection, input: Vec::new(), taken: 0, output: Vec::new(), time, tls_fault: None, stop }
    }

    /// Takes connection and buffers out, for the reader of message data; nothing works here until
    /// [`Wire::give_back`].
    pub fn lend(&mut self) -> Wire<'s> {
        let empty = Wire::new(Connection::Gone(Nothing), self.time, self.stop);
        std::mem::replace(self, empty)
    }

    /// Puts back what was lent.
    pub fn give_back(&mut self, wire: Wire<'s>) {
        *self = wire;
    }

    /// Puts a reply into the output.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.output.extend_from_slice(bytes);
        if self.output.len() > REPLIES_HELD_MAX { self.flush() } else { Ok(()) }
    }

    /// Sends what is held back.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.output.is_empty() {
            return Ok(());
        }
        let output = std::mem::take(&mut self.output);
        self.connection.transport().write_all(&output, self.time)
    }

    /// One command line, without its end (LF, CRLF). Replies held back are sent before it waits. A line that
    /// is too long is cut; its rest is thrown away and `true` comes with it.
    pub fn read_line(&mut self) -> Result<(BString, bool), NoLine> {
        let deadline = Instant::now() + self.time;
        let mut too_long = false;
        let mut seen = 0;
        loop {
            if let Some(end) = self.unread()[seen..].find_byte(b'\n') {
                let length = if too_long { (seen + end).min(CUT_LINE) } else { seen + end };
                let line = &self.unread()[..length];
                let line = BString::from(line.strip_suffix(b"\r").unwrap_or(line));
                self.consume(seen + end + 1);
                return Ok((line, too_long));
            }
            seen = self.unread().len();
            if seen >= COMMAND_LINE_MAX {
                too_long = true;
                self.input.drain(self.taken + CUT_LINE..);
                seen = CUT_LINE;
            }
            self.fill(deadline)?;
        }
    }

    /// Input that is here already.
    pub fn unread(&self) -> &[u8] {
        &self.input[self.taken..]
    }

    /// Takes bytes of [`Wire::unread`].
    pub fn consume(&mut self, count: usize) {
        self.taken = (self.taken + count).min(self.input.len());
        if self.taken == self.input.len() {
            self.input.clear();
            self.taken = 0;
        }
    }

    /// Is there input (or the end of it) that nobody asked for yet? Reads it, so that it can be shown.
    pub fn has_input(&mut self) -> bool {
        if !self.unread().is_empty() {
            return true;
        }
        match self.connection.transport().wait_input(Duration::ZERO) {
            Ok(true) => matches!(self.read_some(Duration::ZERO), Ok(count) if count > 0),
            _ => false,
        }
    }

    /// Waits for more input until the deadline, and reads it.
    pub fn fill(&mut self, deadline: Instant) -> Result<(), NoLine> {
        self.flush().map_err(|error| no_line(&error))?;
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(NoLine::Stopping);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(NoLine::TimedOut);
            }
            match self.connection.transport().wait_input(left.min(STOP_SLICE)) {
                Ok(true) => break,
                Ok(false) => {}
                Err(_) => return Err(NoLine::Lost),
            }
        }
        match self.read_some(deadline.saturating_duration_since(Instant::now())) {
            Ok(0) => Err(NoLine::Lost),
            Ok(_) => Ok(()),
            Err(error) => Err(no_line(&error)),
        }
    }

    fn read_some(&mut self, time: Duration) -> io::Result<usize> {
        if self.taken > 0 {
            self.input.drain(..self.taken);
            self.taken = 0;
        }
        let start = self.input.len();
        self.input.resize(start + READ_SIZE, 0);
        let read = loop {
            match self.connection.transport().read(&mut self.input[start..], time) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.input.truncate(start + *read.as_ref().unwrap_or(&0));
        if let (Connection::Secured(_), Err(error)) = (&self.connection, &read) {
            self.tls_fault = tls_fault(error);
        }
        read
    }
}

/// What GnuTLS calls an error; a deadline that passed is none.
fn tls_fault(error: &io::Error) -> Option<String> {
    match error.kind() {
        io::ErrorKind::TimedOut => None,
        io::ErrorKind::UnexpectedEof | io::ErrorKind::Other => Some(error.to_string()),
        _ => Some("Error in the pull function.".to_owned()), // the connection's: a reset
    }
}

/// A panic ends the session. A peer in clear text hears of it; into a TLS stream nothing is written, for what
/// GnuTLS was doing when it happened is not known: that connection just closes.
impl Drop for Wire<'_> {
    fn drop(&mut self) {
        if let (true, Connection::Clear(stream)) = (std::thread::panicking(), &self.connection) {
            let _ = stream.set_nonblocking(true); // the peer may not be listening
            let _ = io::Write::write(&mut &*stream, LAST_WORD);
        }
    }
}

fn no_line(error: &io::Error) -> NoLine {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => NoLine::TimedOut,
        _ => NoLine::Lost,
    }
}

#[cfg(test)]
mod tests {
    use super::super::stream::Transport;
    use super::*;

    /// Gives what it has, piece by piece.
    struct Pieces(std::vec::IntoIter<Vec<u8>>);

    impl Transport for Pieces {
        fn read(&mut self, buffer: &mut [u8], _: Duration) -> io::Result<usize> {
            let piece = self.0.next().unwrap_or_default();
            buffer[..piece.len()].copy_from_slice(&piece);
            Ok(piece.len())
        }
        fn write_all(&mut self, _: &[u8], _: Duration) -> io::Result<()> {
            Ok(())
        }
        fn wait_input(&mut self, _: Duration) -> io::Result<bool> {
            Ok(true)
        }
    }

    /// What the peer reads after the thread that holds this connection panicked.
    fn heard_after_a_panic(connect: fn(std::net::TcpStream) -> Connection, lent: bool) -> Vec<u8> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let connection = connect(listener.accept().unwrap().0);
        let session = std::thread::spawn(move || {
            let stop = AtomicBool::new(false);
            let mut wire = Wire::new(connection, Duration::from_secs(1), &stop);
            let _lent = lent.then(|| wire.lend());
            std::panic::resume_unwind(Box::new("as asked"));
        });
        assert!(session.join().is_err());
        let mut heard = Vec::new();
        io::Read::read_to_end(&mut peer, &mut heard).unwrap();
        heard
    }

    #[test]
    fn after_a_panic_a_peer_in_clear_hears_421_and_into_tls_nothing_is_written() {
        assert_eq!(heard_after_a_panic(Connection::Clear, false), LAST_WORD);
        assert_eq!(heard_after_a_panic(Connection::Clear, true), LAST_WORD);
        let secured = |stream| Connection::Secured(Box::new(stream));
        assert!(heard_after_a_panic(secured, false).is_empty());
        assert!(heard_after_a_panic(secured, true).is_empty());
    }

    #[test]
    fn the_rest_of_a_line_that_is_too_long_is_no_command() {
        let mut text = vec![b'x'; COMMAND_LINE_MAX + 5000];
        text.extend_from_slice(b"MAIL FROM:<a@b>\r\nNOOP\r\n");
        let pieces: Vec<Vec<u8>> = text.chunks(1000).map(<[u8]>::to_vec).collect();
        let stop = AtomicBool::new(false);
        let connection = Connection::Other(Box::new(Pieces(pieces.into_iter())));
        let mut wire = Wire::new(connection, Duration::from_secs(1), &stop);
        assert_eq!(wire.read_line().unwrap(), (vec![b'x'; CUT_LINE].into(), true));
        assert_eq!(wire.read_line().unwrap(), ("NOOP".into(), false));
        assert!(matches!(wire.read_line(), Err(NoLine::Lost)));
    }
}
