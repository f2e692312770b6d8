//! `openssl s_server` as a mail server: TLS from the first byte, the staple from a file. It speaks no SMTP itself, but
//! sends what it reads from its standard input and prints what it hears, so the dialogue is held here.

use super::ca::ca;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// A server for one session, with the certificate `leaf`.
pub struct SServer {
    pub port: u16,
    child: Child,
    heard: Receiver<String>,
}

impl SServer {
    /// `version` is an option of s_server; without a staple none is sent.
    pub fn start(version: &str, staple: Option<&Path>) -> Self {
        let mut command = Command::new("openssl");
        command.args(["s_server", "-accept", "127.0.0.1:0", "-naccept", "1", version]);
        command.arg("-cert").arg(ca().path("leaf.pem")).arg("-key").arg(ca().path("leaf.key"));
        command.arg("-cert_chain").arg(ca().path("inter.pem"));
        if let Some(file) = staple {
            command.arg("-status_file").arg(file);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the openssl program");
        let mut says = child.stdin.take().expect("piped");
        let mut lines = BufReader::new(child.stdout.take().expect("piped"));
        let port = loop {
            // "ACCEPT 127.0.0.1:40123"
            let line = next(&mut lines).expect("openssl says where it listens");
            if let Some(port) = line.strip_prefix("ACCEPT ").and_then(|address| address.rsplit(':').next()) {
                break port.trim().parse().expect("a port");
            }
        };
        let (tell, heard) = channel();
        std::thread::spawn(move || {
            let mut in_data = false;
            while let Some(line) = next(&mut lines) {
                // The one ends its lines with CR LF, the other with LF.
                let answer = match line.strip_suffix("\r\n") {
                    None if line.starts_with("CIPHER is ") => "220 s_server.test ESMTP",
                    None => continue,
                    Some(line) => {
                        let _ = tell.send(line.to_owned());
                        match line.split([' ', ':']).next().unwrap_or_default() {
                            "." => "250 taken",
                            _ if in_data => continue,
                            "DATA" => "354 go on",
                            "QUIT" => "221 bye",
                            _ => "250 well",
                        }
                    }
                };
                in_data = answer.starts_with("354");
                // A client that is gone ends the session, not the test.
                let _ = says.write_all(format!("{answer}\r\n").as_bytes());
            }
        });
        Self { port, child, heard }
    }

    /// What the client said in the session, once that is over.
    pub fn heard(self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            match self.heard.recv_timeout(Duration::from_secs(20)) {
                Ok(line) => lines.push(line),
                // openssl has closed its output.
                Err(RecvTimeoutError::Disconnected) => return lines,
                Err(RecvTimeoutError::Timeout) => panic!("the session does not end: {lines:?}"),
            }
        }
    }
}

impl Drop for SServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn next(lines: &mut impl BufRead) -> Option<String> {
    let mut line = Vec::new();
    lines.read_until(b'\n', &mut line).ok().filter(|count| *count > 0)?;
    Some(String::from_utf8_lossy(&line).into_owned())
}
