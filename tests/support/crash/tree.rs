//! The processes of a running daemon: which there are, what each is doing, and ending one.

use std::fs;
use std::path::Path;

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
    /// Writing a message into the queue.
    Commit,
    /// Reading a queued message, or writing a mailbox.
    Delivery,
    Other,
}

/// Looks at the open files; the process should be stopped.
pub fn doing(process: &Process) -> Doing {
    let mut found = Doing::Other;
    for entry in fs::read_dir(format!("/proc/{}/fd", process.id)).into_iter().flatten().flatten() {
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let target = target.to_string_lossy().into_owned();
        let in_queue = target.contains("/input/");
        let in_mailbox = target.contains("/mail/") || target.contains("/tmp/");
        let is_receiver = process.role.starts_with("smtp");
        if in_queue && is_receiver {
            return Doing::Commit;
        }
        if in_queue || in_mailbox {
            found = Doing::Delivery;
        }
    }
    found
}

/// Sends a signal; whether the process was there.
pub fn send(id: i32, signal: Signal) -> bool {
    kill(Pid::from_raw(id), signal).is_ok()
}

/// Kills what is left of a tree, the root first so that nothing is started again.
pub fn kill_all(processes: &[Process]) {
    for process in processes {
        send(process.id, Signal::SIGKILL);
    }
}
