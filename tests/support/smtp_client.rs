//! SMTP clients for tests of a running daemon: bare sockets, our own TLS, and openssl's client.
#![allow(dead_code, reason = "each test binary uses its part")]

use oxim::mail::envelope::OcspState;
use oxim::tls::{ClientRequest, ClientSettings, ClientTls, Verify};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

/// A client that speaks clear text.
pub struct Smtp(BufReader<TcpStream>);

impl Smtp {
    pub fn connect(port: u16) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut smtp = Self(BufReader::new(socket));
        assert!(smtp.reply().starts_with("220 "));
        smtp
    }
    /// One reply, all its lines; empty at the end.
    pub fn reply(&mut self) -> String {
        let mut all = String::new();
        loop {
            let start = all.len();
            if self.0.read_line(&mut all).unwrap_or(0) == 0 || all.as_bytes()[start..].get(3) != Some(&b'-') {
                return all;
            }
        }
    }
    pub fn send(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
    }
    pub fn say(&mut self, text: &str) -> String {
        self.send(text);
        self.reply()
    }
    pub fn into_socket(self) -> TcpStream {
        self.0.into_inner()
    }
    /// As far as `220 TLS go ahead`.
    pub fn starttls(port: u16) -> TcpStream {
        let mut smtp = Self::connect(port);
        assert!(smtp.say("EHLO client.test\r\n").contains("STARTTLS"));
        assert!(smtp.say("STARTTLS\r\n").starts_with("220 "));
        smtp.0.into_inner()
    }
}

/// What openssl's client hears that says these lines, each after a pause.
pub fn openssl(port: u16, arguments: &str, lines: &[&str]) -> String {
    let says: Vec<String> = lines.iter().map(|line| format!("printf '{line}'; sleep 0.3;")).collect();
    let command = format!(
        "({}) | timeout 20 openssl s_client -connect 127.0.0.1:{port} -starttls smtp {arguments} 2>&1",
        says.join(" ")
    );
    let output = Command::new("sh").args(["-c", &command]).stdin(Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// One session over TLS, or one that breaks off in the handshake. What the client saw of the certificate's status.
pub fn shake(port: u16, broken: bool) -> OcspState {
    let mut socket = Smtp::starttls(port);
    if broken {
        socket.write_all(b"this is no TLS\r\n").unwrap();
        let _ = socket.read(&mut [0; 100]);
        return OcspState::NotRequested;
    }
    let settings = ClientSettings::default();
    let request = ClientRequest {
        settings: &settings,
        ciphers: None,
        sni: Some(b"mx.test"),
        verify: Verify::No,
        host_name: None,
        request_ocsp: true,
        require_ocsp: false,
        require_status: false,
        registry: None,
        resume: false,
        deadline: Some(Instant::now() + Duration::from_secs(20)),
        on_connect: false,
        now: SystemTime::now(),
        notify: &|_| {},
        terms: oxim::tls::ClientTerms::default(),
    };
    let (mut stream, info) = ClientTls::new().connect(socket, &request).unwrap();
    stream.write_all(b"QUIT\r\n").unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"221 ");
    info.ocsp
}
