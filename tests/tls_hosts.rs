//! A thousand virtual hosts, each with two certificates and their proofs (rows S2, S3 and S12): what they cost, and that
//! each file is still seen within a second.
#![cfg(ocsp_stapling)]

#[path = "support/ca.rs"]
mod ca;
#[path = "support/long.rs"]
mod long;
#[path = "support/stapling_server.rs"]
mod stapling_server;
#[path = "support/tls_client.rs"]
mod tls_client;

use ca::{ProofSpec, Status, ca, good};
use long::short_or_long;
use oxim::mail::envelope::{OcspState, TlsInfo};
use oxim::tls::cache::WATCHER;
use stapling_server::{Options, Server};
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};
use tls_client::{client, start};

/// In `make check`, and in `make check-long`.
const FEW_HOSTS: usize = 200;
const HOSTS: usize = 1000;
const ONLY_ECDSA: &str = "NORMAL:-VERS-ALL:+VERS-TLS1.3:-SIGN-ALL:+SIGN-ECDSA-SECP256R1-SHA256";
const ONLY_RSA: &str = "NORMAL:-VERS-ALL:+VERS-TLS1.3:-SIGN-ALL:+SIGN-RSA-PSS-RSAE-SHA256";

/// The files of all hosts: `hN-ec.pem`, `hN-ec.key`, `hN-ec.der`, and the same for `rsa`.
fn lay_out(directory: &Path, hosts: usize) {
    ca().issue_rsa("rsa", "subjectAltName=DNS:mx.test,DNS:localhost,IP:127.0.0.1");
    for (kind, name) in [("ec", "leaf"), ("rsa", "rsa")] {
        ca().put(&directory.join(format!("{kind}.der")), &ca().proof(&good(name)));
        for host in 0..hosts {
            let at = |suffix: &str| directory.join(format!("h{host}-{kind}.{suffix}"));
            fs::copy(ca().path(&format!("{name}-chain.pem")), at("pem")).unwrap();
            fs::copy(ca().path(&format!("{name}.key")), at("key")).unwrap();
            fs::copy(directory.join(format!("{kind}.der")), at("der")).unwrap();
        }
    }
}

fn shake(server: &Server, host: usize, priority: &str) -> TlsInfo {
    client(server.address, priority, Some(&format!("h{host}.test"))).unwrap()
}

#[test]
fn many_virtual_hosts_with_lists_stay_small_and_each_is_watched() {
    let directory = tempfile::tempdir().unwrap();
    let hosts = short_or_long(FEW_HOSTS, HOSTS);
    lay_out(directory.path(), hosts);
    let list = |suffix: &str| {
        let of = |kind: &str| directory.path().join(format!("SNI-{kind}.{suffix}")).display().to_string();
        format!("{} : {}", of("ec"), of("rsa"))
    };
    let server = start(Options::from([
        ("tls_certificate", list("pem")),
        ("tls_privatekey", list("key")),
        ("tls_ocsp_file", list("der")),
    ]));
    // The name `leaf` stands for a client without a name.
    for kind in ["ec", "rsa"] {
        for suffix in ["pem", "key", "der"] {
            let at = |name: &str| directory.path().join(format!("{name}-{kind}.{suffix}"));
            fs::copy(at("h0"), at("leaf")).unwrap();
        }
    }
    for host in 0..8 {
        shake(&server, host, ONLY_ECDSA); // what the process needs once
    }
    let before = resident();
    for host in 8..hosts {
        assert_eq!(shake(&server, host, ONLY_ECDSA).ocsp, OcspState::Verified, "{host}");
        server.sessions.lock().unwrap().clear();
    }
    let each = resident().saturating_sub(before) / (hosts - 8);
    println!("{each} KiB for each host with two certificates");
    assert!(each < 64, "{each} KiB for each host");
    for host in (0..hosts).step_by(97) {
        let (ec, rsa) = (shake(&server, host, ONLY_ECDSA), shake(&server, host, ONLY_RSA));
        assert_eq!((ec.ocsp, rsa.ocsp), (OcspState::Verified, OcspState::Verified), "{host}");
        assert_eq!(ec.peer_certificate, ca().certificate("leaf").der().unwrap());
        assert_eq!(rsa.peer_certificate, ca().certificate("rsa").der().unwrap());
    }

    // To look at six thousand files twice a second costs little.
    let (begun, ticks) = (Instant::now(), watcher_ticks());
    thread::sleep(Duration::from_secs(3));
    let busy = (watcher_ticks() - ticks) as f64 / 100.0 / begun.elapsed().as_secs_f64();
    println!("the watcher takes {:.1} % of a processor", busy * 100.0);
    assert!(busy < 0.2, "{busy} of a processor");

    // Each proof is still seen within a second.
    let revoked = |name| ca().proof(&ProofSpec { status: Status::Revoked, ..good(name) });
    let at = |host: usize, kind: &str| directory.path().join(format!("h{host}-{kind}.der"));
    for host in [3, hosts / 2, hosts - 1] {
        ca().put(&at(host, "rsa"), &revoked("rsa"));
        within_a_second(|| shake(&server, host, ONLY_RSA).ocsp == OcspState::NoResponse);
        assert_eq!(shake(&server, host, ONLY_ECDSA).ocsp, OcspState::Verified);
    }
    // All of them at once, too: who asks for one that the watcher has not come to loads it. (On a quiet machine within
    // a second; beside other tests the time is only told.)
    let revoked = revoked("leaf");
    let changed = Instant::now();
    (0..hosts).for_each(|host| ca().put(&at(host, "ec"), &revoked));
    println!("{hosts} proofs were replaced in {:?}", changed.elapsed());
    let mut slowest = Duration::ZERO;
    for host in (0..hosts).step_by(53) {
        while shake(&server, host, ONLY_ECDSA).ocsp != OcspState::NoResponse {
            assert!(changed.elapsed() < Duration::from_secs(10), "{host}: the former proof goes on");
        }
        slowest = slowest.max(changed.elapsed());
    }
    println!("and the last of them was out of use after {slowest:?}");
}

fn within_a_second(mut seen: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(1);
    while !seen() {
        assert!(Instant::now() < end, "not within a second");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Processor time of the thread that watches files, in hundredths of a second.
fn watcher_ticks() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let mut stats = tasks.filter_map(|task| fs::read_to_string(task.path().join("stat")).ok());
    let stat = stats.find(|stat| stat.contains(&format!("({WATCHER})"))).expect("the watcher");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// Resident memory of this process in KiB.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
