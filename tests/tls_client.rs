//! The client's side of TLS (rows C1 to C4 of the specification) against a server that staples anything.
#![cfg(ocsp_stapling)]

#[path = "support/ca.rs"]
mod ca;
#[path = "support/stapling_server.rs"]
mod stapling_server;

use ca::{DAY, ProofSpec, Status, ca, good, try_later, unauthorized};
use oxim::mail::envelope::{OcspState, TlsInfo};
use oxim::tls::{ClientRequest, ClientSettings, ClientTls, Notice, Verify};
use stapling_server::{soon, staple_anything};
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::time::SystemTime;

const VERSIONS: [&str; 2] = ["NORMAL:-VERS-ALL:+VERS-TLS1.2", "NORMAL:-VERS-ALL:+VERS-TLS1.3"];

/// What a client wants, over the defaults of a delivery that requires a proof.
#[derive(Clone, Copy)]
struct Wish {
    verify: Verify,
    request: bool,
    require: bool,
    trust: Option<&'static str>,
    host: Option<&'static str>,
}

const REQUIRE: Wish =
    Wish { verify: Verify::Try, request: true, require: true, trust: Some("root.pem"), host: None };
const REQUEST: Wish = Wish { require: false, ..REQUIRE };

/// The outcome, and what was told.
fn connect(
    certificate: &str,
    staple: Option<Vec<u8>>,
    version: &str,
    wish: Wish,
) -> (Result<TlsInfo, String>, String) {
    let chain = ca().read(&format!("{certificate}-chain.pem"));
    let address = staple_anything(&chain, &ca().read(&format!("{certificate}.key")), staple);
    connect_to(address, version, wish)
}

fn connect_to(address: SocketAddr, version: &str, wish: Wish) -> (Result<TlsInfo, String>, String) {
    let trust = wish.trust.map(|file| ca().path(file).to_str().unwrap().into());
    let settings = ClientSettings { verify_certificates: trust, ..ClientSettings::default() };
    let told = Mutex::new(String::new());
    let notify = |notice: Notice| told.lock().unwrap().push_str(&notice.text.to_string());
    let request = ClientRequest {
        settings: &settings,
        ciphers: Some(version.as_bytes()),
        sni: Some(b"mx.test"),
        verify: wish.verify,
        host_name: wish.host.map(str::as_bytes),
        request_ocsp: wish.request,
        require_ocsp: wish.require,
        require_status: false,
        registry: None,
        resume: false,
        deadline: soon(),
        on_connect: true,
        now: SystemTime::now(),
        notify: &notify,
        terms: oxim::tls::ClientTerms::default(),
    };
    let result = ClientTls::new().connect(TcpStream::connect(address).unwrap(), &request);
    let result = result.map_err(|error| error.to_string()).map(|(mut stream, info)| {
        let mut greeting = [0; 64];
        let count = stream.read(&mut greeting).unwrap();
        assert_eq!(&greeting[..count], b"220 hello\r\n");
        info
    });
    let told = told.into_inner().unwrap();
    (result, told)
}

fn accepted(spec: &ProofSpec) {
    for version in VERSIONS {
        let (result, told) = connect("leaf", Some(ca().proof(spec)), version, REQUIRE);
        let info = result.unwrap_or_else(|error| panic!("{version}: {error}; {told}"));
        assert_eq!((info.ocsp, info.certificate_verified), (OcspState::Verified, true));
    }
}

/// Refused where a proof is required, with Exim's words and our reason; let through where it is only requested.
fn refused(staple: Vec<u8>, trust: &'static str, words: &str, reason: &str) {
    for version in VERSIONS {
        let (result, told) =
            connect("leaf", Some(staple.clone()), version, Wish { trust: Some(trust), ..REQUIRE });
        assert_eq!(result.unwrap_err(), words, "{version}: {told}");
        assert!(told.contains(reason), "{version}: told {told}, not {reason}");
        let (result, _) =
            connect("leaf", Some(staple.clone()), version, Wish { trust: Some(trust), ..REQUEST });
        assert_eq!(result.unwrap().ocsp, OcspState::Failed, "{version}");
    }
}

const STATUS: &str = "(certificate status check failed)";
const REVOKED: &str = "(certificate verification failed): certificate revoked";

#[test]
fn a_good_staple_by_the_issuer_is_verified() {
    accepted(&good("leaf"));
}

#[test]
fn a_good_staple_with_the_issuers_certificate_inside_is_verified() {
    accepted(&ProofSpec { inside: Some("inter"), ..good("leaf") });
}

#[test]
fn a_good_staple_by_a_delegate_is_verified() {
    accepted(&ProofSpec { signer: "delegate", inside: Some("delegate"), ..good("leaf") });
}

#[test]
fn a_good_staple_that_names_the_certificate_by_sha256_is_verified() {
    accepted(&ProofSpec { sha256: true, ..good("leaf") });
}

#[test]
fn a_staple_whose_first_entry_is_for_another_certificate_is_not_called_verified() {
    // GnuTLS 3.7.9 reads the first entry only, and says no; what it does not vouch for is not verified.
    let both = ca().proof_of_all(&[good("other"), good("leaf")]);
    for version in VERSIONS {
        assert_eq!(connect("leaf", Some(both.clone()), version, REQUIRE).0.unwrap_err(), STATUS);
        let info = connect("leaf", Some(both.clone()), version, REQUEST).0.unwrap();
        assert_eq!(info.ocsp, OcspState::NotVerified, "{version}");
    }
}

#[test]
fn an_empty_staple_is_none_and_breaks_no_handshake() {
    for version in VERSIONS {
        assert_eq!(connect("leaf", Some(Vec::new()), version, REQUIRE).0.unwrap_err(), STATUS);
        let info = connect("leaf", Some(Vec::new()), version, REQUEST).0.unwrap();
        assert_eq!((info.ocsp, info.certificate_verified), (OcspState::NoResponse, true), "{version}");
    }
}

#[test]
fn a_revocation_counts_though_its_proof_has_expired() {
    let past = ProofSpec { this_update: -3 * DAY, next_update: Some(-60), ..good("leaf") };
    refused_as_revoked(ProofSpec { status: Status::Revoked, ..past });
}

#[test]
fn a_staple_with_entries_for_other_certificates_behind_ours_is_verified() {
    let both = ca().proof_of_all(&[good("leaf"), good("other")]);
    for version in VERSIONS {
        assert_eq!(
            connect("leaf", Some(both.clone()), version, REQUIRE).0.unwrap().ocsp,
            OcspState::Verified
        );
    }
}

#[test]
fn a_revoked_certificate_is_refused_as_revoked() {
    refused_as_revoked(ProofSpec { status: Status::Revoked, ..good("leaf") });
}

#[test]
fn a_revoked_certificate_is_refused_as_revoked_when_the_delegate_says_so() {
    refused_as_revoked(ProofSpec {
        status: Status::Revoked,
        signer: "delegate",
        inside: Some("delegate"),
        ..good("leaf")
    });
}

fn refused_as_revoked(spec: ProofSpec) {
    refused(ca().proof(&spec), "root.pem", REVOKED, "the certificate is revoked (since ");
}

#[test]
fn an_expired_staple_is_refused() {
    let spec = ProofSpec { this_update: -3 * DAY, next_update: Some(-60), ..good("leaf") };
    refused(ca().proof(&spec), "root.pem", STATUS, "expired at ");
}

#[test]
fn a_staple_without_an_end_is_refused_whatever_its_age() {
    for this_update in [-60, -10 * DAY, -20 * DAY] {
        let spec = ProofSpec { this_update, next_update: None, ..good("leaf") };
        refused(ca().proof(&spec), "root.pem", STATUS, "no nextUpdate");
    }
}

#[test]
fn an_unknown_status_is_refused_although_gnutls_accepts_it() {
    let spec = ProofSpec { status: Status::Unknown, ..good("leaf") };
    refused(ca().proof(&spec), "root.pem", STATUS, "does not know the certificate");
}

#[test]
fn a_staple_from_the_future_is_refused_although_gnutls_accepts_it() {
    let spec = ProofSpec { this_update: 5 * DAY, next_update: Some(9 * DAY), ..good("leaf") };
    refused(ca().proof(&spec), "root.pem", STATUS, "not valid before ");
}

#[test]
fn unsigned_answers_of_a_responder_are_refused_although_gnutls_accepts_them() {
    refused(try_later(), "root.pem", STATUS, "the responder answered tryLater");
    refused(unauthorized(), "root.pem", STATUS, "the responder answered unauthorized");
}

#[test]
fn a_staple_by_another_trusted_authority_is_refused_although_gnutls_accepts_it() {
    let rogue = ProofSpec { signer: "rogue", inside: Some("rogue"), ..good("leaf") };
    refused(ca().proof(&rogue), "both-roots.pem", STATUS, "not signed by the issuer");
    let delegate = ProofSpec { signer: "rogue_delegate", inside: Some("rogue_delegate"), ..good("leaf") };
    refused(ca().proof(&delegate), "both-roots.pem", STATUS, "not signed by the issuer");
    let root = ProofSpec { signer: "root", inside: Some("root"), ..good("leaf") };
    refused(ca().proof(&root), "root.pem", STATUS, "not signed by the issuer");
}

#[test]
fn a_staple_by_an_authority_that_is_not_trusted_is_refused() {
    let rogue = ProofSpec { signer: "rogue", inside: Some("rogue"), ..good("leaf") };
    refused(ca().proof(&rogue), "root.pem", STATUS, "not signed by the issuer");
}

#[test]
fn a_delegate_without_the_key_purpose_or_without_its_certificate_is_refused() {
    let powerless = ProofSpec { signer: "powerless", inside: Some("powerless"), ..good("leaf") };
    refused(ca().proof(&powerless), "root.pem", STATUS, "not signed by the issuer");
    let absent = ProofSpec { signer: "delegate", ..good("leaf") };
    refused(ca().proof(&absent), "root.pem", STATUS, "not signed by the issuer");
}

#[test]
fn a_bad_signature_is_refused() {
    refused(ca().proof(&ProofSpec { broken: true, ..good("leaf") }), "root.pem", STATUS, "bad signature");
}

#[test]
fn the_staple_of_another_certificate_is_refused() {
    refused(ca().proof(&good("other")), "root.pem", STATUS, "for another certificate");
    let issuers = ProofSpec { signer: "root", ..good("inter") };
    refused(ca().proof(&issuers), "root.pem", STATUS, "for another certificate");
}

#[test]
fn a_serial_number_of_another_issuer_is_another_certificate() {
    for other in [
        ProofSpec { id_key: Some("rogue"), ..good("leaf") },
        ProofSpec { id_name: Some("direct"), ..good("leaf") },
    ] {
        refused(ca().proof(&other), "root.pem", STATUS, "for another certificate");
    }
}

#[test]
fn what_is_no_response_is_refused() {
    let whole = ca().proof(&good("leaf"));
    let pem = b"-----BEGIN OCSP RESPONSE-----\nMAMKAQM=\n-----END OCSP RESPONSE-----\n".to_vec();
    for staple in [whole[..whole.len() / 2].to_vec(), b"random".to_vec(), pem] {
        refused(staple, "root.pem", STATUS, "malformed");
    }
}

#[test]
fn no_staple_is_refused_where_it_is_required_and_let_through_where_it_is_requested() {
    for version in VERSIONS {
        assert_eq!(connect("leaf", None, version, REQUIRE).0.unwrap_err(), STATUS);
        let info = connect("leaf", None, version, REQUEST).0.unwrap();
        assert_eq!((info.ocsp, info.certificate_verified), (OcspState::NoResponse, true));
    }
}

#[test]
fn of_several_entries_for_the_certificate_the_worst_counts() {
    let both = ca().proof_of_all(&[good("leaf"), ProofSpec { status: Status::Revoked, ..good("leaf") }]);
    refused(both, "root.pem", REVOKED, "revoked");
}

#[test]
fn not_requested_means_that_the_server_is_not_asked() {
    let wish = Wish { request: false, require: false, ..REQUIRE };
    for version in VERSIONS {
        let info = connect("leaf", Some(ca().proof(&good("leaf"))), version, wish).0.unwrap();
        assert_eq!((info.ocsp, info.certificate_verified), (OcspState::NotRequested, true), "{version}");
        assert_eq!(info.version, if version.ends_with('2') { "TLS1.2" } else { "TLS1.3" });
    }
}

/// Numbers of the extensions in the ClientHello (RFC 8446 4.1.2) that a client sends.
fn extensions_sent(wish: Wish, version: &str) -> Vec<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let hello = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut header = [0; 5];
        socket.read_exact(&mut header).unwrap();
        let mut record = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
        socket.read_exact(&mut record).unwrap();
        record
    });
    assert!(connect_to(address, version, wish).0.is_err());
    let hello = hello.join().unwrap();
    // type, length, version, random; then session id, cipher suites and compression methods, each after its length
    let mut at = 4 + 2 + 32;
    at += 1 + usize::from(hello[at]);
    at += 2 + usize::from(u16::from_be_bytes([hello[at], hello[at + 1]]));
    at += 1 + usize::from(hello[at]) + 2;
    let mut found = Vec::new();
    while at + 4 <= hello.len() {
        found.push(u16::from_be_bytes([hello[at], hello[at + 1]]));
        at += 4 + usize::from(u16::from_be_bytes([hello[at + 2], hello[at + 3]]));
    }
    found
}

#[test]
fn the_client_hello_carries_status_request_only_when_it_is_asked_for() {
    const STATUS_REQUEST: u16 = 5;
    let unasked = Wish { request: false, require: false, ..REQUIRE };
    for version in VERSIONS {
        assert!(extensions_sent(REQUEST, version).contains(&STATUS_REQUEST));
        let sent = extensions_sent(unasked, version);
        assert!(!sent.contains(&STATUS_REQUEST), "{version}: {sent:?}");
        // Nothing else is lost, but (before GnuTLS 3.8.0) extended_master_secret (23), which protects resumed
        // sessions and renegotiation; there are none.
        let mut lost = extensions_sent(REQUEST, version);
        lost.retain(|number| !sent.contains(number));
        assert!(lost.iter().all(|number| [STATUS_REQUEST, 23].contains(number)), "{version}: {lost:?}");
    }
}

#[test]
fn without_trust_or_verification_a_good_staple_is_not_called_verified() {
    for version in VERSIONS {
        for wish in [Wish { trust: None, ..REQUEST }, Wish { verify: Verify::No, ..REQUEST }] {
            let info = connect("leaf", Some(ca().proof(&good("leaf"))), version, wish).0.unwrap();
            assert_eq!((info.ocsp, info.certificate_verified), (OcspState::NotVerified, false));
            let require = Wish { require: true, ..wish };
            let result = connect("leaf", Some(ca().proof(&good("leaf"))), version, require).0;
            assert_eq!(result.unwrap_err(), STATUS);
        }
    }
}

#[test]
fn a_good_staple_does_not_help_a_certificate_of_an_untrusted_authority() {
    let wish = Wish { trust: Some("rogue.pem"), ..REQUIRE };
    for version in VERSIONS {
        let result = connect("leaf", Some(ca().proof(&good("leaf"))), version, wish).0;
        assert_eq!(result.unwrap_err(), STATUS);
        let strict = Wish { verify: Verify::Require, ..wish };
        let result = connect("leaf", Some(ca().proof(&good("leaf"))), version, strict).0;
        assert_eq!(result.unwrap_err(), "(certificate verification failed): certificate invalid");
    }
}

#[test]
fn a_certificate_for_another_host_is_not_verified() {
    let wish = Wish { host: Some("elsewhere.test"), ..REQUIRE };
    for version in VERSIONS {
        let info = connect("leaf", Some(ca().proof(&good("leaf"))), version, wish).0.unwrap();
        assert_eq!((info.ocsp, info.certificate_verified), (OcspState::Verified, false));
        let strict = Wish { verify: Verify::Require, ..wish };
        let result = connect("leaf", Some(ca().proof(&good("leaf"))), version, strict).0;
        assert_eq!(result.unwrap_err(), "(certificate verification failed)");
        let right = Wish { host: Some("mx.test"), ..strict };
        assert!(
            connect("leaf", Some(ca().proof(&good("leaf"))), version, right).0.unwrap().certificate_verified
        );
    }
}

#[test]
fn a_must_staple_certificate_without_a_good_staple_is_not_verified() {
    for version in VERSIONS {
        let strict = Wish { verify: Verify::Require, ..REQUEST };
        for staple in [None, Some(try_later())] {
            let result = connect("staple", staple, version, strict).0;
            assert_eq!(
                result.unwrap_err(),
                "(certificate verification failed): certificate invalid",
                "{version}"
            );
        }
        let info = connect("staple", Some(ca().proof(&good("staple"))), version, strict).0.unwrap();
        assert_eq!((info.ocsp, info.certificate_verified), (OcspState::Verified, true));
        // Not asked for, so nothing comes, and GnuTLS does not mind; we do.
        let unasked = Wish { request: false, ..strict };
        let result = connect("staple", Some(ca().proof(&good("staple"))), version, unasked).0;
        assert_eq!(
            result.unwrap_err(),
            "(certificate verification failed): certificate invalid",
            "{version}"
        );
    }
}

#[test]
fn a_revoked_certificate_is_refused_by_verification_even_where_no_proof_is_required() {
    let strict = Wish { verify: Verify::Require, ..REQUEST };
    let revoked = ca().proof(&ProofSpec { status: Status::Revoked, ..good("leaf") });
    for version in VERSIONS {
        assert_eq!(connect("leaf", Some(revoked.clone()), version, strict).0.unwrap_err(), REVOKED);
    }
}

#[test]
fn an_expired_staple_does_not_stop_a_delivery_that_only_requests_one() {
    let strict = Wish { verify: Verify::Require, ..REQUEST };
    let expired = ca().proof(&ProofSpec { this_update: -3 * DAY, next_update: Some(-60), ..good("leaf") });
    for version in VERSIONS {
        let info = connect("leaf", Some(expired.clone()), version, strict).0.unwrap();
        assert_eq!((info.ocsp, info.certificate_verified), (OcspState::Failed, true));
    }
}

#[cfg(gnutls_session_desc)]
#[test]
fn sessions_are_described_as_exim_describes_them() {
    let info = connect("leaf", Some(ca().proof(&good("leaf"))), VERSIONS[1], REQUIRE).0.unwrap();
    assert_eq!(info.cipher, "TLS1.3:ECDHE_SECP256R1__ECDSA_SECP256R1_SHA256__AES_256_GCM:256");
    assert_eq!(info.cipher_std, if cfg!(gnutls_ciphersuite_get) { "TLS_AES_256_GCM_SHA384" } else { "" });
    assert_eq!((info.version.to_string().as_str(), info.bits), ("TLS1.3", 256));
    assert_eq!(info.peer_dn.bytes(), "O=oxim test,CN=leaf.test");
    assert!(info.peer_dn.is_tainted());
    let info = connect("leaf", None, VERSIONS[0], REQUEST).0.unwrap();
    assert_eq!(info.cipher, "TLS1.2:ECDHE_SECP256R1__ECDSA_SHA256__AES_256_GCM:256");
}
