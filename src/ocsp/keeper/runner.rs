//! Drives the engine: real time, one short thread for each question (so at most 64), the store.
//!
//! One thread plans and tells the news, in the engine's order; it sleeps until something is due or happens, and looks at
//! the clock once a minute in any case, since clocks are set and machines sleep. Another writes to the disk, one file after
//! the other. What could not be written is handed on all the same, and written later.

use super::engine::{Engine, Holder, Job, News, Tidings};
use super::matter::{Matter, Outcome};
use crate::metrics::{Counter, Counters};
use crate::ocsp::http::Url;
use crate::ocsp::registry::{Key, Wanted, WantedList};
use crate::ocsp::store::{Kind, Store};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

/// Longest sleep.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// How often what could not be written is tried again.
const SAVE_AGAIN: Duration = Duration::from_secs(60);
/// How long what has come is still written at the end.
const LAST_WRITES: Duration = Duration::from_secs(3);
/// How often the store is swept.
const SWEEP: Duration = Duration::from_secs(6 * 3600);
/// Stack of a thread that asks: it parses small things, and there may be 64 of them.
const STACK: usize = 512 * 1024;

/// What the runner needs of its surroundings.
pub struct Settings {
    /// `http_proxy`
    pub proxy: Option<Url>,
    /// Where to leave what was found; without one everything is asked for anew after a start.
    pub store: Option<Store>,
    /// How long one question may take in all ([`crate::ocsp::fetch::DEADLINE`]).
    pub deadline: Duration,
    /// The clock.
    pub now: Arc<dyn Fn() -> SystemTime + Send + Sync>,
    /// Attempts are counted here.
    pub counters: Arc<Counters>,
}

/// What the runner tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// News of the engine; [`Tidings::Stored`] is never among them, the list itself is.
    News(News),
    /// The store fails, for this reason, or works again; told once for each change.
    Store(Option<String>),
}

/// The keeper at work; it ends when this is dropped (questions that are under way end by their deadline).
pub struct Runner {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    settings: Settings,
    state: Mutex<State>,
    /// Something has happened.
    bell: Condvar,
    /// There is something to write.
    disk: Condvar,
}

/// Something that the disk does not have yet.
struct Unsaved {
    kind: Kind,
    der: Arc<[u8]>,
    /// It could not be written, and waits for the next try; or it is being written.
    tried: bool,
}

struct State {
    engine: Engine,
    /// What the disk does not have yet: of each thing the newest.
    unsaved: HashMap<Key, Unsaved>,
    /// It has been told that the disk fails.
    store_fails: bool,
    store_news: Vec<Option<String>>,
    rung: bool,
    /// Since when it is to end.
    stop: Option<Instant>,
}

impl Runner {
    /// Starts. `tell` is called by one thread, in order; it must not wait for long.
    pub fn start(settings: Settings, tell: impl Fn(Event) + Send + 'static) -> io::Result<Self> {
        let random = RandomState::new();
        let mut count = 0_u64;
        let engine = Engine::new(move || {
            count += 1;
            random.hash_one(count) as u32
        });
        let state = State {
            engine,
            unsaved: HashMap::new(),
            store_fails: false,
            store_news: Vec::new(),
            rung: false,
            stop: None,
        };
        let shared = Arc::new(Shared {
            settings,
            state: Mutex::new(state),
            bell: Condvar::new(),
            disk: Condvar::new(),
        });
        let mut runner = Self { shared: Arc::clone(&shared), threads: Vec::new() };
        let named = |name: &str| std::thread::Builder::new().name(name.into());
        let writer = Arc::clone(&shared);
        runner.threads.push(named("keeper-disk").spawn(move || writer.write())?);
        runner.threads.push(named("keeper").spawn(move || Shared::plan(&shared, &tell))?);
        Ok(runner)
    }

    /// Looks after a certificate for this holder.
    pub fn want(&self, holder: Holder, key: Key, wanted: &Wanted) {
        let matter = Matter::of_certificate(wanted).and_then(|(own, matter)| match own == key {
            true => Ok(matter),
            false => Err("the key is not the certificate's".to_owned()),
        });
        self.want_matter(holder, key, matter);
    }

    /// Looks after a revocation list for this holder.
    pub fn want_list(&self, holder: Holder, key: Key, list: &WantedList) {
        let matter = Matter::of_list(list).and_then(|(own, matter)| match own == key {
            true => Ok(matter),
            false => Err("the key is not the list's".to_owned()),
        });
        self.want_matter(holder, key, matter);
    }

    fn want_matter(&self, holder: Holder, key: Key, matter: Result<Matter, String>) {
        let now = (self.shared.settings.now)();
        let matter = match matter {
            Ok(matter) => matter,
            Err(why) => {
                self.shared.lock().engine.refuse(holder, key, why);
                return self.shared.ring();
            }
        };
        // read and checked before the lock is taken
        let stored = match self.shared.lock().engine.knows(key) {
            true => None,
            false => self.shared.load(key, &matter),
        };
        let stored = stored.map(|bytes| matter.check(bytes.into(), now));
        self.shared.lock().engine.want(holder, key, matter, stored, now);
        self.shared.ring();
    }

    /// This holder does not want it any more.
    pub fn forget(&self, holder: Holder, key: Key) {
        self.shared.lock().engine.forget(holder, key);
        self.shared.ring();
    }

    /// This holder is gone, with all that it wanted.
    pub fn gone(&self, holder: Holder) {
        self.shared.lock().engine.gone(holder);
        self.shared.ring();
    }

    /// Looks at the clock now.
    pub fn look(&self) {
        self.shared.ring();
    }

    /// Its threads are alive; after a fault in one nothing is planned, or stored, any more.
    pub fn is_at_work(&self) -> bool {
        !self.threads.iter().any(JoinHandle::is_finished)
    }

    /// How many questions are under way.
    pub fn running(&self) -> usize {
        self.shared.lock().engine.running()
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.shared.lock().stop = Some(Instant::now());
        self.shared.ring();
        self.shared.disk.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join(); // its panic has been told
        }
    }
}

impl Shared {
    fn count(&self, kind: Kind, outcome: &Outcome) {
        self.settings.counters.count(match (kind, outcome) {
            (Kind::Proof, Outcome::Failed(_)) => Counter::ProofsNotFetched,
            (Kind::Proof, _) => Counter::ProofsFetched,
            (Kind::List, Outcome::Failed(_)) => Counter::ListsNotFetched,
            (Kind::List, _) => Counter::ListsFetched,
        });
    }

    /// A panic leaves what is locked as it was but for one item: each change is one call of the engine.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        self.lock().rung = true;
        self.bell.notify_all();
    }

    fn plan(self: &Arc<Self>, tell: &dyn Fn(Event)) {
        let begin = (self.settings.now)();
        let (mut saved_again, mut swept) = (begin, begin);
        loop {
            let news = {
                let mut state = self.lock();
                if state.stop.is_some() {
                    return;
                }
                state.rung = false;
                self.start_due(&mut state);
                let store_news = std::mem::take(&mut state.store_news).into_iter().map(Event::Store);
                store_news.chain(state.engine.news().into_iter().map(Event::News)).collect::<Vec<_>>()
            };
            for event in news {
                self.tell(event, tell);
            }
            let now = (self.settings.now)();
            if has_passed(SAVE_AGAIN, saved_again, now) {
                self.save_again();
                saved_again = now;
            }
            if has_passed(SWEEP, swept, now) {
                self.sweep();
                swept = now;
            }
            self.sleep();
        }
    }

    fn start_due(self: &Arc<Self>, state: &mut State) {
        let now = (self.settings.now)();
        while let Some(job) = state.engine.next(now) {
            // the job comes back if no thread can be started
            let place = Arc::new(Mutex::new(Some(job)));
            let (shared, in_thread) = (Arc::clone(self), Arc::clone(&place));
            let thread = std::thread::Builder::new().name("ask".into()).stack_size(STACK);
            let started = thread.spawn(move || {
                let job = in_thread.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(job) = job {
                    shared.ask(job);
                }
            });
            if let Err(error) = started
                && let Some(job) = place.lock().unwrap_or_else(PoisonError::into_inner).take()
            {
                state.engine.done(job, Outcome::Failed(format!("cannot start a thread: {error}")), now);
            }
        }
    }

    fn ask(&self, job: Job) {
        let settings = &self.settings;
        let ask = || job.matter.ask(settings.proxy.as_ref(), settings.deadline, &*settings.now);
        let asked = catch_unwind(AssertUnwindSafe(ask));
        let outcome = asked.unwrap_or_else(|_| Outcome::Failed("a fault in oxim: see standard error".into()));
        self.count(job.matter.kind(), &outcome);
        let key = job.key;
        let mut state = self.lock();
        let new = state.engine.done(job, outcome, (settings.now)());
        if let Some((kind, der)) = new.filter(|_| settings.store.is_some()) {
            state.unsaved.insert(key, Unsaved { kind, der, tried: false });
            self.disk.notify_all();
        }
        drop(state);
        self.ring();
    }

    fn save(&self, key: Key, kind: Kind, der: &Arc<[u8]>) {
        let Some(store) = &self.settings.store else { return };
        let saved = store.save(key, kind, der);
        let mut state = self.lock();
        match saved {
            Ok(()) => {
                // unless there is a newer one by now
                if state.unsaved.get(&key).is_some_and(|unsaved| Arc::ptr_eq(&unsaved.der, der)) {
                    state.unsaved.remove(&key);
                }
                state.engine.stored(key, der);
                if state.store_fails && !state.unsaved.values().any(|unsaved| unsaved.tried) {
                    state.store_fails = false;
                    state.store_news.push(None);
                }
            }
            Err(error) if !state.store_fails => {
                state.store_fails = true;
                state.store_news.push(Some(format!("{}: {error}", store.directory().display())));
            }
            Err(_) => {}
        }
        drop(state);
        self.ring();
    }

    /// Writes what is to be written, one file after the other, so that who asks never waits for the disk. At the end it
    /// writes what has come, for [`LAST_WRITES`] at most.
    fn write(&self) {
        loop {
            let Some((key, kind, der)) = self.next_to_write() else { return };
            self.save(key, kind, &der);
        }
    }

    /// Waits for something to write; none at the end.
    fn next_to_write(&self) -> Option<(Key, Kind, Arc<[u8]>)> {
        let mut state = self.lock();
        loop {
            if state.stop.is_some_and(|since| since.elapsed() > LAST_WRITES) {
                return None;
            }
            if let Some((key, unsaved)) = state.unsaved.iter_mut().find(|(_, unsaved)| !unsaved.tried) {
                unsaved.tried = true;
                return Some((*key, unsaved.kind, Arc::clone(&unsaved.der)));
            }
            if state.stop.is_some() {
                return None;
            }
            state = self.disk.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What the disk did not take; of what nobody wants any more nothing is kept.
    fn save_again(&self) {
        let mut state = self.lock();
        let State { engine, unsaved, .. } = &mut *state;
        unsaved.retain(|key, unsaved| !unsaved.tried || engine.knows(*key));
        unsaved.values_mut().for_each(|unsaved| unsaved.tried = false);
        self.disk.notify_all();
    }

    fn sweep(&self) {
        let Some(store) = &self.settings.store else { return };
        let wanted: std::collections::HashSet<Key> = self.lock().engine.keys().collect();
        match store.sweep(|key| wanted.contains(&key), (self.settings.now)()) {
            Ok(0) => {}
            Ok(count) => log::debug!("removed {count} files from {}", store.directory().display()),
            Err(error) => log::debug!("cannot sweep {}: {error}", store.directory().display()),
        }
    }

    fn load(&self, key: Key, matter: &Matter) -> Option<Vec<u8>> {
        let store = self.settings.store.as_ref()?;
        store.load(key, matter.kind()).unwrap_or_else(|error| {
            log::debug!("cannot read {key} in {}: {error}", store.directory().display());
            None
        })
    }

    fn tell(&self, event: Event, tell: &dyn Fn(Event)) {
        let Event::News(News { to, key, what: Tidings::Stored(kind) }) = event else { return tell(event) };
        let loaded = self.settings.store.as_ref().and_then(|store| store.load(key, kind).ok().flatten());
        match loaded {
            Some(bytes) => tell(Event::News(News { to, key, what: Tidings::Answer(kind, bytes.into()) })),
            None => self.lock().engine.lost(key, (self.settings.now)()),
        }
    }

    fn sleep(&self) {
        let state = self.lock();
        if state.rung || state.stop.is_some() {
            return;
        }
        let now = (self.settings.now)();
        let until = state.engine.wake_at().map(|wake| wake.duration_since(now).unwrap_or_default());
        let sleep = until.unwrap_or(LONGEST_SLEEP).clamp(Duration::from_millis(1), LONGEST_SLEEP);
        let woken = |state: &mut State| !state.rung && state.stop.is_none();
        drop(self.bell.wait_timeout_while(state, sleep, woken).unwrap_or_else(PoisonError::into_inner));
    }
}

/// A clock that was set back passes for time that has gone by.
fn has_passed(time: Duration, since: SystemTime, now: SystemTime) -> bool {
    now.duration_since(since).is_ok_and(|gone| gone >= time) || now < since
}
