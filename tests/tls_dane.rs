//! DANE (RFC 7671, RFC 7672): what TLSA records take and refuse, with TLS 1.2 and 1.3, alone and with certificate status,
//! and in sessions that are gone on with.
#![cfg(ocsp_stapling)]

#[path = "support/ca.rs"]
mod ca;
#[path = "support/stapling_server.rs"]
mod stapling_server;

use ca::{ProofSpec, Status, ca, good};
use oxim::dns::Tlsa;
use oxim::mail::envelope::{OcspState, TlsInfo};
use oxim::tls::dane::{Dane, Refusal};
use oxim::tls::gnutls::hash::{Digest, digest};
use oxim::tls::gnutls::session::ClientCertificate;
use oxim::tls::{ClientRequest, ClientSettings, ClientTerms, ClientTls, Verify};
use stapling_server::{Options, Server, soon, staple_anything};
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::SystemTime;

const VERSIONS: [&str; 2] = ["NORMAL:-VERS-ALL:+VERS-TLS1.2", "NORMAL:-VERS-ALL:+VERS-TLS1.3"];
const DIFFERS: &str = "(certificate verification failed): Verification failed. The certificate differs. ";
const NO_ANCHOR: &str =
    "(certificate verification failed): Verification failed. CA constrains were violated. ";
const INVALID: &str = "(certificate verification failed): certificate invalid";
const REVOKED: &str = "(certificate verification failed): certificate revoked";
const STATUS: &str = "(certificate status check failed)";

/// A record of this certificate of the authority's.
fn tlsa(usage: u8, selector: u8, matching: u8, certificate: &str) -> Tlsa {
    let certificate = ca().certificate(certificate);
    let whole = match selector {
        0 => certificate.der().unwrap(),
        _ => certificate.public_key_info().unwrap(),
    };
    let data = match matching {
        0 => whole,
        1 => digest(Digest::Sha256, &whole).unwrap(),
        _ => digest(Digest::Sha512, &whole).unwrap(),
    };
    Tlsa { usage, selector, matching, data }
}

/// What a client wants besides the records.
#[derive(Clone, Copy)]
struct Wish {
    version: &'static str,
    request_ocsp: bool,
    require_ocsp: bool,
    require_status: bool,
    resume: bool,
}

fn wish(version: &'static str) -> Wish {
    Wish { version, request_ocsp: false, require_ocsp: false, require_status: false, resume: false }
}

fn connect(tls: &ClientTls, address: SocketAddr, dane: Option<Dane>, wish: Wish) -> Result<TlsInfo, String> {
    let request = ClientRequest {
        settings: &ClientSettings::default(),
        ciphers: Some(wish.version.as_bytes()),
        sni: Some(b"mx.test"),
        verify: Verify::No,
        host_name: None,
        request_ocsp: wish.request_ocsp,
        require_ocsp: wish.require_ocsp,
        require_status: wish.require_status,
        registry: None,
        resume: wish.resume,
        deadline: soon(),
        on_connect: true,
        now: SystemTime::now(),
        notify: &|_| {},
        terms: ClientTerms { dane, ..ClientTerms::default() },
    };
    let (mut stream, info) =
        tls.connect(TcpStream::connect(address).unwrap(), &request).map_err(|error| error.to_string())?;
    assert_eq!(stream.read(&mut [0; 64]).unwrap(), 11);
    Ok(info)
}

/// With both versions; `chain` are certificates of the authority's, leaf first; it has to come to the same in both.
fn outcome(
    chain: &[&str],
    staple: Option<&[u8]>,
    host: &str,
    records: &[Tlsa],
    wish: Wish,
) -> Result<TlsInfo, String> {
    let sent: Vec<u8> = chain.iter().flat_map(|name| ca().read(&format!("{name}.pem"))).collect();
    let dane = Dane::new(records, host.into());
    let one = |version| {
        let address =
            staple_anything(&sent, &ca().read(&format!("{}.key", chain[0])), staple.map(<[u8]>::to_vec));
        connect(&ClientTls::new(), address, dane.clone(), Wish { version, ..wish })
    };
    let [old, new] = VERSIONS.map(one);
    let of = |result: &Result<TlsInfo, String>| {
        result.as_ref().map(|info| (info.dane, info.ocsp)).map_err(String::clone)
    };
    assert_eq!(of(&old), of(&new));
    new
}

fn judged(chain: &[&str], host: &str, records: &[Tlsa]) -> Result<u8, String> {
    let info = outcome(chain, None, host, records, wish(""))?;
    assert!(info.certificate_verified && info.dane, "{records:?}");
    Ok(info.tlsa_usage)
}

fn refused(chain: &[&str], host: &str, records: &[Tlsa], words: &str) {
    assert_eq!(judged(chain, host, records), Err(words.to_owned()), "{records:?}");
}

const CHAIN: [&str; 2] = ["leaf", "inter"];

#[test]
fn a_leaf_is_known_by_each_selector_and_matching_type() {
    for selector in 0..=1 {
        for matching in 0..=2 {
            assert_eq!(judged(&CHAIN, "mx.test", &[tlsa(3, selector, matching, "leaf")]), Ok(8));
            refused(&CHAIN, "mx.test", &[tlsa(3, selector, matching, "other")], DIFFERS);
            // An authority is no leaf.
            refused(&CHAIN, "mx.test", &[tlsa(3, selector, matching, "inter")], DIFFERS);
        }
    }
}

#[test]
fn of_a_leaf_in_dns_neither_name_nor_issuer_nor_time_counts() {
    assert_eq!(judged(&["leaf"], "another.test", &[tlsa(3, 1, 1, "leaf")]), Ok(8));
    assert_eq!(judged(&["root"], "mx.test", &[tlsa(3, 1, 1, "root")]), Ok(8));
    ca().issue_expired("past", "inter", "subjectAltName=DNS:mx.test");
    assert_eq!(judged(&["past", "inter"], "mx.test", &[tlsa(3, 1, 1, "past")]), Ok(8));
    refused(&["past", "inter"], "mx.test", &[tlsa(2, 1, 1, "inter")], INVALID);
}

#[test]
fn an_authority_is_known_by_each_selector_and_matching_type_wherever_it_stands_in_the_chain() {
    for authority in ["inter", "root"] {
        for selector in 0..=1 {
            for matching in 0..=2 {
                let record = [tlsa(2, selector, matching, authority)];
                assert_eq!(judged(&["leaf", "inter", "root"], "mx.test", &record), Ok(4));
            }
        }
    }
    for matching in 0..=2 {
        refused(&["leaf", "inter", "root"], "mx.test", &[tlsa(2, 1, matching, "rogue")], NO_ANCHOR);
    }
}

#[test]
fn an_authority_that_was_not_sent_is_trusted_only_if_it_stands_whole_in_the_record() {
    refused(&CHAIN, "mx.test", &[tlsa(2, 0, 1, "root")], NO_ANCHOR);
    refused(&CHAIN, "mx.test", &[tlsa(2, 1, 0, "root")], NO_ANCHOR);
    assert_eq!(judged(&CHAIN, "mx.test", &[tlsa(2, 0, 0, "root")]), Ok(4));
    assert_eq!(judged(&["leaf"], "mx.test", &[tlsa(2, 0, 0, "inter")]), Ok(4));
    // It has to have issued the chain.
    refused(&CHAIN, "mx.test", &[tlsa(2, 0, 0, "rogue")], INVALID);
    refused(&["leaf"], "mx.test", &[tlsa(2, 0, 0, "root")], INVALID);
}

#[test]
fn under_an_authority_the_name_counts() {
    assert_eq!(judged(&CHAIN, "localhost", &[tlsa(2, 1, 1, "inter")]), Ok(4));
    refused(&CHAIN, "another.test", &[tlsa(2, 1, 1, "inter")], INVALID);
    refused(&["other", "inter"], "mx.test", &[tlsa(2, 1, 1, "inter")], INVALID);
}

#[test]
fn a_certificate_that_was_sent_beside_the_chain_anchors_nothing() {
    // Anybody can send the authority's certificate behind his own; judged without a server, which would leave out what
    // does not belong to its chain.
    ca().issue("forged", "rogue", "subjectAltName=DNS:mx.test");
    ca().issue("under_leaf", "leaf", "subjectAltName=DNS:mx.test");
    let judged = |chain: &[&str], record| {
        let sent: Vec<_> = chain.iter().map(|name| ca().certificate(name).der().unwrap()).collect();
        Dane::new(&[record], "mx.test".into()).unwrap().judge(&sent).err()
    };
    assert_eq!(judged(&CHAIN, tlsa(2, 0, 1, "inter")), None);
    assert_eq!(
        judged(&["leaf", "rogue", "inter"], tlsa(2, 0, 1, "inter")),
        None,
        "what is too much harms nobody"
    );
    assert_eq!(judged(&["forged", "inter"], tlsa(2, 0, 1, "inter")), Some(Refusal::Invalid));
    assert_eq!(judged(&["forged", "rogue", "inter"], tlsa(2, 0, 1, "inter")), Some(Refusal::Invalid));
    assert_eq!(judged(&["forged", "leaf", "inter"], tlsa(3, 0, 1, "leaf")), Some(Refusal::Differs));
    // Nor does one vouch for a key that anybody can find.
    ca().issue_weak("weak", "inter", "subjectAltName=DNS:mx.test");
    assert_eq!(judged(&["weak", "inter"], tlsa(2, 0, 1, "inter")), Some(Refusal::Invalid));
    // An end's certificate is no authority, though it is named as one and signed another.
    assert_eq!(judged(&["under_leaf", "leaf"], tlsa(2, 0, 1, "leaf")), Some(Refusal::Invalid));
    assert_eq!(judged(&["under_leaf", "leaf", "inter"], tlsa(2, 0, 1, "inter")), Some(Refusal::Invalid));
}

#[test]
fn a_leaf_is_not_its_own_authority() {
    refused(&["root"], "root", &[tlsa(2, 0, 1, "root")], NO_ANCHOR);
    refused(&["root"], "root", &[tlsa(2, 0, 0, "root")], NO_ANCHOR);
}

#[test]
fn while_keys_are_rolled_over_one_record_that_fits_is_enough() {
    let both = [tlsa(3, 1, 1, "other"), tlsa(3, 1, 1, "leaf")];
    assert_eq!(judged(&CHAIN, "mx.test", &both), Ok(8));
    assert_eq!(judged(&["other", "inter"], "mx.test", &both), Ok(8));
    let mixed = [tlsa(2, 0, 1, "rogue"), tlsa(3, 1, 1, "leaf")];
    assert_eq!(judged(&CHAIN, "mx.test", &mixed), Ok(12));
    assert_eq!(judged(&CHAIN, "mx.test", &[tlsa(2, 0, 1, "inter"), tlsa(3, 1, 1, "other")]), Ok(12));
    refused(&CHAIN, "mx.test", &[tlsa(2, 0, 1, "rogue"), tlsa(3, 1, 1, "other")], NO_ANCHOR);
}

#[test]
fn usages_that_need_public_authorities_are_unusable_and_others_beside_them_count() {
    let unusable = [tlsa(0, 0, 1, "root"), tlsa(1, 1, 1, "leaf")];
    assert_eq!(Dane::new(&unusable, "mx.test".into()), None);
    let records = [&unusable[..], &[tlsa(3, 1, 1, "leaf")]].concat();
    assert_eq!(judged(&CHAIN, "mx.test", &records), Ok(8));
    let records = [&unusable[..], &[tlsa(3, 1, 1, "other")]].concat();
    refused(&CHAIN, "mx.test", &records, DIFFERS);
}

#[test]
fn of_two_digests_of_the_same_kind_the_stronger_decides() {
    refused(&CHAIN, "mx.test", &[tlsa(3, 1, 1, "leaf"), tlsa(3, 1, 2, "other")], DIFFERS);
    assert_eq!(judged(&CHAIN, "mx.test", &[tlsa(3, 1, 1, "other"), tlsa(3, 1, 2, "leaf")]), Ok(8));
}

fn with_staple(staple: Option<ProofSpec>, records: &[Tlsa], wish: Wish) -> Result<(bool, OcspState), String> {
    let staple = staple.map(|spec| ca().proof(&spec));
    outcome(&CHAIN, staple.as_deref(), "mx.test", records, wish).map(|info| (info.dane, info.ocsp))
}

#[test]
fn a_staple_is_verified_by_the_chain_that_the_records_vouch_for() {
    let revoked = || Some(ProofSpec { status: Status::Revoked, ..good("leaf") });
    let foreign = || Some(ProofSpec { signer: "rogue", ..good("leaf") });
    let request = Wish { request_ocsp: true, ..wish("") };
    let require = Wish { require_ocsp: true, ..request };
    for records in [[tlsa(2, 1, 1, "inter")], [tlsa(2, 0, 0, "root")], [tlsa(3, 1, 1, "leaf")]] {
        assert_eq!(with_staple(Some(good("leaf")), &records, require), Ok((true, OcspState::Verified)));
        assert_eq!(with_staple(None, &records, require), Err(STATUS.to_owned()));
        assert_eq!(with_staple(foreign(), &records, require), Err(STATUS.to_owned()));
        assert_eq!(with_staple(revoked(), &records, require), Err(REVOKED.to_owned()));
        assert_eq!(with_staple(None, &records, request), Ok((true, OcspState::NoResponse)));
        let status = Wish { require_status: true, ..wish("") };
        assert_eq!(with_staple(Some(good("leaf")), &records, status), Ok((true, OcspState::Verified)));
        assert_eq!(with_staple(None, &records, status), Err(STATUS.to_owned()));
    }
    // A revocation counts under an authority; what is itself in DNS is not asked about (RFC 7671 5.1).
    assert_eq!(with_staple(revoked(), &[tlsa(2, 1, 1, "inter")], request), Err(REVOKED.to_owned()));
    assert_eq!(with_staple(revoked(), &[tlsa(3, 1, 1, "leaf")], request), Ok((true, OcspState::Failed)));
}

#[test]
fn a_must_staple_certificate_has_to_keep_its_word_under_an_authority_only() {
    let request = Wish { request_ocsp: true, ..wish("") };
    let outcome =
        |record, wish| outcome(&["staple", "inter"], None, "mx.test", &[record], wish).map(|info| info.dane);
    assert_eq!(outcome(tlsa(2, 1, 1, "inter"), request), Err(INVALID.to_owned()));
    assert_eq!(outcome(tlsa(3, 1, 1, "staple"), wish("")), Ok(true));
}

#[test]
fn sessions_are_gone_on_with_under_the_same_records_only_and_judged_again() {
    let options = || {
        let file = |name: &str| ca().path(name).display().to_string();
        Options::from([
            ("tls_certificate", file("leaf-chain.pem")),
            ("tls_privatekey", file("leaf.key")),
            ("tls_resumption_hosts", "*".to_owned()),
        ])
    };
    for version in VERSIONS {
        let (server, tls) = (Server::start(options(), ClientCertificate::Ignored), ClientTls::new());
        let wish = Wish { resume: true, ..wish(version) };
        let connect = |records: &[Tlsa]| {
            let result = connect(&tls, server.address, Dane::new(records, "mx.test".into()), wish);
            result.map(|info| (info.resumed, info.dane))
        };
        let (leaf, anchor) = ([tlsa(3, 1, 1, "leaf")], [tlsa(2, 1, 1, "inter")]);
        // A session of nobody's policy does not serve one with records, nor the other way round.
        assert_eq!(connect(&[]), Ok((false, false)), "{version}");
        assert_eq!(connect(&[]), Ok((true, false)), "{version}");
        assert_eq!(connect(&leaf), Ok((false, true)), "{version}");
        assert_eq!(connect(&leaf), Ok((true, true)), "{version}");
        assert_eq!(connect(&anchor), Ok((false, true)), "{version}");
        assert_eq!(connect(&anchor), Ok((true, true)), "{version}");
        assert_eq!(connect(&[]), Ok((true, false)), "{version}");
        // What was refused is not kept.
        for _ in 0..2 {
            assert_eq!(connect(&[tlsa(3, 1, 1, "other")]), Err(DIFFERS.to_owned()), "{version}");
        }
    }
}

/// Does `openssl s_client` take this chain, by these records alone?
fn openssl_takes(chain: &[&str], host: &str, records: &[Tlsa]) -> bool {
    let sent: Vec<u8> = chain.iter().flat_map(|name| ca().read(&format!("{name}.pem"))).collect();
    let address = staple_anything(&sent, &ca().read(&format!("{}.key", chain[0])), None);
    let mut command = Command::new("timeout");
    command.args(["20", "openssl", "s_client", "-connect", &address.to_string(), "-no-CAfile", "-no-CApath"]);
    command.args(["-dane_ee_no_namechecks", "-dane_tlsa_domain", host]);
    for record in records {
        let data = record.data.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        let record = format!("{} {} {} {data}", record.usage, record.selector, record.matching);
        command.args(["-dane_tlsa_rrdata", &record]);
    }
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let verdict = said.lines().find_map(|line| line.trim().strip_prefix("Verify return code: "));
    verdict.unwrap_or_else(|| panic!("{said}{}", String::from_utf8_lossy(&output.stderr))).starts_with("0 ")
}

#[test]
fn openssl_takes_the_same_chains_by_the_same_records() {
    ca().issue_expired("late", "inter", "subjectAltName=DNS:mx.test");
    let chains: [&[&str]; 7] = [
        &["leaf"],
        &["leaf", "inter"],
        &["leaf", "inter", "root"],
        &["other", "inter"],
        &["late", "inter"],
        &["direct", "root"],
        &["root"],
    ];
    let mut records: Vec<Vec<Tlsa>> = Vec::new();
    for of in ["leaf", "other", "late", "inter", "root", "rogue"] {
        records.push(vec![tlsa(3, 1, 1, of)]);
        records.push(vec![tlsa(2, 0, 1, of)]);
        records.push(vec![tlsa(2, 1, 2, of)]);
        records.push(vec![tlsa(2, 0, 0, of)]);
    }
    records.push(vec![tlsa(3, 0, 0, "leaf")]);
    records.push(vec![tlsa(3, 0, 2, "leaf"), tlsa(3, 0, 1, "other")]);
    records.push(vec![tlsa(3, 0, 1, "leaf"), tlsa(3, 0, 2, "other")]);
    records.push(vec![tlsa(2, 0, 1, "rogue"), tlsa(3, 1, 1, "leaf")]);
    let mut differ = Vec::new();
    let (mut taken, mut refused) = (0, 0);
    for chain in chains {
        for records in &records {
            let ours = judged(chain, "mx.test", records).is_ok();
            *if ours { &mut taken } else { &mut refused } += 1;
            if ours != openssl_takes(chain, "mx.test", records) {
                let of: Vec<_> = records.iter().map(|r| (r.usage, r.selector, r.matching)).collect();
                differ.push(format!("{chain:?} {of:?}: we say {ours}"));
            }
        }
    }
    assert!(differ.is_empty(), "{differ:#?}");
    assert!(taken > 20 && refused > 50, "{taken} {refused}");
}
