//! Revocation lists: what is believed of them, and what of each kind that proves nothing.

#[path = "support/ca.rs"]
mod ca;
#[path = "support/lists.rs"]
mod lists;

use ca::{DAY, SEQUENCE, ca, der};
use lists::{ListSpec, extension, issuing_point, list_of_inter, list_of_root, part};
use oxim::ocsp::crl::{Crl, UnfitCrl, Unsigned};
use oxim::ocsp::registry::{Key, Registry, WantedList};
use oxim::tls::gnutls::crl::distribution_points;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

fn check(spec: &ListSpec) -> Result<Crl, UnfitCrl> {
    Crl::check(&spec.der(), &ca().certificate(spec.issuer), SystemTime::now())
}

fn serial(name: &str) -> Vec<u8> {
    ca().certificate(name).serial().unwrap()
}

#[track_caller]
fn unfit(spec: &ListSpec, words: &str) {
    let error = check(spec).unwrap_err().to_string();
    assert!(error.contains(words), "{error}");
}

#[test]
fn a_list_of_the_issuer_tells_who_is_revoked_and_since_when() {
    let crl = check(&list_of_inter(&["other", "leaf"])).unwrap();
    let since = crl.revoked(&serial("leaf")).unwrap();
    let ago = SystemTime::now().duration_since(since).unwrap().as_secs();
    assert!((7190..7260).contains(&ago), "{ago}");
    assert!(crl.revoked(&serial("other")).is_some() && crl.revoked(&serial("staple")).is_none());
    let left = crl.until().duration_since(SystemTime::now()).unwrap();
    assert!(left <= Duration::from_secs(DAY as u64) && left > Duration::from_secs(DAY as u64 - 60));
    assert_eq!(crl.len(), 2);
}

#[test]
fn an_empty_list_revokes_nobody() {
    let crl = check(&list_of_inter(&[])).unwrap();
    assert!(crl.is_empty() && crl.revoked(&serial("leaf")).is_none());
}

#[test]
fn pem_is_read_with_text_around_it_and_several_lists_in_a_row() {
    let (inter, root) = (list_of_inter(&["leaf"]), list_of_root(&["inter"]));
    let file = [b"issued today\n".to_vec(), inter.pem(), b"\nand\n".to_vec(), root.pem()].concat();
    let all = Unsigned::all(&file).unwrap();
    assert_eq!(all.len(), 2);
    assert!(all[0].signed_by(&ca().certificate("inter")).unwrap().revoked(&serial("leaf")).is_some());
    assert!(all[1].signed_by(&ca().certificate("root")).unwrap().revoked(&serial("inter")).is_some());
    let error = Crl::check(&file, &ca().certificate("inter"), SystemTime::now()).unwrap_err();
    assert_eq!(error.to_string(), "malformed: several lists in place of one");
    assert!(Crl::check(&inter.pem(), &ca().certificate("inter"), SystemTime::now()).is_ok());
}

#[test]
fn zeros_in_front_of_a_serial_number_do_not_hide_it() {
    let mut spec = list_of_inter(&[]);
    spec.revoked = vec![[&[0][..], &serial("leaf")].concat(), vec![0x7f], vec![1, 2, 3, 4, 5, 6, 7, 8]];
    let crl = check(&spec).unwrap();
    assert!(crl.revoked(&serial("leaf")).is_some());
    assert!(crl.revoked(&[0, 0x7f]).is_some() && crl.revoked(&[0x7e]).is_none());
}

#[test]
fn a_list_of_another_issuer_or_with_a_bad_signature_is_refused() {
    unfit(&ListSpec { broken: true, ..list_of_inter(&[]) }, "bad signature");
    unfit(&ListSpec { signer: "rogue", ..list_of_inter(&[]) }, "bad signature");
    let error =
        Crl::check(&list_of_inter(&[]).der(), &ca().certificate("root"), SystemTime::now()).unwrap_err();
    assert_eq!(error.to_string(), "of another issuer");
}

#[test]
fn a_certificate_that_may_not_sign_lists_signs_none() {
    // An authority whose key usage has no cRLSign.
    unfit(&ListSpec { issuer: "listless", signer: "listless", ..list_of_inter(&[]) }, "of another issuer");
}

#[test]
fn a_weak_signature_algorithm_is_refused() {
    // ecdsa-with-SHA1
    const SHA1: &[u8] = &[0x06, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1];
    unfit(&ListSpec { algorithm: SHA1, ..list_of_inter(&[]) }, "too weak or not supported");
}

#[test]
fn the_times_of_a_list_are_those_of_a_proof() {
    unfit(&ListSpec { next_update: Some(-1), ..list_of_inter(&[]) }, "expired at");
    unfit(&ListSpec { next_update: None, ..list_of_inter(&[]) }, "no nextUpdate");
    unfit(&ListSpec { this_update: 400, ..list_of_inter(&[]) }, "not valid before");
    assert!(check(&ListSpec { this_update: 200, ..list_of_inter(&[]) }).is_ok());
}

#[test]
fn a_list_that_is_not_complete_proves_nothing() {
    let with = |extensions| ListSpec { extensions, ..list_of_inter(&[]) };
    unfit(&with(extension(27, true, &[2, 1, 6])), "a delta CRL");
    unfit(&with(issuing_point(&[0x84, 1, 0xff])), "an indirect CRL");
    unfit(&with(issuing_point(&[0x85, 1, 0xff])), "attribute certificates");
    unfit(&with(issuing_point(&[0x83, 2, 1, 2])), "some reasons");
    unfit(&with(extension(99, true, &[5, 0])), "critical extension that is not known");
    assert!(check(&with(extension(99, false, &[5, 0]))).is_ok());
    let of_entry = |entry_extensions| ListSpec { entry_extensions, ..list_of_inter(&["leaf"]) };
    unfit(&of_entry(extension(29, true, &der(SEQUENCE, &[]))), "an indirect CRL");
    unfit(&of_entry(extension(98, true, &[5, 0])), "critical extension that is not known");
    // A reason, unspecified as well as "on hold", is a revocation.
    let held = check(&of_entry(extension(21, false, &[0x0a, 1, 6]))).unwrap();
    assert!(held.revoked(&serial("leaf")).is_some());
}

#[test]
fn a_list_of_a_part_speaks_only_of_its_part() {
    let with = |contents: &[u8]| {
        check(&ListSpec { extensions: issuing_point(contents), ..list_of_inter(&[]) }).unwrap()
    };
    let covers = |crl: &Crl, name| crl.covers(&ca().certificate(name));
    let whole = check(&list_of_inter(&[])).unwrap();
    assert!(covers(&whole, "pointed") && covers(&whole, "leaf"));
    let two = with(&part(&["http://lists.test/zero.crl", "http://lists.test/two.crl"]));
    assert!(covers(&two, "pointed") && !covers(&two, "leaf"));
    assert!(!covers(&with(&part(&["http://lists.test/three.crl"])), "pointed"));
    // A name relative to the issuer's: no certificate is compared with it.
    assert!(!covers(&with(&der(0xa0, &der(0xa1, &[]))), "pointed"));
    let (users, authorities) = (with(&[0x81, 1, 0xff]), with(&[0x82, 1, 0xff]));
    assert!(covers(&users, "leaf") && !covers(&users, "inter"));
    assert!(covers(&authorities, "inter") && !covers(&authorities, "leaf"));
}

#[test]
fn a_certificate_tells_where_its_lists_are() {
    let points = distribution_points(&ca().certificate("pointed"));
    assert_eq!(points, [b"http://lists.test/one.crl".to_vec(), b"http://lists.test/two.crl".to_vec()]);
    assert!(distribution_points(&ca().certificate("leaf")).is_empty());
}

#[test]
fn what_is_no_list_is_refused_wherever_it_is_cut() {
    let whole = list_of_inter(&["leaf", "other"]).der();
    for length in 0..whole.len() {
        assert!(Unsigned::parse(whole[..length].to_vec()).is_err(), "{length}");
    }
    for at in 0..whole.len() {
        for bit in [0x01, 0x80] {
            let mut turned = whole.clone();
            turned[at] ^= bit;
            // Whatever it became, it is not believed.
            let issuer = ca().certificate("inter");
            assert!(Crl::check(&turned, &issuer, SystemTime::now()).is_err(), "{at} {bit}");
        }
    }
    for nonsense in [&b""[..], b" \n", b"0", b"hello", b"-----BEGIN X509 CRL-----\nAAAA"] {
        assert!(Unsigned::all(nonsense).is_err());
    }
    let long = vec![0x30; oxim::ocsp::MAX_CRL_SIZE + 1];
    assert!(matches!(Unsigned::parse(long), Err(UnfitCrl::TooLong(_))));
}

#[test]
fn openssls_lists_are_read_and_openssl_reads_those_of_the_tests() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let hex: String = serial("leaf").iter().map(|byte| format!("{byte:02X}")).collect();
    let index = format!("R\t{}\t{}Z,keyCompromise\t{hex}\tunknown\t/CN=x\n", "301231235959Z", "251101000000");
    std::fs::write(at("index"), index).unwrap();
    std::fs::write(at("number"), "01\n").unwrap();
    let configuration = format!(
        "[ca]\ndefault_ca=d\n[d]\ndatabase={}\ncrlnumber={}\ndefault_md=sha384\ndefault_crl_days=7\n\
         crl_extensions=e\n[e]\nauthorityKeyIdentifier=keyid\n",
        at("index"),
        at("number")
    );
    std::fs::write(at("cnf"), configuration).unwrap();
    let run = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).current_dir(ca().path("")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let pem = run(&["ca", "-gencrl", "-config", &at("cnf"), "-keyfile", "inter.key", "-cert", "inter.pem"]);
    let crl = Crl::check(&pem, &ca().certificate("inter"), SystemTime::now()).unwrap();
    assert!(crl.revoked(&serial("leaf")).is_some() && crl.len() == 1);
    // The reason made its time the one of the file (UTCTime in the list).
    let since = crl.revoked(&serial("leaf")).unwrap();
    assert_eq!(since, SystemTime::UNIX_EPOCH + Duration::from_secs(1_761_955_200));
    std::fs::write(at("ours"), list_of_inter(&["leaf"]).pem()).unwrap();
    let text = run(&["crl", "-in", &at("ours"), "-CAfile", "inter.pem", "-noout", "-text"]);
    assert!(String::from_utf8_lossy(&text).contains(&hex));
}

#[test]
fn half_a_million_entries_are_read_and_asked_in_a_moment() {
    // The content's length must fit three bytes, as must the list's.
    let entry = |number: u32| {
        let mut bytes = vec![0x30, 0x17, 2, 4];
        bytes.extend((number.wrapping_mul(2_654_435_761) & 0x7fff_ffff | 0x4000_0000).to_be_bytes());
        bytes.extend(b"\x17\x0d251101000000Z".iter().chain(&[5, 0]).take(15));
        bytes[1] = u8::try_from(bytes.len() - 2).unwrap();
        bytes
    };
    let entries: Vec<u8> = (0..500_000).flat_map(entry).collect();
    let name = ca().certificate("inter").raw_dn().unwrap();
    let algorithm = der(SEQUENCE, ca::ECDSA_SHA256);
    let times = [ca::time(0x18, -60), ca::time(0x18, DAY)].concat();
    let body = [vec![2, 1, 1], algorithm.clone(), name, times, der(SEQUENCE, &entries)].concat();
    let signed = der(SEQUENCE, &body);
    let signature = ca::bits(&ca().sign("inter", &signed));
    let list = der(SEQUENCE, &[signed, algorithm, signature].concat());
    let start = Instant::now();
    let crl = Crl::check(&list, &ca().certificate("inter"), SystemTime::now()).unwrap();
    for number in 0..1000u32 {
        let serial = (number * 500).wrapping_mul(2_654_435_761) & 0x7fff_ffff | 0x4000_0000;
        assert!(crl.revoked(&serial.to_be_bytes()).is_some());
    }
    assert!(crl.revoked(&[1]).is_none() && crl.len() == 500_000);
    // GnuTLS takes minutes for a fifth of it. A slow machine without optimisation takes two seconds or three.
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

struct Nobody;
impl oxim::ocsp::registry::Keeper for Nobody {
    fn want(&self, _: Key, _: &oxim::ocsp::registry::Wanted) {}
    fn want_list(&self, _: Key, _: &WantedList) {}
    fn forget(&self, _: Key) {}
}

#[test]
fn a_fetched_list_is_checked_again_and_an_older_one_does_not_take_its_place() {
    let registry = Registry::new(std::sync::Arc::new(Nobody));
    let issuer = ca().certificate("inter");
    let (key, wanted) = WantedList::new(&issuer, "http://lists.test/one.crl").unwrap();
    assert_ne!(key, Key::of_list(&issuer, "http://lists.test/two.crl").unwrap());
    assert_ne!(key, Key::of_list(&ca().certificate("root"), "http://lists.test/one.crl").unwrap());
    let now = SystemTime::now();
    let entry = registry.want_list(key, wanted).unwrap();
    assert!(registry.heard_list(key, &list_of_root(&[]).der(), now).is_err());
    assert!(registry.heard_list(key, &ListSpec { broken: true, ..list_of_inter(&[]) }.der(), now).is_err());
    assert!(entry.crl().is_none());
    registry.heard_list(key, &list_of_inter(&["leaf"]).der(), now).unwrap();
    registry.heard_list(key, &ListSpec { this_update: -7200, ..list_of_inter(&[]) }.der(), now).unwrap();
    assert!(entry.crl().unwrap().revoked(&serial("leaf")).is_some());
    registry.heard_list(key, &ListSpec { this_update: -60, ..list_of_inter(&[]) }.der(), now).unwrap();
    assert!(entry.crl().unwrap().is_empty());
}
