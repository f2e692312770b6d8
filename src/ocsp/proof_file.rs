//! A proof in a file that tells by its time when it is to be fetched again.
//!
//! The time of the last change is set ahead, to the moment from which a new proof should be fetched; the file is due
//! once that has passed. It is written beside its place and renamed, so that who reads it never sees half of one, and a
//! failure at any step leaves the old one.

use super::{MAX_PROOF_SIZE, Proof, Subject, Unfit};
use nix::fcntl::OFlag;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Mode of a new file: a proof is public, anybody is sent it.
const MODE: u32 = 0o644;

/// When a proof that is fetched now and may be shown up to `until` is due again: before its end by `margin` per cent of
/// the time that is left.
pub fn due_at(now: SystemTime, until: SystemTime, margin_percent: u32) -> SystemTime {
    let left = until.duration_since(now).unwrap_or_default();
    until - left * margin_percent.min(100) / 100
}

/// Whether the file is to be fetched: it is missing, or the time it bears has passed.
pub fn is_due(path: &Path, now: SystemTime) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(about) => Ok(about.modified()? <= now),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

/// The proof in the file, if it is a good one for this certificate.
pub fn read(path: &Path, subject: &Subject, now: SystemTime) -> Result<Proof, Unfit> {
    let mut options = OpenOptions::new();
    // without waiting, should something else than a file be in its place
    let file = options.read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    let mut der = Vec::new();
    let read = file.and_then(|file| file.take(MAX_PROOF_SIZE as u64 + 1).read_to_end(&mut der));
    read.map_err(Unfit::Unreadable)?;
    Proof::check(&der, subject, now)
}

/// Puts the proof in the file's place, with the time when it is due again. Mode and owner stay those of the old file.
pub fn replace(path: &Path, proof: &Proof, due: SystemTime) -> io::Result<()> {
    let temporary = temporary(path)?;
    let file = open_alone(&temporary)?;
    let replaced = fill(&file, path, proof, due).and_then(|()| fs::rename(&temporary, path));
    if replaced.is_err() {
        let _ = fs::remove_file(&temporary); // the first error is the one to tell
        return replaced;
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

fn fill(mut file: &File, path: &Path, proof: &Proof, due: SystemTime) -> io::Result<()> {
    if let Ok(old) = fs::metadata(path) {
        file.set_permissions(PermissionsExt::from_mode(old.mode() & 0o777))?;
        if nix::unistd::geteuid().is_root() {
            fchown(file, Some(old.uid()), Some(old.gid()))?;
        }
    }
    file.write_all(proof.der())?;
    file.set_modified(due)?;
    file.sync_all()
}

/// `NAME.tmp` beside the file.
fn temporary(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut name = name.to_os_string();
    name.push(".tmp");
    Ok(path.with_file_name(name))
}

/// Opens the temporary file, empty; an error if another run is writing it. One that a killed run left is used again.
fn open_alone(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(MODE).custom_flags(OFlag::O_NOFOLLOW.bits());
    let file = options.open(path)?;
    let busy = || io::Error::new(io::ErrorKind::WouldBlock, "another run is writing it");
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(busy()),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    // Renamed by its writer before it was locked here: this is the proof that is in use.
    let ours = file.metadata()?;
    if !fs::symlink_metadata(path).is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
        return Err(busy());
    }
    file.set_len(0)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_proof_is_due_before_its_end_by_a_part_of_what_is_left() {
        let now = UNIX_EPOCH + 1000 * HOUR;
        let until = now + 100 * HOUR;
        assert_eq!(due_at(now, until, 10), now + 90 * HOUR);
        assert_eq!(due_at(now, until, 0), until);
        assert_eq!(due_at(now, until, 200), now);
        assert_eq!(due_at(until + HOUR, until, 10), until);
    }

    #[test]
    fn a_file_is_due_when_it_is_missing_or_its_time_has_passed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("proof");
        let now = SystemTime::now();
        assert!(is_due(&path, now).unwrap());
        let file = File::create(&path).unwrap();
        file.set_modified(now + HOUR).unwrap();
        assert!(!is_due(&path, now).unwrap());
        assert!(is_due(&path, now + 2 * HOUR).unwrap());
        assert!(is_due(&path.join("below"), now).is_err());
    }

    #[test]
    fn a_run_that_is_writing_is_not_disturbed_and_what_a_killed_one_left_is_used_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("proof.tmp");
        fs::write(&path, "half a pr").unwrap();
        let first = open_alone(&path).unwrap();
        assert_eq!(first.metadata().unwrap().len(), 0);
        assert_eq!(open_alone(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(first);
        assert!(open_alone(&path).is_ok());
        std::os::unix::fs::symlink("elsewhere", directory.path().join("link.tmp")).unwrap();
        assert!(open_alone(&directory.path().join("link.tmp")).is_err());
    }
}
