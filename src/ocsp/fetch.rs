//! Asking a responder: one connection, one question, one answer, before one deadline.
//!
//! A connection is made only to ask (the openssl responder ends on a connection without a question), and the deadline
//! is for all of it: name, connection, question, answer. What comes back is bytes; whether they prove anything is
//! [`super::Proof`]'s to say.

use super::http::{self, Answer, AnswerError, Url};
use crate::sys::system_words;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long one question may take in all.
pub const DEADLINE: Duration = Duration::from_secs(20);
/// Most addresses of a host that are tried.
const MAX_ADDRESSES: usize = 8;
/// Most threads that look names up: twice the keeper's questions at once, since the system's resolver may take longer
/// than a question may.
const MAX_RESOLVERS: usize = 128;

/// Why no answer came.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The host's name leads nowhere.
    #[error("cannot find the host {host}: {}", system_words(.error))]
    Host {
        /// The name.
        host: String,
        /// What the system said.
        error: io::Error,
    },
    /// None of its addresses takes the connection; the last one's reason.
    #[error("cannot connect to {address}: {}", system_words(.error))]
    Connect {
        /// The last address that was tried.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The connection broke.
    #[error("the connection failed: {}", system_words(.0))]
    Io(io::Error),
    /// It took too long.
    #[error("no answer within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    /// What came is no answer.
    #[error(transparent)]
    Answer(#[from] AnswerError),
}

/// Asks the responder at `url` about `question` (DER), over `proxy` if there is one; gives the answer's bytes.
pub fn fetch(
    url: &Url,
    question: &[u8],
    proxy: Option<&Url>,
    deadline: Duration,
) -> Result<Vec<u8>, FetchError> {
    let question = http::question(url, question, proxy.is_some());
    exchange(proxy.unwrap_or(url), &question, http::MAX_ANSWER, deadline)
}

/// Gets the revocation list at `url`, over `proxy` if there is one.
pub fn fetch_list(url: &Url, proxy: Option<&Url>, deadline: Duration) -> Result<Vec<u8>, FetchError> {
    let question = http::question_for_list(url, proxy.is_some());
    exchange(proxy.unwrap_or(url), &question, super::MAX_CRL_SIZE, deadline)
}

fn exchange(asked: &Url, question: &[u8], limit: usize, deadline: Duration) -> Result<Vec<u8>, FetchError> {
    let time = Time { end: Instant::now() + deadline, deadline };
    let mut stream = connect(&addresses(asked, &time)?, &time)?;
    send(&mut stream, question, &time)?;
    receive(&mut stream, limit, &time)
}

/// The proxy for plain HTTP that an environment names (`http_proxy`, in small letters: the other form can be set by
/// clients of a CGI program). `no_proxy` is not looked at: leave `http_proxy` out of the environment instead.
pub fn proxy_of(value: Option<&str>) -> Result<Option<Url>, http::UrlError> {
    match value.map(str::trim) {
        None | Some("") => Ok(None),
        Some(text) if text.contains("://") => Url::parse(text.as_bytes()).map(Some),
        Some(text) => Url::parse(format!("http://{text}").as_bytes()).map(Some),
    }
}

struct Time {
    end: Instant,
    deadline: Duration,
}

impl Time {
    /// What is left; never zero, which sockets take for "for ever".
    fn left(&self) -> Result<Duration, FetchError> {
        match self.end.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(self.over()),
            left => Ok(left.max(Duration::from_millis(1))),
        }
    }
    fn over(&self) -> FetchError {
        FetchError::TimedOut(self.deadline)
    }
    fn reason(&self, error: io::Error) -> FetchError {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => self.over(),
            _ => FetchError::Io(error),
        }
    }
}

/// The system's resolver takes no deadline, so a thread of its own waits for it. One that hangs outlives the question;
/// so many may hang, and not more.
fn addresses(url: &Url, time: &Time) -> Result<Vec<SocketAddr>, FetchError> {
    static AT_WORK: AtomicUsize = AtomicUsize::new(0);
    let named = |error| FetchError::Host { host: url.host.clone(), error };
    if let Ok(address) = url.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, url.port)]);
    }
    let place = (url.host.clone(), url.port);
    let (tell, told) = mpsc::channel();
    let turn = Turn::take(&AT_WORK, MAX_RESOLVERS)
        .ok_or_else(|| named(io::Error::other("too many other names are being looked up")))?;
    std::thread::Builder::new()
        .name("resolve".into())
        .spawn(move || {
            let _turn = turn;
            let found = place.to_socket_addrs().map(|found| found.take(MAX_ADDRESSES).collect::<Vec<_>>());
            let _ = tell.send(found); // nobody waits any more
        })
        .map_err(named)?;
    match told.recv_timeout(time.left()?) {
        Ok(Ok(found)) if found.is_empty() => Err(named(io::ErrorKind::NotFound.into())),
        Ok(found) => found.map_err(named),
        Err(_) => Err(time.over()),
    }
}

/// One of a limited number of things that go on at once, as long as it lives.
struct Turn(&'static AtomicUsize);

impl Turn {
    fn take(count: &'static AtomicUsize, most: usize) -> Option<Self> {
        let one_more = |count: usize| (count < most).then_some(count + 1);
        count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok().map(|_| Self(count))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Each address gets an equal share of the time that is left, so that a dead one leaves some for the next.
fn connect(addresses: &[SocketAddr], time: &Time) -> Result<TcpStream, FetchError> {
    let mut failure = time.over();
    for (at, address) in addresses.iter().enumerate() {
        let share = u32::try_from(addresses.len() - at).unwrap_or(u32::MAX);
        match TcpStream::connect_timeout(address, (time.left()? / share).max(Duration::from_millis(1))) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = FetchError::Connect { address: *address, error },
        }
    }
    Err(failure)
}

fn send(stream: &mut TcpStream, mut bytes: &[u8], time: &Time) -> Result<(), FetchError> {
    while !bytes.is_empty() {
        stream.set_write_timeout(Some(time.left()?)).map_err(FetchError::Io)?;
        match stream.write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(time.reason(error)),
        }
    }
    Ok(())
}

fn receive(stream: &mut TcpStream, limit: usize, time: &Time) -> Result<Vec<u8>, FetchError> {
    let mut answer = Answer::up_to(limit);
    let mut buffer = [0; 16384];
    loop {
        stream.set_read_timeout(Some(time.left()?)).map_err(FetchError::Io)?;
        match stream.read(&mut buffer) {
            Ok(length) => {
                if let Some(body) = answer.take(&buffer[..length], length == 0)? {
                    return Ok(body);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(time.reason(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// A server for one connection: reads the question, then does `then`.
    fn server(then: impl FnOnce(TcpStream) + Send + 'static) -> Url {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut question = Vec::new();
            while !question.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                question.push(byte[0]);
            }
            then(stream);
        });
        Url::parse(format!("http://127.0.0.1:{port}/").as_bytes()).unwrap()
    }

    fn ask(url: &Url) -> Result<Vec<u8>, FetchError> {
        fetch(url, b"abc", None, Duration::from_millis(400))
    }

    #[test]
    fn an_answer_comes_back() {
        let url = server(|mut stream| stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nproof").unwrap());
        assert_eq!(ask(&url).unwrap(), b"proof");
    }

    #[test]
    fn a_server_that_says_nothing_or_drips_ends_at_the_deadline() {
        let silent = server(|stream| {
            std::thread::sleep(Duration::from_secs(2));
            drop(stream);
        });
        let dripping = server(|mut stream| {
            for byte in b"HTTP/1.0 200 OK\r\n\r\n".iter().cycle() {
                if stream.write_all(&[*byte]).is_err() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        for url in [silent, dripping] {
            let begin = Instant::now();
            assert!(matches!(ask(&url), Err(FetchError::TimedOut(_))));
            assert!(begin.elapsed() < Duration::from_secs(1));
        }
    }

    #[test]
    fn failures_say_where_and_why() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let refused = Url::parse(format!("http://{free}/").as_bytes()).unwrap();
        let words = ask(&refused).unwrap_err().to_string();
        assert!(words.starts_with(&format!("cannot connect to {free}: Connection refused")), "{words}");
        let cut = server(|mut stream| {
            stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nabc").unwrap()
        });
        assert!(matches!(ask(&cut), Err(FetchError::Answer(AnswerError::CutShort))));
        let nowhere = Url::parse(b"http://name.invalid/").unwrap();
        let answer = fetch(&nowhere, b"abc", None, Duration::from_secs(5));
        assert!(matches!(answer, Err(FetchError::Host { .. } | FetchError::TimedOut(_))), "{answer:?}");
    }

    #[test]
    fn a_proxy_is_asked_for_the_whole_url() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = proxy_of(Some(&listener.local_addr().unwrap().to_string())).unwrap().unwrap();
        let asked = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut line = [0; 26];
            stream.read_exact(&mut line).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
            String::from_utf8_lossy(&line).into_owned()
        });
        let url = Url::parse(b"http://ocsp.invalid/").unwrap();
        assert_eq!(fetch(&url, b"abc", Some(&proxy), Duration::from_secs(5)).unwrap(), b"");
        assert_eq!(asked.join().unwrap(), "GET http://ocsp.invalid/YW");
        assert_eq!(proxy_of(Some(" ")), Ok(None));
        assert!(proxy_of(Some("https://p/")).is_err());
    }

    #[test]
    fn of_what_hangs_in_the_resolver_there_is_a_limited_number() {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let turns: Vec<_> = (0..3).filter_map(|_| Turn::take(&COUNT, 2)).collect();
        assert_eq!(turns.len(), 2);
        drop(turns);
        assert!(Turn::take(&COUNT, 2).is_some());
    }
}
