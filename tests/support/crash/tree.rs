//! The processes of a running daemon: which there are, what each is doing, and ending one.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// One process of the daemon's tree.
#[derive(Debug, Clone)]
pub struct Process {
    pub id: i32,
    /// `master`, or what stands behind `--role`.
    pub role: String,
}

/// The process and all its descendants.
pub fn tree(root: i32) -> Vec<Process> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(id) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // the name in parentheses may hold blanks
        let after = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let mut words = after.split_whitespace();
        let (state, parent) = (words.next().unwrap_or("Z"), words.next());
        if state != "Z"
            && let Some(parent) = parent.and_then(|p| p.parse::<i32>().ok())
        {
            parents.push((id, parent));
        }
    }
    let mut ids = vec![root];
    let mut next = 0;
    while next < ids.len() {
        let parent = ids[next];
        ids.extend(parents.iter().filter(|(_, p)| *p == parent).map(|(id, _)| *id));
        next += 1;
    }
    ids.retain(|id| Path::new(&format!("/proc/{id}")).exists());
    ids.into_iter().map(|id| Process { id, role: role(id, id == root) }).collect()
}

/// The process of a role that there is one of.
pub fn worker_id(root: Option<i32>, role: &str) -> Result<i32, String> {
    let processes = tree(root.unwrap_or(0));
    let found = processes.iter().find(|process| process.role == role);
    found.map(|process| process.id).ok_or_else(|| format!("no {role} worker: {processes:?}"))
}

fn role(id: i32, is_root: bool) -> String {
    let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
    let words: Vec<String> =
        line.split(|b| *b == 0).map(|w| String::from_utf8_lossy(w).into_owned()).collect();
    let named = words.iter().position(|w| w == "--role").and_then(|at| words.get(at + 1));
    match named {
        Some(role) => role.clone(),
        None if is_root => "master".into(),
        None => "user child".into(),
    }
}

/// What a process does just now, told by the files that it has open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Doing {
    /// A message has come in whole, and the answer to it is not out.
    Commit,
    /// A queued message is delivered, or its delivery noted.
    Delivery,
    Other,
}

/// What was seen of a stopped process.
#[derive(Debug, Clone)]
pub struct Seen {
    pub doing: Doing,
    /// How far it had come, for the report.
    pub step: &'static str,
    /// Messages it was at.
    pub messages: usize,
}

/// Looks at the open files of a process, which must be stopped.
pub fn look(process: &Process) -> Seen {
    let mut seen = Seen { doing: Doing::Other, step: "idle", messages: 0 };
    let mut messages = BTreeSet::new();
    let is_receiver = process.role.starts_with("smtp");
    for entry in fs::read_dir(format!("/proc/{}/fd", process.id)).into_iter().flatten().flatten() {
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let target = target.to_string_lossy().into_owned();
        let name = target.rsplit('/').next().unwrap_or_default();
        let in_queue = target.contains("/input/");
        let (doing, step) = if in_queue && is_receiver {
            step_of_commit(&target, name, entry.path().as_path())
        } else if in_queue || target.contains("/mail/") {
            (Doing::Delivery, step_of_delivery(&target, name))
        } else {
            continue;
        };
        if name.contains("-D") {
            messages.insert(name.to_owned());
        }
        // of several messages the one that has come furthest is named
        if (doing, step) != (Doing::Other, seen.step) && (doing != Doing::Other || seen.doing == Doing::Other)
        {
            (seen.doing, seen.step) = (doing, better(seen.step, step));
        }
    }
    seen.messages = messages.len();
    seen
}

/// A -D that holds something is whole: a message of these tests is written at once, when its end has come.
fn step_of_commit(target: &str, name: &str, entry: &Path) -> (Doing, &'static str) {
    if name.starts_with("hdr.") {
        return (Doing::Commit, "2: hdr. is written");
    }
    let written = fs::metadata(entry).is_ok_and(|data| data.len() > 0);
    let header = target.strip_suffix("-D").is_some_and(|rest| Path::new(&format!("{rest}-H")).exists());
    match (written, header) {
        (true, true) => (Doing::Commit, "3: -H is there, no 250 yet"),
        (true, false) => (Doing::Commit, "1: -D is written"),
        (false, _) => (Doing::Other, "0: a message comes in"),
    }
}

fn step_of_delivery(target: &str, name: &str) -> &'static str {
    match () {
        () if target.ends_with(" (deleted)") => "5: the message is removed",
        () if name.contains("-J") => "4: the journal is open",
        () if target.contains("/new") => "3: it has its name in the mailbox",
        () if target.contains("/mail/") => "2: the mailbox is written",
        () => "1: the message is open",
    }
}

fn better(one: &'static str, other: &'static str) -> &'static str {
    if one.as_bytes()[0].is_ascii_digit() && one > other { one } else { other }
}

/// Stops a process; false if it is gone, or does not stop at once (it may be waiting for the disk).
pub fn stop(id: i32) -> bool {
    if !send(id, Signal::SIGSTOP) {
        return false;
    }
    let deadline = Instant::now() + Duration::from_millis(200);
    while Instant::now() < deadline {
        let Ok(tasks) = fs::read_dir(format!("/proc/{id}/task")) else { return false };
        let stopped = tasks.flatten().all(|task| {
            let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
        });
        if stopped {
            return true;
        }
        std::thread::yield_now();
    }
    send(id, Signal::SIGCONT);
    false
}

/// Sends a signal; whether the process was there.
pub fn send(id: i32, signal: Signal) -> bool {
    kill(Pid::from_raw(id), signal).is_ok()
}

/// Kills what is left of a tree, the root first so that nothing is started again, and waits until all have ended: only
/// then nobody listens any more.
pub fn kill_all(processes: &[Process]) {
    for process in processes {
        send(process.id, Signal::SIGKILL);
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline && processes.iter().any(|process| is_alive(process.id)) {
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn is_alive(id: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}
