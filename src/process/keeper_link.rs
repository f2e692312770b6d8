//! The link with the staple keeper, on the side of a worker: what is wanted goes out, what was found comes in.
//!
//! One thread speaks with the keeper. Whoever wants something (a handshake that loads a certificate) only leaves it here,
//! and never waits: a keeper that is slow, dead or taken over costs proofs in the course of days, and nobody an answer.
//! When the master brings a new link, after a death on either side or because one that was cut was asked for again
//! ([`super::relink`]), everything is told again.

use super::ipc::{self, MAX_PACKET, ToMaster};
use super::keeper_wire::{self, FromKeeper, ToKeeper};
use super::relink::Asking;
use crate::ocsp::registry::{Keeper, Key, Report, Wanted, WantedList};
use crate::ocsp::store::{Kind, Store};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often [`Hears::tick`] is called.
const TICK: Duration = Duration::from_secs(10);
/// How long after the start it is called first.
const FIRST_TICK: Duration = Duration::from_secs(1);
/// In this time ...
const FLOOD_TIME: Duration = Duration::from_secs(60);
/// ... the keeper may send so many packets, ...
const FLOOD_BASE: usize = 200;
/// ... and so many more for each thing that it was asked to look after: a start brings two or three for each, and what
/// fails is asked about once a minute at most. One that sends more is taken over, or broken: its link is cut.
const FLOOD_FOR_EACH: usize = 12;
/// How long a fault of our own keeps the thread quiet: it may happen each time.
const AFTER_FAULT: Duration = Duration::from_secs(if cfg!(test) { 0 } else { 60 });
/// Packets that are taken in one go before what waits to go out has its turn.
const TURN: usize = 64;

/// Who hears what the keeper tells.
pub trait Hears: Send {
    /// There is a new keeper: tell it everything that is wanted.
    fn tell_all(&self);
    /// This was found for that key. It is to be checked.
    fn answer(&mut self, key: Key, kind: Kind, bytes: &[u8]);
    /// How the fetching goes.
    fn report(&self, key: Key, report: Report);
    /// How many things are wanted.
    fn wanted(&self) -> usize;
    /// Called now and then: a proof may have run out.
    fn tick(&mut self);
    /// The link is gone: asks the master for another. It may not come.
    fn ask_for_link(&self);
    /// A line for the log; `panic`: for the panic log too.
    fn log(&self, line: &str, panic: bool);
}

/// Where everybody leaves what the keeper is to look after.
pub struct KeeperLink {
    shared: Arc<Shared>,
    store: Option<Store>,
}

struct Shared {
    state: Mutex<State>,
    wake: EventFd,
}

#[derive(Default)]
struct State {
    /// A link that the thread has not taken up yet.
    new: Option<OwnedFd>,
    /// There is a link: what is left here will go out.
    linked: bool,
    /// What is to be told, the newest for each.
    outgoing: HashMap<Key, Outgoing>,
}

enum Outgoing {
    Want(Wanted),
    WantList(WantedList),
    Forget,
}

impl KeeperLink {
    /// Without a link yet. `store` is the keeper's directory; without one nothing was stored.
    pub fn new(store: &Path) -> io::Result<Self> {
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let shared = Arc::new(Shared { state: Mutex::default(), wake });
        Ok(Self { shared, store: Store::open(store).ok() })
    }

    /// Starts the thread that speaks with the keeper.
    pub fn start(&self, hears: impl Hears + 'static) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        std::thread::Builder::new()
            .name("keeper-link".into())
            .spawn(move || Talk::new(shared, hears).run())?;
        Ok(())
    }

    /// Takes up a new link in place of the old one.
    pub fn replace(&self, link: OwnedFd) {
        let mut state = self.shared.lock();
        state.new = Some(link);
        state.outgoing.clear();
        state.linked = true;
        drop(state);
        self.shared.ring();
    }

    /// What the store has, as it lies there: not checked.
    pub fn stored(&self, key: Key, kind: Kind) -> Option<Vec<u8>> {
        self.store.as_ref()?.load(key, kind).ok().flatten()
    }

    /// While there is no link it need not be kept: a new one begins with everything.
    fn leave(&self, key: Key, what: Outgoing) {
        let mut state = self.shared.lock();
        if state.linked {
            state.outgoing.insert(key, what);
            drop(state);
            self.shared.ring();
        }
    }
}

/// Asks the master for a new link, if it has room for the question: it is asked again.
pub fn ask_master(control: &OwnedFd) {
    let _ = ipc::try_say(control, &ToMaster::Relink(()));
}

impl Keeper for KeeperLink {
    fn want(&self, key: Key, wanted: &Wanted) {
        self.leave(key, Outgoing::Want(wanted.clone()));
    }
    fn want_list(&self, key: Key, wanted: &WantedList) {
        self.leave(key, Outgoing::WantList(wanted.clone()));
    }
    fn forget(&self, key: Key) {
        self.leave(key, Outgoing::Forget);
    }
    fn stored(&self, key: Key) -> Option<Vec<u8>> {
        // No certificate has the key of a list.
        KeeperLink::stored(self, key, Kind::Proof).or_else(|| KeeperLink::stored(self, key, Kind::List))
    }
    fn fetches(&self) -> bool {
        self.shared.lock().linked
    }
}

impl Shared {
    /// A panic leaves what is locked as it was: each change is one step.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn ring(&self) {
        let _ = self.wake.write(1); // full: it rings already
    }
}

/// The thread's state.
struct Talk<H> {
    shared: Arc<Shared>,
    hears: H,
    link: Option<OwnedFd>,
    asking: Asking,
    /// The log was told that the keeper is not heard.
    told_cut: bool,
    /// Since when how many packets have come.
    came: (Instant, usize),
    ticked: Instant,
}

impl<H: Hears> Talk<H> {
    fn new(shared: Arc<Shared>, hears: H) -> Self {
        let now = Instant::now();
        // What is loaded while the process starts is looked at soon.
        let ticked = now.checked_sub(TICK - FIRST_TICK).unwrap_or(now);
        let asking = Asking::new(now);
        Self { shared, hears, link: None, asking, told_cut: false, came: (now, 0), ticked }
    }

    /// A fault costs the link, never the process: connections do not end for want of a proof.
    fn run(mut self) {
        loop {
            if let Err(cause) = catch_unwind(AssertUnwindSafe(|| self.turn())) {
                self.hung_up(&End::Fault(crate::log::panic_text(&*cause)));
                std::thread::sleep(AFTER_FAULT);
            }
        }
    }

    fn turn(&mut self) {
        self.take_up();
        self.wait();
        let _ = self.shared.wake.read(); // it may be another thing that woke us
        if self.ticked.elapsed() >= TICK {
            self.ticked = Instant::now();
            self.hears.tick();
        }
        if self.asking.is_due(Instant::now()) {
            self.hears.ask_for_link();
        }
        let Some(link) = self.link.take() else { return };
        if let Err(end) = self.listen(&link).and_then(|()| self.speak(&link)) {
            self.hung_up(&end);
        } else {
            self.link = Some(link);
        }
    }

    fn take_up(&mut self) {
        let Some(link) = self.shared.lock().new.take() else { return };
        self.link = Some(link);
        self.came = (Instant::now(), 0);
        self.asking.linked(self.came.0);
        self.hears.tell_all();
    }

    fn wait(&self) {
        let outgoing = !self.shared.lock().outgoing.is_empty();
        let events = if outgoing { PollFlags::POLLIN | PollFlags::POLLOUT } else { PollFlags::POLLIN };
        let mut fds = vec![PollFd::new(self.shared.wake.as_fd(), PollFlags::POLLIN)];
        fds.extend(self.link.iter().map(|link| PollFd::new(link.as_fd(), events)));
        let to_tick = TICK.saturating_sub(self.ticked.elapsed());
        let left = self.asking.left(Instant::now()).map_or(to_tick, |left| left.min(to_tick));
        let left = left + Duration::from_millis(1);
        let _ = poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)); // then once more round
    }

    fn listen(&mut self, link: &OwnedFd) -> Result<(), End> {
        for _ in 0..TURN {
            if !ipc::is_readable(link) {
                break;
            }
            let Some((message, memfd)) = keeper_wire::hear(link).map_err(End::of)? else {
                return Err(End::Gone);
            };
            self.count_packet()?;
            if std::mem::take(&mut self.told_cut) {
                self.hears.log("the staple keeper is heard again", false);
            }
            match message {
                FromKeeper::Answer((key, kind)) => {
                    let bytes = keeper_wire::read(memfd, kind.limit()).map_err(End::Nonsense)?;
                    self.hears.answer(key, kind, &bytes);
                }
                FromKeeper::Report(report) => self.hears.report(report.key, report.report()),
                FromKeeper::Store(Some(why)) => {
                    let why = keeper_wire::text(why.as_ref());
                    self.hears.log(&format!("OCSP: fetched proofs cannot be stored: {why}"), false);
                }
                FromKeeper::Store(None) => self.hears.log("OCSP: fetched proofs are stored again", false),
            }
        }
        Ok(())
    }

    fn count_packet(&mut self) -> Result<(), End> {
        if self.came.0.elapsed() >= FLOOD_TIME {
            self.came = (Instant::now(), 0);
        }
        self.came.1 += 1;
        let most = FLOOD_BASE + FLOOD_FOR_EACH * self.hears.wanted();
        if self.came.1 > most { Err(End::Flood) } else { Ok(()) }
    }

    /// As much as there is room for.
    fn speak(&self, link: &OwnedFd) -> Result<(), End> {
        for _ in 0..TURN {
            let mut state = self.shared.lock();
            if state.new.is_some() {
                return Ok(()); // what is left here is for that one
            }
            let Some(key) = state.outgoing.keys().next().copied() else { break };
            let Some(what) = state.outgoing.remove(&key) else { break };
            drop(state);
            let said = match &what {
                Outgoing::Want(wanted) => keeper_wire::want(link, key, wanted),
                Outgoing::WantList(list) => keeper_wire::want_list(link, key, list),
                Outgoing::Forget => keeper_wire::try_say(link, &ToKeeper::Forget(key), None),
            };
            match said {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // Something newer may have taken its place meanwhile.
                    let mut state = self.shared.lock();
                    if state.new.is_none() {
                        state.outgoing.entry(key).or_insert(what);
                    }
                    break;
                }
                Err(_) => return Err(End::Gone),
            }
        }
        Ok(())
    }

    /// The link is closed by our dropping it. The master's log tells of a keeper's death.
    fn hung_up(&mut self, end: &End) {
        self.link = None;
        let mut state = self.shared.lock();
        if state.new.is_none() {
            state.linked = false;
            state.outgoing.clear();
        }
        drop(state);
        let pause = self.asking.cut(Instant::now());
        let until = format!(
            "it is not heard for now, a new link is asked for in {} s; proofs that are there are still used",
            pause.as_secs()
        );
        let line = match end {
            End::Gone => return log::debug!(target: "tls", "the staple keeper has hung up"),
            End::Nonsense(error) => format!("the staple keeper talks nonsense ({error}): {until}"),
            End::Fault(text) => format!("internal error in the link with the staple keeper: {text}: {until}"),
            End::Flood => format!("the staple keeper sends too much: {until}"),
        };
        self.told_cut = true;
        self.hears.log(&line, true);
    }
}

/// Why a link ends.
enum End {
    /// The other end is closed.
    Gone,
    /// What came is no message.
    Nonsense(io::Error),
    /// Something on our side is broken.
    Fault(String),
    /// Too much came.
    Flood,
}

impl End {
    /// A keeper that dies without having read all that we sent resets the link.
    fn of(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Gone,
            _ => Self::Nonsense(error),
        }
    }
}

// A want is a packet, whatever URL it names.
const _: () = assert!(MAX_PACKET >= 2048 + 256);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::ipc;
    use crate::process::relink::FIRST_PAUSE;
    use crate::sys::fd_passing::packet_pair;
    use std::sync::mpsc::{Receiver, Sender, channel};

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Tells a channel what it hears.
    struct Notes {
        link: Arc<KeeperLink>,
        notes: Sender<String>,
        wanted: usize,
    }

    impl Notes {
        fn note(&self, note: String) {
            let _ = self.notes.send(note);
        }
    }

    impl Hears for Notes {
        fn tell_all(&self) {
            for number in 0..self.wanted {
                self.link.want(key(number), &wanted());
            }
            self.note("tell all".into());
        }
        fn answer(&mut self, key: Key, kind: Kind, bytes: &[u8]) {
            assert!(bytes != b"PANIC", "as asked");
            self.note(format!("answer {} {kind:?} {}", key.0[0], bytes.len()));
        }
        fn report(&self, key: Key, report: Report) {
            self.note(format!("report {} {}", key.0[0], report.last_error));
        }
        fn wanted(&self) -> usize {
            self.wanted
        }
        fn tick(&mut self) {}
        fn ask_for_link(&self) {
            self.note("ask".into());
        }
        fn log(&self, line: &str, panic: bool) {
            self.note(format!("log {panic} {line}"));
        }
    }

    fn key(number: usize) -> Key {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_le_bytes());
        Key(key)
    }

    fn wanted() -> Wanted {
        Wanted { certificate: vec![1; 2000], issuer: vec![2; 1000], responder: None }
    }

    fn linked(wanted: usize) -> (Arc<KeeperLink>, OwnedFd, Receiver<String>) {
        let link = Arc::new(KeeperLink::new(Path::new("/nonexistent")).unwrap());
        let (notes, heard) = channel();
        link.start(Notes { link: link.clone(), notes, wanted }).unwrap();
        let (ours, theirs) = packet_pair().unwrap();
        link.replace(ours);
        assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), "tell all");
        (link, theirs, heard)
    }

    /// What the keeper hears, in its order.
    fn hears(keeper: &OwnedFd) -> ToKeeper {
        let mut fds = [PollFd::new(keeper.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, PollTimeout::try_from(PATIENCE).unwrap()).unwrap(), 1, "nothing came");
        keeper_wire::hear(keeper).unwrap().unwrap().0
    }

    #[test]
    fn what_is_wanted_reaches_the_keeper_and_a_new_one_hears_everything_again() {
        let (link, keeper, heard) = linked(1);
        assert!(matches!(hears(&keeper), ToKeeper::Want(want) if want.key == key(0)));
        link.forget(key(5));
        assert_eq!(hears(&keeper), ToKeeper::Forget(key(5)));
        drop(keeper);
        // Nobody waits for a dead keeper, and nothing piles up for it.
        (0..10_000).for_each(|number| link.want(key(number), &wanted()));
        let (ours, theirs) = packet_pair().unwrap();
        link.replace(ours);
        assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), "tell all");
        assert!(matches!(hears(&theirs), ToKeeper::Want(want) if want.key == key(0)));
    }

    #[test]
    fn a_keeper_that_does_not_read_holds_nobody_up_and_loses_nothing() {
        const MANY: usize = 3000;
        let (link, keeper, _heard) = linked(0);
        let begun = Instant::now();
        (0..MANY).for_each(|number| link.want(key(number), &wanted()));
        assert!(begun.elapsed() < PATIENCE, "somebody waited");
        let mut came = std::collections::HashSet::new();
        while came.len() < MANY {
            let ToKeeper::Want(want) = hears(&keeper) else { panic!("not a certificate") };
            came.insert(want.key);
        }
    }

    #[test]
    fn a_fault_in_hearing_costs_the_link_and_the_next_one_is_taken_up() {
        let (link, keeper, heard) = linked(0);
        keeper_wire::try_say(&keeper, &FromKeeper::Answer((key(3), Kind::Proof)), Some(b"PANIC")).unwrap();
        let line = heard.recv_timeout(PATIENCE).unwrap();
        let fault = "log true internal error in the link with the staple keeper: as asked: ";
        assert!(line.starts_with(fault), "{line}");
        let (ours, theirs) = packet_pair().unwrap();
        link.replace(ours);
        assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), "tell all");
        keeper_wire::try_say(&theirs, &FromKeeper::Answer((key(3), Kind::Proof)), Some(b"proof")).unwrap();
        assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), "log false the staple keeper is heard again");
        assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), "answer 3 Proof 5");
    }

    #[test]
    fn a_link_that_either_side_has_cut_is_asked_for_again_and_everything_is_told_over_the_next_one() {
        let all = [linked(1), linked(1)];
        crate::sys::fd_passing::send(&all[1].1, b"nonsense", &[]).unwrap();
        for (number, (link, keeper, heard)) in all.into_iter().enumerate() {
            if number == 0 {
                drop(keeper);
            } else {
                let line = heard.recv_timeout(PATIENCE).unwrap();
                let words = ["log true the staple keeper talks nonsense", "a new link is asked for in 5 s"];
                assert!(words.iter().all(|words| line.contains(words)), "{line}");
            }
            assert_eq!(heard.recv_timeout(FIRST_PAUSE + PATIENCE).unwrap(), "ask");
            let (ours, theirs) = packet_pair().unwrap();
            link.replace(ours);
            assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), "tell all");
            assert!(matches!(hears(&theirs), ToKeeper::Want(want) if want.key == key(0)));
        }
    }

    #[test]
    fn what_the_keeper_tells_is_heard_and_a_flood_or_nonsense_ends_it() {
        let (_link, keeper, heard) = linked(0);
        let answer = FromKeeper::Answer((key(3), Kind::Proof));
        keeper_wire::try_say(&keeper, &answer, Some(b"proof")).unwrap();
        assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), "answer 3 Proof 5");
        keeper_wire::try_say(&keeper, &FromKeeper::Store(Some("full".into())), None).unwrap();
        assert_eq!(
            heard.recv_timeout(PATIENCE).unwrap(),
            "log false OCSP: fetched proofs cannot be stored: full"
        );
        let too_long = vec![0; Kind::Proof.limit() + 1];
        keeper_wire::try_say(&keeper, &answer, Some(&too_long)).unwrap();
        assert!(
            heard.recv_timeout(PATIENCE).unwrap().starts_with("log true the staple keeper talks nonsense")
        );

        let (_link, keeper, heard) = linked(0);
        let sent = (0..FLOOD_BASE + 1).filter(|_| {
            ipc::say(&keeper, &FromKeeper::Store(None), &[]).is_ok() // waits for room
        });
        assert_eq!(sent.count(), FLOOD_BASE + 1);
        let lines: Vec<String> = heard.iter().take(FLOOD_BASE + 1).collect();
        assert!(lines[FLOOD_BASE].starts_with("log true the staple keeper sends too much"), "{lines:?}");
        assert!(ipc::say(&keeper, &FromKeeper::Store(None), &[]).is_err(), "the link is closed");
    }
}
