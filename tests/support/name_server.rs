//! A name server on loopback, port 53, for programs that read resolv.conf: what it says stands in a file, which is read
//! anew for each question.
//!
//! A line of the file is `NAME TYPE DATA... [WORD...]`: A, AAAA, CNAME, MX, TXT and TLSA (usage, selector, matching type,
//! hexadecimal data). The answers are said to be genuine (AD) but where `insecure` stands behind a record; `servfail` and
//! `silent` in place of data fail. A name of which the file knows nothing does not exist.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;

/// Names, types and numbers (RFC 1035, RFC 3596, RFC 6698).
const TYPES: [(&str, u16); 6] = [("A", 1), ("CNAME", 5), ("MX", 15), ("TXT", 16), ("AAAA", 28), ("TLSA", 52)];
/// An alias of an alias of ... ends.
const MAX_ALIASES: usize = 8;
const SERVFAIL: u16 = 2;
const NXDOMAIN: u16 = 3;

/// It ends when it is dropped.
pub struct NameServer {
    pub address: Ipv4Addr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl NameServer {
    /// Starts, at an address of its own: only root may listen at port 53.
    pub fn start(zone: PathBuf) -> std::io::Result<Self> {
        let socket = free_address()?;
        let std::net::IpAddr::V4(address) = socket.local_addr()?.ip() else {
            unreachable!("it is bound to IPv4")
        };
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut question = [0; 2048];
            while let Ok((length, peer)) = socket.recv_from(&mut question) {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                if let Some(answer) = answer(&question[..length], &zone) {
                    let _ = socket.send_to(&answer, peer);
                }
            }
        });
        Ok(Self { address, stop, thread: Some(thread) })
    }

    /// A resolv.conf that leads to it.
    pub fn resolv_conf(&self, options: &str) -> String {
        format!("nameserver {}\noptions timeout:1 attempts:1 {options}\n", self.address)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let woken =
            UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.send_to(b"x", (self.address, 53)));
        if woken.is_ok() {
            let _ = self.thread.take().map(JoinHandle::join);
        }
    }
}

/// One of 127.0.0.0/8 that nobody answers at.
fn free_address() -> std::io::Result<UdpSocket> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut last = None;
    for _ in 0..1000 {
        let [_, _, high, low] = (std::process::id() * 64 + NEXT.fetch_add(1, Ordering::SeqCst)).to_be_bytes();
        match UdpSocket::bind((Ipv4Addr::new(127, 53, high, low.max(1)), 53)) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = Some(error),
        }
    }
    Err(last.expect("there were attempts"))
}

struct Record {
    name: String,
    kind: u16,
    data: Vec<String>,
}

fn records(zone: &Path) -> Vec<Record> {
    let text = std::fs::read_to_string(zone).unwrap_or_default();
    let read = |line: &str| {
        let mut words = line.split_whitespace().map(str::to_owned);
        let name = words.next()?.to_ascii_lowercase();
        let kind = words.next()?;
        let kind = TYPES.iter().find(|(known, _)| *known == kind).map(|(_, number)| *number)?;
        Some(Record { name, kind, data: words.collect() })
    };
    text.lines().filter_map(read).collect()
}

impl Record {
    fn says(&self, word: &str) -> bool {
        self.data.iter().any(|said| said == word)
    }

    fn has_data(&self) -> bool {
        !["servfail", "silent"].contains(&self.data.first().map_or("silent", String::as_str))
    }

    fn wire(&self) -> Vec<u8> {
        let word = |at: usize| self.data.get(at).map_or("", String::as_str);
        let number = |at: usize| word(at).parse::<u8>().unwrap_or(255);
        match self.kind {
            1 => word(0).parse::<Ipv4Addr>().map_or_else(|_| Vec::new(), |address| address.octets().to_vec()),
            28 => word(0).parse::<std::net::Ipv6Addr>().map_or_else(|_| Vec::new(), |a| a.octets().to_vec()),
            5 => wire_name(word(0)),
            15 => [&[0, number(0)], wire_name(word(1)).as_slice()].concat(),
            16 => [&[u8::try_from(word(0).len()).unwrap_or(0)], word(0).as_bytes()].concat(),
            _ => [&[number(0), number(1), number(2)], hexadecimal(word(3)).as_slice()].concat(),
        }
    }
}

fn hexadecimal(text: &str) -> Vec<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).unwrap_or(0) as u8;
    text.as_bytes().chunks_exact(2).map(|pair| digit(&pair[0]) << 4 | digit(&pair[1])).collect()
}

fn wire_name(name: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        wire.push(u8::try_from(label.len()).unwrap_or(63));
        wire.extend_from_slice(label.as_bytes());
    }
    wire.push(0);
    wire
}

/// The name of a question, in lower case, its type, and where it ends.
fn question_of(message: &[u8]) -> Option<(String, u16, usize)> {
    let (mut at, mut labels) = (12, Vec::new());
    loop {
        let length = usize::from(*message.get(at)?);
        let label = message.get(at + 1..at + 1 + length)?;
        at += 1 + length;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
    }
    let kind = message.get(at..at + 2)?;
    Some((labels.join("."), u16::from_be_bytes([kind[0], kind[1]]), at + 4))
}

/// The answer in the form of RFC 1035; none where nothing is said.
fn answer(message: &[u8], zone: &Path) -> Option<Vec<u8>> {
    let (mut name, kind, end) = question_of(message)?;
    let records = records(zone);
    let (mut genuine, mut code, mut found) = (true, 0, Vec::new());
    for _ in 0..MAX_ALIASES {
        let here: Vec<&Record> = records.iter().filter(|record| record.name == name).collect();
        let wanted: Vec<&&Record> = here.iter().filter(|record| record.kind == kind).collect();
        if wanted.iter().any(|record| record.says("silent")) {
            return None;
        }
        if wanted.iter().any(|record| record.says("servfail")) {
            (code, found) = (SERVFAIL, Vec::new());
            break;
        }
        let alias = here.iter().find(|record| record.kind == 5);
        let chosen = if wanted.is_empty() { alias.into_iter().collect() } else { wanted.clone() };
        genuine &= !chosen.iter().any(|record| record.says("insecure"));
        found.extend(chosen.iter().filter(|record| record.has_data()).map(|record| {
            let data = record.wire();
            let length = u16::try_from(data.len()).unwrap_or(0);
            let fixed =
                [&record.kind.to_be_bytes()[..], &[0, 1, 0, 0, 1, 44], &length.to_be_bytes()].concat();
            [wire_name(&name), fixed, data].concat()
        }));
        let above = format!(".{name}");
        if here.is_empty() && !records.iter().any(|record| record.name.ends_with(&above)) {
            code = NXDOMAIN;
        }
        match alias.filter(|_| wanted.is_empty()) {
            Some(alias) => name = alias.data.first()?.to_ascii_lowercase(),
            None => break,
        }
    }
    // QR, RD, RA
    let flags = 0x8180 | code | if genuine && code != SERVFAIL { 0x20 } else { 0 };
    let count = u16::try_from(found.len()).unwrap_or(0);
    let head = [&message[..2], &flags.to_be_bytes()[..], &[0, 1], &count.to_be_bytes(), &[0; 4]].concat();
    Some([head.as_slice(), message.get(12..end)?, &found.concat()].concat())
}
