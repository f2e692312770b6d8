//! The staple keeper in the running daemon: proofs that come by themselves, outlive restarts and dead responders, and
//! processes that are killed.
#![cfg(ocsp_stapling)]

#[path = "support/ca.rs"]
mod ca;
#[path = "support/daemon.rs"]
mod daemon;
#[path = "support/responder.rs"]
mod responder;
#[path = "support/smtp_client.rs"]
mod smtp_client;

use ca::{ca, good};
use daemon::{Daemon, Place, Program};
use oxim::mail::envelope::OcspState;
use oxim::ocsp::registry::Key;
use oxim::tls::{ClientRequest, ClientSettings, ClientTls, Verify};
use responder::{Mode, Responder};
use smtp_client::Smtp;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

const PATIENCE: Duration = Duration::from_secs(30);

/// A server whose proofs are fetched from this responder, and no others are there.
fn text(responder: &Responder, more: &str) -> String {
    format!(
        "tls_advertise_hosts = *\ntls_certificate = @DIR@/chain.pem\ntls_privatekey = @DIR@/key.pem\n\
         tls_ocsp_fetch = true\ntls_ocsp_responder = {}\n{more}acl_smtp_rcpt = accept\n",
        responder.url()
    )
}

fn place(certificate: &str, text: &str) -> Place {
    let place = Place::new(Program::Oxim, text).with_keepers_user();
    put_certificate(&place, certificate);
    place
}

fn put_certificate(place: &Place, certificate: &str) {
    for (from, to) in
        [(format!("{certificate}-chain.pem"), "chain.pem"), (format!("{certificate}.key"), "key.pem")]
    {
        let new = place.path("new");
        fs::write(&new, ca().read(&from)).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o644)).unwrap();
        fs::rename(new, place.path(to)).unwrap();
    }
}

/// What a client sees that demands nothing.
fn seen(port: u16, sni: &str) -> OcspState {
    let settings = ClientSettings {
        verify_certificates: Some(ca().path("root.pem").to_str().unwrap().into()),
        ..ClientSettings::default()
    };
    let request = ClientRequest {
        terms: oxim::tls::ClientTerms::default(),
        settings: &settings,
        ciphers: None,
        sni: Some(sni.as_bytes()),
        verify: Verify::Try,
        host_name: None,
        request_ocsp: true,
        require_ocsp: false,
        require_status: false,
        registry: None,
        resume: false,
        deadline: Some(Instant::now() + PATIENCE),
        on_connect: false,
        now: SystemTime::now(),
        notify: &|_| {},
    };
    ClientTls::new().connect(Smtp::starttls(port), &request).unwrap().1.ocsp
}

/// Shakes hands until a client sees this.
fn wait_until_seen(daemon: &Daemon, sni: &str, state: OcspState) {
    wait_until(&daemon.place, &format!("{state:?} for {sni}"), || seen(daemon.port, sni) == state);
}

fn wait_until(place: &Place, what: &str, done: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "not {what}; log:\n{}", place.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn key_of(name: &str) -> Key {
    Key::of(&ca().certificate(name), &ca().certificate("inter")).unwrap()
}

fn stored(place: &Place, name: &str) -> PathBuf {
    place.path("spool/ocsp").join(format!("{}.ocsp", key_of(name)))
}

/// Lines of the log about proofs.
fn told(place: &Place) -> Vec<String> {
    place.log().lines().filter(|line| line.contains("OCSP")).map(str::to_owned).collect()
}

#[test]
fn a_proof_is_fetched_stored_and_stapled_without_anybodys_doing_and_without_a_line_in_the_log() {
    let responder = Responder::start(Mode::Answer(ca().proof(&good("leaf"))));
    let daemon = place("leaf", &text(&responder, "")).daemon();
    wait_until_seen(&daemon, "mx.test", OcspState::Verified);
    wait_until(&daemon.place, "stored", || stored(&daemon.place, "leaf").exists());
    assert_eq!(responder.asked(), 1);
    assert_eq!(told(&daemon.place), [""; 0]);
}
