//! The log has one line for each change of a certificate's status, and none for a handshake: hundreds of them in each
//! steady state, and every line is counted.
#![cfg(ocsp_stapling)]

#[path = "support/ca.rs"]
mod ca;
#[path = "support/daemon.rs"]
mod daemon;
#[path = "support/responder.rs"]
mod responder;
#[path = "support/smtp_client.rs"]
mod smtp_client;

use ca::{DAY, ProofSpec, ca, good};
use daemon::{Daemon, Place, Program};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use oxim::mail::envelope::OcspState;
use responder::{Mode, Responder};
use std::fs;
use std::time::{Duration, Instant};

/// Handshakes in each state.
const MANY: usize = 500;
const PATIENCE: Duration = Duration::from_secs(30);

fn place(more: &str) -> Place {
    let text = format!(
        "tls_advertise_hosts = *\ntls_certificate = @DIR@/chain.pem\ntls_privatekey = @DIR@/key.pem\n{more}\n\
         acl_smtp_rcpt = accept\n"
    );
    let place = Place::new(Program::Oxim, &text).with_keepers_user();
    fs::write(place.path("chain.pem"), ca().read("leaf-chain.pem")).unwrap();
    fs::write(place.path("key.pem"), ca().read("leaf.key")).unwrap();
    place
}

/// A daemon that fetches from here; it has said what it says at its start.
fn fetching(responder: &Responder) -> Daemon {
    let place = place(&format!("tls_ocsp_fetch = true\ntls_ocsp_responder = {}", responder.url()));
    let daemon = place.daemon();
    daemon.place.wait_for_log("daemon started");
    daemon
}

/// All lines of the main and the panic log.
fn lines(daemon: &Daemon) -> Vec<String> {
    let panic = fs::read_to_string(daemon.place.path("log/paniclog")).unwrap_or_default();
    daemon.place.log().lines().chain(panic.lines()).map(str::to_owned).collect()
}

fn wait_until_shown(daemon: &Daemon, staple: bool) {
    let end = Instant::now() + PATIENCE;
    while (smtp_client::shake(daemon.port, false) != OcspState::NoResponse) != staple {
        assert!(Instant::now() < end, "a staple: {staple}; log:\n{}", daemon.place.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Shakes hands many times, with a staple or without; the log says nothing of it.
fn nothing_is_said(daemon: &Daemon, staple: bool, state: &str) {
    let before = lines(daemon);
    std::thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| {
                for _ in 0..MANY / 5 {
                    let seen = smtp_client::shake(daemon.port, false);
                    assert_eq!(seen != OcspState::NoResponse, staple, "{state}");
                }
            });
        }
    });
    let after = lines(daemon);
    assert_eq!(after.len(), before.len(), "{state}: {:#?}", &after[before.len().min(after.len())..]);
}

fn count(daemon: &Daemon, words: &str) -> usize {
    daemon.place.log().lines().filter(|line| line.contains(words)).count()
}

fn signal(pid: u32, signal: Signal) {
    nix::sys::signal::kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
}

#[test]
fn with_a_good_proof_nothing_is_said_and_a_keeper_that_dies_or_hangs_changes_nothing() {
    let responder = Responder::start(Mode::Answer(ca().proof(&good("leaf"))));
    let daemon = fetching(&responder);
    wait_until_shown(&daemon, true);
    nothing_is_said(&daemon, true, "good");
    let keeper = daemon.role("oxim-keeper").unwrap();
    signal(keeper, Signal::SIGKILL);
    daemon.place.wait_for_log(&format!("the staple keeper (pid {keeper}) has ended"));
    daemon.place.wait_for_panic_log("has ended");
    nothing_is_said(&daemon, true, "after the keeper's death");
    let end = Instant::now() + PATIENCE;
    let next = loop {
        if let Some(next) = daemon.role("oxim-keeper").filter(|next| *next != keeper) {
            break next;
        }
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(20));
    };
    signal(next, Signal::SIGSTOP);
    nothing_is_said(&daemon, true, "the keeper hangs");
    signal(next, Signal::SIGCONT);
    assert_eq!(count(&daemon, "the staple keeper"), 1, "{}", daemon.place.log());
}

#[test]
fn without_a_proof_the_reason_is_said_once_however_often_it_is_asked_for() {
    let responder = Responder::start(Mode::Answer(ca::try_later()));
    let daemon = fetching(&responder);
    daemon.place.wait_for_log("tryLater");
    wait_until_shown(&daemon, false);
    nothing_is_said(&daemon, false, "none");
    assert_eq!(count(&daemon, "tryLater"), 1, "{}", daemon.place.log());
}

#[test]
fn an_expired_proof_is_said_once() {
    let expired = ProofSpec { this_update: -2 * DAY, next_update: Some(-DAY), ..good("leaf") };
    let place = place("tls_ocsp_file = @DIR@/proof.der");
    fs::write(place.path("proof.der"), ca().proof(&expired)).unwrap();
    let daemon = place.daemon();
    daemon.place.wait_for_log("daemon started");
    wait_until_shown(&daemon, false);
    daemon.place.wait_for_log("is not stapled: ");
    nothing_is_said(&daemon, false, "expired");
    assert_eq!(count(&daemon, "is not stapled: "), 1, "{}", daemon.place.log());
    // One that runs out while it is shown.
    let brief = ProofSpec { this_update: -DAY, next_update: Some(6), ..good("leaf") };
    fs::write(daemon.place.path("new"), ca().proof(&brief)).unwrap();
    fs::rename(daemon.place.path("new"), daemon.place.path("proof.der")).unwrap();
    wait_until_shown(&daemon, true);
    wait_until_shown(&daemon, false);
    let end = Instant::now() + PATIENCE;
    while count(&daemon, "is not stapled: ") < 2 {
        assert!(Instant::now() < end, "{}", daemon.place.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    nothing_is_said(&daemon, false, "run out");
    assert_eq!(
        (count(&daemon, "is not stapled: "), count(&daemon, "is stapled again")),
        (2, 1),
        "{}",
        daemon.place.log()
    );
}
