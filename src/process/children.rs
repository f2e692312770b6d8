//! The user children of the master: how many there are, and when each is ended, whatever its user does to it.
//!
//! A user can stop what runs as himself, or let it wait for a file system of his own. A child whose orders nobody
//! waits for any more is ended after a grace (it may be in the middle of a mailbox), any child after some hours.

use super::orders::LONGEST_CHILD;
use super::user_child::{self, OrderCheck};
use crate::sys::spawn::{self, Forked};
use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::Signal;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// User children at once: enough for many mailboxes, few enough for memory and process table.
pub const MOST_USER_CHILDREN: usize = 100;
/// Longest life of one: an order's longest time, and what the giver keeps it for before.
const LIFE: Duration = LONGEST_CHILD.saturating_add(Duration::from_secs(20 * 60));
/// One that is alone has this long to finish what it does.
const GRACE: Duration = Duration::from_secs(60);

/// All that run.
#[derive(Default)]
pub struct Children {
    all: Vec<Child>,
}

struct Child {
    pid: i32,
    /// Its end of the socket of its orders: it tells when nobody is at the other end any more.
    control: OwnedFd,
    is_alone: bool,
    /// Then it is killed.
    end_at: Instant,
}

impl Children {
    /// No more can be had now.
    pub fn is_full(&self) -> bool {
        self.all.len() >= MOST_USER_CHILDREN
    }

    /// Forks one for the orders that come over `control`.
    pub fn fork(&mut self, control: OwnedFd, check: &dyn OrderCheck) -> io::Result<()> {
        match spawn::fork()? {
            Forked::Parent(pid) => self.add(pid, control),
            Forked::Child => user_child::run(&control, check),
        }
        Ok(())
    }

    fn add(&mut self, pid: i32, control: OwnedFd) {
        self.all.push(Child { pid, control, is_alone: false, end_at: Instant::now() + LIFE });
    }

    /// What to poll, to learn who is alone: [`Children::note`] takes the answers.
    pub fn watched(&self) -> impl Iterator<Item = PollFd<'_>> {
        let watched = self.all.iter().filter(|child| !child.is_alone);
        watched.map(|child| PollFd::new(child.control.as_fd(), PollFlags::empty()))
    }

    /// Which of those that were watched are alone, in their order.
    pub fn note(&mut self, alone: &[bool]) {
        let watched = self.all.iter_mut().filter(|child| !child.is_alone);
        for (child, _) in watched.zip(alone).filter(|(_, alone)| **alone) {
            child.is_alone = true;
            child.end_at = child.end_at.min(Instant::now() + GRACE);
        }
    }

    /// Until the next has to be ended.
    pub fn next_end(&self) -> Option<Duration> {
        let now = Instant::now();
        self.all.iter().map(|child| child.end_at.saturating_duration_since(now)).min()
    }

    /// Ends those whose time is over.
    pub fn end_old(&mut self) {
        let now = Instant::now();
        for child in self.all.iter_mut().filter(|child| child.end_at <= now) {
            let _ = spawn::signal(child.pid, Signal::SIGKILL); // gone already is as good
            child.end_at = now + GRACE; // one that is stuck in the kernel is not killed without a pause
        }
    }

    /// This process has ended and was reaped.
    pub fn forget(&mut self, pid: i32) {
        self.all.retain(|child| child.pid != pid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fd_passing;
    use nix::poll::{PollTimeout, poll};

    fn look(children: &mut Children) {
        let mut polled: Vec<PollFd> = children.watched().collect();
        poll(&mut polled, PollTimeout::ZERO).unwrap();
        let alone: Vec<bool> = polled.iter().map(|fd| fd.any().unwrap()).collect();
        children.note(&alone);
    }

    #[test]
    fn a_child_that_nobody_waits_for_any_more_is_ended_whatever_its_user_does() {
        let mut children = Children::default();
        let mut process = std::process::Command::new("sleep").arg("300").spawn().unwrap();
        let pid = process.id() as i32;
        spawn::signal(pid, Signal::SIGSTOP).unwrap();
        let (giver, control) = fd_passing::packet_pair().unwrap();
        children.add(pid, control);
        look(&mut children);
        assert!(children.next_end().unwrap() > LONGEST_CHILD, "somebody waits for it");
        drop(giver);
        look(&mut children);
        assert!(children.next_end().unwrap() <= GRACE);
        assert_eq!(children.watched().count(), 0);
        children.all[0].end_at = Instant::now();
        children.end_old();
        process.wait().unwrap();
        assert!(children.next_end().unwrap() > Duration::from_secs(1), "not again at once");
        children.forget(pid);
        assert!(children.next_end().is_none() && !children.is_full());
    }
}
