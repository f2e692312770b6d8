//! The spool directory: made where it is missing, and who may work in it.

use crate::expand::context::Globals;
use crate::sys::identity::{self, Rights};
use anyhow::anyhow;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown};
use std::path::Path;

/// Mode of the spool directory: others may pass through to the submission socket, and see nothing.
const ROOT_MODE: u32 = 0o751;
/// Mode of the directories below it.
const MODE: u32 = 0o750;
/// The directories below it that are always needed.
const BELOW: &[&str] = &["input", "msglog", "db"];

/// Makes the spool directory and those below it that are always needed. Root makes the first alone, as oxim's: what
/// lies below is made by a process that runs as oxim, since root opens and changes nothing in a directory of another.
pub fn prepare(globals: &Globals) -> anyhow::Result<()> {
    let root = &globals.spool_directory;
    if !is_ours(globals) {
        return Ok(()); // a user who asks (-bt, -bv) needs none of it
    }
    let below = if identity::is_root() { &[][..] } else { BELOW };
    let below = below.iter().map(|name| (root.join(name), MODE));
    for (directory, mode) in std::iter::once((root.clone(), ROOT_MODE)).chain(below) {
        make(&directory, mode, globals).map_err(|error| {
            // the first fault on the way down, as a worker would tell it
            let first = (!identity::is_root()).then(|| check(globals).err()).flatten();
            anyhow!(first.unwrap_or_else(|| in_words(&directory, &error)))
        })?;
    }
    Ok(())
}

/// Makes `drop/`, which whoever has oxim's group may put files into, and only that.
pub fn make_drop(globals: &Globals) -> std::io::Result<()> {
    /// Set-gid: files in it are oxim's group's. The group may write and pass, others nothing.
    const DROP_MODE: u32 = 0o2730;
    let directory = super::drop_box::path(&globals.spool_directory);
    match DirBuilder::new().mode(0o700).create(&directory) {
        // The mode as it is meant, whatever the umask.
        Ok(()) => fs::set_permissions(&directory, fs::Permissions::from_mode(DROP_MODE)),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Makes the staple keeper's store where it is missing: the keeper's own, readable by oxim's group. Nobody but root can give
/// it to the keeper, so root makes it, though it lies in a directory of oxim's: through descriptors, and only what root
/// has just made is given away.
pub fn make_store(store: &Path, keeper: Option<&Rights>, globals: &Globals) -> Result<(), String> {
    /// Set-gid: files in it are oxim's group's, which may read them.
    const STORE_MODE: u32 = 0o2750;
    let failed = |error: std::io::Error| format!("{} cannot be made: {error}", store.display());
    if let Some(spool) = store.parent() {
        make(spool, ROOT_MODE, globals).map_err(failed)?;
    }
    match DirBuilder::new().mode(0o700).create(store) {
        Ok(()) => {
            let directory = open_directory(store).map_err(failed)?;
            let about = directory.metadata().map_err(failed)?;
            if about.uid() != nix::unistd::geteuid().as_raw() {
                return Err(failed(std::io::ErrorKind::PermissionDenied.into())); // another has taken its place
            }
            if let Some(rights) = keeper {
                std::os::unix::fs::fchown(&directory, Some(rights.uid), Some(globals.oxim_gid))
                    .map_err(failed)?;
            }
            directory.set_permissions(fs::Permissions::from_mode(STORE_MODE)).map_err(failed)
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let about = fs::symlink_metadata(store).map_err(failed)?;
            let owner = keeper.map_or_else(|| nix::unistd::geteuid().as_raw(), |rights| rights.uid);
            let group = keeper.map(|_| globals.oxim_gid);
            let is_good = about.is_dir()
                && about.uid() == owner
                && group.is_none_or(|group| about.gid() == group && about.mode() & 0o7777 == STORE_MODE);
            let place = store.display();
            let wanted = group.map_or_else(|| owner.to_string(), |group| format!("{owner}:{group}"));
            is_good.then_some(()).ok_or_else(|| {
                format!(
                    "{place} cannot be the store of fetched proofs: it must be a directory with owner {wanted} and mode \
                     {STORE_MODE:04o} (chown {wanted} {place}; chmod {STORE_MODE:04o} {place}), or not be there"
                )
            })
        }
        Err(error) => Err(failed(error)),
    }
}

fn open_directory(path: &Path) -> std::io::Result<fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = nix::fcntl::OFlag::O_DIRECTORY | nix::fcntl::OFlag::O_NOFOLLOW;
    fs::OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)
}

/// Makes what is missing below the spool directory, as whoever works in it; what is wrong is told with its cure.
pub fn check(globals: &Globals) -> Result<(), String> {
    let root = &globals.spool_directory;
    let below = BELOW.iter().map(|name| root.join(name));
    std::iter::once(root.clone()).chain(below).try_for_each(|directory| {
        make(&directory, MODE, globals)
            .and_then(|()| usable(&directory))
            .map_err(|error| in_words(&directory, &error))
    })
}

/// That files can be made in it.
fn usable(directory: &Path) -> std::io::Result<()> {
    let mode =
        nix::unistd::AccessFlags::R_OK | nix::unistd::AccessFlags::W_OK | nix::unistd::AccessFlags::X_OK;
    if !fs::metadata(directory)?.is_dir() {
        return Err(std::io::ErrorKind::NotADirectory.into());
    }
    nix::unistd::access(directory, mode)?;
    Ok(())
}

fn in_words(directory: &Path, error: &std::io::Error) -> String {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let existing = directory.ancestors().find_map(|there| Some((there, fs::metadata(there).ok()?)));
    let owner = existing.map(|(there, about)| {
        let (owner, mode) = (about.uid(), about.mode() & 0o7777);
        format!(" ({} belongs to uid {owner} and has mode {mode:04o})", there.display())
    });
    let reason = crate::sys::system_words(error);
    format!(
        "the spool directory {} cannot be used by uid {uid}, gid {gid}: {reason}{}: it must be a directory that \
         this user owns",
        directory.display(),
        owner.unwrap_or_default()
    )
}

fn make(directory: &Path, mode: u32, globals: &Globals) -> std::io::Result<()> {
    if fs::symlink_metadata(directory).is_ok() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(mode).create(directory)?;
    if identity::is_root() {
        lchown(directory, Some(globals.oxim_uid), Some(globals.oxim_gid))?;
    }
    Ok(())
}

/// Whether this process may work in the spool itself: it is root, or the spool is its own (or still to be made by it).
pub fn is_ours(globals: &Globals) -> bool {
    if identity::is_root() {
        return true;
    }
    let own = nix::unistd::geteuid().as_raw();
    match fs::metadata(&globals.spool_directory) {
        Ok(about) => about.uid() == own,
        Err(_) => globals.spool_directory.parent().is_some_and(|parent| {
            fs::metadata(parent).is_ok_and(|about| about.uid() == own)
                || nix::unistd::access(parent, nix::unistd::AccessFlags::W_OK).is_ok()
        }),
    }
}
