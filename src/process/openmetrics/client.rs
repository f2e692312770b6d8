//! Clients of the numbers: connections whose reads and writes have an end, and who has to go when there are too many.
//!
//! Whoever is on this host may connect, and need not say anything. So there are a few places, and who comes when all are
//! taken gets that of the one who has been there longest, if that one had its [`GRACE`]: a collector that sends its request
//! at once is served beside a thousand that send nothing, drip, or never read.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// For so long everybody is left in peace.
pub const GRACE: Duration = Duration::from_millis(100);

/// A connection.
#[derive(Debug)]
pub enum Client {
    /// At a Unix socket.
    Socket(UnixStream),
    /// At a port.
    Port(TcpStream),
}

impl Client {
    /// One read that ends at the deadline.
    pub fn read(&self, buffer: &mut [u8], end: Instant) -> io::Result<usize> {
        self.timed(end, || match self {
            Self::Socket(stream) => (&*stream).read(buffer),
            Self::Port(stream) => (&*stream).read(buffer),
        })
    }

    /// One write that does.
    pub fn write(&self, bytes: &[u8], end: Instant) -> io::Result<usize> {
        self.timed(end, || match self {
            Self::Socket(stream) => (&*stream).write(bytes),
            Self::Port(stream) => (&*stream).write(bytes),
        })
    }

    /// Nothing more is written.
    pub fn end_writing(&self) -> io::Result<()> {
        self.shut(Shutdown::Write)
    }

    fn shut(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Self::Socket(stream) => stream.shutdown(how),
            Self::Port(stream) => stream.shutdown(how),
        }
    }

    fn limit(&self, time: Duration) -> io::Result<()> {
        let time = Some(time);
        match self {
            Self::Socket(stream) => {
                stream.set_read_timeout(time).and_then(|()| stream.set_write_timeout(time))
            }
            Self::Port(stream) => stream.set_read_timeout(time).and_then(|()| stream.set_write_timeout(time)),
        }
    }

    fn timed(&self, end: Instant, mut act: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.limit(left)?;
            match act() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                done => return done,
            }
        }
    }
}

/// When each came, and who it is.
type Line = VecDeque<(Instant, Arc<Client>)>;

/// Those who are served, in the order in which they came.
#[derive(Clone, Debug, Default)]
pub struct Guests(Arc<Mutex<Line>>);

impl Guests {
    /// One more.
    pub fn add(&self, client: &Arc<Client>) {
        self.lock().push_back((Instant::now(), Arc::clone(client)));
    }

    /// It has been served.
    pub fn remove(&self, client: &Arc<Client>) {
        self.lock().retain(|(_, guest)| !Arc::ptr_eq(guest, client));
    }

    /// Ends the connection of the one who came first, after its time of grace; its thread then finds it closed. Somebody
    /// may have gone by himself meanwhile.
    pub fn send_oldest_away(&self) {
        let Some((since, oldest)) = self.lock().front().cloned() else { return };
        std::thread::sleep(GRACE.saturating_sub(since.elapsed()));
        let is_there = self.lock().front().is_some_and(|(_, first)| Arc::ptr_eq(first, &oldest));
        if is_there {
            let _ = oldest.shut(Shutdown::Both); // gone is as good
            self.remove(&oldest);
        }
    }

    /// A panic leaves the list as it was: each change is one step.
    fn lock(&self) -> MutexGuard<'_, Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
