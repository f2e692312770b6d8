//! `hosts_require_status` with `tls_crl_fetch`, in the running daemon: the keeper fetches the list that the server's
//! certificate names, the first attempt is deferred, the next one is made.
#![cfg(ocsp_stapling)]

#[path = "support/ca.rs"]
mod ca;
#[path = "support/daemon.rs"]
mod daemon;
#[path = "support/json.rs"]
mod json;
#[path = "support/lists.rs"]
mod lists;
#[path = "support/openmetrics.rs"]
mod openmetrics;
#[path = "support/responder.rs"]
mod responder;
#[path = "support/seen.rs"]
mod seen;
#[path = "support/smtp_client.rs"]
mod smtp_client;

use ca::ca;
use daemon::{Place, Program};
use lists::list_of_inter;
use responder::{Mode, Responder};
use smtp_client::Smtp;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

const SERVER: &str = "acl_smtp_rcpt = accept\ntls_advertise_hosts = *\n\
     tls_certificate = @DIR@/chain.pem\ntls_privatekey = @DIR@/key.pem\n\
     begin routers\nall:\n  driver = accept\n  transport = box\nbegin transports\nbox:\n  driver = appendfile\n  \
     directory = @DIR@/mail\n  maildir_format\n  user = @USER@\n";

/// A server without proofs, whose certificate names this address of a list.
fn server(name: &str, responder: &Responder) -> Place {
    let names = "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth";
    ca().issue(name, "inter", &format!("{names}\ncrlDistributionPoints=URI:{}list.crl", responder.url()));
    let place = Place::new(Program::Oxim, SERVER);
    let chain = [ca().read(&format!("{name}.pem")), ca().read("inter.pem")].concat();
    fs::write(place.path("chain.pem"), chain).unwrap();
    fs::write(place.path("key.pem"), ca().read(&format!("{name}.key"))).unwrap();
    fs::set_permissions(ca().path(""), fs::Permissions::from_mode(0o755)).unwrap();
    place
}

fn sender(port: u16) -> Place {
    let text = format!(
        "acl_smtp_rcpt = accept\ntls_crl_fetch = true\nbegin routers\nall:\n  driver = manualroute\n  \
         route_list = * localhost::{port} byname\n  self = send\n  transport = out\nbegin transports\nout:\n  \
         driver = smtp\n  allow_localhost\n  hosts_require_tls = *\n  hosts_require_status = *\n  \
         tls_verify_hosts = *\n  tls_verify_certificates = {}\nbegin retry\n* * F,2h,15m\n",
        ca().path("root.pem").display()
    );
    Place::new(Program::Oxim, &text).with_keepers_user()
}

/// Queue runs that try everything, until the log has this.
fn run_until(place: &Place, words: &str) {
    let end = Instant::now() + PATIENCE;
    while !place.log().contains(words) {
        assert!(Instant::now() < end, "no {words} in\n{}", place.log());
        place.run(&["-qff"], b"");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// To the daemon, which then delivers it.
fn submit(port: u16) {
    let mut client = Smtp::connect(port);
    for line in ["EHLO client.test", "MAIL FROM:<a@host.test>", "RCPT TO:<b@mx.test>", "DATA"] {
        client.say(&format!("{line}\r\n"));
    }
    assert!(client.say("Subject: x\r\n\r\nA line.\r\n.\r\n").starts_with("250 "));
}

#[test]
fn the_first_attempt_waits_for_the_list_and_a_later_one_succeeds() {
    let responder = Responder::start(Mode::Answer(list_of_inter(&["other"]).der()));
    let server = server("listed", &responder).daemon();
    let daemon = sender(server.port).daemon();
    submit(daemon.port);
    let url = format!("{}list.crl", responder.url());
    daemon.place.wait_for_log(&format!(
        "defer (-37) H=localhost [127.0.0.1]: TLS session: (certificate status check failed): revocation list {url} is not there yet"
    ));
    run_until(&daemon.place, " => b@mx.test");
    assert_eq!(responder.asked(), 1);
}

/// The lists that `--certificates` shows, by place.
fn told(place: &Place, at: &str) -> Vec<json::Json> {
    let all = seen::in_json(place);
    assert_eq!(all.get("incomplete"), &json::Json::Null);
    all.get("crls").list().iter().filter(|list| list.get("place").text() == at).cloned().collect()
}

#[test]
fn lists_that_deliveries_use_are_in_the_table_and_among_the_numbers_as_the_clients() {
    let responder = Responder::start(Mode::Answer(list_of_inter(&["other"]).der()));
    let server = server("shown", &responder).daemon();
    let port = seen::free_port();
    let sender = sender(server.port);
    let file = sender.path("root.crl");
    fs::write(&file, lists::list_of_root(&[]).pem()).unwrap();
    let text = fs::read_to_string(sender.path("configure")).unwrap();
    let text =
        text.replace("  tls_verify_hosts", &format!("  tls_crl = {}\n  tls_verify_hosts", file.display()));
    fs::write(sender.path("configure"), format!("openmetrics_listen = 127.0.0.1:{port}\n{text}")).unwrap();
    let daemon = sender.daemon();
    daemon.place.wait_for_log("daemon started");
    assert_eq!(seen::in_json(&daemon.place).get("crls").list().len(), 0, "nothing is in use yet");
    submit(daemon.port);
    run_until(&daemon.place, " => b@mx.test");
    let (url, file) = (format!("{}list.crl", responder.url()), file.to_str().unwrap().to_owned());
    for (place, issuer, source) in
        [(&url, "O=oxim test,CN=inter.test", "keeper"), (&file, "O=oxim test,CN=root", "file")]
    {
        let found = told(&daemon.place, place);
        assert_eq!(found.len(), 1, "{place}: {found:#?}");
        let of = |name: &str| found[0].get(name).text().to_owned();
        assert_eq!((of("side"), of("source"), of("status")), ("client".into(), source.into(), "good".into()));
        assert_eq!(of("issuer"), issuer);
        assert!(seen::is_time(found[0].get("this_update")) && seen::is_time(found[0].get("next_update")));
    }
    let fetched = &told(&daemon.place, &url)[0];
    assert_eq!(
        (fetched.get("successes"), fetched.get("failures")),
        (&json::Json::Number(1.0), &json::Json::Number(0.0))
    );
    assert!(seen::is_time(fetched.get("next_attempt")));
    let table = String::from_utf8(seen::ask(&daemon.place, &[]).stdout).unwrap();
    let row = table.lines().find(|line| line.contains(&url)).unwrap_or_else(|| panic!("{table}"));
    assert!(row.starts_with("O=oxim test,CN=inter.test  good    client  keeper"), "{table}");
    let numbers = seen::numbers(port);
    for place in [&url, &file] {
        let labels = [("place", place.as_str()), ("side", "client")];
        assert_eq!(numbers.get("oxim_crl_usable", &labels), 1.0);
        assert!((86_000.0..=86_400.0).contains(&numbers.get("oxim_crl_remaining_seconds", &labels)));
    }
    // A delivery worker that stands still costs two seconds, and the table says what is missing.
    let worker = daemon.role("oxim-delivery").unwrap();
    seen::signal(worker, nix::sys::signal::Signal::SIGSTOP);
    std::thread::sleep(Duration::from_secs(1));
    let begun = Instant::now();
    let output = seen::ask(&daemon.place, &[]);
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        table.contains("what is used for deliveries is not listed: the delivery worker does not answer"),
        "{table}"
    );
    seen::numbers(port);
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    seen::signal(worker, nix::sys::signal::Signal::SIGCONT);
    let end = Instant::now() + PATIENCE;
    while seen::in_json(&daemon.place).get("incomplete") != &json::Json::Null {
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(told(&daemon.place, &url).len(), 1);
}

#[test]
fn a_revoked_server_gets_nothing_and_a_dead_address_is_told() {
    let responder = Responder::start(Mode::Status("404 Not Found", ""));
    let server = server("unlisted", &responder).daemon();
    let daemon = sender(server.port).daemon();
    submit(daemon.port);
    daemon.place.wait_for_log("cannot be had: ");
    responder.set(Mode::Answer(list_of_inter(&["unlisted"]).der()));
    assert!(server.place.log().matches(" <= ").count() == 0, "{}", server.place.log());
    drop(daemon);
    // A new daemon asks anew at once.
    let daemon = sender(server.port).daemon();
    submit(daemon.port);
    run_until(&daemon.place, "TLS session: (certificate verification failed): certificate revoked");
    assert!(server.place.log().matches(" <= ").count() == 0, "{}", server.place.log());
}

#[test]
fn a_certificate_of_our_own_that_a_list_names_is_told_to_the_panic_log_once() {
    let responder = Responder::start(Mode::Silent);
    let names = "subjectAltName=DNS:localhost\nextendedKeyUsage=serverAuth";
    let url = format!("{}list.crl", responder.url());
    ca().issue("owned", "inter", &format!("{names}\ncrlDistributionPoints=URI:{url}"));
    responder.set(Mode::Answer(list_of_inter(&["owned"]).der()));
    let text = "tls_advertise_hosts = *\ntls_certificate = @DIR@/chain.pem\ntls_privatekey = @DIR@/key.pem\n\
                tls_ocsp_fetch = true\ntls_crl_fetch = true\n";
    let place = Place::new(Program::Oxim, text).with_keepers_user();
    let chain = [ca().read("owned.pem"), ca().read("inter.pem")].concat();
    fs::write(place.path("chain.pem"), chain).unwrap();
    fs::write(place.path("key.pem"), ca().read("owned.key")).unwrap();
    fs::set_permissions(place.path("key.pem"), fs::Permissions::from_mode(0o644)).unwrap();
    let daemon = place.daemon();
    let words = format!("): the revocation list {url} says that it is revoked");
    daemon.place.wait_for_log(&words);
    let panic = daemon.place.wait_for_panic_log(&words);
    assert_eq!(panic.lines().filter(|line| line.contains(&words)).count(), 1, "{panic}");
    assert_eq!(responder.asked(), 1);
}
