//! Peers that mean harm, at the TLS layer of the running daemon: each is answered or dropped in time, and afterwards the
//! daemon serves others and holds no more than before.

#[path = "support/ca.rs"]
mod ca;
#[path = "support/daemon.rs"]
mod daemon;
#[path = "support/smtp_client.rs"]
mod smtp_client;

use ca::{ca, good};
use daemon::{Daemon, Place, Program, have, is_root};
use smtp_client::{Smtp, openssl};
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::{Duration, Instant};

const SERVER: &str = "acl_smtp_rcpt = accept\ntls_advertise_hosts = *\nsmtp_receive_timeout = 3s\n\
     smtp_accept_max = 20\nqueue_only\n\
     tls_certificate = @DIR@/chain.pem\ntls_privatekey = @DIR@/key.pem\n@OCSP@\
     begin routers\nall:\n  driver = accept\n  transport = box\nbegin transports\nbox:\n  driver = appendfile\n  \
     directory = @DIR@/mail\n  maildir_format\n  user = @USER@\nbegin retry\n* * F,2h,15m\n";

fn server() -> Daemon {
    server_with("")
}

/// With further options of the main section.
fn server_with(options: &str) -> Daemon {
    let ocsp = if cfg!(ocsp_stapling) { "tls_ocsp_file = @DIR@/proof.der\n" } else { "" };
    let place = Place::new(Program::Oxim, &SERVER.replace("@OCSP@", &format!("{ocsp}{options}")));
    for (from, to) in [("leaf-chain.pem", "chain.pem"), ("leaf.key", "key.pem")] {
        fs::write(place.path(to), ca().read(from)).unwrap();
    }
    fs::write(place.path("proof.der"), ca().proof(&good("leaf"))).unwrap();
    fs::set_permissions(ca().path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let daemon = place.daemon();
    daemon.place.wait_for_log("daemon started");
    daemon
}

/// Others are served, over TLS.
fn serves(daemon: &Daemon) {
    let seen = openssl(daemon.port, "-quiet", &["QUIT\\r\\n"]);
    assert!(seen.contains("221 "), "{seen}; {}", daemon.place.log());
}

/// Everything up to the end that the server makes; the time it took to make it.
fn rest(socket: &mut TcpStream) -> (Vec<u8>, Duration) {
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let (start, mut all) = (Instant::now(), Vec::new());
    let end = socket.read_to_end(&mut all);
    let timed_out = end.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
    assert!(!timed_out, "the server keeps the connection");
    (all, start.elapsed())
}

#[test]
fn what_is_sent_with_starttls_is_an_error_and_never_a_command() {
    let daemon = server();
    let mut smtp = Smtp::connect(daemon.port);
    smtp.say("EHLO x\r\n");
    assert!(smtp.say("STARTTLS\r\nMAIL FROM:<a@b.test>\r\n").starts_with("554 "));
    assert_eq!(smtp.reply(), "", "and the connection is closed");
    // Where commands may come too early, these may not.
    let lax = server_with("no_smtp_enforce_sync\n");
    let mut smtp = Smtp::connect(lax.port);
    smtp.say("EHLO x\r\n");
    assert!(smtp.say("STARTTLS\r\nMAIL FROM:<a@b.test>\r\n").starts_with("554 Security failure"));
    assert_eq!(smtp.reply(), "");
    // Clear text after `go ahead` is no TLS: an alert, the end, and no SMTP reply.
    let mut socket = Smtp::starttls(daemon.port);
    socket.write_all(b"MAIL FROM:<a@b.test>\r\nQUIT\r\n").unwrap();
    let (all, _) = rest(&mut socket);
    assert!(!all.starts_with(b"250") && !all.starts_with(b"5"), "{all:?}");
    // What was said in clear before is forgotten.
    let seen = openssl(daemon.port, "-quiet", &["RCPT TO:<x@y.test>\\r\\n", "QUIT\\r\\n"]);
    assert!(seen.contains("503 "), "{seen}");
    serves(&daemon);
}

#[test]
fn a_handshake_that_stalls_or_drips_ends_with_smtp_receive_timeout() {
    let daemon = server();
    let mut silent = Smtp::starttls(daemon.port);
    let mut half = Smtp::starttls(daemon.port);
    half.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).unwrap();
    let mut drip = Smtp::starttls(daemon.port);
    let mut dripping = drip.try_clone().unwrap();
    let drops = thread::spawn(move || {
        let hello = [&[22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[0; 400]].concat();
        hello.iter().all(|byte| {
            thread::sleep(Duration::from_millis(100));
            dripping.write_all(&[*byte]).is_ok()
        })
    });
    for socket in [&mut silent, &mut half, &mut drip] {
        let (_, took) = rest(socket);
        assert!(took < Duration::from_secs(8), "{took:?}");
    }
    assert!(!drops.join().unwrap(), "the drip was cut off");
    let log = daemon.place.wait_for_log("(gnutls_handshake): timed out");
    assert_eq!(log.matches("(gnutls_handshake): timed out").count(), 3, "{log}");
}

#[test]
fn hellos_without_sense_or_measure_are_refused() {
    let daemon = server();
    let record = |body: &[u8]| {
        body.chunks(16_384).fold(Vec::new(), |mut all, part| {
            all.extend([22, 3, 1]);
            all.extend(u16::try_from(part.len()).unwrap().to_be_bytes());
            all.extend_from_slice(part);
            all
        })
    };
    let hello = |length: u32, body: &[u8]| record(&[&[1][..], &length.to_be_bytes()[1..], body].concat());
    let mut bodies = vec![
        hello(65_536, &[0x5a; 65_536]),
        hello(0xff_ffff, &[0; 200_000]), // says 16 MiB
        hello(4, &[3, 3, 0, 0]),
        record(&[]),
        vec![22, 3, 1, 0xff, 0xff],
        vec![0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10], // SSL 2
        vec![21, 3, 3, 0, 2, 2, 40],                       // an alert first
        vec![23, 3, 3, 0, 5, b'Q', b'U', b'I', b'T', b'\n'],
    ];
    bodies.push([0; 70_000].to_vec());
    for body in &bodies {
        let mut socket = Smtp::starttls(daemon.port);
        let _ = socket.write_all(body); // it may be refused before its end
        let _ = socket.shutdown(Shutdown::Write);
        rest(&mut socket);
    }
    serves(&daemon);
    let log = daemon.place.log();
    assert_eq!(log.matches("TLS error on connection").count(), bodies.len(), "{log}");
    assert!(!daemon.place.path("log/paniclog").exists());
}

/// Closes with RST instead of FIN.
fn reset(socket: TcpStream) {
    let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    nix::sys::socket::setsockopt(&socket.as_fd(), nix::sys::socket::sockopt::Linger, &linger).unwrap();
}

#[test]
fn a_reset_in_any_phase_costs_only_its_own_session() {
    let daemon = server();
    for bytes in [0, 3, 9, 200] {
        let mut socket = Smtp::starttls(daemon.port);
        socket.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3].repeat(20)[..bytes]).unwrap();
        reset(socket);
    }
    let mut smtp = Smtp::connect(daemon.port);
    smtp.say("EHLO x\r\n");
    smtp.send("STARTTLS\r\n");
    reset(smtp.into_socket());
    // after the handshake: openssl is killed in the middle of a message
    let text =
        "EHLO x\\r\\nMAIL FROM:<a@b.test>\\r\\nRCPT TO:<c@d.test>\\r\\nDATA\\r\\nSubject: cut\\r\\n\\r\\n";
    openssl(daemon.port, "-quiet -no_ign_eof", &[text]);
    serves(&daemon);
    assert!(!daemon.place.path("log/paniclog").exists());
    assert!(!daemon.place.log().contains(" <= "));
}

#[test]
fn renegotiation_is_refused() {
    let daemon = server();
    // `R` at the start of a line makes openssl ask for it.
    let seen = openssl(daemon.port, "-tls1_2", &["EHLO x\\r\\n", "R\\n", "NOOP\\r\\n", "NOOP\\r\\n"]);
    assert!(seen.contains("RENEGOTIATING"), "{seen}");
    let after = &seen[seen.find("RENEGOTIATING").unwrap()..];
    assert!(!after.contains("250 OK"), "{after}");
    // At once, not by a time-out.
    let log = daemon.place.wait_for_log("TLS error");
    assert!(log.contains("Rehandshake was requested by the peer"), "{log}");
    serves(&daemon);
}

#[test]
fn what_follows_the_end_of_tls_in_clear_is_not_answered() {
    use oxim::tls::{ClientRequest, ClientSettings, ClientTls, Verify};
    let daemon = server();
    let socket = Smtp::starttls(daemon.port);
    let mut raw = socket.try_clone().unwrap();
    let settings = ClientSettings::default();
    let request = ClientRequest {
        settings: &settings,
        ciphers: None,
        sni: None,
        verify: Verify::No,
        host_name: None,
        request_ocsp: false,
        require_ocsp: false,
        require_status: false,
        registry: None,
        resume: false,
        deadline: Some(Instant::now() + Duration::from_secs(10)),
        on_connect: false,
        now: std::time::SystemTime::now(),
        notify: &|_| {},
        terms: oxim::tls::ClientTerms::default(),
    };
    let (mut stream, _) = ClientTls::new().connect(socket, &request).unwrap();
    stream.write_all(b"EHLO x\r\n").unwrap();
    let mut greeted = Vec::new();
    while !greeted.ends_with(b"250 HELP\r\n") {
        let mut some = [0; 512];
        let length = stream.read(&mut some).unwrap();
        assert!(length > 0, "{}", String::from_utf8_lossy(&greeted));
        greeted.extend_from_slice(&some[..length]);
    }
    stream.write_all(b"MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nBDAT 100 LAST\r\n").unwrap();
    stream.shutdown().unwrap();
    let _ = raw.write_all(b"X: injected\r\n\r\nQUIT\r\nNOOP\r\n");
    let (all, _) = rest(&mut raw);
    // Whatever comes are TLS records.
    let mut left = &all[..];
    while let [kind, 3, 3, high, low, ..] = *left {
        assert!((20..=23).contains(&kind), "{left:?}");
        left = left.get(5 + usize::from(u16::from_be_bytes([high, low]))..).unwrap_or_default();
    }
    assert!(left.is_empty(), "clear text: {:?}", String::from_utf8_lossy(left));
    assert!(!daemon.place.log().contains(" <= "));
    serves(&daemon);
}

#[test]
fn handshakes_count_as_connections_and_the_limit_holds() {
    let daemon = server();
    let held: Vec<TcpStream> = (0..20).map(|_| Smtp::starttls(daemon.port)).collect();
    let mut socket = TcpStream::connect(("127.0.0.1", daemon.port)).unwrap();
    let (all, took) = rest(&mut socket);
    assert!(all.starts_with(b"421 Too many concurrent SMTP connections") && took < Duration::from_secs(2));
    drop(held);
    let end = Instant::now() + Duration::from_secs(10);
    while !openssl(daemon.port, "-quiet", &["EHLO x\\r\\n", "QUIT\\r\\n"]).contains("221 ") {
        assert!(Instant::now() < end, "the places are free again");
    }
}

/// Memory that is the worker's own, in KiB.
fn memory(daemon: &Daemon) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/status", daemon.smtp_worker())).unwrap();
    let line = text.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn two_thousand_handshakes_good_and_bad_leave_memory_and_threads_as_they_were() {
    if !have("root", is_root()) {
        return;
    }
    let daemon = server();
    let hundreds = |count: usize| {
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    (0..count * 25).for_each(|number| {
                        smtp_client::shake(daemon.port, number % 5 == 4);
                    })
                });
            }
        });
    };
    hundreds(4);
    let before = memory(&daemon);
    hundreds(20);
    let after = memory(&daemon);
    assert!(after < before + 1500, "{before} KiB before, {after} KiB after");
    let end = Instant::now() + Duration::from_secs(10);
    let tasks = || fs::read_dir(format!("/proc/{}/task", daemon.smtp_worker())).unwrap().count();
    while tasks() > 8 {
        assert!(Instant::now() < end, "{} threads are left", tasks());
        thread::sleep(Duration::from_millis(50));
    }
    serves(&daemon);
}
