//! Handshakes of many threads while certificate, key and proof are replaced again and again: none fails, no proof goes
//! out with another certificate, none later than a second after it was replaced, and memory stays as it was.
#![cfg(ocsp_stapling)]

#[path = "support/ca.rs"]
mod ca;
#[path = "support/long.rs"]
mod long;
#[path = "support/stapling_server.rs"]
mod stapling_server;
#[path = "support/tls_client.rs"]
mod tls_client;

use ca::{DAY, ProofSpec, ca, good};
use long::short_or_long;
use oxim::tls::gnutls::credentials::{Credentials, CredentialsBuilder};
use oxim::tls::gnutls::ocsp;
use oxim::tls::gnutls::priority::Priority;
use oxim::tls::gnutls::session::{Session, Side};
use stapling_server::{Options, soon};
use std::collections::HashMap;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use tls_client::{VERSIONS, start};

/// Between two replacements.
const PACE: Duration = Duration::from_millis(100);
/// How many proofs of each certificate there are; they go out in turn.
const PROOFS: i64 = 16;

/// A proof, and when it was last put there and last replaced.
struct Known {
    certificate: Vec<u8>,
    replaced: Mutex<Option<Instant>>,
}

struct Files {
    certificate: &'static str,
    proof: Vec<u8>,
}

#[test]
fn while_certificate_key_and_proof_are_replaced_no_handshake_fails_and_nothing_is_mixed_or_stale() {
    let (threads, rounds) = short_or_long((10, 40), (50, 1000));
    let directory = tempfile::tempdir().unwrap();
    let sets: Vec<Files> = (0..PROOFS)
        .flat_map(|n| ["leaf", "other"].map(|name| (name, n)))
        .map(|(certificate, n)| {
            let proof = ca().proof(&ProofSpec { next_update: Some(DAY + n), ..good(certificate) });
            Files { certificate, proof }
        })
        .collect();
    let known: HashMap<Vec<u8>, Known> = sets
        .iter()
        .map(|set| {
            let certificate = ca().certificate(set.certificate).der().unwrap();
            (set.proof.clone(), Known { certificate, replaced: Mutex::new(None) })
        })
        .collect();
    install(directory.path(), &sets[0]);
    let text = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let server = start(Options::from([
        ("tls_certificate", text("cert.pem")),
        ("tls_privatekey", text("key.pem")),
        ("tls_ocsp_file", text("proof.der")),
    ]));
    let (stop, shaken, bare) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let credentials = Arc::new(CredentialsBuilder::new().unwrap().share());
    let mut memory = 0;
    thread::scope(|scope| {
        for number in 0..threads {
            let (stop, shaken, bare, known, credentials) = (&stop, &shaken, &bare, &known, &credentials);
            let address = server.address;
            scope.spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    let begun = Instant::now();
                    let (certificate, staple) = shake(address, VERSIONS[number % 2], credentials);
                    shaken.fetch_add(1, Ordering::SeqCst);
                    let Some(staple) = staple else {
                        bare.fetch_add(1, Ordering::SeqCst);
                        continue;
                    };
                    let proof = known.get(&staple).expect("a proof that was never there");
                    assert!(proof.certificate == certificate, "the proof of another certificate");
                    let replaced = *proof.replaced.lock().unwrap();
                    if let Some(age) = replaced.and_then(|replaced| begun.checked_duration_since(replaced)) {
                        assert!(age <= Duration::from_secs(1), "{age:?} after it was replaced");
                    }
                }
            });
        }
        let work = std::panic::AssertUnwindSafe(|| {
            for round in 1..=rounds {
                let (before, set) = (&sets[(round - 1) % sets.len()], &sets[round % sets.len()]);
                *known[&set.proof].replaced.lock().unwrap() = None;
                install(directory.path(), set);
                *known[&before.proof].replaced.lock().unwrap() = Some(Instant::now());
                thread::sleep(PACE);
                for session in server.sessions.lock().unwrap().drain(..) {
                    assert!(session.is_ok(), "{session:?}");
                }
                if round == rounds / 4 {
                    memory = resident();
                }
            }
        });
        let done = std::panic::catch_unwind(work);
        stop.store(true, Ordering::SeqCst);
        done.unwrap();
    });
    let (shaken, bare) = (shaken.into_inner(), bare.into_inner());
    let grown = resident().saturating_sub(memory);
    println!("{shaken} handshakes, {bare} without a proof, {grown} KiB more after three quarters of them");
    assert!(shaken > rounds, "only {shaken} handshakes");
    // Between the renames of certificate and proof there is none that fits; the watcher lets that pass.
    assert!(bare * 100 <= shaken, "{bare} of {shaken} without a proof");
    assert!(grown < 4096, "{grown} KiB");
    // A pair of two renames that was seen half is told, and nothing else.
    for line in server.told() {
        let half = line.ends_with("the former certificate stays in use");
        assert!(half || line.contains("for another certificate") || line.contains("stapled again"), "{line}");
    }
}

/// Puts the three files there, each by rename.
fn install(directory: &Path, set: &Files) {
    ca().put(&directory.join("cert.pem"), &ca().read(&format!("{}-chain.pem", set.certificate)));
    ca().put(&directory.join("key.pem"), &ca().read(&format!("{}.key", set.certificate)));
    ca().put(&directory.join("proof.der"), &set.proof);
}

/// One handshake, which must not fail; the certificate that was shown and the proof.
fn shake(address: SocketAddr, version: &str, credentials: &Arc<Credentials>) -> (Vec<u8>, Option<Vec<u8>>) {
    let priority = Arc::new(Priority::parse(version.as_bytes()).unwrap());
    let socket = TcpStream::connect(address).unwrap();
    let side = Side::Client { request_status: true };
    let mut session = Session::new(side, socket, Arc::clone(credentials), priority).unwrap();
    session.set_deadline(soon());
    ocsp::request_staple(&mut session).unwrap();
    session.handshake(None).unwrap();
    let mut greeting = [0; 64];
    assert!(session.receive(&mut greeting).unwrap() > 0);
    let _ = session.bye();
    (session.peer_certificates().swap_remove(0), ocsp::received_staple(&session, 0))
}

/// Resident memory of this process in KiB.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
