//! When a link with the staple keeper that was cut is asked for again, and whether it is given: pure, with the clock as an
//! argument.
//!
//! Either side cuts it when the other talks nonsense or too much. What was taken over, or is broken for good, does so again
//! with the next one; so each wait, before an asking and after one that brought nothing, is twice the one before, up to an
//! hour, and begins anew once a link has lasted for that long. The master gives a new pair to whoever may have one and asks slowly enough.

use std::time::{Duration, Instant};

/// From the first cut to the first asking.
pub const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// Longest pause; and so long a link has to last before it counts as good.
pub const MAX_PAUSE: Duration = Duration::from_secs(3600);
/// A role that has none at its start is brought one when the keeper has started: it need not ask for that.
const AT_START: Duration = Duration::from_secs(60);

/// The side that asks.
#[derive(Debug)]
pub struct Asking {
    /// The next pause.
    pause: Duration,
    /// When to ask; none while there is a link.
    due: Option<Instant>,
    linked: Option<Instant>,
}

impl Asking {
    /// Without a link yet.
    pub fn new(now: Instant) -> Self {
        Self { pause: FIRST_PAUSE, due: Some(now + AT_START), linked: None }
    }

    /// There is a link.
    pub fn linked(&mut self, now: Instant) {
        (self.due, self.linked) = (None, Some(now));
    }

    /// There is none any more. Gives the time to the next asking.
    pub fn cut(&mut self, now: Instant) -> Duration {
        let lasted = self.linked.take().map(|since| now.saturating_duration_since(since));
        if lasted.is_some_and(|lasted| lasted >= MAX_PAUSE) {
            self.pause = FIRST_PAUSE;
        }
        self.wait(now)
    }

    /// Whether to ask now. If so, and nothing comes of it, it is asked again later.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let due = self.due.is_some_and(|due| due <= now);
        if due {
            self.wait(now);
        }
        due
    }

    /// How long nothing has to be asked.
    pub fn left(&self, now: Instant) -> Option<Duration> {
        self.due.map(|due| due.saturating_duration_since(now))
    }

    fn wait(&mut self, now: Instant) -> Duration {
        let pause = self.pause;
        self.due = Some(now + pause);
        self.pause = (pause * 2).min(MAX_PAUSE);
        pause
    }
}

/// A role may be given so many new links ...
const AT_ONCE: u32 = 4;
/// ... and one more in each such time; who never has to wait longer than its own pauses does not come near that.
const ONE_IN: Duration = Duration::from_secs(60);
/// Who asks so often in vain is broken or taken over.
const MOST_IN_VAIN: u32 = 100;

/// The side that gives, for one role that runs.
#[derive(Debug)]
pub struct Giving {
    left: u32,
    since: Instant,
    in_vain: u32,
}

/// What is done with one who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// It gets one.
    Yes,
    /// It asks again later.
    NotNow,
    /// It floods.
    TooOften,
}

impl Giving {
    /// Of a role that has just begun.
    pub fn new(now: Instant) -> Self {
        Self { left: AT_ONCE, since: now, in_vain: 0 }
    }

    /// It asks.
    pub fn ask(&mut self, now: Instant) -> Given {
        let gone = now.saturating_duration_since(self.since);
        let more = u32::try_from(gone.as_secs() / ONE_IN.as_secs()).unwrap_or(u32::MAX);
        if more > 0 {
            self.left = self.left.saturating_add(more).min(AT_ONCE);
            (self.since, self.in_vain) = (now, 0);
        }
        if self.left > 0 {
            self.left -= 1;
            return Given::Yes;
        }
        self.in_vain += 1;
        if self.in_vain > MOST_IN_VAIN { Given::TooOften } else { Given::NotNow }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn each_pause_is_twice_the_one_before_until_a_link_has_lasted_for_an_hour() {
        let start = Instant::now();
        let (mut asking, mut now) = (Asking::new(start), start);
        assert!(!asking.is_due(now) && asking.left(now) == Some(AT_START));
        asking.linked(now);
        assert_eq!((asking.is_due(now + MAX_PAUSE * 9), asking.left(now)), (false, None));
        let mut expected = FIRST_PAUSE;
        for _ in 0..20 {
            assert_eq!(asking.cut(now), expected);
            assert!(!asking.is_due(now + expected - SECOND));
            now += expected;
            assert!(asking.is_due(now));
            assert!(!asking.is_due(now + SECOND), "one asking, then a pause");
            expected = (expected * 4).min(MAX_PAUSE);
            asking.linked(now);
            now += MAX_PAUSE - SECOND;
        }
        now += SECOND;
        assert_eq!(asking.cut(now), FIRST_PAUSE);
    }

    #[test]
    fn who_asks_by_the_pauses_is_given_each_time_and_who_floods_is_found_out() {
        let start = Instant::now();
        let (mut giving, mut asking, mut now) = (Giving::new(start), Asking::new(start), start);
        for _ in 0..50 {
            asking.linked(now);
            now += asking.cut(now);
            assert!(asking.is_due(now));
            assert_eq!(giving.ask(now), Given::Yes);
        }
        let mut flood: Vec<Given> = (0..200).map(|_| giving.ask(now)).collect();
        flood.dedup();
        assert_eq!(flood, [Given::Yes, Given::NotNow, Given::TooOften]);
        assert_eq!(giving.ask(now + ONE_IN), Given::Yes);
        assert_eq!(giving.ask(now + ONE_IN), Given::NotNow);
    }
}
