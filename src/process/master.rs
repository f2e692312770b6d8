//! The master: binds the ports, starts the roles and starts them again, reloads, stops, and forks a user child for
//! each order.
//!
//! Privileges: root in a root-started tree, one thread. It reads the configuration and packets of
//! [`ipc::ToMaster`]; no mail, no network byte, no user data base. Orders are taken only from a role whose
//! row in [`super::role`] allows them.

use super::children::Children;
use super::ipc::{self, Start, ToMaster, ToRole};
use super::links::{self, Link};
use super::listeners;
use super::relink::{Given, Giving};
use super::restarts::Restarts;
use super::role::{Right, Role};
use super::snapshot::Snapshot;
use super::trigger::{self, Receiver, Trigger};
use super::user_child::OrderCheck;
use crate::metrics;
use crate::sys::fd_passing;
use crate::sys::identity::Rights;
use crate::sys::signals::Signals;
use crate::sys::spawn;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long roles may take to end after SIGTERM before they are killed.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// What the master needs to know of one reading of the configuration.
pub struct Plan {
    /// For the roles.
    pub snapshot: Snapshot,
    /// Where to listen.
    pub listen: Vec<SocketAddr>,
    /// `smtp_connect_backlog`
    pub backlog: i32,
    /// Rights of the roles; none: they stay as they are (no root).
    pub rights: Option<Rights>,
    /// The roles to run.
    pub roles: Vec<Role>,
    /// For the staple keeper, if it is one of them.
    pub keeper: KeeperPlan,
    /// What orders are held against.
    pub check: Box<dyn OrderCheck>,
    /// What it does, for the log: `-q30m, listening for SMTP on port 25 (IPv6 and IPv4)`.
    pub description: String,
    /// What the staple keeper that the configuration wants does without, or why there is none.
    pub keeper_lacks: Option<String>,
    /// The socket in the file system at which a role shows the numbers.
    pub metrics_socket: Option<PathBuf>,
}

impl Plan {
    /// The role that has the listening sockets, that of the numbers among them: in a daemon that only runs the queue it
    /// is the one that delivers.
    fn shows(&self) -> Option<Role> {
        [Role::SmtpWorker, Role::DeliveryWorker].into_iter().find(|role| self.roles.contains(role))
    }
}

/// What the staple keeper gets in place of the others' snapshot and rights: it sees nothing of the configuration.
#[derive(Clone, Debug, Default)]
pub struct KeeperPlan {
    /// Settings alone.
    pub snapshot: Snapshot,
    /// Those of its own user; none: they stay as they are (no root).
    pub rights: Option<Rights>,
}

/// What the master asks of the rest of the program.
pub trait Office {
    /// Reads the configuration anew.
    fn read_configuration(&mut self) -> Result<Plan, String>;
    /// Writes a line to the main log (and the panic log); never as root.
    fn log(&mut self, line: &str, panic: bool);
    /// Everything runs as the plan says: the log is told, whoever waits for the start may go.
    fn started(&mut self, plan: &Plan);
    /// It never came to run, and all has ended; whoever waits for the start hears why.
    fn failed(&mut self, why: &str);
    /// The end: all roles have ended, and nothing of theirs is to be left in the file system.
    fn stopped(&mut self, plan: &Plan);
}

/// One role that runs.
struct Running {
    role: Role,
    pid: i32,
    control: OwnedFd,
    generation: u64,
    ready: bool,
    /// A successor takes its place ...
    retiring: bool,
    /// ... and it has been told so.
    told_to_retire: bool,
    /// It broke the rules and was killed: nothing of what it has sent counts.
    condemned: bool,
    since: Instant,
    /// New links with the staple keeper, if it asks for them.
    relinks: Giving,
}

impl Running {
    fn new(role: Role, pid: i32, control: OwnedFd, generation: u64) -> Self {
        let (ready, retiring, told_to_retire, condemned) = (false, false, false, false);
        let since = Instant::now();
        let relinks = Giving::new(since);
        Self { role, pid, control, generation, ready, retiring, told_to_retire, condemned, since, relinks }
    }
}

/// The master's whole state.
pub struct Master<'o> {
    office: &'o mut dyn Office,
    plan: Plan,
    generation: u64,
    listeners: Vec<TcpListener>,
    trigger: (Trigger, Receiver),
    /// What all roles count together, for as long as this process lives.
    counters: OwnedFd,
    running: Vec<Running>,
    restarts: Restarts,
    children: Children,
    signals: Signals,
    stopping: Option<Instant>,
    told_started: bool,
    /// Why the first start failed.
    failure: Option<String>,
}

impl<'o> Master<'o> {
    /// A master for this plan, with its sockets bound.
    pub fn new(office: &'o mut dyn Office, plan: Plan, listeners: Vec<TcpListener>) -> io::Result<Self> {
        use Signal::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1};
        let signals = Signals::block(&[SIGHUP, SIGTERM, SIGINT, SIGCHLD, SIGUSR1])?;
        Ok(Self {
            office,
            plan,
            generation: 1,
            listeners,
            trigger: trigger::pair()?,
            counters: metrics::new_page()?,
            running: Vec::new(),
            restarts: Restarts::default(),
            children: Children::default(),
            signals,
            stopping: None,
            told_started: false,
            failure: None,
        })
    }

    /// Runs until it is told to stop and everything has ended. An error: it could not begin.
    pub fn run(mut self) -> io::Result<()> {
        for role in self.plan.roles.clone() {
            self.start(role, false);
        }
        loop {
            self.wait()?;
            self.look_at_signals()?;
            self.look_at_roles();
            self.reap();
            self.children.end_old();
            self.start_due();
            if let Some(since) = self.stopping {
                if self.running.is_empty() {
                    break;
                }
                if since.elapsed() > STOP_PATIENCE {
                    self.signal_all(Signal::SIGKILL);
                }
            }
        }
        self.office.stopped(&self.plan);
        match self.failure {
            Some(why) => {
                self.office.failed(&why);
                Err(io::Error::other(why))
            }
            None => Ok(()),
        }
    }

    /// Waits for a signal, a packet, or the time to start something again.
    fn wait(&mut self) -> io::Result<()> {
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        let heard = self.running.iter().filter(|role| self.hears(role));
        fds.extend(heard.map(|role| PollFd::new(role.control.as_fd(), PollFlags::POLLIN)));
        let next = self.restarts.next(Instant::now());
        let patience = self.stopping.map(|_| Duration::from_millis(200));
        fds.extend(self.children.watched());
        let oldest = self.children.next_end();
        let timeout = match next.into_iter().chain(patience).chain(oldest).min() {
            // Rounded up, not to spin through the last millisecond.
            Some(left) => PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX),
            None => PollTimeout::NONE,
        };
        match poll(&mut fds, timeout) {
            Err(nix::errno::Errno::EINTR) => return Ok(()),
            polled => polled?,
        };
        let watched = self.children.watched().count();
        let alone: Vec<bool> = fds[fds.len() - watched..].iter().map(|fd| fd.any().unwrap_or(true)).collect();
        self.children.note(&alone);
        Ok(())
    }

    /// At the limit of children nobody is heard who could ask for one more: orders wait in the socket.
    fn hears(&self, role: &Running) -> bool {
        !role.condemned && (!self.children.is_full() || !role.role.may(Right::OrderUserChild))
    }

    fn start(&mut self, role: Role, after_death: bool) {
        match self.execute(role, after_death) {
            Ok(running) => self.running.push(running),
            Err(error) => {
                self.office.log(&format!("cannot start the {}: {error}", role.title()), true);
                self.restarts.later(role, Duration::ZERO, Instant::now());
            }
        }
    }

    /// Executes a role and hands it everything it needs.
    fn execute(&self, role: Role, after_death: bool) -> io::Result<Running> {
        let (ours, theirs) = fd_passing::packet_pair()?;
        let program = format!("oxim-{}", role.name());
        let is_keeper = role == Role::StapleKeeper;
        let KeeperPlan { snapshot, rights } = &self.plan.keeper;
        let (snapshot, rights) =
            if is_keeper { (snapshot, rights) } else { (&self.plan.snapshot, &self.plan.rights) };
        let rights = rights.as_ref().map(Rights::to_word);
        let arguments = [&program, "--role", role.name()];
        let arguments: Vec<&str> = arguments.into_iter().chain(rights.as_deref()).collect();
        let pid = spawn::role(&arguments, theirs.as_fd())?;
        drop(theirs);
        let snapshot = snapshot.to_memfd()?;
        let links = self.make_links(role)?;
        let shows = self.plan.shows() == Some(role);
        let listeners: &[TcpListener] = if shows { &self.listeners } else { &[] };
        let mut handed: Vec<BorrowedFd> = vec![snapshot.as_fd(), self.counters.as_fd()];
        if !is_keeper {
            handed.extend(self.trigger.0.fds());
        }
        if role == Role::DeliveryWorker {
            handed.extend(self.trigger.1.fds());
        }
        handed.extend(links.iter().map(|link| link.here.as_fd()));
        handed.extend(listeners.iter().map(AsFd::as_fd));
        ipc::say_build_id(&ours)?;
        let (links_count, listeners) = (links.len() as u32, listeners.len() as u32);
        let start = Start { generation: self.generation, listeners, links: links_count, shows, after_death };
        ipc::say(&ours, &ToRole::Start(start), &handed)?;
        for link in &links {
            let _ = link.tell(&self.running[link.peer].control); // it asks again, or we are asked
        }
        Ok(Running::new(role, pid, ours, self.generation))
    }

    /// New links between a role that begins and those of its generation that run.
    fn make_links(&self, role: Role) -> io::Result<Vec<Link>> {
        let is_peer = |one: &Running| one.generation == self.generation && !(one.retiring || one.condemned);
        let peers = self.running.iter().enumerate().filter(|(_, one)| is_peer(one));
        links::make(role, peers.map(|(at, one)| (at, one.role)))
    }

    /// A new link with the staple keeper for a role whose own was cut. While there is no keeper there is none: the next
    /// one brings it.
    fn relink(&mut self, at: usize) {
        match self.running[at].relinks.ask(Instant::now()) {
            Given::NotNow => {}
            Given::TooOften => self.condemn(at),
            Given::Yes if self.running[at].generation == self.generation && self.stopping.is_none() => {
                let links = self.make_links(self.running[at].role).unwrap_or_default(); // it asks again
                for link in links.iter().filter(|link| link.tell(&self.running[link.peer].control)) {
                    link.tell_here(&self.running[at].control);
                }
            }
            Given::Yes => {} // its generation ends
        }
    }

    fn start_due(&mut self) {
        if self.stopping.is_some() {
            self.restarts.clear();
        }
        for role in self.restarts.due(Instant::now()) {
            self.start(role, true);
        }
    }

    fn look_at_signals(&mut self) -> io::Result<()> {
        while let Some(signal) = self.signals.next()? {
            match signal {
                Signal::SIGTERM | Signal::SIGINT => self.stop(),
                Signal::SIGHUP if self.stopping.is_none() => self.reload(),
                _ => {} // SIGCHLD: reap() looks; SIGUSR1 is exiwhat's, and not answered yet
            }
        }
        Ok(())
    }

    /// The first asks, the second kills.
    fn stop(&mut self) {
        if self.stopping.replace(Instant::now()).is_some() {
            return self.signal_all(Signal::SIGKILL);
        }
        self.listeners.clear();
        for role in &self.running {
            let _ = ipc::try_say(&role.control, &ToRole::Stop(())); // whoever is gone has stopped
        }
    }

    fn signal_all(&self, signal: Signal) {
        for role in &self.running {
            let _ = spawn::signal(role.pid, signal); // gone already is as good
        }
    }

    /// Reads the configuration anew. The old roles go on until every successor is ready, so that no connection waits
    /// for one; then they finish what they do.
    fn reload(&mut self) {
        self.office.log(&format!("pid {}: SIGHUP received: re-exec daemon", std::process::id()), false);
        // Whatever a new file does to its reader, the daemon that runs goes on.
        let reading = AssertUnwindSafe(|| self.office.read_configuration());
        let read = catch_unwind(reading)
            .unwrap_or_else(|cause| Err(format!("internal error: {}", crate::log::panic_text(&*cause))));
        let plan = match read {
            Ok(plan) => plan,
            Err(text) => {
                let line =
                    format!("the new configuration is not used, the daemon goes on with the old one: {text}");
                return self.office.log(&line, true);
            }
        };
        match listeners::bind(&plan, &self.listeners) {
            Ok(listeners) => self.listeners = listeners,
            Err((address, error)) => {
                let line = format!(
                    "the new configuration is not used, the daemon goes on with the old one: \
                     socket bind() to {address} failed: {error}"
                );
                return self.office.log(&line, true);
            }
        }
        self.plan = plan;
        self.generation += 1;
        self.running.iter_mut().for_each(|role| role.retiring = true);
        self.restarts.clear();
        self.told_started = false;
        for role in self.plan.roles.clone() {
            self.start(role, false);
        }
    }

    /// Hears every packet that has come.
    fn look_at_roles(&mut self) {
        for at in 0..self.running.len() {
            while self.hears(&self.running[at]) && ipc::is_readable(&self.running[at].control) {
                match ipc::hear::<ToMaster>(&self.running[at].control) {
                    Ok(Some((message, descriptors))) => self.heard(at, message, descriptors),
                    // Gone or talking nonsense: it is ended, and reap() starts it again.
                    Ok(None) | Err(_) => self.condemn(at),
                }
            }
        }
    }

    fn heard(&mut self, at: usize, message: ToMaster, mut descriptors: Vec<OwnedFd>) {
        let role = self.running[at].role;
        match message {
            // Each is answered, and a role that does not read its answers must not fill its socket with them.
            ToMaster::Ready(()) if self.running[at].ready => self.condemn(at),
            ToMaster::Ready(()) => {
                self.running[at].ready = true;
                self.tell_if_started(at);
            }
            ToMaster::Failed(text) => {
                let line = format!("the {} cannot begin: {text}", role.title());
                self.office.log(&line, true);
                self.condemn(at); // it ends by itself; one that did not could fill the log
                // Trying again is for what has worked before; a first start that fails is told to whoever made it.
                let is_first = !self.told_started && self.generation == 1 && self.stopping.is_none();
                if is_first && !role.can_be_missed() {
                    self.failure = Some(line);
                    self.stop();
                }
            }
            ToMaster::Order(()) if role.may(Right::OrderUserChild) && descriptors.len() == 1 => {
                let control = descriptors.remove(0);
                // Anything else could do what it likes when it is polled or closed.
                match fd_passing::is_unix_socket(&control) {
                    true => self.fork_user_child(control),
                    false => self.condemn(at),
                }
            }
            ToMaster::Relink(()) if role.is_linked_with(Role::StapleKeeper) => self.relink(at),
            ToMaster::Relink(()) => self.condemn(at),
            // A role that asks for what its row does not allow is no role of ours any more.
            ToMaster::Order(()) => {
                self.office.log(&format!("the {} asked for a user child: killed", role.title()), true);
                self.condemn(at);
            }
        }
    }

    fn condemn(&mut self, at: usize) {
        self.running[at].condemned = true;
        let _ = spawn::signal(self.running[at].pid, Signal::SIGKILL); // gone: reap() sees it
    }

    /// The log says "started" before a queue run begins. A role that was started again later may go at once.
    fn tell_if_started(&mut self, at: usize) {
        let mut goes = vec![at];
        if !self.told_started {
            let is_done = |one: &Running| one.ready || one.retiring || one.role.can_be_missed();
            if self.stopping.is_some() || !self.running.iter().all(is_done) {
                return;
            }
            self.told_started = true;
            self.office.started(&self.plan);
            goes = (0..self.running.len()).collect();
            for role in self.running.iter_mut().filter(|role| role.retiring && !role.told_to_retire) {
                role.told_to_retire = true;
                let _ = ipc::try_say(&role.control, &ToRole::Retire(())); // gone: reap() sees it
            }
        }
        for role in goes.into_iter().map(|at| &self.running[at]).filter(|role| !role.retiring) {
            let _ = ipc::try_say(&role.control, &ToRole::Go(())); // gone: reap() sees it
        }
    }

    fn fork_user_child(&mut self, control: OwnedFd) {
        // The socket closes: the one who gave the order tries again later.
        if let Err(error) = self.children.fork(control, &*self.plan.check) {
            self.office.log(&format!("cannot fork a process for a delivery: {error}"), true);
        }
    }

    fn reap(&mut self) {
        while let Some((pid, ended)) = spawn::reap() {
            self.children.forget(pid);
            let Some(at) = self.running.iter().position(|role| role.pid == pid) else { continue };
            let gone = self.running.swap_remove(at);
            if self.stopping.is_some() || gone.retiring || gone.generation != self.generation {
                continue;
            }
            let line =
                format!("the {} (pid {pid}) has ended ({ended:?}) and is started again", gone.role.title());
            self.office.log(&line, true);
            self.restarts.later(gone.role, gone.since.elapsed(), Instant::now());
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
