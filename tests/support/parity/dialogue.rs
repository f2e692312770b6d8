//! An SMTP client that says the lines of a case and writes down both sides, and a scripted server.
//!
//! Client lines: `EHLO x` waits for the reply; a line that begins with `+ ` is sent without waiting;
//! `wait` reads one more reply; `close` closes; `raw TEXT` sends with `\r \n \0` escapes and no line
//! end. After a 354 the lines up to a single `.` are sent as text.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A reply that does not come in this time fails the case.
const REPLY_DEADLINE: Duration = Duration::from_secs(20);

/// Says the lines and returns the conversation with `C: ` and `S: ` in front of each line.
pub fn talk(stream: TcpStream, script: &str) -> String {
    let _ = stream.set_read_timeout(Some(REPLY_DEADLINE));
    let _ = stream.set_nodelay(true);
    match stream.try_clone() {
        Ok(writer) => converse(BufReader::new(stream), writer, script, true),
        Err(e) => format!("S: <{e}>\n"),
    }
}

/// As [`talk`], over any two ends; `greeting`: the server speaks first.
pub fn converse(mut reader: impl BufRead, mut writer: impl Write, script: &str, greeting: bool) -> String {
    let mut said = String::new();
    if greeting && !read_reply(&mut reader, &mut said) {
        return said;
    }
    let mut in_text = false;
    for line in script.lines() {
        let (text, waits) = match line {
            "close" => return said,
            "wait" => {
                read_reply(&mut reader, &mut said);
                continue;
            }
            _ if in_text => (format!("{line}\r\n"), line == "."),
            _ => match (line.strip_prefix("+ "), line.strip_prefix("raw ")) {
                (Some(text), _) => (format!("{text}\r\n"), false),
                (_, Some(text)) => (unescape(text), false),
                _ => (format!("{line}\r\n"), true),
            },
        };
        said.push_str(&format!("C: {line}\n"));
        if writer.write_all(text.as_bytes()).and_then(|()| writer.flush()).is_err() {
            said.push_str("S: <cannot be written>\n");
            return said;
        }
        if waits {
            let before = said.len();
            if !read_reply(&mut reader, &mut said) {
                return said;
            }
            in_text = said[before..].starts_with("S: 354");
        }
    }
    drop(writer);
    read_rest(&mut reader, &mut said);
    said
}

/// Reads one reply of one or more lines; false when the connection ended.
fn read_reply(reader: &mut impl BufRead, said: &mut String) -> bool {
    loop {
        let mut line = Vec::new();
        match reader.read_until(b'\n', &mut line) {
            Ok(0) => {
                said.push_str("S: <closed>\n");
                return false;
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                said.push_str("S: <no answer>\n");
                return false;
            }
            Err(_) => {
                said.push_str("S: <closed>\n");
                return false;
            }
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        said.push_str(&format!("S: {}\n", text.strip_suffix('\r').unwrap_or(text)));
        if line.get(3) != Some(&b'-') {
            return true;
        }
    }
}

fn read_rest(reader: &mut impl Read, said: &mut String) {
    let mut rest = Vec::new();
    let _ = reader.read_to_end(&mut rest);
    for line in String::from_utf8_lossy(&rest).lines() {
        said.push_str(&format!("S: {line}\n"));
    }
}

fn unescape(text: &str) -> String {
    text.replace("\\r", "\r").replace("\\n", "\n").replace("\\0", "\0")
}

/// A server that answers by a script and remembers what it was told.
///
/// Each line of the script is `PREFIX: REPLY`: the first line whose prefix begins the command gives
/// the answer (`connect` the greeting, `.` the end of the text, `close` closes). Without a line: 250.
pub struct Sink {
    heard: Arc<Mutex<String>>,
    open: Arc<Mutex<usize>>,
}

impl Sink {
    /// Listens on the port at once and serves until the test program ends.
    pub fn start(port: u16, script: &str) -> std::io::Result<Sink> {
        let listener = TcpListener::bind(("127.0.0.1", port))?;
        let heard = Arc::new(Mutex::new(String::new()));
        let open = Arc::new(Mutex::new(0));
        let rules: Arc<Vec<(String, String)>> = Arc::new(
            script
                .lines()
                .filter_map(|l| l.split_once(": "))
                .map(|(prefix, reply)| (prefix.to_owned(), reply.to_owned()))
                .collect(),
        );
        let sink = Sink { heard: heard.clone(), open: open.clone() };
        std::thread::spawn(move || {
            // one connection after the other, so that the record has one order
            for stream in listener.incoming().flatten() {
                if let Ok(mut open) = open.lock() {
                    *open += 1;
                }
                let mut said = String::from("-- connection\n");
                serve(stream, &rules, &mut said);
                if let (Ok(mut heard), Ok(mut open)) = (heard.lock(), open.lock()) {
                    heard.push_str(&said);
                    *open -= 1;
                }
            }
        });
        Ok(sink)
    }

    /// Everything heard until now; waits until no connection is open.
    pub fn heard(&self) -> String {
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline && self.open.lock().is_ok_and(|open| *open > 0) {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.heard.lock().map(|heard| heard.clone()).unwrap_or_default()
    }
}

fn serve(stream: TcpStream, rules: &[(String, String)], said: &mut String) {
    let _ = stream.set_read_timeout(Some(REPLY_DEADLINE));
    let Ok(mut writer) = stream.try_clone() else { return };
    let mut reader = BufReader::new(stream);
    let reply = |command: &str, default: &str| {
        let rule = rules.iter().find(|(prefix, _)| command.starts_with(prefix.as_str()));
        rule.map_or(default.to_owned(), |(_, reply)| reply.clone()).replace("\\n", "\r\n")
    };
    let mut answer = reply("connect", "220 sink.test.example ESMTP");
    let mut in_text = false;
    loop {
        if answer == "close" || writer.write_all(format!("{answer}\r\n").as_bytes()).is_err() {
            return;
        }
        loop {
            let mut line = Vec::new();
            match reader.read_until(b'\n', &mut line) {
                Ok(n) if n > 0 => {}
                _ => return said.push_str("<closed>\n"),
            }
            let line = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
            said.push_str(&format!("{line}\n"));
            if !in_text {
                answer = reply(&line, default_reply(&line));
                in_text = answer.starts_with("354");
                break;
            }
            if line == "." {
                in_text = false;
                answer = reply(".", "250 OK id=sink");
                break;
            }
        }
    }
}

fn default_reply(command: &str) -> &'static str {
    match command.get(..4).unwrap_or_default().to_ascii_uppercase().as_str() {
        "EHLO" => "250-sink.test.example\\n250-SIZE\\n250 PIPELINING",
        "DATA" => "354 go on",
        "QUIT" => "221 bye",
        _ => "250 OK",
    }
}
