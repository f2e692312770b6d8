//! Things loaded from files, kept until a file changes: bounded, shared, and checked twice a second.
//!
//! What was loaded stays with the sessions that hold it; a changed file is in use within [`CHECK_INTERVAL`] and the time
//! that loading takes.
//!
//! A [watched](FileCache::watched) cache has a thread that looks at the files and loads what changed, so that who asks for
//! a value that is there touches no disk (which may be slow, or a network's). Without it the one who asks looks, at most
//! twice a second: enough for a program that lives shortly.
//!
//! Failures are remembered the same way, in a list of their own, so that names made up by a peer
//! neither cost a load each nor push out what is in use.

mod files;
mod watch;

use files::stamp_of;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use files::Files;
pub use watch::{WATCHER, Watch};

/// A changed file is in use for connections that come this much later.
pub const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// A changed file that the watcher has not come to by then, since many changed at once, is loaded by who asks.
const PATIENCE: Duration = Duration::from_millis(250);
/// Most things kept. A host with more certificates than this still works, and loads some again. Each costs 10 to 20 KiB
/// (`tests/tls_hosts.rs` measures it), so that a thousand virtual hosts stay below 20 MiB.
const MAX_LOADED: usize = 1024;
/// Most failures remembered: names that peers make up.
const MAX_FAILED: usize = 1024;

/// Values by key, each loaded from files.
pub struct FileCache<K, V, E> {
    shared: Arc<Shared<K, V, E>>,
}

struct Shared<K, V, E> {
    inner: Mutex<Inner<K, V, E>>,
    /// A load is over.
    over: Condvar,
    watch: Option<Watch<K, V, E>>,
}

struct Inner<K, V, E> {
    loaded: HashMap<K, Entry<Arc<V>>>,
    failed: HashMap<K, Entry<Arc<E>>>,
    /// Keys that somebody loads right now.
    loading: HashSet<K>,
    /// The thread runs, and made its last step then.
    watcher: Option<Instant>,
}

struct Entry<T> {
    value: T,
    files: Arc<Files>,
    /// The watcher saw a change then.
    stale: Option<Instant>,
    checked: Instant,
    used: Instant,
}

impl<K: Clone + Eq + Hash, V, E> FileCache<K, V, E> {
    /// An empty cache; who asks looks at the files.
    pub fn new() -> Self {
        Self::with(None)
    }

    fn with(watch: Option<Watch<K, V, E>>) -> Self {
        let inner =
            Inner { loaded: HashMap::new(), failed: HashMap::new(), loading: HashSet::new(), watcher: None };
        Self { shared: Arc::new(Shared { inner: Mutex::new(inner), over: Condvar::new(), watch }) }
    }

    /// All values that are held.
    pub fn values(&self) -> Vec<Arc<V>> {
        self.shared.lock().loaded.values().map(|entry| Arc::clone(&entry.value)).collect()
    }

    /// All failures that are held and may still be true, those that were met last first. Where there is a watcher it has
    /// seen changes of their files; else they are looked at.
    pub fn failures(&self) -> Vec<Arc<E>> {
        let mut failed: Vec<_> = {
            let inner = self.shared.lock();
            let fresh = inner.failed.values().filter(|entry| entry.stale.is_none());
            fresh.map(|entry| (entry.used, Arc::clone(&entry.value), Arc::clone(&entry.files))).collect()
        };
        failed.sort_by_key(|(used, ..)| std::cmp::Reverse(*used));
        let is_watched = self.shared.watch.is_some();
        let holds = |files: &Files| is_watched || !files.changed(&mut stamp_of);
        failed.into_iter().filter(|(.., files)| holds(files)).map(|(_, error, _)| error).collect()
    }

    /// How many values and failures are held.
    pub fn sizes(&self) -> (usize, usize) {
        let inner = self.shared.lock();
        (inner.loaded.len(), inner.failed.len())
    }
}

impl<K, V, E> FileCache<K, V, E>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// An empty cache with a thread that looks at the files and loads what changed; it ends with the cache. Should there be
    /// no thread to be had, who asks looks, as in a cache without.
    pub fn watched(watch: Watch<K, V, E>) -> Self {
        Self::with(Some(watch))
    }

    /// The value for `key`; `load` is called if there is none or its files changed, with the value that was there
    /// before. Who asks for the same meanwhile waits, so that a new file is loaded once.
    pub fn get(
        &self,
        key: &K,
        now: Instant,
        load: impl FnOnce(&mut Files, Option<&Arc<V>>) -> Result<Arc<V>, E>,
    ) -> Result<Arc<V>, Arc<E>> {
        self.start_watcher(now);
        let mut inner = self.shared.lock();
        let before = loop {
            if let Some(known) = inner.known(key, now) {
                return known;
            }
            if inner.loading.insert(key.clone()) {
                break inner.loaded.get(key).map(|entry| Arc::clone(&entry.value));
            }
            inner = self.shared.over.wait(inner).unwrap_or_else(PoisonError::into_inner);
        };
        drop(inner);
        self.shared.load(key, now, before.as_ref(), load)
    }
}

impl<K: Clone + Eq + Hash, V, E> Shared<K, V, E> {
    /// Loads without holding the lock: a slow disk stops who waits for this value and nobody else. The key has been put
    /// into `loading`.
    fn load(
        &self,
        key: &K,
        now: Instant,
        before: Option<&Arc<V>>,
        load: impl FnOnce(&mut Files, Option<&Arc<V>>) -> Result<Arc<V>, E>,
    ) -> Result<Arc<V>, Arc<E>> {
        let turn = Turn { shared: self, key };
        let former = {
            let inner = self.lock();
            inner.loaded.get(key).map(|entry| (Arc::clone(&entry.value), Arc::clone(&entry.files)))
        };
        let mut files = Files::default();
        let result = load(&mut files, before).map_err(Arc::new);
        // What goes on in place of something unusable is still made of the files it was made of.
        if let (Ok(value), Some((former, former_files))) = (&result, &former)
            && Arc::ptr_eq(value, former)
        {
            files.watch_also(former_files);
        }
        let mut inner = self.lock();
        match &result {
            Ok(value) => {
                inner.failed.remove(key);
                keep(&mut inner.loaded, key, Arc::clone(value), files, now, MAX_LOADED);
            }
            Err(error) => {
                inner.loaded.remove(key);
                keep(&mut inner.failed, key, Arc::clone(error), files, now, MAX_FAILED);
            }
        }
        drop(inner);
        drop(turn);
        result
    }

    /// A panic while loading leaves the maps as they were: each change of them is one step.
    fn lock(&self) -> MutexGuard<'_, Inner<K, V, E>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody loads this; over on every way out, a panic included.
struct Turn<'a, K: Clone + Eq + Hash, V, E> {
    shared: &'a Shared<K, V, E>,
    key: &'a K,
}

impl<K: Clone + Eq + Hash, V, E> Drop for Turn<'_, K, V, E> {
    fn drop(&mut self) {
        self.shared.lock().loading.remove(self.key);
        self.shared.over.notify_all();
    }
}

impl<K: Clone + Eq + Hash, V, E> Inner<K, V, E> {
    /// What is known, if it need not be loaded.
    fn known(&mut self, key: &K, now: Instant) -> Option<Result<Arc<V>, Arc<E>>> {
        let (watcher, is_loading) = (self.watcher, self.loading.contains(key));
        if let Some(entry) = self.loaded.get_mut(key) {
            // The watcher is about to load it anew; only if it comes behind with that is it done here. One that
            // stands still waits for a disk, and nobody else should; nor for somebody who loads it already.
            let behind = |since: Instant, beat: Instant| {
                let longer = |then: Instant, time| now.saturating_duration_since(then) >= time;
                longer(since, PATIENCE) && !longer(beat, CHECK_INTERVAL)
            };
            let in_hand = match (entry.stale, watcher) {
                (Some(since), Some(beat)) => is_loading || !behind(since, beat),
                _ => entry.is_fresh(now, watcher.is_some()),
            };
            if !in_hand {
                return None;
            }
            entry.used = now;
            return Some(Ok(Arc::clone(&entry.value)));
        }
        let entry = self.failed.get_mut(key)?;
        if !entry.is_fresh(now, watcher.is_some()) {
            return None;
        }
        entry.used = now;
        Some(Err(Arc::clone(&entry.value)))
    }
}

impl<T> Entry<T> {
    fn is_fresh(&mut self, now: Instant, watched: bool) -> bool {
        if self.stale.is_some() {
            return false;
        }
        if !watched && now.saturating_duration_since(self.checked) >= CHECK_INTERVAL {
            if self.files.changed(&mut stamp_of) {
                return false;
            }
            self.checked = now;
        }
        true
    }
}

impl<K, V, E> Default for FileCache<K, V, E>
where
    K: Clone + Eq + Hash,
{
    fn default() -> Self {
        Self::new()
    }
}

fn keep<K: Clone + Eq + Hash, T>(
    map: &mut HashMap<K, Entry<T>>,
    key: &K,
    value: T,
    files: Files,
    now: Instant,
    limit: usize,
) {
    if map.len() >= limit && !map.contains_key(key) {
        let oldest = map.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| key.clone());
        oldest.and_then(|oldest| map.remove(&oldest));
    }
    let files = Arc::new(files);
    map.insert(key.clone(), Entry { value, files, stale: None, checked: now, used: now });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::{fs, io, thread};

    type Texts = FileCache<u32, Vec<u8>, io::Error>;

    fn get(cache: &Texts, path: &Path, now: Instant) -> Result<Arc<Vec<u8>>, Arc<io::Error>> {
        cache.get(&0, now, |files, _| files.read(path).map(Arc::new))
    }

    #[test]
    fn a_file_replaced_by_rename_is_seen_after_the_interval_and_not_read_before() {
        let directory = tempfile::tempdir().unwrap();
        let (path, new) = (directory.path().join("a"), directory.path().join("new"));
        fs::write(&path, "one").unwrap();
        let (cache, start) = (Texts::new(), Instant::now());
        let first = get(&cache, &path, start).unwrap();
        fs::write(&new, "two").unwrap();
        fs::rename(&new, &path).unwrap();
        assert!(Arc::ptr_eq(&first, &get(&cache, &path, start + CHECK_INTERVAL / 2).unwrap()));
        assert_eq!(**get(&cache, &path, start + CHECK_INTERVAL).unwrap(), *b"two");
        assert_eq!(**first, *b"one");
    }

    #[test]
    fn a_turned_symbolic_link_on_the_way_is_a_change() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["v1", "v2"] {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("f"), name).unwrap();
        }
        std::os::unix::fs::symlink("v1", at("live")).unwrap();
        let (cache, start) = (Texts::new(), Instant::now());
        assert_eq!(**get(&cache, &at("live/f"), start).unwrap(), *b"v1");
        std::os::unix::fs::symlink("v2", at("next")).unwrap();
        fs::rename(at("next"), at("live")).unwrap();
        assert_eq!(**get(&cache, &at("live/f"), start + CHECK_INTERVAL).unwrap(), *b"v2");
    }

    #[test]
    fn a_missing_file_is_remembered_until_it_appears() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        let (cache, start) = (Texts::new(), Instant::now());
        let first = get(&cache, &path, start).unwrap_err();
        assert!(Arc::ptr_eq(&first, &cache.failures()[0]));
        fs::write(&path, "here").unwrap();
        assert!(cache.failures().is_empty(), "it may be good by now");
        assert!(Arc::ptr_eq(&first, &get(&cache, &path, start).unwrap_err()));
        assert_eq!(**get(&cache, &path, start + CHECK_INTERVAL).unwrap(), *b"here");
        assert_eq!(cache.sizes(), (1, 0));
    }

    #[test]
    fn a_watched_file_is_looked_at_by_the_watcher_not_by_who_asks() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        fs::write(&path, "one").unwrap();
        let place = path.clone();
        let reload = move |_: &u32, files: &mut Files, _: &Arc<_>| files.read(&place).map(Arc::new);
        let watch = Watch { reload: Box::new(reload), outdated: Box::new(|_| false) };
        let (cache, start) = (Texts::watched(watch), Instant::now());
        let get = |now| cache.get(&0, now, |files, _| files.read(&path).map(Arc::new)).unwrap();
        let first = get(start);
        // Long after the interval by the clock that is given, the value is still taken as it is.
        fs::write(directory.path().join("new"), "two").unwrap();
        fs::rename(directory.path().join("new"), &path).unwrap();
        let changed = Instant::now();
        while *get(start + CHECK_INTERVAL * 100) == *b"one" {
            assert!(changed.elapsed() < Duration::from_secs(1), "not within a second");
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!((&**first, &**get(start)), (&b"one"[..], &b"two"[..]));
        // The thread ends with the cache.
        let shared = Arc::downgrade(&cache.shared);
        drop(cache);
        let end = Instant::now() + Duration::from_secs(5);
        while shared.strong_count() > 0 {
            assert!(Instant::now() < end);
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn who_asks_while_a_value_is_loaded_anew_gets_the_former_and_never_waits() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        fs::write(&path, "one").unwrap();
        let (place, gate) = (path.clone(), Arc::new(Mutex::new(())));
        let shut = Arc::clone(&gate);
        let reload = move |_: &u32, files: &mut Files, _: &Arc<_>| {
            let _open = shut.lock().unwrap();
            files.read(&place).map(Arc::new)
        };
        let watch = Watch { reload: Box::new(reload), outdated: Box::new(|_| false) };
        let cache = Texts::watched(watch);
        let get = || cache.get(&0, Instant::now(), |_, _| panic!("loaded by who asks")).unwrap();
        cache.get(&0, Instant::now(), |files, _| files.read(&path).map(Arc::new)).unwrap();
        let closed = gate.lock().unwrap();
        fs::write(directory.path().join("new"), "two").unwrap();
        fs::rename(directory.path().join("new"), &path).unwrap();
        // Longer than any interval: the disk does not answer, and the former value goes on.
        let end = Instant::now() + CHECK_INTERVAL * 4;
        while Instant::now() < end {
            let asked = Instant::now();
            assert_eq!(**get(), *b"one");
            assert!(asked.elapsed() < CHECK_INTERVAL, "{:?}", asked.elapsed());
            thread::sleep(Duration::from_millis(20));
        }
        drop(closed);
        let opened = Instant::now();
        while **get() != *b"two" {
            assert!(opened.elapsed() < Duration::from_secs(1), "not within a second");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_value_is_loaded_once_for_all_who_ask_at_once_and_others_do_not_wait_for_it() {
        let (cache, loads) = (Arc::new(Texts::new()), AtomicUsize::new(0));
        let gate = Mutex::new(());
        let closed = gate.lock().unwrap();
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let load = |_: &mut Files, _: Option<&Arc<_>>| {
                        loads.fetch_add(1, Ordering::SeqCst);
                        let _open = gate.lock().unwrap();
                        Ok(Arc::new(b"slow".to_vec()))
                    };
                    assert_eq!(**cache.get(&1, Instant::now(), load).unwrap(), *b"slow");
                });
            }
            while loads.load(Ordering::SeqCst) == 0 {
                thread::yield_now();
            }
            cache.get(&2, Instant::now(), |_, _| Ok(Arc::default())).unwrap();
            drop(closed);
        });
        assert_eq!(loads.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_panic_while_loading_leaves_the_next_one_to_load() {
        let cache = Texts::new();
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _ = cache.get(&0, Instant::now(), |_, _| panic!("on purpose"));
        }));
        assert!(caught.is_err());
        assert!(cache.get(&0, Instant::now(), |_, _| Ok(Arc::default())).is_ok());
    }

    #[test]
    fn what_is_outdated_is_loaded_anew_although_its_files_are_as_they_were() {
        let reload = |_: &u32, _: &mut Files, _: &Arc<_>| Ok(Arc::new(b"new".to_vec()));
        let outdated = |value: &Vec<u8>| value == b"old";
        let cache = Texts::watched(Watch { reload: Box::new(reload), outdated: Box::new(outdated) });
        let get = || cache.get(&0, Instant::now(), |_, _| Ok(Arc::new(b"old".to_vec()))).unwrap();
        let start = Instant::now();
        while **get() != *b"new" {
            assert!(start.elapsed() < Duration::from_secs(1), "not within a second");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn the_least_recently_used_value_makes_room() {
        let (cache, start) = (Texts::new(), Instant::now());
        let loads = std::cell::Cell::new(0);
        let get = |name: u32, at: u64| {
            let load = |_: &mut Files, _: Option<&Arc<_>>| {
                loads.set(loads.get() + 1);
                Ok(Arc::default())
            };
            cache.get(&name, start + Duration::from_millis(at), load).unwrap();
        };
        let most = u32::try_from(MAX_LOADED).unwrap();
        (0..most).for_each(|name| get(name, u64::from(name)));
        get(0, u64::from(most)); // used again: now 1 is the oldest
        get(most, u64::from(most) + 1);
        assert_eq!(loads.get(), MAX_LOADED + 1);
        get(0, u64::from(most) + 2);
        assert_eq!(loads.get(), MAX_LOADED + 1, "0 is still there");
        get(1, u64::from(most) + 3);
        assert_eq!(loads.get(), MAX_LOADED + 2, "1 made room");
    }

    #[test]
    fn names_that_peers_make_up_do_not_grow_the_cache() {
        let cache = Texts::new();
        let start = Instant::now();
        for name in 0..3000 {
            let _ = cache.get(&name, start, |_, _| Err(io::ErrorKind::NotFound.into()));
            let _ = cache.get(&(name + 10_000), start, |_, _| Ok(Arc::default()));
        }
        assert_eq!(cache.sizes(), (MAX_LOADED, MAX_FAILED));
    }
}
