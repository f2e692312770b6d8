//! Who is asked next: what waits, by responder and by time. No clock, no socket.
//!
//! Invariants: at most a given number of questions are under way at once, at most [`MAX_FOR_EACH`] at one responder, and
//! at most three quarters of them at responders whose last answer was a failure. So a responder that hangs holds up only
//! its own certificates, and any number of them that hang leave room for those that answer. The earliest goes
//! first.
//!
//! The two sets of responders that may be asked are made anew from the responder's own queue after each change
//! ([`Queue::touch`]), so nothing can be left behind in them.

use crate::ocsp::registry::Key;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

/// Most questions at once at one responder.
pub const MAX_FOR_EACH: usize = 2;

/// A responder: `host:port`.
pub type Place = Arc<str>;

/// What waits.
pub struct Queue {
    /// Most questions at once.
    most: usize,
    /// Most of them at responders that fail.
    most_at_failing: usize,
    responders: HashMap<Place, Responder>,
    /// May be asked, by the time of their first.
    ready: BTreeSet<(SystemTime, Place)>,
    /// The same, of those that fail.
    ready_failing: BTreeSet<(SystemTime, Place)>,
    running: usize,
    running_at_failing: usize,
}

#[derive(Default)]
struct Responder {
    waiting: BTreeSet<(SystemTime, Key)>,
    running: usize,
    /// How many of them were started while it failed.
    running_as_failing: usize,
    failing: bool,
    /// Where it stands in the sets.
    listed: Option<(SystemTime, bool)>,
}

/// That a question is under way; to be given back.
#[derive(Debug)]
pub struct Turn {
    place: Place,
    as_failing: bool,
}

impl Queue {
    /// Nothing waits; at most so many questions at once.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            most_at_failing: most / 4 * 3,
            responders: HashMap::new(),
            ready: BTreeSet::new(),
            ready_failing: BTreeSet::new(),
            running: 0,
            running_at_failing: 0,
        }
    }

    /// Something is to be asked at `due`.
    pub fn add(&mut self, place: &Place, due: SystemTime, key: Key) {
        self.responders.entry(Arc::clone(place)).or_default().waiting.insert((due, key));
        self.touch(place);
    }

    /// It is not to be asked.
    pub fn remove(&mut self, place: &Place, due: SystemTime, key: Key) {
        if let Some(responder) = self.responders.get_mut(place) {
            responder.waiting.remove(&(due, key));
        }
        self.touch(place);
    }

    /// The next to be asked now, if there is one and room for it.
    pub fn next(&mut self, now: SystemTime) -> Option<(Key, Turn)> {
        if self.running >= self.most {
            return None;
        }
        let is_due = |first: &&(SystemTime, Place)| first.0 <= now;
        let well = self.ready.first().filter(is_due);
        let failing = self.ready_failing.first().filter(is_due);
        let failing = failing.filter(|_| self.running_at_failing < self.most_at_failing);
        let first = match (well, failing) {
            (Some(well), Some(failing)) => well.min(failing),
            (one, other) => one.or(other)?,
        };
        let place = Arc::clone(&first.1);
        let responder = self.responders.get_mut(&place)?;
        let (_, key) = responder.waiting.pop_first()?;
        let as_failing = responder.failing;
        responder.running += 1;
        responder.running_as_failing += usize::from(as_failing);
        self.running += 1;
        self.running_at_failing += usize::from(as_failing);
        self.touch(&place);
        Some((key, Turn { place, as_failing }))
    }

    /// A question has ended, well or with a failure of the responder.
    pub fn ended(&mut self, turn: Turn, failed: bool) {
        self.running -= 1;
        self.running_at_failing -= usize::from(turn.as_failing);
        if let Some(responder) = self.responders.get_mut(&turn.place) {
            responder.running -= 1;
            responder.running_as_failing -= usize::from(turn.as_failing);
            responder.failing = failed;
        }
        self.touch(&turn.place);
    }

    /// When [`Queue::next`] may have something, if nothing else happens before; none if nothing waits that has room.
    pub fn wake_at(&self) -> Option<SystemTime> {
        if self.running >= self.most {
            return None;
        }
        let failing = self.ready_failing.first().filter(|_| self.running_at_failing < self.most_at_failing);
        let both = [self.ready.first(), failing];
        both.into_iter().flatten().map(|first| first.0).min()
    }

    /// How many questions are under way.
    pub fn running(&self) -> usize {
        self.running
    }

    fn touch(&mut self, place: &Place) {
        let Some(responder) = self.responders.get_mut(place) else { return };
        if let Some((time, failing)) = responder.listed.take() {
            let set = if failing { &mut self.ready_failing } else { &mut self.ready };
            set.remove(&(time, Arc::clone(place)));
        }
        match responder.waiting.first() {
            Some((time, _)) if responder.running < MAX_FOR_EACH => {
                responder.listed = Some((*time, responder.failing));
                let set = if responder.failing { &mut self.ready_failing } else { &mut self.ready };
                set.insert((*time, Arc::clone(place)));
            }
            None if responder.running == 0 => {
                self.responders.remove(place);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }
    fn key(number: usize) -> Key {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&(number as u64).to_be_bytes());
        Key(key)
    }
    fn place(number: usize) -> Place {
        format!("r{number}.test:80").into()
    }

    #[test]
    fn the_earliest_goes_first_and_nothing_before_its_time() {
        let mut queue = Queue::new(64);
        queue.add(&place(1), at(20), key(1));
        queue.add(&place(2), at(10), key(2));
        assert!(queue.next(at(9)).is_none());
        assert_eq!(queue.wake_at(), Some(at(10)));
        assert_eq!(queue.next(at(30)).unwrap().0, key(2));
        assert_eq!(queue.next(at(30)).unwrap().0, key(1));
        assert!(queue.next(at(30)).is_none() && queue.wake_at().is_none());
    }

    #[test]
    fn one_responder_that_hangs_delays_no_other() {
        let mut queue = Queue::new(64);
        (0..1000).for_each(|number| queue.add(&place(0), at(0), key(number)));
        (1..=10).for_each(|number| queue.add(&place(number), at(1), key(1000 + number)));
        let started: Vec<_> = std::iter::from_fn(|| queue.next(at(1))).collect();
        assert_eq!(started.iter().filter(|(key, _)| *key < self::key(1000)).count(), MAX_FOR_EACH);
        assert_eq!(started.len(), MAX_FOR_EACH + 10);
    }

    #[test]
    fn any_number_of_responders_that_hang_leaves_room_for_those_that_answer() {
        let mut queue = Queue::new(64);
        let now = at(10);
        // all failed once; each is asked again
        for number in 0..100 {
            queue.add(&place(number), at(0), key(number));
            let (_, turn) = queue.next(now).unwrap();
            queue.add(&place(number), at(1), key(number));
            queue.ended(turn, true);
        }
        let hanging: Vec<_> = std::iter::from_fn(|| queue.next(now)).collect();
        assert_eq!(hanging.len(), 48);
        assert_eq!(queue.wake_at(), None);
        queue.add(&"well.test:80".into(), at(5), key(500));
        assert_eq!(queue.next(now).unwrap().0, key(500));
    }

    proptest! {
        /// Whatever is added, removed and ended in whatever order: no limit is broken, nothing is lost.
        #[test]
        fn limits_hold_and_nothing_is_left_behind(steps in proptest::collection::vec((0_u8..4, 0_usize..8, 0_u64..50), 1..400)) {
            let mut queue = Queue::new(64);
            let mut waiting = BTreeSet::new();
            let (mut turns, mut now, mut count) = (Vec::new(), 0, 0);
            for (what, number, time) in steps {
                match what {
                    0 => {
                        count += 1;
                        queue.add(&place(number), at(time), key(count));
                        waiting.insert((key(count), number, time));
                    }
                    1 => {
                        if let Some(gone) = waiting.pop_first() {
                            queue.remove(&place(gone.1), at(gone.2), gone.0);
                        }
                    }
                    2 => {
                        now = now.max(time);
                        while let Some((key, turn)) = queue.next(at(now)) {
                            let started = *waiting.iter().find(|item| item.0 == key).expect("it waited");
                            prop_assert!(started.2 <= now);
                            waiting.remove(&started);
                            turns.push((started.1, turn));
                        }
                        for number in 0..8 {
                            prop_assert!(turns.iter().filter(|(place, _)| *place == number).count() <= MAX_FOR_EACH);
                        }
                    }
                    _ => if !turns.is_empty() {
                        let (_, turn) = turns.remove(number % turns.len());
                        queue.ended(turn, time % 2 == 0);
                    },
                }
                prop_assert_eq!(queue.running(), turns.len());
            }
            while !waiting.is_empty() || !turns.is_empty() {
                while let Some((key, turn)) = queue.next(at(100)) {
                    waiting.retain(|item| item.0 != key);
                    turns.push((0, turn));
                }
                let Some((_, turn)) = turns.pop() else { break };
                queue.ended(turn, false);
            }
            prop_assert!(waiting.is_empty(), "left behind: {waiting:?}");
            prop_assert!(queue.responders.is_empty() && queue.ready.is_empty() && queue.ready_failing.is_empty());
        }
    }
}
