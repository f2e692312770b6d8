//! Retry records of a host that fails a status check (row C7): they hold back only deliveries with the same requirement.
#![cfg(ocsp_stapling)]

#[path = "support/ca.rs"]
mod ca;
#[path = "support/daemon.rs"]
mod daemon;

use ca::{ca, good};
use daemon::{Daemon, Place, Program};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

const SERVER: &str = "acl_smtp_rcpt = accept\ntls_advertise_hosts = *\n\
     tls_certificate = @DIR@/chain.pem\ntls_privatekey = @DIR@/key.pem\ntls_ocsp_file = @DIR@/proof.der\n\
     begin routers\nall:\n  driver = accept\n  transport = box\nbegin transports\nbox:\n  driver = appendfile\n  \
     directory = @DIR@/mail\n  maildir_format\n  user = @USER@\n";

fn server(stapling: bool) -> Daemon {
    let place = Place::new(Program::Oxim, SERVER);
    fs::write(place.path("chain.pem"), ca().read("leaf-chain.pem")).unwrap();
    fs::write(place.path("key.pem"), ca().read("leaf.key")).unwrap();
    if stapling {
        fs::write(place.path("proof.der"), ca().proof(&good("leaf"))).unwrap();
    }
    fs::set_permissions(ca().path(""), fs::Permissions::from_mode(0o755)).unwrap();
    place.daemon()
}

/// Three transports to the same hosts: `strict` requires a proof, `named` too but for another name, `easy` requires none.
fn sender(ports: &[u16]) -> Place {
    let hosts: Vec<String> = ports.iter().map(|port| format!("localhost::{port}")).collect();
    let (hosts, trust) = (hosts.join(":"), ca().path("root.pem").display().to_string());
    let router = |name: &str| {
        format!(
            "{name}:\n  driver = manualroute\n  local_parts = {name}\n  route_list = * {hosts} byname\n  \
             self = send\n  transport = {name}\n"
        )
    };
    let transport = |name: &str, more: &str| {
        format!(
            "{name}:\n  driver = smtp\n  allow_localhost\n  hosts_require_tls = *\n  \
             tls_verify_certificates = {trust}\n{more}"
        )
    };
    let text = format!(
        "acl_not_smtp = accept\nlog_selector = +retry_defer\nbegin routers\n{}{}{}begin transports\n{}{}{}\
         begin retry\n* * F,2h,15m\n",
        router("strict"),
        router("named"),
        router("easy"),
        transport("strict", "  hosts_require_ocsp = *\n  tls_verify_hosts = *\n"),
        transport("named", "  hosts_require_ocsp = *\n  tls_verify_hosts = *\n  tls_sni = mx.test\n"),
        transport("easy", "")
    );
    Place::new(Program::Oxim, &text)
}

/// Sends one message; the lines that this added to the log.
fn send(place: &Place, to: &str) -> String {
    let before = place.log().len();
    let output = place
        .run(&["-odf", "-oi", "-f", "a@host.test", &format!("{to}@mx.test")], b"Subject: x\n\nA line.\n");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    place.log()[before..].to_owned()
}

const STATUS: &str = "TLS session: (certificate status check failed)";
const WAITS: &str = "retry time not reached for any host";

#[test]
fn a_failed_status_check_does_not_hold_back_deliveries_that_do_not_require_it() {
    let bare = server(false);
    let place = sender(&[bare.port]);
    assert!(send(&place, "strict").contains(STATUS));
    let easy = send(&place, "easy");
    assert!(easy.contains(" => easy@mx.test"), "{easy}");
    // That delivery took nothing away from the record of the other.
    assert!(send(&place, "strict").contains(WAITS), "{}", place.log());
    // Another requirement has a record of its own.
    assert!(send(&place, "named").contains(STATUS), "{}", place.log());
    assert!(send(&place, "named").contains(WAITS), "{}", place.log());
    assert!(send(&place, "easy").contains(" => easy@mx.test"));
    // A forced run tries again, and once there is a proof it is over, for that requirement.
    fs::write(bare.place.path("proof.der"), ca().proof(&good("leaf"))).unwrap();
    let end = Instant::now() + Duration::from_secs(10);
    while place.log().matches(" => strict@mx.test").count() < 2 {
        assert!(Instant::now() < end, "{}", place.log());
        place.run(&["-qff"], b"");
    }
    assert!(send(&place, "strict").contains(" => strict@mx.test"), "{}", place.log());
}

#[test]
fn the_next_host_is_tried_and_the_record_says_which_host_and_requirement_it_is_about() {
    let (bare, stapling) = (server(false), server(true));
    let place = sender(&[bare.port, stapling.port]);
    assert!(send(&place, "strict").contains(" => strict@mx.test"), "{}", place.log());
    let hints = rusqlite::Connection::open(place.path("spool/db/hints.sqlite3")).unwrap();
    let mut keys = hints.prepare("SELECT CAST(key AS TEXT) FROM retry").unwrap();
    let keys: Vec<String> = keys.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let begins = format!("T:localhost:127.0.0.1:{}/ocsp-", bare.port);
    assert!(keys.len() == 1 && keys[0].starts_with(&begins), "{keys:?}");
    assert_eq!(keys[0].len(), begins.len() + 8, "{keys:?}");
}
