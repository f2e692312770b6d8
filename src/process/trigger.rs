//! "Message is ready": one datagram from whoever committed it to the delivery worker. A lost one costs time, never
//! mail: the message lies in the spool.

use crate::mail::MessageId;
use crate::sys::fd_passing;
use crate::upward::Announce;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// How long a session waits for room in a full queue before it goes on without telling.
const PATIENCE_MS: u16 = 100;
/// Asks for a look at the whole spool.
const SCAN: &[u8] = b"*";
/// Before the id of a message that is to be delivered whatever its retry time.
const FORCE: &[u8] = b"!";
/// Ask for a queue run.
const RUN: &[u8] = b"q";
const RUN_FORCED: &[u8] = b"qf";
const RUN_FROZEN: &[u8] = b"qff";

/// The sending end.
#[derive(Debug)]
pub struct Trigger {
    socket: OwnedFd,
    lost: AtomicBool,
}

impl Trigger {
    /// Sends over this datagram socket.
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, lost: AtomicBool::new(false) }
    }
    fn send(&self, bytes: &[u8]) -> bool {
        if fd_passing::try_send(&self.socket, bytes, &[]).is_ok() {
            return true;
        }
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)];
        let _ = poll(&mut fds, PollTimeout::from(PATIENCE_MS)); // then it is tried, whatever came
        fd_passing::try_send(&self.socket, bytes, &[]).is_ok()
    }
}

impl Announce for Trigger {
    fn ready(&self, id: &MessageId) {
        let scan_is_due = self.lost.swap(false, Ordering::Relaxed);
        let told = (!scan_is_due || self.send(SCAN)) && self.send(id.as_bstr());
        if !told {
            self.lost.store(true, Ordering::Relaxed);
        }
    }
    fn force(&self, id: &MessageId) -> bool {
        self.send(&[FORCE, id.as_bstr()].concat())
    }
    fn run_queue(&self, force: bool, force_frozen: bool) -> bool {
        self.send(match (force, force_frozen) {
            (_, true) => RUN_FROZEN,
            (true, false) => RUN_FORCED,
            (false, false) => RUN,
        })
    }
}

/// What the receiving end hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// This message is ready.
    Ready(MessageId),
    /// Some were not told: look at the spool.
    Scan,
    /// This message is to be delivered now, frozen or not.
    Force(MessageId),
    /// A queue run was asked for.
    Run(RunNow),
}

/// How a queue run that was asked for is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunNow {
    /// Whatever the retry times.
    pub force: bool,
    /// Frozen messages too.
    pub force_frozen: bool,
}

/// Receives one; none for what is neither.
pub fn hear(socket: &OwnedFd) -> std::io::Result<Option<Heard>> {
    let mut buffer = [0; 64];
    let (length, _) = fd_passing::receive(socket, &mut buffer)?;
    Ok(match &buffer[..length] {
        SCAN => Some(Heard::Scan),
        RUN => Some(Heard::Run(RunNow { force: false, force_frozen: false })),
        RUN_FORCED => Some(Heard::Run(RunNow { force: true, force_frozen: false })),
        RUN_FROZEN => Some(Heard::Run(RunNow { force: true, force_frozen: true })),
        [b'!', id @ ..] => MessageId::parse(id).map(Heard::Force),
        id => MessageId::parse(id).map(Heard::Ready),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_is_told_about_as_soon_as_there_is_room() {
        let (ours, theirs) = fd_passing::datagram_pair().unwrap();
        let trigger = Trigger::new(ours);
        let id = MessageId::parse(b"1xVUuV-0003NN-2S").unwrap();
        while !trigger.lost.load(Ordering::Relaxed) {
            trigger.ready(&id);
        }
        while fd_passing::try_send(&trigger.socket, b"filler", &[]).is_ok() {}
        for _ in 0..3 {
            hear(&theirs).unwrap();
        }
        trigger.ready(&id);
        let mut heard = Vec::new();
        while !matches!(heard.last(), Some(Some(Heard::Scan))) {
            heard.push(hear(&theirs).unwrap());
        }
        assert_eq!(hear(&theirs).unwrap(), Some(Heard::Ready(id)));
    }
}
