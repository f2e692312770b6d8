//! The server's side of TLS (rows S0 to S12 of the specification), with our own client and with openssl's as a
//! foreign witness.
#![cfg(ocsp_stapling)]

#[path = "support/ca.rs"]
mod ca;
#[path = "support/stapling_server.rs"]
mod stapling_server;

use ca::{Ca, DAY, ProofSpec, Status, ca, good, try_later};
use oxim::mail::envelope::{OcspState, TlsInfo};
use oxim::tls::gnutls::session::ClientCertificate;
use oxim::tls::gnutls::x509::Certificate;
use oxim::tls::{ClientError, ClientRequest, ClientSettings, ClientTls, Verify};
use stapling_server::{Options, Server, soon};
use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

const VERSIONS: [&str; 2] = ["NORMAL:-VERS-ALL:+VERS-TLS1.2", "NORMAL:-VERS-ALL:+VERS-TLS1.3"];

/// Connects as a delivery does that requests a staple, reads the greeting, and hangs up.
fn client(address: SocketAddr, version: &str, sni: Option<&str>) -> Result<TlsInfo, ClientError> {
    client_with(address, version, sni, &trusting(), true)
}

fn trusting() -> ClientSettings {
    let trust = ca().path("root.pem").to_str().unwrap().into();
    ClientSettings { verify_certificates: Some(trust), ..ClientSettings::default() }
}

fn client_with(
    address: SocketAddr,
    version: &str,
    sni: Option<&str>,
    settings: &ClientSettings,
    ask: bool,
) -> Result<TlsInfo, ClientError> {
    let request = ClientRequest {
        settings,
        ciphers: Some(version.as_bytes()),
        sni: sni.map(str::as_bytes),
        verify: Verify::Try,
        host_name: None,
        request_ocsp: ask,
        require_ocsp: false,
        deadline: soon(),
        on_connect: true,
        now: SystemTime::now(),
        notify: &|_| {},
    };
    let (mut stream, info) = ClientTls::new().connect(TcpStream::connect(address).unwrap(), &request)?;
    let mut greeting = [0; 64];
    let _ = stream.read(&mut greeting);
    Ok(info)
}

/// Settings for one of the authority's certificates, with this as the proof.
fn options(name: &str, proof: Option<&Path>) -> Options {
    let path = |file: String| ca().path(&file).to_str().unwrap().to_owned();
    let mut options = Options::from([
        ("tls_certificate", path(format!("{name}-chain.pem"))),
        ("tls_privatekey", path(format!("{name}.key"))),
    ]);
    if let Some(proof) = proof {
        options.insert("tls_ocsp_file", proof.to_str().unwrap().to_owned());
    }
    options
}

fn start(options: Options) -> Server {
    Server::start(options, ClientCertificate::Ignored)
}

/// A directory of this test's own.
fn scratch() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let proof = directory.path().join("proof.der");
    (directory, proof)
}

/// What openssl's client says of the staple.
fn openssl_status(address: SocketAddr, version: &str) -> String {
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &address.to_string(), version, "-status", "-servername", "mx.test"])
        .arg("-CAfile")
        .arg(ca().path("root.pem"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_good_proof_is_stapled_and_openssl_sees_it_too() {
    let (_directory, path) = scratch();
    ca().put(&path, &ca().proof(&good("leaf")));
    let server = start(options("leaf", Some(&path)));
    for (at, version) in VERSIONS.into_iter().enumerate() {
        let info = client(server.address, version, Some("mx.test")).unwrap();
        assert_eq!((info.ocsp, info.certificate_verified), (OcspState::Verified, true));
        let seen = server.session(at + 1).unwrap();
        assert_eq!(seen.ocsp, OcspState::Verified, "{version}");
        assert_eq!(seen.sni.unwrap().bytes(), "mx.test");
        assert_eq!(seen.our_certificate, ca().certificate("leaf").der().unwrap());
    }
    for version in ["-tls1_2", "-tls1_3"] {
        let said = openssl_status(server.address, version);
        assert!(said.contains("OCSP Response Status: successful (0x0)"), "{said}");
        assert!(said.contains("Cert Status: good") && said.contains("Verify return code: 0"), "{said}");
    }
    assert_eq!(server.told(), [""; 0]);
}

#[test]
fn the_bytes_go_out_as_they_came() {
    let (_directory, path) = scratch();
    let delegated = ProofSpec { signer: "delegate", inside: Some("delegate"), ..good("leaf") };
    for spec in [delegated, ProofSpec { inside: Some("inter"), ..good("leaf") }] {
        let proof = ca().proof(&spec);
        ca().put(&path, &proof);
        let server = start(options("leaf", Some(&path)));
        let said = Command::new("openssl")
            .args(["s_client", "-connect", &server.address.to_string(), "-status", "-msg"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let hex: String = String::from_utf8_lossy(&said.stdout).split_whitespace().collect();
        let wanted: String = proof[..60].iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(hex.contains(&wanted), "the proof is not on the wire");
    }
}

#[test]
fn who_does_not_ask_gets_nothing_and_it_shows() {
    let (_directory, path) = scratch();
    ca().put(&path, &ca().proof(&good("leaf")));
    let server = start(options("leaf", Some(&path)));
    for (at, version) in VERSIONS.into_iter().enumerate() {
        let info = client_with(server.address, version, None, &trusting(), false).unwrap();
        assert_eq!(info.ocsp, OcspState::NotRequested);
        assert_eq!(server.session(at + 1).unwrap().ocsp, OcspState::NotRequested);
    }
}

#[test]
fn an_unusable_proof_is_not_stapled_and_told_once_with_file_and_reason() {
    let spec = good("leaf");
    let past = ProofSpec { this_update: -3 * DAY, next_update: Some(-60), ..good("leaf") };
    let future = ProofSpec { this_update: DAY, next_update: Some(2 * DAY), ..good("leaf") };
    let powerless = ProofSpec { signer: "powerless", inside: Some("powerless"), ..good("leaf") };
    let make = |spec: &ProofSpec| Some(ca().proof(spec));
    let cases: Vec<(Option<Vec<u8>>, &str)> = vec![
        (None, "no such file"),
        (Some(Vec::new()), "empty"),
        (Some(b"nonsense".to_vec()), "malformed: "),
        (Some(ca().proof(&spec)[..200].to_vec()), "malformed: "),
        (Some(vec![0x30; 70_000]), "longer than 65536 bytes"),
        (Some(try_later()), "the responder answered tryLater"),
        (make(&past), "expired at "),
        (make(&future), "not valid before "),
        (make(&ProofSpec { next_update: None, ..good("leaf") }), "no nextUpdate"),
        (make(&good("other")), "for another certificate"),
        (make(&ProofSpec { broken: true, ..good("leaf") }), "bad signature"),
        (make(&ProofSpec { signer: "rogue", ..good("leaf") }), "not signed by the issuer"),
        (make(&powerless), "not signed by the issuer"),
        (make(&ProofSpec { status: Status::Revoked, ..good("leaf") }), "the certificate is revoked"),
        (make(&ProofSpec { status: Status::Unknown, ..good("leaf") }), "does not know the certificate"),
    ];
    for (proof, reason) in cases {
        let (_directory, path) = scratch();
        if let Some(proof) = proof {
            ca().put(&path, &proof);
        }
        let server = start(options("leaf", Some(&path)));
        for version in VERSIONS {
            let info = client(server.address, version, None).unwrap();
            assert_eq!((info.ocsp, info.certificate_verified), (OcspState::NoResponse, true), "{reason}");
        }
        assert_eq!(server.session(2).unwrap().ocsp, OcspState::NoResponse);
        let told = server.told();
        assert_eq!(told.len(), 1, "{told:?}");
        let start = format!("OCSP: {} is not stapled: ", path.display());
        assert!(told[0].starts_with(&start) && told[0].contains(reason), "{told:?}");
    }
}

#[test]
fn a_revoked_proof_is_for_the_panic_log() {
    let (_directory, path) = scratch();
    ca().put(&path, &ca().proof(&ProofSpec { status: Status::Revoked, ..good("leaf") }));
    let server = start(options("leaf", Some(&path)));
    client(server.address, VERSIONS[1], None).unwrap();
    let notices = server.notices.lock().unwrap();
    assert_eq!(notices[0].audience, oxim::tls::Audience::Panic);
}

#[test]
fn an_unset_empty_or_forced_option_means_no_staple_and_another_failure_names_the_option() {
    for value in [None, Some(""), Some("FAIL")] {
        let mut options = options("leaf", None);
        value.map(|value| options.insert("tls_ocsp_file", value.to_owned()));
        let server = start(options);
        assert_eq!(client(server.address, VERSIONS[1], None).unwrap().ocsp, OcspState::NoResponse);
        assert_eq!(server.told(), [""; 0]);
    }
    let mut options = options("leaf", None);
    options.insert("tls_ocsp_file", "ERROR".to_owned());
    let server = start(options);
    assert!(client(server.address, VERSIONS[1], None).is_err());
    assert_eq!(server.session(1).unwrap_err(), "expansion of tls_ocsp_file failed: no such variable");
}

#[test]
fn a_proof_in_pem_needs_its_prefix() {
    use base64::Engine;
    let (_directory, path) = scratch();
    let body = base64::engine::general_purpose::STANDARD.encode(ca().proof(&good("leaf")));
    let lines: Vec<&str> =
        body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let pem = format!("-----BEGIN OCSP RESPONSE-----\n{}\n-----END OCSP RESPONSE-----\n", lines.join("\n"));
    ca().put(&path, pem.as_bytes());
    for (prefix, state) in
        [("PEM ", OcspState::Verified), ("DER ", OcspState::NoResponse), ("", OcspState::NoResponse)]
    {
        let mut options = options("leaf", None);
        options.insert("tls_ocsp_file", format!("{prefix}{}", path.display()));
        let server = start(options);
        assert_eq!(client(server.address, VERSIONS[1], None).unwrap().ocsp, state, "{prefix}");
    }
}

#[test]
fn replaced_proof_certificate_and_key_are_used_within_a_second() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let install = |name: &str| {
        ca().put(&at("cert.pem"), &ca().read(&format!("{name}-chain.pem")));
        ca().put(&at("key.pem"), &ca().read(&format!("{name}.key")));
    };
    install("leaf");
    ca().put(&at("proof"), &ca().proof(&good("leaf")));
    let text = |name: &str| at(name).to_str().unwrap().to_owned();
    let server = start(Options::from([
        ("tls_certificate", text("cert.pem")),
        ("tls_privatekey", text("key.pem")),
        ("tls_ocsp_file", text("proof")),
    ]));
    let state = || client(server.address, VERSIONS[1], None).unwrap();
    assert_eq!(state().ocsp, OcspState::Verified);
    ca().put(&at("proof"), &ca().proof(&ProofSpec { status: Status::Revoked, ..good("leaf") }));
    within_a_second(|| state().ocsp == OcspState::NoResponse);
    ca().put(&at("proof"), &ca().proof(&good("leaf")));
    within_a_second(|| state().ocsp == OcspState::Verified);
    // Another certificate: its former proof is never stapled to it.
    install("other");
    let other = ca().certificate("other").der().unwrap();
    within_a_second(|| {
        let info = state();
        assert_eq!(info.ocsp == OcspState::NoResponse, info.peer_certificate == other);
        info.peer_certificate == other
    });
    ca().put(&at("proof"), &ca().proof(&good("other")));
    within_a_second(|| state().ocsp == OcspState::Verified);
    let told = server.told();
    let proof_lines: Vec<_> = told.iter().filter(|line| line.starts_with("OCSP:")).collect();
    assert_eq!(proof_lines.len(), 4, "{told:?}");
    assert!(proof_lines[0].contains("revoked") && proof_lines[1].contains("stapled again"), "{told:?}");
    assert!(
        proof_lines[2].contains("another certificate") && proof_lines[3].contains("stapled again"),
        "{told:?}"
    );
}

fn within_a_second(mut seen: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(1);
    while !seen() {
        assert!(Instant::now() < end, "not within a second");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn between_two_renames_the_former_pair_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let (cert, key) = (directory.path().join("cert"), directory.path().join("key"));
    ca().put(&cert, &ca().read("leaf-chain.pem"));
    ca().put(&key, &ca().read("leaf.key"));
    let server = start(Options::from([
        ("tls_certificate", cert.to_str().unwrap().to_owned()),
        ("tls_privatekey", key.to_str().unwrap().to_owned()),
    ]));
    client(server.address, VERSIONS[1], None).unwrap();
    ca().put(&cert, &ca().read("other-chain.pem"));
    thread::sleep(oxim::tls::cache::CHECK_INTERVAL);
    let leaf = ca().certificate("leaf").der().unwrap();
    assert_eq!(client(server.address, VERSIONS[1], None).unwrap().peer_certificate, leaf);
    assert_eq!(server.told().len(), 1);
    ca().put(&key, &ca().read("other.key"));
    let other = ca().certificate("other").der().unwrap();
    within_a_second(|| client(server.address, VERSIONS[1], None).unwrap().peer_certificate == other);
}

/// Certificates `NAME-chain.pem`, proofs `NAME.der` (for `leaf` only), by server name.
fn by_name(directory: &Path) -> Options {
    ca().put(&directory.join("leaf.der"), &ca().proof(&good("leaf")));
    let path = |file: &str| ca().path(file).to_str().unwrap().to_owned();
    Options::from([
        ("tls_certificate", path("SNI-chain.pem")),
        ("tls_privatekey", path("SNI.key")),
        ("tls_ocsp_file", directory.join("SNI.der").to_str().unwrap().to_owned()),
    ])
}

#[test]
fn certificate_and_staple_follow_the_server_name_together() {
    let (directory, _) = scratch();
    let server = start(by_name(directory.path()));
    let der = |name: &str| ca().certificate(name).der().unwrap();
    for version in VERSIONS {
        // The proof of a virtual host is missing: no staple, and that aborts nothing.
        let other = client(server.address, version, Some("OTHER.test")).unwrap();
        assert_eq!((other.ocsp, other.peer_certificate), (OcspState::NoResponse, der("other")), "{version}");
        let leaf = client(server.address, version, Some("leaf.test")).unwrap();
        assert_eq!((leaf.ocsp, leaf.peer_certificate), (OcspState::Verified, der("leaf")), "{version}");
        let none = client(server.address, version, None).unwrap();
        assert_eq!((none.ocsp, none.peer_certificate), (OcspState::Verified, der("leaf")), "{version}");
    }
    assert_eq!(server.session(1).unwrap().sni.unwrap().bytes(), "other.test");
    assert_eq!(server.session(1).unwrap().ocsp, OcspState::NoResponse);
}

#[test]
fn a_name_without_certificate_ends_the_handshake_and_is_told_once() {
    let (directory, _) = scratch();
    let server = start(by_name(directory.path()));
    for count in 1..=3 {
        assert!(client(server.address, VERSIONS[1], Some("nobody.test")).is_err());
        let error = server.session(count).unwrap_err();
        assert!(
            error.starts_with("(cert/key setup: cert=") && error.ends_with("Error while reading file."),
            "{error}"
        );
    }
    assert_eq!(server.told().len(), 1, "{:?}", server.told());
    assert!(server.told()[0].ends_with("nobody-chain.pem: No such file or directory"));
}

#[test]
fn a_missing_or_wrong_certificate_is_told_in_exims_words() {
    let path = |name: &str| ca().path(name).to_str().unwrap().to_owned();
    for (certificate, key, words) in [
        ("none.pem", "none.pem", "Error while reading file."),
        ("leaf-chain.pem", "other.key", "The certificate and the given key do not match."),
    ] {
        let (certificate, key) = (path(certificate), path(key));
        let options =
            Options::from([("tls_certificate", certificate.clone()), ("tls_privatekey", key.clone())]);
        let server = start(options);
        assert!(client(server.address, VERSIONS[1], None).is_err());
        let error = server.session(1).unwrap_err();
        assert_eq!(error, format!("(cert/key setup: cert={certificate} key={key}): {words}"));
    }
}

#[test]
fn an_encrypted_key_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("key");
    let encrypted = Command::new("openssl")
        .args(["pkcs8", "-topk8", "-passout", "pass:secret", "-in"])
        .arg(ca().path("leaf.key"))
        .output()
        .unwrap();
    fs::write(&key, encrypted.stdout).unwrap();
    let mut options = options("leaf", None);
    options.insert("tls_privatekey", key.to_str().unwrap().to_owned());
    let server = start(options);
    assert!(client(server.address, VERSIONS[1], None).is_err());
    assert!(server.session(1).is_err());
    assert!(
        server.told()[0].ends_with("the private key is encrypted with a password"),
        "{:?}",
        server.told()
    );
}

#[test]
fn without_a_certificate_a_self_signed_one_is_made_and_nothing_is_stapled() {
    let server = start(Options::new());
    for version in VERSIONS {
        let info = client(server.address, version, None).unwrap();
        assert_eq!((info.ocsp, info.certificate_verified), (OcspState::NoResponse, false));
        let certificate = Certificate::from_der(&info.peer_certificate).unwrap();
        assert!(certificate.dn().unwrap().ends_with(b"CN=self.test"));
    }
    let told = server.told();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(
        told[0],
        "Warning: No server certificate defined; will use a selfsigned one.\n Suggested action: either install a \
         certificate or change tls_advertise_hosts option"
    );
}

#[test]
fn a_must_staple_certificate_without_a_proof_is_for_the_panic_log() {
    let server = start(options("staple", None));
    let info = client(server.address, VERSIONS[1], None).unwrap();
    assert!(!info.certificate_verified);
    let notices = server.notices.lock().unwrap();
    assert_eq!(notices.len(), 1);
    assert_eq!(notices[0].audience, oxim::tls::Audience::Panic);
    assert!(notices[0].text.to_string().contains("must-staple"), "{notices:?}");
}

#[test]
fn a_must_staple_certificate_with_a_proof_is_quiet() {
    let (_directory, path) = scratch();
    ca().put(&path, &ca().proof(&good("staple")));
    let server = start(options("staple", Some(&path)));
    for version in VERSIONS {
        assert_eq!(client(server.address, version, None).unwrap().ocsp, OcspState::Verified);
    }
    assert_eq!(server.told(), [""; 0]);
}

#[test]
fn a_leaf_of_the_root_itself_finds_its_issuer_in_the_proof_or_among_the_trusted() {
    let (_directory, path) = scratch();
    let file = |name: &str| ca().path(name).to_str().unwrap().to_owned();
    let own = [("tls_certificate", file("direct.pem")), ("tls_privatekey", file("direct.key"))];
    let by_root = ProofSpec { signer: "root", ..good("direct") };
    let inside = ProofSpec { inside: Some("root"), ..by_root.clone() };
    for (spec, trusted) in [(&inside, false), (&by_root, true)] {
        ca().put(&path, &ca().proof(spec));
        let mut options = Options::from(own.clone());
        options.insert("tls_ocsp_file", path.to_str().unwrap().to_owned());
        if trusted {
            options.insert("tls_verify_certificates", file("root.pem"));
        }
        let server = start(options);
        let info = client(server.address, VERSIONS[1], None).unwrap();
        assert_eq!(server.session(1).unwrap().ocsp, OcspState::Verified, "{trusted} {:?}", server.told());
        // GnuTLS as a client looks for the issuer in the handshake and in the proof only, and says no; so do we then.
        let seen = if trusted { OcspState::NotVerified } else { OcspState::Verified };
        assert_eq!(info.ocsp, seen);
    }
}

/// openssl's client shows a certificate even if the server does not list its authority.
fn openssl_shows(address: SocketAddr, name: &str) {
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &address.to_string(), "-cert"])
        .arg(ca().path(&format!("{name}.pem")))
        .arg("-key")
        .arg(ca().path(&format!("{name}.key")))
        .stdin(Stdio::null())
        .output();
    output.unwrap();
}

#[test]
fn client_certificates_are_asked_for_checked_and_shown() {
    let file = |name: &str| ca().path(name).to_str().unwrap().to_owned();
    let mut wanted = options("leaf", None);
    wanted.insert("tls_verify_certificates", file("root.pem"));
    let showing = |name: &str| ClientSettings {
        certificate: Some(file(&format!("{name}.pem")).into()),
        private_key: Some(file(&format!("{name}.key")).into()),
        ..trusting()
    };
    for version in VERSIONS {
        let server = Server::start(wanted.clone(), ClientCertificate::Requested);
        client_with(server.address, version, None, &showing("direct"), true).unwrap();
        let info = server.session(1).unwrap();
        assert!(info.certificate_verified);
        assert_eq!(info.peer_dn.bytes(), "O=oxim test,CN=direct.test");
        openssl_shows(server.address, "rogue");
        assert!(!server.session(2).unwrap().certificate_verified);
        client_with(server.address, version, None, &trusting(), true).unwrap();
        assert!(server.session(3).unwrap().peer_dn.is_empty());

        let server = Server::start(wanted.clone(), ClientCertificate::Required);
        openssl_shows(server.address, "rogue");
        let error = server.session(1).unwrap_err();
        assert_eq!(error, "(certificate verification failed): certificate invalid");
        let _ = client_with(server.address, version, None, &trusting(), true);
        assert!(server.session(2).unwrap_err().starts_with("(gnutls_handshake): "));
        client_with(server.address, version, None, &showing("direct"), true).unwrap();
        assert!(server.session(3).unwrap().certificate_verified);
    }
}

#[test]
fn one_unit_serves_many_threads_while_its_proof_is_replaced() {
    let (_directory, path) = scratch();
    let authority: &Ca = ca();
    authority.put(&path, &authority.proof(&good("leaf")));
    let server = start(options("leaf", Some(&path)));
    let address = server.address;
    thread::scope(|scope| {
        for number in 0..8 {
            scope.spawn(move || {
                for turn in 0..10 {
                    let info = client(address, VERSIONS[(number + turn) % 2], None).unwrap();
                    assert_eq!(info.ocsp, OcspState::Verified);
                }
            });
        }
        for _ in 0..4 {
            authority.put(&path, &authority.proof(&good("leaf")));
            thread::sleep(Duration::from_millis(200));
        }
    });
    assert_eq!(server.told(), [""; 0]);
}

#[test]
fn bytes_that_are_no_tls_are_an_error_and_silence_is_timed_out() {
    use std::io::Write;
    let server = start(options("leaf", None));
    let mut socket = TcpStream::connect(server.address).unwrap();
    socket.write_all(b"EHLO me\r\n").unwrap();
    let error = server.session(1).unwrap_err();
    assert_eq!(error, "(gnutls_handshake): An unexpected TLS packet was received.");
}
