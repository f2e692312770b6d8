//! A message that was answered with 250 is never lost: not when a process is killed at any system call
//! of the commit, not when processes are killed at random under load, not when the disk is full.
//!
//! `make check-long` runs all with the release binary, as root. A plain `cargo test` runs a short form (three
//! system calls, ten kills, four sizes of disk). `OXIM_CRASH_PROGRAM=exim4` tries the method on exim4.

#[path = "support/parity/mod.rs"]
#[allow(dead_code, reason = "the crash tests use the surroundings of the parity cases, not the player")]
mod parity;
#[path = "support/crash/tree.rs"]
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use parity::case::Caller;
use parity::world::{Call, Mode, Program, Workshop, World};
use tree::{Doing, doing, tree};

/// System calls that a commit is made of; one that it does not use is passed over at once.
const COMMIT_CALLS: &[&str] = &[
    "fsync",
    "fdatasync",
    "renameat2",
    "rename",
    "renameat",
    "openat",
    "write",
    "writev",
    "pwrite64",
    "unlink",
    "unlinkat",
    "linkat",
    "fchown",
    "fchmod",
    "fcntl",
    "ftruncate",
    "sendto",
    "sendmsg",
    "close",
];

const CONFIGURATION: &str = "@PRELUDE@\nacl_smtp_rcpt = accept\nsmtp_accept_max = 100\n\
    check_spool_space = 0\ncheck_spool_inodes = 0\n\
    begin routers\n@ROUTER_LOCAL@\nbegin transports\n@TRANSPORT_MAILDIR@\n\
    begin retry\n* * F,1d,1s\n";

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
    let long = std::env::var_os("OXIM_LONG").is_some();
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
    let parts: [(&str, Part); 3] =
        [("commit", kills_in_commit), ("random", kills_at_random), ("disk", full_disk)];
    let mut failed = false;
    for (name, part) in parts {
        if !words.is_empty() && !words.iter().any(|w| w == name) {
            continue;
        }
        let started = Instant::now();
        match part(&workshop, long) {
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

// --- killed at each system call of the commit -------------------------------------------------------

fn kills_in_commit(workshop: &Workshop, long: bool) -> Result<String, String> {
    let calls = if long { COMMIT_CALLS } else { &COMMIT_CALLS[..3] };
    let mut report = String::new();
    for call in calls {
        let (mut answered, mut kills) = (0, 0);
        for when in 1..=80 {
            let world = new_world(workshop, &format!("commit-{call}-{when}"))?;
            let (killed, got_250) = one_kill(world, call, when)?;
            if !killed {
                break;
            }
            kills += 1;
            answered += usize::from(got_250);
        }
        if kills > 0 {
            report
                .push_str(&format!("  {call}: killed at {kills} calls, 250 was out at {answered} of them\n"));
        }
    }
    Ok(report)
}

/// One message while the process is killed at the n-th such call; whether it was, and whether 250 came.
fn one_kill(mut world: World, call: &str, when: usize) -> Result<(bool, bool), String> {
    world.start_daemon(&[])?;
    let processes = tree(world.daemon_id().unwrap_or(0));
    let receivers: Vec<_> =
        processes.iter().filter(|p| p.role.starts_with("smtp") || processes.len() == 1).cloned().collect();
    if receivers.is_empty() {
        return Err(format!("no process that receives: {processes:?}"));
    }
    let trace = world.directory.join("run/trace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o"]).arg(&trace).args(["-e", &format!("trace={call}")]);
    strace.args(["-e", &format!("inject={call}:signal=KILL:when={when}")]);
    for process in &receivers {
        strace.args(["-p", &process.id.to_string()]);
    }
    let mut strace =
        strace.stdin(Stdio::null()).stderr(Stdio::null()).spawn().map_err(|e| format!("strace: {e}"))?;
    poll(5, "strace to attach", || receivers.iter().all(|p| is_traced(p.id)))?;
    let token = format!("token-{call}-{when}-end");
    let got_250 = send_message(world.port, &token, 1).unwrap_or(false);
    // the delivery may use the call too: a moment for a kill that comes after the answer
    let _ = poll(1, "a kill", || was_killed(&trace) || delivered(&world).contains(&token));
    let killed = was_killed(&trace);
    let left = tree(world.daemon_id().unwrap_or(0));
    // not SIGTERM: strace 6.1 then waits for ever for a dead leader whose thread it has not reaped
    let _ = strace.kill();
    let _ = strace.wait();
    tree::kill_all(&left);
    let _ = world.stop_daemon();
    if got_250 {
        recover(&mut world, &BTreeSet::from([token]))?;
    } else {
        // an unanswered message may be there or not, but it must not stand in the way of the next
        let next = format!("token-{call}-{when}-next");
        world.start_daemon(&[])?;
        if !send_message(world.port, &next, 1).unwrap_or(false) {
            return Err(format!("after a kill at {call} {when} no message is taken any more"));
        }
        world.stop_daemon()?;
        recover(&mut world, &BTreeSet::from([next]))?;
    }
    Ok((killed, got_250))
}

fn was_killed(trace: &Path) -> bool {
    fs::read_to_string(trace).is_ok_and(|t| t.contains("killed by SIGKILL") || t.contains("(INJECTED)"))
}

fn is_traced(id: i32) -> bool {
    let Ok(tasks) = fs::read_dir(format!("/proc/{id}/task")) else { return false };
    tasks.flatten().all(|task| {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        status.lines().any(|l| l.starts_with("TracerPid:") && !l.ends_with("\t0"))
    })
}

// --- killed at random under load ---------------------------------------------------------------------

/// What was hit: role, and what it was doing.
type Hits = BTreeMap<(String, Doing), usize>;

fn kills_at_random(workshop: &Workshop, long: bool) -> Result<String, String> {
    let (least, least_each, longest) = if long { (100, 30, 420) } else { (6, 1, 180) };
    let mut world = new_world(workshop, "random")?;
    world.start_daemon(&["-q5s".into()])?;
    let answered = Arc::new(Mutex::new(BTreeSet::new()));
    let stop = Arc::new(AtomicBool::new(false));
    let number = Arc::new(AtomicUsize::new(0));
    let port = world.port;
    let clients: Vec<_> = (0..6)
        .map(|_| {
            let (answered, stop, number) = (answered.clone(), stop.clone(), number.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let token = format!("token-{}-end", number.fetch_add(1, Ordering::Relaxed));
                    if send_message(port, &token, 30).unwrap_or(false) {
                        answered.lock().unwrap_or_else(|e| e.into_inner()).insert(token);
                    } else {
                        std::thread::sleep(Duration::from_millis(20));
                    }
                }
            })
        })
        .collect();
    let mut hits = Hits::new();
    let deadline = Instant::now() + Duration::from_secs(longest);
    let mut random = u64::from(std::process::id()) | 1;
    while Instant::now() < deadline && !enough(&hits, least, least_each) {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let killed = kill_one(&mut world, random >> 17, least_each, &mut hits)?;
        // after a kill the daemon gets a moment to work again; else the next look comes soon
        let pause = if killed { 50 + (random >> 33) % 200 } else { 3 };
        std::thread::sleep(Duration::from_millis(pause));
    }
    stop.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| drop(client.join()));
    let left = tree(world.daemon_id().unwrap_or(0));
    tree::kill_all(&left);
    let _ = world.stop_daemon();
    let answered = answered.lock().map(|a| a.clone()).unwrap_or_default();
    recover(&mut world, &answered)?;
    let mut report = format!("  {} messages were answered with 250, none is lost\n", answered.len());
    for ((role, doing), count) in &hits {
        report.push_str(&format!("  killed {count:4} times: {role}, {doing:?}\n"));
    }
    if !enough(&hits, least, least_each) {
        return Err(format!("too few kills of some kind in {longest} s:\n{report}"));
    }
    Ok(report)
}

fn enough(hits: &Hits, least: usize, least_each: usize) -> bool {
    let of = |what: Doing| hits.iter().filter(|((_, d), _)| *d == what).map(|(_, n)| n).sum::<usize>();
    let master = hits.iter().any(|((role, _), _)| role == "master");
    hits.values().sum::<usize>() >= least
        && of(Doing::Commit) >= least_each
        && of(Doing::Delivery) >= least_each
        && master
}

/// Stops a process, sees what it does, kills it if that was not hit often enough yet; a dead master is
/// started again. Whether one was killed.
fn kill_one(world: &mut World, random: u64, least_each: usize, hits: &mut Hits) -> Result<bool, String> {
    let processes = tree(world.daemon_id().unwrap_or(0));
    if processes.is_empty() {
        return world.start_daemon(&["-q5s".into()]).map(|()| true);
    }
    let process = processes[usize::try_from(random).unwrap_or(0) % processes.len()].clone();
    if !tree::send(process.id, Signal::SIGSTOP) {
        return Ok(false);
    }
    let what = doing(&process);
    let of = hits.iter().filter(|((_, d), _)| *d == what).map(|(_, n)| n).sum::<usize>();
    let masters = hits.iter().filter(|((role, _), _)| role == "master").map(|(_, n)| n).sum::<usize>();
    // idle processes and the master are hit often enough; the interesting moments are waited for
    let most = if what == Doing::Other { 10 } else { 2 * least_each };
    if of >= most || (process.role == "master" && masters >= 10) {
        tree::send(process.id, Signal::SIGCONT);
        return Ok(false);
    }
    tree::send(process.id, Signal::SIGKILL);
    *hits.entry((process.role.clone(), what)).or_default() += 1;
    if process.role == "master" {
        tree::kill_all(&processes);
        let _ = world.stop_daemon();
        return world.start_daemon(&["-q5s".into()]).map(|()| true);
    }
    Ok(true)
}

// --- a full disk -------------------------------------------------------------------------------------

fn full_disk(workshop: &Workshop, long: bool) -> Result<String, String> {
    let mut world = new_world(workshop, "disk")?;
    let spool = world.directory.join("spool");
    let flags = nix::mount::MsFlags::empty();
    let owner = fs::metadata(&spool).map_err(|e| e.to_string())?;
    let options = format!(
        "size=1m,mode=750,uid={},gid={}",
        std::os::unix::fs::MetadataExt::uid(&owner),
        std::os::unix::fs::MetadataExt::gid(&owner)
    );
    nix::mount::mount(Some("tmpfs"), &spool, Some("tmpfs"), flags, Some(options.as_str()))
        .map_err(|e| format!("mount: {e}"))?;
    let result = fill_and_send(&mut world, long);
    let _ = world.stop_daemon();
    let _ = nix::mount::umount2(&spool, nix::mount::MntFlags::MNT_DETACH);
    result
}

/// Leaves less and less room and sends; with room again everything answered with 250 must arrive.
fn fill_and_send(world: &mut World, long: bool) -> Result<String, String> {
    world.start_daemon(&["-odq".into()])?;
    let mut answered = BTreeSet::new();
    let (mut taken, mut refused) = (0, 0);
    let steps: Vec<usize> = if long { (0..40).collect() } else { vec![0, 2, 5, 20] };
    let filler = world.directory.join("spool/filler");
    for step in steps {
        let room = step * 4096;
        fill(&filler, room)?;
        let token = format!("token-disk-{step}-end");
        match talk(world.port, &token, 600)?.as_str() {
            reply if reply.starts_with("250") => {
                taken += 1;
                answered.insert(token);
            }
            reply if reply.starts_with('4') => refused += 1,
            other => return Err(format!("with {room} bytes of room the answer is {other:?}")),
        }
        fs::remove_file(&filler).map_err(|e| e.to_string())?;
        // what is queued is taken off the small disk before the next
        recover_running(world, &answered)?;
    }
    if refused == 0 || taken == 0 {
        return Err(format!("{taken} taken, {refused} refused: the sizes show nothing"));
    }
    Ok(format!("  {taken} taken and delivered, {refused} answered with 4xx, none is lost\n"))
}

/// Fills the disk until only this much room is left.
fn fill(filler: &Path, room: usize) -> Result<(), String> {
    let mut file = fs::File::create(filler).map_err(|e| e.to_string())?;
    let block = [b'x'; 4096];
    let mut written = 0u64;
    while file.write_all(&block).is_ok() {
        written += 4096;
    }
    file.set_len(written.saturating_sub(room as u64)).map_err(|e| e.to_string())
}

// --- shared -------------------------------------------------------------------------------------------

fn new_world(workshop: &Workshop, name: &str) -> Result<World, String> {
    let world = World::new(workshop, name, Mode::Daemon).map_err(|e| e.to_string())?;
    world.write_file("exim.conf", 0o644, CONFIGURATION).map_err(|e| e.to_string())?;
    Ok(world)
}

/// Sends one message; whether 250 came for it. An error is a broken connection.
fn send_message(port: u16, token: &str, lines: usize) -> Result<bool, String> {
    Ok(talk(port, token, lines)?.starts_with("250"))
}

/// The first reply that is not what a delivery needs, or the one to the end of the text.
fn talk(port: u16, token: &str, lines: usize) -> Result<String, String> {
    let text = "0123456789012345678901234567890123456789\r\n".repeat(lines);
    let stream = TcpStream::connect(("127.0.0.1", port)).map_err(|e| e.to_string())?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).map_err(|e| e.to_string())?;
    let mut writer = stream.try_clone().map_err(|e| e.to_string())?;
    let mut reader = BufReader::new(stream);
    let commands = [
        (String::new(), "220"),
        ("EHLO crash.test\r\n".into(), "250"),
        ("MAIL FROM:<a@elsewhere.example>\r\n".into(), "250"),
        ("RCPT TO:<ann@test.example>\r\n".into(), "250"),
        ("DATA\r\n".into(), "354"),
        (format!("Subject: {token}\r\n\r\n{text}.\r\n"), "250"),
    ];
    let mut reply = String::new();
    for (command, wanted) in commands {
        writer.write_all(command.as_bytes()).map_err(|e| e.to_string())?;
        loop {
            reply.clear();
            if reader.read_line(&mut reply).map_err(|e| e.to_string())? == 0 {
                return Err("closed".into());
            }
            if reply.as_bytes().get(3) != Some(&b'-') {
                break;
            }
        }
        if !reply.starts_with(wanted) {
            return Ok(reply);
        }
    }
    let _ = writer.write_all(b"QUIT\r\n");
    Ok(reply)
}

/// The tokens of all messages that lie in the Maildir.
fn delivered(world: &World) -> BTreeSet<String> {
    let mut tokens = BTreeSet::new();
    for entry in fs::read_dir(world.directory.join("mail/ann/new")).into_iter().flatten().flatten() {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        tokens.extend(text.lines().find_map(|l| l.strip_prefix("Subject: ")).map(str::to_owned));
    }
    tokens
}

/// Starts the daemon again, runs the queue, and waits until everything that was answered lies there.
fn recover(world: &mut World, answered: &BTreeSet<String>) -> Result<(), String> {
    world.start_daemon(&[])?;
    recover_running(world, answered)?;
    world.stop_daemon()
}

fn recover_running(world: &mut World, answered: &BTreeSet<String>) -> Result<(), String> {
    let deadline = Instant::now() + Duration::from_secs(if answered.len() > 100 { 120 } else { 15 });
    loop {
        let arguments = ["-qff".to_owned()];
        let call = Call { caller: Caller::Root, name: None, bare: false, arguments: &arguments, input: "" };
        world.call(&call).map_err(|e| e.to_string())?;
        let there = delivered(world);
        let lost: Vec<_> = answered.difference(&there).collect();
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

fn poll(seconds: u64, what: &str, mut done: impl FnMut() -> bool) -> Result<(), String> {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < deadline {
        if done() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err(format!("waited in vain for {what}"))
}
