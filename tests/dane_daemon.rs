//! DANE from the configuration to the connection: what is kept and shared, what is recorded of a failure, when a status is
//! asked for. Needs root: names come from a name server of the test's own (port 53, in a private /etc).
#![cfg(ocsp_stapling)]

#[path = "support/ca.rs"]
mod ca;
#[path = "support/daemon.rs"]
mod daemon;
#[path = "support/name_server.rs"]
mod name_server;
#[path = "support/smtp_client.rs"]
mod smtp_client;

use ca::{ca, good};
use daemon::{Daemon, Place, Program, have, is_root};
use name_server::NameServer;
use oxim::tls::gnutls::hash::{Digest, digest};
use smtp_client::Smtp;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const SERVER: &str = "acl_smtp_rcpt = accept\nacl_smtp_data = show\ntls_advertise_hosts = *\n\
     tls_certificate = @DIR@/chain.pem\ntls_privatekey = @DIR@/key.pem\ntls_resumption_hosts = *\n\
     tls_ocsp_file = ${if exists{@DIR@/proof.der}{@DIR@/proof.der}}\nbegin acl\nshow:\n  \
     discard log_message = [$h_X:] status=$tls_in_ocsp name=$tls_in_sni\n";

/// A server with the leaf's certificate, and a zone that leads to it.
struct Lab {
    server: Daemon,
    zone: PathBuf,
    names: NameServer,
    _directory: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        Self::with("")
    }

    /// With more options of the server.
    fn with(options: &str) -> Self {
        let server = Place::new(Program::Oxim, &format!("{options}{SERVER}"));
        fs::write(server.path("chain.pem"), ca().read("leaf-chain.pem")).unwrap();
        fs::write(server.path("key.pem"), ca().read("leaf.key")).unwrap();
        let server = server.daemon();
        let directory = tempfile::tempdir().unwrap();
        let zone = directory.path().join("zone");
        let names = NameServer::start(zone.clone()).unwrap();
        Self { server, zone, names, _directory: directory }
    }

    /// A place that sends to the server, with these transports, each for the local part of its name.
    fn sender(&self, transports: &[(&str, &str)]) -> Place {
        let mut text = "acl_not_smtp = accept\nacl_smtp_rcpt = accept\ndisable_ipv6\ntls_advertise_hosts =\n\
             log_selector = +retry_defer\nbegin routers\n"
            .to_owned();
        for (name, _) in transports {
            write!(
                text,
                "{name}:\n  driver = manualroute\n  local_parts = {name}\n  route_list = * mx.test::{} bydns\n  \
                 self = send\n  transport = {name}\n",
                self.server.port
            )
            .unwrap();
        }
        text.push_str("begin transports\n");
        for (name, options) in transports {
            write!(
                text,
                "{name}:\n  driver = smtp\n  headers_add = X: $tls_out_dane $tls_out_tlsa_usage $tls_out_ocsp\n\
                 {options}"
            )
            .unwrap();
        }
        text.push_str("begin retry\n* * F,2h,15m\n");
        Place::new(Program::Oxim, &text).with_resolv_conf(&self.names.resolv_conf("trust-ad"))
    }

    /// `mx.test` has this address record and these TLSA records.
    fn publish(&self, records: &[String]) {
        let mut text = "mx.test A 127.0.0.1\n".to_owned();
        for record in records {
            writeln!(text, "_{}._tcp.mx.test TLSA {record}", self.server.port).unwrap();
        }
        ca().put(&self.zone, text.as_bytes());
    }

    /// What the server noted of the next message that it was given.
    fn noted(&self, count: usize) -> String {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let log = self.server.place.log();
            let lines: Vec<&str> = log.lines().filter(|line| line.contains(": [")).collect();
            if let Some(line) = lines.get(count) {
                return line[line.find('[').unwrap()..].to_owned();
            }
            assert!(Instant::now() < end, "{log}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Sends one message; the lines that this added to the log.
fn send(place: &Place, to: &str) -> String {
    let before = place.log().len();
    let arguments = ["-odf", "-oi", "-f", "a@host.test", to];
    let output = place.run(&arguments, b"Subject: x\n\nA line.\n");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    place.log()[before..].to_owned()
}

/// Hands a message to a daemon and waits until it is done with it; the lines about its recipients.
fn hand_over(daemon: &Daemon, recipients: &[&str]) -> Vec<String> {
    let done = || {
        let log = daemon.place.log();
        let lines =
            log.lines().filter(|line| [" => ", " -> ", " == "].iter().any(|sign| line.contains(sign)));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let before = done().len();
    let mut smtp = Smtp::connect(daemon.port);
    let mut say = |text: &str| assert!(smtp.say(text).starts_with(['2', '3']), "{text}");
    say("HELO a.test\r\n");
    say("MAIL FROM:<>\r\n");
    recipients.iter().for_each(|recipient| say(&format!("RCPT TO:<{recipient}>\r\n")));
    say("DATA\r\n");
    say("Subject: x\r\n\r\nText\r\n.\r\n");
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let lines = done();
        if lines.len() >= before + recipients.len() {
            return lines[before..].to_vec();
        }
        assert!(Instant::now() < end, "{}", daemon.place.log());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The data of a record of this certificate's key.
fn key_of(certificate: &str) -> String {
    let key = ca().certificate(certificate).public_key_info().unwrap();
    digest(Digest::Sha256, &key)
        .unwrap()
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

fn leaf() -> String {
    format!("3 1 1 {}", key_of("leaf"))
}

fn other() -> String {
    format!("3 1 1 {}", key_of("other"))
}

fn authority() -> String {
    format!("2 1 1 {}", key_of("inter"))
}

fn can_run() -> bool {
    have("root", is_root())
}

/// The line says that its session was kept from another message.
fn is_continued(line: &str) -> bool {
    line.contains("[127.0.0.1]*")
}

#[test]
fn a_connection_is_kept_for_the_same_demand_of_the_dns_and_no_other() {
    if !can_run() {
        return;
    }
    let lab = Lab::new();
    lab.publish(&[leaf()]);
    let daemon = lab.sender(&[("x", "  tls_resumption_hosts = *\n")]).daemon();
    let one = || hand_over(&daemon, &["x@a.test"]).remove(0);
    // A connection waits two seconds for the next message: on a slow machine it may be too late, but not for ever.
    let until_continued = |verified: &str| {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let line = one();
            assert!(line.contains(verified), "{line}");
            if is_continued(&line) {
                return;
            }
            assert!(Instant::now() < end, "never continued: {line}");
        }
    };
    until_continued("CV=dane");
    // No records any more: what was verified by them does not serve now ...
    lab.publish(&[]);
    let line = one();
    assert!(line.contains("CV=no") && !is_continued(&line), "{line}");
    until_continued("CV=no");
    // ... and what was verified by nobody does not serve who demands (the first connection may still be there).
    lab.publish(&[leaf()]);
    let line = one();
    assert!(line.contains("CV=dane"), "{line}");
    until_continued("CV=dane");
    lab.publish(&[other()]);
    let line = one();
    assert!(line.contains("The certificate differs"), "{line}");
}

#[test]
fn under_dane_each_domain_has_a_connection_of_its_own() {
    if !can_run() {
        return;
    }
    let lab = Lab::new();
    lab.publish(&[leaf()]);
    let daemon = lab.sender(&[("x", "")]).daemon();
    let confirmations = |records: &[String]| {
        lab.publish(records);
        let lines = hand_over(&daemon, &["x@a.test", "x@b.test", "x@A.test"]);
        let id = |line: &String| line[line.find("C=").unwrap_or_else(|| panic!("{line}"))..].to_owned();
        lines.iter().map(id).collect::<std::collections::BTreeSet<_>>().len()
    };
    assert_eq!(confirmations(&[leaf()]), 2);
    assert_eq!(confirmations(&[]), 1);
}

const WAITS: &str = "retry time not reached for any host";

#[test]
fn a_failure_of_dane_holds_back_only_who_asks_for_dane() {
    if !can_run() {
        return;
    }
    for (records, words) in [
        (vec![other()], "The certificate differs"),
        (vec!["servfail".to_owned()], "defer (-36): DANE error: tlsa lookup DEFER"),
    ] {
        let lab = Lab::new();
        lab.publish(&records);
        let place = lab.sender(&[("strict", ""), ("easy", "  hosts_try_dane =\n")]);
        assert!(send(&place, "strict@a.test").contains(words), "{}", place.log());
        assert!(send(&place, "strict@a.test").contains(WAITS), "{}", place.log());
        assert!(send(&place, "easy@a.test").contains(" => easy@a.test"), "{}", place.log());
        assert!(send(&place, "strict@a.test").contains(WAITS), "{}", place.log());
        let hints = rusqlite::Connection::open(place.path("spool/db/hints.sqlite3")).unwrap();
        let mut keys = hints.prepare("SELECT CAST(key AS TEXT) FROM retry").unwrap();
        let keys: Vec<String> = keys.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        let begins = format!("T:mx.test:127.0.0.1:{}/dane-", lab.server.port);
        assert!(keys.len() == 1 && keys[0].starts_with(&begins), "{keys:?}");
        // Once it is repaired, a forced run delivers what waits.
        lab.publish(&[leaf()]);
        let end = Instant::now() + Duration::from_secs(20);
        while place.log().matches(" => strict@a.test").count() < 3 {
            assert!(Instant::now() < end, "{}", place.log());
            place.run(&["-qff"], b"");
        }
    }
}

#[test]
fn a_status_is_asked_for_unless_the_leaf_alone_is_in_dns_and_nobody_said_otherwise() {
    if !can_run() {
        return;
    }
    let lab = Lab::new();
    let by_usage = "  hosts_request_ocsp = ${if ={8}{$tls_out_tlsa_usage}{*}}\n";
    let place = lab.sender(&[("x", ""), ("usage", by_usage)]);
    let mut count = 0;
    let mut noted = |records: &[String], to: &str| {
        lab.publish(records);
        let log = send(&place, to);
        assert!(log.contains(" CV=dane ") || records.is_empty(), "{log}");
        count += 1;
        lab.noted(count - 1)
    };
    // The server: 0, not asked; 1, asked, and it has none.
    assert_eq!(noted(&[leaf()], "x@a.test"), "[yes 8 0] status=0 name=mx.test");
    assert_eq!(noted(&[authority()], "x@a.test"), "[yes 4 1] status=1 name=mx.test");
    assert_eq!(noted(&[leaf(), authority()], "x@a.test"), "[yes 12 1] status=1 name=mx.test");
    assert_eq!(noted(&[], "x@a.test"), "[no 0 1] status=1 name=");
    assert_eq!(noted(&[leaf()], "usage@a.test"), "[yes 8 1] status=1 name=mx.test");
    assert_eq!(noted(&[authority()], "usage@a.test"), "[yes 4 0] status=0 name=mx.test");
    // What is required has to be there, whatever the DNS says of the leaf.
    let strict = || lab.sender(&[("require", "  hosts_require_ocsp = *\n")]);
    for records in [leaf(), authority()] {
        lab.publish(&[records]);
        let log = send(&strict(), "require@a.test");
        assert!(log.contains("TLS session: (certificate status check failed)"), "{log}");
    }
    fs::write(lab.server.place.path("proof.der"), ca().proof(&good("leaf"))).unwrap();
    for (records, usage) in [(leaf(), 8), (authority(), 4)] {
        lab.publish(&[records]);
        let place = strict();
        send(&place, "require@a.test");
        // The server looks for a new proof once a second.
        let end = Instant::now() + Duration::from_secs(20);
        while !place.log().contains(" => require@a.test") {
            assert!(Instant::now() < end, "{}", place.log());
            place.run(&["-qff"], b"");
        }
        assert_eq!(lab.noted(count), format!("[yes {usage} 4] status=4 name=mx.test"));
        count += 1;
    }
}

#[test]
fn tls_from_the_first_byte_is_judged_as_well() {
    if !can_run() {
        return;
    }
    let lab = Lab::with("tls_on_connect_ports = @PORT@\n");
    let place = lab.sender(&[("x", "  protocol = smtps\n")]);
    lab.publish(&[leaf()]);
    let log = send(&place, "x@a.test");
    assert!(log.contains(" => x@a.test") && log.contains(" CV=dane "), "{log}");
    lab.publish(&[other()]);
    let log = send(&place, "x@a.test");
    assert!(log.contains("DANE attempt failed; TLS connection to mx.test [127.0.0.1]: "), "{log}");
    assert!(log.contains("The certificate differs. "), "{log}");
}

#[test]
fn records_that_cannot_be_used_demand_tls_and_leave_the_certificate_to_the_options() {
    if !can_run() {
        return;
    }
    let lab = Lab::new();
    let trust = |name: &str| {
        let file = ca().path(name).display().to_string();
        format!("  tls_verify_hosts = *\n  tls_verify_certificates = {file}\n")
    };
    std::fs::set_permissions(ca().path(""), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let place = lab.sender(&[("easy", ""), ("good", &trust("root.pem")), ("bad", &trust("rogue.pem"))]);
    lab.publish(&[format!("1 1 1 {}", key_of("leaf"))]);
    for (name, words) in [
        ("easy", " CV=no "),
        ("good", " CV=yes "),
        (
            "bad",
            "DANE attempt failed; TLS connection to mx.test [127.0.0.1]: (certificate verification failed): ",
        ),
    ] {
        let log = send(&place, &format!("{name}@a.test"));
        assert!(log.contains(words), "{log}");
    }
    // The server was asked for the name, which is what the records are about.
    assert_eq!(lab.noted(0), "[no 0 1] status=1 name=mx.test");
}

#[test]
fn a_host_that_is_written_with_a_dot_at_its_end_is_asked_for_without() {
    if !can_run() {
        return;
    }
    let lab = Lab::new();
    lab.publish(&[authority()]);
    let port = lab.server.port;
    let options = format!("  hosts = mx.test.\n  hosts_override\n  port = {port}\n  allow_localhost\n");
    let log = send(&lab.sender(&[("x", &options)]), "x@a.test");
    assert!(log.contains(" CV=dane "), "{log}");
    assert_eq!(lab.noted(0), "[yes 4 1] status=1 name=mx.test");
}
