//! The status of certificates in the SMTP worker: the registry of those that are shown, the link with the staple keeper,
//! and the log's lines about both.
//!
//! What the keeper stored is read here at the start, and when a certificate is loaded that was not known: it is stapled
//! from the first connection on, with the keeper dead or alive. Nothing here is in the way of a handshake.

use super::keeper_link::{self, Hears, KeeperLink};
use super::own_lists::OwnLists;
use super::peer_lists;
use super::staple_keeper;
use crate::expand::context::Globals;
use crate::load::fetching::{self, Fetching};
use crate::log::{Log, Which};
use crate::ocsp::registry::{Entry, Key, Registry, Report};
use crate::ocsp::standing::UnusableFile;
use crate::ocsp::store::Kind;
use crate::tls::listed::Listed;
use crate::tls::{Audience, Notice};
use bstr::ByteSlice;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// How long a start waits for the proofs of certificates that demand one (must-staple). A responder that answers at all
/// does so in a second or two; one that does not must not keep mail out for long, and who waits for the daemon's start
/// gives up after three times as long.
const START_PATIENCE: Duration = Duration::from_secs(10);

/// Files of `tls_ocsp_fetch` that could not be read, as the administrator is told.
pub type Unusable = Arc<Mutex<Vec<UnusableFile>>>;

/// What looks after the certificates of this process.
pub struct CertificateStatus {
    registry: Registry,
    link: Arc<KeeperLink>,
    listed: Listed,
    unusable: Unusable,
    log: Arc<Log>,
    /// Proofs are fetched for what is shown (`tls_ocsp_fetch`).
    proofs: bool,
    /// Lists are fetched (`tls_crl_fetch`).
    lists: bool,
}

impl CertificateStatus {
    /// As the configuration wants it; none if it wants nothing.
    pub fn of(globals: &Arc<Globals>) -> Result<Option<Self>, String> {
        let lists = globals.main.bool("tls_crl_fetch");
        let (proofs, patterns) = match Fetching::of(globals)? {
            Fetching::Off if !lists => return Ok(None),
            Fetching::Off => (false, Vec::new()),
            Fetching::Shown => (true, Vec::new()),
            Fetching::Listed(patterns) => (true, patterns),
        };
        let store = globals.spool_directory.join(staple_keeper::STORE);
        let link = Arc::new(KeeperLink::new(&store).map_err(|error| error.to_string())?);
        let registry = Registry::new(link.clone());
        let responder = if patterns.is_empty() { None } else { fetching::responder(globals)? };
        let listed = Listed::new(patterns, registry.clone(), responder);
        let log = globals.log.clone();
        Ok(Some(Self { registry, link, listed, unusable: Arc::default(), log, proofs, lists }))
    }

    /// What of the files that are listed cannot be read, from now on.
    pub fn unusable(&self) -> Unusable {
        self.unusable.clone()
    }

    /// Where what is shown is looked after.
    pub fn of_shown(&self) -> Option<Registry> {
        self.proofs.then(|| self.registry.clone())
    }

    /// Where lists that policies ask for are looked after.
    pub fn of_peers(&self) -> Option<Registry> {
        self.lists.then(|| self.registry.clone())
    }

    /// Reads the files that are listed, and begins to speak with the keeper at the other end of this link (the newest
    /// of several; none: it may come later). `refresh` is called now and then: it loads what is shown if its files have
    /// changed, so that a new certificate has its proof before the next client comes. `control`: where the master hears
    /// that a new link is wanted. Gives what takes up later links.
    pub fn start(
        mut self,
        links: Vec<OwnedFd>,
        control: OwnedFd,
        refresh: Box<dyn Fn() + Send>,
    ) -> io::Result<Started> {
        let has_keeper = !links.is_empty();
        look_at_listed(&mut self.listed, &self.unusable, &self.log);
        let Self { registry, link, listed, unusable, log, lists, .. } = self;
        let own_lists = lists.then(OwnLists::default);
        let ear = Ear { registry: registry.clone(), listed, unusable, own_lists, log, control, refresh };
        link.start(ear)?;
        links.into_iter().for_each(|fd| link.replace(fd));
        Ok(Started { registry, link, has_keeper })
    }
}

/// At work.
pub struct Started {
    registry: Registry,
    link: Arc<KeeperLink>,
    has_keeper: bool,
}

impl Started {
    /// Takes up new links with the keeper.
    pub fn link(&self, fds: Vec<OwnedFd>) {
        fds.into_iter().for_each(|fd| self.link.replace(fd));
    }

    /// Waits until each certificate that demands a proof has one, or is known to have none to be had, for a while.
    pub fn wait_for_demanded_proofs(&self) {
        if !self.has_keeper {
            return; // nobody fetches
        }
        let entries = self.registry.entries();
        let demanded: Vec<&Entry> =
            entries.iter().filter(|entry| entry.demands_proof()).map(|entry| &**entry).collect();
        self.registry.await_words(&demanded, START_PATIENCE, None, SystemTime::now());
    }
}

/// Hears the keeper.
struct Ear {
    registry: Registry,
    listed: Listed,
    unusable: Unusable,
    own_lists: Option<OwnLists>,
    log: Arc<Log>,
    control: OwnedFd,
    refresh: Box<dyn Fn() + Send>,
}

impl Ear {
    /// The log hears of a change without waiting for a handshake that would see it.
    fn tell_change(&self, entry: &Entry) {
        if let Some(change) = entry.change(SystemTime::now()) {
            self.log(&change.text, change.alarming);
        }
    }

    fn look_at_own_lists(&mut self) {
        let log = &self.log;
        if let Some(own) = &mut self.own_lists {
            own.look(&self.registry, SystemTime::now(), &|line, panic| write_line(log, line, panic));
        }
    }
}

impl Hears for Ear {
    fn tell_all(&self) {
        self.registry.tell_all();
    }
    fn answer(&mut self, key: Key, kind: Kind, bytes: &[u8]) {
        let now = SystemTime::now();
        let unused = match kind {
            Kind::Proof => self.registry.heard(key, bytes, now).err().map(|unfit| unfit.to_string()),
            Kind::List => self.registry.heard_list(key, bytes, now).err().map(|unfit| unfit.to_string()),
        };
        if let Some(why) = unused {
            log::debug!(target: "tls", "what the staple keeper found for {key} is not used: {why}");
        }
        if kind == Kind::List {
            self.look_at_own_lists();
        }
        // The report that follows tells of a failure that is over: one line, not two.
    }
    fn report(&self, key: Key, report: Report) {
        peer_lists::tell_change(&self.registry, key, &report, &|line| self.log(line, false));
        self.registry.told(key, report);
        self.registry.entry(key).iter().for_each(|entry| self.tell_change(entry));
    }
    fn wanted(&self) -> usize {
        self.registry.entries().len() + self.registry.lists().len()
    }
    fn tick(&mut self) {
        (self.refresh)();
        look_at_listed(&mut self.listed, &self.unusable, &self.log);
        self.look_at_own_lists();
        self.registry.entries().iter().for_each(|entry| self.tell_change(entry));
    }
    fn ask_for_link(&self) {
        keeper_link::ask_master(&self.control);
    }
    fn log(&self, line: &str, panic: bool) {
        write_line(&self.log, line, panic);
    }
}

fn look_at_listed(listed: &mut Listed, unusable: &Unusable, log: &Log) {
    listed.look(SystemTime::now(), &|notice| write(log, &notice));
    *unusable.lock().unwrap_or_else(PoisonError::into_inner) = listed.unusable();
}

fn write_line(log: &Log, line: &str, panic: bool) {
    write(log, &if panic { Notice::panic(line) } else { Notice::main(line) });
}

fn write(log: &Log, notice: &Notice) {
    match notice.audience {
        Audience::Main => log.write(Which::Main, notice.text.as_bstr()),
        Audience::Panic => log.panic(notice.text.as_bstr()),
        Audience::Debug => log::debug!(target: "tls", "{}", notice.text),
    }
}
