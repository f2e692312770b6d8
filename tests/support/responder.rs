//! An OCSP responder that does as it is told: it answers every question with what its mode says, well or badly.
#![allow(dead_code, reason = "each test binary uses its part")]

use nix::sys::socket::sockopt::{ReuseAddr, ReusePort};
use nix::sys::socket::{
    AddressFamily, Backlog, Shutdown, SockFlag, SockType, SockaddrStorage, bind, setsockopt, shutdown, socket,
};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// How it behaves. (That it is down: [`Responder::down`].)
#[derive(Clone, Debug)]
pub enum Mode {
    /// Answers with these bytes as the body.
    Answer(Vec<u8>),
    /// Answers with the second of the first two whose first stands in the question: serial numbers and proofs.
    Each(Vec<(Vec<u8>, Vec<u8>)>),
    /// The same in chunks of HTTP/1.1.
    Chunked(Vec<u8>),
    /// Another status, with a field.
    Status(&'static str, &'static str),
    /// Answers with these bytes, but only after a time.
    Late(Duration, Vec<u8>),
    /// Takes the question and says nothing.
    Silent,
    /// One byte now and then, for ever.
    Dripping,
    /// A body without end.
    Huge,
    /// Closes in the middle of the body.
    CutShort,
    /// Ends the connection with a reset.
    Reset,
}

impl Mode {
    /// What is said to this question.
    fn about(&self, question: &[u8]) -> Self {
        let Mode::Each(answers) = self else { return self.clone() };
        let der = der_of(question);
        let fits = |serial: &[u8]| der.windows(serial.len()).any(|part| part == serial);
        match answers.iter().find(|(serial, _)| fits(serial)) {
            Some((_, answer)) => Mode::Answer(answer.clone()),
            None => Mode::Status("404 Not Found", "X-Why: unknown"),
        }
    }
}

/// The question in the path of a GET, or in the body of a POST.
fn der_of(question: &[u8]) -> Vec<u8> {
    use base64::Engine;
    let end = question.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8_lossy(&question[..end]).into_owned();
    let Some(path) = head.strip_prefix("GET /") else { return question[end + 4..].to_vec() };
    let path = path.split(' ').next().unwrap_or_default();
    let text = path.replace("%2B", "+").replace("%2F", "/").replace("%3D", "=");
    base64::engine::general_purpose::STANDARD.decode(text).expect("base64")
}

/// It listens as long as it lives, unless it is down.
pub struct Responder {
    pub port: u16,
    address: SocketAddr,
    mode: Arc<Mutex<Mode>>,
    asked: Arc<AtomicUsize>,
    questions: Arc<Mutex<Vec<Vec<u8>>>>,
    at_once: Arc<AtOnce>,
    stop: Arc<AtomicBool>,
    listening: Mutex<Option<(Arc<TcpListener>, JoinHandle<()>)>>,
    _place: OwnedFd,
}

/// How many questions there are at a time that were not answered yet.
#[derive(Default)]
struct AtOnce {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Responder {
    pub fn start(mode: Mode) -> Self {
        Self::start_on("127.0.0.1:0", mode)
    }

    pub fn start_on(address: &str, mode: Mode) -> Self {
        // keeps the port for us while we are down
        let place = socket_at(address.parse().expect("an address"));
        let listener = TcpListener::from(place.try_clone().expect("a descriptor"));
        let address = listener.local_addr().expect("an address");
        let responder = Self {
            port: address.port(),
            address,
            mode: Arc::new(Mutex::new(mode)),
            asked: Arc::default(),
            questions: Arc::default(),
            at_once: Arc::default(),
            stop: Arc::default(),
            listening: Mutex::default(),
            _place: place,
        };
        responder.listen();
        responder
    }

    fn listen(&self) {
        let socket = socket_at(self.address);
        nix::sys::socket::listen(&socket, Backlog::MAXCONN).expect("listening");
        let listener = Arc::new(TcpListener::from(socket));
        let in_thread = Arc::clone(&listener);
        let (mode, asked, at_once) = (self.mode.clone(), self.asked.clone(), self.at_once.clone());
        let (questions, stop) = (self.questions.clone(), self.stop.clone());
        let thread = std::thread::spawn(move || {
            loop {
                let stream = in_thread.accept();
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let Ok((stream, _)) = stream else { continue };
                let mode = mode.lock().expect("no panic").clone();
                let (asked, questions, at_once) = (asked.clone(), questions.clone(), at_once.clone());
                std::thread::spawn(move || {
                    let now = at_once.now.fetch_add(1, Ordering::SeqCst) + 1;
                    at_once.most.fetch_max(now, Ordering::SeqCst);
                    if let Some(question) = hear(&stream) {
                        asked.fetch_add(1, Ordering::Relaxed);
                        questions.lock().expect("no panic").push(question.clone());
                        if let Mode::Late(time, _) = &mode {
                            std::thread::sleep(*time);
                        }
                        // before the client can see the end and come again
                        at_once.now.fetch_sub(1, Ordering::SeqCst);
                        let _ = say(&stream, &mode.about(&question)); // the client may be gone
                    }
                });
            }
        });
        *self.listening.lock().expect("no panic") = Some((listener, thread));
    }

    /// Nobody listens at its port any more, until [`Responder::up`].
    pub fn down(&self) {
        self.stop.store(true, Ordering::SeqCst);
        let listening = self.listening.lock().expect("no panic").take();
        if let Some((listener, thread)) = listening {
            // Closing it is not enough: a program that is being started elsewhere has it, up to its exec.
            shutdown(listener.as_raw_fd(), Shutdown::Both).expect("it listens");
            let _ = thread.join();
        }
    }

    /// It listens again.
    pub fn up(&self) {
        self.down();
        self.stop.store(false, Ordering::SeqCst);
        self.listen();
    }

    pub fn set(&self, mode: Mode) {
        *self.mode.lock().expect("no panic") = mode;
    }
    pub fn mode(&self) -> Mode {
        self.mode.lock().expect("no panic").clone()
    }
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
    /// The most questions that waited for an answer at once.
    pub fn most_at_once(&self) -> usize {
        self.at_once.most.load(Ordering::SeqCst)
    }
    /// What it was asked, head and body.
    pub fn questions(&self) -> Vec<Vec<u8>> {
        self.questions.lock().expect("no panic").clone()
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.down();
    }
}

/// A socket that shares its port with others of ours, and does not listen yet.
fn socket_at(address: SocketAddr) -> OwnedFd {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
    setsockopt(&socket, ReusePort, &true).expect("an option");
    setsockopt(&socket, ReuseAddr, &true).expect("an option");
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address)).expect("a port");
    socket
}

/// A whole question; none if the connection ends before.
fn hear(mut stream: &TcpStream) -> Option<Vec<u8>> {
    let mut question = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let length = stream.read(&mut buffer).ok().filter(|length| *length > 0)?;
        question.extend_from_slice(&buffer[..length]);
        let Some(end) = question.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&question[..end]).to_ascii_lowercase();
        let body = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let body: usize = body.and_then(|number| number.trim().parse().ok()).unwrap_or(0);
        if question.len() >= end + 4 + body {
            return Some(question);
        }
    }
}

fn say(mut stream: &TcpStream, mode: &Mode) -> std::io::Result<()> {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/ocsp-response\r\n";
    match mode {
        Mode::Answer(body) | Mode::Late(_, body) => {
            write!(stream, "{head}Content-Length: {}\r\n\r\n", body.len())?;
            stream.write_all(body)
        }
        Mode::Each(_) => Ok(()), // chosen by now
        Mode::Chunked(body) => {
            write!(stream, "{head}Transfer-Encoding: chunked\r\n\r\n")?;
            for chunk in body.chunks(100) {
                write!(stream, "{:x}\r\n", chunk.len())?;
                stream.write_all(chunk)?;
                write!(stream, "\r\n")?;
            }
            write!(stream, "0\r\n\r\n")
        }
        Mode::Status(status, field) => {
            write!(stream, "HTTP/1.1 {status}\r\n{field}\r\nContent-Length: 0\r\n\r\n")
        }
        Mode::Silent => {
            std::thread::sleep(Duration::from_secs(60));
            Ok(())
        }
        Mode::Dripping => loop {
            stream.write_all(b"H")?;
            std::thread::sleep(Duration::from_millis(200));
        },
        Mode::Huge => {
            write!(stream, "{head}\r\n")?;
            loop {
                stream.write_all(&[0; 65536])?;
            }
        }
        Mode::CutShort => write!(stream, "{head}Content-Length: 1000\r\n\r\nabc"),
        Mode::Reset => {
            let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
            setsockopt(stream, nix::sys::socket::sockopt::Linger, &linger)?;
            Ok(())
        }
    }
}
