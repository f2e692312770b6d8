//! `drop/`: how a program without rights leaves a message where no daemon runs to take it.
//!
//! The directory has mode 2730 and belongs to oxim: whoever has its group may put files in and can neither list nor read
//! it. The program is installed set-gid for this alone; the group is laid down first thing, taken up while the one file
//! is made, and given up for good after it (`sys::identity`). The file is written under a name that nobody takes,
//! flushed, and renamed.
//!
//! Who takes it in believes nothing but the owner of the file, which the kernel set: the owner is the caller. It looks
//! only at regular files with one name that are not too long and came through the directory's group; anything else is
//! removed or moved aside, named in the log, and the next one is looked at. A file is removed once its message is
//! committed: a crash between the two delivers it twice, never not at all.

use super::submit_socket::{Call, Calls};
use super::thread_pool;
use crate::as_user::Wire;
use crate::sys::identity::LaidDown;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, syncfs, unlinkat};
use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// First bytes of a file; another version of this program writes another number.
const MAGIC: &[u8] = b"oxim-drop 1\n";
/// Name, arguments and configuration of a call: what the kernel lets a command line hold is far less.
const MOST_CALL: u32 = 4 * 1024 * 1024;
/// Beside the message itself a file may have this much.
const ROOM: u64 = MOST_CALL as u64 + 4096;
/// Names of files that are complete, that are being written, and that were no such thing.
const COMPLETE: &[u8] = b"d-";
const UNFINISHED: &[u8] = b"t-";
const BAD: &str = "bad-";
/// A writer that died leaves a file behind; one that takes longer is dead.
const LONGEST_WRITING: Duration = Duration::from_secs(24 * 3600);
/// A daemon takes submissions over its socket: only what was written while it started lies here later.
const INTERVAL: Duration = Duration::from_secs(30);
/// Looked at in one round: a directory that somebody floods holds up nothing else.
const MOST_IN_A_ROUND: usize = 1000;

/// Where it is.
pub fn path(spool_directory: &Path) -> PathBuf {
    spool_directory.join("drop")
}

/// Bytes of standard input that are copied at once.
const CHUNK: usize = 64 * 1024;

/// Writes one call with its standard input. `Ok(false)`: there is no such directory, or no right to write there.
/// `most`: the longest message.
pub fn leave(
    spool_directory: &Path,
    group: Option<&LaidDown>,
    call: &Call,
    input: &mut dyn Read,
    most: u64,
) -> io::Result<bool> {
    let name = format!("{:016x}-{}", random(), std::process::id());
    let unfinished = path(spool_directory).join(format!("t-{name}"));
    let complete = path(spool_directory).join(format!("d-{name}"));
    let create = || {
        open(
            &unfinished,
            OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
            Mode::S_IRUSR | Mode::S_IWUSR,
        )
    };
    let with_group = |work: &mut dyn FnMut() -> nix::Result<()>| match group {
        Some(group) => group.with(work),
        None => work().map_err(io::Error::from),
    };
    let mut made = None;
    match with_group(&mut || create().map(|file| made = Some(file))) {
        Ok(()) => {}
        Err(error) if is_closed(&error) => return Ok(false),
        Err(error) => return Err(error),
    }
    let Some(file) = made.map(File::from) else { return Ok(false) };
    let written = write(file, call, input, most).and_then(|file| {
        with_group(&mut || {
            nix::fcntl::renameat(nix::fcntl::AT_FDCWD, &unfinished, nix::fcntl::AT_FDCWD, &complete)
        })?;
        // The directory cannot be opened by who may not read it: all of the file system is flushed in its place.
        Ok(syncfs(&file)?)
    });
    if written.is_err() {
        let _ = with_group(&mut || nix::unistd::unlink(&unfinished)); // it is removed by its age else
    }
    written.map(|()| true)
}

fn is_closed(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EACCES | libc::ENOTDIR))
}

fn write(mut file: File, call: &Call, input: &mut dyn Read, most: u64) -> io::Result<File> {
    let head = call.to_wire();
    let length = u32::try_from(head.len()).ok().filter(|length| *length <= MOST_CALL);
    let length = length.ok_or_else(|| io::Error::other("the command line is too long"))?;
    file.write_all(MAGIC)?;
    file.write_all(&length.to_be_bytes())?;
    file.write_all(&head)?;
    let mut buffer = vec![0; CHUNK];
    let mut left = most;
    loop {
        let read = match input.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        if read == 0 {
            break;
        }
        left = left.checked_sub(read as u64).ok_or_else(|| {
            io::Error::other(format!("the message is longer than {most} bytes (message_size_limit)"))
        })?;
        file.write_all(&buffer[..read])?;
    }
    // The daemon reads by the group that the directory gives the file.
    fchmod(&file, Mode::S_IRUSR | Mode::S_IWUSR | Mode::S_IRGRP)?;
    file.sync_all()?;
    Ok(file)
}

fn random() -> u64 {
    let mut hasher = std::hash::RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.finish()
}

/// A call that was left: who left it, what was called, and its standard input.
pub struct Dropped {
    /// The owner of the file.
    pub uid: u32,
    /// What was called.
    pub call: Call,
    /// The rest of the file.
    pub input: File,
}

/// What becomes of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its message is committed, or refused with a mail about it: the file goes.
    Done,
    /// It cannot be taken in now (a full disk): the file stays.
    Later(String),
    /// It is no call that may lie here: the file is moved aside.
    Bad(String),
}

/// Takes in what lies there now, and looks again now and then, in a thread for the life of the process.
pub fn serve(spool_directory: &Path, calls: Arc<dyn Calls>) -> io::Result<()> {
    let (directory, witness) = (path(spool_directory), calls.clone());
    let look = move || {
        loop {
            take_all(&directory, &*calls);
            std::thread::sleep(INTERVAL);
        }
    };
    thread_pool::start_vital("drop", look, move |text| witness.log_panic(text))
}

/// One round over the directory.
pub fn take_all(directory: &Path, calls: &dyn Calls) {
    match Opened::open(directory) {
        Ok(Some(mut open)) => open.take_all(calls),
        Ok(None) => {}
        Err(error) => calls.log_bad(&format!("{}: {error}", directory.display())),
    }
}

/// The open directory.
struct Opened {
    dir: OwnedFd,
    listing: Dir,
    gid: u32,
}

impl Opened {
    /// None if there is none.
    fn open(path: &Path) -> io::Result<Option<Self>> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let dir = match open(path, flags, Mode::empty()) {
            Err(Errno::ENOENT) => return Ok(None),
            dir => dir?,
        };
        let about = fstat(&dir)?;
        if about.st_uid != nix::unistd::geteuid().as_raw() || about.st_mode & 0o007 != 0 {
            return Err(io::Error::other("must belong to this user and be closed to all others (mode 2730)"));
        }
        let listing = Dir::openat(&dir, ".", flags, Mode::empty())?;
        Ok(Some(Self { gid: about.st_gid, dir, listing }))
    }

    fn take_all(&mut self, calls: &dyn Calls) {
        let names: Vec<std::ffi::CString> = self
            .listing
            .iter()
            .flatten()
            .map(|entry| entry.file_name().to_owned())
            .filter(|name| name.to_bytes().starts_with(COMPLETE) || name.to_bytes().starts_with(UNFINISHED))
            .take(MOST_IN_A_ROUND)
            .collect();
        for name in names {
            let shown = format!("drop/{}", name.to_string_lossy());
            if name.to_bytes().starts_with(UNFINISHED) {
                self.remove_old(&name);
                continue;
            }
            match self.take(&name, calls) {
                Fate::Done => self.remove(&name),
                // A full disk and its kin: the others would fare no better.
                Fate::Later(why) => return calls.log_bad(&format!("{shown} is kept for later: {why}")),
                Fate::Bad(why) => {
                    calls.log_bad(&format!("{shown} is not taken in: {why}"));
                    self.move_aside(&name);
                }
            }
        }
    }

    fn take(&self, name: &std::ffi::CStr, calls: &dyn Calls) -> Fate {
        // Not waiting for the other end of a FIFO, not following a link.
        let flags =
            OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let file = match openat(&self.dir, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::ELOOP) => return Fate::Bad("it is a symbolic link".into()),
            Err(Errno::ENOENT) => return Fate::Done,
            Err(errno @ (Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::EINTR | Errno::EIO)) => {
                return Fate::Later(errno.desc().into());
            }
            Err(errno) => return Fate::Bad(format!("it cannot be opened: {}", errno.desc())),
        };
        let checked = fstat(&file).map_err(|errno| errno.desc().to_owned());
        let most = calls.longest_message().saturating_add(ROOM);
        match checked.and_then(|about| self.check(&about, most)) {
            Err(why) => Fate::Bad(why),
            Ok(uid) => match read_call(&file) {
                Err(error) => Fate::Bad(error.to_string()),
                Ok(call) => calls.take_dropped(Dropped { uid, call, input: file }),
            },
        }
    }

    /// Gives the owner.
    fn check(&self, about: &FileStat, most: u64) -> Result<u32, String> {
        let kind = SFlag::from_bits_truncate(about.st_mode) & SFlag::S_IFMT;
        if kind != SFlag::S_IFREG {
            return Err("it is no regular file".into());
        }
        // A second name: it is somebody's file that was linked here, and not made here.
        if about.st_nlink != 1 {
            return Err(format!("it has {} names", about.st_nlink));
        }
        if about.st_gid != self.gid {
            return Err("it was not made in this directory: its group is another".into());
        }
        let size = u64::try_from(about.st_size).unwrap_or(u64::MAX);
        if size > most {
            return Err(format!("it is too long: {size} bytes"));
        }
        Ok(about.st_uid)
    }

    fn remove(&self, name: &std::ffi::CStr) {
        // A file that stays is taken in once more: better than to lose one.
        let _ = unlinkat(&self.dir, name, UnlinkatFlags::NoRemoveDir);
    }

    /// An administrator may look at it; nobody takes it any more.
    fn move_aside(&self, name: &std::ffi::CStr) {
        let aside = format!("{BAD}{}", name.to_string_lossy());
        if renameat(&self.dir, name, &self.dir, aside.as_str()).is_err() {
            self.remove(name);
        }
    }

    fn remove_old(&self, name: &std::ffi::CStr) {
        let Ok(about) = fstatat(&self.dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) else { return };
        let changed =
            SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(about.st_mtime).unwrap_or(0));
        if changed.elapsed().is_ok_and(|age| age > LONGEST_WRITING) {
            self.remove(name);
        }
    }
}

/// What stands before the message.
fn read_call(mut file: &File) -> io::Result<Call> {
    let garbage = || io::Error::other("its content is not what this program writes");
    let mut magic = [0; MAGIC.len()];
    let mut length = [0; 4];
    file.read_exact(&mut magic).map_err(|_| garbage())?;
    file.read_exact(&mut length).map_err(|_| garbage())?;
    let length = u32::from_be_bytes(length);
    if magic != MAGIC || length > MOST_CALL {
        return Err(garbage());
    }
    let mut head = vec![0; length as usize];
    file.read_exact(&mut head).map_err(|_| garbage())?;
    Call::from_wire(&head).map_err(|_| garbage())
}
