//! Responses with entries for several certificates (row S4): what clients make of them, and which a server staples.
#![cfg(ocsp_stapling)]

#[path = "support/ca.rs"]
mod ca;
#[path = "support/stapling_server.rs"]
mod stapling_server;
#[path = "support/tls_client.rs"]
mod tls_client;

use ca::{DAY, ProofSpec, ca, good};
use oxim::mail::envelope::OcspState;
use oxim::ocsp::registry::{Keeper, Key, Registry, Wanted, WantedList};
use oxim::ocsp::{Proof, Subject, Unfit};
use oxim::tls::gnutls::session::ClientCertificate;
use stapling_server::{Server, staple_anything};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::SystemTime;
use tls_client::{VERSIONS, client, options};

fn said(program: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

/// gnutls-cli goes on with this server, asking for a staple as it does by default.
fn gnutls_goes_on(address: SocketAddr, version: &str) -> bool {
    let (root, port) = (ca().path("root.pem"), address.port().to_string());
    let versions = format!("--priority=NORMAL:-VERS-ALL:+VERS-TLS{version}");
    let known = ["--x509cafile", root.to_str().unwrap(), "--verify-hostname=mx.test"];
    let (code, text) = said("gnutls-cli", &[&known[..], &[&versions, "-p", &port, "127.0.0.1"]].concat());
    assert_eq!(code == Some(0), text.contains("Status: The certificate is trusted"), "{text}");
    code == Some(0)
}

/// What openssl's client was stapled: so many entries.
fn entries_seen_by_openssl(address: SocketAddr, version: &str) -> usize {
    let (root, address) = (ca().path("root.pem"), address.to_string());
    let version = format!("-tls{}", version.replace('.', "_"));
    let trust = ["-CAfile", root.to_str().unwrap(), "-verify_return_error"];
    let asked = ["s_client", "-connect", &address, "-status", "-servername", "mx.test", &version];
    let (code, text) = said("openssl", &[&asked[..], &trust].concat());
    assert!(code == Some(0) && text.contains("Verify return code: 0"), "{text}");
    text.matches("Cert Status: good").count()
}

fn other_first() -> Vec<u8> {
    ca().proof_of_all(&[good("other"), good("leaf")])
}

fn pem(responses: &[Vec<u8>]) -> Vec<u8> {
    use base64::Engine;
    let one = |der: &Vec<u8>| {
        let body = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN OCSP RESPONSE-----\n{body}\n-----END OCSP RESPONSE-----\n")
    };
    responses.iter().map(one).collect::<String>().into_bytes()
}

fn put(directory: &Path, bytes: &[u8]) -> std::path::PathBuf {
    let path = directory.join("proof");
    ca().put(&path, bytes);
    path
}

#[test]
fn gnutls_refuses_the_handshake_if_the_first_entry_is_of_another_certificate_and_openssl_does_not_mind() {
    let own_first = ca().proof_of_all(&[good("leaf"), good("other")]);
    for (staple, goes_on) in [(own_first, true), (other_first(), false)] {
        for version in ["1.2", "1.3"] {
            let serve = || {
                staple_anything(&ca().read("leaf-chain.pem"), &ca().read("leaf.key"), Some(staple.clone()))
            };
            assert_eq!(gnutls_goes_on(serve(), version), goes_on, "{version}");
            assert_eq!(entries_seen_by_openssl(serve(), version), 2, "{version}");
        }
    }
}

#[test]
fn a_response_that_speaks_of_another_certificate_first_is_not_stapled_and_told_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let path = put(directory.path(), &other_first());
    let server = Server::start(options("leaf", Some(&path)), ClientCertificate::Ignored);
    for version in ["1.2", "1.3"] {
        assert!(gnutls_goes_on(server.address, version), "{version}");
        assert_eq!(entries_seen_by_openssl(server.address, version), 0, "{version}");
    }
    let line = format!(
        "OCSP: {} is not stapled: its first entry is for another certificate, and clients with GnuTLS look at no other",
        path.display()
    );
    assert_eq!(server.told(), [line]);
}

#[test]
fn another_proof_beside_it_is_stapled_whichever_lasts_longer() {
    let directory = tempfile::tempdir().unwrap();
    let shorter = ca().proof(&ProofSpec { next_update: Some(DAY / 2), ..good("leaf") });
    let path = put(directory.path(), &pem(&[other_first(), shorter]));
    let mut options = options("leaf", None);
    options.insert("tls_ocsp_file", format!("PEM {}", path.display()));
    let server = Server::start(options, ClientCertificate::Ignored);
    for version in ["1.2", "1.3"] {
        assert!(gnutls_goes_on(server.address, version), "{version}");
        assert_eq!(entries_seen_by_openssl(server.address, version), 1, "{version}");
    }
    assert_eq!(server.told(), [""; 0]);
}

struct Idle;
impl Keeper for Idle {
    fn want(&self, _: Key, _: &Wanted) {}
    fn want_list(&self, _: Key, _: &WantedList) {}
    fn forget(&self, _: Key) {}
}

#[test]
fn one_that_was_fetched_is_not_used_and_what_it_says_of_a_revocation_is_heard() {
    let registry = Registry::new(Arc::new(Idle));
    let server =
        Server::start_with(options("leaf", None), ClientCertificate::Ignored, Some(registry.clone()));
    let seen = || client(server.address, VERSIONS[1], Some("mx.test")).unwrap().ocsp;
    assert_eq!(seen(), OcspState::NoResponse);
    let key = Key::of(&ca().certificate("leaf"), &ca().certificate("inter")).unwrap();
    registry.heard(key, &ca().proof(&good("leaf")), SystemTime::now()).unwrap();
    let longer = ProofSpec { next_update: Some(9 * DAY), ..good("leaf") };
    let combined = ca().proof_of_all(&[good("other"), longer]);
    assert!(matches!(registry.heard(key, &combined, SystemTime::now()), Err(Unfit::NotFirst)));
    assert_eq!(seen(), OcspState::Verified, "by the proof that there was");
    let revoked = ProofSpec { status: ca::Status::Revoked, ..good("leaf") };
    registry.heard(key, &ca().proof_of_all(&[good("other"), revoked]), SystemTime::now()).unwrap();
    assert_eq!(seen(), OcspState::NoResponse);
}

#[test]
fn a_client_of_ours_believes_its_own_eyes_and_gnutls_whichever_sees_less() {
    // What a server stapled is judged without regard to the order; that GnuTLS does not vouch for it is its verdict.
    let subject = Subject::new(&ca().certificate("leaf"), ca().certificate("inter")).unwrap();
    assert!(Proof::check(&other_first(), &subject, SystemTime::now()).is_ok());
    let refused = Proof::check_to_show(&other_first(), &subject, SystemTime::now());
    assert!(matches!(refused, Err(Unfit::NotFirst)));
}
