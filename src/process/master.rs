//! The master: binds the ports, starts the roles and starts them again, reloads, stops, and forks a user child for
//! each order.
//!
//! Privileges: root in a root-started tree, one thread. It reads the configuration and packets of
//! [`ipc::ToMaster`]; no mail, no network byte, no user data base. Orders are taken only from a role whose
//! row in [`super::role`] allows them.

use super::children::Children;
use super::ipc::{self, Start, ToMaster, ToRole};
use super::role::{Right, Role};
use super::snapshot::Snapshot;
use super::trigger::{self, Receiver, Trigger};
use super::user_child::OrderCheck;
use crate::metrics;
use crate::sys::identity::Rights;
use crate::sys::signals::Signals;
use crate::sys::spawn;
use crate::sys::{fd_passing, listen};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// A role that dies is started again after this long, doubled each time ...
const FIRST_DELAY: Duration = Duration::from_millis(500);
/// ... up to this, ...
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// ... and from the beginning once it has run as long as it was waited for, and this long at least. So one that cannot even
/// begin is tried ever more seldom, and one that works between its deaths is soon back.
const FORGIVEN_AFTER: Duration = Duration::from_secs(2);
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
    /// What orders are held against.
    pub check: Box<dyn OrderCheck>,
    /// What it does, for the log: `-q30m, listening for SMTP on port 25 (IPv6 and IPv4)`.
    pub description: String,
}

/// What the master asks of the rest of the program.
pub trait Office {
    /// Reads the configuration anew.
    fn read_configuration(&mut self) -> Result<Plan, String>;
    /// Writes a line to the main log (and the panic log); never as root.
    fn log(&mut self, line: &str, panic: bool);
    /// Everything runs as `description` says: the log is told, whoever waits for the start may go.
    fn started(&mut self, description: &str);
    /// It never came to run, and all has ended; whoever waits for the start hears why.
    fn failed(&mut self, why: &str);
    /// The end: the pid file goes.
    fn stopped(&mut self);
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
}

impl Running {
    fn new(role: Role, pid: i32, control: OwnedFd, generation: u64) -> Self {
        let (ready, retiring, told_to_retire, condemned) = (false, false, false, false);
        let since = Instant::now();
        Self { role, pid, control, generation, ready, retiring, told_to_retire, condemned, since }
    }
}

/// A role that is to be started again.
struct Due {
    role: Role,
    at: Instant,
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
    due: Vec<Due>,
    delays: Vec<(Role, Duration)>,
    children: Children,
    signals: Signals,
    stopping: Option<Instant>,
    told_started: bool,
    /// Why the first start failed.
    failure: Option<String>,
}

/// Binds every address of the plan; where one of the `old` sockets listens there already, another handle of it is taken.
/// On failure nothing has happened to the old ones.
pub fn bind(plan: &Plan, old: &[TcpListener]) -> Result<Vec<TcpListener>, (SocketAddr, io::Error)> {
    let mut bound = Vec::new();
    for address in &plan.listen {
        let known = old.iter().find(|listener| listener.local_addr().is_ok_and(|local| local == *address));
        let made = match known {
            Some(listener) => listener.try_clone(),
            None => listen::tcp(*address, plan.backlog),
        };
        match made {
            Ok(listener) => bound.push(listener),
            // No IPv6 here, but IPv4 was asked for as well.
            Err(_) if is_spare_wildcard(*address, &plan.listen) => {}
            Err(error) => return Err((*address, error)),
        }
    }
    Ok(bound)
}

fn is_spare_wildcard(address: SocketAddr, all: &[SocketAddr]) -> bool {
    let twin =
        |other: &SocketAddr| other.is_ipv4() && other.ip().is_unspecified() && other.port() == address.port();
    address.is_ipv6()
        && address.ip().is_unspecified()
        && !std::path::Path::new("/proc/sys/net/ipv6").exists()
        && all.iter().any(twin)
}

impl<'o> Master<'o> {
    /// A master for this plan, with its sockets bound.
    pub fn new(office: &'o mut dyn Office, plan: Plan, listeners: Vec<TcpListener>) -> io::Result<Self> {
        let signals = Signals::block(&[
            Signal::SIGHUP,
            Signal::SIGTERM,
            Signal::SIGINT,
            Signal::SIGCHLD,
            Signal::SIGUSR1,
        ])?;
        Ok(Self {
            office,
            plan,
            generation: 1,
            listeners,
            trigger: trigger::pair()?,
            counters: metrics::new_page()?,
            running: Vec::new(),
            due: Vec::new(),
            delays: Vec::new(),
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
        self.office.stopped();
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
        let next = self.due.iter().map(|due| due.at.saturating_duration_since(Instant::now())).min();
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
                self.office.log(&format!("cannot start the {} worker: {error}", role.name()), true);
                self.start_later(role, Duration::ZERO);
            }
        }
    }

    /// Executes a role and hands it everything it needs.
    fn execute(&self, role: Role, after_death: bool) -> io::Result<Running> {
        let (ours, theirs) = fd_passing::packet_pair()?;
        let program = format!("oxim-{}", role.name());
        let rights = self.plan.rights.as_ref().map(Rights::to_word);
        let arguments = [&program, "--role", role.name()];
        let arguments: Vec<&str> = arguments.into_iter().chain(rights.as_deref()).collect();
        let pid = spawn::role(&arguments, theirs.as_fd())?;
        drop(theirs);
        let snapshot = self.plan.snapshot.to_memfd()?;
        let listeners: &[TcpListener] = if role == Role::SmtpWorker { &self.listeners } else { &[] };
        let mut handed: Vec<BorrowedFd> = vec![snapshot.as_fd(), self.counters.as_fd()];
        handed.extend(self.trigger.0.fds());
        if role == Role::DeliveryWorker {
            handed.extend(self.trigger.1.fds());
        }
        handed.extend(listeners.iter().map(AsFd::as_fd));
        ipc::say_build_id(&ours)?;
        let start = Start { generation: self.generation, listeners: listeners.len() as u32, after_death };
        ipc::say(&ours, &ToRole::Start(start), &handed)?;
        Ok(Running::new(role, pid, ours, self.generation))
    }

    fn start_later(&mut self, role: Role, ran: Duration) {
        let known = self.delays.iter().position(|(known, _)| *known == role);
        let delay = delay_after(known.map(|at| self.delays[at].1), ran);
        match known {
            Some(at) => self.delays[at].1 = delay,
            None => self.delays.push((role, delay)),
        }
        self.due.push(Due { role, at: Instant::now() + delay });
    }

    fn start_due(&mut self) {
        if self.stopping.is_some() {
            self.due.clear();
        }
        let now = Instant::now();
        let (ready, later): (Vec<Due>, Vec<Due>) = self.due.drain(..).partition(|due| due.at <= now);
        self.due = later;
        ready.into_iter().for_each(|due| self.start(due.role, true));
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
        match bind(&plan, &self.listeners) {
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
        self.due.clear();
        self.told_started = false;
        for role in self.plan.roles.clone() {
            self.start(role, false);
        }
    }

    /// Hears every packet that has come.
    fn look_at_roles(&mut self) {
        for at in 0..self.running.len() {
            while self.hears(&self.running[at]) && is_readable(&self.running[at].control) {
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
                let line = format!("the {} worker cannot begin: {text}", role.name());
                self.office.log(&line, true);
                self.condemn(at); // it ends by itself; one that did not could fill the log
                // Trying again is for what has worked before; a first start that fails is told to whoever made it.
                if !self.told_started && self.generation == 1 && self.stopping.is_none() {
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
            // A role that asks for what its row does not allow is no role of ours any more.
            ToMaster::Order(()) => {
                self.office.log(&format!("the {} worker asked for a user child: killed", role.name()), true);
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
            if self.stopping.is_some() || !self.running.iter().all(|role| role.ready || role.retiring) {
                return;
            }
            self.told_started = true;
            self.office.started(&self.plan.description);
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
            let line = format!(
                "the {} worker (pid {pid}) has ended ({ended:?}) and is started again",
                gone.role.name()
            );
            self.office.log(&line, true);
            self.start_later(gone.role, gone.since.elapsed());
        }
    }
}

/// How long to wait before a role is started again that ran this long; `before`: what was waited the last time.
fn delay_after(before: Option<Duration>, ran: Duration) -> Duration {
    match before {
        Some(before) if ran < before.max(FORGIVEN_AFTER) => (before * 2).min(LONGEST_DELAY),
        _ => FIRST_DELAY,
    }
}

fn is_readable(fd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    matches!(poll(&mut fds, PollTimeout::ZERO), Ok(ready) if ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;
    impl OrderCheck for Nothing {
        fn check(&self, _: &crate::as_user::Identity, _: &crate::as_user::Order) -> Result<(), String> {
            Err("never".into())
        }
    }

    fn plan(listen: Vec<SocketAddr>) -> Plan {
        Plan {
            snapshot: Snapshot::default(),
            listen,
            backlog: 20,
            rights: None,
            roles: Vec::new(),
            check: Box::new(Nothing),
            description: String::new(),
        }
    }

    /// Writes the log into a list.
    #[derive(Debug, Default)]
    struct Desk(Vec<String>);
    impl Office for Desk {
        fn read_configuration(&mut self) -> Result<Plan, String> {
            panic!("as asked")
        }
        fn log(&mut self, line: &str, _: bool) {
            self.0.push(line.to_owned());
        }
        fn started(&mut self, _: &str) {}
        fn failed(&mut self, _: &str) {}
        fn stopped(&mut self) {}
    }

    /// What the master's log says when a role says this, and whether the role was killed for it.
    fn said_by(role: Role, messages: &[ToMaster]) -> (Vec<String>, bool) {
        let mut desk = Desk::default();
        let mut master = Master::new(&mut desk, plan(Vec::new()), Vec::new()).unwrap();
        master.told_started = true;
        let (control, theirs) = fd_passing::packet_pair().unwrap();
        let mut process = std::process::Command::new("sleep").arg("30").spawn().unwrap();
        master.running.push(Running::new(role, process.id() as i32, control, 1));
        for message in messages {
            let descriptors = [theirs.as_fd()];
            let with = if *message == ToMaster::Order(()) { &descriptors[..] } else { &[] };
            ipc::say(&theirs, message, with).unwrap();
        }
        master.look_at_roles();
        let condemned = master.running[0].condemned;
        drop(master);
        if !condemned {
            process.kill().unwrap();
        }
        let ended = process.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(libc::SIGKILL));
        (desk.0, condemned)
    }

    #[test]
    fn an_smtp_worker_that_orders_a_user_child_is_killed_and_nothing_it_says_counts_any_more() {
        let order = || ToMaster::Order(());
        let (log, killed) = said_by(Role::SmtpWorker, &[order(), order(), order()]);
        assert_eq!((log, killed), (vec!["the smtp worker asked for a user child: killed".to_owned()], true));
    }

    #[test]
    fn a_configuration_that_breaks_its_reader_leaves_the_daemon_as_it_was() {
        let mut desk = Desk::default();
        let mut master = Master::new(&mut desk, plan(Vec::new()), Vec::new()).unwrap();
        master.reload();
        assert_eq!(master.generation, 1);
        drop(master);
        assert!(
            desk.0[1].ends_with("the daemon goes on with the old one: internal error: as asked"),
            "{desk:?}"
        );
    }

    #[test]
    fn a_role_that_floods_the_master_is_killed() {
        let ready = || ToMaster::Ready(());
        assert_eq!(said_by(Role::DeliveryWorker, &[ready()]), (vec![], false));
        assert_eq!(said_by(Role::DeliveryWorker, &vec![ready(); 200]), (vec![], true));
        let failed = vec![ToMaster::Failed("x".into()); 200];
        assert_eq!(
            said_by(Role::SmtpWorker, &failed),
            (vec!["the smtp worker cannot begin: x".into()], true)
        );
    }

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
    fn a_port_that_cannot_be_bound_leaves_the_old_sockets_in_use() {
        let old = bind(&plan(vec!["127.0.0.1:0".parse().unwrap()]), &[]).unwrap();
        let kept = old[0].local_addr().unwrap();
        let foreign = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = foreign.local_addr().unwrap();
        let (address, _) = bind(&plan(vec![kept, taken]), &old).unwrap_err();
        assert_eq!(address, taken);
        let client = std::net::TcpStream::connect(kept).unwrap();
        assert_eq!(old[0].accept().unwrap().1, client.local_addr().unwrap());
        let again = bind(&plan(vec![kept]), &old).unwrap();
        assert_eq!(again[0].local_addr().unwrap(), kept);
    }
}
