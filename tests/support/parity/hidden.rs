//! The daemon that a case needs only because of the mode: without the set-uid bit an ordinary caller's
//! message goes through the submission socket, so somebody has to listen there.
//!
//! Invariant: nothing of it is seen in what is compared, neither its log lines nor that deliveries
//! happen behind the caller's back: every step begins after the earlier ones' deliveries.

use std::time::{Duration, Instant};

use super::case::Caller;
use super::world::{Mode, POLL, Program, World, free_port};

/// Deliveries that the log does not tell the end of are waited for no longer.
const SETTLE_DEADLINE: Duration = Duration::from_secs(5);
/// A log that nothing was added to for so long is at rest.
const REST: Duration = Duration::from_millis(150);

/// The hidden daemons of one case; at most one runs at a time.
#[derive(Default)]
pub struct Hidden {
    running: bool,
    port: Option<u16>,
    process_ids: Vec<i32>,
    /// An ordinary user has submitted since the last wait.
    called: bool,
}

/// Calls that a daemon has no part in, such as `-be` or `-bV` of a configuration that is wrong.
pub fn takes_part_in(arguments: &[String]) -> bool {
    let alone = ["-bV", "-bP", "-be", "-bem", "-bt", "-bv", "-bvs", "-bh", "-bhc", "-brt"];
    !arguments.iter().any(|a| alone.contains(&a.as_str()) || a.starts_with("-bI"))
}

impl Hidden {
    /// Starts one if the mode needs it and no daemon runs yet.
    pub fn start(&mut self, world: &mut World) -> Result<(), String> {
        if world.program != Program::Oxim || world.mode == Mode::SetUid || world.has_daemon() {
            return Ok(());
        }
        let port = *self.port.get_or_insert_with(free_port);
        self.running = true;
        let started = world.start_daemon_on(port, &[]);
        self.process_ids.extend(world.daemon_id());
        started
    }

    /// Ends it, if it runs.
    pub fn stop(&mut self, world: &mut World) -> Result<(), String> {
        if !std::mem::take(&mut self.running) {
            return Ok(());
        }
        world.stop_daemon()
    }

    /// A call has ended; what it submitted may still be under way, unless it is left to the queue.
    pub fn heard_call(&mut self, world: &World, caller: Caller, arguments: &[String]) {
        let queued = arguments.iter().any(|a| a == "-odq");
        self.called |= caller == Caller::User && world.mode == Mode::Daemon && world.has_daemon() && !queued;
    }

    /// Waits until the log tells of every message where it has come to, and is at rest.
    pub fn settle(&mut self, world: &World) {
        if !std::mem::take(&mut self.called) {
            return;
        }
        let deadline = Instant::now() + SETTLE_DEADLINE;
        let (mut last, mut since) = (world.mainlog(), Instant::now());
        while Instant::now() < deadline {
            std::thread::sleep(POLL);
            let log = world.mainlog();
            if log != last {
                (last, since) = (log, Instant::now());
            } else if since.elapsed() > REST && is_settled(&last) {
                return;
            }
        }
    }

    /// True for a log line that tells of a hidden daemon itself.
    pub fn said(&self, line: &str) -> bool {
        self.process_ids.iter().any(|id| {
            let id = format!(" pid={id}");
            line.match_indices(&id).any(|(at, _)| {
                let rest = &line[at + id.len()..];
                !rest.starts_with(|c: char| c.is_ascii_digit())
                    && (line[..at].ends_with("daemon started:") || rest.contains("SIG"))
            })
        })
    }
}

/// Every message that was taken in is done with, frozen, or has an address that waits.
fn is_settled(log: &str) -> bool {
    let mut ids = log.lines().filter_map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let at = words.iter().position(|w| *w == "<=")?;
        words.get(at.checked_sub(1)?).copied()
    });
    ids.all(|id| {
        let mut ends = log.lines().filter_map(|line| line.split_once(id)).map(|(_, rest)| rest);
        ends.any(|rest| {
            rest.starts_with(" Completed")
                || rest.starts_with(" ==")
                || rest.to_lowercase().contains("frozen")
        })
    })
}
