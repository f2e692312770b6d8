//! Revocation lists in TLS: `tls_crl` of client and server, and `hosts_require_status` with lists that a keeper fetched.

#[path = "support/ca.rs"]
mod ca;
#[path = "support/lists.rs"]
mod lists;
#[path = "support/stapling_server.rs"]
mod stapling_server;
#[path = "support/tls_client.rs"]
mod tls_client;

use ca::ca;
use lists::{ListSpec, extension, issuing_point, list_of_inter, list_of_root, part};
use oxim::mail::envelope::TlsInfo;
use oxim::ocsp::registry::{Keeper, Key, Registry, Report, Wanted, WantedList};
use oxim::tls::gnutls::session::ClientCertificate;
use oxim::tls::{ClientRequest, ClientSettings, ClientTls, Notice, Verify};
use stapling_server::{Server, soon, staple_anything};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};
use tls_client::{VERSIONS, client_with, options, trusting};

const REVOKED: &str = "(certificate verification failed): certificate revoked";
const INVALID: &str = "(certificate verification failed): certificate invalid";
const STATUS: &str = "(certificate status check failed)";

fn server(name: &str) -> SocketAddr {
    let (chain, key) = (ca().read(&format!("{name}-chain.pem")), ca().read(&format!("{name}.key")));
    staple_anything(&chain, &key, None)
}

/// A client that verifies against the root and has these lists.
struct Client {
    tls: ClientTls,
    settings: ClientSettings,
    registry: Option<Registry>,
    require_status: bool,
    verify: Verify,
    told: Mutex<String>,
}

impl Client {
    fn with(lists: Option<&Path>) -> Self {
        let crl = lists.map(|path| path.to_str().unwrap().into());
        Self {
            tls: ClientTls::new(),
            settings: ClientSettings { crl, ..trusting() },
            registry: None,
            require_status: false,
            verify: Verify::Require,
            told: Mutex::default(),
        }
    }

    fn connect(&self, address: SocketAddr, version: &str) -> Result<TlsInfo, String> {
        let request = ClientRequest {
            terms: oxim::tls::ClientTerms::default(),
            settings: &self.settings,
            ciphers: Some(version.as_bytes()),
            sni: None,
            verify: self.verify,
            host_name: Some(b"mx.test"),
            request_ocsp: true,
            require_ocsp: false,
            require_status: self.require_status,
            registry: self.registry.as_ref(),
            resume: false,
            deadline: soon(),
            on_connect: true,
            now: SystemTime::now(),
            notify: &|notice: Notice| self.told.lock().unwrap().push_str(&format!("{}\n", notice.text)),
        };
        let result = self.tls.connect(TcpStream::connect(address).unwrap(), &request);
        result.map(|(_, info)| info).map_err(|error| error.to_string())
    }

    fn told(&self) -> String {
        std::mem::take(&mut *self.told.lock().unwrap())
    }
}

fn file(lists: &[ListSpec]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let pem: Vec<u8> = lists.iter().flat_map(ListSpec::pem).collect();
    std::fs::write(file.path(), pem).unwrap();
    file
}

/// What becomes of a session with `leaf` under these lists, in both versions.
fn outcome(lists: &[ListSpec]) -> (Result<(), String>, String) {
    let file = file(lists);
    let results = VERSIONS.map(|version| {
        let client = Client::with(Some(file.path()));
        let result = client.connect(server("leaf"), version).map(|info| assert!(info.certificate_verified));
        (result, client.told())
    });
    assert_eq!(results[0], results[1]);
    results.into_iter().next().unwrap()
}

#[test]
fn a_server_whose_certificate_a_list_names_is_refused_as_revoked() {
    assert_eq!(outcome(&[list_of_inter(&["leaf"])]).0.unwrap_err(), REVOKED);
    assert_eq!(outcome(&[list_of_inter(&["other"]), list_of_root(&[])]), (Ok(()), String::new()));
    assert_eq!(outcome(&[list_of_inter(&[]), list_of_root(&["inter"])]).0.unwrap_err(), REVOKED);
}

#[test]
fn a_revoked_server_is_not_called_verified_where_verification_is_only_tried() {
    let file = file(&[list_of_inter(&["leaf"])]);
    let client = Client { verify: Verify::Try, ..Client::with(Some(file.path())) };
    assert!(!client.connect(server("leaf"), VERSIONS[1]).unwrap().certificate_verified);
}

#[test]
fn a_list_that_proves_nothing_does_not_pass_for_one_that_revokes_nobody() {
    let base = || list_of_inter(&[]);
    for (list, words) in [
        (ListSpec { next_update: Some(-60), this_update: -3600, ..base() }, "expired at"),
        (ListSpec { next_update: None, ..base() }, "no nextUpdate"),
        (ListSpec { this_update: 3600, ..base() }, "not valid before"),
        (ListSpec { broken: true, ..base() }, "bad signature"),
        (ListSpec { signer: "rogue", ..base() }, "bad signature"),
    ] {
        let (result, told) = outcome(&[list]);
        assert_eq!(result.unwrap_err(), INVALID, "{words}");
        assert!(told.contains("certificate of mx.test not verified: its issuer's list"), "{told}");
        assert!(told.contains(words), "{told}");
    }
}

/// ecdsa-with-SHA1
const ECDSA_SHA1: &[u8] = &[0x06, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1];

#[test]
fn a_list_that_cannot_be_used_does_not_pass_for_none() {
    for revoked in [&[][..], &["leaf"]] {
        let base = || list_of_inter(revoked);
        for (list, words) in [
            (ListSpec { algorithm: ECDSA_SHA1, ..base() }, "too weak"),
            (ListSpec { extensions: extension(99, true, &[5, 0]), ..base() }, "critical extension"),
            (ListSpec { extensions: issuing_point(&[0x84, 1, 0xff]), ..base() }, "an indirect CRL"),
            (ListSpec { extensions: issuing_point(&[0x83, 2, 6, 0x40]), ..base() }, "some reasons"),
            (ListSpec { extensions: extension(27, true, &[2, 1, 6]), ..base() }, "a delta CRL"),
        ] {
            let (result, told) = outcome(std::slice::from_ref(&list));
            assert_eq!(result.unwrap_err(), INVALID, "{words}");
            assert!(told.contains("is left out (tls_crl): ") && told.contains(words), "{told}");
            assert!(told.contains("certificate of mx.test not verified: its issuer's list"), "{told}");
            assert_eq!(
                outcome(&[list.clone(), list_of_inter(&[])]).0,
                Ok(()),
                "{words}: a good one beside it"
            );
            assert_eq!(outcome(&[list, list_of_inter(&["leaf"])]).0.unwrap_err(), REVOKED, "{words}");
        }
    }
    let attributes = ListSpec { extensions: issuing_point(&[0x85, 1, 0xff]), ..list_of_inter(&[]) };
    assert_eq!(outcome(&[attributes]).0, Ok(()), "a list of something else");
}

#[test]
fn an_old_list_still_revokes_and_a_newer_one_beside_it_still_vouches() {
    let old = |revoked: &[&str]| ListSpec { next_update: Some(-60), ..list_of_inter(revoked) };
    assert_eq!(outcome(&[old(&["leaf"]), list_of_inter(&[])]).0.unwrap_err(), REVOKED);
    assert_eq!(outcome(&[old(&[]), list_of_inter(&[])]), (Ok(()), String::new()));
}

#[test]
fn of_an_issuer_without_a_list_nothing_is_said() {
    assert_eq!(outcome(&[list_of_root(&[])]), (Ok(()), String::new()));
    let other_part = ListSpec { extensions: issuing_point(&part(&["http://x/"])), ..list_of_inter(&[]) };
    assert_eq!(outcome(&[other_part]), (Ok(()), String::new()));
}

#[test]
fn a_delta_is_left_out_and_told_and_what_is_no_list_is_an_error() {
    let delta = ListSpec { extensions: extension(27, true, &[2, 1, 6]), ..list_of_inter(&[]) };
    let (result, told) = outcome(&[delta, list_of_inter(&[])]);
    assert_eq!(result, Ok(()));
    assert!(told.contains("is left out (tls_crl): a delta CRL"), "{told}");
    let file = tempfile::NamedTempFile::new().unwrap();
    for (text, words) in [("nonsense", "no revocation list in it"), ("", "no revocation list in it")] {
        std::fs::write(file.path(), text).unwrap();
        let error = Client::with(Some(file.path())).connect(server("leaf"), VERSIONS[1]).unwrap_err();
        assert!(error.starts_with("could not load '/") && error.contains("(tls_crl)"), "{error}");
        assert!(error.ends_with(words), "{error}");
    }
}

#[test]
fn a_directory_of_lists_in_pem_and_der_is_read_and_followed() {
    let directory = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| {
        std::fs::write(directory.path().join(".new"), bytes).unwrap();
        std::fs::rename(directory.path().join(".new"), directory.path().join(name)).unwrap();
    };
    put("root.pem", &list_of_root(&[]).pem());
    put("inter.crl", &list_of_inter(&["other"]).der());
    put("README", b"lists of our authorities");
    let client = Client::with(Some(directory.path()));
    assert!(client.connect(server("leaf"), VERSIONS[1]).unwrap().certificate_verified);
    let told = client.told();
    assert!(told.contains("README is left out (tls_crl): no revocation list in it"), "{told}");
    put("inter.crl", &list_of_inter(&["leaf"]).der());
    let changed = Instant::now();
    while client.connect(server("leaf"), VERSIONS[1]).is_ok() {
        assert!(changed.elapsed() < Duration::from_secs(1), "not within a second");
    }
    assert_eq!(client.connect(server("leaf"), VERSIONS[1]).unwrap_err(), REVOKED);
}

#[test]
fn a_list_of_a_directory_that_is_spoilt_stays_in_use_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("inter.pem");
    std::fs::write(&path, list_of_inter(&["leaf"]).pem()).unwrap();
    let client = Client::with(Some(directory.path()));
    let watching = verifying_server(directory.path(), ClientCertificate::Requested);
    let mut sessions = 0;
    let mut accepted = || {
        sessions += 1;
        client_with(watching.address, VERSIONS[1], None, &show_leaf(), true).unwrap();
        watching.session(sessions).unwrap().certificate_verified
    };
    assert_eq!(client.connect(server("leaf"), VERSIONS[1]).unwrap_err(), REVOKED);
    assert!(!accepted());
    let whole = std::fs::read(&path).unwrap();
    for piece in [&whole[..whole.len() / 2], b"", b"<html>"] {
        std::fs::write(&path, piece).unwrap();
        std::thread::sleep(Duration::from_millis(1100));
        assert_eq!(client.connect(server("leaf"), VERSIONS[1]).unwrap_err(), REVOKED);
        assert!(!accepted());
        let told = client.told();
        assert!(
            told.contains("inter.pem (tls_crl): ") && told.contains("; the former list stays in use"),
            "{told}"
        );
    }
    std::fs::remove_file(&path).unwrap();
    std::thread::sleep(Duration::from_millis(1100));
    assert!(client.connect(server("leaf"), VERSIONS[1]).is_ok(), "taken away on purpose");
    assert!(accepted());
}

#[test]
fn a_directory_with_more_files_than_are_read_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    for number in 0..4097 {
        std::fs::write(directory.path().join(format!("{number}.pem")), "").unwrap();
    }
    let error = Client::with(Some(directory.path())).connect(server("leaf"), VERSIONS[1]).unwrap_err();
    assert!(error.ends_with("more than 4096 files in the directory") && error.contains("tls_crl"), "{error}");
}

/// A client of oxim's server that shows `leaf` (with its intermediate).
fn show_leaf() -> ClientSettings {
    let path = |name: &str| Some(ca().path(name).to_str().unwrap().into());
    ClientSettings { certificate: path("leaf-chain.pem"), private_key: path("leaf.key"), ..trusting() }
}

fn verifying_server(lists: &Path, wish: ClientCertificate) -> Server {
    let mut options = options("leaf", None);
    options.insert("tls_verify_certificates", ca().path("root.pem").to_str().unwrap().to_owned());
    options.insert("tls_crl", lists.to_str().unwrap().to_owned());
    Server::start(options, wish)
}

#[test]
fn a_client_whose_certificate_a_list_names_is_refused_as_revoked() {
    for (list, wish, verdict) in [
        (list_of_inter(&[]), ClientCertificate::Required, Ok(true)),
        (list_of_inter(&["leaf"]), ClientCertificate::Requested, Ok(false)),
        (list_of_inter(&["leaf"]), ClientCertificate::Required, Err(REVOKED)),
        (
            ListSpec { next_update: Some(-60), ..list_of_inter(&[]) },
            ClientCertificate::Required,
            Err(INVALID),
        ),
    ] {
        let file = file(&[list]);
        for version in VERSIONS {
            let server = verifying_server(file.path(), wish);
            let _ = client_with(server.address, version, None, &show_leaf(), true);
            let session = server.session(1).map(|info| info.certificate_verified);
            assert_eq!(session, verdict.map_err(str::to_owned), "{version}");
            let old = verdict == Err(INVALID);
            assert_eq!(server.told().iter().any(|line| line.contains("tls_crl: expired at")), old);
        }
    }
}

#[test]
fn a_server_uses_a_replaced_list_within_a_second() {
    let file = file(&[list_of_inter(&[])]);
    let server = verifying_server(file.path(), ClientCertificate::Requested);
    let verified = |count: usize| {
        client_with(server.address, VERSIONS[1], None, &show_leaf(), true).unwrap();
        server.session(count).unwrap().certificate_verified
    };
    assert!(verified(1));
    ca().put(file.path(), &list_of_inter(&["leaf"]).pem());
    let changed = Instant::now();
    let mut count = 2;
    while verified(count) {
        assert!(changed.elapsed() < Duration::from_secs(1), "not within a second");
        count += 1;
    }
}

/// What was asked of the keeper.
#[derive(Default)]
struct Fake(Mutex<Vec<String>>);

impl Keeper for Fake {
    fn want(&self, _: Key, _: &Wanted) {}
    fn want_list(&self, _: Key, wanted: &WantedList) {
        self.0.lock().unwrap().push(wanted.url.clone());
    }
    fn forget(&self, _: Key) {}
}

fn requiring(lists: Option<&Path>) -> (Client, Arc<Fake>) {
    let keeper = Arc::<Fake>::default();
    let registry = Registry::new(Arc::clone(&keeper) as Arc<dyn Keeper>);
    (Client { require_status: true, registry: Some(registry), ..Client::with(lists) }, keeper)
}

#[test]
fn a_status_may_be_a_list_of_tls_crl() {
    for version in VERSIONS {
        let file = file(&[list_of_inter(&["other"])]);
        let client = Client { registry: None, ..requiring(Some(file.path())).0 };
        assert!(client.connect(server("leaf"), version).unwrap().certificate_verified);
        let none = Client { registry: None, ..requiring(None).0 };
        assert_eq!(none.connect(server("leaf"), version).unwrap_err(), STATUS);
        // A certificate that names no address of a list.
        assert_eq!(requiring(None).0.connect(server("leaf"), version).unwrap_err(), STATUS);
    }
}

#[test]
fn a_list_that_is_not_there_yet_is_asked_for_and_the_next_attempt_succeeds() {
    let (client, keeper) = requiring(None);
    let registry = client.registry.clone().unwrap();
    let connect = || client.connect(server("pointed"), VERSIONS[1]);
    let url = "http://lists.test/one.crl";
    let error = connect().unwrap_err();
    assert_eq!(error, format!("{STATUS}: revocation list {url} is not there yet"));
    assert_eq!(*keeper.0.lock().unwrap(), [url, "http://lists.test/two.crl"]);
    let key = Key::of_list(&ca().certificate("inter"), url).unwrap();
    registry.told(key, Report { failures: 1, last_error: "connection refused".into(), ..Report::default() });
    assert_eq!(
        connect().unwrap_err(),
        format!("{STATUS}: revocation list {url} cannot be had: connection refused")
    );
    let hear = |list: ListSpec| registry.heard_list(key, &list.der(), SystemTime::now()).unwrap();
    hear(list_of_inter(&["other"]));
    assert!(connect().unwrap().certificate_verified);
    hear(ListSpec { this_update: -1800, ..list_of_inter(&["pointed"]) });
    assert_eq!(connect().unwrap_err(), REVOKED);
    assert_eq!(keeper.0.lock().unwrap().len(), 2, "asked for once");
}

#[test]
fn a_list_of_another_part_is_no_status() {
    let (client, _) = requiring(None);
    let registry = client.registry.clone().unwrap();
    client.connect(server("pointed"), VERSIONS[1]).unwrap_err();
    let key = Key::of_list(&ca().certificate("inter"), "http://lists.test/one.crl").unwrap();
    let other =
        ListSpec { extensions: issuing_point(&part(&["http://lists.test/three.crl"])), ..list_of_inter(&[]) };
    registry.heard_list(key, &other.der(), SystemTime::now()).unwrap();
    let error = client.connect(server("pointed"), VERSIONS[1]).unwrap_err();
    assert!(error.ends_with("does not speak of the certificate"), "{error}");
}

#[test]
fn nothing_is_asked_for_at_the_word_of_a_certificate_that_is_not_verified() {
    let (mut client, keeper) = requiring(None);
    client.verify = Verify::Try;
    client.settings.verify_certificates = Some(ca().path("rogue.pem").to_str().unwrap().into());
    assert_eq!(client.connect(server("pointed"), VERSIONS[1]).unwrap_err(), STATUS);
    client.settings = trusting();
    client.verify = Verify::No;
    assert_eq!(client.connect(server("pointed"), VERSIONS[1]).unwrap_err(), STATUS);
    assert!(keeper.0.lock().unwrap().is_empty());
}

#[cfg(ocsp_stapling)]
#[test]
fn a_status_may_be_a_staple_and_a_revocation_in_either_counts() {
    use ca::{ProofSpec, Status, good};
    for version in VERSIONS {
        let staple = |spec: &ProofSpec| {
            staple_anything(&ca().read("leaf-chain.pem"), &ca().read("leaf.key"), Some(ca().proof(spec)))
        };
        let (client, _) = requiring(None);
        client.connect(staple(&good("leaf")), version).unwrap();
        let revoked = ProofSpec { status: Status::Revoked, ..good("leaf") };
        assert_eq!(client.connect(staple(&revoked), version).unwrap_err(), REVOKED);
        let fresh = file(&[list_of_inter(&["leaf"])]);
        let (client, _) = requiring(Some(fresh.path()));
        assert_eq!(client.connect(staple(&good("leaf")), version).unwrap_err(), REVOKED);
        // A proof that proves nothing is no status; a list is one beside it.
        let fresh = file(&[list_of_inter(&[])]);
        let (client, _) = requiring(Some(fresh.path()));
        let unknown = ProofSpec { status: Status::Unknown, ..good("leaf") };
        client.connect(staple(&unknown), version).unwrap();
        assert_eq!(requiring(None).0.connect(staple(&unknown), version).unwrap_err(), STATUS);
    }
}

const IDS: &str = "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid";
const AUTHORITY: &str = "basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign,cRLSign,digitalSignature";

/// What becomes of a session with the first of this chain, under no lists and under these.
fn outcomes(chain: &[&str], lists: &[ListSpec], ciphers: &str) -> [Result<bool, String>; 2] {
    let pem: Vec<u8> = chain.iter().flat_map(|name| ca().read(&format!("{name}.pem"))).collect();
    let file = file(lists);
    [None, Some(file.path())].map(|lists| {
        let server = staple_anything(&pem, &ca().read(&format!("{}.key", chain[0])), None);
        Client::with(lists).connect(server, ciphers).map(|info| info.certificate_verified)
    })
}

#[test]
fn a_certificate_with_its_issuers_own_name_does_not_keep_lists_from_being_asked() {
    let host = "subjectAltName=DNS:mx.test";
    // An authority whose key is in wrong hands, and so revoked by the root.
    ca().issue("stolen", "root", &format!("{AUTHORITY}\n{IDS}"));
    let name = "/O=oxim test/CN=stolen.test";
    ca().issue_as("named", name, "stolen", &format!("{host}\n{IDS}"));
    ca().issue_as("anew", name, "stolen", &format!("{AUTHORITY}\n{IDS}"));
    ca().issue("below", "anew", &format!("{host}\n{IDS}"));
    let of_root = list_of_root(&["stolen"]);
    let of_stolen = ListSpec { issuer: "stolen", signer: "stolen", ..list_of_inter(&["named"]) };
    for (chain, list) in [
        (&["named", "stolen"][..], &of_root),
        (&["named", "stolen"], &of_stolen),
        (&["below", "anew", "stolen"], &of_root),
        (&["named", "stolen", "root"], &of_root),
    ] {
        for version in VERSIONS {
            let [without, with] = outcomes(chain, std::slice::from_ref(list), version);
            assert_eq!(without, Ok(true), "{chain:?} {version}");
            assert_eq!(with.unwrap_err(), REVOKED, "{chain:?} {version}");
        }
    }
}

#[test]
fn an_authority_does_not_hide_behind_another_certificate_of_its_name_and_key() {
    ca().certify("crossed", "inter", "rogue", AUTHORITY);
    let orders = [
        &["leaf", "crossed", "inter"][..],
        &["leaf", "inter", "crossed"],
        &["leaf", "crossed", "rogue", "inter"],
    ];
    for chain in orders {
        for version in VERSIONS {
            let [_, with] = outcomes(chain, &[list_of_root(&["inter"])], version);
            with.unwrap_err();
        }
    }
}

#[test]
fn the_issuer_of_a_certificate_whose_weak_signature_is_allowed_is_asked_for_its_list_too() {
    ca().issue("weak", "inter", "subjectAltName=DNS:mx.test");
    ca().certify_by("weak", "weak", "inter", "subjectAltName=DNS:mx.test", "-sha1");
    for version in VERSIONS {
        let allowing = format!("{version}:%VERIFY_ALLOW_SIGN_WITH_SHA1");
        let [without, with] = outcomes(&["weak", "inter"], &[list_of_inter(&["weak"])], &allowing);
        assert_eq!((without, with), (Ok(true), Err(REVOKED.to_owned())));
        let [without, with] = outcomes(&["weak", "inter"], &[list_of_inter(&[])], version);
        assert_eq!((without, with), (Err(INVALID.to_owned()), Err(INVALID.to_owned())));
    }
}
