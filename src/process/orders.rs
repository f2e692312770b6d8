//! The giving end of orders: asks the master (or the helper of a set-uid start) for a user child, and speaks to it.
//!
//! A child that has answered is kept for a moment, so that a busy mailbox does not cost a fork a message.

use super::ipc::{self, ToMaster};
use super::parcel;
use crate::as_user::{Answer, AsUser, Identity, Order, Wire};
use crate::sys::fd_passing;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Children of one identity that are kept for the next order.
const MOST_IDLE: usize = 4;
/// A kept child is used only this long; the child itself waits a little longer, so an order rarely meets a closing door.
const KEPT_FOR: Duration = Duration::from_millis(500);
/// How long a child waits for its next order before it ends.
pub const CHILD_PATIENCE: Duration = Duration::from_secs(1);
/// A commission is there as soon as a child is asked for; its answer comes in one piece.
pub const PARCEL_PATIENCE: Duration = Duration::from_secs(30);
/// Looking at files takes no longer, or somebody does not want it to end.
const LONGEST_LOOK: Duration = Duration::from_secs(60);
/// Writing a message takes no longer, once the mailbox is locked.
const LONGEST_WRITE: Duration = Duration::from_secs(10 * 60);
/// Beyond this the master ends a child, whatever it does: a user can stop processes of his own uid.
pub const LONGEST_CHILD: Duration = Duration::from_secs(2 * 60 * 60);
/// Orders at once for one uid, of the 32 threads that the delivery worker has: a user whose mailbox does not answer
/// must not hold them all.
const MOST_OF_ONE_UID: usize = 24;
/// How long an order waits for one of these places to become free.
const PLACE_PATIENCE: Duration = Duration::from_secs(5);

/// What a child reads: who it is (the same each time), and what it does.
pub type Commission = (Identity, Order);

/// A child is not used any more when it is this old: the master ends it some time.
const CHILD_AGE: Duration = Duration::from_secs(5 * 60);

/// A child that waits for its next order, since when, and since when it is there.
type Idle = (Child, Instant);

/// A child's socket, and since when it is there.
#[derive(Debug)]
struct Child {
    socket: OwnedFd,
    born: Instant,
}

/// Gives orders over one control socket. Any number of threads may use it.
#[derive(Debug)]
pub struct Orders {
    control: OwnedFd,
    idle: Mutex<HashMap<Vec<u8>, Vec<Idle>>>,
    running: Mutex<HashMap<u32, Vec<Instant>>>,
    ended: Condvar,
}

/// One order that runs, in the count of its uid.
struct Running<'o> {
    orders: &'o Orders,
    uid: u32,
    since: Instant,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut running = lock(&self.orders.running);
        if let Some(of_uid) = running.get_mut(&self.uid) {
            if let Some(at) = of_uid.iter().position(|since| *since == self.since) {
                of_uid.swap_remove(at);
            }
            if of_uid.is_empty() {
                running.remove(&self.uid);
            }
        }
        self.orders.ended.notify_all();
    }
}

/// Both maps are whole after each statement that changes them: a panic elsewhere leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long an order may take.
fn longest(order: &Order) -> Duration {
    match order {
        Order::ReadFile(_) | Order::CheckFiles(_) => LONGEST_LOOK,
        Order::Append(append) => {
            let wait = append.lock_interval.saturating_add(append.lock_fcntl_timeout);
            let locking = Duration::from_secs(wait.saturating_mul(u64::from(append.lock_retries) + 1));
            // Twice: the lock file first, then the file itself.
            locking.saturating_mul(2).saturating_add(LONGEST_WRITE).min(LONGEST_CHILD)
        }
        Order::Run(run) if run.timeout > 0 => {
            Duration::from_secs(run.timeout).saturating_add(LONGEST_LOOK).min(LONGEST_CHILD)
        }
        Order::Run(_) => LONGEST_CHILD,
    }
}

impl Orders {
    /// Orders go to whoever holds the other end of `control` and understands [`ToMaster::Order`].
    pub fn new(control: OwnedFd) -> Self {
        Self { control, idle: Mutex::default(), running: Mutex::default(), ended: Condvar::new() }
    }

    /// A place among the orders of this uid. Where all are taken by orders that do not end, nobody waits for them.
    fn place(&self, uid: u32) -> io::Result<Running<'_>> {
        let end = Instant::now() + PLACE_PATIENCE;
        let mut running = lock(&self.running);
        loop {
            let of_uid = running.entry(uid).or_default();
            if of_uid.len() < MOST_OF_ONE_UID {
                let since = Instant::now();
                of_uid.push(since);
                return Ok(Running { orders: self, uid, since });
            }
            let stuck = of_uid.iter().all(|since| since.elapsed() > PLACE_PATIENCE);
            let left = end.saturating_duration_since(Instant::now());
            if stuck || left.is_zero() {
                let words = format!("{MOST_OF_ONE_UID} deliveries as uid {uid} are under way and do not end");
                return Err(io::Error::other(words));
            }
            running = self.ended.wait_timeout(running, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn new_child(&self) -> io::Result<Child> {
        let (ours, theirs) = fd_passing::packet_pair()?;
        ipc::say(&self.control, &ToMaster::Order(()), &[theirs.as_fd()])?;
        Ok(Child { socket: ours, born: Instant::now() })
    }

    fn idle_child(&self, key: &[u8]) -> Option<Child> {
        let mut idle = lock(&self.idle);
        idle.retain(|_, children| {
            children.retain(|(_, since)| since.elapsed() < KEPT_FOR);
            !children.is_empty()
        });
        idle.get_mut(key)?.pop().map(|(child, _)| child)
    }

    fn keep(&self, key: Vec<u8>, child: Child) {
        if child.born.elapsed() > CHILD_AGE {
            return; // it hears that nobody wants more, and ends
        }
        let mut idle = lock(&self.idle);
        let children = idle.entry(key).or_default();
        if children.len() < MOST_IDLE {
            children.push((child, Instant::now()));
        }
    }
}

impl AsUser for Orders {
    fn carry_out(&self, who: &Identity, order: &Order, files: &[&File]) -> io::Result<Answer> {
        let _place = self.place(who.uid)?;
        let key = who.to_wire();
        let mut commission = key.clone();
        order.put(&mut commission);
        let descriptors: Vec<BorrowedFd> = files.iter().map(|file| file.as_fd()).collect();
        let child = match self.idle_child(&key) {
            // It may have ended meanwhile; then nothing was done yet and a new one is asked for.
            Some(kept) if parcel::send_bytes(&kept.socket, &commission, &descriptors).is_ok() => kept,
            _ => {
                let fresh = self.new_child()?;
                parcel::send_bytes(&fresh.socket, &commission, &descriptors)?;
                fresh
            }
        };
        wait_readable(&child.socket, longest(order))?;
        match parcel::receive::<Answer>(&child.socket, parcel::MAX_PARCEL, PARCEL_PATIENCE)? {
            Some((answer, _)) => {
                self.keep(key, child);
                Ok(answer)
            }
            None => {
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the process for the delivery has ended"))
            }
        }
    }
}

/// Waits until something can be read; an error if nothing comes.
pub fn wait_readable(fd: impl AsFd, longest: Duration) -> io::Result<()> {
    let end = Instant::now() + longest;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(0) if left.is_zero() => return Err(io::ErrorKind::TimedOut.into()),
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            Ok(_) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::as_user::{Append, CheckFiles};
    use std::sync::Arc;

    /// Orders whose children never answer, and the other ends of their sockets.
    fn deaf() -> (Arc<Orders>, OwnedFd) {
        let (ours, theirs) = fd_passing::packet_pair().unwrap();
        (Arc::new(Orders::new(ours)), theirs)
    }

    #[test]
    fn one_uid_whose_orders_do_not_end_leaves_places_to_all_others() {
        let (orders, _master) = deaf();
        let stuck = Instant::now() - PLACE_PATIENCE - Duration::from_secs(1);
        lock(&orders.running).insert(1000, vec![stuck; MOST_OF_ONE_UID]);
        let started = Instant::now();
        let refusal = orders.place(1000).err().unwrap();
        assert!(refusal.to_string().contains("as uid 1000"), "{refusal}");
        assert!(started.elapsed() < PLACE_PATIENCE, "nobody waits for what is stuck");
        let places: Vec<_> = (0..MOST_OF_ONE_UID).map(|_| orders.place(1001).unwrap()).collect();
        let waiting = orders.clone();
        let waiter = std::thread::spawn(move || waiting.place(1001).map(drop).is_ok());
        std::thread::sleep(Duration::from_millis(20));
        drop(places);
        assert!(waiter.join().unwrap(), "who waits for orders that end gets a place");
        assert!(!lock(&orders.running).contains_key(&1001));
    }

    #[test]
    fn every_order_has_an_end() {
        let look = Order::CheckFiles(CheckFiles { paths: vec![] });
        assert_eq!(longest(&look), LONGEST_LOOK);
        let append = Append { lock_retries: 10, lock_interval: 3, ..Append::default() };
        assert!(longest(&Order::Append(append)) < Duration::from_secs(15 * 60));
        let endless = Append { lock_retries: u32::MAX, lock_interval: u64::MAX, ..Append::default() };
        assert_eq!(longest(&Order::Append(endless)), LONGEST_CHILD);
    }
}
