//! The state of everything that is looked after. No clock, no socket, no disk: moments, chance and results come in,
//! questions and news go out.
//!
//! | what happens | to the word in hand | told |
//! |---|---|---|
//! | a good answer that lasts as long or longer | replaced | the answer, if its bytes are new; a report |
//! | a good answer that ends before the one in hand (a cache on the way) | stays | a report |
//! | a good answer from before the revocation in hand | stays | a report: a failure |
//! | a revocation | replaced | the answer, a report |
//! | anything else | stays, up to its end | a report |
//! | its end | dropped from memory | |
//!
//! Several processes may want the same; what they want is kept as long as one of them does.

use super::matter::{Found, Matter, Outcome};
use super::queue::{Place, Queue, Turn};
use crate::ocsp::http::Url;
use crate::ocsp::registry::{Key, MAX_ENTRIES, MAX_LISTS, Report};
use crate::ocsp::schedule::{Chance, Life, Schedule};
use crate::ocsp::store::Kind;
use crate::tls::gnutls::hash::{Digest, digest};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Most questions at once about certificates.
pub const PROOFS_AT_ONCE: usize = 60;
/// Most lists that are fetched at once: each may take 16 MiB, and as much again while it is checked.
pub const LISTS_AT_ONCE: usize = 4;
/// A clock that goes back by more than this was set, not corrected.
const CLOCK_SET_BACK: Duration = Duration::from_secs(300);
/// Longest reason that is kept of a failure.
const MAX_REASON: usize = 512;

/// A process that wants something.
pub type Holder = u32;

/// Everything that is looked after.
pub struct Engine {
    items: HashMap<Key, Item>,
    /// Certificates and lists do not wait for each other.
    queues: [Queue; 2],
    /// When what is in hand ends.
    ends: BTreeSet<(SystemTime, Key)>,
    issuers: HashMap<Arc<[u8]>, usize>,
    lists: usize,
    runs: u64,
    last_moment: SystemTime,
    chance: Box<dyn FnMut() -> Chance + Send>,
    news: Vec<News>,
}

struct Item {
    matter: Matter,
    holders: Vec<Holder>,
    schedule: Schedule,
    /// Where it stands in the queue; none while it is asked about, or if it never is.
    queued: Option<(Place, SystemTime)>,
    /// The question that is under way.
    run: Option<u64>,
    word: Held,
    report: Report,
}

#[derive(Clone, Debug)]
enum Held {
    Nothing,
    Good(Found),
    /// A list that the disk has, and the hash by which it is known when it comes again.
    Stored(Life, Option<Vec<u8>>),
    Revoked {
        der: Arc<[u8]>,
        since: SystemTime,
    },
}

/// What came of an answer.
enum Taken {
    Nothing,
    /// The disk has these bytes already: only the file is younger than it was.
    Known(Arc<[u8]>),
    /// To be told and stored.
    News(Arc<[u8]>),
}

/// A question that is to be asked now. It is given back with [`Engine::done`], whatever comes of it.
#[derive(Debug)]
pub struct Job {
    /// About what.
    pub key: Key,
    /// How.
    pub matter: Matter,
    run: u64,
    turn: Turn,
}

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Whom.
    pub to: Vec<Holder>,
    /// About what.
    pub key: Key,
    /// What.
    pub what: Tidings,
}

/// What is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tidings {
    /// This was found, and checked: a good proof, a revocation or a list. To be checked again by who uses it.
    Answer(Kind, Arc<[u8]>),
    /// The store has a good list for it.
    Stored(Kind),
    /// How it goes.
    Report(Report),
}

impl Engine {
    /// Nothing is wanted yet. `chance` gives numbers by chance.
    pub fn new(chance: impl FnMut() -> Chance + Send + 'static) -> Self {
        Self {
            items: HashMap::new(),
            queues: [Queue::new(PROOFS_AT_ONCE), Queue::new(LISTS_AT_ONCE)],
            ends: BTreeSet::new(),
            issuers: HashMap::new(),
            lists: 0,
            runs: 0,
            last_moment: SystemTime::UNIX_EPOCH,
            chance: Box::new(chance),
            news: Vec::new(),
        }
    }

    /// Whether this is looked after already; if not, the store may have something for it.
    pub fn knows(&self, key: Key) -> bool {
        self.items.contains_key(&key)
    }

    /// What is looked after.
    pub fn keys(&self) -> impl Iterator<Item = Key> {
        self.items.keys().copied()
    }

    /// Looks after this from now on; the holder is told what is in hand. `stored`: what the store had, checked.
    pub fn want(
        &mut self,
        holder: Holder,
        key: Key,
        matter: Matter,
        stored: Option<Outcome>,
        now: SystemTime,
    ) {
        if let Some(item) = self.items.get_mut(&key) {
            if !item.holders.contains(&holder) {
                item.holders.push(holder);
            }
            if !item.matter.is(&matter) {
                self.replace_matter(key, matter, now);
            }
        } else if let Some(full) = self.is_full(matter.kind()) {
            return self.refuse(holder, key, full);
        } else {
            self.add(holder, key, matter, stored, now);
        }
        self.tell_state(key, vec![holder]);
    }

    /// Something that cannot be looked after: its holder is told why.
    pub fn refuse(&mut self, holder: Holder, key: Key, why: String) {
        let report = Report { last_error: why, ..Report::default() };
        self.news.push(News { to: vec![holder], key, what: Tidings::Report(report) });
    }

    /// This holder does not want it any more.
    pub fn forget(&mut self, holder: Holder, key: Key) {
        let Some(item) = self.items.get_mut(&key) else { return };
        item.holders.retain(|one| *one != holder);
        if item.holders.is_empty() {
            self.unqueue(key);
            if let Some(item) = self.items.remove(&key) {
                self.forget_end(key, &item.word);
                self.drop_issuer(&item.matter);
                self.lists -= usize::from(item.matter.kind() == Kind::List);
            }
        }
    }

    /// This holder is gone, with all that it wanted.
    pub fn gone(&mut self, holder: Holder) {
        let held = self.items.iter().filter(|(_, item)| item.holders.contains(&holder));
        for key in held.map(|(key, _)| *key).collect::<Vec<_>>() {
            self.forget(holder, key);
        }
    }

    /// The next question to be asked, if one is due and there is room. Call it until there is none.
    pub fn next(&mut self, now: SystemTime) -> Option<Job> {
        self.look_at_the_clock(now);
        Kind::ALL.into_iter().find_map(|kind| self.next_of(kind, now))
    }

    fn next_of(&mut self, kind: Kind, now: SystemTime) -> Option<Job> {
        while let Some((key, turn)) = self.queues[kind as usize].next(now) {
            let Some(item) = self.items.get_mut(&key) else {
                self.queues[kind as usize].ended(turn, false);
                continue;
            };
            item.queued = None;
            if now > item.matter.end {
                item.report.next_attempt = None;
                let to = item.holders.clone();
                self.queues[kind as usize].ended(turn, false);
                self.tell_report(key, to);
                continue;
            }
            self.runs += 1;
            item.run = Some(self.runs);
            return Some(Job { key, matter: item.matter.clone(), run: self.runs, turn });
        }
        None
    }

    /// What came of a question. Gives what is to be stored.
    pub fn done(&mut self, job: Job, outcome: Outcome, now: SystemTime) -> Option<(Kind, Arc<[u8]>)> {
        self.look_at_the_clock(now);
        let Job { key, run, turn, matter } = job;
        let queue = matter.kind() as usize;
        let is_current = self.items.get(&key).is_some_and(|item| item.run == Some(run));
        if !is_current {
            // forgotten, or asked elsewhere by now: an answer to it is not one to what is wanted
            self.queues[queue].ended(turn, matches!(outcome, Outcome::Failed(_)));
            return None;
        }
        let chance = (self.chance)();
        let item = self.items.get_mut(&key)?;
        item.run = None;
        let before = item.word.clone();
        let taken = item.take(outcome, now, chance);
        let (after, failed) = (item.word.clone(), !item.report.last_error.is_empty());
        let (kind, to) = (item.matter.kind(), item.holders.clone());
        self.forget_end(key, &before);
        self.remember_end(key, &after);
        self.queues[queue].ended(turn, failed);
        self.enqueue(key, now);
        if let Taken::News(der) = &taken {
            let what = Tidings::Answer(kind, Arc::clone(der));
            self.news.push(News { to: to.clone(), key, what });
        }
        self.tell_report(key, to);
        match taken {
            Taken::Nothing => None,
            Taken::Known(der) | Taken::News(der) => Some((kind, der)),
        }
    }

    /// The disk has it now; a list need not be kept in memory beside it.
    pub fn stored(&mut self, key: Key, der: &Arc<[u8]>) {
        let Some(item) = self.items.get_mut(&key).filter(|item| item.matter.kind() == Kind::List) else {
            return;
        };
        if let Held::Good(found) = &item.word
            && Arc::ptr_eq(&found.der, der)
        {
            item.word = Held::stored(found);
        }
    }

    /// The disk does not have it any more: it is asked for.
    pub fn lost(&mut self, key: Key, now: SystemTime) {
        let Some(item) = self.items.get_mut(&key) else { return };
        if let Held::Stored(life, _) = item.word {
            item.word = Held::Nothing;
            self.ends.remove(&(life.until, key));
            if item.run.is_none() {
                item.schedule = Schedule::new(now);
                self.unqueue(key);
                self.enqueue(key, now);
            }
        }
    }

    /// When [`Engine::next`] is to be called at the latest, if nothing else happens before.
    pub fn wake_at(&self) -> Option<SystemTime> {
        let end = self.ends.first().map(|(end, _)| *end + Duration::from_secs(1));
        self.queues.iter().map(Queue::wake_at).chain([end]).flatten().min()
    }

    /// How many questions are under way.
    pub fn running(&self) -> usize {
        self.queues.iter().map(Queue::running).sum()
    }

    /// What is to be told, in this order.
    pub fn news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    fn is_full(&self, kind: Kind) -> Option<String> {
        let (count, most) = match kind {
            Kind::Proof => (self.items.len() - self.lists, MAX_ENTRIES),
            Kind::List => (self.lists, MAX_LISTS),
        };
        (count >= most).then(|| format!("not looked after: there are {most} others"))
    }

    fn add(
        &mut self,
        holder: Holder,
        key: Key,
        mut matter: Matter,
        stored: Option<Outcome>,
        now: SystemTime,
    ) {
        let issuers = &mut self.issuers;
        matter.share_issuer(|issuer| share(issuers, issuer));
        self.lists += usize::from(matter.kind() == Kind::List);
        let chance = (self.chance)();
        let (word, schedule) = match stored {
            Some(Outcome::Good(found)) => {
                let schedule = Schedule::resumed(&found.life, now, chance);
                let is_list = matter.kind() == Kind::List;
                (if is_list { Held::stored(&found) } else { Held::Good(found) }, schedule)
            }
            Some(Outcome::Revoked { der, since }) => (Held::Revoked { der, since }, Schedule::new(now)),
            Some(Outcome::Failed(_)) | None => (Held::Nothing, Schedule::new(now)),
        };
        self.remember_end(key, &word);
        let report = matter.first_report();
        let holders = vec![holder];
        let item = Item { matter, holders, schedule, queued: None, run: None, word, report };
        self.items.insert(key, item);
        self.enqueue(key, now);
    }

    /// Another responder, or another certificate of the same key: what is in hand stays, and is due.
    fn replace_matter(&mut self, key: Key, mut matter: Matter, now: SystemTime) {
        self.unqueue(key);
        let issuers = &mut self.issuers;
        matter.share_issuer(|issuer| share(issuers, issuer));
        let Some(item) = self.items.get_mut(&key) else { return };
        item.report = Report {
            successes: item.report.successes,
            failures: item.report.failures,
            ..matter.first_report()
        };
        item.schedule = Schedule::new(now);
        item.run = None;
        let old = std::mem::replace(&mut item.matter, matter);
        self.drop_issuer(&old);
        self.enqueue(key, now);
        let to = self.items.get(&key).map(|item| item.holders.clone()).unwrap_or_default();
        self.tell_report(key, to);
    }

    fn drop_issuer(&mut self, matter: &Matter) {
        if let Some(count) = self.issuers.get_mut(matter.issuer()) {
            *count -= 1;
            if *count == 0 {
                self.issuers.remove(matter.issuer());
            }
        }
    }

    /// Puts it into the queue, and the time into its report; or says that it is never asked about again.
    fn enqueue(&mut self, key: Key, now: SystemTime) {
        let Some(item) = self.items.get_mut(&key) else { return };
        let due = item.schedule.next_attempt();
        let url = item.matter.source.as_ref().ok().and_then(Option::as_ref);
        let asked = url.filter(|_| due <= item.matter.end && now <= item.matter.end);
        item.report.next_attempt = asked.map(|_| due);
        if let Some(url) = asked {
            let place = place_of(url);
            self.queues[item.matter.kind() as usize].add(&place, due, key);
            item.queued = Some((place, due));
        }
    }

    fn unqueue(&mut self, key: Key) {
        let Some(item) = self.items.get_mut(&key) else { return };
        if let Some((place, due)) = item.queued.take() {
            self.queues[item.matter.kind() as usize].remove(&place, due, key);
        }
    }

    fn tell_state(&mut self, key: Key, to: Vec<Holder>) {
        let Some(item) = self.items.get(&key) else { return };
        let kind = item.matter.kind();
        let what = match &item.word {
            Held::Good(Found { der, .. }) | Held::Revoked { der, .. } => {
                Some(Tidings::Answer(kind, Arc::clone(der)))
            }
            Held::Stored(..) => Some(Tidings::Stored(kind)),
            Held::Nothing => None,
        };
        self.news.extend(what.map(|what| News { to: to.clone(), key, what }));
        self.tell_report(key, to);
    }

    fn tell_report(&mut self, key: Key, to: Vec<Holder>) {
        if let Some(item) = self.items.get(&key) {
            self.news.push(News { to, key, what: Tidings::Report(item.report.clone()) });
        }
    }

    fn remember_end(&mut self, key: Key, word: &Held) {
        if let Some(life) = word.life() {
            self.ends.insert((life.until, key));
        }
    }

    fn forget_end(&mut self, key: Key, word: &Held) {
        if let Some(life) = word.life() {
            self.ends.remove(&(life.until, key));
        }
    }

    /// Drops what has ended, and sees whether the clock was set back.
    fn look_at_the_clock(&mut self, now: SystemTime) {
        while let Some((end, key)) = self.ends.first().copied().filter(|(end, _)| *end < now) {
            self.ends.remove(&(end, key));
            if let Some(item) = self.items.get_mut(&key) {
                item.word = Held::Nothing;
            }
        }
        let set_back = self.last_moment.duration_since(now).is_ok_and(|back| back > CLOCK_SET_BACK);
        self.last_moment = now;
        if set_back {
            let queued = self.items.iter().filter(|(_, item)| item.queued.is_some());
            for key in queued.map(|(key, _)| *key).collect::<Vec<_>>() {
                self.unqueue(key);
                let chance = (self.chance)();
                if let Some(item) = self.items.get_mut(&key) {
                    item.schedule.after_clock_set_back(now, chance);
                }
                self.enqueue(key, now);
            }
        }
    }
}

impl Item {
    /// Takes what came.
    fn take(&mut self, outcome: Outcome, now: SystemTime, chance: Chance) -> Taken {
        let outcome = match (outcome, &self.word) {
            (Outcome::Good(new), Held::Revoked { since, .. }) if new.life.since <= *since => {
                Outcome::Failed("the answer is older than the revocation".into())
            }
            (outcome, _) => outcome,
        };
        match outcome {
            Outcome::Failed(why) => {
                self.report.failures += 1;
                self.report.last_error = why;
                shorten(&mut self.report.last_error);
                let until = self.word.life().map(|life| life.until);
                self.schedule.after_failure(until, now, chance);
                Taken::Nothing
            }
            Outcome::Good(found) => {
                self.succeeded();
                let old = self.word.life().filter(|old| old.until > found.life.until);
                self.schedule.after_success(&old.unwrap_or(found.life), now, chance);
                if old.is_some() || self.word.is(&found.der) {
                    return Taken::Nothing;
                }
                if self.word.is_stored_as(&found.der) {
                    return Taken::Known(found.der);
                }
                let der = Arc::clone(&found.der);
                self.word = Held::Good(found);
                Taken::News(der)
            }
            Outcome::Revoked { der, since } => {
                self.succeeded();
                self.schedule.after_revocation(now, chance);
                if matches!(&self.word, Held::Revoked { since: known, .. } if *known == since) {
                    return Taken::Nothing;
                }
                self.word = Held::Revoked { der: Arc::clone(&der), since };
                Taken::News(der)
            }
        }
    }

    fn succeeded(&mut self) {
        self.report.successes += 1;
        self.report.last_error.clear();
    }
}

impl Held {
    fn life(&self) -> Option<Life> {
        match self {
            Held::Good(found) => Some(found.life),
            Held::Stored(life, _) => Some(*life),
            Held::Nothing | Held::Revoked { .. } => None,
        }
    }

    fn is(&self, der: &[u8]) -> bool {
        matches!(self, Held::Good(found) if *found.der == *der)
    }

    fn stored(found: &Found) -> Self {
        Held::Stored(found.life, hash(&found.der))
    }

    fn is_stored_as(&self, der: &[u8]) -> bool {
        matches!(self, Held::Stored(_, Some(known)) if hash(der).as_ref() == Some(known))
    }
}

/// None, where the library cannot: then everything is news.
fn hash(der: &[u8]) -> Option<Vec<u8>> {
    digest(Digest::Sha256, der).ok()
}

fn place_of(url: &Url) -> Place {
    format!("{}:{}", url.host.to_ascii_lowercase(), url.port).into()
}

fn share(issuers: &mut HashMap<Arc<[u8]>, usize>, issuer: &Arc<[u8]>) -> Arc<[u8]> {
    let known = issuers.get_key_value(issuer).map(|(known, _)| Arc::clone(known));
    let shared = known.unwrap_or_else(|| Arc::clone(issuer));
    *issuers.entry(Arc::clone(&shared)).or_default() += 1;
    shared
}

fn shorten(reason: &mut String) {
    if reason.len() > MAX_REASON {
        let end = (0..=MAX_REASON).rev().find(|end| reason.is_char_boundary(*end)).unwrap_or(0);
        reason.truncate(end);
    }
}
