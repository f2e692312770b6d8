//! One file, messages one after the other: found or made with checks, locked, appended to, flushed.
//!
//! Invariant: if anything goes wrong while writing, the file is cut back to its old length before the lock
//! is given up.

use super::directories::{check_place, ensure_parent, flush_name};
use super::errno;
use super::perform::{io_trouble, path_of, trouble, write_all};
use crate::as_user::order::{Append, Done, Trouble};
use bstr::ByteSlice;
use nix::fcntl::{FcntlArg, Flock, FlockArg, OFlag, fcntl};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// How often a lock is tried while `lock_fcntl_timeout` runs: waiting in the kernel would need an alarm signal.
const LOCK_POLL: Duration = Duration::from_millis(100);

/// Delivers one message.
pub(super) fn append(order: &Append, data: &File) -> Result<Done, Trouble> {
    let path = path_of(order.path.as_bstr());
    ensure_parent(order)?;
    check_before(order, &path)?;
    if order.allow_fifo && std::fs::metadata(&path).is_ok_and(|meta| meta.file_type().is_fifo()) {
        return write_to_fifo(order, &path, data);
    }
    let mut left = order.lock_retries.max(1);
    // It is ours while the other locks are tried, so that nobody comes between.
    let _lockfile = if order.use_lockfile { Some(LockFile::take(order, &path)?) } else { None };
    loop {
        let (file, is_new) = open(order, &path)?;
        check_open(order, &path, &file)?;
        if let Some(locked) = lock(order, file)? {
            let done = write(order, &path, (locked.file(), is_new), data);
            drop(locked);
            return done;
        }
        left -= 1;
        if left == 0 {
            let text = format!("failed to lock mailbox {} (fcntl/flock)", path.display());
            return Err(trouble(errno::LOCK, text));
        }
        std::thread::sleep(Duration::from_secs(order.lock_interval));
    }
}

fn write(
    order: &Append,
    path: &Path,
    (mut file, is_new): (&File, bool),
    data: &File,
) -> Result<Done, Trouble> {
    let start = file
        .seek(SeekFrom::End(0))
        .map_err(|error| io_trouble(format!("error while writing to {}", path.display()), &error))?;
    let written = end_torn_line(order, file, start).and_then(|()| write_all(order, file, data));
    let flush = || if is_new { flush_name(path) } else { Ok(()) };
    match written.and_then(|size| file.sync_all().and_then(|()| flush()).map(|()| size)) {
        Ok(size) => Ok(Done { file: order.path.clone(), size, mailbox_size: start }),
        Err(error) => {
            let _ = file.set_len(start);
            Err(io_trouble(format!("error while writing to {}", path.display()), &error))
        }
    }
}

/// A writer that was killed (or a power cut) may have left half a message. Without the end of its line the `From ` line
/// of this one would not be seen, and the message would be lost in the one before.
fn end_torn_line(order: &Append, mut file: &File, end: u64) -> io::Result<()> {
    if end == 0 || !order.before.starts_with(b"From ") {
        return Ok(());
    }
    let mut last = [0];
    file.read_exact_at(&mut last, end - 1)?;
    if last == *b"\n" { Ok(()) } else { file.write_all(b"\n\n") }
}

/// What must hold before anything is opened: no link where none may be, an old file's owner, links and mode.
fn check_before(order: &Append, path: &Path) -> Result<(), Trouble> {
    let meta = match std::fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if order.file_must_exist {
                let text = format!("mailbox {} does not exist, but file_must_exist is set", path.display());
                return Err(io_trouble(text, &error));
            }
            return check_place(order, path);
        }
        Err(error) => {
            return Err(io_trouble(format!("attempting to stat mailbox {}", path.display()), &error));
        }
    };
    let name = shown(path, &meta);
    check_owner(order, &name, &meta)?;
    if meta.is_symlink() {
        if order.allow_symlink {
            return Ok(());
        }
        return Err(trouble(errno::LINKS, format!("mailbox {} is not a regular file", path.display())));
    }
    check_kind(order, &name, &meta)
}

fn shown(path: &Path, meta: &Metadata) -> String {
    let link = if meta.is_symlink() { " (symlink)" } else { "" };
    format!("mailbox {}{link}", path.display())
}

fn check_owner(order: &Append, name: &str, meta: &Metadata) -> Result<(), Trouble> {
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    if order.check_owner && meta.uid() != uid {
        return Err(trouble(errno::OWNER, format!("{name} has wrong uid ({} != {uid})", meta.uid())));
    }
    if order.check_group && meta.gid() != gid {
        return Err(trouble(errno::OWNER, format!("{name} has wrong gid ({} != {gid})", meta.gid())));
    }
    Ok(())
}

fn check_kind(order: &Append, name: &str, meta: &Metadata) -> Result<(), Trouble> {
    if meta.nlink() != 1 && !meta.file_type().is_fifo() {
        return Err(trouble(errno::LINKS, format!("{name} has too many links ({})", meta.nlink())));
    }
    let fifo_allowed = order.allow_fifo && meta.file_type().is_fifo();
    if !meta.is_file() && !fifo_allowed {
        return Err(trouble(errno::LINKS, format!("{name} is not a regular file")));
    }
    let mode = meta.mode() & 0o7777;
    if mode != order.mode {
        let narrower = mode & order.mode == mode;
        if narrower && order.mode_fail_narrower {
            let text = format!("{name} has the wrong mode {mode:o} ({:o} expected)", order.mode);
            return Err(trouble(errno::MODE, text));
        }
    }
    Ok(())
}

/// The file, and whether it was made.
fn open(order: &Append, path: &Path) -> Result<(File, bool), Trouble> {
    let no_follow = if order.allow_symlink { 0 } else { libc::O_NOFOLLOW };
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(order.mode).custom_flags(no_follow | libc::O_NOCTTY);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => options
            .create_new(true)
            .open(path)
            .map(|file| (file, true))
            .map_err(|error| io_trouble(format!("while creating mailbox {}", path.display()), &error)),
        Ok(file) => Ok((file, false)),
        Err(error) => Err(io_trouble(format!("while opening mailbox {}", path.display()), &error)),
    }
}

/// A pipe with a name is written to as it is, without locks; somebody must be reading it.
fn write_to_fifo(order: &Append, path: &Path, data: &File) -> Result<Done, Trouble> {
    let options = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
    let file = options.map_err(|error| {
        let why = if error.raw_os_error() == Some(libc::ENXIO) {
            " (could mean no process is reading it)"
        } else {
            ""
        };
        io_trouble(format!("while opening named pipe {}{why}", path.display()), &error)
    })?;
    check_open(order, path, &file)?;
    // The reader may be slower than we are: from here on writing waits.
    let failed = |error: io::Error| io_trouble(format!("error while writing to {}", path.display()), &error);
    fcntl(&file, FcntlArg::F_SETFL(OFlag::empty())).map_err(|error| failed(error.into()))?;
    let size = write_all(order, &file, data).map_err(failed)?;
    Ok(Done { file: order.path.clone(), size, mailbox_size: 0 })
}

/// The file that was opened is the one that was checked.
fn check_open(order: &Append, path: &Path, file: &File) -> Result<(), Trouble> {
    let failed = |error: io::Error| io_trouble(format!("fstat error for {}", path.display()), &error);
    let open = file.metadata().map_err(failed)?;
    let named = if order.allow_symlink { std::fs::metadata(path) } else { std::fs::symlink_metadata(path) }
        .map_err(failed)?;
    if (open.dev(), open.ino()) != (named.dev(), named.ino()) {
        return Err(trouble(
            errno::OWNER,
            format!("mailbox {} changed while it was being opened", path.display()),
        ));
    }
    let name = format!("mailbox {}", path.display());
    check_owner(order, &name, &open)?;
    check_kind(order, &name, &open)?;
    let mode = open.mode() & 0o7777;
    if mode & !order.mode != 0 {
        use std::os::unix::fs::PermissionsExt;
        let _ = file.set_permissions(std::fs::Permissions::from_mode(order.mode));
    }
    Ok(())
}

/// A file that is locked as the order says, until this is dropped.
enum Locked {
    Plain(File),
    Flocked(Flock<File>),
}

impl Locked {
    fn file(&self) -> &File {
        match self {
            Self::Plain(file) => file,
            Self::Flocked(flock) => flock,
        }
    }
}

/// None: another process holds the lock now.
fn lock(order: &Append, file: File) -> Result<Option<Locked>, Trouble> {
    if order.use_fcntl_lock {
        let whole = libc::flock {
            l_type: libc::F_WRLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        let give_up = Instant::now() + Duration::from_secs(order.lock_fcntl_timeout);
        loop {
            match fcntl(&file, FcntlArg::F_SETLK(&whole)) {
                Ok(_) => break,
                Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EACCES) if Instant::now() >= give_up => {
                    return Ok(None);
                }
                Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EACCES) => {
                    std::thread::sleep(LOCK_POLL);
                }
                Err(error) => return Err(io_trouble("fcntl lock failed", &error.into())),
            }
        }
    }
    if !order.use_flock_lock {
        return Ok(Some(Locked::Plain(file)));
    }
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(flock) => Ok(Some(Locked::Flocked(flock))),
        Err((_, nix::errno::Errno::EAGAIN)) => Ok(None),
        Err((_, error)) => Err(io_trouble("flock failed", &error.into())),
    }
}

/// `mailbox.lock`, made by linking a file of a name that nobody else has; removed when dropped.
struct LockFile {
    path: PathBuf,
}

impl LockFile {
    fn take(order: &Append, mailbox: &Path) -> Result<Self, Trouble> {
        let lock = with_suffix(mailbox, ".lock");
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let post = with_suffix(
            &lock,
            &format!(".{}.{:08x}.{:08x}", order.hostname, now.as_secs(), std::process::id()),
        );
        let made = OpenOptions::new().write(true).create_new(true).mode(order.lockfile_mode).open(&post);
        if let Err(error) = made {
            let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
            let text = format!("creating lock file hitching post {} (euid={uid} egid={gid})", post.display());
            return Err(io_trouble(text, &error));
        }
        let taken = Self::link(order, &post, &lock);
        let _ = std::fs::remove_file(&post);
        if taken {
            return Ok(Self { path: lock });
        }
        let text = format!("failed to lock mailbox {} (lock file)", mailbox.display());
        Err(trouble(errno::LOCK, text))
    }

    fn link(order: &Append, post: &Path, lock: &Path) -> bool {
        for round in 0..order.lock_retries.max(1) {
            if round > 0 {
                std::thread::sleep(Duration::from_secs(order.lock_interval));
            }
            // NFS may say no when it means yes: the link count tells.
            if std::fs::hard_link(post, lock).is_ok()
                || std::fs::metadata(post).is_ok_and(|meta| meta.nlink() == 2)
            {
                return true;
            }
            let stale = std::fs::metadata(lock).and_then(|meta| meta.modified()).is_ok_and(|made| {
                let age = made.elapsed().unwrap_or_default();
                order.lockfile_timeout > 0 && age.as_secs() > order.lockfile_timeout
            });
            if stale {
                let _ = std::fs::remove_file(lock);
            }
        }
        false
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
