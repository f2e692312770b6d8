//! The fault table of the manual, cell by cell: each fault of a responder, met at the start, in steady state and at
//! renewal, with a staple in hand and without. Each question goes over a real connection to a responder that misbehaves;
//! the clock is an argument, so that nobody waits for days.
//!
//! A cell is played twice, once with the earliest and once with the latest time that chance may choose. What is seen is
//! written as a row, and `src/manual/fault_table.rs` has to have that row: so the page cannot drift from the program.
//! `OXIM_SHOW_FAULTS=1 cargo test --test keeper_faults -- --nocapture` prints the rows.
#![cfg(ocsp_stapling)]

#[path = "support/ca.rs"]
mod ca;
#[path = "support/responder.rs"]
mod responder;

use ca::{DAY, ProofSpec, Status, ca, good, try_later, unauthorized};
use oxim::ocsp::Unfit;
use oxim::ocsp::keeper::{Engine, Job, Matter, Outcome, Tidings};
use oxim::ocsp::registry::{Entry, Keeper, Key, Registry, Wanted, WantedList, Word};
use responder::{Mode, Responder};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

const PAGE: &str = include_str!("../src/manual/fault_table.rs");
const HOUR: Duration = Duration::from_secs(3600);
/// Life of a proof, and how old it is when it is fetched.
const LIFE: i64 = 4 * DAY;
const AGE: i64 = 3600;
/// The table begins so long from now: the delegate `brief` has ended by then.
const BEGIN: i64 = 2 * DAY;

/// Between the beginning of a cell and the making of its proofs, whose times are the system's.
const A_MOMENT: Duration = Duration::from_secs(60);

/// What the responder does.
#[derive(Clone, Copy)]
enum Does {
    /// Nothing listens.
    Down,
    /// This, whatever it is asked.
    Mode(fn() -> Mode),
    /// Answers with this proof, for one who asks at this time (seconds from now).
    Proof(fn(i64) -> ProofSpec),
}

struct Fault {
    name: &'static str,
    does: Does,
    /// What the log and the administrator's table say of it; none: it is no failure. `*` is anything.
    reason: Option<&'static str>,
    /// It is waited for.
    waits: bool,
}

/// A good proof that was made when the responder is asked.
fn fresh(at: i64) -> ProofSpec {
    ProofSpec { this_update: at - AGE, next_update: Some(at - AGE + LIFE), ..good("leaf") }
}

fn by(signer: &'static str, at: i64) -> ProofSpec {
    ProofSpec { signer, inside: Some(signer), ..fresh(at) }
}

const SIGNATURE: &str = "the answer is not used: bad signature, or not signed by the issuer or its delegate";

fn faults() -> Vec<Fault> {
    let fault = |name, does, reason| Fault { name, does, reason: Some(reason), waits: false };
    let well = |name, does| Fault { name, does, reason: None, waits: false };
    let slow = |name, does| Fault { waits: true, ..fault(name, does, "no answer within * s") };
    vec![
        fault("down", Does::Down, "cannot connect to *: Connection refused"),
        slow("slow", Does::Mode(|| Mode::Silent)),
        slow("dripping", Does::Mode(|| Mode::Dripping)),
        fault("huge", Does::Mode(|| Mode::Huge), "the answer is longer than 1048576 bytes"),
        fault(
            "garbage",
            Does::Mode(|| Mode::Answer(b"<html>not found</html>".to_vec())),
            "the answer is not used: malformed: *",
        ),
        fault(
            "tryLater",
            Does::Mode(|| Mode::Answer(try_later())),
            "the answer is not used: the responder answered tryLater",
        ),
        fault(
            "unauthorized",
            Does::Mode(|| Mode::Answer(unauthorized())),
            "the answer is not used: the responder answered unauthorized",
        ),
        well("revoked", Does::Proof(|at| ProofSpec { status: Status::Revoked, ..fresh(at) })),
        fault(
            "unknown",
            Does::Proof(|at| ProofSpec { status: Status::Unknown, ..fresh(at) }),
            "the answer is not used: the responder does not know the certificate (status unknown)",
        ),
        fault(
            "wrong certificate",
            Does::Proof(|at| ProofSpec { subject: "other", ..fresh(at) }),
            "the answer is not used: for another certificate",
        ),
        fault("wrong signer", Does::Proof(|at| by("rogue", at)), SIGNATURE),
        well("delegated with EKU", Does::Proof(|at| by("delegate", at))),
        fault("delegated without EKU", Does::Proof(|at| by("powerless", at)), SIGNATURE),
        fault("expired signer", Does::Proof(|at| by("brief", at)), "the answer is not used: expired at *"),
        fault(
            "future thisUpdate",
            Does::Proof(|at| ProofSpec {
                this_update: at + DAY,
                next_update: Some(at + LIFE),
                ..good("leaf")
            }),
            "the answer is not used: not valid before *",
        ),
        fault(
            "no nextUpdate",
            Does::Proof(|at| ProofSpec { next_update: None, ..fresh(at) }),
            "the answer is not used: no nextUpdate",
        ),
        fault(
            "redirecting",
            Does::Mode(|| Mode::Status("302 Found", "Location: http://127.0.0.1:1/")),
            "the server answered 302 Found",
        ),
        fault("resetting", Does::Mode(|| Mode::Reset), "the connection failed: Connection reset by peer"),
    ]
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Start,
    Steady,
    Renewal,
}

/// What was seen in a cell.
#[derive(Debug, PartialEq, Eq, Clone)]
struct Seen {
    stapled: String,
    logged: String,
    again: (Duration, Again),
}

/// Of what kind the next attempt is.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Again {
    /// So long after this one.
    Pause,
    /// When the proof in hand has lived for half of its life.
    Half,
}

/// The keeper and the process that staples, with one certificate between them.
struct World {
    engine: Engine,
    registry: Registry,
    entry: Arc<Entry>,
    responder: Responder,
    key: Key,
    /// Seconds from the time of the test.
    now: i64,
    real: SystemTime,
    log: Vec<String>,
}

/// The engine is played by hand.
struct ByHand;
impl Keeper for ByHand {
    fn want(&self, _: Key, _: &Wanted) {}
    fn want_list(&self, _: Key, _: &WantedList) {}
    fn forget(&self, _: Key) {}
}

impl World {
    /// The certificate is wanted, and a stored proof of this time of making is found.
    fn new(real: SystemTime, chance: u32, stored: Option<i64>) -> Self {
        let responder = Responder::start(Mode::Reset);
        let (leaf, inter) = (ca().certificate("leaf"), ca().certificate("inter"));
        let (key, wanted) = Wanted::new(&leaf, &inter, Some(responder.url())).unwrap();
        let registry = Registry::new(Arc::new(ByHand));
        let entry = registry.want(key, wanted.clone()).unwrap();
        let engine = Engine::new(move || chance);
        let mut world = Self { engine, registry, entry, responder, key, now: BEGIN, real, log: Vec::new() };
        let (_, matter) = Matter::of_certificate(&wanted).unwrap();
        let stored = stored.map(|made| {
            let proof = ProofSpec { this_update: made, next_update: Some(made + LIFE), ..good("leaf") };
            matter.check(ca().proof(&proof).into(), world.time())
        });
        world.engine.want(1, key, matter, stored, world.time());
        world.hear();
        world
    }

    fn time(&self) -> SystemTime {
        self.real + Duration::from_secs(u64::try_from(self.now).expect("the table begins later"))
    }

    /// The process hears the news, checks what it hears, and tells the log.
    fn hear(&mut self) {
        for news in self.engine.news() {
            assert_eq!((news.to, news.key), (vec![1], self.key));
            match news.what {
                Tidings::Answer(_, der) => self.registry.heard(self.key, &der, self.time()).unwrap(),
                Tidings::Report(report) => self.registry.told(self.key, report),
                Tidings::Stored(_) => panic!("a proof is never left to the disk"),
            }
        }
        self.log.extend(self.entry.change(self.time()).map(|change| {
            assert_eq!(change.alarming, change.text.contains("is revoked"));
            change.text
        }));
    }

    /// Time passes up to the next attempt.
    fn sleep(&mut self) -> Job {
        let next = self.entry.report().next_attempt.expect("there is a next attempt");
        assert!(self.engine.wake_at().is_some_and(|wake| wake <= next));
        let seconds = next.duration_since(self.real).unwrap().as_secs_f64().ceil() as i64;
        self.now = self.now.max(seconds);
        self.engine.next(self.time()).expect("it is due")
    }

    /// The next attempt, at its time; by a real connection.
    fn attempt(&mut self, fault: &Fault) -> Outcome {
        let asked = self.responder.asked();
        let job = self.sleep();
        self.begin(fault);
        let deadline = Duration::from_millis(if fault.waits { 100 } else { 20_000 });
        let now = self.time();
        let outcome = job.matter.ask(None, deadline, &|| now);
        self.done(job, outcome.clone());
        let expected = asked + usize::from(!matches!(fault.does, Does::Down));
        // one that is not waited for may be heard later
        let end = Instant::now() + Duration::from_secs(20);
        while self.responder.asked() < expected && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(self.responder.asked(), expected, "one question, one connection");
        outcome
    }

    /// The responder is like this from now on.
    fn begin(&self, fault: &Fault) {
        match fault.does {
            Does::Down => self.responder.down(),
            Does::Mode(mode) => self.responder.set(mode()),
            Does::Proof(spec) => self.responder.set(Mode::Answer(ca().proof(&spec(self.now)))),
        }
    }

    fn attempt_fails(&mut self) {
        let job = self.sleep();
        self.done(job, Outcome::Failed("it is down".into()));
    }

    /// What is new goes to the disk, and nothing else does.
    fn done(&mut self, job: Job, outcome: Outcome) {
        let stored = self.engine.done(job, outcome.clone(), self.time());
        let new = match &outcome {
            Outcome::Good(found) => Some(&found.der),
            Outcome::Revoked { der, .. } => Some(der),
            Outcome::Failed(_) => None,
        };
        assert_eq!(stored.as_ref().map(|(_, der)| der), new);
        self.hear();
    }

    /// What is stapled now.
    fn stapled(&self) -> Option<Arc<[u8]>> {
        match self.entry.word().0 {
            Word::Good(proof) if proof.usable(self.time()).is_ok() => Some(Arc::clone(proof.der())),
            Word::Good(_) | Word::Nothing | Word::Revoked(_) => None,
        }
    }
}

/// Brings the world to where the fault begins.
fn before(real: SystemTime, chance: u32, phase: Phase, in_hand: bool) -> World {
    let fine = Fault { name: "fine", does: Does::Proof(fresh), reason: None, waits: false };
    match (phase, in_hand) {
        (Phase::Start, false) => World::new(real, chance, None),
        // past half of its life
        (Phase::Start, true) => World::new(real, chance, Some(BEGIN - 3 * DAY)),
        (Phase::Steady, false) => {
            let mut world = World::new(real, chance, None);
            (0..3).for_each(|_| world.attempt_fails());
            world
        }
        (Phase::Steady, true) => {
            let mut world = World::new(real, chance, None);
            world.attempt(&fine);
            world.now += DAY / 2;
            world
        }
        (Phase::Renewal, _) => {
            let mut world = World::new(real, chance, None);
            world.attempt(&fine);
            while !in_hand && world.stapled().is_some() {
                world.attempt_fails();
            }
            world
        }
    }
}

fn play(fault: &Fault, phase: Phase, in_hand: bool, chance: u32, real: SystemTime) -> Seen {
    let mut world = before(real, chance, phase, in_hand);
    let held = world.stapled();
    assert_eq!(held.is_some(), in_hand);
    // the proof has run out in what the log is told last before the fault
    let log_from = world.log.len() - usize::from(phase == Phase::Renewal && !in_hand);
    if (phase, in_hand) == (Phase::Steady, true) {
        return play_undisturbed(fault, world, held);
    }
    let told_before = world.log.len();
    let outcome = world.attempt(fault);
    match (fault.reason, &outcome) {
        (Some(reason), Outcome::Failed(why)) => {
            assert!(fits(reason, why), "{why}");
            assert_eq!(&world.entry.report().last_error, why);
            assert!(world.log[told_before..].iter().all(|line| line.contains(why)), "{:?}", world.log);
        }
        (None, Outcome::Good(_) | Outcome::Revoked { .. }) => {
            assert_eq!(world.entry.report().last_error, "");
        }
        other => panic!("{other:?}"),
    }
    let now = world.stapled();
    let stapled = match (&now, &held) {
        (None, _) => "nothing",
        (Some(now), Some(held)) if now == held => "the proof in hand",
        (Some(_), _) => "the new proof",
    };
    let next = world.entry.report().next_attempt.expect("there is a next attempt");
    let wait = next.duration_since(world.time()).unwrap();
    let again = if matches!(outcome, Outcome::Good(_)) { Again::Half } else { Again::Pause };
    let logged = world.log[log_from..].iter().map(|line| told(line)).collect::<Vec<_>>().join(", then ");
    if stapled == "the proof in hand" {
        runs_out(&mut world, fault);
    }
    Seen {
        stapled: stapled.into(),
        logged: if logged.is_empty() { "–".into() } else { logged },
        again: (wait, again),
    }
}

/// Nobody is asked before the time, whatever the responder would do.
fn play_undisturbed(fault: &Fault, mut world: World, held: Option<Arc<[u8]>>) -> Seen {
    let asked = world.responder.asked();
    world.begin(fault);
    let logged = world.log.len();
    assert!(world.engine.next(world.time()).is_none());
    world.hear();
    assert_eq!((world.responder.asked(), world.log.len()), (asked, logged));
    assert_eq!(world.stapled(), held);
    let next = world.entry.report().next_attempt.expect("there is a next attempt");
    let wait = next.duration_since(world.time()).unwrap() + 12 * HOUR;
    Seen { stapled: "the proof in hand".into(), logged: "–".into(), again: (wait, Again::Half) }
}

/// The fault lasts: the proof is stapled to its end, asked for before it and at it, and not stapled a second longer.
fn runs_out(world: &mut World, fault: &Fault) {
    let Word::Good(proof) = world.entry.word().0 else { panic!("a proof") };
    while world.time() < proof.until() {
        assert!(world.stapled().is_some());
        let job = world.sleep();
        let why = fault.reason.unwrap_or_default().into();
        world.done(job, Outcome::Failed(why));
    }
    assert!(proof.until() + Duration::from_secs(1) >= world.time(), "it slept past the end");
    world.now += 2;
    world.hear();
    assert!(world.stapled().is_none());
    assert_eq!(world.log.last().map(|line| told(line)), Some("ran out"));
    assert!(
        matches!(world.entry.word().0, Word::Good(proof) if matches!(proof.usable(world.time()), Err(Unfit::Expired(_))))
    );
}

/// `*` stands for anything.
fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// The lines of the log, with the names that the page gives them.
const LINES: [(&str, &str); 5] = [
    ("no proof", "OCSP: *: no proof yet (*: *); nothing is stapled"),
    ("no new proof", "OCSP: *: no new proof (*: *); the one in hand is stapled until *"),
    ("ran out", "OCSP: *: its proof ran out at * and is not stapled any more (*: *)"),
    ("a proof", "OCSP: *: a new proof is stapled until *"),
    ("revoked", "OCSP: *: the certificate is revoked (since *); nothing is stapled"),
];

fn told(line: &str) -> &'static str {
    let named = LINES.iter().find(|(_, pattern)| fits(pattern, line));
    named.unwrap_or_else(|| panic!("no name for the line {line}")).0
}

/// The same cell with the least and the greatest number that chance may bring.
fn cell(fault: &Fault, phase: Phase, in_hand: bool) -> String {
    let real = SystemTime::now();
    let (early, late) = (play(fault, phase, in_hand, 0, real), play(fault, phase, in_hand, u32::MAX, real));
    assert_eq!((&early.stapled, &early.logged), (&late.stapled, &late.logged));
    let (kind, mut waits) = (early.again.1, [early.again.0, late.again.0]);
    waits.sort();
    let again = match kind {
        Again::Half => {
            let half = Duration::from_secs((LIFE / 2 - AGE) as u64);
            assert!(waits[0] + A_MOMENT >= half * 4 / 5 && waits[1] <= half + A_MOMENT, "{waits:?}");
            assert!(waits[1] - waits[0] > half / 6, "chance has no part in it: {waits:?}");
            "at half life".to_owned()
        }
        Again::Pause => span(waits[0], waits[1]),
    };
    format!("{} | {} | {again}", early.stapled, early.logged)
}

fn span(from: Duration, to: Duration) -> String {
    let (from, to) = (from.as_secs_f64().round() as u64, to.as_secs_f64().round() as u64);
    if to < 120 { format!("{from} to {to} s") } else { format!("{} to {} min", from / 60, to / 60) }
}

fn rows(phase: Phase) -> Vec<String> {
    let row = |fault: &Fault| {
        let [without, with] = [false, true].map(|in_hand| {
            let label = format!("{} at {phase:?}, in hand: {in_hand}", fault.name);
            std::panic::catch_unwind(|| cell(fault, phase, in_hand))
                .unwrap_or_else(|_| panic!("the cell of {label} failed, see above"))
        });
        format!("//! | {} | {without} | {with} |", fault.name)
    };
    faults().iter().map(row).collect()
}

fn check(phase: Phase) {
    let rows = rows(phase);
    assert_eq!(rows.len(), 18, "the issue names 18 faults");
    if std::env::var_os("OXIM_SHOW_FAULTS").is_some() {
        println!("{phase:?}\n{}", rows.join("\n"));
    }
    let heading = format!(
        "//! # {}",
        match phase {
            Phase::Start => "At the start",
            Phase::Steady => "In steady state",
            Phase::Renewal => "At renewal",
        }
    );
    let section = PAGE.split(&heading).nth(1).expect("the page has the section");
    let section = section.split("//! # ").next().unwrap_or_default();
    let on_page: Vec<&str> = section.lines().filter(|line| line.starts_with("//! | ")).skip(1).collect();
    assert_eq!(on_page, rows, "the page of the manual differs from what was seen");
}

#[test]
fn every_fault_at_the_start_does_what_the_manual_says() {
    check(Phase::Start);
}

#[test]
fn every_fault_in_steady_state_does_what_the_manual_says() {
    check(Phase::Steady);
}

#[test]
fn every_fault_at_renewal_does_what_the_manual_says() {
    check(Phase::Renewal);
}

#[test]
fn who_looks_between_an_answer_and_its_report_sees_no_failure_that_was_none() {
    let mut world = World::new(SystemTime::now(), 0, None);
    world.attempt_fails();
    let job = world.sleep();
    let proof = ca().proof(&fresh(world.now));
    let outcome = job.matter.check(proof.into(), world.time());
    world.engine.done(job, outcome, world.time());
    let mut lines = Vec::new();
    for news in world.engine.news() {
        match news.what {
            Tidings::Answer(_, der) => world.registry.heard(world.key, &der, world.time()).unwrap(),
            Tidings::Report(report) => world.registry.told(world.key, report),
            Tidings::Stored(_) => panic!("a proof is never left to the disk"),
        }
        lines.extend(world.entry.change(world.time()).map(|change| told(&change.text)));
    }
    assert_eq!(lines, ["a proof"]);
}

#[test]
fn the_manual_gives_the_reasons_and_the_lines_as_they_are() {
    for fault in faults() {
        let reason = fault.reason.map_or("–".to_owned(), |reason| format!("`{reason}`"));
        let row = format!("| {reason} |");
        let line = PAGE.lines().find(|line| line.starts_with(&format!("//! | {} | ", fault.name)));
        assert!(line.is_some_and(|line| line.ends_with(&row)), "{}: {row}: {line:?}", fault.name);
    }
    for (name, pattern) in LINES {
        let row = format!("//! | {name} | `{pattern}` |");
        assert!(PAGE.lines().any(|line| line.starts_with(&row)), "{row}");
    }
}
