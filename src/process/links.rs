//! Links of the staple keeper with those that it serves: a pair of sockets for each two processes that run.
//!
//! Only the master makes one, and hands over both ends. So nobody at either end need ask who the other is, and there is no
//! socket in the file system in whose place somebody else could put one; after a death there simply is another pair.

use super::ipc::{self, ToRole};
use super::role::Role;
use crate::sys::fd_passing;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// The two ends of a link with a role that begins (or whose link was cut), and where in the list of those that run the
/// other one stands.
#[derive(Debug)]
pub struct Link {
    /// For the role that begins, or has asked.
    pub here: OwnedFd,
    /// Who runs already.
    pub peer: usize,
    /// For that one.
    pub there: OwnedFd,
}

/// A link with each of the others that this role is to be linked with.
pub fn make(role: Role, others: impl Iterator<Item = (usize, Role)>) -> io::Result<Vec<Link>> {
    others
        .filter(|(_, other)| role.is_linked_with(*other))
        .map(|(peer, _)| {
            let (here, there) = fd_passing::packet_pair()?;
            Ok(Link { here, peer, there })
        })
        .collect()
}

impl Link {
    /// Hands the other end over. To one that does not read what it is told nothing is said: the link is gone, and is asked
    /// for again.
    pub fn tell(&self, control: &OwnedFd) -> bool {
        ipc::try_say_with(control, &ToRole::Link(()), &[self.there.as_fd()]).is_ok()
    }

    /// Hands this end over to a role that runs.
    pub fn tell_here(&self, control: &OwnedFd) {
        let _ = ipc::try_say_with(control, &ToRole::Link(()), &[self.here.as_fd()]); // it asks again
    }
}
