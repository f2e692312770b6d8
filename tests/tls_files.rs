//! Files that are replaced while the server runs (row S3), and what a handshake costs (row S12).
#![cfg(ocsp_stapling)]

#[path = "support/ca.rs"]
mod ca;
#[path = "support/lists.rs"]
mod lists;
#[path = "support/stapling_server.rs"]
mod stapling_server;
#[path = "support/tls_client.rs"]
mod tls_client;
#[path = "support/within.rs"]
mod within;

use ca::{Ca, ProofSpec, Status, ca, good};
use lists::list_of_inter;
use oxim::mail::envelope::OcspState;
use oxim::tls::ClientSettings;
use oxim::tls::gnutls::session::ClientCertificate;
use stapling_server::{Options, Server};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;
use tls_client::{VERSIONS, client, client_with, open, options, start, trusting};
use within::within_a_second;

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
    let der = |name: &str| ca().certificate(name).der().unwrap();
    let shown = || client(server.address, VERSIONS[1], None).unwrap().peer_certificate;
    // In either order: between the two no pair is shown but the former, and the log says so once.
    for (first, second, then, count) in
        [(&cert, &key, "other", 1), (&key, &cert, "leaf", 2), (&cert, &key, "other", 3)]
    {
        let before = shown();
        let file =
            |path: &PathBuf| if path == &cert { format!("{then}-chain.pem") } else { format!("{then}.key") };
        ca().put(first, &ca().read(&file(first)));
        within_a_second(|| {
            assert_eq!(shown(), before);
            server.told().len() == count
        });
        thread::sleep(oxim::tls::cache::CHECK_INTERVAL * 2);
        assert_eq!((shown(), server.told().len()), (before, count), "{:?}", server.told());
        ca().put(second, &ca().read(&file(second)));
        within_a_second(|| shown() == der(then));
    }
    assert!(server.told()[0].ends_with("the former certificate stays in use"), "{:?}", server.told());
}

#[test]
fn a_turned_link_on_the_way_replaces_certificate_key_and_proof_and_leaves_sessions_alone() {
    // As certbot lays it out: live/mx/cert.pem -> ../../archive/mx/cert1.pem, and live/mx itself is turned too.
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for (version, name) in [(1, "leaf"), (2, "other"), (3, "leaf")] {
        fs::create_dir_all(at(&format!("archive/v{version}"))).unwrap();
        fs::write(at(&format!("archive/v{version}/cert.pem")), ca().read(&format!("{name}-chain.pem")))
            .unwrap();
        fs::write(at(&format!("archive/v{version}/key.pem")), ca().read(&format!("{name}.key"))).unwrap();
        fs::write(at(&format!("archive/v{version}/proof.der")), ca().proof(&good(name))).unwrap();
    }
    fs::create_dir_all(at("live/v1")).unwrap();
    for file in ["cert.pem", "key.pem", "proof.der"] {
        symlink(format!("../../archive/v1/{file}"), at(&format!("live/v1/{file}"))).unwrap();
    }
    symlink("v1", at("live/mx")).unwrap();
    let turn = |link: PathBuf, target: &str| turn(&link, target);
    let text = |name: &str| at(name).to_str().unwrap().to_owned();
    let server = start(Options::from([
        ("tls_certificate", text("live/mx/cert.pem")),
        ("tls_privatekey", text("live/mx/key.pem")),
        ("tls_ocsp_file", text("live/mx/proof.der")),
    ]));
    let settings = trusting();
    let (mut running, info) = open(server.address, VERSIONS[1], None, &settings, true).unwrap();
    let leaf = info.peer_certificate;
    let is = |name: &str| {
        let info = client(server.address, VERSIONS[1], None).unwrap();
        let right = info.peer_certificate == ca().certificate(name).der().unwrap();
        // Never another's proof with a certificate.
        assert!(!right || info.ocsp != OcspState::Failed);
        right && info.ocsp == OcspState::Verified
    };
    assert!(is("leaf"));
    // the links of the files
    for file in ["cert.pem", "key.pem", "proof.der"] {
        turn(at(&format!("live/v1/{file}")), &format!("../../archive/v2/{file}"));
    }
    within_a_second(|| is("other"));
    // the link of the directory
    turn(at("live/mx"), "../archive/v3");
    within_a_second(|| is("leaf"));
    running.write_all(b"still here\r\n").unwrap();
    let mut echoed = [0; 12];
    running.read_exact(&mut echoed).unwrap();
    assert_eq!((&echoed, leaf), (b"still here\r\n", ca().certificate("leaf").der().unwrap()));
}

#[test]
fn one_unit_serves_many_threads_while_its_proof_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("proof.der");
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

/// Makes a link point elsewhere, in one step.
fn turn(link: &Path, target: &str) {
    let new = link.with_extension("new");
    symlink(target, &new).unwrap();
    fs::rename(new, link).unwrap();
}

/// A client that shows `leaf`.
fn showing_leaf() -> ClientSettings {
    let path = |file: &str| Some(ca().path(file).to_str().unwrap().into());
    ClientSettings { certificate: path("leaf-chain.pem"), private_key: path("leaf.key"), ..trusting() }
}

/// A server that asks clients for certificates, with these authorities and revocation lists.
fn asking(authorities: &Path, lists: Option<&Path>) -> Server {
    let mut options = options("other", None);
    options.insert("tls_verify_certificates", authorities.to_str().unwrap().to_owned());
    lists.map(|lists| options.insert("tls_crl", lists.to_str().unwrap().to_owned()));
    Server::start(options, ClientCertificate::Requested)
}

/// Does the server verify the certificate of a client that shows `leaf`?
fn verifies(server: &Server) -> bool {
    let count = server.sessions.lock().unwrap().len();
    client_with(server.address, VERSIONS[1], None, &showing_leaf(), true).unwrap();
    server.session(count + 1).unwrap().certificate_verified
}

#[test]
fn replaced_authorities_and_revocation_lists_are_used_within_a_second_and_sessions_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let (none, leaf) = (list_of_inter(&[]).pem(), list_of_inter(&["leaf"]).pem());
    ca().put(&at("ca.pem"), &ca().read("root.pem"));
    ca().put(&at("crl.pem"), &none);
    let server = asking(&at("ca.pem"), Some(&at("crl.pem")));
    let (mut running, _) = open(server.address, VERSIONS[1], None, &showing_leaf(), true).unwrap();
    assert!(verifies(&server));
    for (file, bytes, good) in [
        ("crl.pem", leaf, false),
        ("crl.pem", none, true),
        ("ca.pem", ca().read("rogue.pem"), false),
        ("ca.pem", ca().read("both-roots.pem"), true),
    ] {
        ca().put(&at(file), &bytes);
        within_a_second(|| verifies(&server) == good);
    }
    running.write_all(b"still here\r\n").unwrap();
    running.read_exact(&mut [0; 12]).unwrap();
    assert_eq!(server.told(), [""; 0]);
}

#[test]
fn a_directory_of_authorities_is_looked_at_file_by_file_links_included() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for name in ["ca.d", "ca2.d", "elsewhere"] {
        fs::create_dir(at(name)).unwrap();
    }
    for (file, authority) in
        [("ca.d/rogue.pem", "rogue"), ("ca2.d/root.pem", "root"), ("elsewhere/root.pem", "root")]
    {
        fs::write(at(file), ca().read(&format!("{authority}.pem"))).unwrap();
    }
    symlink("ca.d", at("live")).unwrap();
    let server = asking(&at("live"), None);
    assert!(!verifies(&server));
    // a new file
    ca().put(&at("ca.d/root.pem"), &ca().read("root.pem"));
    within_a_second(|| verifies(&server));
    // another in its place
    ca().put(&at("ca.d/root.pem"), &ca().read("rogue.pem"));
    within_a_second(|| !verifies(&server));
    // it goes, and a link to nothing comes
    fs::remove_file(at("ca.d/root.pem")).unwrap();
    symlink("../elsewhere/later.pem", at("ca.d/hash.0")).unwrap();
    thread::sleep(oxim::tls::cache::CHECK_INTERVAL * 3);
    assert!(!verifies(&server));
    // what the link leads to appears
    fs::rename(at("elsewhere/root.pem"), at("elsewhere/later.pem")).unwrap();
    within_a_second(|| verifies(&server));
    fs::remove_file(at("elsewhere/later.pem")).unwrap();
    within_a_second(|| !verifies(&server));
    // the directory itself is turned to another
    turn(&at("live"), "ca2.d");
    within_a_second(|| verifies(&server));
    assert_eq!(server.told(), [""; 0]);
}

#[test]
fn a_turned_link_on_the_way_replaces_authorities_and_revocation_lists() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for (version, authority, revoked) in
        [("v1", "root", &[][..]), ("v2", "rogue", &[]), ("v3", "root", &["leaf"])]
    {
        fs::create_dir(at(version)).unwrap();
        fs::write(at(version).join("ca.pem"), ca().read(&format!("{authority}.pem"))).unwrap();
        fs::write(at(version).join("crl.pem"), list_of_inter(revoked).pem()).unwrap();
    }
    symlink("v1", at("live")).unwrap();
    symlink("live/ca.pem", at("ca")).unwrap();
    symlink("live/crl.pem", at("crl")).unwrap();
    let server = asking(&at("ca"), Some(&at("crl")));
    assert!(verifies(&server));
    // the link of a directory on the way
    for (version, good) in [("v2", false), ("v1", true), ("v3", false), ("v1", true)] {
        turn(&at("live"), version);
        within_a_second(|| verifies(&server) == good);
    }
    // the link of the file
    turn(&at("crl"), "v3/crl.pem");
    within_a_second(|| !verifies(&server));
    turn(&at("crl"), "v1/crl.pem");
    within_a_second(|| verifies(&server));
    turn(&at("ca"), "v2/ca.pem");
    within_a_second(|| !verifies(&server));
}

#[test]
fn a_file_that_goes_or_is_spoilt_leaves_the_former_in_use_and_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let good = [
        ("cert.pem", ca().read("leaf-chain.pem")),
        ("key.pem", ca().read("leaf.key")),
        ("ca.pem", ca().read("root.pem")),
        ("crl.pem", list_of_inter(&[]).pem()),
    ];
    for (file, bytes) in &good {
        ca().put(&at(file), bytes);
    }
    let text = |name: &str| at(name).to_str().unwrap().to_owned();
    let server = Server::start(
        Options::from([
            ("tls_certificate", text("cert.pem")),
            ("tls_privatekey", text("key.pem")),
            ("tls_verify_certificates", text("ca.pem")),
            ("tls_crl", text("crl.pem")),
        ]),
        ClientCertificate::Requested,
    );
    assert!(verifies(&server));
    let mut told = 0;
    for (file, bytes) in &good {
        // The beginning of the file, as of a copy that is not finished.
        for spoilt in [None, Some(&bytes[..bytes.len() / 3])] {
            match spoilt {
                None => fs::remove_file(at(file)).unwrap(),
                Some(spoilt) => ca().put(&at(file), spoilt),
            }
            told += 1;
            within_a_second(|| {
                assert!(verifies(&server), "{file}");
                server.told().len() == told
            });
            let line = server.told().pop().unwrap();
            assert!(line.contains(file) && line.contains(" in use"), "{line}");
        }
        ca().put(&at(file), bytes);
        thread::sleep(oxim::tls::cache::CHECK_INTERVAL * 2);
        assert!(verifies(&server), "{file}");
        assert_eq!(server.told().len(), told, "{:?}", server.told());
    }
}
