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
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Children of one identity that are kept for the next order.
const MOST_IDLE: usize = 4;
/// A kept child is used only this long; the child itself waits a little longer, so an order rarely meets a closing door.
const KEPT_FOR: Duration = Duration::from_millis(500);
/// How long a child waits for its next order before it ends.
pub const CHILD_PATIENCE: Duration = Duration::from_secs(1);
/// No order takes longer (`lock_retries` and a pipe's `timeout` are well below); then the child is given up.
const LONGEST_ORDER: Duration = Duration::from_secs(2 * 60 * 60);

/// What a child reads: who it is (the same each time), and what it does.
pub type Commission = (Identity, Order);

/// A child that waits for its next order, and since when.
type Idle = (OwnedFd, Instant);

/// Gives orders over one control socket. Any number of threads may use it.
#[derive(Debug)]
pub struct Orders {
    control: OwnedFd,
    idle: Mutex<HashMap<Vec<u8>, Vec<Idle>>>,
}

impl Orders {
    /// Orders go to whoever holds the other end of `control` and understands [`ToMaster::Order`].
    pub fn new(control: OwnedFd) -> Self {
        Self { control, idle: Mutex::default() }
    }

    fn new_child(&self) -> io::Result<OwnedFd> {
        let (ours, theirs) = fd_passing::packet_pair()?;
        ipc::say(&self.control, &ToMaster::Order(()), &[theirs.as_fd()])?;
        Ok(ours)
    }

    fn idle_child(&self, key: &[u8]) -> Option<OwnedFd> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|_, children| {
            children.retain(|(_, since)| since.elapsed() < KEPT_FOR);
            !children.is_empty()
        });
        idle.get_mut(key)?.pop().map(|(child, _)| child)
    }

    fn keep(&self, key: Vec<u8>, child: OwnedFd) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let children = idle.entry(key).or_default();
        if children.len() < MOST_IDLE {
            children.push((child, Instant::now()));
        }
    }
}

impl AsUser for Orders {
    fn carry_out(&self, who: &Identity, order: &Order, files: &[&File]) -> io::Result<Answer> {
        let key = who.to_wire();
        let mut commission = key.clone();
        order.put(&mut commission);
        let descriptors: Vec<BorrowedFd> = files.iter().map(|file| file.as_fd()).collect();
        let child = match self.idle_child(&key) {
            // It may have ended meanwhile; then nothing was done yet and a new one is asked for.
            Some(kept) if parcel::send_bytes(&kept, &commission, &descriptors).is_ok() => kept,
            _ => {
                let fresh = self.new_child()?;
                parcel::send_bytes(&fresh, &commission, &descriptors)?;
                fresh
            }
        };
        wait_readable(&child, LONGEST_ORDER)?;
        match parcel::receive::<Answer>(&child)? {
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
