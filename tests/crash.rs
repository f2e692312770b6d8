//! A message that was answered with 250 is never lost: not when a process is killed at any system call
//! of the commit, not when processes are killed under load, not when a write or a flush fails, not when the disk is full.
//!
//! `make check-long` runs all with the release binary, as root. A plain `cargo test` runs a short form of each part.
//! `cargo test --test crash -- PART` runs one. `OXIM_CRASH_PROGRAM=exim4` tries the method of the
//! first part on exim4.

#[path = "support/crash/client.rs"]
mod client;
#[path = "support/crash/commit.rs"]
mod commit;
#[path = "support/crash/disk.rs"]
mod disk;
#[path = "support/crash/faults.rs"]
mod faults;
#[path = "support/long.rs"]
mod long;
#[path = "support/crash/order.rs"]
mod order;
#[path = "support/parity/mod.rs"]
#[allow(dead_code, reason = "the crash tests use the surroundings of the parity cases, not the player")]
mod parity;
#[path = "support/crash/random.rs"]
mod random;
#[path = "support/crash/trace.rs"]
mod trace;
#[path = "support/crash/tree.rs"]
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use parity::case::Caller;
use parity::world::{Call, Mode, Program, Workshop, World};

/// No retry rule: a deferral that a rule would have to save from bouncing shows as a loss.
const CONFIGURATION: &str = "@PRELUDE@\nacl_smtp_rcpt = accept\nsmtp_accept_max = 100\n\
    check_spool_space = 0\ncheck_spool_inodes = 0\n\
    begin routers\n@ROUTER_LOCAL@\nbegin transports\n@TRANSPORT_MAILDIR@\n";

fn main() -> ExitCode {
    if std::env::args().any(|a| a == "--list") {
        println!("crash: test");
        return ExitCode::SUCCESS;
    }
    let namespace = nix::unistd::geteuid().is_root()
        && Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|s| s.success());
    if !namespace {
        println!("crash: SKIPPED: needs root and mount namespaces");
        return if std::env::var_os("OXIM_REQUIRE_ROOT").is_some() {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        };
    }
    let is_long = long::short_or_long(false, true);
    let is_exim4 = std::env::var("OXIM_CRASH_PROGRAM").is_ok_and(|p| p == "exim4");
    let program = if is_exim4 { Program::Exim4 } else { Program::Oxim };
    let workshop = match Workshop::new(program, Path::new(env!("CARGO_BIN_EXE_oxim"))) {
        Ok(workshop) => workshop,
        Err(e) => {
            println!("crash: FAILED: {e}");
            return ExitCode::FAILURE;
        }
    };
    let words: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let parts: [(&str, Part); 6] = [
        ("commit", commit::kills_in_commit),
        ("random", random::kills_at_random),
        ("disk", disk::full_disk),
        ("failing", disk::failing_calls),
        ("faults", faults::own_faults),
        ("order", order::order_of_flushes),
    ];
    let mut failed = false;
    for (name, part) in parts {
        if (!words.is_empty() && !words.iter().any(|w| w == name)) || (is_exim4 && name != "commit") {
            continue;
        }
        let started = Instant::now();
        match part(&workshop, is_long) {
            Ok(report) => println!("crash {name} ... ok, {:.0} s\n{report}", started.elapsed().as_secs_f32()),
            Err(why) => {
                println!("crash {name} ... FAILED: {why}");
                failed = true;
            }
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

type Part = fn(&Workshop, bool) -> Result<String, String>;

// --- shared -------------------------------------------------------------------------------------------

fn new_world(workshop: &Workshop, name: &str) -> Result<World, String> {
    world_with(workshop, name, CONFIGURATION)
}

fn world_with(workshop: &Workshop, name: &str, configuration: &str) -> Result<World, String> {
    let world = World::new(workshop, name, Mode::Daemon).map_err(|e| e.to_string())?;
    world.write_file("exim.conf", 0o644, configuration).map_err(|e| e.to_string())?;
    Ok(world)
}

/// How often each message lies in ann's Maildir, by its token.
fn deliveries(world: &World) -> BTreeMap<String, usize> {
    deliveries_to(world, "ann")
}

fn deliveries_to(world: &World, user: &str) -> BTreeMap<String, usize> {
    let mut tokens = BTreeMap::new();
    for entry in
        fs::read_dir(world.directory.join("mail").join(user).join("new")).into_iter().flatten().flatten()
    {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        if let Some(token) = text.lines().find_map(|line| line.strip_prefix("Subject: ")) {
            *tokens.entry(token.to_owned()).or_default() += 1;
        }
    }
    tokens
}

/// Files of messages in the spool, finished and unfinished.
fn spool_files(world: &World) -> Vec<String> {
    let mut names = Vec::new();
    for directory in ["spool/input", "spool/msglog"] {
        for entry in fs::read_dir(world.directory.join(directory)).into_iter().flatten().flatten() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names
}

/// Starts the daemon again, runs the queue, and waits until everything that was answered lies there.
fn recover(world: &mut World, answered: &BTreeSet<String>) -> Result<(), String> {
    world.start_daemon(&[])?;
    await_deliveries(world, answered, Duration::from_secs(30))?;
    world.stop_daemon()
}

/// Runs the queue of a daemon until everything that was answered lies there.
fn await_deliveries(world: &World, answered: &BTreeSet<String>, longest: Duration) -> Result<(), String> {
    let deadline = Instant::now() + longest;
    loop {
        run_queue(world)?;
        let there = deliveries(world);
        let lost: Vec<_> = answered.iter().filter(|token| !there.contains_key(*token)).collect();
        if lost.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!(
                "LOST: {} of {} messages that got a 250: {lost:?}",
                lost.len(),
                answered.len()
            ));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn run_queue(world: &World) -> Result<(), String> {
    let arguments = ["-qff".to_owned()];
    let call = Call { caller: Caller::Root, name: None, bare: false, arguments: &arguments, input: "" };
    world.call(&call).map(drop).map_err(|e| e.to_string())
}
