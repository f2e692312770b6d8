//! A daemon that is looked at as an administrator would: by its numbers, and by `--certificates`.
#![allow(dead_code, reason = "each test binary uses its part")]

use crate::ca::ca;
use crate::daemon::{Daemon, Place, Program};
use crate::json::{self, Json};
use crate::openmetrics::{Numbers, scrape};
use crate::smtp_client::Smtp;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::Output;
use std::time::{Duration, Instant};

/// Virtual hosts by SNI, each with a file for its proof; mail for `defer@` waits, mail for `fail@` fails.
pub const SERVER: &str = "acl_smtp_rcpt = accept\nacl_not_smtp = accept\ntls_advertise_hosts = *\n\
     tls_certificate = @DIR@/${if def:tls_in_sni{$tls_in_sni}{leaf}}-chain.pem\n\
     tls_privatekey = @DIR@/${if def:tls_in_sni{$tls_in_sni}{leaf}}.key\n@OCSP@\n@MORE@\n\
     begin routers\nwait:\n  driver = redirect\n  local_parts = defer\n  data = :defer: later\n  allow_defer\n\
     no:\n  driver = redirect\n  local_parts = fail\n  data = :fail: never\n  allow_fail\n\
     all:\n  driver = accept\n  transport = box\nbegin transports\nbox:\n  driver = appendfile\n  \
     directory = @DIR@/mail\n  maildir_format\n  user = @USER@\nbegin retry\n* * F,2h,15m\n";

pub fn place(more: &str) -> Place {
    let ocsp = match oxim::tls::OCSP {
        true => "tls_ocsp_file = @DIR@/${if def:tls_in_sni{$tls_in_sni}{leaf}}.der",
        false => "",
    };
    let place = Place::new(Program::Oxim, &SERVER.replace("@OCSP@", ocsp).replace("@MORE@", more));
    for name in ["leaf", "staple", "other"] {
        for file in [format!("{name}-chain.pem"), format!("{name}.key")] {
            fs::write(place.path(&file), ca().read(&file)).unwrap();
        }
    }
    place
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A daemon that has started: the master listens before its workers are there.
pub fn started(place: Place) -> Daemon {
    let daemon = place.daemon();
    daemon.place.wait_for_log("daemon started");
    daemon
}

/// A daemon whose numbers are at this port.
pub fn with_port() -> (Daemon, u16) {
    let port = free_port();
    (started(place(&format!("openmetrics_listen = 127.0.0.1:{port}"))), port)
}

pub fn numbers(port: u16) -> Numbers {
    scrape(TcpStream::connect(("127.0.0.1", port)).unwrap()).unwrap()
}

/// Waits until the numbers are as they should be.
pub fn wait_for(port: u16, what: &str, good: impl Fn(&Numbers) -> bool) -> Numbers {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let found = TcpStream::connect(("127.0.0.1", port)).map_err(|e| e.to_string()).and_then(scrape);
        match found {
            Ok(numbers) if good(&numbers) => return numbers,
            found => assert!(Instant::now() < end, "waited for {what} in vain: {found:#?}"),
        }
        std::thread::sleep(Duration::from_millis(30));
    }
}

pub fn send(port: u16, recipient: &str) {
    let mut smtp = Smtp::connect(port);
    for line in ["HELO x\r\n", "MAIL FROM:<a@x.test>\r\n", &format!("RCPT TO:<{recipient}>\r\n"), "DATA\r\n"]
    {
        let reply = smtp.say(line);
        assert!(reply.starts_with(['2', '3']), "{line}: {reply}");
    }
    assert!(smtp.say("Subject: x\r\n\r\nText\r\n.\r\n").starts_with("250 OK id="));
    smtp.say("QUIT\r\n");
}

pub fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
}

/// `--certificates` of whoever calls, root or the owner of the daemon.
pub fn ask(place: &Place, more: &[&str]) -> Output {
    place.run(&[&["--certificates"], more].concat(), b"")
}

pub fn in_json(place: &Place) -> Json {
    let output = ask(place, &["--json"]);
    assert!(output.status.success(), "{output:?}");
    json::read(&String::from_utf8(output.stdout).unwrap()).unwrap()
}

pub fn certificates(place: &Place) -> Vec<Json> {
    in_json(place).get("certificates").list().to_vec()
}

/// `2026-11-25T04:05:06Z`
pub fn is_time(json: &Json) -> bool {
    let text = json.text();
    text.len() == 20 && text.ends_with('Z') && text.parse::<jiff::Timestamp>().is_ok()
}
