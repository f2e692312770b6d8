//! CPU time of a running process tree, to the nanosecond where the kernel has it.

use anyhow::Context;
use std::fs;
use std::time::Duration;

/// CPU of the process, of its living descendants (threads that ended included), and of those that were waited for (these
/// in ticks of 10 ms: what a server does that forks for each connection).
pub fn of_tree(root: i32) -> anyhow::Result<Duration> {
    let mut tree = vec![root];
    let mut at = 0;
    while let Some(parent) = tree.get(at).copied() {
        tree.extend(children(parent));
        at += 1;
    }
    let mut total = of_process(root).context("the server is gone")? + of_reaped(root);
    for pid in tree.into_iter().skip(1) {
        // one that ended meanwhile was waited for, or will be
        total += of_process(pid).unwrap_or_default() + of_reaped(pid);
    }
    Ok(total)
}

fn of_process(pid: i32) -> Option<Duration> {
    let mut clock = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both out pointers are ours; a process that is not there is an error of the first call.
    let known = unsafe {
        libc::clock_getcpuclockid(pid, &mut clock) == 0 && libc::clock_gettime(clock, &mut time) == 0
    };
    known.then(|| Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0)))
}

/// The fields of `/proc/PID/stat` after the name.
fn stat(pid: i32) -> Option<Vec<u64>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit_once(')')?.1.split_whitespace().map(|word| word.parse().unwrap_or(0)).collect())
}

fn of_reaped(pid: i32) -> Duration {
    let ticks = stat(pid).and_then(|fields| Some(fields.get(13)? + fields.get(14)?)).unwrap_or(0);
    Duration::from_millis(ticks * 10)
}

/// The living children of all its threads. The files are those of this process alone: a look at all of `/proc` would take
/// longer than a block of sessions, and its CPU's caches.
fn children(pid: i32) -> Vec<i32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<_>>())
        .collect()
}
