//! The thread that looks at the files of a cache, and loads what changed.

use super::files::{Files, Stamp, stamp_of};
use super::{CHECK_INTERVAL, Entry, FileCache, Shared};
use std::collections::HashMap;
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// Between seeing a change and loading: certificate, key and proof are replaced one after the other.
const SETTLE: Duration = Duration::from_millis(50);
/// How often something is loaded that changes while it is loaded. What is still not of one piece then is loaded again
/// when the files are looked at next.
const MAX_TRIES: usize = 4;

/// Name of the thread that watches files.
pub const WATCHER: &str = "tls-files";

/// Loads a value anew; given is the one that was there.
pub type Reload<K, V, E> = dyn Fn(&K, &mut Files, &Arc<V>) -> Result<Arc<V>, E> + Send + Sync;

/// What the thread needs to know of the values.
pub struct Watch<K, V, E> {
    /// Loads one anew.
    pub reload: Box<Reload<K, V, E>>,
    /// Should one be loaded anew although its files are as they were?
    pub outdated: Box<dyn Fn(&V) -> bool + Send + Sync>,
}

impl<K, V, E> FileCache<K, V, E>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// With the first value that is asked for.
    pub(super) fn start_watcher(&self, now: Instant) {
        if self.shared.watch.is_none() {
            return;
        }
        let mut inner = self.shared.lock();
        if inner.watcher.is_none() {
            let cache = Arc::downgrade(&self.shared);
            let thread = thread::Builder::new().name(WATCHER.into()).spawn(move || run(&cache));
            inner.watcher = thread.is_ok().then_some(now);
        }
    }
}

/// Looks twice a second until the cache is gone.
fn run<K: Clone + Eq + Hash, V, E>(cache: &Weak<Shared<K, V, E>>) {
    while let Some(shared) = cache.upgrade() {
        // A panic while loading was reported by its hook; the other values are still to be looked after.
        let done = catch_unwind(AssertUnwindSafe(|| shared.look())).unwrap_or(true);
        drop(shared);
        if done {
            thread::sleep(CHECK_INTERVAL);
        }
    }
}

impl<K: Clone + Eq + Hash, V, E> Shared<K, V, E> {
    /// Looks at all files once and loads what changed, what was used last first. The lock is held for neither: a disk
    /// that does not answer stops this thread and nobody else. False if so many changed that it is time to look again
    /// before all are loaded.
    fn look(&self) -> bool {
        let Some(watch) = &self.watch else { return true };
        let (loaded, failed) = {
            let inner = self.lock();
            (all(&inner.loaded), all(&inner.failed))
        };
        // Many units may have the same authorities: each file is looked at once.
        let mut seen: HashMap<PathBuf, Option<Stamp>> = HashMap::new();
        let mut look = |path: &Path| match seen.get(path) {
            Some(stamp) => *stamp,
            None => *seen.entry(path.to_owned()).or_insert(stamp_of(path)),
        };
        let failed: Vec<_> = failed.into_iter().filter(|one| one.files.changed(&mut look)).collect();
        let mut changed: Vec<_> = loaded
            .into_iter()
            .filter(|one| one.files.changed(&mut look) || (watch.outdated)(&one.value))
            .collect();
        changed.sort_by_key(|one| std::cmp::Reverse(one.used));
        let now = Instant::now();
        let mut inner = self.lock();
        inner.watcher = Some(now);
        mark(&mut inner.failed, &failed, now);
        mark(&mut inner.loaded, &changed, now);
        drop(inner);
        if !changed.is_empty() {
            thread::sleep(SETTLE);
        }
        for one in &changed {
            if now.elapsed() >= CHECK_INTERVAL {
                return false;
            }
            self.load_anew(watch, one);
        }
        true
    }

    fn load_anew(&self, watch: &Watch<K, V, E>, one: &Looked<K, Arc<V>>) {
        let mut inner = self.lock();
        // Was it loaded, or did it make room, meanwhile? Does somebody load it right now?
        let same = inner.loaded.get(&one.key).filter(|entry| Arc::ptr_eq(&entry.files, &one.files));
        let Some(used) = same.map(|entry| entry.used) else { return };
        if !inner.loading.insert(one.key.clone()) {
            return;
        }
        drop(inner);
        let load = |files: &mut Files, _: Option<&Arc<V>>| {
            for _ in 1..MAX_TRIES {
                let mut read = Files::default();
                let result = (watch.reload)(&one.key, &mut read, &one.value);
                if !read.changed(&mut stamp_of) {
                    *files = read;
                    return result;
                }
            }
            (watch.reload)(&one.key, files, &one.value)
        };
        let _ = self.load(&one.key, used, None, load); // remembered
        self.lock().watcher = Some(Instant::now());
    }
}

/// A value as it was when it was looked at.
struct Looked<K, T> {
    key: K,
    value: T,
    files: Arc<Files>,
    used: Instant,
}

fn all<K: Clone, T: Clone>(map: &HashMap<K, Entry<T>>) -> Vec<Looked<K, T>> {
    let one = |(key, entry): (&K, &Entry<T>)| Looked {
        key: key.clone(),
        value: entry.value.clone(),
        files: Arc::clone(&entry.files),
        used: entry.used,
    };
    map.iter().map(one).collect()
}

/// What was loaded anew meanwhile has other files, and stays fresh.
fn mark<K: Eq + Hash, T>(map: &mut HashMap<K, Entry<T>>, changed: &[Looked<K, T>], now: Instant) {
    for one in changed {
        if let Some(entry) = map.get_mut(&one.key).filter(|entry| Arc::ptr_eq(&entry.files, &one.files)) {
            entry.stale.get_or_insert(now);
        }
    }
}
