//! New message ids (spec section "Message identification"): time, process and fraction of the second in
//! base 62, unique among the threads of a process and among processes.
//!
//! Invariant: an id is given out only after the clock has passed every id given out before, so that a later
//! process with the same pid cannot give the same one. Limit of the short form: 2000 ids a second.

use super::MessageId;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Which of Exim's two forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdForm {
    /// `tttttt-pppppp-ss`: to Exim 4.96; units of 500 microseconds.
    Short,
    /// `tttttt-ppppppppppp-ssss`: Exim 4.97 and later; units of one microsecond.
    Long,
}

impl IdForm {
    /// The form of this build's new messages (`MESSAGE_IDS`).
    pub fn of_build(setting: &str) -> Self {
        if setting == "short" { Self::Short } else { Self::Long }
    }

    /// One step of the clock, in microseconds.
    fn step(self) -> u64 {
        match self {
            Self::Short => 500,
            Self::Long => 1,
        }
    }
}

/// Gives out ids; one for each process.
#[derive(Debug)]
pub struct IdGenerator {
    form: IdForm,
    pid: u32,
    last: Mutex<u64>,
}

impl IdGenerator {
    /// A generator for the process with this pid.
    pub fn new(form: IdForm, pid: u32) -> Self {
        Self { form, pid, last: Mutex::new(0) }
    }

    /// A new id; waits for the clock to tick if it must.
    pub fn next_id(&self) -> MessageId {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let now = ticks(SystemTime::now(), self.form);
            // A clock that was put back by more than a second must not stop the mail: go on with its time.
            let put_back = *last > now + 1_000_000 / self.form.step();
            if now > *last || put_back {
                *last = now;
                return compose(self.form, now, self.pid);
            }
            std::thread::sleep(Duration::from_micros(self.form.step()));
        }
    }
}

/// Steps of the clock since 1970.
fn ticks(time: SystemTime, form: IdForm) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs() * (1_000_000 / form.step()) + u64::from(since.subsec_micros()) / form.step()
}

fn compose(form: IdForm, ticks: u64, pid: u32) -> MessageId {
    let a_second = 1_000_000 / form.step();
    let (pid_digits, fraction_digits) = match form {
        IdForm::Short => (6, 2),
        IdForm::Long => (11, 4),
    };
    let text = format!(
        "{}-{}-{}",
        base62(ticks / a_second, 6),
        base62(u64::from(pid), pid_digits),
        base62(ticks % a_second, fraction_digits)
    );
    MessageId::from_checked_text(text)
}

/// The lowest `digits` base-62 digits of a number: `0-9A-Za-z`, as Exim orders them.
pub fn base62(mut number: u64, digits: usize) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut text = vec![b'0'; digits];
    for place in text.iter_mut().rev() {
        *place = DIGITS[(number % 62) as usize];
        number /= 62;
    }
    text.iter().map(|byte| char::from(*byte)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::sync::Arc;

    #[test]
    fn ids_are_composed_as_exim_composes_them() {
        // Time and process as recorded from Exim 4.96 (its id ended in 0i: Debian's steps are ten times longer).
        let time = UNIX_EPOCH + Duration::new(1_795_443_564, 222_048_000);
        let short = compose(IdForm::Short, ticks(time, IdForm::Short), 9931);
        assert_eq!(short.as_str(), "1xVUtA-0002aB-7A");
        let long = compose(IdForm::Long, ticks(time, IdForm::Long), 9931);
        assert_eq!(long.as_str(), "1xVUtA-000000002aB-0vlQ");
        assert!(MessageId::parse(long.as_bstr()).is_some());
    }

    #[test]
    fn threads_never_get_the_same_id() {
        for form in [IdForm::Short, IdForm::Long] {
            let generator = Arc::new(IdGenerator::new(form, 1));
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    let generator = Arc::clone(&generator);
                    std::thread::spawn(move || (0..50).map(|_| generator.next_id()).collect::<Vec<_>>())
                })
                .collect();
            let ids: HashSet<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
            assert_eq!(ids.len(), 200);
        }
    }
}
