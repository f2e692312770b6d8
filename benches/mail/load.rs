//! Messages from SMTP to a Maildir: timed until the last file lies there.

use super::server::{Program, Server, empty_run};
use anyhow::{Context, ensure};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// What a run came to.
pub struct Figures {
    /// Messages a second.
    pub per_second: f64,
    /// CPU of the server in milliseconds for each message.
    pub cpu_ms: f64,
}

/// The least messages of a run: the CPU of a server that forks is counted in ticks.
const LEAST: usize = 100;

/// Sends `messages` over each of `connections` at once, and again over new ones until there were enough.
pub fn run(program: &Program, connections: usize, messages: usize) -> anyhow::Result<Figures> {
    let idle = empty_run(program, "")?;
    let server = Server::start(program, "")?;
    let began = Instant::now();
    let turns = LEAST.div_ceil(connections * messages);
    for _ in 0..turns {
        send_all(server.port, connections, messages)?;
    }
    let total = turns * connections * messages;
    wait_for_files(&server.maildir(), total)?;
    let took = began.elapsed();
    let cpu = server.stop()?.cpu.saturating_sub(idle);
    Ok(Figures {
        per_second: total as f64 / took.as_secs_f64(),
        cpu_ms: cpu.as_secs_f64() * 1000.0 / total as f64,
    })
}

/// fsync and fdatasync calls for each message accepted and delivered, counted by strace.
pub fn fsyncs_per_message(program: &Program) -> anyhow::Result<Option<f64>> {
    if std::process::Command::new("strace").arg("-V").output().is_err() {
        return Ok(None);
    }
    let counts = tempfile::NamedTempFile::new()?;
    let path = counts.path().to_string_lossy().into_owned();
    let wrapper = ["strace", "-f", "-qq", "-e", "trace=fsync,fdatasync,syncfs", "-o", &path];
    let server = Server::start_under(program, "", &wrapper)?;
    let messages = 10; // more on one connection are only queued (smtp_accept_queue_per_connection)
    send_all(server.port, 1, messages)?;
    wait_for_files(&server.maildir(), messages)?;
    server.stop()?;
    let calls = fs::read_to_string(&path)?.lines().filter(|line| line.contains("sync")).count();
    Ok(Some(calls as f64 / messages as f64))
}

fn send_all(port: u16, connections: usize, messages: usize) -> anyhow::Result<()> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..connections).map(|_| scope.spawn(move || send(port, messages))).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|_| anyhow::bail!("client panicked")))
    })
}

fn send(port: u16, messages: usize) -> anyhow::Result<()> {
    let mut socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut replies = BufReader::new(socket.try_clone()?);
    expect(&mut replies, "220")?;
    socket.write_all(b"EHLO client.example\r\n")?;
    expect(&mut replies, "250")?;
    for number in 0..messages {
        let dialogue: [(&[u8], &str); 3] = [
            (b"MAIL FROM:<sender@client.example>\r\n", "250"),
            (b"RCPT TO:<box@bench.example>\r\n", "250"),
            (b"DATA\r\n", "354"),
        ];
        for (command, code) in dialogue {
            socket.write_all(command)?;
            expect(&mut replies, code)?;
        }
        let body = "A line of text as mail has them, of some seventy characters or so.\r\n".repeat(30);
        write!(
            socket,
            "From: sender@client.example\r\nTo: box@bench.example\r\nSubject: {number}\r\n\r\n{body}.\r\n"
        )?;
        expect(&mut replies, "250")?;
    }
    socket.write_all(b"QUIT\r\n")?;
    Ok(())
}

/// Reads one reply; it must have this code.
pub fn expect(replies: &mut impl BufRead, code: &str) -> anyhow::Result<()> {
    loop {
        let mut line = String::new();
        replies.read_line(&mut line).context("waiting for a reply")?;
        ensure!(line.starts_with(code), "expected {code}, got {line:?}");
        if line.as_bytes().get(3) != Some(&b'-') {
            return Ok(());
        }
    }
}

fn wait_for_files(directory: &Path, count: usize) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let there = fs::read_dir(directory)?.count();
        if there >= count {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "only {there} of {count} messages arrived within 120 s");
        std::thread::sleep(Duration::from_millis(2));
    }
}
