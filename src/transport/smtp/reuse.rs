//! Open sessions kept for the next message to the same host under the same policy.
//!
//! An idle session is closed after a short while, so that no peer waits for us to say QUIT.

use super::policy::Policy;
use super::session::Session;
use bstr::BString;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long an unused session is kept: long enough for the next message of a burst.
pub const IDLE_LIMIT: Duration = Duration::from_secs(2);
/// Sessions kept at once; beyond it they are closed when done, so that a wide mailing holds no more sockets.
const MAX_IDLE: usize = 64;

/// What two messages must have in common to share a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Name of the transport.
    pub transport: BString,
    /// The host's name as routed: certificates are checked against it.
    pub host: BString,
    /// Its address.
    pub address: Option<IpAddr>,
    /// Everything the options say for it.
    pub policy: Policy,
}

/// The idle sessions of one process.
#[derive(Default)]
pub struct Connections {
    idle: Mutex<Vec<(Key, Instant, Session)>>,
}

impl Connections {
    /// An idle session under this key, if there is one that the peer has not closed meanwhile.
    pub fn take(&self, key: &Key) -> Option<Session> {
        loop {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            let index = idle.iter().rposition(|(known, _, _)| known == key)?;
            let (_, _, mut session) = idle.swap_remove(index);
            drop(idle);
            if !session.connection.is_spoiled() {
                return Some(session);
            }
        }
    }

    /// Keeps a session that is between two messages; says QUIT if there are too many.
    pub fn put(&self, key: Key, session: Session) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push((key, Instant::now(), session));
        } else {
            drop(idle);
            quit(session);
        }
    }

    /// Says QUIT to all that were idle for too long; the delivery worker calls it each second.
    pub fn close_idle(&self, now: Instant) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let (old, young) = idle.drain(..).partition(|(_, since, _)| now.duration_since(*since) >= IDLE_LIMIT);
        *idle = young;
        drop(idle);
        let old: Vec<(Key, Instant, Session)> = old;
        old.into_iter().for_each(|(_, _, session)| quit(session));
    }

    /// Says QUIT to all: the process ends.
    pub fn close_all(&self) {
        let all = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        all.into_iter().for_each(|(_, _, session)| quit(session));
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        self.close_all();
    }
}

/// Says QUIT.
pub fn quit(mut session: Session) {
    session.connection.say_quit();
}
