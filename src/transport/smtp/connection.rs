//! One connection as client: bytes out, replies in, each wait with a deadline.
//!
//! Clear text and TLS are two types that own the socket. What was read ahead in clear text never
//! outlives STARTTLS: [`Connection::into_clear_socket`] refuses if there is any (CVE-2021-38371).

use crate::log::Log;
use crate::mail::Reply;
use crate::tls::TlsStream;
use bstr::{BString, ByteSlice};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// All lines of one reply together: no honest reply is near this.
const MAX_REPLY: usize = 32 * 1024;
/// Time to get QUIT onto the wire.
const QUIT_LIMIT: Duration = Duration::from_secs(1);
/// Bytes that are gathered before they are written.
const OUT_BUFFER: usize = 64 * 1024;

/// Why a reply did not come or bytes did not go.
#[derive(Debug)]
pub enum Trouble {
    /// The peer closed the connection.
    Closed,
    /// Nothing came in time.
    TimedOut,
    /// What came was no SMTP reply.
    Malformed(BString),
    /// TLS broke, or the peer ended it with an alert.
    Tls(String),
    /// Any other error of the socket.
    Io(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Self::TimedOut,
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionAborted => Self::Closed,
            _ if error.raw_os_error().is_none() => Self::Tls(error.to_string()),
            _ => Self::Io(error),
        }
    }
}

/// What carries the bytes.
pub enum Stream {
    /// Clear text.
    Clear(TcpStream),
    /// TLS.
    Tls(Box<TlsStream>),
}

impl Stream {
    fn set_limit(&mut self, limit: Duration) -> io::Result<()> {
        match self {
            Self::Clear(socket) => {
                socket.set_read_timeout(Some(limit))?;
                socket.set_write_timeout(Some(limit))
            }
            Self::Tls(stream) => {
                stream.set_deadline(Some(Instant::now() + limit));
                Ok(())
            }
        }
    }
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Clear(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Clear(socket) => socket.write_all(bytes),
            Self::Tls(stream) => stream.write_all(bytes),
        }
    }
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Clear(socket) => socket,
            Self::Tls(stream) => stream.socket(),
        }
    }
}

/// A connection with what was read ahead and what is to be written.
pub struct Connection {
    stream: Stream,
    ahead: Vec<u8>,
    out: Vec<u8>,
    /// Bytes written since [`Connection::count_from_here`].
    written: u64,
    limit: Duration,
    /// `-v`: what is said and heard is shown here.
    watch: Option<Arc<Log>>,
    /// Commands in `out`, to be shown when they go.
    said: Vec<BString>,
}

impl Connection {
    /// Around an open stream.
    pub fn new(stream: Stream) -> Self {
        Self {
            stream,
            ahead: Vec::new(),
            out: Vec::new(),
            written: 0,
            limit: Duration::from_secs(300),
            watch: None,
            said: Vec::new(),
        }
    }

    /// Shows from now on what is said and heard, if this log shows anything.
    pub fn watch(&mut self, log: &Arc<Log>) {
        self.watch = log.is_shown().then(|| log.clone());
    }

    /// A remark among what is said.
    pub fn remark(&self, text: &str) {
        if let Some(log) = &self.watch {
            log.remark(text);
        }
    }

    /// Commands that wait for the same write are marked, as Exim does.
    fn show_said(&mut self) {
        let Some(log) = &self.watch else { return };
        let last = self.said.len().saturating_sub(1);
        for (at, line) in self.said.drain(..).enumerate() {
            let mark = if at < last { "|>" } else { ">>" };
            log.remark(format!("  SMTP{mark} {line}"));
        }
    }

    /// The server has given a TLS ticket by now.
    pub fn ticket_has_come(&self) -> bool {
        matches!(&self.stream, Stream::Tls(stream) if stream.ticket_has_come())
    }

    /// How long the next waits may take: each write and each whole reply.
    pub fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// [`Connection::written`] counts from here.
    pub fn count_from_here(&mut self) {
        self.written = 0;
    }

    /// Bytes that went out whole.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Puts a command into the buffer; CRLF is added.
    pub fn put_line(&mut self, line: &[u8]) {
        self.out.extend_from_slice(line);
        self.out.extend_from_slice(b"\r\n");
        if self.watch.is_some() {
            self.said.push(line.into());
        }
    }

    /// Writes what is in the buffer.
    pub fn flush_out(&mut self) -> Result<(), Trouble> {
        if !self.out.is_empty() {
            self.show_said();
            self.stream.set_limit(self.limit)?;
            self.stream.write_all(&self.out)?;
            self.written += self.out.len() as u64;
            self.out.clear();
        }
        Ok(())
    }

    /// Says QUIT and nothing more, and does not wait for the answer.
    pub fn say_quit(&mut self) {
        self.set_limit(QUIT_LIMIT);
        // Said when nothing more is to be sent, which may be long after the delivery that is watched.
        self.watch = None;
        self.put_line(b"QUIT");
        // The peer may be gone already; then there is nobody to say it to.
        let _ = self.flush_out();
        if let Stream::Tls(stream) = &mut self.stream {
            let _ = stream.shutdown();
        }
        let _ = self.stream.socket().shutdown(Shutdown::Write);
    }

    /// Closes after [`Connection::say_quit`] once the peer has closed, or at `end`. A socket that is closed while
    /// something can be read from it is reset, and the peer may then not see the QUIT (RFC 1122 section 4.2.2.13).
    pub fn close(self, end: Instant) {
        let mut socket = self.stream.socket();
        let mut unread = [0; 4096];
        let mut left = MAX_REPLY;
        while left > 0 {
            let time = end.saturating_duration_since(Instant::now());
            if time.is_zero() || socket.set_read_timeout(Some(time)).is_err() {
                return;
            }
            match socket.read(&mut unread) {
                Ok(count) if count > 0 => left = left.saturating_sub(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// Reads one reply, all its lines.
    pub fn read_reply(&mut self) -> Result<Reply, Trouble> {
        let deadline = Instant::now() + self.limit;
        let mut size = 0;
        let mut text = BString::default();
        let mut code = None;
        loop {
            let line = self.read_line(deadline)?;
            if let Some(log) = &self.watch {
                let mark = if code.is_some() { "         " } else { "  SMTP<< " };
                log.remark(format!("{mark}{}", line.as_bstr()));
            }
            size += line.len();
            let (this, last, rest) =
                split_reply_line(&line).ok_or_else(|| Trouble::Malformed(line.clone().into()))?;
            if size > MAX_REPLY || code.is_some_and(|code| code != this) {
                return Err(Trouble::Malformed(line.into()));
            }
            if code.is_some() {
                text.push(b'\n');
            }
            code = Some(this);
            text.extend_from_slice(rest);
            if last {
                return Ok(Reply { code: this, text });
            }
        }
    }

    fn read_line(&mut self, deadline: Instant) -> Result<Vec<u8>, Trouble> {
        loop {
            if let Some(end) = self.ahead.find_byte(b'\n') {
                let mut line: Vec<u8> = self.ahead.drain(..=end).collect();
                line.truncate(line.trim_end_with(|c| c == '\r' || c == '\n').len());
                return Ok(line);
            }
            if self.ahead.len() > MAX_REPLY {
                return Err(Trouble::Malformed(self.ahead[..80].into()));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Trouble::TimedOut);
            }
            self.stream.set_limit(left)?;
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(Trouble::Closed),
                Ok(count) => self.ahead.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The socket, for a TLS handshake; refused if the peer sent anything that was not asked for.
    pub fn into_clear_socket(self) -> Result<TcpStream, Trouble> {
        match self.stream {
            Stream::Clear(socket) if self.ahead.is_empty() => Ok(socket),
            Stream::Clear(_) => Err(Trouble::Malformed(self.ahead.into())),
            Stream::Tls(_) => Err(Trouble::Malformed("TLS inside TLS".into())),
        }
    }

    /// True if the peer sent something or closed while the connection was idle: it is of no use any more.
    pub fn is_spoiled(&mut self) -> bool {
        if !self.ahead.is_empty() {
            return true;
        }
        match &mut self.stream {
            Stream::Clear(socket) => {
                let mut byte = [0];
                let quiet = socket.set_nonblocking(true).is_ok()
                    && matches!(socket.peek(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
                socket.set_nonblocking(false).is_err() || !quiet
            }
            // What waits on the socket may be a session ticket, which reading takes in without giving data.
            Stream::Tls(stream) => {
                stream.set_deadline(Some(Instant::now()));
                let read = stream.read(&mut [0]);
                !matches!(read, Err(error) if error.kind() == io::ErrorKind::TimedOut)
            }
        }
    }
}

/// Message bytes go through the same buffer.
impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.extend_from_slice(bytes);
        if self.out.len() >= OUT_BUFFER {
            self.flush()?;
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        self.flush_out().map_err(|trouble| match trouble {
            Trouble::TimedOut => io::ErrorKind::TimedOut.into(),
            Trouble::Io(error) => error,
            Trouble::Closed | Trouble::Malformed(_) | Trouble::Tls(_) => io::ErrorKind::BrokenPipe.into(),
        })
    }
}

/// Code, whether this is the last line, and the text (RFC 5321 section 4.2).
fn split_reply_line(line: &[u8]) -> Option<(u16, bool, &[u8])> {
    let digits = line.get(..3)?;
    if !digits.iter().all(u8::is_ascii_digit) || !(b'2'..=b'5').contains(&digits[0]) {
        return None;
    }
    let code = digits.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    match line.get(3) {
        None => Some((code, true, b"")),
        Some(b' ') => Some((code, true, &line[4..])),
        Some(b'-') => Some((code, false, &line[4..])),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn pair(from_server: &'static [u8]) -> (Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server.write_all(from_server).unwrap();
        let mut connection = Connection::new(Stream::Clear(client));
        connection.set_limit(Duration::from_millis(300));
        (connection, server)
    }

    #[test]
    fn a_reply_of_several_lines_is_one_reply_and_the_next_stays_ahead() {
        let (mut connection, _server) = pair(b"250-one\r\n250 two\r\n221 bye\r\n");
        assert_eq!(connection.read_reply().unwrap(), Reply::new(250, "one\ntwo"));
        assert_eq!(connection.read_reply().unwrap(), Reply::new(221, "bye"));
        assert!(matches!(connection.read_reply(), Err(Trouble::TimedOut)));
    }

    #[test]
    fn codes_that_change_within_a_reply_and_other_text_are_malformed() {
        let (mut connection, _server) = pair(b"250-one\r\n550 two\r\n");
        assert!(matches!(connection.read_reply(), Err(Trouble::Malformed(_))));
        let (mut connection, _server) = pair(b"hello there\r\n");
        assert!(matches!(connection.read_reply(), Err(Trouble::Malformed(line)) if line == "hello there"));
    }

    #[test]
    fn bytes_sent_ahead_of_a_tls_handshake_are_refused() {
        let (mut connection, _server) = pair(b"220 go\r\n250 injected\r\n");
        connection.read_reply().unwrap();
        assert!(connection.into_clear_socket().is_err());
    }
}
