//! When the status of one certificate (or a revocation list) is asked for: pure, with clock and chance as arguments.
//!
//! Two things are kept apart: what is in hand may be *used* up to its end ([`Life::until`]), and a new one is *due* at
//! half of its life, so that a responder may be down for the other half before anybody notices.
//!
//! | after | the next attempt |
//! |---|---|
//! | nothing is known yet | at once |
//! | a start with something in hand | at half of its life; if that has passed, within [`START_SPREAD`] |
//! | success | at half of the life, or of what is left of it where half has passed; up to a fifth earlier, by chance |
//! | a revocation | after half of [`MAX_PAUSE`] to all of it: a certificate that was on hold may come back |
//! | failure | after half of a pause to all of it, by chance; the pause doubles from [`FIRST_PAUSE`] to [`MAX_PAUSE`] |
//! | failure with something in hand | the same, but before half of what is left has passed, and never after its end |
//!
//! Nothing waits longer than [`MAX_WAIT`]: a proof that lasts for years would hide a revocation as long.

use std::time::{Duration, SystemTime};

/// Pause after the first failure.
pub const FIRST_PAUSE: Duration = Duration::from_secs(60);
/// Longest pause after failures.
pub const MAX_PAUSE: Duration = Duration::from_secs(3600);
/// Longest wait after a success.
pub const MAX_WAIT: Duration = Duration::from_secs(7 * 86_400);
/// Shortest wait, however short the life of what is in hand: a responder must not be asked in a tight loop.
pub const MIN_WAIT: Duration = Duration::from_secs(10);
/// In which time a start asks anew about what is past half of its life: those with nothing in hand go first.
pub const START_SPREAD: Duration = Duration::from_secs(60);

/// From when to when something holds: a proof from its thisUpdate to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// When it was made.
    pub since: SystemTime,
    /// Up to this moment it may be used.
    pub until: SystemTime,
}

/// A number by chance, evenly spread over all its values.
pub type Chance = u32;

/// The schedule of one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    next: SystemTime,
    /// In a row.
    failures: u32,
}

impl Life {
    /// It may be used now.
    pub fn usable(&self, now: SystemTime) -> bool {
        now <= self.until
    }

    /// Half of it; its end, should a responder say that it ends before it begins.
    fn half(&self) -> SystemTime {
        let whole = self.until.duration_since(self.since).unwrap_or_default();
        later(self.since, whole / 2).min(self.until)
    }

    fn left(&self, now: SystemTime) -> Duration {
        self.until.duration_since(now).unwrap_or_default()
    }
}

impl Schedule {
    /// Nothing in hand: due at once.
    pub fn new(now: SystemTime) -> Self {
        Self { next: now, failures: 0 }
    }

    /// Begins with something in hand, from an earlier run.
    pub fn resumed(life: &Life, now: SystemTime, chance: Chance) -> Self {
        if !life.usable(now) {
            return Self::new(now);
        }
        let half = life.half();
        let next = if half > now {
            later(now, earlier_by_chance(wait_until(half, now), chance))
        } else {
            later(now, part(START_SPREAD.min(life.left(now) / 2), chance))
        };
        Self { next, failures: 0 }
    }

    /// The next attempt is to be made.
    pub fn due(&self, now: SystemTime) -> bool {
        now >= self.next
    }

    /// When the next attempt is made.
    pub fn next_attempt(&self) -> SystemTime {
        self.next
    }

    /// The attempt brought something with this life.
    pub fn after_success(&mut self, life: &Life, now: SystemTime, chance: Chance) {
        self.failures = 0;
        let half = life.half();
        let wait = if half > now { wait_until(half, now) } else { life.left(now) / 2 };
        self.next = later(now, earlier_by_chance(wait.min(MAX_WAIT), chance).max(MIN_WAIT));
    }

    /// The attempt brought a revocation.
    pub fn after_revocation(&mut self, now: SystemTime, chance: Chance) {
        self.failures = 0;
        self.next = later(now, half_to_all(MAX_PAUSE, chance));
    }

    /// The attempt brought nothing. `until`: the end of what is in hand.
    pub fn after_failure(&mut self, until: Option<SystemTime>, now: SystemTime, chance: Chance) {
        let doubled = FIRST_PAUSE.checked_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1);
        let pause = half_to_all(doubled.unwrap_or(MAX_PAUSE).min(MAX_PAUSE), chance);
        let left = until.and_then(|until| until.duration_since(now).ok()).filter(|left| !left.is_zero());
        self.next = later(now, left.map_or(pause, |left| pause.min((left / 2).max(MIN_WAIT)).min(left)));
    }

    /// The clock was set back: what was planned by the old one may be years away.
    pub fn after_clock_set_back(&mut self, now: SystemTime, chance: Chance) {
        self.next = self.next.min(later(now, half_to_all(FIRST_PAUSE, chance)));
    }
}

fn wait_until(moment: SystemTime, now: SystemTime) -> Duration {
    moment.duration_since(now).unwrap_or_default().min(MAX_WAIT)
}

/// Up to a fifth less, so that what was fetched together is not fetched together for ever.
fn earlier_by_chance(wait: Duration, chance: Chance) -> Duration {
    wait - part(wait / 5, chance)
}

fn half_to_all(pause: Duration, chance: Chance) -> Duration {
    pause / 2 + part(pause / 2, chance)
}

/// From nothing to all of `whole`.
fn part(whole: Duration, chance: Chance) -> Duration {
    let nanoseconds = (whole.as_nanos() * u128::from(chance)) >> Chance::BITS;
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

/// Times at the end of what the system can count do not move.
fn later(time: SystemTime, by: Duration) -> SystemTime {
    time.checked_add(by).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::UNIX_EPOCH;

    const HOUR: Duration = Duration::from_secs(3600);
    const DAY: Duration = Duration::from_secs(86_400);

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn wait(schedule: &Schedule) -> Duration {
        schedule.next_attempt().duration_since(now()).unwrap()
    }

    #[test]
    fn a_new_proof_is_due_at_half_of_its_life_or_a_little_earlier() {
        let life = Life { since: now(), until: now() + 4 * DAY };
        let mut schedule = Schedule::new(now());
        assert!(schedule.due(now()));
        schedule.after_success(&life, now(), 0);
        assert_eq!(wait(&schedule), 2 * DAY);
        assert!(!schedule.due(now() + 2 * DAY - Duration::from_secs(1)) && schedule.due(now() + 2 * DAY));
        schedule.after_success(&life, now(), u32::MAX);
        let expected = 2 * DAY * 4 / 5;
        assert!((expected..expected + Duration::from_secs(1)).contains(&wait(&schedule)));
    }

    #[test]
    fn usable_is_not_due() {
        let life = Life { since: now() - 3 * DAY, until: now() + DAY };
        let schedule = Schedule::resumed(&life, now(), u32::MAX);
        assert!(life.usable(now()) && wait(&schedule) <= START_SPREAD);
        assert!(schedule.due(now() + START_SPREAD) && life.usable(now() + START_SPREAD));
        assert!(life.usable(life.until) && !life.usable(life.until + Duration::from_secs(1)));
    }

    #[test]
    fn what_a_cache_serves_past_half_of_its_life_is_asked_for_again_at_half_of_the_rest() {
        let life = Life { since: now() - 3 * DAY, until: now() + DAY };
        let mut schedule = Schedule::new(now());
        schedule.after_success(&life, now(), 0);
        assert_eq!(wait(&schedule), DAY / 2);
    }

    #[test]
    fn pauses_after_failures_double_up_to_an_hour_and_begin_anew_after_a_success() {
        let mut schedule = Schedule::new(now());
        for minutes in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
            schedule.after_failure(None, now(), 0);
            assert_eq!(wait(&schedule), Duration::from_secs(minutes * 30));
        }
        for _ in 0..100 {
            schedule.after_failure(None, now(), u32::MAX);
        }
        assert!(wait(&schedule) <= MAX_PAUSE && wait(&schedule) > MAX_PAUSE - Duration::from_secs(1));
        schedule.after_success(&Life { since: now(), until: now() + DAY }, now(), 0);
        schedule.after_failure(None, now(), 0);
        assert_eq!(wait(&schedule), FIRST_PAUSE / 2);
    }

    #[test]
    fn a_revoked_certificate_is_asked_about_again_within_the_hour() {
        let mut schedule = Schedule::new(now());
        schedule.after_revocation(now(), 0);
        assert_eq!(wait(&schedule), MAX_PAUSE / 2);
    }

    #[test]
    fn a_proof_for_years_is_asked_for_again_within_a_week() {
        let mut schedule = Schedule::new(now());
        schedule.after_success(&Life { since: now(), until: now() + 3650 * DAY }, now(), 0);
        assert_eq!(wait(&schedule), MAX_WAIT);
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_stop_the_asking() {
        let mut schedule = Schedule::new(now());
        schedule.after_success(&Life { since: now(), until: now() + 8 * DAY }, now(), 0);
        let long_ago = now() - 3650 * DAY;
        schedule.after_clock_set_back(long_ago, u32::MAX);
        assert!(schedule.due(long_ago + FIRST_PAUSE));
    }

    /// Some moment within centuries around now, the system's ends included.
    fn moments() -> impl Strategy<Value = SystemTime> {
        prop_oneof![
            (0_u64..20_000_000_000).prop_map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds)),
            (0_u64..2_000_000).prop_map(|seconds| now() + Duration::from_secs(seconds)),
            Just(UNIX_EPOCH + Duration::from_secs(i64::MAX as u64)),
        ]
    }

    proptest! {
        #[test]
        fn a_success_is_followed_by_an_attempt_early_enough_before_the_end(
            since in moments(), until in moments(), chance: u32, now in moments(),
        ) {
            let life = Life { since, until };
            let mut schedule = Schedule::new(now);
            schedule.after_success(&life, now, chance);
            let next = schedule.next_attempt();
            prop_assert!(next >= now && next <= later(now, MAX_WAIT));
            if since <= now && until > later(now, MIN_WAIT * 2) {
                // at the latest at half of what is left, or of the whole life
                let room = until.duration_since(next).unwrap();
                let left = until.duration_since(now).unwrap();
                prop_assert!(room >= left / 2, "{room:?} of {left:?}");
            }
        }

        #[test]
        fn failures_never_sleep_past_the_end_of_what_is_in_hand_nor_spin(
            seconds in 0_u64..1_000_000, chances in proptest::collection::vec(any::<u32>(), 1..200),
        ) {
            let until = now() + Duration::from_secs(seconds);
            let (mut schedule, mut at) = (Schedule::new(now()), now());
            let (mut before_the_end, mut last_pauses) = (0_u64, Vec::new());
            for chance in chances {
                let before = at;
                schedule.after_failure((at <= until).then_some(until), at, chance);
                at = schedule.next_attempt();
                prop_assert!(at > before);
                if before < until {
                    prop_assert!(at <= until, "slept past the end");
                    before_the_end += 1;
                } else {
                    last_pauses.push(at.duration_since(before).unwrap());
                }
            }
            // at most one attempt in each half of a pause, and the halving towards the end
            prop_assert!(before_the_end <= 20 + seconds / (MAX_PAUSE.as_secs() / 2) + 16);
            prop_assert!(last_pauses.iter().all(|pause| *pause >= FIRST_PAUSE / 2 && *pause <= MAX_PAUSE));
        }

        #[test]
        fn a_start_asks_at_half_of_the_life_or_soon(
            since in moments(), until in moments(), chance: u32, now in moments(),
        ) {
            let life = Life { since, until };
            let schedule = Schedule::resumed(&life, now, chance);
            prop_assert!(schedule.next_attempt() >= now);
            if life.usable(now) {
                prop_assert!(schedule.next_attempt() <= life.half().max(later(now, START_SPREAD)));
                prop_assert!(schedule.next_attempt() <= until);
            } else {
                prop_assert!(schedule.due(now));
            }
        }
    }

    #[test]
    fn two_that_failed_together_do_not_ask_together_for_ever() {
        let (mut one, mut other) = (Schedule::new(now()), Schedule::new(now()));
        one.after_failure(None, now(), 1 << 30);
        other.after_failure(None, now(), 1 << 31);
        assert!(one.next_attempt() != other.next_attempt() && wait(&other) < HOUR);
    }
}
