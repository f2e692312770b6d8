//! A daemon keeps a connection to a host for a while, for the next message to it (manual, differences from Exim).
//!
//! What is kept is closed properly: QUIT (and a TLS close) after a short while and when the daemon stops; a connection
//! that the peer closed meanwhile is no incident.

#[path = "support/ca.rs"]
mod ca;
#[path = "support/daemon.rs"]
mod daemon;

use ca::ca;
use daemon::{Daemon, Place, Program};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A daemon that sends everything to this port.
fn sender(port: u16, options: &str) -> Daemon {
    let text = format!(
        "acl_smtp_rcpt = accept\ntls_advertise_hosts =\nbegin routers\nall:\n  driver = manualroute\n  \
           route_list = * localhost::{port} byname\n  self = send\n  transport = out\n\
         begin transports\nout:\n  driver = smtp\n  allow_localhost\n{options}begin retry\n* * F,2h,15m\n"
    );
    Place::new(Program::Oxim, &text).daemon()
}

/// Hands a message over and waits until it is delivered; gives the log so far.
fn send(daemon: &Daemon, number: usize) -> String {
    let stream = TcpStream::connect(("127.0.0.1", daemon.port)).expect("the daemon listens");
    let mut reader = BufReader::new(stream.try_clone().expect("a copy"));
    let lines = [
        "",
        "HELO a.test",
        "MAIL FROM:<>",
        "RCPT TO:<x@far.test>",
        "DATA",
        "Subject: x\r\n\r\nText\r\n.",
        "QUIT",
    ];
    for line in lines {
        if !line.is_empty() {
            write!(&stream, "{line}\r\n").expect("writing");
        }
        let mut reply = String::new();
        reader.read_line(&mut reply).expect("a reply");
        assert!(reply.starts_with(['2', '3']), "{line}: {reply}");
    }
    wait_for("the delivery", || daemon.place.log().matches("Completed").count() >= number);
    daemon.place.log()
}

fn wait_for(what: &str, done: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < end, "waited for {what} in vain");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A server for any number of connections, which remembers what it heard: connection and command.
#[derive(Clone)]
struct Sink {
    port: u16,
    heard: Arc<Mutex<Vec<(usize, String)>>>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Sink {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let sink = Self { port, heard: Arc::default(), open: Arc::default() };
        let server = sink.clone();
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().flatten().enumerate() {
                server.open.lock().unwrap().push(stream.try_clone().unwrap());
                let server = server.clone();
                std::thread::spawn(move || server.serve(number, &stream));
            }
        });
        sink
    }

    fn serve(&self, number: usize, mut stream: &TcpStream) {
        let mut lines = BufReader::new(stream).lines();
        let mut reply = "220 sink";
        loop {
            if write!(stream, "{reply}\r\n").is_err() {
                return;
            }
            let ends = if reply.starts_with("354") { "." } else { "" };
            let Some(line) =
                lines.by_ref().map_while(Result::ok).find(|line| ends.is_empty() || line == ends)
            else {
                return self.note(number, "<end>");
            };
            self.note(number, &line);
            reply = match line.as_str() {
                "DATA" => "354 go",
                "QUIT" => "221 bye",
                _ => "250 ok",
            };
            if line == "QUIT" {
                let _ = write!(stream, "{reply}\r\n");
                // the copy in `open` would keep it open
                return drop(stream.shutdown(std::net::Shutdown::Both));
            }
        }
    }

    fn note(&self, number: usize, what: &str) {
        self.heard.lock().unwrap().push((number, what.to_owned()));
    }

    fn count(&self, what: &str) -> usize {
        self.heard.lock().unwrap().iter().filter(|(_, heard)| heard.starts_with(what)).count()
    }

    fn connections(&self) -> usize {
        self.open.lock().unwrap().len()
    }

    fn close_all(&self) {
        for stream in self.open.lock().unwrap().iter() {
            stream.shutdown(std::net::Shutdown::Both).unwrap();
        }
    }
}

#[test]
fn the_next_message_takes_the_connection_and_quit_follows_when_none_comes() {
    let sink = Sink::start();
    let daemon = sender(sink.port, "");
    send(&daemon, 1);
    let log = send(&daemon, 2);
    assert_eq!((sink.connections(), sink.count("MAIL"), sink.count("EHLO")), (1, 2, 1), "{log}");
    assert_eq!(log.matches("[127.0.0.1] C=").count(), 1, "{log}");
    assert_eq!(
        log.matches("[127.0.0.1]* C=").count(),
        1,
        "the second says that the connection was used again: {log}"
    );
    assert_eq!(sink.count("QUIT"), 0);
    wait_for("QUIT", || sink.count("QUIT") == 1);
}

#[test]
fn a_connection_carries_as_many_messages_as_connection_max_messages_says() {
    let sink = Sink::start();
    let daemon = sender(sink.port, "  connection_max_messages = 2\n");
    for number in 1..=3 {
        send(&daemon, number);
    }
    assert_eq!((sink.connections(), sink.count("MAIL")), (2, 3));
    wait_for("QUIT", || sink.count("QUIT") == 2);
}

#[test]
fn a_daemon_that_is_told_to_stop_says_quit_first() {
    let sink = Sink::start();
    let daemon = sender(sink.port, "");
    send(&daemon, 1);
    assert_eq!(sink.count("QUIT"), 0);
    drop(daemon);
    wait_for("QUIT", || sink.count("QUIT") == 1);
    assert_eq!(sink.count("<end>"), 0, "the connection ended without QUIT");
}

#[test]
fn a_kept_connection_that_the_peer_closes_is_no_incident() {
    let sink = Sink::start();
    let daemon = sender(sink.port, "");
    send(&daemon, 1);
    sink.close_all();
    let log = send(&daemon, 2);
    assert_eq!(sink.connections(), 2);
    assert_eq!(log.matches("[127.0.0.1] C=").count(), 2, "{log}");
    assert!(!log.contains("==") && !log.contains("H=localhost [127.0.0.1]:"), "{log}");
    assert!(!daemon.place.path("log/paniclog").exists());
}

/// A server with TLS that logs how its connections end.
fn tls_receiver() -> Daemon {
    let text = "acl_smtp_rcpt = accept\nacl_smtp_data = discard\nlog_selector = +smtp_connection\n\
                tls_advertise_hosts = *\ntls_certificate = @DIR@/chain.pem\ntls_privatekey = @DIR@/key.pem\n";
    let place = Place::new(Program::Oxim, text);
    for (from, to) in [("leaf-chain.pem", "chain.pem"), ("leaf.key", "key.pem")] {
        std::fs::write(place.path(to), ca().read(from)).expect("writing");
    }
    place.daemon()
}

#[test]
fn a_tls_session_serves_one_message_where_the_options_say_so_and_a_clear_one_more() {
    let far = tls_receiver();
    for option in ["hosts_nopass_tls", "hosts_noproxy_tls"] {
        let only_one = format!("  {option} = *\n");
        let daemon =
            sender(far.port, &format!("  hosts_require_tls = *\n  tls_verify_certificates =\n{only_one}"));
        send(&daemon, 1);
        let log = send(&daemon, 2);
        assert_eq!(log.matches("[127.0.0.1] X=TLS").count(), 2, "{log}");
        let sink = Sink::start();
        let daemon = sender(sink.port, &only_one);
        send(&daemon, 1);
        send(&daemon, 2);
        assert_eq!((sink.connections(), sink.count("MAIL")), (1, 2));
    }
}

#[test]
fn kept_tls_connections_are_closed_as_tls_asks_for() {
    let far = tls_receiver();
    let daemon = sender(far.port, "  hosts_require_tls = *\n  tls_verify_certificates =\n");
    send(&daemon, 1);
    let log = send(&daemon, 2);
    assert_eq!(log.matches("[127.0.0.1]* X=TLS").count(), 1, "{log}");
    far.place.wait_for_log("closed by QUIT");
    send(&daemon, 3);
    drop(daemon);
    wait_for("the second QUIT", || far.place.log().matches("closed by QUIT").count() == 2);
    let log = far.place.log();
    let (_, since) = log.split_once(" <= ").expect("a message came in");
    assert!(!since.contains("TLS error") && !since.contains(" lost"), "{log}");
}

#[test]
fn a_kept_tls_connection_that_the_peer_closes_is_no_incident() {
    let far = tls_receiver();
    let daemon = sender(far.port, "  hosts_require_tls = *\n  tls_verify_certificates =\n");
    send(&daemon, 1);
    let far = far.restarted();
    let log = send(&daemon, 2);
    assert_eq!(log.matches("[127.0.0.1] X=TLS").count(), 2, "{log}");
    assert!(!log.contains("==") && !log.contains("H=localhost [127.0.0.1]:"), "{log}");
    drop(far);
}
