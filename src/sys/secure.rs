//! How the kernel sees this process: started with foreign rights or not, may be looked into or not.

use nix::sys::prctl;
use std::io;

/// True if the kernel started this program with more rights than its caller has (AT_SECURE).
pub fn started_with_foreign_rights() -> bool {
    // SAFETY: getauxval reads the vector that the kernel gave this process; it has no preconditions.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Nobody but root may look into this process's memory or attach to it, and it leaves no core file.
pub fn forbid_inspection() -> io::Result<()> {
    Ok(prctl::set_dumpable(false)?)
}

/// True if executing this program file gives its owner's or group's rights (or if that cannot be seen).
pub fn own_program_gives_rights() -> bool {
    use std::os::unix::fs::MetadataExt;
    const SET_ID: u32 = 0o6000;
    std::fs::metadata("/proc/self/exe").map_or(true, |about| about.mode() & SET_ID != 0)
}

/// From now on no `exec` gives this process or its children new rights (set-uid bits are ignored).
pub fn forbid_new_rights() -> io::Result<()> {
    Ok(prctl::set_no_new_privs()?)
}

/// The name shown by `ps` and `top`, at most 15 bytes.
pub fn set_process_name(name: &str) {
    if let Ok(name) = std::ffi::CString::new(name) {
        let _ = prctl::set_name(&name); // only a name
    }
}

/// A file that is made without a thought of its mode is nobody else's to write: the mask of the whole program.
pub fn set_umask() {
    use nix::sys::stat::Mode;
    nix::sys::stat::umask(Mode::S_IWGRP | Mode::S_IWOTH);
}

/// No mask: every mode that is given is the mode that is meant. For a process that writes into mailboxes.
pub fn clear_umask() {
    nix::sys::stat::umask(nix::sys::stat::Mode::empty());
}
