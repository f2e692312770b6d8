//! The staple keeper: the process that fetches proofs and revocation lists, and its links with those that it serves.
//!
//! Privileges: a uid of its own, from before the first byte is read. It may connect to responders and write to its store;
//! it holds no socket on which it could ask for anything else, never sees the configuration, and (with Landlock) neither
//! reads the spool nor writes anywhere else. It reads what strangers send, so nobody believes it: see [`super::keeper_link`].
//!
//! It believes nobody either. A worker that was taken over can have it look after certificates and lists of its choice,
//! within limits; whoever sends nonsense or too much is not heard any more.

use super::ipc::{self, ToMaster, ToRole};
use super::keeper_wire::{self, FromKeeper, ToKeeper, WireReport};
use super::snapshot::Snapshot;
use crate::metrics::Counters;
use crate::ocsp::fetch;
use crate::ocsp::keeper::{Event, Holder, News, Runner, Settings, Tidings};
use crate::ocsp::registry::{Key, MAX_ENTRIES, Report};
use crate::ocsp::store::{Kind, Store};
use crate::sys::{sandbox, system_words};
use bstr::{BString, ByteSlice};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// The directory of the store, below the spool directory.
pub const STORE: &str = "ocsp";
/// Settings that the master hands over in place of a configuration.
pub const STORE_SETTING: &str = "store";
/// Set (to anything): what lies in the store's place is not to be used. The daemon has said so.
pub const NO_STORE_SETTING: &str = "no store";
/// `http_proxy` of the environment that the daemon was started with.
pub const PROXY_SETTING: &str = "http_proxy";

/// In this time ...
const FLOOD_TIME: Duration = Duration::from_secs(60);
/// ... a worker may send so many packets: everything that can be wanted, and the same again after a change of all
/// certificates at once.
const FLOOD: usize = 4 * MAX_ENTRIES;
/// How often it is looked at whether the runner lives.
const LOOK: Duration = Duration::from_secs(60);
/// Packets that are taken of one worker before the others have their turn.
const TURN: usize = 64;

/// Lives until the master says stop or is gone.
pub fn live(
    control: &OwnedFd,
    snapshot: &Snapshot,
    counters: Arc<Counters>,
    links: Vec<OwnedFd>,
) -> io::Result<()> {
    let place = snapshot.setting(STORE_SETTING).ok_or_else(|| io::Error::other("no store was named"))?;
    let place = place.to_path().map_err(io::Error::other)?;
    // Without a store everything is asked for anew after a start, and nothing else is different.
    let store = match snapshot.setting(NO_STORE_SETTING) {
        Some(_) => Ok(None),
        None => check_store(place).map(Some),
    };
    let (store, fault) = store.map_or_else(|error| (None, Some(error)), |store| (store, None));
    // While there is one thread: those that come inherit it.
    confine(place, store.is_some());
    let (outbox, proxy) = (Arc::new(Outbox::new()?), proxy(snapshot)?);
    let filled = Arc::clone(&outbox);
    let settings =
        Settings { proxy, store, deadline: fetch::DEADLINE, now: Arc::new(SystemTime::now), counters };
    let runner = Runner::start(settings, move |event| filled.put(event))?;
    let mut office = Office { runner, outbox, links: BTreeMap::new(), count: 0 };
    links.into_iter().for_each(|link| office.add(link));
    if let Some(error) = fault {
        office.outbox.put(Event::Store(Some(format!("{}: {}", place.display(), system_words(&error)))));
    }
    ipc::say(control, &ToMaster::Ready(()), &[])?;
    office.work(control)
}

/// The store in this directory, if it can be used by this process.
pub fn check_store(directory: &Path) -> io::Result<Store> {
    use nix::unistd::AccessFlags;
    let store = Store::open(directory)?;
    nix::unistd::access(directory, AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK)?;
    Ok(store)
}

fn proxy(snapshot: &Snapshot) -> io::Result<Option<crate::ocsp::http::Url>> {
    let written = snapshot.setting(PROXY_SETTING).map(|text| text.to_str_lossy());
    let named = |error| io::Error::other(format!("http_proxy in the environment of the daemon: {error}"));
    fetch::proxy_of(written.as_deref()).map_err(named)
}

/// Writes nowhere but in the store, and reads nothing of the spool around it. Where the kernel cannot see to that, the
/// uid alone does.
fn confine(store: &Path, is_used: bool) {
    let spool = store.parent().unwrap_or(store);
    let store = is_used.then(|| store.to_owned());
    let result = sandbox::confine(store.as_slice(), &readable(spool, store.as_deref()));
    match result {
        Ok(()) => log::debug!(target: "process", "writes only to the store, reads nothing of the spool"),
        Err(why) => log::debug!(target: "process", "the staple keeper is not confined: {why}"),
    }
}

/// Everything but the spool: the system's resolver reads files all over the place. Beside each directory on the way to
/// the spool stand others, which may be read; of the spool only the store may.
fn readable(spool: &Path, store: Option<&Path>) -> Vec<PathBuf> {
    let spool = std::fs::canonicalize(spool).unwrap_or_else(|_| spool.to_owned());
    let mut places: Vec<PathBuf> = store.map(Path::to_owned).into_iter().collect();
    for directory in spool.ancestors().skip(1) {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        places.extend(entries.map(|entry| entry.path()).filter(|path| !spool.starts_with(path)));
    }
    places
}

/// The links, and what goes over them.
struct Office {
    runner: Runner,
    outbox: Arc<Outbox>,
    links: BTreeMap<Holder, Link>,
    count: Holder,
}

/// The link with one worker.
struct Link {
    socket: OwnedFd,
    /// Since when how many packets have come.
    came: (Instant, usize),
}

impl Office {
    fn add(&mut self, socket: OwnedFd) {
        self.count += 1;
        self.outbox.lock().insert(self.count, Waiting::default());
        self.links.insert(self.count, Link { socket, came: (Instant::now(), 0) });
    }

    fn hang_up(&mut self, holder: Holder) {
        self.links.remove(&holder);
        self.outbox.lock().remove(&holder);
        self.runner.gone(holder);
    }

    fn work(&mut self, control: &OwnedFd) -> io::Result<()> {
        loop {
            self.wait(control)?;
            let _ = self.outbox.wake.read(); // it may be another thing that woke us
            if !self.runner.is_at_work() {
                return Err(io::Error::other("internal error: nothing is planned any more"));
            }
            while ipc::is_readable(control) {
                match ipc::hear::<ToRole>(control)? {
                    Some((ToRole::Link(()), mut descriptors)) => {
                        descriptors.pop().into_iter().for_each(|link| self.add(link));
                    }
                    Some((ToRole::Start(_) | ToRole::Go(()), _)) => {}
                    // What is under way is worth nothing to a successor.
                    Some((ToRole::Retire(()) | ToRole::Stop(()), _)) | None => return Ok(()),
                }
            }
            for holder in self.links.keys().copied().collect::<Vec<_>>() {
                if let Err(why) = self.listen(holder).and_then(|()| self.speak(holder)) {
                    log::debug!(target: "tls", "the link with holder {holder} ends: {why}");
                    self.hang_up(holder);
                }
            }
        }
    }

    fn wait(&self, control: &OwnedFd) -> io::Result<()> {
        let fds: Vec<PollFd> = {
            let outbox = self.outbox.lock();
            let events = |holder: &Holder| match outbox.get(holder).is_some_and(|waiting| !waiting.is_empty())
            {
                true => PollFlags::POLLIN | PollFlags::POLLOUT,
                false => PollFlags::POLLIN,
            };
            let links =
                self.links.iter().map(|(holder, link)| PollFd::new(link.socket.as_fd(), events(holder)));
            let own =
                [control.as_fd(), self.outbox.wake.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            own.into_iter().chain(links).collect()
        };
        let mut fds = fds;
        match poll(&mut fds, PollTimeout::try_from(LOOK).unwrap_or(PollTimeout::MAX)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn listen(&mut self, holder: Holder) -> io::Result<()> {
        let Some(link) = self.links.get_mut(&holder) else { return Ok(()) };
        for _ in 0..TURN {
            if !ipc::is_readable(&link.socket) {
                break;
            }
            let Some((message, memfd)) = keeper_wire::hear(&link.socket)? else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            if link.came.0.elapsed() >= FLOOD_TIME {
                link.came = (Instant::now(), 0);
            }
            link.came.1 += 1;
            if link.came.1 > FLOOD {
                return Err(io::Error::other("too much was sent"));
            }
            match message {
                ToKeeper::Want(want) => self.runner.want(holder, want.key, &want.read(memfd)?),
                ToKeeper::WantList(want) => self.runner.want_list(holder, want.key, &want.read(memfd)?),
                ToKeeper::Forget(key) => self.runner.forget(holder, key),
            }
        }
        Ok(())
    }

    /// As much as there is room for.
    fn speak(&mut self, holder: Holder) -> io::Result<()> {
        let Some(link) = self.links.get(&holder) else { return Ok(()) };
        for _ in 0..TURN {
            let Some(next) = self.outbox.lock().get_mut(&holder).and_then(Waiting::take) else { break };
            let said = match &next {
                Saying::Answer(key, kind, der) => {
                    keeper_wire::try_say(&link.socket, &FromKeeper::Answer((*key, *kind)), Some(der))
                }
                Saying::Report(key, report) => {
                    let report = FromKeeper::Report(WireReport::new(*key, report));
                    keeper_wire::try_say(&link.socket, &report, None)
                }
                Saying::Store(why) => {
                    let why =
                        why.as_ref().map(|why| BString::from(keeper_wire::text(why.as_bytes().as_bstr())));
                    keeper_wire::try_say(&link.socket, &FromKeeper::Store(why), None)
                }
            };
            match said {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if let Some(waiting) = self.outbox.lock().get_mut(&holder) {
                        waiting.put_back(next);
                    }
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// What is to be said to each: filled by the runner's thread, emptied by ours. The newest word on a thing takes the place
/// of an older one, so that nothing grows for a worker that does not listen.
struct Outbox {
    waiting: Mutex<BTreeMap<Holder, Waiting>>,
    wake: EventFd,
}

#[derive(Default)]
struct Waiting {
    answers: BTreeMap<Key, (Kind, Arc<[u8]>)>,
    reports: BTreeMap<Key, Report>,
    /// Keys in the order in which they came to be told of.
    order: BTreeSet<(u64, Key)>,
    numbers: BTreeMap<Key, u64>,
    count: u64,
    store: Option<Option<String>>,
}

enum Saying {
    Answer(Key, Kind, Arc<[u8]>),
    Report(Key, Report),
    Store(Option<String>),
}

impl Outbox {
    fn new() -> io::Result<Self> {
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self { waiting: Mutex::default(), wake })
    }

    /// A panic leaves what is locked in a state that loses a word at most.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Holder, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, event: Event) {
        let mut all = self.lock();
        match event {
            Event::News(News { to, key, what }) => {
                for holder in to {
                    // One that is gone hears nothing.
                    let Some(waiting) = all.get_mut(&holder) else { continue };
                    match &what {
                        Tidings::Answer(kind, der) => waiting.answer(key, *kind, Arc::clone(der)),
                        Tidings::Report(report) => waiting.report(key, report.clone()),
                        Tidings::Stored(_) => {} // the runner tells the list itself
                    }
                }
            }
            Event::Store(why) => all.values_mut().for_each(|waiting| waiting.store = Some(why.clone())),
        }
        drop(all);
        let _ = self.wake.write(1); // full: it rings already
    }
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.order.is_empty() && self.store.is_none()
    }

    fn queue(&mut self, key: Key) {
        if !self.numbers.contains_key(&key) {
            self.count += 1;
            self.numbers.insert(key, self.count);
            self.order.insert((self.count, key));
        }
    }

    fn answer(&mut self, key: Key, kind: Kind, der: Arc<[u8]>) {
        self.answers.insert(key, (kind, der));
        self.queue(key);
    }

    fn report(&mut self, key: Key, report: Report) {
        self.reports.insert(key, report);
        self.queue(key);
    }

    /// The next word. What was found comes before the report on it: who hears that it succeeded has the proof.
    fn take(&mut self) -> Option<Saying> {
        if let Some(why) = self.store.take() {
            return Some(Saying::Store(why));
        }
        let (number, key) = self.order.first().copied()?;
        if let Some((kind, der)) = self.answers.remove(&key) {
            if !self.reports.contains_key(&key) {
                self.done(number, key);
            }
            return Some(Saying::Answer(key, kind, der));
        }
        self.done(number, key);
        self.reports.remove(&key).map(|report| Saying::Report(key, report))
    }

    fn done(&mut self, number: u64, key: Key) {
        self.order.remove(&(number, key));
        self.numbers.remove(&key);
    }

    /// It could not be said; a newer word goes before it.
    fn put_back(&mut self, saying: Saying) {
        match saying {
            Saying::Answer(key, kind, der) => {
                self.answers.entry(key).or_insert((kind, der));
                self.queue(key);
            }
            Saying::Report(key, report) => {
                self.reports.entry(key).or_insert(report);
                self.queue(key);
            }
            Saying::Store(why) => {
                self.store.get_or_insert(why);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fd_passing::packet_pair;

    fn key(number: u8) -> Key {
        Key([number; 32])
    }

    fn office(store: &Path) -> Office {
        let settings = Settings {
            counters: Arc::default(),
            proxy: None,
            store: Some(check_store(store).unwrap()),
            deadline: fetch::DEADLINE,
            now: Arc::new(SystemTime::now),
        };
        let outbox = Arc::new(Outbox::new().unwrap());
        let filled = Arc::clone(&outbox);
        let runner = Runner::start(settings, move |event| filled.put(event)).unwrap();
        Office { runner, outbox, links: BTreeMap::new(), count: 0 }
    }

    #[test]
    fn the_newest_word_takes_the_place_of_an_older_one_and_what_was_found_comes_before_its_report() {
        let mut waiting = Waiting::default();
        let report = |successes| Report { successes, ..Report::default() };
        waiting.report(key(1), report(0));
        waiting.report(key(2), report(7));
        for successes in 1..1000 {
            waiting.answer(key(1), Kind::Proof, Arc::from(&successes.to_string().into_bytes()[..]));
            waiting.report(key(1), report(successes));
        }
        let mut said = Vec::new();
        while let Some(saying) = waiting.take() {
            said.push(match &saying {
                Saying::Answer(key, _, der) => {
                    format!("answer {} {}", key.0[0], String::from_utf8_lossy(der))
                }
                Saying::Report(key, report) => format!("report {} {}", key.0[0], report.successes),
                Saying::Store(_) => "store".to_owned(),
            });
            // What could not be said is said later, in its turn.
            if said.len() == 1 {
                waiting.put_back(saying);
            }
        }
        assert_eq!(said, ["answer 1 999", "answer 1 999", "report 1 999", "report 2 7"]);
        assert!(waiting.is_empty() && waiting.numbers.is_empty());
    }

    #[test]
    fn a_worker_that_sends_nonsense_or_too_much_is_not_heard_any_more_and_the_others_are() {
        let directory = tempfile::tempdir().unwrap();
        let mut office = office(directory.path());
        let pairs: Vec<_> = (0..3).map(|_| packet_pair().unwrap()).collect();
        let (ours, theirs): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        ours.into_iter().for_each(|link| office.add(link));
        crate::sys::fd_passing::send(&theirs[0], b"nonsense", &[]).unwrap();
        assert!(office.listen(1).is_err());
        let flood = (0..=FLOOD).find_map(|_| {
            keeper_wire::try_say(&theirs[1], &ToKeeper::Forget(key(1)), None).unwrap();
            office.listen(2).err()
        });
        assert_eq!(flood.unwrap().to_string(), "too much was sent");
        // Certificates that are none are answered with a reason, and end nothing.
        let wanted = crate::ocsp::registry::Wanted { certificate: vec![1], issuer: vec![2], responder: None };
        keeper_wire::want(&theirs[2], key(1), &wanted).unwrap();
        office.listen(3).unwrap();
        let end = Instant::now() + Duration::from_secs(20);
        while office.outbox.lock().get(&3).is_none_or(Waiting::is_empty) {
            assert!(Instant::now() < end, "no answer");
            std::thread::sleep(Duration::from_millis(5));
        }
        office.speak(3).unwrap();
        let Some((FromKeeper::Report(report), None)) = keeper_wire::hear(&theirs[2]).unwrap() else {
            panic!("no report")
        };
        assert!(report.key == key(1) && !report.last_error.is_empty(), "{report:?}");
    }

    #[test]
    fn what_is_confined_reads_nothing_of_the_spool_and_writes_only_to_the_store() {
        let directory = tempfile::tempdir().unwrap();
        let place = |name: &str| directory.path().join(name);
        for name in ["other", "spool", "spool/input", "spool/ocsp"] {
            std::fs::create_dir(place(name)).unwrap();
        }
        for name in ["other/file", "spool/input/message", "spool/ocsp/proof"] {
            std::fs::write(place(name), "text").unwrap();
        }
        let paths = ["other/file", "spool/input/message", "spool/ocsp/proof"].map(place);
        // Only the thread that confines itself is confined.
        let confined = std::thread::spawn(move || {
            let store = paths[2].parent().unwrap();
            if let Err(why) =
                sandbox::confine(&[store.to_owned()], &readable(store.parent().unwrap(), Some(store)))
            {
                return eprintln!("skipped: {why}");
            }
            let denied = |result: io::Result<()>| {
                assert_eq!(result.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
            };
            denied(std::fs::read(&paths[1]).map(drop));
            denied(std::fs::read_dir(paths[1].parent().unwrap()).map(drop));
            denied(std::fs::write(&paths[1], "x"));
            denied(std::fs::write(&paths[0], "x"));
            denied(std::fs::write("/dev/shm/oxim-keeper", "x"));
            // What the system's resolver needs is there, and the store.
            assert_eq!(std::fs::read(&paths[0]).unwrap(), b"text");
            assert!(!std::fs::read("/etc/passwd").unwrap().is_empty());
            assert_eq!(std::fs::read(&paths[2]).unwrap(), b"text");
            std::fs::write(store.join("new"), "x").unwrap();
            std::fs::rename(store.join("new"), &paths[2]).unwrap();
        });
        confined.join().unwrap();
    }
}
