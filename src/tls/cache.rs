//! Things loaded from files, kept until a file changes: bounded, shared, and checked twice a second.
//!
//! A change is seen by device, inode, size, mtime and ctime of what the path leads to, so replacing a file
//! by `rename(2)`, or turning any symbolic link on the way, is seen within [`CHECK_INTERVAL`]; what was
//! loaded stays with the sessions that hold it.
//!
//! A [watched](FileCache::watched) cache has a thread that looks at the files, so that who asks for a value
//! touches no disk (which may be slow, or a network's) unless a file has changed. Without it the one who asks
//! looks, at most twice a second: enough for a program that lives shortly.
//!
//! Failures are remembered the same way, in a list of their own, so that names made up by a peer
//! neither cost a load each nor push out what is in use.

use std::collections::HashMap;
use std::fs::{self, Metadata, OpenOptions};
use std::hash::Hash;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// A changed file is in use for connections that come this much later.
pub const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// Most things kept. A host with more certificates than this still works, and loads some again.
const MAX_LOADED: usize = 1024;
/// Most failures remembered: names that peers make up.
const MAX_FAILED: usize = 1024;
/// Most files of one thing that are watched (a directory of authorities has some hundreds).
const MAX_FILES: usize = 4096;
/// Longest file that is read: a bundle of authorities has 250 KiB, a large revocation list some MiB.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// Name of the thread that watches files.
pub const WATCHER: &str = "tls-files";

/// Values by key, each loaded from files.
pub struct FileCache<K, V, E> {
    inner: Arc<Mutex<Inner<K, V, E>>>,
    watched: bool,
}

struct Inner<K, V, E> {
    loaded: HashMap<K, Entry<Arc<V>>>,
    failed: HashMap<K, Entry<Arc<E>>>,
    /// The thread runs.
    watcher: bool,
}

struct Entry<T> {
    value: T,
    files: Arc<Files>,
    /// The watcher saw a change.
    stale: bool,
    checked: Instant,
    used: Instant,
}

/// The files a thing was read from, as they were when it was.
#[derive(Default)]
pub struct Files {
    seen: Vec<(PathBuf, Option<Stamp>)>,
}

/// What tells one version of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl<K: Clone + Eq + Hash, V, E> FileCache<K, V, E> {
    /// An empty cache; who asks looks at the files.
    pub fn new() -> Self {
        let inner = Inner { loaded: HashMap::new(), failed: HashMap::new(), watcher: false };
        Self { inner: Arc::new(Mutex::new(inner)), watched: false }
    }

    /// The value for `key`; `load` is called if there is none or its files changed, with the value
    /// that was there before. Others wait meanwhile, so that a new file is loaded once.
    pub fn get(
        &self,
        key: &K,
        now: Instant,
        load: impl FnOnce(&mut Files, Option<&Arc<V>>) -> Result<Arc<V>, E>,
    ) -> Result<Arc<V>, Arc<E>> {
        let mut inner = lock(&self.inner);
        let watcher = inner.watcher;
        if let Some(value) = fresh(&mut inner.loaded, key, now, watcher) {
            return Ok(value);
        }
        if let Some(error) = fresh(&mut inner.failed, key, now, watcher) {
            return Err(error);
        }
        let mut files = Files::default();
        let before = inner.loaded.get(key).map(|entry| Arc::clone(&entry.value));
        match load(&mut files, before.as_ref()) {
            Ok(value) => {
                inner.failed.remove(key);
                keep(&mut inner.loaded, key, Arc::clone(&value), files, now, MAX_LOADED);
                Ok(value)
            }
            Err(error) => {
                let error = Arc::new(error);
                inner.loaded.remove(key);
                keep(&mut inner.failed, key, Arc::clone(&error), files, now, MAX_FAILED);
                Err(error)
            }
        }
    }

    /// How many values and failures are held.
    pub fn sizes(&self) -> (usize, usize) {
        let inner = lock(&self.inner);
        (inner.loaded.len(), inner.failed.len())
    }
}

impl<K, V, E> FileCache<K, V, E>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// An empty cache with a thread that looks at the files; it ends with the cache. Should there be no thread
    /// to be had, who asks looks, as in a cache without.
    pub fn watched() -> Self {
        Self { watched: true, ..Self::new() }
    }

    /// As [`FileCache::get`]; the watcher is started with the first value.
    pub fn get_watched(
        &self,
        key: &K,
        now: Instant,
        load: impl FnOnce(&mut Files, Option<&Arc<V>>) -> Result<Arc<V>, E>,
    ) -> Result<Arc<V>, Arc<E>> {
        if self.watched {
            let mut inner = lock(&self.inner);
            if !inner.watcher {
                let cache = Arc::downgrade(&self.inner);
                inner.watcher =
                    thread::Builder::new().name(WATCHER.into()).spawn(move || watch(&cache)).is_ok();
            }
        }
        self.get(key, now, load)
    }
}

/// Looks at all files of the cache twice a second until it is gone. The lock is not held meanwhile: a disk
/// that does not answer stops this thread and nobody else.
fn watch<K: Clone + Eq + Hash, V, E>(cache: &Weak<Mutex<Inner<K, V, E>>>) {
    while let Some(inner) = cache.upgrade() {
        let (loaded, failed) = {
            let inner = lock(&inner);
            (files_of(&inner.loaded), files_of(&inner.failed))
        };
        // Many units may have the same authorities: each file is looked at once.
        let mut seen: HashMap<PathBuf, Option<Stamp>> = HashMap::new();
        let mut look = |path: &Path| match seen.get(path) {
            Some(stamp) => *stamp,
            None => *seen.entry(path.to_owned()).or_insert(stamp_of(path)),
        };
        let mut changed = |mut files: Vec<(K, Arc<Files>)>| {
            files.retain(|(_, files)| files.changed(&mut look));
            files
        };
        let (loaded, failed) = (changed(loaded), changed(failed));
        let mut held = lock(&inner);
        mark(&mut held.loaded, &loaded);
        mark(&mut held.failed, &failed);
        drop(held);
        drop(inner);
        thread::sleep(CHECK_INTERVAL);
    }
}

fn files_of<K: Clone, T>(map: &HashMap<K, Entry<T>>) -> Vec<(K, Arc<Files>)> {
    map.iter().filter(|(_, e)| !e.stale).map(|(key, e)| (key.clone(), Arc::clone(&e.files))).collect()
}

/// What was loaded anew meanwhile has other files, and stays fresh.
fn mark<K: Eq + Hash, T>(map: &mut HashMap<K, Entry<T>>, changed: &[(K, Arc<Files>)]) {
    for (key, files) in changed {
        if let Some(entry) = map.get_mut(key).filter(|entry| Arc::ptr_eq(&entry.files, files)) {
            entry.stale = true;
        }
    }
}

/// A panic while loading leaves the maps as they were: each change of them is one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K: Clone + Eq + Hash, V, E> Default for FileCache<K, V, E> {
    fn default() -> Self {
        Self::new()
    }
}

fn fresh<K: Eq + Hash, T: Clone>(
    map: &mut HashMap<K, Entry<T>>,
    key: &K,
    now: Instant,
    watcher: bool,
) -> Option<T> {
    let entry = map.get_mut(key)?;
    if entry.stale {
        return None;
    }
    if !watcher && now.saturating_duration_since(entry.checked) >= CHECK_INTERVAL {
        if entry.files.changed(&mut stamp_of) {
            return None;
        }
        entry.checked = now;
    }
    entry.used = now;
    Some(entry.value.clone())
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
    map.insert(key.clone(), Entry { value, files, stale: false, checked: now, used: now });
}

impl Files {
    /// Reads a file, and remembers what it was.
    pub fn read(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        // The stamp comes first: a file that is replaced while it is read counts as changed.
        self.watch(path)?;
        let mut bytes = Vec::new();
        // Without waiting: a FIFO or a device in this place must not stop TLS for everybody.
        let file =
            OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
        let kind = file.metadata()?;
        if kind.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if !kind.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no regular file"));
        }
        file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {MAX_FILE} bytes")));
        }
        Ok(bytes)
    }

    /// The paths of a directory's files in order; a file that comes or goes is a change of the directory.
    pub fn list(&mut self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        self.watch(directory)?;
        let mut paths = Vec::new();
        for entry in fs::read_dir(directory)?.take(MAX_FILES) {
            let path = entry?.path();
            if path.is_file() {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(paths)
    }

    /// True if `path` is a directory.
    pub fn is_directory(&mut self, path: &Path) -> io::Result<bool> {
        Ok(self.watch(path)?.is_dir())
    }

    fn watch(&mut self, path: &Path) -> io::Result<Metadata> {
        let metadata = fs::metadata(path);
        if self.seen.len() < MAX_FILES {
            self.seen.push((path.to_owned(), metadata.as_ref().ok().map(stamp)));
        }
        metadata
    }

    /// One of them is not what it was.
    pub fn are_changed(&self) -> bool {
        self.changed(&mut stamp_of)
    }

    fn changed(&self, look: &mut impl FnMut(&Path) -> Option<Stamp>) -> bool {
        self.seen.iter().any(|(path, seen)| look(path) != *seen)
    }
}

fn stamp_of(path: &Path) -> Option<Stamp> {
    fs::metadata(path).ok().as_ref().map(stamp)
}

fn stamp(metadata: &Metadata) -> Stamp {
    Stamp {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.size(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        fs::write(&path, "here").unwrap();
        assert!(Arc::ptr_eq(&first, &get(&cache, &path, start).unwrap_err()));
        assert_eq!(**get(&cache, &path, start + CHECK_INTERVAL).unwrap(), *b"here");
        assert_eq!(cache.sizes(), (1, 0));
    }

    #[test]
    fn a_watched_file_is_looked_at_by_the_watcher_not_by_who_asks() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        fs::write(&path, "one").unwrap();
        let (cache, start) = (Texts::watched(), Instant::now());
        let get = |now| cache.get_watched(&0, now, |files, _| files.read(&path).map(Arc::new)).unwrap();
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
        let inner = Arc::downgrade(&cache.inner);
        drop(cache);
        let end = Instant::now() + Duration::from_secs(5);
        while inner.strong_count() > 0 {
            assert!(Instant::now() < end);
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
