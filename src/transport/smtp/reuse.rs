//! Open sessions kept for the next message to the same host under the same policy.
//!
//! A session that waits is closed after a short while by a thread that lives as long as there is one, so that no
//! peer waits for us to say QUIT and no message waits for a peer's goodbye. At the process's end all are closed
//! ([`Connections::close_all`]).

use super::connection::Connection;
use super::policy::Policy;
use super::session::Session;
use bstr::BString;
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long an unused session is kept: long enough for the next message of a burst.
const IDLE_LIMIT: Duration = Duration::from_secs(2);
/// Sessions kept at once; beyond it they are closed when done, so that a wide mailing holds no more sockets.
const MAX_IDLE: usize = 64;
/// How long peers have to answer QUIT and close (Exim takes 200 ms on purpose), all that leave together.
const GOODBYE_LIMIT: Duration = Duration::from_secs(2);
/// How long the end of the process waits for the goodbyes.
const END_LIMIT: Duration = Duration::from_secs(5);

/// What two messages must have in common to share a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Name of the transport.
    pub transport: BString,
    /// The host's name as routed: certificates are checked against it.
    pub host: BString,
    /// Its address.
    pub address: Option<IpAddr>,
    /// Everything the options say for it, and the DNS demands.
    pub policy: Policy,
    /// Under DANE: the domain whose mail goes there.
    pub domain: Option<BString>,
}

/// The sessions of one transport in this process that no message is using.
#[derive(Default)]
pub struct Connections {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Between two messages, with the time since when.
    idle: Vec<(Key, Instant, Session)>,
    /// Done with.
    leaving: Vec<Session>,
    /// The thread that closes them is there.
    has_closer: bool,
    /// The process ends: nothing is kept any more.
    ends: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change of the lists is whole before anything could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connections {
    /// An idle session under this key, if there is one that the peer has not closed meanwhile.
    pub fn take(&self, key: &Key) -> Option<Session> {
        loop {
            let mut state = self.shared.lock();
            let index = state.idle.iter().rposition(|(known, _, _)| known == key)?;
            let (_, _, mut session) = state.idle.swap_remove(index);
            drop(state);
            if !session.connection.is_spoiled() {
                return Some(session);
            }
        }
    }

    /// Keeps a session that is between two messages; it is closed if there are too many.
    pub fn put(&self, key: Key, session: Session) {
        let mut state = self.shared.lock();
        if state.idle.len() < MAX_IDLE && !state.ends {
            state.idle.push((key, Instant::now(), session));
        } else {
            state.leaving.push(session);
        }
        self.wake_closer(state);
    }

    /// Says QUIT to a session that no message will use, and closes it when the peer has answered.
    pub fn leave(&self, session: Session) {
        let mut state = self.shared.lock();
        state.leaving.push(session);
        self.wake_closer(state);
    }

    /// Says QUIT to all, and waits a while for the answers: the process ends.
    pub fn close_all(&self) {
        let end = Instant::now() + END_LIMIT;
        let mut state = self.shared.lock();
        state.ends = true;
        if state.has_closer {
            self.shared.changed.notify_all();
        }
        while state.has_closer {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let woken = self.shared.changed.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        let (left, _) = take_due(&mut state, Instant::now());
        drop(state);
        say_goodbye(left);
    }

    /// Lets the thread see what changed, and starts it if there is none. Without a thread all leave now.
    fn wake_closer(&self, mut state: MutexGuard<'_, State>) {
        if state.has_closer {
            return self.shared.changed.notify_all();
        }
        let shared = self.shared.clone();
        let started =
            std::thread::Builder::new().name("smtp-idle".into()).spawn(move || close_when_due(&shared));
        match started {
            Ok(_) => state.has_closer = true,
            Err(_) => {
                let idle: Vec<_> = state.idle.drain(..).collect();
                let mut all = std::mem::take(&mut state.leaving);
                drop(state);
                all.extend(idle.into_iter().map(|(_, _, session)| session));
                say_goodbye(all);
            }
        }
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        self.close_all();
    }
}

/// The thread: closes what is due until nothing is left.
fn close_when_due(shared: &Shared) {
    let mut state = shared.lock();
    loop {
        let (due, next) = take_due(&mut state, Instant::now());
        if !due.is_empty() {
            drop(state);
            say_goodbye(due);
            state = shared.lock();
            continue;
        }
        let Some(next) = next else { break };
        let woken = shared.changed.wait_timeout(state, next.saturating_duration_since(Instant::now()));
        state = woken.unwrap_or_else(PoisonError::into_inner).0;
    }
    state.has_closer = false;
    drop(state);
    shared.changed.notify_all();
}

/// What is to be closed now, and when the next one is.
fn take_due(state: &mut State, now: Instant) -> (Vec<Session>, Option<Instant>) {
    let mut due = std::mem::take(&mut state.leaving);
    let ends = state.ends;
    let is_old = |since: Instant| ends || now.duration_since(since) >= IDLE_LIMIT;
    let (old, young): (Vec<_>, Vec<_>) = state.idle.drain(..).partition(|(_, since, _)| is_old(*since));
    state.idle = young;
    due.extend(old.into_iter().map(|(_, _, session)| session));
    (due, state.idle.iter().map(|(_, since, _)| *since + IDLE_LIMIT).min())
}

/// QUIT to all, then their answers; the peer may be gone already, which is no news to anybody.
fn say_goodbye(sessions: Vec<Session>) {
    let connections: Vec<Connection> = sessions
        .into_iter()
        .map(|mut session| {
            session.connection.say_quit();
            session.connection
        })
        .collect();
    let end = Instant::now() + GOODBYE_LIMIT;
    connections.into_iter().for_each(|connection| connection.close(end));
}
