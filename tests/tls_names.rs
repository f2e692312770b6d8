//! ClientHellos that mean harm: made by hand, with names that peers make up (row S12), extensions without measure, cut off
//! anywhere. The daemon answers or refuses each, grows by none, and serves others meanwhile.

#[path = "support/ca.rs"]
mod ca;
#[path = "support/daemon.rs"]
mod daemon;
#[path = "support/long.rs"]
mod long;
#[path = "support/smtp_client.rs"]
mod smtp_client;

use ca::ca;
use daemon::{Daemon, Place, Program, have, is_root};
use long::short_or_long;
use smtp_client::{Smtp, openssl};
use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Each name has a certificate of its own, if there is one; a name of the kind `default-...` gets the default one.
const SERVER: &str = "acl_smtp_rcpt = accept\ntls_advertise_hosts = *\nsmtp_accept_max = 0\nsmtp_receive_timeout = 5s\n\
     FILE = @DIR@/${if match{$tls_in_sni}{^default-}{default}{${if def:tls_in_sni{$tls_in_sni}{default}}}}\n\
     tls_certificate = FILE.pem\ntls_privatekey = FILE.key\n";

fn server() -> Daemon {
    let place = Place::new(Program::Oxim, SERVER);
    for (from, to) in [("leaf", "default"), ("other", "other.test")] {
        fs::write(place.path(&format!("{to}.pem")), ca().read(&format!("{from}-chain.pem"))).unwrap();
        fs::write(place.path(&format!("{to}.key")), ca().read(&format!("{from}.key"))).unwrap();
    }
    let daemon = place.daemon();
    daemon.place.wait_for_log("daemon started");
    daemon
}

fn with_length(size: usize, contents: &[u8]) -> Vec<u8> {
    let length = u64::try_from(contents.len()).unwrap().to_be_bytes();
    [&length[8 - size..], contents].concat()
}

fn extension(kind: u16, contents: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &with_length(2, contents)].concat()
}

fn name(name: &[u8]) -> Vec<u8> {
    extension(0, &with_length(2, &[&[0][..], &with_length(2, name)].concat()))
}

/// What a client needs for TLS 1.2 with ECDSA: groups, points, signatures.
fn usual() -> Vec<u8> {
    [
        extension(10, &[0, 4, 0, 29, 0, 23]),
        extension(11, &[1, 0]),
        extension(13, &[0, 6, 4, 3, 5, 3, 8, 4]),
        extension(5, &[1, 0, 0, 0, 0]),
    ]
    .concat()
}

/// The handshake message.
fn hello(extensions: &[u8]) -> Vec<u8> {
    let body = [
        &[3, 3][..],
        &[0x5a; 32],
        &[0],                            // no session
        &[0, 4, 0xc0, 0x2b, 0xc0, 0x2c], // ECDHE_ECDSA with AES-GCM
        &[1, 0],
        &with_length(2, extensions),
    ]
    .concat();
    [&[1][..], &with_length(3, &body)].concat()
}

/// In records of this size.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    let record = |part: &[u8]| [&[22, 3, 1][..], &with_length(2, part)].concat();
    message.chunks(size).flat_map(record).collect()
}

/// Says this after STARTTLS, and hears the first bytes of the answer.
fn answer(daemon: &Daemon, bytes: &[u8], ends: bool) -> Vec<u8> {
    let mut socket = Smtp::starttls(daemon.port);
    let _ = socket.write_all(bytes); // it may be refused before its end
    if ends {
        let _ = socket.shutdown(Shutdown::Write);
    }
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut first = vec![0; 6];
    let mut length = 0;
    while length < first.len() {
        match socket.read(&mut first[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) => {
                assert!(error.kind() != std::io::ErrorKind::WouldBlock, "the server keeps the connection");
                break;
            }
        }
    }
    first.truncate(length);
    first
}

/// A ServerHello comes.
fn is_served(answer: &[u8]) -> bool {
    matches!(answer, [22, 3, _, _, _, 2])
}

fn is_refused(answer: &[u8]) -> bool {
    matches!(answer, [21, 3, ..] | [])
}

fn is_quiet(daemon: &Daemon) -> bool {
    let seen = openssl(daemon.port, "-quiet -servername other.test", &["QUIT\\r\\n"]);
    seen.contains("221 ") && daemon.place.panic_log().is_empty()
}

#[test]
fn a_hello_in_any_number_of_records_is_understood_and_one_that_is_cut_off_anywhere_is_refused() {
    let daemon = server();
    let whole = hello(&[usual(), name(b"other.test"), extension(16, b"\x00\x05\x04smtp")].concat());
    for size in [1, 2, 5, 16_384] {
        assert!(is_served(&answer(&daemon, &records(&whole, size), false)), "{size} bytes in each record");
    }
    let step = short_or_long(13, 1);
    for length in (0..whole.len()).step_by(step) {
        assert!(is_refused(&answer(&daemon, &records(&whole[..length], 16_384), true)), "{length}");
        // The same with lengths that say that this is all.
        if let Some(body) = whole[..length].get(4..) {
            let message = [&[1][..], &with_length(3, body)].concat();
            let answer = answer(&daemon, &records(&message, 16_384), true);
            assert!(is_refused(&answer) || is_served(&answer), "{length}: {answer:?}");
        }
    }
    assert!(is_quiet(&daemon), "{}", daemon.place.log());
}

#[test]
fn extensions_without_measure_and_names_without_end_harm_nobody_and_fill_no_log() {
    let daemon = server();
    let names = |names: &[u8]| extension(16, &with_length(2, names));
    let unknown: Vec<u8> = (0x1000..0x2000).flat_map(|kind| extension(kind, b"x")).collect();
    for (what, more) in [
        ("a name of 65,000 bytes", name(&[b'a'; 65_000])),
        ("a name of 300 bytes", name(&[b'a'; 300])),
        ("a name with a NUL", name(b"a\0b")),
        ("a name that climbs", name(b"../../etc/passwd")),
        ("an empty name", name(b"")),
        ("two names", [name(b"other.test"), name(b"default-x")].concat()),
        ("4,096 extensions", unknown),
        ("one extension a thousand times", extension(0x1234, b"x").repeat(1000)),
        ("status_request a thousand times", extension(5, &[1, 0, 0, 0, 0]).repeat(1000)),
        ("60,000 empty protocols", names(&[0; 60_000])),
        ("10,000 protocols", names(&b"\x04evil".repeat(10_000))),
        ("protocols twice", [names(b"\x04smtp"), names(b"\x02h2")].concat()),
        ("a ticket of 60,000 bytes", extension(35, &[7; 60_000])),
        ("keys of nobody", extension(41, &[0xff; 40])),
    ] {
        let answer = answer(&daemon, &records(&hello(&[usual(), more].concat()), 16_384), true);
        assert!(is_refused(&answer) || is_served(&answer), "{what}: {answer:?}");
    }
    assert!(is_quiet(&daemon), "{}", daemon.place.log());
    let log = daemon.place.log();
    let longest = log.lines().map(str::len).max().unwrap();
    assert!(longest < 2000, "a line of {longest} bytes");
}

/// Memory that is the worker's own, in KiB.
fn memory(daemon: &Daemon) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/status", daemon.smtp_worker())).unwrap();
    let line = text.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// So many hellos with names that differ, from four at once.
fn made_up(daemon: &Daemon, prefix: &str, names: usize) {
    thread::scope(|scope| {
        for part in 0..4 {
            scope.spawn(move || {
                for number in (part..names).step_by(4) {
                    let sni = format!("{prefix}{number}.test");
                    let message = hello(&[usual(), name(sni.as_bytes())].concat());
                    let answer = answer(daemon, &records(&message, 16_384), false);
                    assert!(is_refused(&answer) || is_served(&answer), "{answer:?}");
                }
            });
        }
    });
}

/// The lines of the log, once the sessions that are broken off have theirs.
fn lines_in_the_end(daemon: &Daemon) -> usize {
    let count = || daemon.place.log().lines().count();
    let mut last = count();
    loop {
        thread::sleep(Duration::from_millis(500));
        let now = count();
        if now == last {
            return now;
        }
        last = now;
    }
}

#[test]
fn names_that_peers_make_up_cost_neither_memory_nor_lines_and_others_are_served_meanwhile() {
    if !have("root", is_root()) {
        return;
    }
    let daemon = server();
    let names = short_or_long(1500, 50_000);
    // Both kinds of caches are full, and threads and allocator have what they need once.
    made_up(&daemon, "default-before-", names.max(1200) / 2);
    made_up(&daemon, "nobody-before-", names.max(2400) / 2);
    let (before, lines) = (memory(&daemon), lines_in_the_end(&daemon));
    made_up(&daemon, "default-", names);
    let after = memory(&daemon);
    let said = lines_in_the_end(&daemon) - lines;
    // Each of these sessions is broken off after the ServerHello, which has its line, as with Exim; a name has none.
    assert!(said <= names, "{said} lines for {names} names");
    made_up(&daemon, "nobody-", names);
    let last = memory(&daemon);
    // In the long form this is less than a name each.
    assert!(
        after.max(last) < before + short_or_long(2048, 1024),
        "{before} KiB before, {after} KiB after {names} names with a certificate, {last} KiB after as many without"
    );
    println!(
        "{before} KiB before, {after} KiB after {names} names, {last} KiB after {names} without a certificate"
    );

    let time = |count: u32| {
        let begun = Instant::now();
        (0..count).for_each(|_| {
            let message = hello(&[usual(), name(b"other.test")].concat());
            assert!(is_served(&answer(&daemon, &records(&message, 16_384), false)));
        });
        begun.elapsed() / count
    };
    let alone = time(100);
    let stop = AtomicBool::new(false);
    let beside = thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0;
            while !stop.load(Ordering::SeqCst) {
                made_up(&daemon, &format!("late-{number}-"), 4);
                number += 1;
            }
        });
        let beside = time(100);
        stop.store(true, Ordering::SeqCst);
        beside
    });
    println!("a handshake takes {alone:?} alone, {beside:?} beside four peers that make names up");
    assert!(beside < Duration::from_millis(500), "{beside:?}, {alone:?} alone");
    assert!(is_quiet(&daemon));
}
