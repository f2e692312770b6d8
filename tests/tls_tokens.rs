//! Certificates whose keys are in a token (`pkcs11:` URLs), and which processes load a module for it.

#[path = "support/ca.rs"]
mod ca;
#[path = "support/daemon.rs"]
mod daemon;
#[path = "support/smtp_client.rs"]
mod smtp_client;
#[path = "support/token.rs"]
mod token;

use ca::{ca, good};
use daemon::{Daemon, Place, Program, have, have_tool};
use oxim::mail::envelope::OcspState;
use oxim::tls::gnutls::pkcs11;
use smtp_client::{Smtp, openssl, shake};
use std::path::Path;
use std::thread;
use token::{MODULE, PIN, Token};

const ALLOWED: &str = "gnutls_allow_auto_pkcs11\n";

/// An older library has nothing to be tested.
fn have_tokens() -> bool {
    pkcs11::TOKENS && have("softhsm2", Path::new(MODULE).exists()) && have_tool("p11tool")
}

/// A place with a token that has the leaf with its key, the intermediate, and another key.
fn place() -> (Place, Token) {
    let place = Place::new(Program::Oxim, "");
    let token = Token::make(place.directory.path(), "box");
    token.put("privkey", "leaf", "leaf.key");
    token.put("privkey", "other", "other.key");
    token.put("certificate", "leaf", "leaf.pem");
    token.put("certificate", "inter", "inter.pem");
    (place, token)
}

/// A list of one item.
fn list(item: &str) -> String {
    item.replace(':', "::")
}

fn configure(place: &Place, token: &Token, options: &str) {
    place.configure(&format!(
        "{}{options}acl_not_smtp = accept\nacl_smtp_rcpt = accept\nlog_selector = +tls_peerdn\n\
         tls_advertise_hosts = *\nbegin routers\nall:\n  driver = accept\n  transport = box\n\
         begin transports\nbox:\n  driver = appendfile\n  directory = @DIR@/mail\n  maildir_format\n  user = @USER@\n\
         begin retry\n* * F,2h,15m\n",
        token.settings()
    ));
}

/// Certificate and key from the token.
fn both(token: &Token) -> String {
    let (certificate, key) = (list(&token.url("leaf", "cert")), list(&token.url("leaf", "private")));
    format!("tls_certificate = {certificate}\ntls_privatekey = {key}\n")
}

fn daemon(options: impl Fn(&Token) -> String) -> Daemon {
    let (place, token) = place();
    configure(&place, &token, &options(&token));
    let files = [("proof.der", ca().proof(&good("leaf"))), ("chain.pem", ca().read("leaf-chain.pem"))];
    let files = files.into_iter().chain([("key.pem", ca().read("leaf.key")), ("pin", PIN.into())]);
    for (name, bytes) in files {
        std::fs::write(place.path(name), bytes).unwrap();
    }
    place.daemon()
}

/// The roles that have the module in their memory.
fn with_module(daemon: &Daemon) -> Vec<&'static str> {
    let roles = ["oxim-smtp", "oxim-delivery"];
    let pids = roles.map(|role| (role, daemon.role(role).unwrap_or_else(|| panic!("no {role}"))));
    let all = pids.into_iter().chain([("master", daemon.pid())]);
    let has = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/maps")).is_ok_and(|maps| maps.contains("libsofthsm2"))
    };
    all.filter(|(_, pid)| has(pid)).map(|(role, _)| role).collect()
}

#[test]
fn a_certificate_from_a_token_is_shown_with_its_chain_and_its_proof_and_the_key_stays_there() {
    if !have_tokens() {
        return;
    }
    let proof = if cfg!(ocsp_stapling) { "tls_ocsp_file = @DIR@/proof.der\n" } else { "" };
    let daemon = daemon(|token| format!("{ALLOWED}{}{proof}", both(token)));
    let root = ca().path("root.pem");
    for version in ["-tls1_2", "-tls1_3"] {
        let seen =
            openssl(daemon.port, &format!("{version} -status -CAfile {}", root.display()), &["QUIT\\r\\n"]);
        assert!(seen.contains("Verify return code: 0 (ok)"), "{version}: {seen}");
        assert!(seen.contains("Cert Status: good") || proof.is_empty(), "{version}: {seen}");
    }
    assert_eq!(with_module(&daemon), ["oxim-smtp"], "the others have nothing to show");
}

#[test]
fn a_key_in_a_token_serves_a_certificate_in_a_file_and_many_threads_at_once() {
    if !have_tokens() {
        return;
    }
    let daemon = daemon(|token| {
        let key = list(&token.url("leaf", "private")).replace("pin-value=1234", "pin-source=@DIR@/pin");
        format!("{ALLOWED}tls_certificate = @DIR@/chain.pem\ntls_privatekey = {key}\n")
    });
    let port = daemon.port;
    let shakes = (0..8).map(|_| {
        thread::spawn(move || (0..10).for_each(|_| assert_eq!(shake(port, false), OcspState::NoResponse)))
    });
    shakes.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().unwrap());
    let log = daemon.place.log();
    assert!(!log.contains("TLS error"), "{log}");
}

#[test]
fn without_gnutls_allow_auto_pkcs11_no_module_is_loaded_and_the_log_names_the_option() {
    if !have_tokens() {
        return;
    }
    let daemon = daemon(both);
    let log = daemon.place.wait_for_log("daemon started");
    let told = "TLS: pkcs11:token=box;object=leaf;type=cert: no PKCS#11 module is loaded, since \
                gnutls_allow_auto_pkcs11 is not set: set it, or name a file in place of the token\n";
    assert!(log.contains(told), "{log}");
    let mut smtp = Smtp::connect(daemon.port);
    smtp.say("EHLO client.test\r\n");
    assert!(smtp.say("STARTTLS\r\n").starts_with("454 TLS currently unavailable"));
    assert_eq!(with_module(&daemon), [""; 0]);
    assert!(!daemon.place.log().contains(PIN), "{}", daemon.place.log());
}

#[test]
fn where_no_token_is_named_no_module_is_loaded_though_it_might_be() {
    if !have_tokens() {
        return;
    }
    let daemon =
        daemon(|_| format!("{ALLOWED}tls_certificate = @DIR@/chain.pem\ntls_privatekey = @DIR@/key.pem\n"));
    assert_eq!(shake(daemon.port, false), OcspState::NoResponse);
    assert_eq!(with_module(&daemon), [""; 0]);
}

#[test]
fn a_url_whose_colons_are_not_doubled_is_told_with_the_cure() {
    if !have_tokens() {
        return;
    }
    let daemon = daemon(|token| format!("{ALLOWED}tls_certificate = {}\n", token.url("leaf", "cert")));
    let log = daemon.place.wait_for_log("daemon started");
    assert!(
        log.contains("TLS: pkcs11: not an absolute path; in a list, each colon of a URL is doubled"),
        "{log}"
    );
}

#[test]
fn a_client_shows_a_certificate_from_a_token() {
    if !have_tokens() {
        return;
    }
    let server = daemon(|token| {
        format!(
            "{ALLOWED}{}tls_verify_hosts = *\ntls_verify_certificates = {}\n",
            both(token),
            ca().path("root.pem").display()
        )
    });
    for version in ["TLS1.2", "TLS1.3"] {
        let (place, token) = place();
        let (certificate, key) = (token.url("leaf", "cert"), token.url("leaf", "private"));
        let out = format!(
            "{}{ALLOWED}acl_not_smtp = accept\nbegin routers\nall:\n  driver = manualroute\n  \
             route_list = * localhost::{} byname\n  self = send\n  transport = out\nbegin transports\nout:\n  \
             driver = smtp\n  allow_localhost\n  hosts_require_tls = *\n  tls_verify_certificates =\n  \
             tls_certificate = {certificate}\n  tls_privatekey = {key}\n  \
             tls_require_ciphers = NORMAL:-VERS-ALL:+VERS-{version}\nbegin retry\n* * F,2h,15m\n",
            token.settings(),
            server.port
        );
        place.configure(&out);
        let sent = place.run(&["-odf", "-oi", "-f", "a@host.test", "b@mx.test"], b"Subject: x\n\nA line.\n");
        assert!(sent.status.success() && place.log().contains(" => b@mx.test"), "{}", place.log());
        let log = server.place.wait_for_log(&format!("X={version}:"));
        let line = log.lines().find(|line| line.contains(&format!("X={version}:"))).unwrap();
        assert!(line.contains(" CV=yes ") && line.contains("CN=leaf.test"), "{line}");
        // The same without the option.
        place.configure(&out.replace(ALLOWED, ""));
        place.run(&["-odf", "-oi", "-f", "a@host.test", "b@mx.test"], b"Subject: x\n\nA line.\n");
        let log = place.log();
        assert!(
            log.contains(" == b@mx.test ") && log.contains("gnutls_allow_auto_pkcs11 is not set"),
            "{log}"
        );
        assert!(!log.contains(PIN), "{log}");
    }
}
