//! Several certificates side by side, each with its proof (row S4), and proofs for whole chains (row S8).
#![cfg(ocsp_stapling)]

#[path = "support/ca.rs"]
mod ca;
#[path = "support/stapling_server.rs"]
mod stapling_server;
#[path = "support/tls_client.rs"]
mod tls_client;
#[path = "support/within.rs"]
mod within;

use ca::{DAY, ProofSpec, Status, ca, good};
use oxim::mail::envelope::{OcspState, TlsInfo};
use oxim::ocsp::registry::{Keeper, Key, Registry, Wanted};
use oxim::tls::Audience;
use oxim::tls::gnutls::credentials::STAPLES_CHAINS;
use oxim::tls::gnutls::session::ClientCertificate;
use stapling_server::{Options, Server};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Once};
use std::thread;
use std::time::{Duration, SystemTime};
use tls_client::{VERSIONS, client, client_with, start, trusting};
use within::within_a_second;

/// Clients that can check one kind of signature only, under both versions.
const ONLY_ECDSA: [&str; 2] = [
    "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+ECDHE-ECDSA",
    "NORMAL:-VERS-ALL:+VERS-TLS1.3:-SIGN-ALL:+SIGN-ECDSA-SECP256R1-SHA256",
];
const ONLY_RSA: [&str; 2] = [
    "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+ECDHE-RSA",
    "NORMAL:-VERS-ALL:+VERS-TLS1.3:-SIGN-ALL:+SIGN-RSA-PSS-RSAE-SHA256",
];

/// `leaf` has an ECDSA key; `rsa` is the same with an RSA key, `rsa-staple` a must-staple one.
fn with_rsa() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let names = "subjectAltName=DNS:mx.test,DNS:localhost,IP:127.0.0.1";
        ca().issue_rsa("rsa", names);
        ca().issue_rsa("rsa-staple", &format!("{names}\n1.3.6.1.5.5.7.1.24=DER:30:03:02:01:05"));
    });
}

fn in_ca(file: &str) -> String {
    ca().path(file).to_str().unwrap().to_owned()
}

/// These certificates in a list, with this as `tls_ocsp_file`.
fn listed(names: &[&str], proofs: &str) -> Options {
    with_rsa();
    let list = |suffix: &str| {
        names.iter().map(|name| in_ca(&format!("{name}{suffix}"))).collect::<Vec<_>>().join(" : ")
    };
    let mut options =
        Options::from([("tls_certificate", list("-chain.pem")), ("tls_privatekey", list(".key"))]);
    if !proofs.is_empty() {
        options.insert("tls_ocsp_file", proofs.to_owned());
    }
    options
}

fn put(directory: &Path, file: &str, bytes: &[u8]) -> String {
    let path = directory.join(file);
    ca().put(&path, bytes);
    path.to_str().unwrap().to_owned()
}

fn pem(responses: &[Vec<u8>]) -> Vec<u8> {
    use base64::Engine;
    let one = |der: &Vec<u8>| {
        let body = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN OCSP RESPONSE-----\n{body}\n-----END OCSP RESPONSE-----\n")
    };
    responses.iter().map(one).collect::<String>().into_bytes()
}

/// A good proof of the intermediate, by the root, whose certificate is inside: nobody sends it otherwise.
fn of_intermediate() -> ProofSpec {
    ProofSpec { signer: "root", inside: Some("root"), ..good("inter") }
}

fn der(name: &str) -> Vec<u8> {
    ca().certificate(name).der().unwrap()
}

/// What a client and the server saw of one session.
fn session(server: &Server, priority: &str, sni: Option<&str>) -> (TlsInfo, TlsInfo) {
    let count = server.sessions.lock().unwrap().len();
    let seen = client(server.address, priority, sni).unwrap();
    (seen, server.session(count + 1).unwrap())
}

#[test]
fn each_client_gets_the_certificate_it_can_check_with_that_certificates_proof() {
    let directory = tempfile::tempdir().unwrap();
    with_rsa();
    let rsa = put(directory.path(), "rsa.der", &ca().proof(&good("rsa")));
    let leaf = put(directory.path(), "leaf.der", &ca().proof(&good("leaf")));
    for (names, proofs) in
        [(["rsa", "leaf"], format!("{rsa} : {leaf}")), (["leaf", "rsa"], format!("<; {leaf} ; {rsa}"))]
    {
        let server = start(listed(&names, &proofs));
        for (clients, name) in [(ONLY_ECDSA, "leaf"), (ONLY_RSA, "rsa")] {
            for priority in clients {
                let (seen, own) = session(&server, priority, None);
                assert_eq!(
                    (&seen.peer_certificate, seen.ocsp),
                    (&der(name), OcspState::Verified),
                    "{priority}"
                );
                assert_eq!((&own.our_certificate, own.ocsp), (&der(name), OcspState::Verified), "{priority}");
                assert!(seen.certificate_verified);
            }
        }
        assert_eq!(server.told(), [""; 0]);
    }
}

#[test]
fn proofs_in_another_order_than_the_certificates_are_not_stapled_to_the_wrong_one() {
    let directory = tempfile::tempdir().unwrap();
    with_rsa();
    let rsa = put(directory.path(), "rsa.der", &ca().proof(&good("rsa")));
    let leaf = put(directory.path(), "leaf.der", &ca().proof(&good("leaf")));
    let server = start(listed(&["rsa", "leaf"], &format!("{leaf} : {rsa}")));
    for priority in ONLY_ECDSA.into_iter().chain(ONLY_RSA) {
        let (seen, own) = session(&server, priority, None);
        assert_eq!((seen.ocsp, own.ocsp), (OcspState::NoResponse, OcspState::NoResponse), "{priority}");
        assert!(seen.certificate_verified);
    }
    let told = server.told();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.iter().all(|line| line.ends_with("for another certificate")), "{told:?}");
}

#[test]
fn a_certificate_without_a_proof_in_the_list_has_none_and_its_promise_is_for_the_panic_log() {
    let directory = tempfile::tempdir().unwrap();
    with_rsa();
    let proof = put(directory.path(), "leaf.der", &ca().proof(&good("leaf")));
    // too short, and with an empty item
    for (names, list, without) in [
        (["leaf", "rsa-staple"], proof.clone(), ONLY_RSA),
        (["rsa-staple", "leaf"], format!(" : {proof}"), ONLY_RSA),
    ] {
        let server = start(listed(&names, &list));
        for version in 0..2 {
            assert_eq!(session(&server, ONLY_ECDSA[version], None).0.ocsp, OcspState::Verified);
            let (seen, own) = session(&server, without[version], None);
            assert_eq!((seen.ocsp, own.ocsp), (OcspState::NoResponse, OcspState::NoResponse));
            assert!(!seen.certificate_verified, "a client that knows of must-staple refuses");
        }
        let notices = server.notices.lock().unwrap();
        assert_eq!(notices.len(), 1, "{notices:?}");
        assert_eq!(notices[0].audience, Audience::Panic);
        let text = notices[0].text.to_string();
        assert!(text.contains("rsa-staple-chain.pem demands a stapled OCSP proof"), "{text}");
    }
}

#[test]
fn a_prefix_holds_until_the_next() {
    let directory = tempfile::tempdir().unwrap();
    with_rsa();
    let [rsa, leaf] = ["rsa", "leaf"].map(|name| ca().proof(&good(name)));
    let rsa_pem = put(directory.path(), "rsa.pem", &pem(std::slice::from_ref(&rsa)));
    let leaf_pem = put(directory.path(), "leaf.pem", &pem(std::slice::from_ref(&leaf)));
    let rsa = put(directory.path(), "rsa.der", &rsa);
    let leaf = put(directory.path(), "leaf.der", &leaf);
    for (list, stapled) in [
        (format!("{rsa} : PEM {leaf_pem}"), [true, true]),
        (format!("PEM {rsa_pem} : {leaf_pem}"), [true, true]),
        (format!("PEM {rsa_pem} : DER {leaf}"), [true, true]),
        (format!("PEM {rsa_pem} : {leaf}"), [true, false]),
        (format!("{rsa_pem} : {leaf}"), [false, true]),
        (format!("DER {rsa} : {leaf_pem}"), [true, false]),
    ] {
        let server = start(listed(&["rsa", "leaf"], &list));
        for (priority, stapled) in [ONLY_RSA[1], ONLY_ECDSA[1]].into_iter().zip(stapled) {
            let state = if stapled { OcspState::Verified } else { OcspState::NoResponse };
            assert_eq!(session(&server, priority, None).0.ocsp, state, "{list} {priority}");
        }
    }
}

#[test]
fn lists_of_different_lengths_are_told_and_missing_keys_are_an_error_in_exims_words() {
    let leaf = in_ca("leaf.key");
    let mut options = listed(&["leaf", "rsa"], "");
    options.insert("tls_privatekey", leaf.clone());
    let server = start(options);
    assert!(client(server.address, VERSIONS[1], None).is_err());
    assert_eq!(server.session(1).unwrap_err(), "(cert/key setup: out of keys)");

    let mut options = listed(&["leaf"], "/nowhere/one : /nowhere/two");
    options.insert("tls_privatekey", format!("{leaf} : /nowhere/key"));
    let server = start(options);
    assert!(session(&server, VERSIONS[1], None).0.certificate_verified);
    let told = server.told();
    assert_eq!(told.len(), 3, "{told:?}");
    assert_eq!(told[0], "TLS: tls_privatekey has more files than tls_certificate: the rest is not used");
    assert_eq!(told[1], "OCSP: tls_ocsp_file has more files than tls_certificate: the rest is not used");
    assert_eq!(told[2], "OCSP: /nowhere/one is not stapled: no such file");
}

#[test]
fn the_second_pair_of_a_list_is_named_if_it_cannot_be_used() {
    let mut options = listed(&["leaf", "rsa"], "");
    options.insert("tls_certificate", format!("{} : /nowhere/cert", in_ca("leaf-chain.pem")));
    let server = start(options);
    assert!(client(server.address, VERSIONS[1], None).is_err());
    let error = server.session(1).unwrap_err();
    let key = in_ca("rsa.key");
    assert_eq!(error, format!("(cert/key setup: cert=/nowhere/cert key={key}): Error while reading file."));
    assert_eq!(server.told(), ["TLS: /nowhere/cert: No such file or directory"]);
}

#[test]
fn a_key_list_that_is_empty_means_the_files_of_the_certificates() {
    with_rsa();
    let directory = tempfile::tempdir().unwrap();
    let both = |name: &str| {
        let bytes = [ca().read(&format!("{name}-chain.pem")), ca().read(&format!("{name}.key"))].concat();
        put(directory.path(), &format!("{name}.pem"), &bytes)
    };
    let certificates = format!("<; {} ; {}", both("rsa"), both("leaf"));
    for keys in [None, Some(""), Some("FAIL")] {
        let mut options = Options::from([("tls_certificate", certificates.clone())]);
        keys.map(|keys| options.insert("tls_privatekey", keys.to_owned()));
        let server = start(options);
        for (priority, name) in [(ONLY_ECDSA[1], "leaf"), (ONLY_RSA[1], "rsa")] {
            assert_eq!(session(&server, priority, None).0.peer_certificate, der(name), "{keys:?}");
        }
    }
}

#[test]
fn the_promise_of_a_certificate_that_a_server_name_chose_is_for_the_panic_log_once() {
    let options = Options::from([
        ("tls_certificate", in_ca("SNI-chain.pem")),
        ("tls_privatekey", in_ca("SNI.key")),
        ("tls_ocsp_file", in_ca("SNI.none")),
    ]);
    let server = start(options);
    for priority in VERSIONS.into_iter().cycle().take(4) {
        session(&server, priority, Some("staple.test"));
    }
    let notices = server.notices.lock().unwrap();
    let panics: Vec<_> = notices.iter().filter(|notice| notice.audience == Audience::Panic).collect();
    assert_eq!(panics.len(), 1, "{notices:?}");
    let text = panics[0].text.to_string();
    assert!(
        text.contains("staple.none is not stapled: no such file; ") && text.contains("must-staple"),
        "{text}"
    );
}

#[test]
fn a_list_of_lists_by_server_name_shows_each_name_its_own() {
    let directory = tempfile::tempdir().unwrap();
    with_rsa();
    for name in ["leaf", "other", "rsa"] {
        put(directory.path(), &format!("{name}.der"), &ca().proof(&good(name)));
    }
    let rsa = directory.path().join("rsa.der");
    let of_name = directory.path().join("SNI.der");
    let options = Options::from([
        ("tls_certificate", format!("{} : {}", in_ca("SNI-chain.pem"), in_ca("rsa-chain.pem"))),
        ("tls_privatekey", format!("{} : {}", in_ca("SNI.key"), in_ca("rsa.key"))),
        ("tls_ocsp_file", format!("{} : {}", of_name.display(), rsa.display())),
    ]);
    let server = start(options);
    for version in 0..2 {
        for (priority, name, shown) in [
            (ONLY_ECDSA[version], "leaf.test", "leaf"),
            (ONLY_ECDSA[version], "other.test", "other"),
            (ONLY_RSA[version], "leaf.test", "rsa"),
            (ONLY_RSA[version], "other.test", "rsa"),
        ] {
            let (seen, own) = session(&server, priority, Some(name));
            assert_eq!(
                (&seen.peer_certificate, seen.ocsp),
                (&der(shown), OcspState::Verified),
                "{priority} {name}"
            );
            assert_eq!(
                (&own.our_certificate, own.ocsp),
                (&der(shown), OcspState::Verified),
                "{priority} {name}"
            );
        }
    }
}

/// What openssl's client gets, as hexadecimal digits of all messages.
fn wire(address: SocketAddr, arguments: &[&str]) -> String {
    let said = Command::new("openssl")
        .args(["s_client", "-connect", &address.to_string(), "-msg", "-servername", "mx.test"])
        .args(["-verify_return_error", "-CAfile", &in_ca("root.pem")])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&said.stdout);
    assert!(text.contains("Verify return code: 0"), "{text} {}", String::from_utf8_lossy(&said.stderr));
    // lines of bytes are indented; others would put their letters in between
    text.lines().filter(|line| line.starts_with("    ")).flat_map(str::split_whitespace).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_whole_chain_is_stapled_under_tls_1_3_and_the_leaf_alone_under_tls_1_2() {
    if !STAPLES_CHAINS {
        return; // GnuTLS before 3.6.3
    }
    let directory = tempfile::tempdir().unwrap();
    let (leaf, inter) = (ca().proof(&good("leaf")), ca().proof(&of_intermediate()));
    let path = put(directory.path(), "chain.pem", &[]);
    let mut options = listed(&["leaf"], &format!("PEM {path}"));
    options.insert("tls_verify_certificates", in_ca("root.pem"));
    // in either order
    for responses in [[leaf.clone(), inter.clone()], [inter.clone(), leaf.clone()]] {
        ca().put(Path::new(&path), &pem(&responses));
        let server = start(options.clone());
        let both = wire(server.address, &["-status", "-tls1_3"]);
        assert!(both.contains(&hex(&leaf)) && both.contains(&hex(&inter)), "{both}");
        let one = wire(server.address, &["-status", "-tls1_2"]);
        assert!(one.contains(&hex(&leaf)) && !one.contains(&hex(&inter)), "{one}");
        let none = wire(server.address, &["-tls1_3"]);
        assert!(!none.contains(&hex(&leaf)) && !none.contains(&hex(&inter)), "{none}");
        for priority in VERSIONS {
            let (seen, own) = session(&server, priority, None);
            assert_eq!((seen.ocsp, own.ocsp), (OcspState::Verified, OcspState::Verified), "{priority}");
            let count = server.sessions.lock().unwrap().len();
            let seen = client_with(server.address, priority, None, &trusting(), false).unwrap();
            let own = server.session(count + 1).unwrap();
            assert_eq!(
                (seen.ocsp, own.ocsp),
                (OcspState::NotRequested, OcspState::NotRequested),
                "{priority}"
            );
        }
        assert_eq!(server.told(), [""; 0]);
        for version in ["1.2", "1.3"] {
            gnutls_cli_trusts(server.address, version);
        }
    }
}

fn gnutls_cli_trusts(address: SocketAddr, version: &str) {
    let said = Command::new("gnutls-cli")
        .args(["--x509cafile", &in_ca("root.pem"), "--ocsp", "--verify-hostname=mx.test"])
        .args([&format!("--priority=NORMAL:-VERS-ALL:+VERS-TLS{version}"), "-p", &address.port().to_string()])
        .arg("127.0.0.1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&said.stdout);
    assert!(text.contains("Status: The certificate is trusted"), "{version}: {text}");
    assert!(text.contains("OCSP status request"), "{version}: {text}");
}

#[test]
fn beside_a_stapled_chain_the_other_certificate_of_the_list_has_its_own_proof() {
    let directory = tempfile::tempdir().unwrap();
    with_rsa();
    let chain = put(
        directory.path(),
        "chain.pem",
        &pem(&[ca().proof(&good("leaf")), ca().proof(&of_intermediate())]),
    );
    let rsa = put(directory.path(), "rsa.der", &ca().proof(&good("rsa")));
    let mut options = listed(&["rsa", "leaf"], &format!("{rsa} : PEM {chain}"));
    options.insert("tls_verify_certificates", in_ca("root.pem"));
    let server = start(options);
    for (clients, name) in [(ONLY_ECDSA, "leaf"), (ONLY_RSA, "rsa")] {
        for priority in clients {
            let (seen, own) = session(&server, priority, None);
            assert_eq!((&seen.peer_certificate, seen.ocsp), (&der(name), OcspState::Verified), "{priority}");
            assert_eq!((&own.our_certificate, own.ocsp), (&der(name), OcspState::Verified), "{priority}");
        }
    }
    assert_eq!(server.told(), [""; 0]);
}

#[test]
fn a_proof_of_the_intermediate_that_cannot_be_used_is_told_and_the_leafs_goes_out_alone() {
    let directory = tempfile::tempdir().unwrap();
    let expired = ProofSpec { this_update: -3 * DAY, next_update: Some(-60), ..of_intermediate() };
    let revoked = ProofSpec { status: Status::Revoked, ..of_intermediate() };
    // Signed by a certificate that may not: GnuTLS would load it.
    let forged = ProofSpec { signer: "rogue", ..of_intermediate() };
    for (spec, reason, audience) in [
        (expired, "expired at ", Audience::Main),
        (revoked, "revoked", Audience::Panic),
        (forged, "bad signature", Audience::Main),
    ] {
        let (leaf, inter) = (ca().proof(&good("leaf")), ca().proof(&spec));
        let path = put(directory.path(), "chain.pem", &pem(&[leaf.clone(), inter.clone()]));
        let mut options = listed(&["leaf"], &format!("PEM {path}"));
        options.insert("tls_verify_certificates", in_ca("root.pem"));
        let server = start(options);
        let got = wire(server.address, &["-status", "-tls1_3"]);
        assert!(got.contains(&hex(&leaf)) && !got.contains(&hex(&inter)), "{reason}");
        let notices = server.notices.lock().unwrap();
        assert_eq!(notices.len(), 1, "{notices:?}");
        let text = notices[0].text.to_string();
        let begin = format!("OCSP: {path}: the proof of O=oxim test,CN=inter.test is not stapled: ");
        assert!(text.starts_with(&begin) && text.contains(reason), "{text}");
        assert_eq!(notices[0].audience, audience);
    }
}

#[test]
fn a_proof_of_the_intermediate_goes_out_only_if_clients_find_its_signer_in_it_or_in_the_chain() {
    if !STAPLES_CHAINS {
        return; // GnuTLS before 3.6.3
    }
    let directory = tempfile::tempdir().unwrap();
    ca().issue("root_delegate", "root", "extendedKeyUsage=OCSPSigning");
    let bare = ProofSpec { inside: None, ..of_intermediate() };
    let delegated = ProofSpec { signer: "root_delegate", inside: Some("root_delegate"), ..of_intermediate() };
    let with_root =
        put(directory.path(), "long.pem", &[ca().read("leaf-chain.pem"), ca().read("root.pem")].concat());
    let leaf = ca().proof(&good("leaf"));
    for (spec, chain, goes_out) in [
        (&bare, in_ca("leaf-chain.pem"), false),
        (&bare, with_root, true),
        (&delegated, in_ca("leaf-chain.pem"), true),
    ] {
        let inter = ca().proof(spec);
        let path = put(directory.path(), "chain.pem", &pem(&[leaf.clone(), inter.clone()]));
        let mut options = listed(&["leaf"], &format!("PEM {path}"));
        options.insert("tls_certificate", chain);
        options.insert("tls_verify_certificates", in_ca("root.pem"));
        let server = start(options);
        let got = wire(server.address, &["-status", "-tls1_3"]);
        assert_eq!(
            (got.contains(&hex(&inter)), got.contains(&hex(&leaf))),
            (goes_out, true),
            "{}",
            spec.signer
        );
        // In each case a client that checks is content.
        assert_eq!(session(&server, VERSIONS[1], None).0.ocsp, OcspState::Verified, "{}", spec.signer);
        let told = server.told();
        assert_eq!(told.len(), usize::from(!goes_out), "{told:?}");
        assert!(told.iter().all(|line| line.contains("neither in it nor in the chain")), "{told:?}");
    }
}

#[test]
fn without_a_usable_proof_of_the_leaf_that_of_the_intermediate_stays_here() {
    let directory = tempfile::tempdir().unwrap();
    let inter = ca().proof(&of_intermediate());
    let expired = ca().proof(&ProofSpec { this_update: -3 * DAY, next_update: Some(-60), ..good("leaf") });
    for responses in [vec![inter.clone()], vec![expired, inter.clone()]] {
        let path = put(directory.path(), "chain.pem", &pem(&responses));
        let mut options = listed(&["leaf"], &format!("PEM {path}"));
        options.insert("tls_verify_certificates", in_ca("root.pem"));
        let server = start(options);
        assert!(!wire(server.address, &["-status", "-tls1_3"]).contains(&hex(&inter)));
        assert_eq!(session(&server, VERSIONS[1], None).1.ocsp, OcspState::NoResponse);
    }
}

#[test]
fn proofs_of_a_chain_are_replaced_and_run_out_one_by_one() {
    if !STAPLES_CHAINS {
        return; // GnuTLS before 3.6.3
    }
    let directory = tempfile::tempdir().unwrap();
    let (leaf, inter) = (ca().proof(&good("leaf")), ca().proof(&of_intermediate()));
    let brief = ca().proof(&ProofSpec { next_update: Some(3), ..of_intermediate() });
    let path = put(directory.path(), "chain.pem", &pem(&[leaf.clone(), brief.clone()]));
    let mut options = listed(&["leaf"], &format!("PEM {path}"));
    options.insert("tls_verify_certificates", in_ca("root.pem"));
    let server = start(options);
    let sends = |response: &[u8]| wire(server.address, &["-status", "-tls1_3"]).contains(&hex(response));
    assert!(sends(&leaf) && sends(&brief));
    thread::sleep(Duration::from_millis(3500));
    within_a_second(|| !sends(&brief));
    assert!(sends(&leaf), "the leaf's goes on alone");
    ca().put(Path::new(&path), &pem(&[leaf.clone(), inter.clone()]));
    within_a_second(|| sends(&inter));
    // The leaf is revoked: nothing goes out any more, least of all what was loaded.
    let revoked = ca().proof(&ProofSpec { status: Status::Revoked, ..good("leaf") });
    ca().put(Path::new(&path), &pem(&[revoked, inter.clone()]));
    within_a_second(|| session(&server, VERSIONS[1], None).1.ocsp == OcspState::NoResponse);
    assert!(!sends(&leaf) && !sends(&inter));
}

/// A keeper that only lets things be brought.
struct Idle;
impl Keeper for Idle {
    fn want(&self, _: Key, _: &Wanted) {}
    fn want_list(&self, _: oxim::ocsp::registry::Key, _: &oxim::ocsp::registry::WantedList) {}
    fn forget(&self, _: Key) {}
}

#[test]
fn fetched_proofs_of_a_whole_chain_are_stapled_and_a_revocation_stops_them_at_once() {
    if !STAPLES_CHAINS {
        return; // GnuTLS before 3.6.3
    }
    let registry = Registry::new(Arc::new(Idle));
    let mut options = listed(&["leaf"], "");
    options.insert("tls_verify_certificates", in_ca("root.pem"));
    let server = Server::start_with(options, ClientCertificate::Ignored, Some(registry.clone()));
    let key = |name: &str, issuer: &str| Key::of(&ca().certificate(name), &ca().certificate(issuer)).unwrap();
    let hear = |key, response: &[u8]| registry.heard(key, response, SystemTime::now()).unwrap();
    let sends = |response: &[u8]| wire(server.address, &["-status", "-tls1_3"]).contains(&hex(response));
    let (leaf, inter) = (ca().proof(&good("leaf")), ca().proof(&of_intermediate()));
    assert!(!sends(&leaf));
    hear(key("leaf", "inter"), &leaf);
    hear(key("inter", "root"), &inter);
    assert!(sends(&leaf), "the leaf's needs no new credentials");
    within_a_second(|| sends(&inter) && sends(&leaf));
    // A newer one of the leaf goes out with the next handshake, whatever is loaded.
    let newer = ca().proof(&ProofSpec { next_update: Some(2 * DAY), ..good("leaf") });
    hear(key("leaf", "inter"), &newer);
    assert!(sends(&newer));
    within_a_second(|| sends(&inter) && sends(&newer));
    let revoked = ca().proof(&ProofSpec { status: Status::Revoked, ..good("leaf") });
    hear(key("leaf", "inter"), &revoked);
    let (seen, own) = session(&server, VERSIONS[1], None);
    assert_eq!((seen.ocsp, own.ocsp), (OcspState::NoResponse, OcspState::NoResponse));
    let told = server.told();
    assert!(told.len() == 1 && told[0].contains("the certificate is revoked"), "{told:?}");
}

#[test]
fn one_response_for_several_certificates_goes_out_once_with_the_leaf() {
    let directory = tempfile::tempdir().unwrap();
    let both = ca().proof_of_all(&[good("leaf"), good("inter")]);
    let path = put(directory.path(), "both.der", &both);
    let server = start(listed(&["leaf"], &path));
    for version in ["-tls1_2", "-tls1_3"] {
        let got = wire(server.address, &["-status", version]);
        assert_eq!(got.matches(&hex(&both)).count(), 1, "{version}");
    }
    assert_eq!(server.told(), [""; 0]);
}
