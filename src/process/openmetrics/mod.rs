//! `openmetrics_listen`: a thread of the SMTP worker that answers whoever collects metrics.
//!
//! A port is bound by the master, like those of SMTP, and handed to each worker: a reload or a worker's death closes
//! nothing. A Unix socket is made by the worker, under another name, and takes its place by rename. Either way the
//! numbers are this host's alone: a loopback address, or a socket for oxim's user and group.
//!
//! Nobody who connects can hurt: a few connections at once, each with a deadline and a limit, read and answered once; who
//! comes when all places are taken gets that of the one who has been there longest ([`client`]).

mod client;
mod http;
mod numbers;

pub use numbers::Numbers;

use super::thread_pool::{self, Place, Pool};
use crate::metrics::ListenPlace;
use crate::sys::{listen, system_words};
use client::{Client, Guests};
use http::Request;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Collectors served at once: there is one, or two for safety, and others may be there who are none.
const MOST_CLIENTS: usize = 16;
/// A request is there at once.
const REQUEST_PATIENCE: Duration = Duration::from_secs(3);
/// An answer is read at once, even one of some MiB.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);
/// How long whatever a client still sends is read, so that its unread rest does not take our answer away.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

/// A place where clients come in.
#[derive(Debug)]
pub enum Door {
    /// A Unix socket.
    Socket(UnixListener),
    /// A port of this host.
    Port(TcpListener),
}

/// Serves as long as it is held.
#[derive(Debug)]
pub struct Endpoint {
    open: io::PipeWriter,
    door: JoinHandle<()>,
    clients: Pool,
}

/// Serves nobody new; those who came before are served to their end.
#[derive(Debug)]
pub struct Ending {
    door: JoinHandle<()>,
    clients: Pool,
}

impl Endpoint {
    /// From now on nobody new is served here.
    pub fn close(self) -> Ending {
        drop(self.open);
        Ending { door: self.door, clients: self.clients }
    }
}

impl Ending {
    /// Waits for the last answer, at most this long; true if it was given. (Every answer has an end of its own.)
    pub fn wait(self, longest: Duration) -> bool {
        let end = Instant::now() + longest;
        // Who came through the door at the last moment is counted once it has ended.
        while !self.door.is_finished() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.door.is_finished() && self.clients.wait_idle(end.saturating_duration_since(Instant::now()))
    }
}

/// Gives what the numbers are now.
pub type Show = dyn Fn() -> String + Send + Sync;

impl Door {
    /// Opens it: a port is found among the sockets that the master bound, and taken out of them.
    pub fn open(place: &ListenPlace, bound: &mut Vec<TcpListener>) -> io::Result<Self> {
        match place {
            ListenPlace::Socket(path) => make_socket(path).map(Self::Socket),
            ListenPlace::Port(address) => {
                let is_it =
                    |listener: &TcpListener| listener.local_addr().is_ok_and(|local| local == *address);
                let missing = || io::Error::other(format!("{address} is not among the sockets handed over"));
                let at = bound.iter().position(is_it).ok_or_else(missing)?;
                Ok(Self::Port(bound.remove(at)))
            }
        }
    }

    fn accept(&self) -> io::Result<Arc<Client>> {
        Ok(Arc::new(match self {
            Self::Socket(listener) => Client::Socket(listener.accept()?.0),
            Self::Port(listener) => Client::Port(listener.accept()?.0),
        }))
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Socket(listener) => listener.as_fd(),
            Self::Port(listener) => listener.as_fd(),
        }
    }
}

/// Whether a socket could be made there; what is there stays.
pub fn check(place: &ListenPlace) -> Result<(), String> {
    let ListenPlace::Socket(path) = place else { return Ok(()) };
    let tried = beside(path, "check");
    let made = listen_beside(path, &tried).map(drop);
    made.and_then(|()| listen::remove_dead_stream(&tried).map_err(|error| refusal(&tried, &error)))
        .map_err(|error| error.to_string())
}

/// Makes the socket and puts it in its place: there is never none, and clients of an older one are served by it.
fn make_socket(path: &Path) -> io::Result<UnixListener> {
    let new = beside(path, "new");
    let listener = listen_beside(path, &new)?;
    std::fs::rename(&new, path).map_err(|error| {
        let _ = std::fs::remove_file(&new); // the first error is the one to tell
        refusal(path, &error)
    })?;
    Ok(listener)
}

/// Listens at a name beside the socket's. What is at either of the two and is no socket stays, and is named.
fn listen_beside(path: &Path, name: &Path) -> io::Result<UnixListener> {
    for taken in [path, name] {
        listen::is_socket(taken).map_err(|error| refusal(taken, &error))?;
    }
    listen::unix_stream(name).map_err(|error| refusal(path, &error))
}

/// At the daemon's end: nothing is left that looks as if somebody showed numbers there. A socket that somebody else
/// listens at stays, and so does whatever is no socket.
pub fn leave(path: &Path) {
    if let Err(error) = listen::remove_dead_stream(path) {
        log::debug!(target: "process", "openmetrics_listen: {}: {}", path.display(), system_words(&error));
    }
}

/// The same while our own role still listens: it has another place from now on.
pub fn leave_now(path: &Path) {
    if matches!(listen::is_socket(path), Ok(true)) {
        let _ = std::fs::remove_file(path); // removed by hand is as good
    }
}

fn refusal(path: &Path, error: &io::Error) -> io::Error {
    let text = format!("openmetrics_listen: {}: {}", path.display(), system_words(error));
    io::Error::new(error.kind(), text)
}

fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{what}"));
    name.into()
}

/// Answers clients in threads of their own until the endpoint is dropped. A panic ends one answer.
pub fn serve(door: Door, show: Arc<Show>, on_panic: Arc<dyn Fn(&str) + Send + Sync>) -> io::Result<Endpoint> {
    match &door {
        Door::Socket(listener) => listener.set_nonblocking(true)?,
        Door::Port(listener) => listener.set_nonblocking(true)?,
    }
    let (ended, open) = io::pipe()?;
    let clients = Pool::new(MOST_CLIENTS);
    let (pool, guests) = (clients.clone(), Guests::default());
    let make_room = {
        let (pool, guests) = (pool.clone(), guests.clone());
        move || match pool.try_place() {
            Some(place) => place,
            None => {
                guests.send_oldest_away();
                pool.place()
            }
        }
    };
    let admit = move |place: Place, client: Arc<Client>| {
        let (show, on_panic, guests) = (show.clone(), on_panic.clone(), guests.clone());
        guests.add(&client);
        let work = move || {
            let _guest = Guest { guests, client: client.clone() };
            answer(&client, &*show);
        };
        // Without a thread the connection closes: a collector comes again.
        let _ = thread_pool::start(place, "metrics", work, move |text| on_panic(text));
    };
    let work = move || {
        while wait_for_client(door.fd(), ended.as_fd()) {
            let place = make_room();
            match door.accept() {
                Ok(client) => admit(place, client),
                // Taken by the other worker of a reload.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Out of descriptors: not to spin.
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
        // Who waits at a port is the successor's; who waits at a socket that was replaced is nobody's but ours.
        while let Door::Socket(_) = &door
            && let Ok(client) = door.accept()
        {
            admit(make_room(), client);
        }
    };
    let door = std::thread::Builder::new().name("metrics-door".into()).spawn(work)?;
    Ok(Endpoint { open, door, clients })
}

/// One who is served; no more when this goes, with a panic too.
struct Guest {
    guests: Guests,
    client: Arc<Client>,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.guests.remove(&self.client);
    }
}

/// True when a client may be there; false at the end.
fn wait_for_client(door: BorrowedFd, ended: BorrowedFd) -> bool {
    loop {
        let mut fds = [PollFd::new(door, PollFlags::POLLIN), PollFd::new(ended, PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return false,
            Ok(_) if fds[1].any().unwrap_or(true) => return false,
            Ok(_) => return true,
        }
    }
}

fn answer(client: &Client, show: &Show) {
    let answer = match read_request(client) {
        Ok(Request::Metrics { body }) => http::metrics(&show(), body),
        Ok(Request::Bad(refusal)) => http::refusal(refusal),
        // Gone, or came and said nothing.
        Ok(Request::Incomplete) | Err(_) => return,
    };
    // A client that is gone misses nothing.
    let _ = write_answer(client, &answer);
}

fn read_request(client: &Client) -> io::Result<Request> {
    let end = Instant::now() + REQUEST_PATIENCE;
    let mut bytes = Vec::new();
    loop {
        let mut buffer = [0; 2048];
        match client.read(&mut buffer, end) {
            Ok(0) => return Ok(Request::Incomplete),
            Ok(read) => bytes.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                return Ok(Request::Bad(http::Refusal::TooSlow));
            }
            Err(error) => return Err(error),
        }
        match http::read(&bytes) {
            Request::Incomplete => {}
            clear => return Ok(clear),
        }
    }
}

fn write_answer(client: &Client, answer: &[u8]) -> io::Result<()> {
    let end = Instant::now() + ANSWER_PATIENCE;
    let mut rest = answer;
    while !rest.is_empty() {
        let written = client.write(rest, end)?;
        rest = &rest[written..];
    }
    client.end_writing()?;
    let end = Instant::now() + CLOSE_PATIENCE;
    let mut left = 2 * http::MAX_REQUEST;
    while left > 0 {
        let read = client.read(&mut [0; 2048], end)?;
        if read == 0 {
            break;
        }
        left = left.saturating_sub(read);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn endpoint(path: &Path) -> Endpoint {
        let door = Door::open(&ListenPlace::Socket(path.to_owned()), &mut Vec::new()).unwrap();
        serve(door, Arc::new(|| "# EOF\n".to_owned()), Arc::new(|text| panic!("{text}"))).unwrap()
    }

    fn ask(path: &Path, request: &[u8]) -> String {
        let mut stream = UnixStream::connect(path).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn socket(directory: &tempfile::TempDir) -> PathBuf {
        directory.path().join("metrics")
    }

    #[test]
    fn a_socket_is_replaced_without_a_gap_and_nothing_else_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = socket(&directory);
        let first = endpoint(&path);
        let waiting = UnixStream::connect(&path).unwrap();
        let second = endpoint(&path);
        assert!(ask(&path, b"GET /metrics HTTP/1.0\r\n\r\n").ends_with("\r\n\r\n# EOF\n"));
        (&waiting).write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        (&waiting).read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "who had connected before is served: {answer}");
        assert!(first.close().wait(PATIENCE));
        assert!(ask(&path, b"GET / HTTP/1.0\r\n\r\n").starts_with("HTTP/1.1 404 "));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert!(second.close().wait(PATIENCE));

        let file = directory.path().join("file");
        std::fs::write(&file, "kept").unwrap();
        let place = ListenPlace::Socket(file.clone());
        let refused = Door::open(&place, &mut Vec::new()).unwrap_err().to_string();
        assert!(refused.ends_with("/file: there is something that is no socket"), "{refused}");
        assert_eq!(check(&place).unwrap_err(), refused);
        assert_eq!(std::fs::read(&file).unwrap(), b"kept");
        // Nor what has one of the names beside it.
        for name in ["mine.check", "mine.new"] {
            std::fs::write(directory.path().join(name), "kept").unwrap();
        }
        let mine = ListenPlace::Socket(directory.path().join("mine"));
        let refused = Door::open(&mine, &mut Vec::new()).unwrap_err().to_string();
        assert!(refused.ends_with("/mine.new: there is something that is no socket"), "{refused}");
        let refused = check(&mine).unwrap_err();
        assert!(refused.ends_with("/mine.check: there is something that is no socket"), "{refused}");
        for name in ["mine.check", "mine.new"] {
            assert_eq!(std::fs::read(directory.path().join(name)).unwrap(), b"kept");
            std::fs::remove_file(directory.path().join(name)).unwrap();
        }
        let missing = check(&ListenPlace::Socket(directory.path().join("no/metrics"))).unwrap_err();
        assert!(missing.ends_with("/no/metrics: No such file or directory"), "{missing}");
        assert_eq!(check(&ListenPlace::Socket(path)), Ok(()));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2, "nothing is left beside them");
    }

    #[test]
    fn clients_that_say_nothing_or_too_much_do_not_keep_others_away() {
        let directory = tempfile::tempdir().unwrap();
        let path = socket(&directory);
        let _endpoint = endpoint(&path);
        let silent = UnixStream::connect(&path).unwrap();
        let mut answer = String::new();
        (&silent).read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(ask(&path, &[b'A'; http::MAX_REQUEST + 1]).starts_with("HTTP/1.1 431 "));
        assert!(ask(&path, b"\x16\x03\x01").starts_with("HTTP/1.1 400 "));
    }

    #[test]
    fn who_comes_when_all_places_are_taken_gets_that_of_the_one_who_came_first() {
        let directory = tempfile::tempdir().unwrap();
        let path = socket(&directory);
        let long = Arc::new(|| format!("{}# EOF\n", "x".repeat(8 << 20)));
        let door = Door::open(&ListenPlace::Socket(path.clone()), &mut Vec::new()).unwrap();
        let endpoint = serve(door, long, Arc::new(|text| panic!("{text}"))).unwrap();
        // Half of them say nothing, half ask for all of it and never read.
        let connect = |number: usize| {
            let stream = UnixStream::connect(&path).unwrap();
            if number.is_multiple_of(2) {
                (&stream).write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
            }
            stream
        };
        let hostile: Vec<UnixStream> = (0..10 * MOST_CLIENTS).map(connect).collect();
        let started = Instant::now();
        let answer = ask(&path, b"GET /metrics HTTP/1.0\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("x# EOF\n"), "{}", answer.len());
        // Each generation had its time of grace, and no more.
        assert!(started.elapsed() < REQUEST_PATIENCE, "{:?}", started.elapsed());
        assert!(endpoint.clients.running() <= MOST_CLIENTS);
        drop(hostile);
        assert!(endpoint.close().wait(PATIENCE));
    }

    #[test]
    fn a_port_is_taken_from_what_the_master_bound() {
        let mut bound: Vec<TcpListener> =
            (0..2).map(|_| listen::tcp("127.0.0.1:0".parse().unwrap(), 5).unwrap()).collect();
        let address = bound[1].local_addr().unwrap();
        let door = Door::open(&ListenPlace::Port(address), &mut bound).unwrap();
        assert_eq!(bound.len(), 1);
        assert!(Door::open(&ListenPlace::Port(address), &mut bound).is_err());
        let endpoint = serve(door, Arc::new(|| "x".to_owned()), Arc::new(|text| panic!("{text}"))).unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"HEAD /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("\r\nContent-Length: 1\r\n"), "{answer}");
        assert!(endpoint.close().wait(PATIENCE));
        assert!(TcpStream::connect(address).is_err(), "nobody listens there any more");
    }
}
