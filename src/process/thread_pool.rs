//! Threads that are bounded in number, and whose panics end only what they were doing.

use crate::log::panic_text;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
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
