//! What the delivery worker knows of revocation lists, for the administrator, who asks the SMTP worker: the question and
//! its answer, in the form in which it travels.
//!
//! The answer is a matter of moments; a delivery worker that is dead, or stuck, holds up neither the table nor the numbers
//! for longer than [`PATIENCE`], and then they say that its part is missing.

use super::keeper_wire::WireReport;
use super::trigger::{Request, Trigger};
use crate::as_user::Wire;
use crate::ocsp::registry::{Key, Registry, Side};
use crate::ocsp::standing::{ListStanding, Source, Standings, State, UnusableFile};
use crate::transport::Registry as Transports;
use crate::{wire_enum, wire_struct};
use bstr::BString;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long the delivery worker may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// For so long a delivery worker that did not answer is not asked again.
const AFTER_SILENCE: Duration = Duration::from_secs(10);
/// Longest answer that is taken.
pub const MAX_ANSWER: usize = 4 * 1024 * 1024;

wire_enum! {
    /// A [`State`].
    pub enum WireState {
        /// In use.
        Good(()) = 1,
        /// None.
        Nothing(()) = 2,
        /// Since then.
        Expired(u64) = 3,
        /// Since then.
        Revoked(u64) = 4,
        /// For this reason.
        Unusable(BString) = 5,
    }
}

wire_struct! {
    /// A [`ListStanding`] of a client.
    pub struct WireList {
        /// Whose it is.
        pub issuer: BString,
        /// Its file or address.
        pub place: BString,
        /// It is fetched.
        pub fetched: bool,
        /// What there is.
        pub state: WireState,
        /// When it was made, in seconds since 1970.
        pub this_update: Option<u64>,
        /// And the next.
        pub next_update: Option<u64>,
        /// How the fetching goes.
        pub report: Option<WireReport>,
    }
}

wire_struct! {
    /// An [`UnusableFile`] of a client.
    pub struct WireFile {
        /// Which.
        pub file: BString,
        /// The option that names it.
        pub option: BString,
        /// What is wrong.
        pub error: BString,
        /// What was there before goes on.
        pub former_in_use: bool,
    }
}

wire_struct! {
    /// All of it.
    pub struct WireStandings {
        /// Lists.
        pub lists: Vec<WireList>,
        /// Files that could not be loaded.
        pub unusable: Vec<WireFile>,
        /// So many more.
        pub unusable_left_out: u64,
    }
}

impl Default for WireState {
    fn default() -> Self {
        Self::Nothing(())
    }
}

/// What this process knows as a client: lists of its transports, and those that are fetched for them.
pub fn of_client(transports: &Transports, fetched: Option<&Registry>, now: SystemTime) -> Standings {
    let mut all = transports.standings(now);
    let entries = fetched.map(Registry::lists).unwrap_or_default();
    all.lists.extend(entries.iter().map(|entry| ListStanding::of_entry(entry, now)));
    all.ordered()
}

/// As bytes, for whoever asks.
pub fn to_wire(standings: &Standings) -> Vec<u8> {
    let file = |file: &UnusableFile| WireFile {
        file: file.file.as_str().into(),
        option: file.option.as_str().into(),
        error: file.error.as_str().into(),
        former_in_use: file.former_in_use,
    };
    let wire = WireStandings {
        lists: standings.lists.iter().map(WireList::of).collect(),
        unusable: standings.unusable.iter().map(file).collect(),
        unusable_left_out: standings.unusable_left_out as u64,
    };
    wire.to_wire()
}

/// The delivery worker, seen from the process that is asked about it.
pub struct Elsewhere {
    trigger: Arc<Trigger>,
    /// When it did not answer, and why.
    silent: Mutex<Option<(Instant, String)>>,
}

impl Elsewhere {
    /// At the other end of this.
    pub fn new(trigger: Arc<Trigger>) -> Self {
        Self { trigger, silent: Mutex::default() }
    }

    /// What it knows now. Who asks meanwhile waits for the one who has asked.
    pub fn standings(&self) -> Standings {
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        let known = silent.as_ref().filter(|(at, _)| at.elapsed() < AFTER_SILENCE);
        let why = match known {
            Some((_, why)) => why.clone(),
            None => match self.ask() {
                Ok(standings) => {
                    *silent = None;
                    return standings;
                }
                Err(error) => silent.insert((Instant::now(), error.to_string())).1.clone(),
            },
        };
        let incomplete =
            format!("what is used for deliveries is not listed: the delivery worker does not answer ({why})");
        Standings { incomplete: Some(incomplete), ..Standings::default() }
    }

    fn ask(&self) -> io::Result<Standings> {
        let answer = self.trigger.ask(&Request::Standings(()), PATIENCE, MAX_ANSWER)?;
        let heard = WireStandings::from_wire(&answer).map_err(io::Error::other)?;
        let lists = heard.lists.iter().map(WireList::standing).collect();
        let unusable_left_out = usize::try_from(heard.unusable_left_out).unwrap_or(usize::MAX / 2);
        let mut all = Standings { lists, unusable_left_out, ..Standings::default() };
        all.add_unusable(heard.unusable.iter().map(|file| UnusableFile {
            file: file.file.to_string(),
            side: Side::Client,
            option: file.option.to_string(),
            error: file.error.to_string(),
            former_in_use: file.former_in_use,
        }));
        Ok(all)
    }
}

impl WireList {
    fn of(list: &ListStanding) -> Self {
        Self {
            issuer: list.issuer.as_str().into(),
            place: list.place.as_str().into(),
            fetched: list.source == Source::Keeper,
            state: match &list.state {
                State::Good => WireState::Good(()),
                State::Nothing => WireState::Nothing(()),
                State::Expired(end) => WireState::Expired(seconds(*end)),
                State::Revoked(since) => WireState::Revoked(seconds(*since)),
                State::Unusable(why) => WireState::Unusable(why.as_str().into()),
            },
            this_update: list.this_update.map(seconds),
            next_update: list.next_update.map(seconds),
            report: list.report.as_ref().map(|report| WireReport::new(Key::default(), report)),
        }
    }

    fn standing(&self) -> ListStanding {
        ListStanding {
            issuer: self.issuer.to_string(),
            place: self.place.to_string(),
            side: Side::Client,
            source: if self.fetched { Source::Keeper } else { Source::File },
            state: match &self.state {
                WireState::Good(()) => State::Good,
                WireState::Nothing(()) => State::Nothing,
                WireState::Expired(end) => State::Expired(time(*end)),
                WireState::Revoked(since) => State::Revoked(time(*since)),
                WireState::Unusable(why) => State::Unusable(why.to_string()),
            },
            this_update: self.this_update.map(time),
            next_update: self.next_update.map(time),
            report: self.report.as_ref().map(WireReport::report),
        }
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// What no clock can show is the beginning of time.
fn time(seconds: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ocsp::registry::Report;
    use crate::process::trigger::{self, Heard};

    fn list(state: State, report: Option<Report>) -> ListStanding {
        let at = |hours: u64| UNIX_EPOCH + Duration::from_secs(hours * 3600);
        let source = if report.is_some() { Source::Keeper } else { Source::File };
        let (this_update, next_update) = (Some(at(400_000)), Some(at(500_000)));
        let (issuer, place) = ("CN=ca".to_owned(), "/crl".to_owned());
        ListStanding { issuer, place, side: Side::Client, source, state, this_update, next_update, report }
    }

    #[test]
    fn what_the_delivery_worker_knows_arrives_as_it_was_and_its_silence_is_told_in_time() {
        let since = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let next_attempt = Some(since);
        let (source, last_error) = ("http://r/".to_owned(), "HTTP 404".to_owned());
        let report = Report { source, next_attempt, successes: 2, failures: 3, last_error };
        let lists = vec![
            list(State::Good, None),
            list(State::Nothing, Some(report.clone())),
            list(State::Expired(since), Some(Report::default())),
            list(State::Unusable("of another issuer".into()), Some(report)),
        ];
        let (trigger, theirs) = trigger::pair().unwrap();
        let elsewhere = Elsewhere::new(Arc::new(trigger));
        let (option, error) = ("tls_crl".to_owned(), "No such file or directory".to_owned());
        let file = "/gone".to_owned();
        let unusable = vec![UnusableFile { file, side: Side::Client, option, error, former_in_use: true }];
        let told = Standings { lists, unusable, unusable_left_out: 7, ..Standings::default() };
        let said = to_wire(&told);
        let worker = std::thread::spawn(move || {
            let Some(Heard::Request(Request::Standings(()), asker)) = theirs.hear().unwrap() else {
                panic!("no question")
            };
            io::Write::write_all(&mut &asker, &said).unwrap();
            asker.done(true);
            theirs
        });
        assert_eq!(elsewhere.standings(), told);
        let _silent = worker.join().unwrap();
        let begun = Instant::now();
        let nothing = elsewhere.standings();
        assert!(begun.elapsed() < 2 * PATIENCE, "{:?}", begun.elapsed());
        assert!(
            nothing.incomplete.as_ref().is_some_and(|why| why.contains("does not answer")),
            "{nothing:?}"
        );
        let begun = Instant::now();
        assert_eq!((elsewhere.standings(), begun.elapsed() < PATIENCE / 2), (nothing, true));
    }
}
