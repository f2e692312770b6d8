//! What our own machinery does to mail when it fails: the message is deferred, whatever the retry rules say (here there
//! are none), and delivered when all works again. Nothing bounces, nothing is lost.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::signal::Signal;

use super::client::Client;
use super::trace::{Trace, poll};
use super::tree::{self, tree, worker_id};
use super::{Workshop, World, await_deliveries, deliveries_to, new_world, run_queue, world_with};

const CONFIGURATION: &str = "@PRELUDE@\nacl_smtp_rcpt = accept\nbegin routers\n\
    forward:\n  driver = redirect\n  local_parts = @CALLER@\n  check_local_user\n\
      file = @DIR@/mail/forward\n\
    mailbox:\n  driver = accept\n  local_parts = carl\n  transport = mbox\n@ROUTER_LOCAL@\n\
    begin transports\n@TRANSPORT_MAILDIR@\n\
    mbox:\n  driver = appendfile\n  file = @DIR@/mail/carl\n  user = @USER@\n  no_use_lockfile\n\
      lock_fcntl_timeout = 60s\n";

/// uid of the user that mailboxes belong to, and of the one with a .forward file.
const OWNER: u32 = 64912;
const CALLER: u32 = 64911;

pub fn own_faults(workshop: &Workshop, long: bool) -> Result<String, String> {
    let mut world = world_with(workshop, "faults", CONFIGURATION)?;
    world.start_daemon(&[])?;
    let mut report = killed_at_the_mailbox(&mut world)?;
    report += &killed_at_the_forward_file(&mut world)?;
    report += &panics(&mut world)?;
    report += &killed_before_it_tells(&mut world)?;
    let log = world.mainlog();
    if log.contains("** ") || log.contains("<= <>") {
        return Err(format!("a message bounced:\n{log}"));
    }
    world.stop_daemon()?;
    if long {
        report += &swept_while_it_comes_in(workshop)?;
    }
    Ok(report)
}

/// A user child that waits for the lock on a mailbox is killed.
fn killed_at_the_mailbox(world: &mut World) -> Result<String, String> {
    let path = world.directory.join("mail/carl");
    let text = |e: std::io::Error| e.to_string();
    fs::write(&path, "").map_err(text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(text)?;
    chown(&path, Some(OWNER), Some(OWNER)).map_err(text)?;
    let locked = fs::OpenOptions::new().write(true).open(&path).map_err(text)?;
    let whole = libc::flock { l_type: libc::F_WRLCK as _, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 };
    fcntl(&locked, FcntlArg::F_SETLK(&whole)).map_err(|e| e.to_string())?;
    send(world, "carl", "token-mailbox-end")?;
    kill_child(world)?;
    world.wait_mainlog(
        "== carl@test.example R=mailbox T=mbox defer (-1): delivery could not be carried out",
        1,
    )?;
    drop(locked);
    let there = || fs::read_to_string(&path).unwrap_or_default().matches("token-mailbox-end").count();
    run_queue(world)?;
    poll(20, "the message in the mailbox", || there() == 1)?;
    Ok("  a user child killed at a mailbox: deferred, then delivered once\n".into())
}

/// A user child that opens a .forward file is killed.
fn killed_at_the_forward_file(world: &mut World) -> Result<String, String> {
    let path = world.directory.join("mail/forward");
    fs::write(&path, "ann@test.example\n").map_err(|e| e.to_string())?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).map_err(|e| e.to_string())?;
    chown(&path, Some(CALLER), Some(CALLER)).map_err(|e| e.to_string())?;
    let name = path.display().to_string();
    let kill = "inject=openat:signal=KILL:when=1";
    let arguments = ["-P", name.as_str(), "-e", "trace=openat", "-e", kill];
    let master = world.daemon_id().unwrap_or(0);
    let trace = Trace::attach(&world.directory.join("run/trace"), &[master], &arguments)?;
    send(world, "pcaller", "token-forward-end")?;
    world
        .wait_mainlog("== pcaller@test.example R=forward defer (-1): failed to open @DIR@/mail/forward", 1)?;
    if !trace.has_struck() {
        return Err("no user child was killed at the .forward file".into());
    }
    drop(trace);
    run_queue(world)?;
    poll(20, "the message", || deliveries_to(world, "ann").get("token-forward-end") == Some(&1))?;
    Ok("  a user child killed at a .forward file: deferred, then delivered once\n".into())
}

/// A thread really panics. No trigger of ours is needed: the standard library panics when the kernel has no random
/// numbers for the first hash table of a thread, and strace sees to that.
fn panics(world: &mut World) -> Result<String, String> {
    let arguments = ["-e", "trace=getrandom", "-e", "inject=getrandom:error=EIO"];
    let file = world.directory.join("run/trace");
    let roles = ["smtp", "delivery"].map(|role| worker_id(world.daemon_id(), role));
    let [receiver, deliverer] = roles;
    let (receiver, deliverer) = (receiver?, deliverer?);
    let mut witness = Client::connect(world.port)?;
    let trace = Trace::attach(&file, &[receiver], &arguments)?;
    let greeting = match Client::connect(world.port) {
        Ok(_) => return Err(format!("no session panicked: {}", trace.text())),
        Err(reply) => reply,
    };
    drop(trace);
    if !greeting.starts_with("421 ") {
        return Err(format!("a session that panicked says {greeting:?}"));
    }
    let trace = Trace::attach(&file, &[deliverer], &arguments)?;
    // the session that was there before goes on
    let reply = witness.send(&["ann"], "token-panic-end", 1)?;
    if !reply.starts_with("250") {
        return Err(format!("beside a session that panicked another is answered {reply:?}"));
    }
    world.wait_mainlog("internal error in a delivery: ", 1)?;
    drop(trace);
    run_queue(world)?;
    poll(20, "the message", || deliveries_to(world, "ann").get("token-panic-end") == Some(&1))?;
    let log = fs::read_to_string(world.directory.join("log/paniclog")).unwrap_or_default();
    let of_session = "SMTP session with [127.0.0.1] ended by an internal error: ";
    let count = |text: &str| log.lines().filter(|line| line.contains(text)).count();
    if count(of_session) != 1 || count(" internal error in a delivery: ") != 1 || log.lines().count() != 2 {
        return Err(format!("the panic log has:\n{log}"));
    }
    let now = ["smtp", "delivery"].map(|role| worker_id(world.daemon_id(), role).ok());
    if now != [Some(receiver), Some(deliverer)] {
        return Err("a worker died of a panic in one of its threads".into());
    }
    Ok("  a session and a delivery that panicked: 421 and a deferral, a line each, all else goes on\n".into())
}

/// A message that is committed and was not told of is delivered without a queue run (this daemon has none).
fn killed_before_it_tells(world: &mut World) -> Result<String, String> {
    let receiver = worker_id(world.daemon_id(), "smtp")?;
    let arguments = ["-e", "trace=sendmsg", "-e", "inject=sendmsg:signal=KILL:when=1"];
    let trace = Trace::attach(&world.directory.join("run/trace"), &[receiver], &arguments)?;
    let answer = Client::connect(world.port)?.send(&["ann"], "token-untold-end", 1);
    let struck = trace.has_struck();
    drop(trace);
    if answer.is_ok() || !struck {
        return Err(format!("the SMTP worker was not killed before it told of the message: {answer:?}"));
    }
    poll(20, "the message", || deliveries_to(world, "ann").contains_key("token-untold-end"))?;
    Ok("  an SMTP worker killed after the commit, before the delivery worker was told: delivered\n".into())
}

fn send(world: &World, to: &str, token: &str) -> Result<(), String> {
    let reply = Client::connect(world.port)?.send(&[to], token, 1)?;
    if reply.starts_with("250") { Ok(()) } else { Err(format!("the answer is {reply:?}")) }
}

fn kill_child(world: &World) -> Result<(), String> {
    let child = || tree(world.daemon_id().unwrap_or(0)).into_iter().find(|p| p.role == "user child");
    poll(20, "a user child", || child().is_some())?;
    // it has begun when it is another user
    let is_user = |id: i32| fs::metadata(format!("/proc/{id}/fd")).is_ok() && uid_of(id) != Some(0);
    poll(20, "a user child at work", || child().is_some_and(|child| is_user(child.id)))?;
    std::thread::sleep(Duration::from_millis(200));
    let Some(child) = child() else { return Err("the user child has ended".into()) };
    tree::send(child.id, Signal::SIGKILL);
    Ok(())
}

fn uid_of(id: i32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().next()?.parse().ok()
}

/// -D is created and waits for its lock (strace holds the session there) when a delivery worker that is started anew
/// sweeps the spool: it removes what looks like a left-over. The message must not be written into a file without a name.
fn swept_while_it_comes_in(workshop: &Workshop) -> Result<String, String> {
    let mut world = new_world(workshop, "swept")?;
    world.start_daemon(&[])?;
    let receiver = worker_id(world.daemon_id(), "smtp")?;
    let arguments = ["-y", "-e", "trace=fcntl", "-e", "inject=fcntl:delay_enter=4000000"];
    let trace = Trace::attach(&world.directory.join("run/trace"), &[receiver], &arguments)?;
    let (port, token) = (world.port, "token-swept-end");
    let client = std::thread::spawn(move || Client::connect(port)?.send(&["ann"], token, 1));
    let input = world.directory.join("spool/input");
    let names = || -> Vec<String> {
        let entries = fs::read_dir(&input).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    poll(60, "-D", || !names().is_empty())?;
    let first = names();
    tree::send(worker_id(world.daemon_id(), "delivery")?, Signal::SIGKILL);
    poll(20, "the sweep", || names() != first)?;
    let reply = client.join().unwrap_or_else(|_| Err("the client panicked".into()))?;
    if !reply.starts_with("250") {
        return Err(format!("the answer is {reply:?}"));
    }
    drop(trace);
    await_deliveries(&world, &BTreeSet::from([token.to_owned()]), Duration::from_secs(20))?;
    world.stop_daemon()?;
    Ok("  -D swept before it was locked: another is taken, nothing is lost\n".into())
}
