//! Drives the engine: real time, one short thread for each question (so at most 64), the store.
//!
//! One thread plans and tells the news, in the engine's order; it sleeps until something is due or happens, and looks at
//! the clock once a minute in any case, since clocks are set and machines sleep. What could not be written to the disk
//! is handed on all the same, and written later.

use super::engine::{Engine, Holder, Job, News, Tidings};
use super::matter::{List, Matter, Outcome};
use crate::metrics::{Counter, Counters};
use crate::ocsp::http::Url;
use crate::ocsp::registry::{Key, Wanted};
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
    planner: Option<JoinHandle<()>>,
}

struct Shared {
    settings: Settings,
    state: Mutex<State>,
    /// Something has happened.
    bell: Condvar,
    /// Two writers of one file take turns.
    saving: Mutex<()>,
}

struct State {
    engine: Engine,
    /// What the disk does not have yet.
    unsaved: HashMap<Key, (Kind, Arc<[u8]>)>,
    /// It has been told that the disk fails.
    store_fails: bool,
    store_news: Vec<Option<String>>,
    rung: bool,
    stop: bool,
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
            stop: false,
        };
        let shared = Arc::new(Shared {
            settings,
            state: Mutex::new(state),
            bell: Condvar::new(),
            saving: Mutex::default(),
        });
        let for_planner = Arc::clone(&shared);
        let planner = std::thread::Builder::new()
            .name("keeper".into())
            .spawn(move || Shared::plan(&for_planner, &tell))?;
        Ok(Self { shared, planner: Some(planner) })
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
    pub fn want_list(&self, holder: Holder, key: Key, list: &List) {
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

    /// How many questions are under way.
    pub fn running(&self) -> usize {
        self.shared.lock().engine.running()
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.ring();
        if let Some(planner) = self.planner.take() {
            let _ = planner.join(); // its panic has been told
        }
    }
}

impl Shared {
    /// A panic leaves what is locked as it was but for one item: each change is one call of the engine.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        self.lock().rung = true;
        self.bell.notify_all();
    }

    fn plan(self: &Arc<Self>, tell: &dyn Fn(Event)) {
        let (mut saved_again, mut swept) = (Instant::now(), Instant::now());
        loop {
            let news = {
                let mut state = self.lock();
                if state.stop {
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
            if saved_again.elapsed() >= SAVE_AGAIN {
                self.save_again();
                saved_again = Instant::now();
            }
            if swept.elapsed() >= SWEEP {
                self.sweep();
                swept = Instant::now();
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
        let new = self.lock().engine.done(job, outcome, (settings.now)());
        self.ring(); // told before it is on the disk
        if let Some((kind, der)) = new {
            self.save(key, kind, &der);
        }
    }

    fn count(&self, kind: Kind, outcome: &Outcome) {
        self.settings.counters.count(match (kind, outcome) {
            (Kind::Proof, Outcome::Failed(_)) => Counter::ProofsNotFetched,
            (Kind::Proof, _) => Counter::ProofsFetched,
            (Kind::List, Outcome::Failed(_)) => Counter::ListsNotFetched,
            (Kind::List, _) => Counter::ListsFetched,
        });
    }

    fn save(&self, key: Key, kind: Kind, der: &Arc<[u8]>) {
        let Some(store) = &self.settings.store else { return };
        let _turn = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        let saved = store.save(key, kind, der);
        let mut state = self.lock();
        match saved {
            Ok(()) => {
                state.unsaved.remove(&key);
                state.engine.stored(key, der);
                if state.unsaved.is_empty() && state.store_fails {
                    state.store_fails = false;
                    state.store_news.push(None);
                }
            }
            Err(error) => {
                state.unsaved.insert(key, (kind, Arc::clone(der)));
                if !state.store_fails {
                    state.store_fails = true;
                    state.store_news.push(Some(format!("{}: {error}", store.directory().display())));
                }
            }
        }
        drop(state);
        self.ring();
    }

    /// What the disk did not take; of what nobody wants any more nothing is kept.
    fn save_again(&self) {
        let unsaved: Vec<_> = {
            let mut state = self.lock();
            let State { engine, unsaved, .. } = &mut *state;
            unsaved.retain(|key, _| engine.knows(*key));
            unsaved.iter().map(|(key, (kind, der))| (*key, *kind, Arc::clone(der))).collect()
        };
        for (key, kind, der) in unsaved {
            self.save(key, kind, &der);
        }
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
        if state.rung || state.stop {
            return;
        }
        let now = (self.settings.now)();
        let until = state.engine.wake_at().map(|wake| wake.duration_since(now).unwrap_or_default());
        let sleep = until.unwrap_or(LONGEST_SLEEP).clamp(Duration::from_millis(1), LONGEST_SLEEP);
        let woken = |state: &mut State| !state.rung && !state.stop;
        drop(self.bell.wait_timeout_while(state, sleep, woken).unwrap_or_else(PoisonError::into_inner));
    }
}
