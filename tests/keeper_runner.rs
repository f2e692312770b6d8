//! The keeper at work in this process: real connections on loopback, real files, threads; the clock is ours, so that days
//! pass at once. With openssl's own responder too.
#![cfg(ocsp_stapling)]

#[path = "support/ca.rs"]
mod ca;
#[path = "support/lists.rs"]
mod lists;
#[path = "support/long.rs"]
mod long;
#[path = "support/openssl.rs"]
mod openssl;
#[path = "support/responder.rs"]
mod responder;

use ca::{DAY, ProofSpec, Status, ca, good, try_later};
use openssl::Openssl;
use oxim::ocsp::fetch::{DEADLINE, proxy_of};
use oxim::ocsp::keeper::{Event, Holder, MAX_FOR_EACH, News, Runner, Settings, Tidings};
use oxim::ocsp::registry::{Key, Report, Wanted, WantedList};
use oxim::ocsp::store::{Kind, Store};
use responder::{Mode, Responder};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime};

const HOUR: u64 = 3600;
/// The authority's certificates under `inter`.
const ALL: [&str; 7] = ["leaf", "staple", "other", "pointed", "delegate", "brief", "powerless"];

/// A runner, and what it told.
struct Kept {
    runner: Option<Runner>,
    told: Arc<(Mutex<Vec<Event>>, Condvar)>,
    /// Seconds that the clock is ahead.
    ahead: Arc<AtomicU64>,
}

impl Kept {
    fn new(store: Option<&Path>) -> Self {
        Self::with(store, None)
    }

    fn with(store: Option<&Path>, proxy: Option<&str>) -> Self {
        let told: Arc<(Mutex<Vec<Event>>, Condvar)> = Arc::default();
        let ahead = Arc::new(AtomicU64::new(0));
        let (telling, clock) = (told.clone(), ahead.clone());
        let settings = Settings {
            counters: Arc::default(),
            proxy: proxy_of(proxy).unwrap(),
            store: store.map(|directory| Store::open(directory).unwrap()),
            deadline: DEADLINE,
            now: Arc::new(move || SystemTime::now() + Duration::from_secs(clock.load(Ordering::SeqCst))),
        };
        let tell = move |event| {
            telling.0.lock().unwrap().push(event);
            telling.1.notify_all();
        };
        Self { runner: Some(Runner::start(settings, tell).unwrap()), told, ahead }
    }

    fn runner(&self) -> &Runner {
        self.runner.as_ref().unwrap()
    }

    fn want(&self, holder: Holder, name: &str, responder: Option<String>) -> Key {
        let (key, wanted) =
            Wanted::new(&ca().certificate(name), &ca().certificate("inter"), responder).unwrap();
        self.runner().want(holder, key, &wanted);
        key
    }

    fn pass(&self, seconds: u64) {
        self.ahead.fetch_add(seconds, Ordering::SeqCst);
        self.runner().look();
    }

    /// Waits until what was told gives something, and takes what was told up to there.
    fn wait<T>(&self, what: &str, mut seek: impl FnMut(&Event) -> Option<T>) -> T {
        let end = Instant::now() + Duration::from_secs(60);
        let mut told = self.told.0.lock().unwrap();
        loop {
            if let Some((at, found)) =
                told.iter().enumerate().find_map(|(at, event)| seek(event).map(|found| (at, found)))
            {
                let later = told.split_off(at + 1);
                told.pop();
                // the disk is at its own pace: its news may come before or after the engine's
                told.retain(|event| matches!(event, Event::Store(_)));
                told.extend(later);
                return found;
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited for {what}; told: {told:?}");
            told = self.told.1.wait_timeout(told, left).unwrap().0;
        }
    }

    fn answer(&self, wanted: Key) -> Vec<u8> {
        self.wait("an answer", |event| match event {
            Event::News(News { key, what: Tidings::Answer(_, der), .. }) if *key == wanted => {
                Some(der.to_vec())
            }
            _ => None,
        })
    }

    /// A report of an attempt.
    fn report(&self, wanted: Key) -> Report {
        self.wait("a report", |event| match event {
            Event::News(News { key, what: Tidings::Report(report), .. })
                if *key == wanted && report.successes + report.failures > 0 =>
            {
                Some(report.clone())
            }
            _ => None,
        })
    }

    fn store_news(&self) -> Option<String> {
        self.wait("news of the store", |event| match event {
            Event::Store(news) => Some(news.clone()),
            Event::News(_) => None,
        })
    }
}

fn until(what: &str, is: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is() {
        assert!(Instant::now() < end, "waited for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn file(directory: &Path, key: Key, kind: Kind) -> Option<Vec<u8>> {
    fs::read(directory.join(format!("{key}.{}", kind.suffix()))).ok()
}

#[test]
fn a_proof_is_fetched_told_stored_and_served_after_a_start_while_the_responder_is_down() {
    let directory = tempfile::tempdir().unwrap();
    let proof = ca().proof(&good("leaf"));
    let responder = Responder::start(Mode::Answer(proof.clone()));
    let mut kept = Kept::new(Some(directory.path()));
    let key = kept.want(1, "leaf", Some(responder.url()));
    assert_eq!(kept.answer(key), proof);
    let report = kept.report(key);
    assert_eq!((report.successes, report.failures, report.source), (1, 0, responder.url()));
    until("the file", || file(directory.path(), key, Kind::Proof).as_ref() == Some(&proof));
    kept.runner = None;

    responder.down();
    let kept = Kept::new(Some(directory.path()));
    assert_eq!(kept.want(1, "leaf", Some(responder.url())), key);
    assert_eq!(kept.answer(key), proof);
    // past half of its life the responder is asked, and the failure told; the answer stays
    kept.pass(13 * HOUR);
    let report = kept.report(key);
    assert_eq!((report.successes, report.failures), (0, 1));
    assert!(report.last_error.starts_with("cannot connect to"), "{}", report.last_error);
    responder.up();
    let next = ca().proof(&ProofSpec { next_update: Some(3 * DAY), ..good("leaf") });
    responder.set(Mode::Answer(next.clone()));
    kept.pass(60);
    assert_eq!(kept.answer(key), next);
    until("the file", || file(directory.path(), key, Kind::Proof).as_ref() == Some(&next));
}

#[test]
fn what_lies_in_the_store_is_checked_again_and_never_given_to_another_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let responder = Responder::start(Mode::Answer(try_later()));
    let kept = Kept::new(Some(directory.path()));
    let (leaf, inter) = (ca().certificate("leaf"), ca().certificate("inter"));
    let key = Key::of(&leaf, &inter).unwrap();
    let path = directory.path().join(format!("{key}.ocsp"));
    for bytes in [
        ca().proof(&good("other")),
        ca().proof(&ProofSpec { broken: true, ..good("leaf") }),
        ca().proof(&ProofSpec { next_update: Some(-60), ..good("leaf") }),
        b"rubbish".to_vec(),
        Vec::new(),
    ] {
        fs::write(&path, bytes).unwrap();
        kept.want(1, "leaf", Some(responder.url()));
        let asked = kept.report(key);
        assert_eq!((asked.successes, asked.failures), (0, 1));
        kept.runner().forget(1, key);
    }
    let told = kept.told.0.lock().unwrap();
    let answers =
        told.iter().filter(|event| matches!(event, Event::News(News { what: Tidings::Answer(..), .. })));
    assert_eq!(answers.count(), 0);
}

#[test]
fn a_disk_that_fails_loses_no_proof_and_is_told_once() {
    let directory = tempfile::tempdir().unwrap();
    let (place, elsewhere) = (directory.path().join("ocsp"), directory.path().join("elsewhere"));
    fs::create_dir(&place).unwrap();
    let responder = Responder::start(Mode::Answer(ca().proof(&good("leaf"))));
    let kept = Kept::new(Some(&place));
    fs::rename(&place, &elsewhere).unwrap();
    let leaf = kept.want(1, "leaf", Some(responder.url()));
    assert_eq!(kept.answer(leaf), ca_answer(&responder));
    let trouble = kept.store_news().expect("trouble");
    assert!(trouble.starts_with(&format!("{}: No such file", place.display())), "{trouble}");
    responder.set(Mode::Answer(ca().proof(&good("other"))));
    let other = kept.want(1, "other", Some(responder.url()));
    assert_eq!(kept.answer(other), ca_answer(&responder));
    // who comes later is told from memory
    kept.want(2, "leaf", Some(responder.url()));
    kept.answer(leaf);
    fs::rename(&elsewhere, &place).unwrap();
    // the second may still be on its way to the disk
    until("both files", || {
        kept.pass(61);
        std::thread::sleep(Duration::from_millis(100));
        [leaf, other].iter().all(|key| file(&place, *key, Kind::Proof).is_some())
    });
    assert_eq!(kept.store_news(), None, "trouble is told once, and that it is over");
}

/// What the responder answers with now.
fn ca_answer(responder: &Responder) -> Vec<u8> {
    match responder.mode() {
        Mode::Answer(bytes) => bytes,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_revocation_takes_the_place_of_the_proof_on_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let responder = Responder::start(Mode::Answer(ca().proof(&good("leaf"))));
    let kept = Kept::new(Some(directory.path()));
    let key = kept.want(1, "leaf", Some(responder.url()));
    kept.answer(key);
    let revoked = ca().proof(&ProofSpec { status: Status::Revoked, ..good("leaf") });
    responder.set(Mode::Answer(revoked.clone()));
    kept.pass(13 * HOUR);
    assert_eq!(kept.answer(key), revoked);
    until("the file", || file(directory.path(), key, Kind::Proof).as_ref() == Some(&revoked));
}

#[test]
fn two_questions_at_once_are_the_most_for_a_responder_and_one_that_hangs_delays_no_other() {
    let hanging = Responder::start(Mode::Silent);
    let late = Responder::start(Mode::Late(Duration::from_millis(300), try_later()));
    let quick = Responder::start(Mode::Answer(ca().proof(&good("leaf"))));
    let (at_hanging, at_late) = (Kept::new(None), Kept::new(None));
    let begin = Instant::now();
    for name in ALL {
        at_hanging.want(1, name, Some(hanging.url()));
        at_late.want(1, name, Some(late.url()));
    }
    // the same keeper asks others meanwhile
    let key = at_hanging.want(1, "leaf", Some(quick.url()));
    at_hanging.answer(key);
    assert!(begin.elapsed() < DEADLINE / 2, "a responder that hangs held up another");
    until("two questions", || hanging.asked() == MAX_FOR_EACH);
    until("all answers", || late.asked() == ALL.len());
    assert_eq!((late.most_at_once(), hanging.asked()), (MAX_FOR_EACH, MAX_FOR_EACH));
}

#[test]
fn the_configured_responder_wins_over_the_certificates_own() {
    let named = Responder::start(Mode::Answer(try_later()));
    ca().issue("naming", "inter", &format!("authorityInfoAccess=OCSP;URI:{}", named.url()));
    let configured = Responder::start(Mode::Answer(try_later()));
    let kept = Kept::new(None);
    let key = kept.want(1, "naming", None);
    assert_eq!(kept.report(key).source, named.url());
    kept.want(1, "naming", Some(configured.url()));
    let source = kept.wait("the other", |event| match event {
        Event::News(News { what: Tidings::Report(report), .. }) if report.failures == 2 => {
            Some(report.source.clone())
        }
        _ => None,
    });
    assert_eq!(source, configured.url());
    assert_eq!((named.asked(), configured.asked()), (1, 1));
}

#[test]
fn a_long_question_goes_by_post_over_a_proxy_it_names_the_whole_url_and_ipv6_is_spoken() {
    let six = Responder::start_on("[::1]:0", Mode::Answer(try_later()));
    let proxy = Responder::start(Mode::Answer(ca().proof(&good("leaf"))));
    let direct = Kept::new(None);
    let key = direct.want(1, "leaf", Some(six.url()));
    assert!(direct.report(key).last_error.contains("tryLater"));
    let long = format!("{}{}", six.url(), "x".repeat(200));
    direct.want(1, "leaf", Some(long));
    until("the long question", || six.asked() == 2);
    let heads: Vec<String> =
        six.questions().iter().map(|question| String::from_utf8_lossy(question).into_owned()).collect();
    assert!(heads[0].starts_with("GET /ME") && heads[0].contains("\r\nHost: [::1]:"), "{heads:?}");
    assert!(heads[1].starts_with("POST /xxx") && heads[1].contains("Content-Length: "), "{heads:?}");

    let over_proxy = Kept::with(None, Some(&proxy.url()));
    let key = over_proxy.want(1, "leaf", Some("http://ocsp.invalid/path".into()));
    over_proxy.answer(key);
    let question = proxy.questions().remove(0);
    assert!(
        question.starts_with(b"GET http://ocsp.invalid/path/ME"),
        "{}",
        String::from_utf8_lossy(&question)
    );
}

#[test]
fn a_revocation_list_is_fetched_checked_stored_and_told_from_the_disk_to_who_comes_later() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = lists::list_of_inter(&["other"]).der();
    let server = Responder::start(Mode::Chunked(bytes.clone()));
    let kept = Kept::new(Some(directory.path()));
    let url = format!("{}inter.crl", server.url());
    let (key, list) = WantedList::new(&ca().certificate("inter"), &url).unwrap();
    kept.runner().want_list(1, key, &list);
    assert_eq!(kept.answer(key), bytes);
    assert!(server.questions()[0].starts_with(b"GET /inter.crl HTTP/1.0\r\n"));
    until("the file", || file(directory.path(), key, Kind::List).as_ref() == Some(&bytes));
    kept.report(key);
    kept.runner().want_list(2, key, &list);
    assert_eq!(kept.answer(key), bytes);
    assert_eq!(server.asked(), 1);
    // the disk loses it
    fs::remove_file(directory.path().join(format!("{key}.crl"))).unwrap();
    // that it is on the disk is noted a moment after it is there; up to then it is told from memory
    until("the question", || {
        kept.runner().want_list(3, key, &list);
        std::thread::sleep(Duration::from_millis(20));
        server.asked() == 2
    });
    assert_eq!(kept.answer(key), bytes);
    // a list of somebody else is of no use
    server.set(Mode::Answer(lists::list_of_root(&[]).der()));
    kept.pass(13 * HOUR);
    let failed = kept.wait("a failure", |event| match event {
        Event::News(News { what: Tidings::Report(report), .. }) if report.failures > 0 => {
            Some(report.last_error.clone())
        }
        _ => None,
    });
    assert_eq!(failed, "the list is not used: of another issuer");
}

#[test]
fn a_key_that_is_not_the_certificates_is_refused() {
    let kept = Kept::new(None);
    let (_, wanted) =
        Wanted::new(&ca().certificate("leaf"), &ca().certificate("inter"), Some("http://h/".into())).unwrap();
    let refused = |event: &Event| match event {
        Event::News(News { what: Tidings::Report(report), .. }) => Some(report.last_error.clone()),
        _ => None,
    };
    kept.runner().want(1, Key([1; 32]), &wanted);
    assert_eq!(kept.wait("a refusal", refused), "the key is not the certificate's");
    let wrong = Wanted { issuer: ca().certificate("rogue").der().unwrap(), ..wanted };
    kept.runner().want(1, Key([1; 32]), &wrong);
    assert!(kept.wait("a refusal", refused).contains("issuer's certificate is not the one that signed"));
}

/// It knows all of [`ALL`], and `other` is revoked.
fn openssls_responder() -> Openssl {
    let serials = ALL.map(|name| (ca().certificate(name).serial().unwrap(), name == "other"));
    Openssl::start(serials)
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn openssls_responder_is_asked_many_times_and_every_answer_is_understood() {
    let openssl = openssls_responder();
    let kept = Kept::new(None);
    let rounds = long::short_or_long(20, 1000);
    let (mut good, mut revoked) = (0, 0);
    let before = descriptors();
    for round in 0..rounds {
        let name = ALL[round % ALL.len()];
        // forgotten and wanted again, it is due at once
        let key = kept.want(1, name, Some(openssl.url.clone()));
        let answer = kept.answer(key);
        let report = kept.report(key);
        assert_eq!((report.successes, report.failures), (1, 0), "{}", report.last_error);
        let subject = oxim::ocsp::Subject::new(&ca().certificate(name), ca().certificate("inter")).unwrap();
        match oxim::ocsp::Proof::check(&answer, &subject, SystemTime::now()) {
            Ok(_) => good += 1,
            Err(unfit) => {
                assert!(unfit.is_revoked() && name == "other", "{name}: {unfit}");
                revoked += 1;
            }
        }
        kept.runner().forget(1, key);
    }
    let of_other = (0..rounds).filter(|round| ALL[round % ALL.len()] == "other").count();
    assert_eq!((good, revoked), (rounds - of_other, of_other));
    println!("{rounds} cycles: {good} good, {revoked} revoked");
    // other tests of this binary have some of theirs
    assert!(descriptors() < before + 100, "{before} descriptors before, {} after", descriptors());
}
