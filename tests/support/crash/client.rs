//! The other end of the SMTP connection.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

/// No reply takes longer, even on a busy machine with a traced server.
const PATIENCE: Duration = Duration::from_secs(30);

/// One connection; messages go to the users that are named.
pub struct Client {
    writer: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Client {
    /// Connects and greets. An error is a broken connection, or a reply that no greeting deserves.
    pub fn connect(port: u16) -> Result<Client, String> {
        let stream = TcpStream::connect(("127.0.0.1", port)).map_err(|e| e.to_string())?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(|e| e.to_string())?;
        let writer = stream.try_clone().map_err(|e| e.to_string())?;
        let mut client = Client { writer, reader: BufReader::new(stream) };
        for (command, code) in [("", "220"), ("EHLO crash.test\r\n", "250")] {
            let reply = client.say(command)?;
            if !reply.starts_with(code) {
                return Err(reply);
            }
        }
        Ok(client)
    }

    /// Sends a command (or nothing) and gives the last line of the reply.
    pub fn say(&mut self, command: &str) -> Result<String, String> {
        self.writer.write_all(command.as_bytes()).map_err(|e| e.to_string())?;
        loop {
            let mut reply = String::new();
            self.reader.read_line(&mut reply).map_err(|e| e.to_string())?;
            if !reply.ends_with('\n') {
                return Err("closed".into());
            }
            if reply.as_bytes().get(3) != Some(&b'-') {
                return Ok(reply);
            }
        }
    }

    /// Sends one message: the first reply that is not what a delivery needs, or the one to the end of the text.
    pub fn send(&mut self, to: &[&str], token: &str, lines: usize) -> Result<String, String> {
        let mut commands = vec![("MAIL FROM:<a@elsewhere.example>\r\n".to_owned(), "250")];
        commands.extend(to.iter().map(|to| (format!("RCPT TO:<{to}@test.example>\r\n"), "250")));
        commands.push(("DATA\r\n".to_owned(), "354"));
        for (command, wanted) in commands {
            let reply = self.say(&command)?;
            if !reply.starts_with(wanted) {
                return Ok(reply);
            }
        }
        let text = "0123456789012345678901234567890123456789\r\n".repeat(lines);
        self.say(&format!("Subject: {token}\r\n\r\n{text}.\r\n"))
    }
}

/// Sends one message to ann over a connection of its own; whether 250 came for it.
pub fn send_message(port: u16, token: &str, lines: usize) -> Result<bool, String> {
    let mut client = Client::connect(port)?;
    let reply = client.send(&["ann"], token, lines)?;
    let _ = client.writer.write_all(b"QUIT\r\n");
    Ok(reply.starts_with("250"))
}
