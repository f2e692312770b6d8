//! Whose turn it is at the submission socket: calls have a thread each, and no uid has so many that others find none.
//!
//! A call beyond its uid's share waits in line as an open connection, without a thread; one beyond the line is refused.
//! Root and oxim have places of their own: an administrator gets in while users crowd the door.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many there may be.
#[derive(Clone, Copy, Debug)]
pub struct Shares {
    /// Calls at once.
    pub all: usize,
    /// Of these, for root and oxim alone.
    pub kept: usize,
    /// Calls at once of one other uid.
    pub of_uid: usize,
    /// Calls of one uid that wait.
    pub waiting_of_uid: usize,
    /// Calls that wait.
    pub waiting: usize,
}

/// The line; `C` is what waits.
#[derive(Debug)]
pub struct Line<C> {
    shares: Shares,
    own_uid: u32,
    state: Mutex<State<C>>,
}

#[derive(Debug)]
struct State<C> {
    running: HashMap<u32, usize>,
    all: usize,
    waiting: VecDeque<(u32, C)>,
}

/// One call's place, until it is dropped.
#[derive(Debug)]
pub struct Turn<C> {
    line: Arc<Line<C>>,
    uid: u32,
}

/// What is to be done with a call.
#[derive(Debug)]
pub enum Entry<C> {
    /// It is its turn.
    Now(Turn<C>, C),
    /// It waits; [`Line::next`] gives it out.
    Waits,
    /// There is no room to wait either.
    Refused(C),
}

impl<C> Line<C> {
    /// An empty line; `own_uid` is the uid that this process runs as.
    pub fn new(shares: Shares, own_uid: u32) -> Arc<Self> {
        let state = State { running: HashMap::new(), all: 0, waiting: VecDeque::new() };
        Arc::new(Self { shares, own_uid, state: Mutex::new(state) })
    }

    /// A call of this uid has come.
    pub fn enter(self: &Arc<Self>, uid: u32, call: C) -> Entry<C> {
        let mut state = self.lock();
        let before = state.waiting.iter().filter(|(of, _)| *of == uid).count();
        if before == 0 && self.has_room(&state, uid) {
            return Entry::Now(self.turn(&mut state, uid), call);
        }
        if before >= self.shares.waiting_of_uid || state.waiting.len() >= self.shares.waiting {
            return Entry::Refused(call);
        }
        state.waiting.push_back((uid, call));
        Entry::Waits
    }

    /// The first of those that wait whose turn it is now: to be asked for whenever a turn has ended.
    pub fn next(self: &Arc<Self>) -> Option<(Turn<C>, C)> {
        let mut state = self.lock();
        let next = state.waiting.iter().position(|(uid, _)| self.has_room(&state, *uid))?;
        let (uid, call) = state.waiting.remove(next)?;
        Some((self.turn(&mut state, uid), call))
    }

    fn has_room(&self, state: &State<C>, uid: u32) -> bool {
        if uid == 0 || uid == self.own_uid {
            return state.all < self.shares.all;
        }
        let of_uid = state.running.get(&uid).copied().unwrap_or(0);
        of_uid < self.shares.of_uid && state.all + self.shares.kept < self.shares.all
    }

    fn turn(self: &Arc<Self>, state: &mut State<C>, uid: u32) -> Turn<C> {
        *state.running.entry(uid).or_default() += 1;
        state.all += 1;
        Turn { line: self.clone(), uid }
    }

    /// Counts and queue are whole between statements: a panic elsewhere leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C> Drop for Turn<C> {
    fn drop(&mut self) {
        let mut state = self.line.lock();
        state.all -= 1;
        if let Some(count) = state.running.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                state.running.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARES: Shares = Shares { all: 6, kept: 2, of_uid: 3, waiting_of_uid: 2, waiting: 3 };
    const OXIM: u32 = 100;

    fn now(entry: Entry<u32>) -> Turn<u32> {
        match entry {
            Entry::Now(turn, _) => turn,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_uid_never_takes_the_places_of_others_and_root_gets_in_after_all() {
        let line = Line::new(SHARES, OXIM);
        let mut joes: Vec<_> = (0..3).map(|n| now(line.enter(1000, n))).collect();
        assert!(matches!(line.enter(1000, 3), Entry::Waits));
        let _ann = now(line.enter(1001, 10));
        assert!(matches!(line.enter(1002, 20), Entry::Waits), "the rest is root's and oxim's");
        let own = [now(line.enter(0, 30)), now(line.enter(OXIM, 31))];
        assert!(matches!(line.enter(0, 32), Entry::Waits));
        assert!(matches!(line.enter(1003, 40), Entry::Refused(40)), "the line is full");
        assert!(line.next().is_none());
        drop(joes.pop());
        let (root, call) = line.next().unwrap();
        assert_eq!(call, 32, "root may use any place, others not the last two");
        assert!(line.next().is_none());
        drop((root, own));
        assert!(matches!(line.next(), Some((_, 3))), "who came first and has room is next");
    }

    #[test]
    fn nobody_of_a_uid_overtakes_its_own_line_and_the_line_has_an_end() {
        let line = Line::new(Shares { waiting: 100, ..SHARES }, OXIM);
        let turns: Vec<_> = (0..3).map(|n| now(line.enter(1000, n))).collect();
        assert!(matches!(line.enter(1000, 3), Entry::Waits));
        assert!(matches!(line.enter(1000, 4), Entry::Waits));
        assert!(matches!(line.enter(1000, 5), Entry::Refused(5)));
        drop(turns);
        assert!(matches!(line.enter(1000, 6), Entry::Refused(6)));
        let served: Vec<u32> = std::iter::from_fn(|| line.next().map(|(_, call)| call)).collect();
        assert_eq!(served, [3, 4]);
    }
}
