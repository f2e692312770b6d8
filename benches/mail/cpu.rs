//! CPU time of a running process tree, to the nanosecond where the kernel has it.

use anyhow::Context;
use std::fs;
use std::time::Duration;

/// CPU of the process, of its living descendants (threads that ended included), and of those that were waited for (these
/// in ticks of 10 ms: what a server does that forks for each connection).
pub fn of_tree(root: i32) -> anyhow::Result<Duration> {
    let parents = parents();
    let mut tree = vec![root];
    let mut at = 0;
    while let Some(parent) = tree.get(at).copied() {
        tree.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
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

/// Every process with its parent.
fn parents() -> Vec<(i32, i32)> {
    let names = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, i32::try_from(*stat(pid)?.get(1)?).ok()?))).collect()
}
