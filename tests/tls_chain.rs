//! Proofs of whole chains (row C4): what a server staples for the certificates above the leaf, which only TLS 1.3 carries.
#![cfg(ocsp_stapling)]

#[path = "support/ca.rs"]
mod ca;
#[path = "support/chain_stapler.rs"]
mod chain_stapler;

use ca::{DAY, ProofSpec, Status, ca, good, try_later};
use chain_stapler::staple_chain;
use oxim::mail::envelope::{OcspState, TlsInfo};
use oxim::tls::{ClientRequest, ClientSettings, ClientTls, Notice, Verify};
use std::io::Read;
use std::net::TcpStream;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

const STATUS: &str = "(certificate status check failed)";
const REVOKED: &str = "(certificate verification failed): certificate revoked";
const INVALID: &str = "(certificate verification failed): certificate invalid";

#[derive(Clone, Copy, PartialEq)]
enum Want {
    Proof,
    Certificate,
    Nothing,
}

/// Outcomes under TLS 1.2 and 1.3, and what was told under 1.3.
fn both(
    name: &str,
    leaf: Option<Vec<u8>>,
    above: Option<Vec<u8>>,
    want: Want,
) -> [Result<TlsInfo, String>; 2] {
    ["1.2", "1.3"].map(|version| one(version, name, &leaf, &above, want).0)
}

fn one(
    version: &str,
    name: &str,
    leaf: &Option<Vec<u8>>,
    above: &Option<Vec<u8>>,
    want: Want,
) -> (Result<TlsInfo, String>, String) {
    let (chain, key) = (ca().read(&format!("{name}-chain.pem")), ca().read(&format!("{name}.key")));
    let server = staple_chain(&chain, &key, &[leaf.clone(), above.clone()]);
    let trust = ca().path("root.pem").to_str().unwrap().into();
    let settings = ClientSettings { verify_certificates: Some(trust), ..ClientSettings::default() };
    let told = Mutex::new(String::new());
    let ciphers = format!("NORMAL:-VERS-ALL:+VERS-TLS{version}");
    let request = ClientRequest {
        terms: oxim::tls::ClientTerms::default(),
        settings: &settings,
        ciphers: Some(ciphers.as_bytes()),
        sni: None,
        verify: if want == Want::Certificate { Verify::Require } else { Verify::Try },
        host_name: Some(b"mx.test"),
        request_ocsp: true,
        require_ocsp: want == Want::Proof,
        require_status: false,
        registry: None,
        resume: false,
        deadline: Some(Instant::now() + Duration::from_secs(10)),
        on_connect: true,
        now: SystemTime::now(),
        notify: &|notice: Notice| told.lock().unwrap().push_str(&notice.text.to_string()),
    };
    let result = ClientTls::new().connect(TcpStream::connect(server.address).unwrap(), &request);
    let result = result.map_err(|error| error.to_string()).map(|(mut stream, info)| {
        let mut greeting = [0; 64];
        let count = stream.read(&mut greeting).unwrap();
        assert_eq!(&greeting[..count], b"220 hello\r\n");
        info
    });
    let told = told.into_inner().unwrap();
    (result, told)
}

fn proof(subject: &'static str, signer: &'static str) -> ProofSpec {
    ProofSpec { signer, ..good(subject) }
}

fn leaf() -> Option<Vec<u8>> {
    Some(ca().proof(&good("leaf")))
}

fn bytes(spec: &ProofSpec) -> Option<Vec<u8>> {
    Some(ca().proof(spec))
}

fn of_strict() -> Option<Vec<u8>> {
    bytes(&ProofSpec { inside: Some("root"), ..proof("strict", "root") })
}

fn of_inter() -> ProofSpec {
    ProofSpec { inside: Some("root"), ..proof("inter", "root") }
}

#[test]
fn good_proofs_of_leaf_and_intermediate_are_verified() {
    for result in both("leaf", leaf(), bytes(&of_inter()), Want::Proof) {
        let info = result.unwrap();
        assert_eq!((info.ocsp, info.certificate_verified), (OcspState::Verified, true));
    }
}

#[test]
fn what_is_not_stapled_for_an_intermediate_is_not_missed() {
    for result in both("leaf", leaf(), None, Want::Proof) {
        assert_eq!(result.unwrap().ocsp, OcspState::Verified);
    }
}

#[test]
fn a_revoked_intermediate_is_a_revocation_although_the_leaf_is_good() {
    let revoked = bytes(&ProofSpec { status: Status::Revoked, ..of_inter() });
    for want in [Want::Proof, Want::Certificate] {
        let [old, new] = both("leaf", leaf(), revoked.clone(), want);
        // TLS 1.2 does not carry it.
        assert_eq!((old.unwrap().ocsp, new.unwrap_err()), (OcspState::Verified, REVOKED.to_owned()));
    }
    // Even an old revocation, and where nothing is required the certificate is not called verified.
    let past =
        ProofSpec { status: Status::Revoked, this_update: -3 * DAY, next_update: Some(-60), ..of_inter() };
    let (result, told) = one("1.3", "leaf", &leaf(), &bytes(&past), Want::Nothing);
    let info = result.unwrap();
    assert_eq!((info.ocsp, info.certificate_verified), (OcspState::Failed, false));
    assert!(told.contains("certificate 1 of its chain not good: the certificate is revoked"), "{told}");
}

#[test]
fn an_unfit_proof_of_the_intermediate_is_a_failed_state() {
    let cases: [(Option<Vec<u8>>, &str); 6] = [
        (bytes(&ProofSpec { this_update: -3 * DAY, next_update: Some(-60), ..of_inter() }), "expired at"),
        // What GnuTLS alone accepts.
        (bytes(&ProofSpec { status: Status::Unknown, ..of_inter() }), "status unknown"),
        (
            bytes(&ProofSpec { this_update: 5 * DAY, next_update: Some(9 * DAY), ..of_inter() }),
            "not valid before",
        ),
        (bytes(&ProofSpec { signer: "rogue", ..of_inter() }), "not signed by the issuer"),
        (Some(try_later()), "tryLater"),
        (bytes(&ProofSpec { next_update: None, ..of_inter() }), "no nextUpdate"),
    ];
    for (above, words) in cases {
        let (result, told) = one("1.3", "leaf", &leaf(), &above, Want::Proof);
        assert_eq!(result.unwrap_err(), STATUS, "{words}");
        assert!(told.contains(words), "{words}: {told}");
        // It stops nothing where no proof is required (row C1), nor under 1.2, where it does not come.
        let info = one("1.3", "leaf", &leaf(), &above, Want::Certificate).0.unwrap();
        assert_eq!((info.ocsp, info.certificate_verified), (OcspState::Failed, true), "{words}");
        assert_eq!(one("1.2", "leaf", &leaf(), &above, Want::Proof).0.unwrap().ocsp, OcspState::Verified);
    }
}

#[test]
fn a_good_proof_of_the_intermediate_does_not_make_up_for_the_leafs() {
    let expired = ProofSpec { this_update: -3 * DAY, next_update: Some(-60), ..good("leaf") };
    for leaf in [None, bytes(&expired), bytes(&good("other")), bytes(&of_inter())] {
        for result in both("leaf", leaf.clone(), bytes(&of_inter()), Want::Proof) {
            assert_eq!(result.unwrap_err(), STATUS);
        }
    }
    let revoked = ProofSpec { status: Status::Revoked, ..good("leaf") };
    for result in both("leaf", bytes(&revoked), bytes(&of_inter()), Want::Proof) {
        assert_eq!(result.unwrap_err(), REVOKED);
    }
}

#[test]
fn a_must_staple_intermediate_needs_its_proof_and_so_tls_1_3() {
    let (under, strict) = (bytes(&proof("under", "strict")), of_strict());
    let [old, new] = both("under", under.clone(), strict, Want::Proof);
    assert_eq!((old.unwrap_err(), new.unwrap().ocsp), (STATUS.to_owned(), OcspState::Verified));
    for result in both("under", under, None, Want::Certificate) {
        assert_eq!(result.unwrap_err(), INVALID);
    }
    for result in both("under", None, of_strict(), Want::Certificate) {
        assert_eq!(result.unwrap_err(), INVALID);
    }
}

#[test]
fn a_certificate_that_promises_less_than_its_must_staple_issuer_is_not_verified() {
    for above in [None, of_strict()] {
        for result in both("loose", bytes(&proof("loose", "strict")), above.clone(), Want::Certificate) {
            assert_eq!(result.unwrap_err(), INVALID);
        }
    }
}

#[test]
fn a_leaf_without_its_intermediate_is_not_verified_whatever_is_stapled() {
    let (chain, key) = (ca().read("leaf.pem"), ca().read("leaf.key"));
    std::fs::write(ca().path("bare-chain.pem"), chain).unwrap();
    std::fs::write(ca().path("bare.key"), key).unwrap();
    for result in both("bare", leaf(), None, Want::Proof) {
        assert_eq!(result.unwrap_err(), STATUS);
    }
    for result in both("bare", leaf(), None, Want::Certificate) {
        assert_eq!(result.unwrap_err(), INVALID);
    }
}
#[test]
fn an_intermediates_proof_whose_signer_gnutls_cannot_find_leaves_the_state_unverified() {
    // GnuTLS 3.7.9 does not find a root by its key in the trust list; what it does not vouch for is not verified.
    let by_key = bytes(&ProofSpec { inside: None, ..of_inter() });
    assert_eq!(one("1.3", "leaf", &leaf(), &by_key, Want::Proof).0.unwrap_err(), STATUS);
    let (result, told) = one("1.3", "leaf", &leaf(), &by_key, Want::Certificate);
    assert_eq!((result.unwrap().ocsp, told.as_str()), (OcspState::NotVerified, ""));
    let by_name = bytes(&ProofSpec { inside: None, by_name: true, ..of_inter() });
    assert_eq!(one("1.3", "leaf", &leaf(), &by_name, Want::Proof).0.unwrap().ocsp, OcspState::Verified);
}
