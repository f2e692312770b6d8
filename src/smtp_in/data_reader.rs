//! Message data of a session: from `354` to the line with a dot.
//!
//! Over TCP only CRLF `.` CRLF ends the data (RFC 5321 section 4.1.1.4), and only after CRLF a dot is
//! removed: a peer that sends LF `.` LF must not smuggle a second message past us
//! (CVE-2023-51766). On pipes (`-bs`) lines may end with LF alone. Line ends are given on as they came.
//!
//! `smtp_receive_timeout` bounds each wait. All waits together are bounded too, lest a peer that lets a byte drip now
//! and then keeps a session for ever; who calls on a pipe may type.

use super::wire::{NoLine, Wire};
use memchr::memchr;
use std::io::{self, BufRead, Read};
use std::time::{Duration, Instant};

/// What a peer must send on the average, in bytes a second: less than a line of 1200 baud carries.
const RATE_MIN: u64 = 100;
/// Waits that do not count for the average: pauses of bad lines and of whoever scans or relays while it sends, each of
/// which `smtp_receive_timeout` bounds. (RFC 5321 section 4.5.3.2 has minutes for each step.)
const PAUSES_MAX: Duration = Duration::from_secs(30 * 60);

/// Which line ends count for the dot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineEnds {
    /// CRLF only.
    Crlf,
    /// LF, with or without CR before it.
    Any,
}

/// Finds the end of the data and removes the dots; knows no connection.
#[derive(Debug)]
pub struct Unstuffer {
    ends: LineEnds,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At the start of a line.
    LineStart,
    /// Within a line.
    Within,
    /// After CR.
    Cr,
    /// After a dot at the start of a line.
    Dot,
    /// After dot and CR at the start of a line.
    DotCr,
    /// The data has ended.
    Ended,
}

impl Unstuffer {
    /// At the start of data.
    pub fn new(ends: LineEnds) -> Self {
        Self { ends, state: State::LineStart }
    }

    /// True once the ending line was seen.
    pub fn has_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Takes input, appends data to `output`, and gives how many bytes of input were used: all of them,
    /// unless the data ended.
    pub fn feed(&mut self, input: &[u8], output: &mut Vec<u8>) -> usize {
        let mut at = 0;
        while at < input.len() && self.state != State::Ended {
            if self.state == State::Within {
                // nothing happens before the next CR (or LF)
                let next = self.next_of_interest(&input[at..]);
                output.extend_from_slice(&input[at..at + next]);
                at += next;
                if at == input.len() {
                    break;
                }
            }
            self.step(input[at], output);
            at += 1;
        }
        at
    }

    fn next_of_interest(&self, input: &[u8]) -> usize {
        let found = match self.ends {
            LineEnds::Crlf => memchr(b'\r', input),
            LineEnds::Any => memchr(b'\n', input),
        };
        found.unwrap_or(input.len())
    }

    fn step(&mut self, byte: u8, output: &mut Vec<u8>) {
        let any = self.ends == LineEnds::Any;
        self.state = match (self.state, byte) {
            (State::LineStart, b'.') => {
                self.state = State::Dot;
                return;
            }
            (State::Dot, b'\r') => {
                self.state = State::DotCr;
                return;
            }
            (State::Dot, b'\n') if any => State::Ended,
            (State::DotCr, b'\n') => State::Ended,
            (State::DotCr, _) => {
                // dot, CR and something else: the dot was stuffing, the CR is data
                output.push(b'\r');
                self.after(byte, true, any)
            }
            (state, _) => self.after(byte, state == State::Cr, any),
        };
        if self.state != State::Ended {
            output.push(byte);
        }
    }

    fn after(&self, byte: u8, after_cr: bool, any: bool) -> State {
        match byte {
            b'\n' if after_cr || any => State::LineStart,
            b'\r' => State::Cr,
            _ => State::Within,
        }
    }
}

/// How far a message came, for the log line of one that was lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Progress {
    /// Within a header line, or nothing came.
    #[default]
    HeaderLine,
    /// After a header line.
    AfterHeaderLine,
    /// After a header line, and a CR.
    AfterHeaderCr,
    /// After the empty line.
    Body,
}

impl Progress {
    fn advance(self, bytes: &[u8]) -> Self {
        if self == Self::Body {
            return self;
        }
        let mut now = self;
        for byte in bytes {
            now = match (now, byte) {
                (Self::Body | Self::AfterHeaderLine | Self::AfterHeaderCr, b'\n') => return Self::Body,
                (Self::AfterHeaderLine, b'\r') => Self::AfterHeaderCr,
                (_, b'\n') => Self::AfterHeaderLine,
                _ => Self::HeaderLine,
            };
        }
        now
    }
}

/// How much longer a peer is waited for that sent so much in so long.
fn patience(received: u64, waited: Duration) -> Duration {
    (PAUSES_MAX + Duration::from_secs(received / RATE_MIN)).saturating_sub(waited)
}

/// The data as `receive::accept` reads it: it ends at the ending line; a lost or silent peer is an error.
pub struct DataReader<'w, 's> {
    wire: &'w mut Wire<'s>,
    unstuffer: Unstuffer,
    ready: Vec<u8>,
    taken: usize,
    progress: Progress,
    /// The peer's bytes so far, and the time that was spent waiting for them.
    received: u64,
    waited: Duration,
    is_bounded: bool,
    /// Why there is no more, if it was not the end.
    pub fault: Option<NoLine>,
}

impl<'w, 's> DataReader<'w, 's> {
    /// Reads from this wire.
    pub fn new(wire: &'w mut Wire<'s>, ends: LineEnds) -> Self {
        Self {
            wire,
            unstuffer: Unstuffer::new(ends),
            ready: Vec::new(),
            taken: 0,
            progress: Progress::default(),
            received: 0,
            waited: Duration::ZERO,
            is_bounded: ends == LineEnds::Crlf,
            fault: None,
        }
    }
    /// Waits for more from the peer. Only the waiting counts: our own disk may be slow.
    fn fill(&mut self) -> Result<(), NoLine> {
        let left = if self.is_bounded { patience(self.received, self.waited) } else { self.wire.time };
        let start = Instant::now();
        let filled = self.wire.fill(start + self.wire.time.min(left));
        self.waited += start.elapsed();
        self.received += self.wire.unread().len() as u64;
        filled
    }
    /// True once the ending line was read.
    pub fn has_ended(&self) -> bool {
        self.unstuffer.has_ended()
    }
    /// Where the data broke off, as Exim's log says it: ` (header)`, ` (after header)` or nothing.
    pub fn broke_off(&self) -> &'static str {
        match self.progress {
            Progress::HeaderLine => " (header)",
            Progress::AfterHeaderLine | Progress::AfterHeaderCr => " (after header)",
            Progress::Body => "",
        }
    }
}

impl BufRead for DataReader<'_, '_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.taken == self.ready.len() {
            self.ready.clear();
            self.taken = 0;
        }
        while self.ready.is_empty() && !self.unstuffer.has_ended() {
            if self.wire.unread().is_empty()
                && let Err(fault) = self.fill()
            {
                let kind = match fault {
                    NoLine::TimedOut => io::ErrorKind::TimedOut,
                    NoLine::Lost => io::ErrorKind::UnexpectedEof,
                    NoLine::Stopping => io::ErrorKind::ConnectionAborted,
                };
                self.fault = Some(fault);
                return Err(kind.into());
            }
            let used = self.unstuffer.feed(self.wire.unread(), &mut self.ready);
            self.wire.consume(used);
            self.progress = self.progress.advance(&self.ready);
        }
        Ok(&self.ready[self.taken..])
    }
    fn consume(&mut self, count: usize) {
        self.taken = (self.taken + count).min(self.ready.len());
    }
}

impl Read for DataReader<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp_in::stream::{Connection, Transport};
    use std::sync::atomic::AtomicBool;

    fn unstuff(ends: LineEnds, input: &[u8]) -> (Vec<u8>, usize, bool) {
        let mut whole = Unstuffer::new(ends);
        let mut output = Vec::new();
        let used = whole.feed(input, &mut output);
        // the same, byte by byte
        let mut slow = Unstuffer::new(ends);
        let mut again = Vec::new();
        let steps: usize = input.iter().map(|byte| slow.feed(&[*byte], &mut again)).sum();
        assert_eq!((&output, used), (&again, steps), "{:?}", bstr::BStr::new(input));
        (output, used, whole.has_ended())
    }

    #[test]
    fn only_crlf_dot_crlf_ends_data_over_tcp() {
        for smuggled in [&b"a\n.\nb"[..], b"a\r\n.\nb", b"a\n.\r\nb", b"a\r.\rb", b"a\r\n.\rb"] {
            let (_, used, ended) = unstuff(LineEnds::Crlf, smuggled);
            assert!(!ended, "{:?}", bstr::BStr::new(smuggled));
            assert_eq!(used, smuggled.len());
        }
        assert_eq!(unstuff(LineEnds::Crlf, b"a\r\n.\r\nQUIT"), (b"a\r\n".to_vec(), 6, true));
        assert_eq!(unstuff(LineEnds::Crlf, b".\r\n"), (b"".to_vec(), 3, true));
    }

    /// Has a byte whenever it is asked.
    struct Dripping;

    impl Transport for Dripping {
        fn read(&mut self, buffer: &mut [u8], _: Duration) -> io::Result<usize> {
            buffer[0] = b'x';
            Ok(1)
        }
        fn write_all(&mut self, _: &[u8], _: Duration) -> io::Result<()> {
            Ok(())
        }
        fn wait_input(&mut self, _: Duration) -> io::Result<bool> {
            Ok(true)
        }
    }

    #[test]
    fn a_peer_that_drips_is_given_up_and_one_on_a_slow_line_is_not() {
        let hours = |count: u64| Duration::from_secs(count * 3600);
        assert_eq!(patience(0, Duration::ZERO), PAUSES_MAX);
        assert!(patience(50 << 20, hours(100)) > hours(1), "50 MB at 1200 baud");
        assert_eq!(patience(6 * 12, hours(1)), Duration::ZERO, "a byte every five minutes");
        let stop = AtomicBool::new(false);
        for (ends, waited, goes_on) in [
            (LineEnds::Crlf, PAUSES_MAX / 2, true),
            (LineEnds::Crlf, PAUSES_MAX, false),
            (LineEnds::Any, hours(24), true),
        ] {
            let mut wire = Wire::new(Connection::Other(Box::new(Dripping)), Duration::from_secs(300), &stop);
            let mut reader = DataReader::new(&mut wire, ends);
            reader.waited = waited;
            assert_eq!(reader.fill_buf().is_ok(), goes_on, "{ends:?} {waited:?}");
            assert_eq!(matches!(reader.fault, Some(NoLine::TimedOut)), !goes_on);
        }
    }

    #[test]
    fn progress_tells_header_from_body() {
        let after = |text: &[u8]| Progress::default().advance(text);
        assert_eq!(after(b"Subject: x"), Progress::HeaderLine);
        assert_eq!(after(b"Subject: x\r\n"), Progress::AfterHeaderLine);
        assert_eq!(after(b"Subject: x\r\n y\n"), Progress::AfterHeaderLine);
        assert_eq!(after(b"Subject: x\r\n\r\n"), Progress::Body);
        assert_eq!(after(b"Subject: x\n\nbody"), Progress::Body);
    }

    #[test]
    fn the_dot_of_stuffing_is_removed_once() {
        assert_eq!(unstuff(LineEnds::Crlf, b"..a\r\n...\r\n.b\r\n.\r\n").0, b".a\r\n..\r\nb\r\n");
        assert_eq!(unstuff(LineEnds::Crlf, b"a\n..b\r\n.\r\n").0, b"a\n..b\r\n");
        assert_eq!(unstuff(LineEnds::Crlf, b".\r\r\n.\r\n").0, b"\r\r\n");
    }

    #[test]
    fn pipes_may_end_lines_with_lf() {
        assert_eq!(unstuff(LineEnds::Any, b"..a\nb\n.\nQUIT\n"), (b".a\nb\n".to_vec(), 8, true));
        assert_eq!(unstuff(LineEnds::Any, b"a\r\n.\r\nX"), (b"a\r\n".to_vec(), 6, true));
    }
}
