//! The directory in which the keeper leaves what it found: `KEY.ocsp` for a proof (or a revocation), `KEY.crl` for a
//! revocation list.
//!
//! It saves time after a start and nothing else: what is in it is checked again by whoever reads it, and what cannot be
//! written is handed on from memory. Files come into their place whole (a temporary file, flushed, then renamed, then the
//! directory flushed), with mode 0640; their group is the directory's, which is set-gid. Links, pipes and whatever else is
//! no plain file are not opened: the keeper, which may write here, reads bytes of the network, and those who read
//! here have more rights than it.

use super::crl::MAX_CRL_SIZE;
use super::proof::MAX_PROOF_SIZE;
use super::registry::{Key, MAX_ENTRIES};
use nix::fcntl::OFlag;
use std::fs::{self, DirEntry, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// Mode of a file.
const MODE: u32 = 0o640;
/// Most files that are left lying; twice what is looked after, since what nobody wants stays for a while.
const MAX_FILES: usize = 2 * MAX_ENTRIES;
/// Most bytes that all files together may have: above it what nobody wants goes, the oldest first.
const MAX_BYTES: u64 = 1024 * 1024 * 1024;
/// What nobody has wanted or renewed for so long is removed.
pub const FORGOTTEN_AFTER: Duration = Duration::from_secs(60 * 86_400);
/// A temporary file of this age has no writer any more.
const TEMPORARY_FOR: Duration = Duration::from_secs(3600);

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A response of a responder about one certificate.
    Proof,
    /// A revocation list.
    List,
}

/// The directory.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    /// Numbers the temporary files of this process.
    count: AtomicU64,
}

impl Kind {
    /// Both; a kind's place here is its number.
    pub const ALL: [Self; 2] = [Kind::Proof, Kind::List];

    /// What the file's name ends with.
    pub fn suffix(self) -> &'static str {
        match self {
            Kind::Proof => "ocsp",
            Kind::List => "crl",
        }
    }

    /// Most bytes of it.
    pub fn limit(self) -> usize {
        match self {
            Kind::Proof => MAX_PROOF_SIZE,
            Kind::List => MAX_CRL_SIZE,
        }
    }
}

impl Store {
    /// The store in this directory, which is there.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let about = fs::symlink_metadata(directory)?;
        if !about.is_dir() {
            return Err(io::Error::new(io::ErrorKind::NotADirectory, "not a directory"));
        }
        Ok(Self { directory: directory.to_owned(), count: AtomicU64::new(0) })
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The bytes for this key; none if there is no such file.
    pub fn load(&self, key: Key, kind: Kind) -> io::Result<Option<Vec<u8>>> {
        match read(&self.path(key, kind), kind.limit()) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts the bytes into their place; after an error what was there is still there. If they are there already, their
    /// file only becomes as young as it would be: nothing is written or flushed.
    pub fn save(&self, key: Key, kind: Kind, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() > kind.limit() {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "too long for the store"));
        }
        if is_renewed(&self.path(key, kind), bytes) {
            return Ok(());
        }
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let temporary = self.directory.join(format!("{key}.{}-{number}.tmp", std::process::id()));
        let saved = fill(&temporary, bytes).and_then(|()| fs::rename(&temporary, self.path(key, kind)));
        if saved.is_err() {
            let _ = fs::remove_file(&temporary); // the first error is the one to tell
            return saved;
        }
        File::open(&self.directory)?.sync_all()
    }

    /// Removes what writers that were killed left, and what nobody wants any more: after a long time, or the oldest at
    /// once where there is too much. Gives the number of files that went.
    pub fn sweep(&self, is_wanted: impl Fn(Key) -> bool, now: SystemTime) -> io::Result<usize> {
        let (mut removed, mut total, mut unwanted) = (0, 0, Vec::new());
        let age = |time: SystemTime| now.duration_since(time).unwrap_or_default();
        let remove = |path: &Path| usize::from(fs::remove_file(path).is_ok());
        for entry in fs::read_dir(&self.directory)?.flatten() {
            // of the entry itself, not of what a link names
            let Ok(about) = entry.metadata() else { continue };
            let Ok(changed) = about.modified() else { continue };
            let path = entry.path();
            match key_of(&entry) {
                Some((key, _)) => {
                    total += about.len();
                    if !is_wanted(key) {
                        unwanted.push((changed, about.len(), path));
                    }
                }
                None if path.extension().is_some_and(|extension| extension == "tmp")
                    && age(changed) > TEMPORARY_FOR =>
                {
                    removed += remove(&path);
                }
                None => {}
            }
        }
        unwanted.sort();
        let mut left = unwanted.len();
        for (changed, length, path) in unwanted {
            if age(changed) > FORGOTTEN_AFTER || total > MAX_BYTES || left > MAX_FILES {
                removed += remove(&path);
                total = total.saturating_sub(length);
                left -= 1;
            }
        }
        Ok(removed)
    }

    fn path(&self, key: Key, kind: Kind) -> PathBuf {
        self.directory.join(format!("{key}.{}", kind.suffix()))
    }
}

/// A plain file of at most `limit` bytes; nothing else is opened, and nothing waits.
fn read(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
    let file = options.open(path)?;
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a plain file"));
    }
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {limit} bytes")));
    }
    Ok(bytes)
}

/// True if the file has these bytes, as a file of ours, and now counts from this moment. (Its age matters once nobody
/// wants it; should a power cut take that back, it is gone a little earlier.)
fn is_renewed(path: &Path, bytes: &[u8]) -> bool {
    let renew = || -> io::Result<bool> {
        let about = fs::symlink_metadata(path)?;
        let is_ours = about.is_file() && about.permissions().mode() & 0o7777 == MODE;
        if !is_ours || about.len() != bytes.len() as u64 || read(path, bytes.len())? != bytes {
            return Ok(false);
        }
        let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(path)?;
        file.set_modified(SystemTime::now()).map(|()| true)
    };
    renew().unwrap_or(false)
}

fn fill(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)?;
    // the umask may have taken the group's right to read
    file.set_permissions(PermissionsExt::from_mode(MODE))?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// The key and kind that a file's name tells.
fn key_of(entry: &DirEntry) -> Option<(Key, Kind)> {
    let name = entry.file_name();
    let (hex, suffix) = name.to_str()?.split_once('.')?;
    let kind = Kind::ALL.into_iter().find(|kind| kind.suffix() == suffix)?;
    let mut key = [0; 32];
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if hex.len() != 2 * key.len() || !hex.bytes().all(is_digit) {
        return None;
    }
    for (at, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).ok()?;
    }
    Some((Key(key), kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const KEY: Key = Key([0xab; 32]);

    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        (directory, store)
    }

    fn names(store: &Store) -> Vec<String> {
        let entries = fs::read_dir(store.directory()).unwrap().flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_saved_is_loaded_by_its_key_and_kind_and_has_the_right_mode() {
        let (_directory, store) = store();
        assert_eq!(store.load(KEY, Kind::Proof).unwrap(), None);
        store.save(KEY, Kind::Proof, b"old").unwrap();
        store.save(KEY, Kind::Proof, b"proof").unwrap();
        store.save(KEY, Kind::List, b"list").unwrap();
        assert_eq!(store.load(KEY, Kind::Proof).unwrap().unwrap(), b"proof");
        assert_eq!(store.load(KEY, Kind::List).unwrap().unwrap(), b"list");
        assert_eq!(names(&store), [format!("{KEY}.crl"), format!("{KEY}.ocsp")]);
        let mode = fs::metadata(store.directory().join(format!("{KEY}.ocsp"))).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o640);
    }

    #[test]
    fn what_is_there_already_is_not_written_again_and_is_as_young_as_if_it_were() {
        use std::os::unix::fs::MetadataExt;
        let (_directory, store) = store();
        let path = store.path(KEY, Kind::List);
        let age = || SystemTime::now().duration_since(fs::metadata(&path).unwrap().modified().unwrap());
        let inode = || fs::metadata(&path).unwrap().ino();
        store.save(KEY, Kind::List, b"list").unwrap();
        let first = inode();
        File::open(&path).unwrap().set_modified(SystemTime::now() - FORGOTTEN_AFTER).unwrap();
        store.save(KEY, Kind::List, b"list").unwrap();
        assert_eq!(inode(), first, "the file is the same");
        assert!(age().is_ok_and(|age| age < Duration::from_secs(60)), "{:?}", age());
        // Whatever is not as it was written is written.
        store.save(KEY, Kind::List, b"LIST").unwrap();
        assert_eq!(store.load(KEY, Kind::List).unwrap().unwrap(), b"LIST");
        fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        store.save(KEY, Kind::List, b"LIST").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, MODE);
    }

    #[test]
    fn links_pipes_directories_and_what_is_too_long_are_not_read_and_stop_nothing() {
        let (directory, store) = store();
        let path = |byte: u8| directory.path().join(format!("{}.ocsp", Key([byte; 32])));
        fs::write(directory.path().join("elsewhere"), "secret").unwrap();
        symlink(directory.path().join("elsewhere"), path(1)).unwrap();
        nix::unistd::mkfifo(&path(2), nix::sys::stat::Mode::S_IRWXU).unwrap();
        fs::create_dir(path(3)).unwrap();
        fs::write(path(4), vec![0; MAX_PROOF_SIZE + 1]).unwrap();
        for byte in 1..=4 {
            assert!(store.load(Key([byte; 32]), Kind::Proof).is_err(), "{byte}");
        }
        fs::write(path(5), vec![0; MAX_PROOF_SIZE]).unwrap();
        assert_eq!(store.load(Key([5; 32]), Kind::Proof).unwrap().unwrap().len(), MAX_PROOF_SIZE);
        for name in ["x.ocsp", "zz.ocsp.tmp", &format!("{}.ocsp", "AB".repeat(32)), "README"] {
            fs::write(directory.path().join(name), "x").unwrap();
        }
        // names that are no keys are nobody's business here but those of writers
        let removed = store.sweep(|_| false, SystemTime::now() + FORGOTTEN_AFTER * 2).unwrap();
        assert_eq!((removed, directory.path().join("README").exists()), (5, true), "{:?}", names(&store));
        // a link in its place is replaced, not followed
        store.save(Key([1; 32]), Kind::Proof, b"proof").unwrap();
        assert_eq!(fs::read(directory.path().join("elsewhere")).unwrap(), b"secret");
        assert_eq!(store.load(Key([1; 32]), Kind::Proof).unwrap().unwrap(), b"proof");
    }

    #[test]
    fn a_failed_write_leaves_what_was_there_and_no_rubbish() {
        let (directory, store) = store();
        let path = directory.path().join(format!("{KEY}.ocsp"));
        fs::create_dir(&path).unwrap(); // a rename of a file over a directory fails, for root too
        assert!(store.save(KEY, Kind::Proof, b"proof").is_err());
        assert_eq!(names(&store), [format!("{KEY}.ocsp")]);
        let error = store.save(KEY, Kind::Proof, &vec![0; MAX_PROOF_SIZE + 1]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        drop(directory);
        assert!(store.save(KEY, Kind::Proof, b"proof").is_err());
    }

    #[test]
    fn what_nobody_wants_goes_after_long_and_what_killed_writers_left_after_an_hour() {
        let (directory, store) = store();
        let now = SystemTime::now();
        store.save(Key([1; 32]), Kind::Proof, b"wanted").unwrap();
        store.save(Key([2; 32]), Kind::Proof, b"unwanted").unwrap();
        fs::write(directory.path().join(format!("{KEY}.1-1.tmp")), "half").unwrap();
        fs::write(directory.path().join("README"), "the administrator's").unwrap();
        let is_wanted = |key: Key| key.0[0] == 1;
        assert_eq!(store.sweep(is_wanted, now).unwrap(), 0);
        assert_eq!(store.sweep(is_wanted, now + TEMPORARY_FOR + Duration::from_secs(5)).unwrap(), 1);
        assert_eq!(store.sweep(is_wanted, now + FORGOTTEN_AFTER + Duration::from_secs(5)).unwrap(), 1);
        assert_eq!(names(&store), [format!("{}.ocsp", Key([1; 32])), "README".to_owned()]);
    }

    #[test]
    fn too_much_makes_room_at_once_the_oldest_first_but_never_of_what_is_wanted() {
        let (directory, store) = store();
        let now = SystemTime::now();
        for byte in 1..=4_u8 {
            let path = directory.path().join(format!("{}.crl", Key([byte; 32])));
            let file = File::create(path).unwrap();
            file.set_len(MAX_BYTES / 2).unwrap(); // without blocks on the disk
            file.set_modified(now - Duration::from_secs(1000 - u64::from(byte))).unwrap();
        }
        assert_eq!(store.sweep(|key| key.0[0] == 1, now).unwrap(), 2);
        assert_eq!(names(&store), [format!("{}.crl", Key([1; 32])), format!("{}.crl", Key([4; 32]))]);
    }

    #[test]
    fn a_link_or_a_file_is_no_store() {
        let directory = tempfile::tempdir().unwrap();
        symlink("/tmp", directory.path().join("link")).unwrap();
        fs::write(directory.path().join("file"), "").unwrap();
        for name in ["link", "file", "missing"] {
            assert!(Store::open(&directory.path().join(name)).is_err(), "{name}");
        }
    }
}
