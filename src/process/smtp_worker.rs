//! The SMTP worker: accepts connections, one thread each, and counts them.
//!
//! Privileges: runs as oxim, never gains rights, holds no socket on which a user child could be ordered.
//! It has the listening sockets from the master and owns the counts behind `smtp_accept_max` and its kin.

use super::thread_pool::{Crew, Pool};
use bstr::BString;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

/// Threads that may run whatever the configuration says (`smtp_accept_max = 0` is "no limit"): beyond it, memory
/// for stacks and descriptors would end before the connections do.
pub const MOST_CONNECTIONS: usize = 10_000;

/// One connection that was accepted.
#[derive(Debug)]
pub struct Accepted {
    /// The socket, blocking.
    pub stream: TcpStream,
    /// Its other end.
    pub peer: SocketAddr,
    /// This end: interface and port.
    pub local: SocketAddr,
    /// Connections there were, this one included (`$smtp_count_at_connection_start`).
    pub count: u32,
    /// Beyond `smtp_accept_queue`: messages are queued, not delivered at once.
    pub queue_only: bool,
}

/// Limits on connections; 0 is no limit.
#[derive(Clone, Debug, Default)]
pub struct AcceptLimits {
    /// `smtp_accept_max`
    pub max: u32,
    /// `smtp_accept_reserve`: kept for `smtp_reserve_hosts`.
    pub reserve: u32,
    /// `smtp_accept_queue`
    pub queue: u32,
}

/// What the worker asks about each connection and hands it to.
pub trait Sessions: Send + Sync {
    /// `smtp_accept_max_per_host`, expanded for this peer; 0 is no limit.
    fn max_per_host(&self, peer: IpAddr) -> u32;
    /// Whether the peer is one of `smtp_reserve_hosts`.
    fn is_reserved(&self, peer: IpAddr) -> bool;
    /// What this host calls itself to the peer.
    fn host_name(&self, peer: IpAddr) -> BString;
    /// The whole session, in a thread of its own. It must not return before the connection is over.
    fn serve(&self, accepted: Accepted);
    /// A connection was refused: this line is for the log.
    fn log_refused(&self, line: BString);
    /// A thread panicked with this text: for the panic log.
    fn log_panic(&self, text: &str);
}

/// Counts of running sessions.
#[derive(Debug, Default)]
struct Counts {
    per_host: HashMap<IpAddr, u32>,
    all: u32,
}

/// Holds one session in the counts.
struct Counted {
    counts: Arc<Mutex<Counts>>,
    peer: IpAddr,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        counts.all -= 1;
        if let Some(count) = counts.per_host.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                counts.per_host.remove(&self.peer);
            }
        }
    }
}

fn lock(counts: &Mutex<Counts>) -> std::sync::MutexGuard<'_, Counts> {
    // Plain numbers, changed together under the lock by code that cannot panic between.
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why a connection is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    TooMany,
    /// There are free places, but they are kept for `smtp_reserve_hosts`.
    NotReserved {
        connected: u32,
    },
    TooManyOfHost,
}

impl Refused {
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::NotReserved { .. } => {
                ("Too many concurrent SMTP connections; please try again later", "not in reserve list")
            }
            Self::TooMany => {
                ("Too many concurrent SMTP connections; please try again later.", "too many connections")
            }
            Self::TooManyOfHost => (
                "Too many concurrent SMTP connections from this IP address; please try again later.",
                "too many connections from that IP address",
            ),
        }
    }
}

/// Accepts connections until it is told to retire.
pub struct SmtpWorker {
    listeners: Vec<TcpListener>,
    limits: AcceptLimits,
    sessions: Arc<dyn Sessions>,
    counts: Arc<Mutex<Counts>>,
    pool: Pool,
    crew: Crew,
}

impl SmtpWorker {
    /// A worker for these sockets (non-blocking listeners).
    pub fn new(listeners: Vec<TcpListener>, limits: AcceptLimits, sessions: Arc<dyn Sessions>) -> Self {
        let pool = Pool::new(MOST_CONNECTIONS);
        Self { listeners, limits, sessions, counts: Arc::default(), pool, crew: Crew::new("smtp") }
    }

    /// Accepts nothing more: the addresses are free for a successor.
    pub fn close_listeners(&mut self) {
        self.listeners.clear();
    }

    /// The threads that run.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Accepts until something can be read from `control` (the caller reads it and may call this again).
    pub fn accept_until(&self, control: &OwnedFd) -> io::Result<()> {
        loop {
            let mut fds = vec![PollFd::new(control.as_fd(), PollFlags::POLLIN)];
            fds.extend(
                self.listeners.iter().map(|listener| PollFd::new(listener.as_fd(), PollFlags::POLLIN)),
            );
            match poll(&mut fds, PollTimeout::NONE) {
                Err(nix::errno::Errno::EINTR) => continue,
                other => other?,
            };
            let is_ready = |fd: &PollFd| fd.any().unwrap_or(true);
            if is_ready(&fds[0]) {
                return Ok(());
            }
            for (fd, listener) in fds[1..].iter().zip(&self.listeners) {
                if is_ready(fd) {
                    self.accept_all(listener);
                }
            }
        }
    }

    /// Takes what waits at one socket, at most as much as its backlog holds before the others get their turn.
    fn accept_all(&self, listener: &TcpListener) {
        const TURN: usize = 64;
        for _ in 0..TURN {
            match listener.accept() {
                // What is expanded for a peer before it has a thread must not end those of all others.
                Ok((stream, peer)) => {
                    let accepted = AssertUnwindSafe(|| self.accepted(stream, peer));
                    if let Err(cause) = catch_unwind(accepted) {
                        self.sessions.log_panic(&crate::log::panic_text(&*cause));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if matches!(error.raw_os_error(), Some(nix::libc::EMFILE | nix::libc::ENFILE)) => {
                    // Nothing can be accepted before something ends; not to spin meanwhile.
                    std::thread::sleep(std::time::Duration::from_millis(100));
                    return;
                }
                Err(_) => {} // that one connection is gone
            }
        }
    }

    fn accepted(&self, stream: TcpStream, peer: SocketAddr) {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let counted = match self.count(peer.ip()) {
            Ok(counted) => counted,
            Err(refused) => return self.refuse(stream, peer, refused),
        };
        let (count, counted) = counted;
        let (Some(place), Ok(local)) = (self.pool.try_place(), stream.local_addr()) else {
            return self.refuse(stream, peer, Refused::TooMany);
        };
        if stream.set_nonblocking(false).is_err() {
            return;
        }
        let local = SocketAddr::new(local.ip().to_canonical(), local.port());
        let queue_only = self.limits.queue > 0 && count > self.limits.queue;
        let accepted = Accepted { stream, peer, local, count, queue_only };
        let (sessions, witness) = (self.sessions.clone(), self.sessions.clone());
        let serve = move || {
            let _counted = counted;
            sessions.serve(accepted);
        };
        // The peer's 421 is the session's to say: it alone knows whether the connection is still in clear.
        let on_panic = move |text: &str| witness.log_panic(text);
        // Without a thread the connection just closes: the peer tries again.
        let _ = self.crew.start(place, serve, on_panic);
    }

    fn count(&self, peer: IpAddr) -> Result<(u32, Counted), Refused> {
        let per_host_max = self.sessions.max_per_host(peer);
        let unreserved = self.limits.max.saturating_sub(self.limits.reserve);
        // Whether a peer is one of the list may need the DNS: asked only where it decides. This thread alone adds to
        // the count, so what is decided by it holds until the peer is counted.
        let all = lock(&self.counts).all;
        if self.limits.max > 0 && all >= self.limits.max {
            return Err(Refused::TooMany);
        }
        if self.limits.max > 0 && all >= unreserved && !self.sessions.is_reserved(peer) {
            return Err(Refused::NotReserved { connected: all });
        }
        let mut counts = lock(&self.counts);
        let of_host = counts.per_host.get(&peer).copied().unwrap_or(0);
        if per_host_max > 0 && of_host >= per_host_max {
            return Err(Refused::TooManyOfHost);
        }
        counts.all += 1;
        counts.per_host.insert(peer, of_host + 1);
        Ok((counts.all, Counted { counts: self.counts.clone(), peer }))
    }

    fn refuse(&self, stream: TcpStream, peer: SocketAddr, refused: Refused) {
        let (for_peer, for_log) = refused.words();
        let line = match refused {
            Refused::NotReserved { connected } => {
                say_421(&stream, &format!("{}: {for_peer}", self.sessions.host_name(peer.ip())));
                let AcceptLimits { max, reserve, .. } = self.limits;
                format!(
                    "temporarily refused connection from [{}]: {for_log}: connected={connected} max={max} reserve={reserve}",
                    peer.ip()
                )
            }
            Refused::TooMany | Refused::TooManyOfHost => {
                say_421(&stream, for_peer);
                format!("Connection from [{}] refused: {for_log}", peer.ip())
            }
        };
        self.sessions.log_refused(line.into());
    }
}

/// A last word to a peer; it may not be listening.
fn say_421(stream: &TcpStream, text: &str) {
    let line = format!("421 {text}\r\n");
    let _ = stream.set_nonblocking(true);
    let _ = io::Write::write(&mut &*stream, line.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::os::fd::AsRawFd;

    struct Echo {
        breaks: std::sync::atomic::AtomicBool,
        lines: Mutex<Vec<String>>,
    }

    impl Sessions for Echo {
        fn max_per_host(&self, _: IpAddr) -> u32 {
            assert!(!self.breaks.swap(false, std::sync::atomic::Ordering::Relaxed), "once");
            0
        }
        fn is_reserved(&self, _: IpAddr) -> bool {
            false
        }
        fn host_name(&self, _: IpAddr) -> BString {
            "mail.test".into()
        }
        fn serve(&self, accepted: Accepted) {
            let mut line = String::new();
            (&accepted.stream).write_all(b"220 hello\r\n").unwrap();
            BufReader::new(&accepted.stream).read_line(&mut line).unwrap();
            assert!(!line.starts_with("PANIC"), "as asked");
        }
        fn log_refused(&self, line: BString) {
            self.lines.lock().unwrap().push(line.to_string());
        }
        fn log_panic(&self, text: &str) {
            self.lines.lock().unwrap().push(format!("panic: {text}"));
        }
    }

    fn first_line(stream: &TcpStream) -> String {
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line
    }

    #[test]
    fn beyond_the_limit_a_connection_hears_421_and_a_panic_ends_only_its_own() {
        let listener = crate::sys::listen::tcp("127.0.0.1:0".parse().unwrap(), 10).unwrap();
        let address = listener.local_addr().unwrap();
        let sessions = Arc::new(Echo { breaks: true.into(), lines: Mutex::default() });
        let limits = AcceptLimits { max: 1, ..AcceptLimits::default() };
        let worker = Arc::new(SmtpWorker::new(vec![listener], limits, sessions.clone()));
        let (stop, control) = crate::sys::fd_passing::packet_pair().unwrap();
        let accepting = worker.clone();
        let thread = std::thread::spawn(move || accepting.accept_until(&control));

        assert_eq!(
            first_line(&TcpStream::connect(address).unwrap()),
            "",
            "a panic at the door is that peer's"
        );
        let mut first = TcpStream::connect(address).unwrap();
        assert_eq!(first_line(&first), "220 hello\r\n");
        let second = TcpStream::connect(address).unwrap();
        assert!(first_line(&second).starts_with("421 Too many concurrent SMTP connections"));
        first.write_all(b"PANIC\r\n").unwrap();
        assert_eq!(first_line(&first), "", "what is said last is up to the session");
        assert!(worker.pool().wait_idle(std::time::Duration::from_secs(5)));
        let third = TcpStream::connect(address).unwrap();
        assert_eq!(first_line(&third), "220 hello\r\n");

        crate::sys::fd_passing::send(&stop, b"x", &[]).unwrap();
        thread.join().unwrap().unwrap();
        let mut lines = sessions.lines.lock().unwrap();
        lines.sort(); // the peer hears of a refusal before the log does
        assert_eq!(lines[0], "Connection from [127.0.0.1] refused: too many connections");
        assert_eq!(lines[1..], ["panic: as asked", "panic: once"]);
        assert!(stop.as_raw_fd() > 2);
    }
}
