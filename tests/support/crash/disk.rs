//! Writes and flushes that fail: really full disks, and each single system call that is made to fail.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::PathBuf;
use std::time::Duration;

use super::client::Client;
use super::trace::{Trace, poll};
use super::tree::worker_id;
use super::{Workshop, World, await_deliveries, deliveries, deliveries_to, new_world, run_queue, world_with};

/// Lines of a message that does not fit into a few blocks.
const LONG_TEXT: usize = 600;
/// With a rule, so that a mailbox that cannot be written is tried again.
const RETRY: &str = "begin retry\n* * F,1d,1s\n";

/// A small disk that lies over a directory of the world.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mode and owner are the directory's; one that is made is its parent's owner's, who will work in it.
    fn over(directory: PathBuf, kilobytes: usize) -> Result<SmallDisk, String> {
        if !directory.exists() {
            fs::create_dir(&directory).map_err(|e| e.to_string())?;
            let parent = directory.parent().ok_or("no parent")?;
            let owner = fs::metadata(parent).map_err(|e| e.to_string())?;
            chown(&directory, Some(owner.uid()), Some(owner.gid())).map_err(|e| e.to_string())?;
        }
        let owner = fs::metadata(&directory).map_err(|e| e.to_string())?;
        let (mode, uid, gid) = (owner.mode() & 0o7777, owner.uid(), owner.gid());
        let options = format!("size={kilobytes}k,mode={mode:o},uid={uid},gid={gid}");
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("tmpfs"), &directory, Some("tmpfs"), flags, Some(options.as_str()))
            .map_err(|e| format!("mount: {e}"))?;
        Ok(SmallDisk(directory))
    }

    /// Fills it until only this much room is left.
    fn fill(&self, room: u64) -> Result<(), String> {
        let mut file = fs::File::create(self.0.join("filler")).map_err(|e| e.to_string())?;
        let block = [b'x'; 4096];
        let mut written = 0_u64;
        while file.write_all(&block).is_ok() {
            written += 4096;
        }
        file.set_len(written.saturating_sub(room)).map_err(|e| e.to_string())
    }

    fn empty(&self) -> Result<(), String> {
        fs::remove_file(self.0.join("filler")).map_err(|e| e.to_string())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}

/// The spool, then mailboxes, logs and hints lie on disks that get full.
pub fn full_disk(workshop: &Workshop, long: bool) -> Result<String, String> {
    let report = full_spool(workshop, long)?;
    Ok(report + &full_rest(workshop)?)
}

/// Leaves less and less room and sends; with room again everything answered with 250 must arrive.
fn full_spool(workshop: &Workshop, long: bool) -> Result<String, String> {
    let mut world = new_world(workshop, "disk-spool")?;
    let disk = SmallDisk::over(world.directory.join("spool"), 1024)?;
    world.start_daemon(&["-odq".into()])?;
    let mut client = Client::connect(world.port)?;
    let (mut answered, mut taken, mut refused) = (BTreeSet::new(), 0, 0);
    let steps: Vec<u64> = if long { (0..40).collect() } else { vec![0, 1, 2, 5, 20] };
    for step in steps {
        disk.fill(step * 4096)?;
        let token = format!("token-disk-{step}-end");
        match client.send(&["ann"], &token, LONG_TEXT)? {
            reply if reply.starts_with("250") => {
                taken += 1;
                answered.insert(token);
            }
            reply if reply.starts_with("452") => refused += 1,
            other => return Err(format!("with {step} blocks of room the answer is {other:?}")),
        }
        disk.empty()?;
        let next = format!("token-disk-{step}-next");
        let reply = client.send(&["ann"], &next, 1)?;
        if !reply.starts_with("250") {
            return Err(format!("after a full disk the same session is answered {reply:?}"));
        }
        answered.insert(next);
        // what is queued is taken off the small disk before the next
        await_deliveries(&world, &answered, Duration::from_secs(30))?;
    }
    drop(client);
    world.stop_daemon()?;
    let there = deliveries(&world);
    if there.len() != answered.len() || there.values().any(|count| *count > 1) {
        return Err(format!("{} were answered with 250, {} are there", answered.len(), there.len()));
    }
    if refused == 0 || taken == 0 {
        return Err(format!("{taken} taken, {refused} refused: the sizes show nothing"));
    }
    Ok(format!("  spool: {taken} taken and delivered, {refused} answered with 452, none is lost\n"))
}

/// Mailboxes, log and hints full at once: the message stays in the queue, and the worker lives.
fn full_rest(workshop: &Workshop) -> Result<String, String> {
    let configuration = format!("{}{RETRY}", super::CONFIGURATION);
    let mut world = world_with(workshop, "disk-rest", &configuration)?;
    let mut disks = Vec::new();
    for (name, kilobytes) in [("mail", 256), ("log", 256), ("spool/db", 256)] {
        disks.push(SmallDisk::over(world.directory.join(name), kilobytes)?);
    }
    world.start_daemon(&[])?;
    let worker = worker_id(world.daemon_id(), "delivery")?;
    let mut client = Client::connect(world.port)?;
    let mut answered = BTreeSet::from(["token-before-end".to_owned()]);
    client.send(&["ann"], "token-before-end", 1)?;
    await_deliveries(&world, &answered, Duration::from_secs(30))?;
    disks.iter().try_for_each(|disk| disk.fill(0))?;
    for number in 0..5 {
        let token = format!("token-full-{number}-end");
        let reply = client.send(&["ann"], &token, LONG_TEXT)?;
        if !reply.starts_with("250") {
            return Err(format!("with full mailbox, log and hints the answer is {reply:?}"));
        }
        answered.insert(token);
    }
    run_queue(&world)?;
    let there = deliveries(&world).len();
    if there != 1 {
        return Err(format!("{} messages lie whole on a full disk", there - 1));
    }
    disks.iter().try_for_each(SmallDisk::empty)?;
    await_deliveries(&world, &answered, Duration::from_secs(30))?;
    if worker_id(world.daemon_id(), "delivery")? != worker {
        return Err("the delivery worker died of a full disk".into());
    }
    let log = world.mainlog();
    if log.contains("** ") || log.contains("<= <>") {
        return Err(format!("a full mailbox bounced:\n{log}"));
    }
    drop(client);
    world.stop_daemon()?;
    Ok("  mailbox, log and hints: 5 messages waited until there was room, none is lost\n".into())
}

/// Each system call of reception and delivery that writes or flushes fails once.
pub fn failing_calls(workshop: &Workshop, long: bool) -> Result<String, String> {
    let report = failing_reception(workshop, long)?;
    Ok(report + &failing_delivery(workshop, long)?)
}

/// Call, error, and the answer to a message that it befalls.
type Failure = (&'static str, &'static str, &'static str);

const OF_RECEPTION: &[Failure] = &[
    ("write", "ENOSPC", "452"),
    ("fdatasync", "EIO", "451"),
    ("fsync", "EIO", "451"),
    ("rename", "ENOSPC", "452"),
    ("openat", "ENOSPC", "452"),
    ("write", "EIO", "451"),
    ("write", "EDQUOT", "452"),
    ("fdatasync", "ENOSPC", "452"),
    ("fsync", "ENOSPC", "452"),
    ("rename", "EIO", "451"),
    ("fcntl", "ENOLCK", "451"),
];

/// What must have been hit: call and the file it was at.
const MUST_FAIL: &[(&str, &str)] = &[
    ("write", "-D"),
    ("write", "hdr."),
    ("fdatasync", "-D"),
    ("fdatasync", "hdr."),
    ("fsync", "input"),
    ("rename", "hdr."),
    ("openat", "-D"),
    ("openat", "hdr."),
];

fn failing_reception(workshop: &Workshop, long: bool) -> Result<String, String> {
    let mut world = new_world(workshop, "failing-reception")?;
    world.start_daemon(&["-odq".into()])?;
    let receiver = worker_id(world.daemon_id(), "smtp")?;
    let (mut answered, mut refused) = (BTreeSet::new(), BTreeSet::new());
    let mut hit = BTreeMap::new();
    for failure in if long { OF_RECEPTION } else { &OF_RECEPTION[..5] } {
        for when in 1..=60 {
            let (call, error, code) = failure;
            let trace = attach(&world, &[receiver], call, error, when)?;
            let mut client = match Client::connect(world.port) {
                Ok(client) => client,
                // what failed was not about a message
                Err(_) if trace.has_struck() => continue,
                Err(why) => return Err(why),
            };
            let token = format!("token-{call}-{error}-{when}-end");
            let reply = client.send(&["ann"], &token, 30)?;
            let struck = struck_at(&trace.text());
            drop(trace);
            let Some(place) = struck else {
                answered.insert(token);
                break;
            };
            let in_spool = place.contains("/input");
            let is_right = if in_spool { reply.starts_with(code) } else { reply.starts_with("250") };
            // the session opens more files than those of the spool
            let is_another = *call == "openat" && reply.starts_with('4');
            if !(is_right || is_another) {
                return Err(format!("{call} at {place} fails with {error}, and the answer is {reply:?}"));
            }
            let name = place.rsplit('/').next().unwrap_or_default().to_owned();
            *hit.entry((*call, kind(&name))).or_insert(0) += 1;
            if reply.starts_with("250") {
                answered.insert(token)
            } else {
                refused.insert(token)
            };
            let next = format!("token-{call}-{error}-{when}-next");
            let reply = client.send(&["ann"], &next, 1)?;
            if !reply.starts_with("250") {
                return Err(format!("after {call} failed at {place} the same session is answered {reply:?}"));
            }
            answered.insert(next);
        }
    }
    if let Some((call, name)) = MUST_FAIL.iter().find(|(call, name)| !hit.contains_key(&(*call, *name))) {
        return Err(format!("no {call} at {name} was made to fail: {hit:?}"));
    }
    await_deliveries(&world, &answered, Duration::from_secs(60))?;
    world.stop_daemon()?;
    let there = deliveries(&world);
    if let Some(token) = there.keys().find(|token| refused.contains(*token)) {
        return Err(format!("{token} was refused and delivered all the same"));
    }
    let mut report =
        format!("  reception: {} refused, {} taken, none is lost\n", refused.len(), answered.len());
    for ((call, name), count) in hit {
        report.push_str(&format!("    {call} at {name}: failed {count} times\n"));
    }
    Ok(report)
}

/// Call, error, and the role it befalls (a user child is the master's descendant).
const OF_DELIVERY: &[Failure] = &[
    ("fdatasync", "EIO", "delivery"),
    ("unlink", "EIO", "delivery"),
    ("fsync", "EIO", "user child"),
    ("write", "ENOSPC", "user child"),
    ("write", "ENOSPC", "delivery"),
    ("openat", "ENOSPC", "user child"),
    ("renameat2", "ENOSPC", "user child"),
    ("openat", "ENOSPC", "delivery"),
];

fn failing_delivery(workshop: &Workshop, long: bool) -> Result<String, String> {
    let configuration = format!("{}{RETRY}", super::CONFIGURATION);
    let mut world = world_with(workshop, "failing-delivery", &configuration)?;
    world.start_daemon(&[])?;
    let mut report = String::new();
    let mut answered = BTreeSet::new();
    for failure in if long { OF_DELIVERY } else { &OF_DELIVERY[..3] } {
        let (call, error, role) = failure;
        let mut failed = 0;
        for when in 1..=40 {
            let process = match *role {
                "delivery" => worker_id(world.daemon_id(), role)?,
                _ => world.daemon_id().unwrap_or(0),
            };
            let trace = attach(&world, &[process], call, error, when)?;
            let token = format!("token-{call}-{role}-{when}-end");
            // two recipients: the first goes into the journal before the second is tried
            let reply = Client::connect(world.port)?.send(&["ann", "bob"], &token, 30)?;
            if !reply.starts_with("250") {
                return Err(format!("the answer is {reply:?}"));
            }
            answered.insert(token.clone());
            let both = || ["ann", "bob"].iter().all(|user| deliveries_to(&world, user).contains_key(&token));
            let _ = poll(3, "a failure or the end", || trace.has_struck() || both());
            let _ = poll(1, "the end", || super::spool_files(&world).is_empty());
            let struck = trace.has_struck();
            drop(trace);
            poll(30, &format!("{token} after a queue run"), || run_queue(&world).is_ok() && both())?;
            if !struck {
                break;
            }
            failed += 1;
        }
        if failed == 0 {
            return Err(format!("no {call} of the {role} was made to fail"));
        }
        report.push_str(&format!("    {call} of the {role}: failed {failed} times with {error}\n"));
    }
    let log = world.mainlog();
    if log.contains("** ") || log.contains("<= <>") {
        return Err(format!("a failing call bounced a message:\n{log}"));
    }
    world.stop_daemon()?;
    let copies: usize = deliveries(&world).values().sum();
    Ok(format!(
        "  delivery: {} messages, {} copies too many, none is lost\n{report}",
        answered.len(),
        copies - answered.len()
    ))
}

fn attach(world: &World, processes: &[i32], call: &str, error: &str, when: usize) -> Result<Trace, String> {
    let (trace, inject) = (format!("trace={call}"), format!("inject={call}:error={error}:when={when}"));
    Trace::attach(&world.directory.join("run/trace"), processes, &["-y", "-e", &trace, "-e", &inject])
}

/// The file that the failing call was at.
fn struck_at(trace: &str) -> Option<String> {
    let line = trace.lines().find(|line| line.contains("(INJECTED)"))?;
    // `fsync(7</path>)`, `rename("/from", "/to")`, `openat(AT_FDCWD</cwd>, "/path", ...)`
    let quoted = line.contains("rename(").then_some('"').or(line.contains("openat(").then_some('"'));
    let (open, close) = quoted.map_or(('<', '>'), |quote| (quote, quote));
    let rest = line.split_once(open)?.1;
    Some(rest.split_once(close).map_or(rest, |(path, _)| path).to_owned())
}

/// `hdr.`, `-D`, or the whole name.
fn kind(name: &str) -> &'static str {
    match name {
        name if name.starts_with("hdr.") => "hdr.",
        name if name.ends_with("-D") => "-D",
        "input" => "input",
        "mainlog" => "mainlog",
        _ => "other files",
    }
}
