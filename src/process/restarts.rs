//! When a role that has ended is started again: ever later while it cannot even begin, soon when it works between its
//! deaths. Moments are arguments.

use super::role::Role;
use std::time::{Duration, Instant};

/// A role that dies is started again after this long, doubled each time ...
const FIRST_DELAY: Duration = Duration::from_millis(500);
/// ... up to this, ...
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// ... and from the beginning once it has run as long as it was waited for, and this long at least. So one that cannot even
/// begin is tried ever more seldom, and one that works between its deaths is soon back.
const FORGIVEN_AFTER: Duration = Duration::from_secs(2);
/// Roles that are to be started again, and what was waited for each the last time.
#[derive(Debug, Default)]
pub struct Restarts {
    due: Vec<(Role, Instant)>,
    delays: Vec<(Role, Duration)>,
}

impl Restarts {
    /// This role has ended after it `ran` so long.
    pub fn later(&mut self, role: Role, ran: Duration, now: Instant) {
        let known = self.delays.iter().position(|(known, _)| *known == role);
        let delay = delay_after(known.map(|at| self.delays[at].1), ran);
        match known {
            Some(at) => self.delays[at].1 = delay,
            None => self.delays.push((role, delay)),
        }
        self.due.push((role, now + delay));
    }

    /// The roles whose time has come; they are not due any more.
    pub fn due(&mut self, now: Instant) -> Vec<Role> {
        let (ready, later): (Vec<_>, Vec<_>) = self.due.drain(..).partition(|(_, at)| *at <= now);
        self.due = later;
        ready.into_iter().map(|(role, _)| role).collect()
    }

    /// How long until the next is due.
    pub fn next(&self, now: Instant) -> Option<Duration> {
        self.due.iter().map(|(_, at)| at.saturating_duration_since(now)).min()
    }

    /// None of them is to be started any more.
    pub fn clear(&mut self) {
        self.due.clear();
    }
}

/// How long to wait before a role is started again that ran this long; `before`: what was waited the last time.
fn delay_after(before: Option<Duration>, ran: Duration) -> Duration {
    match before {
        Some(before) if ran < before.max(FORGIVEN_AFTER) => (before * 2).min(LONGEST_DELAY),
        _ => FIRST_DELAY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_that_works_between_its_deaths_is_soon_back_and_one_that_cannot_begin_is_left_alone_ever_longer()
    {
        let second = Duration::from_secs(1);
        let mut delay = delay_after(None, Duration::ZERO);
        assert_eq!(delay, FIRST_DELAY);
        for _ in 0..3 {
            delay = delay_after(Some(delay), second * 2);
            assert_eq!(delay, FIRST_DELAY);
        }
        let delays: Vec<_> =
            std::iter::successors(Some(delay), |last| Some(delay_after(Some(*last), second)))
                .take(9)
                .map(|delay| delay.as_secs_f32())
                .collect();
        assert_eq!(delays, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]);
        assert_eq!(delay_after(Some(LONGEST_DELAY), LONGEST_DELAY), FIRST_DELAY);
    }

    #[test]
    fn each_is_due_once_at_its_time() {
        let (mut restarts, now) = (Restarts::default(), Instant::now());
        restarts.later(Role::SmtpWorker, Duration::ZERO, now);
        assert_eq!((restarts.due(now), restarts.next(now)), (vec![], Some(FIRST_DELAY)));
        assert_eq!(restarts.due(now + FIRST_DELAY), [Role::SmtpWorker]);
        assert_eq!(restarts.next(now), None);
    }
}
