//! A daemon whose proofs are fetched, and the clients that see what it staples.

use crate::ca::{ca, good};
use crate::daemon::{Daemon, Place, Program};
use crate::responder::{Mode, Responder};
use crate::smtp_client::Smtp;
use oxim::mail::envelope::{OcspState, TlsInfo};
use oxim::ocsp::registry::Key;
use oxim::tls::{ClientRequest, ClientSettings, ClientTls, Verify};
use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

pub const PATIENCE: Duration = Duration::from_secs(30);

/// A server whose proofs are fetched from this responder, and no others are there.
pub fn text(responder: &Responder, more: &str) -> String {
    format!(
        "tls_advertise_hosts = *\ntls_certificate = @DIR@/chain.pem\ntls_privatekey = @DIR@/key.pem\n\
         tls_ocsp_fetch = true\ntls_ocsp_responder = {}\n{more}acl_smtp_rcpt = accept\n",
        responder.url()
    )
}

pub fn place(certificate: &str, text: &str) -> Place {
    let place = Place::new(Program::Oxim, text).with_keepers_user();
    put_certificate(&place, certificate);
    place
}

/// The same with virtual hosts `staple.test` and `other.test` beside the default, whose proofs are fetched as `fetch` says.
pub fn place_of_hosts(responder: &Responder, fetch: &str) -> Place {
    let file =
        |name: &str| format!("@DIR@/${{if def:tls_in_sni{{hosts/$tls_in_sni/{name}.pem}}{{{name}.pem}}}}");
    let text = text(responder, "")
        .replace("@DIR@/chain.pem", &file("chain"))
        .replace("@DIR@/key.pem", &file("key"))
        .replace("tls_ocsp_fetch = true", &format!("tls_ocsp_fetch = {fetch}"));
    let place = place("leaf", &text);
    for name in ["staple", "other"] {
        let host = place.path("hosts").join(format!("{name}.test"));
        fs::create_dir_all(&host).unwrap();
        fs::write(host.join("chain.pem"), ca().read(&format!("{name}-chain.pem"))).unwrap();
        fs::write(host.join("key.pem"), ca().read(&format!("{name}.key"))).unwrap();
    }
    place
}

pub fn put_certificate(place: &Place, certificate: &str) {
    for (from, to) in
        [(format!("{certificate}-chain.pem"), "chain.pem"), (format!("{certificate}.key"), "key.pem")]
    {
        let new = place.path("new");
        fs::write(&new, ca().read(&from)).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o644)).unwrap();
        fs::rename(new, place.path(to)).unwrap();
    }
}

/// A responder that knows these certificates.
pub fn each(names: &[&'static str]) -> Mode {
    let one = |name: &&'static str| (ca().certificate(name).serial().unwrap(), ca().proof(&good(name)));
    Mode::Each(names.iter().map(one).collect())
}

/// What a client sees that demands nothing.
pub fn seen(port: u16, sni: &str) -> OcspState {
    shake(port, sni).ocsp
}

pub fn shake(port: u16, sni: &str) -> TlsInfo {
    shake_on(Smtp::starttls(port), sni)
}

pub fn shake_on(socket: TcpStream, sni: &str) -> TlsInfo {
    let settings = ClientSettings {
        verify_certificates: Some(ca().path("root.pem").to_str().unwrap().into()),
        ..ClientSettings::default()
    };
    let request = ClientRequest {
        terms: oxim::tls::ClientTerms::default(),
        settings: &settings,
        ciphers: None,
        sni: Some(sni.as_bytes()).filter(|sni| !sni.is_empty()),
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
    ClientTls::new().connect(socket, &request).unwrap().1
}

/// Shakes hands until a client sees the certificate of this name with a good proof.
pub fn wait_until_shown(daemon: &Daemon, name: &str) {
    let der = ca().certificate(name).der().unwrap();
    wait_until(&daemon.place, &format!("a good proof with {name}"), || {
        let info = shake(daemon.port, "");
        info.peer_certificate == der && info.ocsp == OcspState::Verified
    });
}

/// Shakes hands until a client sees this.
pub fn wait_until_seen(daemon: &Daemon, sni: &str, state: OcspState) {
    wait_until(&daemon.place, &format!("{state:?} for {sni}"), || seen(daemon.port, sni) == state);
}

pub fn wait_until(place: &Place, what: &str, done: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "not {what}; log:\n{}", place.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn key_of(name: &str) -> Key {
    Key::of(&ca().certificate(name), &ca().certificate("inter")).unwrap()
}

pub fn stored(place: &Place, name: &str) -> PathBuf {
    place.path("spool/ocsp").join(format!("{}.ocsp", key_of(name)))
}

/// Lines of the log about proofs.
pub fn told(place: &Place) -> Vec<String> {
    place.log().lines().filter(|line| line.contains("OCSP")).map(str::to_owned).collect()
}
