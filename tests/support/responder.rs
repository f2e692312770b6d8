//! An OCSP responder that does as it is told: it answers every question with what its mode says, well or badly.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How it behaves.
#[derive(Clone, Debug)]
pub enum Mode {
    /// Answers with these bytes as the body.
    Answer(Vec<u8>),
    /// The same in chunks of HTTP/1.1.
    Chunked(Vec<u8>),
    /// Another status, with a field.
    Status(&'static str, &'static str),
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

/// It listens as long as it lives.
pub struct Responder {
    pub port: u16,
    mode: Arc<Mutex<Mode>>,
    asked: Arc<AtomicUsize>,
    questions: Arc<Mutex<Vec<Vec<u8>>>>,
    stop: Arc<AtomicBool>,
}

impl Responder {
    pub fn start(mode: Mode) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let responder = Self {
            port,
            mode: Arc::new(Mutex::new(mode)),
            asked: Arc::default(),
            questions: Arc::default(),
            stop: Arc::default(),
        };
        let (mode, asked) = (responder.mode.clone(), responder.asked.clone());
        let (questions, stop) = (responder.questions.clone(), responder.stop.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let mode = mode.lock().expect("no panic").clone();
                let (asked, questions) = (asked.clone(), questions.clone());
                std::thread::spawn(move || {
                    if let Some(question) = hear(&stream) {
                        asked.fetch_add(1, Ordering::Relaxed);
                        questions.lock().expect("no panic").push(question);
                        let _ = say(stream, &mode); // the client may be gone
                    }
                });
            }
        });
        responder
    }

    pub fn set(&self, mode: Mode) {
        *self.mode.lock().expect("no panic") = mode;
    }
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }
    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
    /// What it was asked, head and body.
    pub fn questions(&self) -> Vec<Vec<u8>> {
        self.questions.lock().expect("no panic").clone()
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port)); // wakes it
    }
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

fn say(mut stream: TcpStream, mode: &Mode) -> std::io::Result<()> {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/ocsp-response\r\n";
    match mode {
        Mode::Answer(body) => {
            write!(stream, "{head}Content-Length: {}\r\n\r\n", body.len())?;
            stream.write_all(body)
        }
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
            nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::Linger, &linger)?;
            Ok(())
        }
    }
}
