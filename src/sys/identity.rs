//! Becoming another user: groups, gid and uid (real, effective and saved) as one act, checked afterwards.
//!
//! Invariant: either the process has exactly the new rights and cannot go back, or the call fails and the
//! caller must end the process.

use nix::errno::Errno;
use nix::unistd::{
    Gid, Uid, getegid, geteuid, getgid, getgrouplist, getgroups, getresgid, getresuid, getuid, setgroups,
    setresgid, setresuid,
};
use std::ffi::CString;
use std::io;

/// What a process may do: its uid, gid and supplementary groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    /// uid
    pub uid: u32,
    /// gid
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

impl Rights {
    /// No supplementary groups but the gid itself.
    pub fn new(uid: u32, gid: u32) -> Self {
        Self { uid, gid, groups: vec![gid] }
    }
    /// With all groups that the group data base gives this login name.
    pub fn with_groups_of(uid: u32, gid: u32, login: &[u8]) -> io::Result<Self> {
        let login = CString::new(login).map_err(|_| Errno::EINVAL)?;
        let groups = getgrouplist(&login, Gid::from_raw(gid))?;
        Ok(Self { uid, gid, groups: groups.into_iter().map(Gid::as_raw).collect() })
    }
    /// As one word of a command line; [`Rights::of_word`] reads it.
    pub fn to_word(&self) -> String {
        let groups: Vec<String> = self.groups.iter().map(u32::to_string).collect();
        format!("{}:{}:{}", self.uid, self.gid, groups.join(","))
    }
    /// From such a word.
    pub fn of_word(word: &[u8]) -> Option<Self> {
        let word = std::str::from_utf8(word).ok()?;
        let [uid, gid, groups] = word.split(':').collect::<Vec<_>>().try_into().ok()?;
        let groups = groups.split(',').filter(|group| !group.is_empty()).map(str::parse);
        Some(Self {
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
            groups: groups.collect::<Result<_, _>>().ok()?,
        })
    }
    /// The rights of whoever started this process: its real ids and its groups.
    pub fn of_caller() -> io::Result<Self> {
        let groups = getgroups()?.into_iter().map(Gid::as_raw).collect();
        Ok(Self { uid: getuid().as_raw(), gid: getgid().as_raw(), groups })
    }
}

/// True if this process has root's rights now.
pub fn is_root() -> bool {
    geteuid().is_root()
}

/// True if all of the real, effective and saved ids are the caller's own: there is nothing to give up.
pub fn is_plain() -> bool {
    let uids = getresuid().map(|ids| ids.real == ids.effective && ids.real == ids.saved);
    let gids = getresgid().map(|ids| ids.real == ids.effective && ids.real == ids.saved);
    uids.unwrap_or(false) && gids.unwrap_or(false)
}

/// Takes these rights, for good.
pub fn become_user(rights: &Rights) -> io::Result<()> {
    // To the kernel this number means "leave it as it is".
    if rights.uid == u32::MAX || rights.gid == u32::MAX {
        return Err(Errno::EINVAL.into());
    }
    let (uid, gid) = (Uid::from_raw(rights.uid), Gid::from_raw(rights.gid));
    if geteuid().is_root() {
        let groups: Vec<Gid> = rights.groups.iter().map(|group| Gid::from_raw(*group)).collect();
        setgroups(&groups)?;
    }
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    check(rights)
}

/// Makes root of a set-uid start complete: real and saved ids are root's too, as a daemon started by root has them.
pub fn become_root_wholly() -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(0), getegid());
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    Ok(())
}

/// The group of a set-gid start, which is not in effect: it is taken up for single system calls.
#[derive(Debug)]
pub struct LaidDown {
    own: Gid,
    other: Gid,
}

/// Lays down the group of a set-gid start by an ordinary user, first thing; none if there is none. Until
/// [`become_user`] gives it up for good it can be taken up with [`LaidDown::with`].
pub fn lay_down_group() -> io::Result<Option<LaidDown>> {
    let (gids, uids) = (getresgid()?, getresuid()?);
    if gids.real == gids.effective || uids.effective != uids.real {
        return Ok(None);
    }
    setresgid(gids.real, gids.real, gids.saved)?;
    match getegid() == gids.real {
        true => Ok(Some(LaidDown { own: gids.real, other: gids.saved })),
        false => Err(Errno::EPERM.into()),
    }
}

impl LaidDown {
    /// Does this with the group. For a process of one thread: the group is the whole process's.
    pub fn with(&self, work: &mut dyn FnMut() -> nix::Result<()>) -> io::Result<()> {
        // It may have been given up for good.
        if setresgid(self.own, self.other, self.other).is_err() {
            return Err(Errno::EACCES.into());
        }
        let done = work();
        setresgid(self.own, self.own, self.other)?;
        Ok(done?)
    }
}

fn check(rights: &Rights) -> io::Result<()> {
    let uids = getresuid()?;
    let gids = getresgid()?;
    let uid_is_set = [uids.real, uids.effective, uids.saved].iter().all(|id| id.as_raw() == rights.uid);
    let gid_is_set = [gids.real, gids.effective, gids.saved].iter().all(|id| id.as_raw() == rights.gid);
    let root = Uid::from_raw(0);
    let back_to_root = rights.uid != 0 && setresuid(root, root, root).is_ok();
    if uid_is_set && gid_is_set && !back_to_root { Ok(()) } else { Err(Errno::EPERM.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::spawn::{Forked, fork, wait_for};

    #[test]
    fn rights_are_a_word_and_no_other_word_is_rights() {
        for groups in [vec![], vec![7], vec![7, 8]] {
            let rights = Rights { uid: 5, gid: 6, groups };
            assert_eq!(Rights::of_word(rights.to_word().as_bytes()), Some(rights));
        }
        for word in ["", "1", "1:2", "1:2:x", "-1:2:", "1:2:3:4", "a:2:"] {
            assert_eq!(Rights::of_word(word.as_bytes()), None, "{word}");
        }
    }

    #[test]
    fn the_number_that_changes_nothing_is_no_user() {
        let own = Rights::of_caller().unwrap();
        assert!(become_user(&Rights { uid: u32::MAX, ..own.clone() }).is_err());
        assert!(become_user(&Rights { gid: u32::MAX, ..own }).is_err());
    }

    #[test]
    fn rights_once_given_up_do_not_come_back() {
        if !is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        // The test harness has threads; the child calls nothing but system calls and ends.
        let Forked::Parent(child) = fork().unwrap() else {
            let dropped = become_user(&Rights::new(65534, 65534)).is_ok();
            let back = setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).is_ok();
            crate::sys::spawn::exit_now(if dropped && !back { 0 } else { 1 });
        };
        assert_eq!(wait_for(child).unwrap(), crate::sys::spawn::Ended::Exit(0));
    }
}
