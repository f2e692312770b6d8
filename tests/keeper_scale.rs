//! The keeper's engine with a thousand certificates: a virtual clock and responders that are made up, so that weeks
//! pass in a moment. Limits, fairness, no gap in what is stapled, memory and work within bounds.
#![cfg(ocsp_stapling)]

#[path = "support/ca.rs"]
mod ca;
#[path = "support/long.rs"]
mod long;
#[path = "support/openssl.rs"]
mod openssl;

use ca::ca;
use openssl::Openssl;
use oxim::ocsp::fetch::DEADLINE;
use oxim::ocsp::keeper::{
    Engine, Event, Found, Job, MAX_FOR_EACH, Matter, News, Outcome, PROOFS_AT_ONCE, Runner, Settings, Tidings,
};
use oxim::ocsp::registry::{Key, MAX_ENTRIES, MAX_LISTS, Wanted};
use oxim::ocsp::schedule::Life;
use oxim::ocsp::store::Store;
use oxim::tls::gnutls::x509::Certificate;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime};

const DAY: Duration = Duration::from_secs(86_400);
const LIFE: Duration = Duration::from_secs(4 * 86_400);
const CERTIFICATES: usize = 1000;
const RESPONDERS: usize = 50;
/// The test certificates last for twenty.
const DAYS: u32 = 18;

/// Memory is measured, so one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn key(number: usize) -> Key {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&(number as u64).to_be_bytes());
    Key(key)
}

fn number_of(key: Key) -> usize {
    u64::from_be_bytes(key.0[..8].try_into().unwrap()) as usize
}

/// A certificate of this responder. (All are one certificate: the engine knows them by their keys.)
fn matter(responder: usize) -> Matter {
    let wanted = Wanted {
        certificate: ca().certificate("leaf").der().unwrap(),
        issuer: ca().certificate("inter").der().unwrap(),
        responder: Some(format!("http://r{responder}.test/")),
    };
    Matter::of_certificate(&wanted).unwrap().1
}

/// Numbers that look like chance and are the same in each run.
fn chance() -> impl FnMut() -> u32 + Send {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u32
    }
}

fn resident_kib() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// How a responder takes a question at a time: how long, and whether it answers.
fn behaviour(responder: usize, at: Duration, attempt: usize) -> (Duration, bool) {
    let seconds = Duration::from_secs;
    match responder {
        0 => (seconds(20), false),                                     // hangs for ever
        1 => (seconds(0), !(DAY * 6..DAY * 15 / 2).contains(&at)),     // down for a day and a half
        2 => (Duration::from_millis(200), !attempt.is_multiple_of(2)), // tryLater, every other time
        3 => (seconds(15), true),                                      // slow
        4 if (DAY * 10..DAY * 23 / 2).contains(&at) => (seconds(20), false), // hangs for a day and a half
        _ => (Duration::from_millis(200), true),
    }
}

/// The engine's outside: questions that are under way, in the order in which they end.
struct World {
    engine: Engine,
    begin: SystemTime,
    now: SystemTime,
    under_way: BTreeMap<(SystemTime, usize), (Job, bool)>,
    running: HashMap<usize, usize>,
    attempts: Vec<usize>,
    until: Vec<Option<SystemTime>>,
    gaps: Vec<usize>,
    first_answer: Vec<Option<SystemTime>>,
    most_running: usize,
    steps: usize,
}

impl World {
    fn new() -> Self {
        let begin = SystemTime::now();
        let mut engine = Engine::new(chance());
        for number in 0..CERTIFICATES {
            engine.want(1, key(number), matter(number % RESPONDERS), None, begin);
        }
        Self {
            engine,
            begin,
            now: begin,
            under_way: BTreeMap::new(),
            running: HashMap::new(),
            attempts: vec![0; CERTIFICATES],
            until: vec![None; CERTIFICATES],
            gaps: vec![0; CERTIFICATES],
            first_answer: vec![None; CERTIFICATES],
            most_running: 0,
            steps: 0,
        }
    }

    fn start_due(&mut self) {
        while let Some(job) = self.engine.next(self.now) {
            let number = number_of(job.key);
            let responder = number % RESPONDERS;
            self.attempts[number] += 1;
            let at = self.now.duration_since(self.begin).unwrap();
            let (takes, answers) = behaviour(responder, at, self.attempts[number]);
            let running = self.running.entry(responder).or_default();
            *running += 1;
            assert!(*running <= MAX_FOR_EACH, "{running} questions at once at responder {responder}");
            self.steps += 1;
            self.under_way.insert((self.now + takes, self.steps), (job, answers));
            self.most_running = self.most_running.max(self.under_way.len());
            assert!(self.under_way.len() <= PROOFS_AT_ONCE && self.engine.running() == self.under_way.len());
        }
    }

    fn end_one(&mut self) {
        let ((now, _), (job, answers)) = self.under_way.pop_first().expect("one is under way");
        self.now = now;
        *self.running.entry(number_of(job.key) % RESPONDERS).or_default() -= 1;
        let life = Life { since: now, until: now + LIFE };
        let der = vec![self.steps as u8; 500];
        let outcome = match answers {
            true => Outcome::Good(Found { der: [&self.steps.to_be_bytes()[..], &der].concat().into(), life }),
            false => Outcome::Failed("no answer within 20 s".into()),
        };
        self.engine.done(job, outcome, now);
    }

    fn hear(&mut self) {
        for news in self.engine.news() {
            let number = number_of(news.key);
            if matches!(news.what, Tidings::Answer(..)) {
                self.gaps[number] += usize::from(self.until[number].is_some_and(|until| until < self.now));
                self.until[number] = Some(self.now + LIFE);
                self.first_answer[number].get_or_insert(self.now);
            }
        }
    }

    /// Until this moment; gives the number of times the engine was woken.
    fn run_until(&mut self, end: SystemTime) -> usize {
        let mut woken = 0;
        loop {
            woken += 1;
            self.start_due();
            self.hear();
            let ends = self.under_way.first_key_value().map(|((time, _), _)| *time);
            let wakes = self.engine.wake_at().map(|time| time.max(self.now));
            match (ends, wakes) {
                (Some(time), wakes) if time <= end && wakes.is_none_or(|wake| time <= wake) => self.end_one(),
                (_, Some(wake)) if wake <= end => self.now = wake,
                _ => break,
            }
        }
        self.now = end;
        woken
    }
}

#[test]
fn a_thousand_certificates_are_kept_for_weeks_within_bounds_of_memory_connections_and_work() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let _ = (ca().certificate("leaf"), matter(0)); // what the test itself needs
    let before = resident_kib();
    let mut world = World::new();
    world.run_until(world.begin + DAY);
    let after_a_day = resident_kib();
    let woken = world.run_until(world.begin + DAY * DAYS);
    let after_weeks = resident_kib();
    let attempts: usize = world.attempts.iter().sum();
    println!(
        "{attempts} attempts, {} at once at most, woken {woken} times; memory {before} KiB, {after_a_day} \
         after a day, {after_weeks} after weeks",
        world.most_running
    );

    for number in 0..CERTIFICATES {
        let responder = number % RESPONDERS;
        let attempts = world.attempts[number];
        if responder == 0 {
            assert!(world.until[number].is_none());
            // half of the longest pause is the shortest there is after the first few
            assert!(attempts <= 48 * DAYS as usize + 8, "{attempts} attempts at a responder that hangs");
            continue;
        }
        assert_eq!(world.gaps[number], 0, "certificate {number} was without a proof");
        let until = world.until[number].unwrap();
        assert!(until >= world.now, "{number}: {:?} over, {attempts}", world.now.duration_since(until));
        // the whole is 190 s of waiting for answers, sixty at a time
        let first = world.first_answer[number].unwrap().duration_since(world.begin).unwrap();
        let allowed = match responder {
            2 => Duration::from_secs(60),
            3 => Duration::from_secs(150),
            _ => Duration::from_secs(6),
        };
        assert!(first <= allowed, "certificate {number} of responder {responder} waited {first:?}");
        if responder > 4 {
            // half of four days, or a fifth less
            assert!((9..=12).contains(&attempts), "{attempts} attempts in {DAYS} days");
        }
    }
    assert!(world.most_running > PROOFS_AT_ONCE / 2, "the test has no load");
    assert!(woken <= 3 * attempts, "woken {woken} times for {attempts} attempts");
    assert!(after_a_day <= before + 8 * 1024, "{} KiB for a thousand", after_a_day - before);
    assert!(after_weeks <= after_a_day + 1024, "memory grows: {after_a_day} KiB, {after_weeks} KiB");
}

#[test]
fn there_is_an_end_to_what_is_looked_after_and_whoever_is_refused_is_told() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let now = SystemTime::now();
    let mut engine = Engine::new(chance());
    let one = matter(0);
    for number in 0..MAX_ENTRIES + 1 {
        engine.want(1, key(number), one.clone(), None, now);
    }
    assert_eq!(engine.keys().count(), MAX_ENTRIES);
    let news = engine.news();
    assert_eq!(news.len(), MAX_ENTRIES + 1);
    let Tidings::Report(report) = &news.last().unwrap().what else { panic!("a report") };
    assert_eq!(report.last_error, format!("not looked after: there are {MAX_ENTRIES} others"));
    // lists are counted by themselves
    let list = oxim::ocsp::registry::WantedList {
        url: "http://lists.test/a.crl".into(),
        issuer: ca().certificate("inter").der().unwrap(),
    };
    let (_, list) = Matter::of_list(&list).unwrap();
    for number in 0..MAX_LISTS + 1 {
        engine.want(2, key(1_000_000 + number), list.clone(), None, now);
    }
    assert_eq!(engine.keys().count(), MAX_ENTRIES + MAX_LISTS);
    engine.gone(1);
    assert_eq!(engine.keys().count(), MAX_LISTS);
    engine.gone(2);
    assert!(engine.keys().next().is_none() && engine.wake_at().is_none() && engine.next(now).is_none());
}

/// Certificates of `inter` with serial numbers of their own.
fn many(count: usize) -> Vec<Certificate> {
    let one = |number: usize| {
        let out = format!("many-{number}.pem");
        let mut command = Command::new("openssl");
        command.args([
            "x509",
            "-req",
            "-in",
            "leaf.csr",
            "-CA",
            "inter.pem",
            "-CAkey",
            "inter.key",
            "-days",
            "9",
        ]);
        command.args(["-set_serial", &(1_000_000 + number).to_string(), "-out", &out]);
        let output = command.current_dir(ca().path("")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        ca().certificate(&format!("many-{number}"))
    };
    (0..count).map(one).collect()
}

fn count(directory: &str) -> usize {
    fs::read_dir(directory).unwrap().count()
}

/// Threads and descriptors of this process.
fn in_use() -> [usize; 2] {
    [count("/proc/self/task"), count("/proc/self/fd")]
}

#[test]
fn the_proofs_of_many_virtual_hosts_are_fetched_by_few_threads_over_few_connections() {
    const RESPONDERS: usize = 5;
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let certificates = many(long::short_or_long(50, 1000));
    let serials = || certificates.iter().map(|certificate| (certificate.serial().unwrap(), false));
    let responders: Vec<Openssl> = (0..RESPONDERS).map(|_| Openssl::start(serials())).collect();
    let store = tempfile::tempdir().unwrap();
    let answered: Arc<(Mutex<HashSet<Key>>, Condvar)> = Arc::default();
    let telling = answered.clone();
    let settings = Settings {
        counters: Arc::default(),
        proxy: None,
        store: Some(Store::open(store.path()).unwrap()),
        deadline: DEADLINE,
        now: Arc::new(SystemTime::now),
    };
    let (before, memory) = (in_use(), resident_kib());
    let begin = Instant::now();
    let runner = Runner::start(settings, move |event| {
        if let Event::News(News { key, what: Tidings::Answer(..), .. }) = event {
            telling.0.lock().unwrap().insert(key);
            telling.1.notify_all();
        }
    })
    .unwrap();
    for (number, certificate) in certificates.iter().enumerate() {
        let responder = Some(responders[number % RESPONDERS].url.clone());
        let (key, wanted) = Wanted::new(certificate, &ca().certificate("inter"), responder).unwrap();
        runner.want(1, key, &wanted);
    }
    let mut most = in_use();
    let mut done = answered.0.lock().unwrap();
    while done.len() < certificates.len() {
        assert!(begin.elapsed() < Duration::from_secs(120), "{} of {}", done.len(), certificates.len());
        done = answered.1.wait_timeout(done, Duration::from_millis(5)).unwrap().0;
        let now = in_use();
        most = [most[0].max(now[0]), most[1].max(now[1])];
    }
    drop(done);
    println!(
        "{} proofs in {:?}; threads and descriptors {before:?} before, {most:?} at most; memory {memory} KiB before, {} after",
        certificates.len(),
        begin.elapsed(),
        resident_kib()
    );
    // a thread that plans, one that writes, and one for each question (two at each responder) that may be on its way out
    assert!(most[0] <= before[0] + 2 + 64, "{before:?}, {most:?}");
    assert!(most[1] <= before[1] + 2 * 64, "{before:?}, {most:?}");
    assert!(resident_kib() <= memory + 16 * 1024);
    // nobody waited for the disk; in the end all of it is there
    let end = Instant::now() + Duration::from_secs(60);
    while fs::read_dir(store.path()).unwrap().flatten().filter(is_proof).count() < certificates.len() {
        assert!(Instant::now() < end, "not all proofs are stored");
        std::thread::sleep(Duration::from_millis(10));
    }
    println!("all on the disk after {:?}", begin.elapsed());
}

fn is_proof(entry: &fs::DirEntry) -> bool {
    entry.path().extension().is_some_and(|extension| extension == "ocsp")
}
