//! A server whose proofs are fetched: what it staples of the word that the keeper has brought, with a keeper that only
//! takes notes.
#![cfg(ocsp_stapling)]

#[path = "support/ca.rs"]
mod ca;
#[path = "support/stapling_server.rs"]
mod stapling_server;
#[path = "support/tls_client.rs"]
mod tls_client;

use bstr::ByteSlice;
use ca::{DAY, ProofSpec, Status, ca, good};
use oxim::mail::envelope::OcspState;
use oxim::ocsp::registry::{Keeper, Key, Registry, Report, Wanted, WantedList};
use oxim::tls::Audience;
use oxim::tls::gnutls::session::ClientCertificate;
use stapling_server::Server;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};
use tls_client::{VERSIONS, client, options};

/// Takes notes; has this in store for whatever is asked for.
#[derive(Default)]
struct Notes {
    wanted: Mutex<Vec<(Key, Wanted)>>,
    store: Option<Vec<u8>>,
    /// There is no keeper at the moment.
    dead: AtomicBool,
}

impl Keeper for Notes {
    fn want(&self, key: Key, wanted: &Wanted) {
        self.wanted.lock().unwrap().push((key, wanted.clone()));
    }
    fn want_list(&self, _: Key, _: &WantedList) {}
    fn forget(&self, _: Key) {}
    fn stored(&self, _: Key) -> Option<Vec<u8>> {
        self.store.clone()
    }
    fn fetches(&self) -> bool {
        !self.dead.load(Ordering::SeqCst)
    }
}

/// A server with its registry, after one client has come; and the key of its certificate.
fn started(
    name: &str,
    more: &[(&'static str, String)],
    store: Option<Vec<u8>>,
) -> (Server, Registry, Arc<Notes>) {
    let notes = Arc::new(Notes { store, ..Notes::default() });
    let registry = Registry::new(notes.clone());
    let mut options = options(name, None);
    options.extend(more.iter().cloned());
    let server = Server::start_with(options, ClientCertificate::Ignored, Some(registry.clone()));
    (server, registry, notes)
}

fn seen(server: &Server) -> OcspState {
    client(server.address, VERSIONS[1], Some("mx.test")).unwrap().ocsp
}

fn leaf_key() -> Key {
    Key::of(&ca().certificate("leaf"), &ca().certificate("inter")).unwrap()
}

/// The end of a proof, as logs say it; `next` is seconds from now.
fn proof(next: i64) -> Vec<u8> {
    ca().proof(&ProofSpec { next_update: Some(next), ..good("leaf") })
}

#[test]
fn what_the_keeper_brings_is_stapled_from_the_next_handshake_on() {
    let (server, registry, notes) = started("leaf", &[], None);
    assert_eq!(seen(&server), OcspState::NoResponse);
    let (key, wanted) = notes.wanted.lock().unwrap()[0].clone();
    assert_eq!((key, wanted.responder), (leaf_key(), None));
    assert_eq!(wanted.certificate, ca().certificate("leaf").der().unwrap());
    registry.heard(key, &proof(DAY), SystemTime::now()).unwrap();
    assert_eq!(seen(&server), OcspState::Verified);
    assert_eq!(server.told(), [""; 0], "nothing went wrong");
}

#[test]
fn what_an_earlier_run_has_stored_is_stapled_at_the_first_handshake_if_it_holds() {
    let (server, ..) = started("leaf", &[], Some(proof(DAY)));
    assert_eq!(seen(&server), OcspState::Verified);
    for unfit in [proof(-60), ca().proof(&good("other")), b"nonsense".to_vec()] {
        let (server, ..) = started("leaf", &[], Some(unfit));
        assert_eq!(seen(&server), OcspState::NoResponse);
        assert_eq!(server.told(), [""; 0]);
    }
}

#[test]
fn of_the_files_proof_and_the_fetched_one_that_is_stapled_which_may_be_shown_longer() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("proof.der");
    let in_file = vec![("tls_ocsp_file", path.to_str().unwrap().to_owned())];
    let stapled = |filed: i64, fetched: i64| {
        ca().put(&path, &proof(filed));
        let (server, registry, _) = started("leaf", &in_file, None);
        seen(&server);
        let _ = registry.heard(leaf_key(), &proof(fetched), SystemTime::now());
        let said = std::process::Command::new("openssl")
            .args(["s_client", "-connect", &server.address.to_string(), "-status"])
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let line =
            said.lines().find(|line| line.contains("Next Update: ")).map(|line| line.trim().to_owned());
        line.map(|line| line.replace("Next Update: ", ""))
    };
    let at = |days: i64| {
        let time = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * days);
        time.strftime("%b %e").to_string()
    };
    let starts = |said: Option<String>, days: i64| {
        let said = said.expect("a staple");
        assert!(said.starts_with(&at(days)), "{said}, not {}", at(days));
    };
    starts(stapled(2 * DAY, 5 * DAY), 5);
    starts(stapled(5 * DAY, 2 * DAY), 5);
    // One that cannot be used leaves the other in its right.
    starts(stapled(-60, 2 * DAY), 2);
    starts(stapled(2 * DAY, -60), 2);
}

#[test]
fn a_revoked_certificate_has_no_staple_whatever_the_file_says_and_the_panic_log_hears_of_it_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("proof.der");
    ca().put(&path, &proof(DAY));
    let in_file = vec![("tls_ocsp_file", path.to_str().unwrap().to_owned())];
    let (server, registry, _) = started("leaf", &in_file, None);
    assert_eq!(seen(&server), OcspState::Verified);
    let revoked = ca().proof(&ProofSpec { status: Status::Revoked, ..good("leaf") });
    registry.heard(leaf_key(), &revoked, SystemTime::now()).unwrap();
    for _ in 0..3 {
        assert_eq!(seen(&server), OcspState::NoResponse);
    }
    let notices = server.notices.lock().unwrap().clone();
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert_eq!(notices[0].audience, Audience::Panic);
    let text = notices[0].text.to_string();
    assert!(text.starts_with("OCSP: O=oxim test,CN=leaf.test (serial "), "{text}");
    assert!(
        text.contains("): the certificate is revoked (since ") && text.ends_with("); nothing is stapled"),
        "{text}"
    );
}

#[test]
fn each_change_of_state_is_told_once_and_a_good_start_not_at_all() {
    let (server, registry, _) = started("leaf", &[], None);
    let say = |error: &str| {
        let source = "http://responder.test/".to_owned();
        let report = Report { source, last_error: error.to_owned(), ..Report::default() };
        registry.told(leaf_key(), report);
        seen(&server);
        seen(&server);
        server.told()
    };
    seen(&server);
    assert_eq!(say(""), [""; 0]);
    let told = say("no answer within 20 s");
    assert_eq!(told.len(), 1);
    assert!(
        told[0]
            .ends_with("): no proof yet (http://responder.test/: no answer within 20 s); nothing is stapled"),
        "{told:?}"
    );
    assert_eq!(say("another reason").len(), 1, "the state is the same");
    registry.heard(leaf_key(), &proof(DAY), SystemTime::now()).unwrap();
    let told = say("");
    assert!(told.len() == 2 && told[1].contains("): a new proof is stapled until "), "{told:?}");
    let told = say("no answer within 20 s");
    assert!(told.len() == 3 && told[2].contains("): no new proof (http://responder.test/: no answer within 20 s); the one in hand is stapled until "), "{told:?}");
    // Past its end, by the clock that is given.
    let entry = registry.entry(leaf_key()).unwrap();
    let later = SystemTime::now() + std::time::Duration::from_secs(2 * DAY as u64);
    let change = entry.change(later).unwrap();
    assert!(change.text.contains("): its proof ran out at ") && !change.alarming, "{change:?}");
    assert_eq!(entry.change(later), None);
}

#[test]
fn each_element_of_the_chain_whose_issuer_is_known_is_looked_after_and_the_named_responder_is_the_leafs() {
    let trust = ("tls_verify_certificates", ca().path("root.pem").to_str().unwrap().to_owned());
    let responder = ("tls_ocsp_responder", "http://responder.test:8080/x".to_owned());
    let (server, _, notes) = started("leaf", &[trust, responder], None);
    seen(&server);
    let wanted: Vec<_> = notes.wanted.lock().unwrap().iter().map(|(_, wanted)| wanted.clone()).collect();
    assert_eq!(wanted.len(), 2, "the root has no issuer, and is not shown");
    assert_eq!(wanted[0].responder.as_deref(), Some("http://responder.test:8080/x"));
    assert_eq!(wanted[1].certificate, ca().certificate("inter").der().unwrap());
    assert_eq!((&wanted[1].issuer, &wanted[1].responder), (&ca().certificate("root").der().unwrap(), &None));
    let (server, _, notes) = started("leaf", &[("tls_ocsp_responder", "https://a/".into())], None);
    seen(&server);
    assert_eq!(notes.wanted.lock().unwrap()[0].1.responder, None);
    let told = server.told();
    assert!(
        told[0]
            .starts_with("OCSP: tls_ocsp_responder is not used, the certificate's own responder is asked: "),
        "{told:?}"
    );
}

#[test]
fn a_certificate_whose_issuer_is_not_known_is_told_if_somebody_could_be_asked() {
    let path = |name: &str| ca().path(name).to_str().unwrap().to_owned();
    let alone = ("tls_certificate", path("leaf.pem"));
    let responder = ("tls_ocsp_responder", "http://responder.test/".to_owned());
    let told = |more: &[(&'static str, String)]| {
        let (server, _, notes) = started("leaf", more, None);
        assert_eq!(seen(&server), OcspState::NoResponse);
        (server.told(), notes.wanted.lock().unwrap().len())
    };
    let (lines, wanted) = told(&[alone.clone(), responder.clone()]);
    assert!(
        lines.len() == 1 && lines[0].contains("CN=leaf.test: its issuer's certificate is neither"),
        "{lines:?}"
    );
    assert_eq!(wanted, 0);
    // Nobody names a responder: nothing is missed. The issuer is among those that are trusted: nothing is missing.
    assert_eq!(told(std::slice::from_ref(&alone)), (vec![], 0));
    let trusted = ("tls_verify_certificates", path("inter.pem"));
    assert_eq!(told(&[alone, responder, trusted]), (vec![], 1));
}

#[test]
fn what_was_made_here_is_looked_after_by_nobody() {
    let notes = Arc::new(Notes::default());
    let registry = Registry::new(notes.clone());
    let server = Server::start_with(Default::default(), ClientCertificate::Ignored, Some(registry));
    let _ = client(server.address, VERSIONS[1], None); // nobody trusts it
    let _ = server.session(1);
    assert_eq!(notes.wanted.lock().unwrap().len(), 0);
}

/// How long a client took for its handshake, and what it saw.
fn timed(server: &Server) -> (Duration, OcspState) {
    let begun = Instant::now();
    let state = seen(server);
    (begun.elapsed(), state)
}

#[test]
fn who_comes_before_the_first_word_on_a_certificate_that_demands_a_proof_waits_for_it() {
    let responder = ("tls_ocsp_responder", "http://responder.test/".to_owned());
    let key = Key::of(&ca().certificate("staple"), &ca().certificate("inter")).unwrap();
    for (word, expected) in [
        (Some(ca().proof(&good("staple"))), OcspState::Verified),
        (Some(ca().proof(&ProofSpec { status: Status::Revoked, ..good("staple") })), OcspState::NoResponse),
        (None, OcspState::NoResponse), // the attempt fails
    ] {
        let (server, registry, notes) = started("staple", std::slice::from_ref(&responder), None);
        let told = std::thread::spawn(move || {
            while notes.wanted.lock().unwrap().is_empty() {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_millis(300));
            match word {
                Some(word) => registry.heard(key, &word, SystemTime::now()).unwrap(),
                None => registry.told(key, Report { last_error: "refused".into(), ..Report::default() }),
            }
        });
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..20).map(|_| scope.spawn(|| timed(&server))).collect();
            for client in clients {
                let (time, state) = client.join().unwrap();
                assert!(time >= Duration::from_millis(250) && state == expected, "{time:?} {state:?}");
            }
        });
        told.join().unwrap();
        assert!(timed(&server).0 < Duration::from_secs(1));
        let alarms = server.notices.lock().unwrap().clone();
        let alarms = alarms.iter().filter(|notice| notice.audience == Audience::Panic);
        let promised =
            alarms.filter(|notice| notice.text.contains_str("demands a stapled OCSP proof")).count();
        assert_eq!(promised, usize::from(expected != OcspState::Verified));
    }
}

#[test]
fn nobody_waits_for_a_keeper_that_is_not_there_for_a_responder_that_nobody_named_or_for_less_than_a_promise()
{
    let responder = ("tls_ocsp_responder", "http://responder.test/".to_owned());
    let (dead, _, notes) = started("staple", std::slice::from_ref(&responder), None);
    notes.dead.store(true, Ordering::SeqCst);
    let (unnamed, ..) = started("staple", &[], None);
    let (plain, ..) = started("leaf", std::slice::from_ref(&responder), None);
    let in_file = ("tls_ocsp_file", ca().path("staple.proof").to_str().unwrap().to_owned());
    ca().put(&ca().path("staple.proof"), &ca().proof(&good("staple")));
    let (filed, ..) = started("staple", &[responder, in_file], None);
    for server in [&dead, &unnamed, &plain, &filed] {
        assert!(timed(server).0 < Duration::from_secs(2));
    }
    assert_eq!(timed(&filed).1, OcspState::Verified);
    // Once it is there again, it is worth the while.
    notes.dead.store(false, Ordering::SeqCst);
    assert!(timed(&dead).0 > Duration::from_secs(4));
}
