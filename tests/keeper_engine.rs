//! The keeper's engine, step by step: what is in hand, what is told and stored, who is asked when. No socket, no disk, and
//! the clock is an argument. (The faults of responders are played in `keeper_faults.rs`.)
#![cfg(ocsp_stapling)]

#[path = "support/ca.rs"]
mod ca;

use ca::ca;
use oxim::ocsp::keeper::{Engine, Found, Holder, Job, Matter, Outcome, Tidings};
use oxim::ocsp::registry::{Key, Report, Wanted, WantedList};
use oxim::ocsp::schedule::{Life, MAX_PAUSE, MIN_WAIT};
use oxim::ocsp::store::Kind;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

const DAY: Duration = Duration::from_secs(86_400);
const HOUR: Duration = Duration::from_secs(3600);
const KEY: Key = Key([7; 32]);

fn wanted(name: &str, responder: Option<&str>) -> Matter {
    let der = |name| ca().certificate(name).der().unwrap();
    let wanted =
        Wanted { certificate: der(name), issuer: der("inter"), responder: responder.map(str::to_owned) };
    Matter::of_certificate(&wanted).unwrap().1
}

fn matter() -> Matter {
    wanted("leaf", Some("http://one.test/"))
}

fn list() -> Matter {
    let (_, list) = WantedList::new(&ca().certificate("inter"), "http://lists.test/a").unwrap();
    Matter::of_list(&list).unwrap().1
}

fn found(bytes: &[u8], since: SystemTime, until: SystemTime) -> Outcome {
    Outcome::Good(Found { der: bytes.into(), life: Life { since, until } })
}

fn revoked(bytes: &[u8], since: SystemTime) -> Outcome {
    Outcome::Revoked { der: bytes.into(), since }
}

/// An engine without chance, and what it told.
struct Kept {
    engine: Engine,
    now: SystemTime,
}

impl Kept {
    fn new(matter: Matter) -> Self {
        Self::with(matter, None)
    }
    fn with(matter: Matter, stored: Option<Outcome>) -> Self {
        let now = SystemTime::now();
        let mut kept = Self { engine: Engine::new(|| 0), now };
        kept.want(1, matter, stored);
        kept
    }
    fn want(&mut self, holder: Holder, matter: Matter, stored: Option<Outcome>) {
        self.engine.want(holder, KEY, matter, stored, self.now);
    }
    /// Waits for the next attempt, if there is one within a year.
    fn job(&mut self) -> Option<Job> {
        for _ in 0..4 {
            if let Some(job) = self.engine.next(self.now) {
                return Some(job);
            }
            self.now = self.engine.wake_at().filter(|wake| *wake < self.now + 365 * DAY)?.max(self.now);
        }
        None
    }
    fn attempt(&mut self, outcome: impl FnOnce(SystemTime) -> Outcome) -> Option<Arc<[u8]>> {
        let job = self.job().expect("an attempt is due some day");
        let outcome = outcome(self.now);
        self.engine.done(job, outcome, self.now).map(|(_, der)| der)
    }
    /// Answers told, each with its listeners.
    fn answers(&mut self) -> Vec<(Vec<Holder>, Vec<u8>)> {
        let news = self.engine.news().into_iter();
        news.filter_map(|news| match news.what {
            Tidings::Answer(_, der) => Some((news.to, der.to_vec())),
            _ => None,
        })
        .collect()
    }
    fn report(&mut self) -> Report {
        let reports = self.engine.news().into_iter().rev();
        let report = reports.filter_map(|news| match news.what {
            Tidings::Report(report) => Some(report),
            _ => None,
        });
        report.into_iter().next().expect("a report")
    }
}

fn told(holder: Holder, bytes: &[u8]) -> (Vec<Holder>, Vec<u8>) {
    (vec![holder], bytes.to_vec())
}

#[test]
fn an_answer_is_told_and_stored_once_however_often_it_comes() {
    let mut kept = Kept::new(matter());
    let until = kept.now + 4 * DAY;
    let since = kept.now - HOUR;
    assert!(kept.attempt(|_| found(b"proof", since, until)).is_some());
    assert_eq!(kept.answers(), [told(1, b"proof")]);
    assert!(kept.attempt(|_| found(b"proof", since, until)).is_none());
    assert_eq!(kept.answers(), []);
    // a cache on the way has an older one
    assert!(kept.attempt(|_| found(b"older", since - DAY, until - DAY / 2)).is_none());
    assert_eq!(kept.answers(), []);
    assert!(kept.attempt(|now| found(b"newer", now, now + 4 * DAY)).is_some());
    assert_eq!(kept.answers(), [told(1, b"newer")]);
    kept.attempt(|_| Outcome::Failed("why".into()));
    let report = kept.report();
    assert_eq!((report.successes, report.failures, report.last_error.as_str()), (4, 1, "why"));
    assert_eq!(report.source, "http://one.test/");
}

#[test]
fn a_revocation_takes_the_place_of_the_proof_and_an_older_good_answer_does_not_undo_it() {
    let mut kept = Kept::new(matter());
    kept.attempt(|now| found(b"good", now - HOUR, now + 4 * DAY));
    let since = kept.now + HOUR;
    assert_eq!(kept.attempt(|_| revoked(b"revoked", since)).as_deref(), Some(&b"revoked"[..]));
    assert_eq!(kept.answers(), [told(1, b"good"), told(1, b"revoked")]);
    // the same revocation, signed anew
    assert!(kept.attempt(|_| revoked(b"revoked again", since)).is_none());
    // from a cache, or from somebody who kept it for us
    assert!(kept.attempt(|now| found(b"good", since - HOUR, now + 3 * DAY)).is_none());
    assert_eq!(kept.report().last_error, "the answer is older than the revocation");
    assert_eq!(kept.answers(), []);
    // it was on hold, and is not any more
    assert!(kept.attempt(|now| found(b"back", now, now + 4 * DAY)).is_some());
    assert_eq!(kept.answers(), [told(1, b"back")]);
}

#[test]
fn what_ended_is_dropped_from_memory_and_a_shorter_proof_is_welcome_then() {
    let mut kept = Kept::new(matter());
    kept.attempt(|now| found(b"long", now, now + 4 * DAY));
    let end = kept.now + 4 * DAY;
    while kept.now <= end {
        kept.attempt(|_| Outcome::Failed("down".into()));
    }
    kept.answers();
    kept.want(2, matter(), None);
    assert_eq!(kept.answers(), [], "what ended is not told to who comes now");
    assert!(kept.attempt(|now| found(b"short", now, now + HOUR)).is_some());
}

#[test]
fn several_holders_hear_the_same_and_the_last_to_go_ends_it() {
    let mut kept = Kept::new(matter());
    kept.attempt(|now| found(b"proof", now, now + 4 * DAY));
    kept.answers();
    kept.want(2, matter(), None);
    assert_eq!(kept.answers(), [told(2, b"proof")], "who comes later is told what is in hand");
    kept.attempt(|now| found(b"next", now, now + 4 * DAY));
    assert_eq!(kept.answers(), [(vec![1, 2], b"next".to_vec())]);
    kept.engine.forget(1, KEY);
    assert!(kept.engine.knows(KEY));
    kept.engine.gone(2);
    assert!(!kept.engine.knows(KEY));
    assert!(kept.job().is_none() && kept.engine.wake_at().is_none());
}

#[test]
fn an_answer_to_a_question_that_is_not_asked_any_more_is_not_taken() {
    let mut kept = Kept::new(matter());
    let job = kept.job().unwrap();
    kept.engine.forget(1, KEY);
    assert!(kept.engine.done(job, found(b"late", kept.now, kept.now + DAY), kept.now).is_none());
    assert_eq!(kept.answers(), []);

    // another responder is asked at once, though the first was not done
    kept.want(1, matter(), None);
    let first = kept.job().unwrap();
    let begin = kept.now;
    kept.want(1, wanted("leaf", Some("http://two.test/")), None);
    let second = kept.job().unwrap();
    assert_eq!((second.matter.source.clone().unwrap().unwrap().host.as_str(), kept.now), ("two.test", begin));
    assert!(kept.engine.done(first, found(b"first", kept.now, kept.now + DAY), kept.now).is_none());
    assert!(kept.engine.done(second, found(b"second", kept.now, kept.now + DAY), kept.now).is_some());
    assert_eq!(kept.answers(), [told(1, b"second")]);
    assert_eq!(kept.engine.running(), 0);
}

#[test]
fn a_certificate_without_a_responder_is_nothing_to_do_and_nothing_is_said() {
    let mut kept = Kept::new(wanted("leaf", None));
    assert_eq!(kept.report(), Report::default());
    assert!(kept.job().is_none());
}

#[test]
fn a_responder_that_cannot_be_asked_is_told_and_not_tried() {
    let mut kept = Kept::new(wanted("leaf", Some("https://one.test/")));
    let report = kept.report();
    assert_eq!(report.last_error, "the URL given cannot be asked: it does not begin with http://");
    assert_eq!((report.next_attempt, report.failures), (None, 0));
    assert!(kept.job().is_none());
}

#[test]
fn a_certificate_that_has_ended_is_not_asked_about() {
    let now = SystemTime::now();
    let mut engine = Engine::new(|| 0);
    let end = ca().certificate("leaf").not_after();
    engine.want(1, KEY, matter(), None, end + HOUR);
    assert!(engine.next(end + 2 * HOUR).is_none() && engine.wake_at().is_none());
    let Tidings::Report(report) = engine.news().remove(0).what else { panic!("a report") };
    assert_eq!(report.next_attempt, None);
    // nor when it ends while it is looked after
    let mut engine = Engine::new(|| 0);
    engine.want(1, KEY, matter(), None, now);
    let mut attempts = 0;
    let mut at = now;
    while let Some(job) = engine.next(at) {
        assert!(at <= end);
        attempts += 1;
        engine.done(job, found(b"proof", at, end + 365 * DAY), at);
        at = engine.wake_at().expect("the proof ends").max(at);
    }
    // at the beginning and once a week
    assert_eq!(attempts, 3);
    assert_eq!(engine.news().last().map(|news| &news.what).and_then(next_attempt), None);
}

fn next_attempt(what: &Tidings) -> Option<SystemTime> {
    let Tidings::Report(report) = what else { panic!("a report") };
    report.next_attempt
}

#[test]
fn what_the_store_had_is_told_at_once_and_asked_for_when_it_is_due() {
    let now = SystemTime::now();
    let mut kept = Kept::with(matter(), Some(found(b"stored", now - DAY, now + 3 * DAY)));
    assert_eq!(kept.answers(), [told(1, b"stored")]);
    let begin = kept.now;
    kept.job().unwrap();
    let waited = kept.now.duration_since(begin).unwrap();
    assert!(waited > DAY - HOUR && waited <= DAY, "{waited:?}");
    // a stored revocation is told, and asked about at once
    let mut kept = Kept::with(matter(), Some(revoked(b"revoked", now - DAY)));
    assert_eq!(kept.answers(), [told(1, b"revoked")]);
    let begin = kept.now;
    kept.job().unwrap();
    assert_eq!(kept.now, begin);
    // what did not pass the check is as good as none
    let mut kept = Kept::with(matter(), Some(Outcome::Failed("expired".into())));
    assert_eq!(kept.answers(), []);
}

#[test]
fn a_clock_that_is_set_back_by_years_and_forth_again_does_no_harm() {
    let mut kept = Kept::new(matter());
    kept.attempt(|now| found(b"proof", now, now + 4 * DAY));
    let right = kept.now;
    kept.now = right - 1000 * DAY;
    assert!(kept.engine.next(kept.now).is_none());
    let begin = kept.now;
    kept.attempt(|_| Outcome::Failed("not valid before".into()));
    assert!(kept.now.duration_since(begin).unwrap() <= Duration::from_secs(60));
    for _ in 0..20 {
        let before = kept.now;
        kept.attempt(|_| Outcome::Failed("not valid before".into()));
        assert!(kept.now.duration_since(before).unwrap() <= MAX_PAUSE);
    }
    kept.now = right + HOUR;
    kept.answers();
    assert!(kept.attempt(|now| found(b"fresh", now, now + 4 * DAY)).is_some());
}

#[test]
fn a_list_that_the_disk_has_is_not_kept_in_memory_and_is_fetched_again_if_the_disk_loses_it() {
    let mut kept = Kept::new(list());
    let der = kept.attempt(|now| found(b"list", now, now + 4 * DAY)).unwrap();
    assert_eq!(kept.answers(), [told(1, b"list")]);
    // until it is written it is told from memory
    kept.want(2, list(), None);
    assert_eq!(kept.answers(), [told(2, b"list")]);
    kept.engine.stored(KEY, &der);
    kept.want(3, list(), None);
    let news = kept.engine.news();
    assert!(news.iter().any(|news| news.to == [3] && news.what == Tidings::Stored(Kind::List)), "{news:?}");
    assert_eq!(Arc::strong_count(&der), 1, "the engine has let go of it");
    kept.engine.lost(KEY, kept.now);
    let begin = kept.now;
    kept.attempt(|now| found(b"list", now, now + 4 * DAY));
    assert_eq!(kept.now, begin);
}

#[test]
fn a_list_that_comes_again_unchanged_is_told_to_nobody_and_its_file_only_becomes_younger() {
    let now = SystemTime::now();
    let (since, until) = (now - HOUR, now + 4 * DAY);
    let mut kept = Kept::new(list());
    let der = kept.attempt(|_| found(b"list", since, until)).unwrap();
    kept.engine.stored(KEY, &der);
    // One that an earlier run has left is known, too.
    for mut kept in [kept, Kept::with(list(), Some(found(b"list", since, until)))] {
        kept.answers();
        for _ in 0..3 {
            let again = kept.attempt(|_| found(b"list", since, until)).expect("the store hears of it");
            assert_eq!((&*again, kept.answers()), (&b"list"[..], vec![]));
            kept.engine.stored(KEY, &again);
            assert_eq!(Arc::strong_count(&again), 1, "the engine has let go of it");
        }
        kept.want(2, list(), None);
        assert!(kept.engine.news().iter().any(|news| news.what == Tidings::Stored(Kind::List)));
        assert!(kept.attempt(|now| found(b"next", now, now + 8 * DAY)).is_some());
        assert_eq!(kept.answers(), [(vec![1, 2], b"next".to_vec())]);
    }
}

#[test]
fn a_proof_that_lives_for_seconds_is_not_asked_for_in_a_tight_loop() {
    let mut kept = Kept::new(matter());
    for _ in 0..50 {
        let before = kept.now;
        kept.attempt(|now| found(b"brief", now, now + Duration::from_secs(1)));
        assert!(kept.now == before || kept.now >= before + MIN_WAIT);
    }
}

#[test]
fn a_reason_that_a_responder_makes_long_is_cut() {
    let mut kept = Kept::new(matter());
    kept.attempt(|_| Outcome::Failed("ä".repeat(100_000)));
    assert_eq!(kept.report().last_error.len(), 512);
}
