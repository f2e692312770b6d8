//! Threads that are bounded in number, and whose panics end only what they were doing.

use crate::log::panic_text;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

/// How many threads of one kind run, and how many may.
#[derive(Clone, Debug)]
pub struct Pool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    most: usize,
    running: Mutex<usize>,
    ended: Condvar,
}

/// Holds one place; the place is free again when it is dropped.
#[derive(Debug)]
pub struct Place {
    shared: Arc<Shared>,
}

impl Drop for Place {
    fn drop(&mut self) {
        *self.shared.count() -= 1;
        self.shared.ended.notify_all();
    }
}

impl Shared {
    /// The count is a plain number: a panic elsewhere cannot leave it half changed.
    fn count(&self) -> std::sync::MutexGuard<'_, usize> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool {
    /// At most this many threads at once.
    pub fn new(most: usize) -> Self {
        Self { shared: Arc::new(Shared { most, running: Mutex::new(0), ended: Condvar::new() }) }
    }
    /// A place, if one is free.
    pub fn try_place(&self) -> Option<Place> {
        let mut running = self.shared.count();
        if *running >= self.shared.most {
            return None;
        }
        *running += 1;
        Some(Place { shared: self.shared.clone() })
    }
    /// Waits for a place.
    pub fn place(&self) -> Place {
        let mut running = self.shared.count();
        while *running >= self.shared.most {
            running = self.shared.ended.wait(running).unwrap_or_else(PoisonError::into_inner);
        }
        *running += 1;
        Place { shared: self.shared.clone() }
    }
    /// How many run.
    pub fn running(&self) -> usize {
        *self.shared.count()
    }
    /// Waits until none runs, at most this long; true if none does.
    pub fn wait_idle(&self, longest: Duration) -> bool {
        let end = Instant::now() + longest;
        let mut running = self.shared.count();
        while *running > 0 {
            let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                return false;
            };
            running = match self.shared.ended.wait_timeout(running, left) {
                Ok((running, _)) => running,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        true
    }
}

/// Runs `work` in a new thread that holds `place`. A panic in it goes to `on_panic` as text.
pub fn start(
    place: Place,
    name: &str,
    work: impl FnOnce() + Send + 'static,
    on_panic: impl FnOnce(&str) + Send + 'static,
) -> std::io::Result<()> {
    std::thread::Builder::new().name(name.into()).spawn(move || {
        let _place = place;
        if let Err(cause) = catch_unwind(AssertUnwindSafe(work)) {
            on_panic(&panic_text(&*cause));
        }
    })?;
    Ok(())
}

/// Threads that go on to the next piece of work where there is one: a thread of its own for each connection costs a fifth
/// of a TLS handshake to make and to end.
#[derive(Clone)]
pub struct Crew {
    name: &'static str,
    idle: Arc<Mutex<Vec<Idle>>>,
}

/// One piece of work, with its place and what is done should it panic.
type Work = Box<dyn FnOnce() + Send>;

/// A thread that waits for work.
struct Idle {
    thread: ThreadId,
    work: Sender<Work>,
}

/// Most threads that wait: what a busy host needs from one moment to the next. Beyond it they end.
const MOST_IDLE: usize = 16;
/// How long a thread waits for more work.
const IDLE_TIME: Duration = Duration::from_secs(5);

impl Crew {
    /// Nobody yet; all will have this name.
    pub fn new(name: &'static str) -> Self {
        Self { name, idle: Arc::default() }
    }

    /// As [`start`], by a thread that waits or by a new one.
    pub fn start(
        &self,
        place: Place,
        work: impl FnOnce() + Send + 'static,
        on_panic: impl FnOnce(&str) + Send + 'static,
    ) -> std::io::Result<()> {
        let work: Work = Box::new(move || {
            let _place = place;
            if let Err(cause) = catch_unwind(AssertUnwindSafe(work)) {
                on_panic(&panic_text(&*cause));
            }
        });
        // Who was taken out of the list waits until something comes.
        let latest = self.list().pop();
        let work = match latest {
            None => work,
            Some(idle) => match idle.work.send(work) {
                Ok(()) => return Ok(()),
                Err(refused) => refused.0,
            },
        };
        let crew = self.clone();
        std::thread::Builder::new().name(self.name.into()).spawn(move || crew.serve(work))?;
        Ok(())
    }

    /// A thread's life.
    fn serve(&self, first: Work) {
        let (sender, receiver) = channel();
        let own = std::thread::current().id();
        let mut work = first;
        loop {
            // a panic of `on_panic` ends this thread, as it would one of its own
            work();
            {
                let mut idle = self.list();
                if idle.len() >= MOST_IDLE {
                    return;
                }
                idle.push(Idle { thread: own, work: sender.clone() });
            }
            work = match receiver.recv_timeout(IDLE_TIME) {
                Ok(next) => next,
                Err(_) if self.leave(own) => return,
                // taken out of the list at the last moment: it comes
                Err(_) => match receiver.recv() {
                    Ok(next) => next,
                    Err(_) => return,
                },
            };
        }
    }

    /// Takes the thread off the list; false if it is not there.
    fn leave(&self, thread: ThreadId) -> bool {
        let mut idle = self.list();
        let before = idle.len();
        idle.retain(|one| one.thread != thread);
        idle.len() < before
    }

    /// Plain values, changed by code that cannot panic.
    fn list(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts a thread without which this process is of no use: if it ever ends, the process ends, and the master starts
/// it again.
pub fn start_vital(
    name: &str,
    work: impl FnOnce() + Send + 'static,
    on_panic: impl FnOnce(&str) + Send + 'static,
) -> std::io::Result<()> {
    /// As Rust's own after a panic in the first thread.
    const PANICKED: i32 = 101;
    std::thread::Builder::new().name(name.into()).spawn(move || {
        if let Err(cause) = catch_unwind(AssertUnwindSafe(work)) {
            let tell = || on_panic(&panic_text(&*cause));
            let _ = catch_unwind(AssertUnwindSafe(tell)); // the end comes either way
            crate::sys::spawn::exit_now(PANICKED);
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    /// Tells the test below that it is the process which is to end.
    const DIES: &str = "OXIM_TEST_VITAL_THREAD_DIES";

    #[test]
    fn a_process_whose_vital_thread_dies_does_not_linger() {
        if std::env::var_os(DIES).is_some() {
            start_vital("vital", || panic!("broken on purpose"), |text| eprintln!("told: {text}")).unwrap();
            std::thread::sleep(Duration::from_secs(30));
            return;
        }
        let name = "process::thread_pool::tests::a_process_whose_vital_thread_dies_does_not_linger";
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(DIES, "yes")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(101));
        assert!(String::from_utf8_lossy(&output.stderr).contains("told: broken on purpose"));
    }

    #[test]
    fn a_thread_of_a_crew_goes_on_to_the_next_work_even_after_a_panic() {
        let (pool, crew) = (Pool::new(2), Crew::new("crew"));
        let (told, heard) = channel();
        let one = |work: Box<dyn FnOnce() + Send>| {
            let told = told.clone();
            let place = pool.try_place().expect("a place is free again");
            crew.start(place, work, move |text| drop(told.send(text.to_owned()))).unwrap();
        };
        let named = |text: &'static str| {
            let told = told.clone();
            Box::new(move || drop(told.send(format!("{text} {:?}", std::thread::current().id()))))
        };
        let is_idle = || {
            while crew.list().is_empty() {
                std::thread::yield_now()
            }
        };
        one(named("thread"));
        let first = heard.recv().unwrap();
        is_idle();
        one(Box::new(|| panic!("broken on purpose")));
        assert_eq!(heard.recv().unwrap(), "broken on purpose");
        is_idle();
        one(named("thread"));
        assert_eq!(heard.recv().unwrap(), first, "it is the same thread");
        assert!(pool.wait_idle(Duration::from_secs(5)));
    }

    #[test]
    fn work_at_once_has_threads_of_its_own_and_few_of_them_wait_for_more() {
        let (pool, crew) = (Pool::new(100), Crew::new("crew"));
        let barrier = Arc::new(std::sync::Barrier::new(MOST_IDLE * 2));
        for _ in 0..MOST_IDLE * 2 {
            let barrier = barrier.clone();
            crew.start(pool.place(), move || _ = barrier.wait(), |_| {}).unwrap();
        }
        assert!(pool.wait_idle(Duration::from_secs(10)), "all ran at once");
        assert!(crew.list().len() <= MOST_IDLE);
    }

    #[test]
    fn a_panic_frees_its_place_and_is_told() {
        let pool = Pool::new(1);
        let (told, heard) = channel();
        let place = pool.try_place().unwrap();
        assert!(pool.try_place().is_none());
        start(place, "t", || panic!("broken on purpose"), move |text| drop(told.send(text.to_owned())))
            .unwrap();
        assert_eq!(heard.recv().unwrap(), "broken on purpose");
        assert!(pool.wait_idle(Duration::from_secs(5)));
        assert!(pool.try_place().is_some());
    }
}
