//! The process that receives is killed at each system call of the commit.

use std::collections::BTreeSet;

use super::client::send_message;
use super::trace::{Trace, poll};
use super::tree::{self, tree};
use super::{Workshop, World, deliveries, new_world, recover};

/// System calls that a commit is made of; one that it does not use is passed over at once.
const COMMIT_CALLS: &[&str] = &[
    "fdatasync",
    "fsync",
    "rename",
    "renameat",
    "renameat2",
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

/// The long form takes all of them, the short one those that make a message durable.
pub fn kills_in_commit(workshop: &Workshop, long: bool) -> Result<String, String> {
    let calls = if long { COMMIT_CALLS } else { &COMMIT_CALLS[..3] };
    let mut report = String::new();
    for call in calls {
        let (mut answered, mut kills) = (0, 0);
        for when in 1..=80 {
            let world = new_world(workshop, &format!("commit-{call}-{when}"))?;
            let (killed, got_250) =
                one_kill(world, call, when).map_err(|why| format!("kill at {call} {when}: {why}"))?;
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
    let is_receiver = |role: &str| role.starts_with("smtp") || processes.len() == 1;
    let receivers: Vec<i32> = processes.iter().filter(|p| is_receiver(&p.role)).map(|p| p.id).collect();
    if receivers.is_empty() {
        return Err(format!("no process that receives: {processes:?}"));
    }
    let arguments = ["-e", &format!("trace={call}"), "-e", &format!("inject={call}:signal=KILL:when={when}")];
    let trace = Trace::attach(&world.directory.join("run/trace"), &receivers, &arguments)?;
    let token = format!("token-{call}-{when}-end");
    let got_250 = send_message(world.port, &token, 1).unwrap_or(false);
    // the delivery may use the call too: a moment for a kill that comes after the answer
    let _ = poll(1, "a kill", || trace.has_struck() || deliveries(&world).contains_key(&token));
    let killed = trace.has_struck();
    let left = tree(world.daemon_id().unwrap_or(0));
    drop(trace);
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
