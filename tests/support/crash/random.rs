//! Processes of a daemon under load are killed, each at a moment that is looked at first: it is stopped, what it does is
//! seen from its open files, and it is killed or goes on.
//!
//! There is no retry rule in the configuration: a deferral that is not our own machinery's fault would bounce, and show
//! as a loss.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::client::send_message;
use super::tree::{self, Doing, Process, tree};
use super::{Workshop, World, await_deliveries, deliveries, new_world, spool_files};

/// Connections at once that send one message after the other.
const CLIENTS: usize = 6;
/// Between two messages of a client: enough load that each moment is met, few enough messages to count in the end.
const CLIENT_PAUSE: Duration = Duration::from_millis(30);
/// A worker that works for a while between its deaths is soon started again (see the master).
const LET_WORK: Duration = Duration::from_millis(2300);
/// The daemon runs its queue, so what an interrupted delivery left is tried again while the test runs.
const DAEMON: &str = "-q2s";

/// Kills that are wanted: of whom, doing what, how many.
type Wish = (&'static str, Doing, usize);

const LONG: &[Wish] = &[
    ("smtp", Doing::Commit, 30),
    ("delivery", Doing::Delivery, 18),
    ("user child", Doing::Delivery, 20),
    ("smtp", Doing::Other, 5),
    ("user child", Doing::Other, 5),
    ("master", Doing::Other, 12),
];
/// Kills in all: anybody, whatever it does, fills up the number.
const LONG_ALL: usize = 100;
const SHORT: &[Wish] = &[
    ("smtp", Doing::Commit, 3),
    ("delivery", Doing::Delivery, 2),
    ("user child", Doing::Delivery, 3),
    ("master", Doing::Other, 1),
];

/// What was hit: role, what it was doing, how far it was.
type Hits = BTreeMap<(String, Doing, &'static str), usize>;

struct Hunt {
    world: World,
    hits: Hits,
    /// When each process was first seen.
    first_seen: BTreeMap<i32, Instant>,
    /// Messages that were being delivered when their process was killed: only these may come twice.
    in_flight: usize,
    random: u64,
}

/// The long form: 100 kills, at least 30 inside a commit and 30 inside a delivery; the short one a few of each.
pub fn kills_at_random(workshop: &Workshop, long: bool) -> Result<String, String> {
    let (wishes, all, longest) = if long { (LONG, LONG_ALL, 900) } else { (SHORT, 0, 120) };
    let mut world = new_world(workshop, "random")?;
    world.start_daemon(&[DAEMON.into()])?;
    let load = Load::start(world.port);
    let (hits, first_seen) = (Hits::new(), BTreeMap::new());
    let random = u64::from(std::process::id()) | 1;
    let mut hunt = Hunt { world, hits, first_seen, in_flight: 0, random };
    let deadline = Instant::now() + Duration::from_secs(longest);
    let hunted = hunt.fulfil(wishes, all, deadline);
    let answered = load.stop();
    hunt.end_all();
    let Hunt { mut world, hits, in_flight, .. } = hunt;
    let mut report = String::new();
    for ((role, doing, step), count) in &hits {
        report.push_str(&format!("  killed {count:3} times: {role}, {doing:?}, {step}\n"));
    }
    hunted.map_err(|why| format!("{why}:\n{report}"))?;
    world.start_daemon(&[DAEMON.into()])?;
    let verdict = examine(&world, &answered, in_flight);
    world.stop_daemon()?;
    verdict.map(|text| format!("  {} kills\n{report}{text}", hits.values().sum::<usize>()))
}

/// Everything that was answered is there, what is there twice was in flight, and nothing is left in the spool.
fn examine(world: &World, answered: &BTreeSet<String>, in_flight: usize) -> Result<String, String> {
    await_deliveries(world, answered, Duration::from_secs(180))?;
    let since = Instant::now();
    while !spool_files(world).is_empty() {
        if since.elapsed() > Duration::from_secs(60) {
            return Err(format!("these stay in the spool: {:?}", spool_files(world)));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    let there = deliveries(world);
    let twice: usize = there.values().map(|count| count - 1).sum();
    if twice > in_flight {
        return Err(format!("{twice} were delivered twice, but only {in_flight} were in flight at a kill"));
    }
    let log = world.mainlog();
    for sign in ["** ", "<= <>", "internal error", "frozen", "Format error"] {
        if let Some(line) = log.lines().find(|line| line.contains(sign)) {
            return Err(format!("the log has: {line}"));
        }
    }
    Ok(format!(
        "  {} messages were answered with 250, none is lost; {} lie in the mailbox that were not answered\n  \
         {twice} of {in_flight} that were in flight at a kill of their process were delivered twice\n  \
         the spool is empty in the end\n",
        answered.len(),
        there.keys().filter(|token| !answered.contains(*token)).count(),
    ))
}

impl Hunt {
    fn fulfil(&mut self, wishes: &[Wish], all: usize, deadline: Instant) -> Result<(), String> {
        loop {
            let open: Vec<Wish> = wishes.iter().filter(|wish| self.count(wish) < wish.2).copied().collect();
            let killed: usize = self.hits.values().sum();
            if open.is_empty() && killed >= all {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("{killed} kills, and these are missing: {open:?}"));
            }
            let at = self.dice(open.len());
            self.hunt_one(open.get(at))?;
        }
    }

    fn count(&self, (role, doing, _): &Wish) -> usize {
        let fits = |(known, did, _): &&(String, Doing, &str)| known == role && did == doing;
        self.hits.iter().filter(|(key, _)| fits(key)).map(|(_, count)| count).sum()
    }

    fn dice(&mut self, sides: usize) -> usize {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.random >> 33).unwrap_or(0) % sides.max(1)
    }

    /// Looks for the right moment of the right process, for a few seconds.
    fn hunt_one(&mut self, wish: Option<&Wish>) -> Result<(), String> {
        let patience = Instant::now() + Duration::from_secs(3);
        while Instant::now() < patience {
            let processes = tree(self.world.daemon_id().unwrap_or(0));
            if processes.is_empty() {
                return self.world.start_daemon(&[DAEMON.into()]);
            }
            for process in &processes {
                self.first_seen.entry(process.id).or_insert_with(Instant::now);
            }
            let fits = |p: &&Process| wish.is_none_or(|(role, ..)| p.role == *role) && !self.is_fresh(p);
            let candidates: Vec<Process> = processes.iter().filter(fits).cloned().collect();
            if candidates.is_empty() {
                std::thread::sleep(Duration::from_millis(20));
                continue;
            }
            let process = candidates[self.dice(candidates.len())].clone();
            // children are short-lived: they are looked at again and again, the others at any moment
            for _ in 0..20 {
                if !tree::stop(process.id) {
                    break;
                }
                let seen = tree::look(&process);
                if wish.is_none_or(|(_, doing, _)| *doing == seen.doing) {
                    return self.kill(&process, seen, &processes);
                }
                tree::send(process.id, Signal::SIGCONT);
                let pause = 200 + self.dice(1500) as u64;
                std::thread::sleep(Duration::from_micros(pause));
            }
        }
        Ok(())
    }

    /// A worker that was started a moment ago is left alone.
    fn is_fresh(&self, process: &Process) -> bool {
        let is_worker = process.role != "user child" && process.role != "master";
        is_worker && self.first_seen.get(&process.id).is_none_or(|seen| seen.elapsed() < LET_WORK)
    }

    fn kill(&mut self, process: &Process, seen: tree::Seen, all: &[Process]) -> Result<(), String> {
        self.in_flight += match process.role.as_str() {
            "user child" => 1,
            "delivery" => seen.messages,
            _ => 0,
        };
        tree::send(process.id, Signal::SIGKILL);
        *self.hits.entry((process.role.clone(), seen.doing, seen.step)).or_default() += 1;
        if process.role == "master" {
            self.end(all);
            let _ = self.world.stop_daemon();
            return self.world.start_daemon(&[DAEMON.into()]);
        }
        Ok(())
    }

    fn end_all(&mut self) {
        let left = tree(self.world.daemon_id().unwrap_or(0));
        self.end(&left);
        let _ = self.world.stop_daemon();
    }

    /// Kills all, with a look at what was being delivered.
    fn end(&mut self, processes: &[Process]) {
        for process in processes.iter().filter(|p| p.role == "delivery") {
            if tree::stop(process.id) {
                self.in_flight += tree::look(process).messages;
            }
        }
        tree::kill_all(processes);
    }
}

/// The clients, and what was answered to them.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<Mutex<BTreeSet<String>>>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(port: u16) -> Load {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(BTreeSet::new())));
        let number = Arc::new(AtomicUsize::new(0));
        let client = |_| {
            let (stop, answered, number) = (stop.clone(), answered.clone(), number.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let token = format!("token-{}-end", number.fetch_add(1, Ordering::Relaxed));
                    if send_message(port, &token, 30).unwrap_or(false) {
                        answered.lock().unwrap_or_else(|e| e.into_inner()).insert(token);
                    }
                    std::thread::sleep(CLIENT_PAUSE);
                }
            })
        };
        let clients = (0..CLIENTS).map(client).collect();
        Load { stop, answered, clients }
    }

    fn stop(self) -> BTreeSet<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.into_iter().for_each(|client| drop(client.join()));
        self.answered.lock().map(|answered| answered.clone()).unwrap_or_default()
    }
}
