//! Revocation lists in the delivery worker (`tls_crl_fetch`): the registry of those that policies of transports ask for
//! (`hosts_require_status`), and the link with the staple keeper, which fetches them.
//!
//! What the keeper stored in an earlier run is read when a list is asked for, so that a restart defers nothing.

use super::keeper_link::{self, Hears, KeeperLink};
use super::staple_keeper;
use crate::config::Options;
use crate::log::{Log, Which};
use crate::ocsp::registry::{Key, Registry, Report};
use crate::ocsp::store::Kind;
use bstr::ByteSlice;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

/// The registry and its link.
pub struct PeerLists {
    registry: Registry,
    link: Arc<KeeperLink>,
}

impl PeerLists {
    /// As the configuration wants it; none if lists are not fetched.
    pub fn of(main: &Options, spool: &Path) -> io::Result<Option<Self>> {
        if !main.bool("tls_crl_fetch") {
            return Ok(None);
        }
        let link = Arc::new(KeeperLink::new(&spool.join(staple_keeper::STORE))?);
        Ok(Some(Self { registry: Registry::new(link.clone()), link }))
    }

    /// What transports ask.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Begins to speak with the keeper at the other end of these links (the newest counts; none: it may come later).
    /// `control`: where the master hears that a new one is wanted.
    pub fn start(&self, log: Arc<Log>, links: Vec<OwnedFd>, control: OwnedFd) -> io::Result<()> {
        self.link.start(Ear { registry: self.registry.clone(), log, control })?;
        self.link(links);
        Ok(())
    }

    /// Takes up new links with the keeper.
    pub fn link(&self, links: Vec<OwnedFd>) {
        links.into_iter().for_each(|fd| self.link.replace(fd));
    }
}

/// One line for each list that begins to fail, and one when it is over: the deliveries' own lines tell the rest. `report`
/// is the newest, which the registry has not heard yet.
pub fn tell_change(registry: &Registry, key: Key, report: &Report, log: &dyn Fn(&str)) {
    let Some(list) = registry.list(key) else { return };
    let (before, url) = (list.report(), &list.wanted().url);
    match (before.last_error.is_empty(), report.last_error.is_empty()) {
        (true, false) => log(&format!("TLS: revocation list {url} cannot be had: {}", report.last_error)),
        (false, true) => log(&format!("TLS: revocation list {url} comes again")),
        _ => {}
    }
}

/// Hears the keeper.
struct Ear {
    registry: Registry,
    log: Arc<Log>,
    control: OwnedFd,
}

impl Hears for Ear {
    fn tell_all(&self) {
        self.registry.tell_all();
    }
    fn answer(&mut self, key: Key, kind: Kind, bytes: &[u8]) {
        if kind == Kind::List
            && let Err(unfit) = self.registry.heard_list(key, bytes, SystemTime::now())
        {
            ::log::debug!(target: "tls", "the list that the staple keeper found for {key} is not used: {unfit}");
        }
    }
    fn report(&self, key: Key, report: Report) {
        tell_change(&self.registry, key, &report, &|line| self.log(line, false));
        self.registry.told(key, report);
    }
    fn wanted(&self) -> usize {
        self.registry.lists().len()
    }
    fn tick(&mut self) {}
    fn ask_for_link(&self) {
        keeper_link::ask_master(&self.control);
    }
    fn log(&self, line: &str, panic: bool) {
        if panic {
            self.log.panic(line.as_bytes().as_bstr());
        } else {
            self.log.write(Which::Main, line.as_bytes().as_bstr());
        }
    }
}
