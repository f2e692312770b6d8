//! The system's user and group data base (getpwnam_r and kin: NSS may go to the network and block).

use crate::expand::context::{UserEntry, Users};
use bstr::ByteSlice;
use nix::unistd::{Gid, Group, Uid, User};
use std::io;

/// The real one.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemUsers;

impl Users for SystemUsers {
    fn by_name(&self, name: &[u8]) -> io::Result<Option<UserEntry>> {
        let Ok(name) = name.to_str() else { return Ok(None) };
        found(User::from_name(name)).map(|user| user.map(entry))
    }
    fn by_uid(&self, uid: u32) -> io::Result<Option<UserEntry>> {
        found(User::from_uid(Uid::from_raw(uid))).map(|user| user.map(entry))
    }
    fn group(&self, name: &[u8]) -> io::Result<Option<u32>> {
        let Ok(name) = name.to_str() else { return Ok(None) };
        found(Group::from_name(name)).map(|group| group.map(|group| group.gid.as_raw()))
    }
}

/// "Not there" comes as several error numbers, depending on the NSS module (getpwnam(3)).
fn found<T>(answer: nix::Result<Option<T>>) -> io::Result<Option<T>> {
    use nix::errno::Errno;
    match answer {
        Ok(entry) => Ok(entry),
        Err(Errno::ENOENT | Errno::ESRCH | Errno::EBADF | Errno::EPERM) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn entry(user: User) -> UserEntry {
    UserEntry {
        name: user.name.into(),
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
        gecos: user.gecos.to_bytes().into(),
        home: user.dir,
        shell: user.shell,
    }
}

impl SystemUsers {
    /// The name of a gid.
    pub fn group_name(&self, gid: u32) -> io::Result<Option<String>> {
        found(Group::from_gid(Gid::from_raw(gid))).map(|group| group.map(|group| group.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_known_and_a_foreign_name_is_not() {
        assert_eq!(SystemUsers.by_name(b"root").unwrap().unwrap().uid, 0);
        assert!(SystemUsers.by_name(b"no-such-user-here").unwrap().is_none());
    }
}
