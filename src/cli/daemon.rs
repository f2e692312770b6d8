//! `-bd`, `-bdf` and `-q<time>`: from the command line and the configuration to a running master.

use super::Program;
use super::keeper_plan::{NoPlan, Prepared, Surroundings};
use crate::config::Options;
use crate::config::build_settings::{MAILER_NAME, mailer_version};
use crate::load::fetching::{self, Fetching};
use crate::log::{Log, Which};
use crate::metrics::ListenPlace;
use crate::process::interfaces::{self, InterfaceError, Written as WrittenInterfaces};
use crate::process::listeners;
use crate::process::master::{KeeperPlan, Master, Office, Plan};
use crate::process::openmetrics;
use crate::process::order_check::ConfigurationCheck;
use crate::process::reading::{self, Reading};
use crate::process::role::Role;
use crate::process::services;
use crate::process::spool_directory;
use crate::process::without_root;
use crate::sys::identity::{self, Rights};
use crate::sys::spawn::{self, Forked};
use crate::sys::system_words;
use crate::sys::{descriptors, secure};
use crate::text::list;
use anyhow::{Context as _, anyhow, bail};
use bstr::{BStr, BString, ByteSlice};
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What `local_interfaces` means when it is not set.
const ALL_INTERFACES: &[u8] = b"<; ::0 ; 0.0.0.0";
/// A start that takes longer has failed in the eyes of whoever waits for it.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// What the daemon says to whoever waits for its start; anything else is why it failed.
const STARTED: &str = "+";

/// Runs the daemon; gives the exit code of the process that was called.
pub fn run(program: Program) -> anyhow::Result<i32> {
    identity_for_daemon()?;
    let foreground = program.invocation.daemon.foreground || program.invocation.verbose;
    let log = program.globals.log.clone();
    let rights = rights_of_roles(&program)?;
    spool_directory::prepare(&program.globals)?;
    let surroundings = Surroundings::now(&program.globals, program.http_proxy.clone());
    let pid_file = pid_file(&program)?;
    let (waiting, metrics_socket) = (None, None);
    let mut daemon = Daemon { log, rights, pid_file, waiting, surroundings, metrics_socket, program };
    daemon.check(&daemon.program.reading).map_err(|text| anyhow!("{text}"))?;
    let plan = daemon.plan(&daemon.program.reading)?;
    if let Some(why) = &plan.keeper_lacks {
        eprintln!("{}: {why}", MAILER_NAME.to_lowercase());
    }
    let listeners = daemon.bind(&plan)?;
    if !foreground {
        let (ours, theirs) = std::io::pipe()?;
        match spawn::fork()? {
            Forked::Parent(_) => {
                drop(theirs);
                return how_it_went(ours);
            }
            Forked::Child => {
                nix::unistd::setsid()?;
                leave_terminal()?;
                daemon.waiting = Some(OwnedFd::from(theirs));
            }
        }
    }
    daemon.write_pid_file();
    secure::set_process_name("oxim");
    Master::new(&mut daemon, plan, listeners)?.run()?;
    Ok(0)
}

/// What the process that was called hears from the daemon: that it runs, or why it does not.
fn how_it_went(mut daemon: std::io::PipeReader) -> anyhow::Result<i32> {
    if crate::process::orders::wait_readable(&daemon, START_PATIENCE).is_err() {
        bail!("the daemon has not started within {} s: see its log", START_PATIENCE.as_secs());
    }
    let mut words = String::new();
    daemon.read_to_string(&mut words)?;
    match words.as_str() {
        STARTED => Ok(0),
        "" => bail!("the daemon has ended before it had started: see its log"),
        why => bail!("{why}"),
    }
}

/// Whoever reads what the caller's program prints must not wait for the daemon's end.
fn leave_terminal() -> std::io::Result<()> {
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    nix::unistd::dup2_stderr(&null)?;
    Ok(())
}

/// A set-uid start keeps the caller's real uid; a daemon is root's alone.
fn identity_for_daemon() -> anyhow::Result<()> {
    if identity::is_root() && !identity::is_plain() {
        identity::become_root_wholly().context("cannot become root wholly")?;
    }
    Ok(())
}

/// What the roles run as: the oxim user with its groups; unchanged without root's rights.
pub fn rights_of_roles(program: &Program) -> anyhow::Result<Option<Rights>> {
    if !identity::is_root() {
        return Ok(None);
    }
    let (uid, gid) = (program.globals.oxim_uid, program.globals.oxim_gid);
    let login = program.globals.users.by_uid(uid)?;
    Ok(Some(match login {
        Some(entry) => Rights::with_groups_of(uid, gid, &entry.name)?,
        None => Rights::new(uid, gid),
    }))
}

/// The master's connection to the rest of the program.
struct Daemon {
    program: Program,
    log: Arc<Log>,
    rights: Option<Rights>,
    pid_file: Option<PathBuf>,
    /// The process that was called waits for a byte here.
    waiting: Option<OwnedFd>,
    surroundings: Surroundings,
    /// Where the numbers were shown until now.
    metrics_socket: Option<PathBuf>,
}

impl Daemon {
    /// Compiles everything, in a child: a configuration that no role could use never takes the place of one that
    /// works.
    fn check(&self, reading: &Reading) -> Result<(), String> {
        without_root::ask_other(self.rights.as_ref(), || {
            let globals = Arc::new(services::globals(reading)?);
            spool_directory::check(&globals)?;
            if let Some(place) = metrics_place(&reading.written.main)? {
                openmetrics::check(&place)?;
            }
            services::configure(reading, globals.clone(), None)?;
            Fetching::of(&globals)?;
            // A daemon that could not say what it does would lose its reasons before it loses mail.
            globals.log.check().map_err(|error| error.to_string())?;
            Ok(())
        })
    }

    fn plan(&self, reading: &Reading) -> anyhow::Result<Plan> {
        let settings = &self.program.invocation.daemon;
        let main = &reading.written.main;
        let mut listen =
            if settings.listen { addresses(main, settings.interfaces.as_ref())? } else { Vec::new() };
        let queue = match settings.queue_interval {
            None => "no queue runs".to_owned(),
            Some(time) => {
                let stages = if settings.queue_run.two_stage { "-qq" } else { "-q" };
                format!("{stages}{}", interfaces::short_interval(time))
            }
        };
        let snapshot = reading.snapshot.clone();
        let own = (self.program.globals.oxim_uid, self.program.globals.oxim_gid);
        // The keeper comes first: a start may have to wait for what it fetches.
        let mut roles = Vec::new();
        let (mut keeper, mut keeper_lacks) = (KeeperPlan::default(), None);
        if fetching::needs_keeper(main, settings.listen) {
            match self.surroundings.plan(reading, &self.program.globals) {
                Ok(Prepared { plan, no_store }) => {
                    roles.push(Role::StapleKeeper);
                    keeper = plan;
                    keeper_lacks = no_store.map(|why| {
                        format!(
                            "proofs of certificates and revocation lists are fetched, but not stored: a start has none \
                             before it has fetched them anew: {why}; then reload the daemon"
                        )
                    });
                }
                Err(NoPlan::Missing(why)) => {
                    keeper_lacks = Some(format!(
                        "proofs of certificates and revocation lists are not fetched (tls_ocsp_fetch, tls_crl_fetch), mail \
                         flows without: {why}"
                    ));
                }
                Err(NoPlan::Wrong(why)) => bail!(why),
            }
        }
        roles.push(Role::DeliveryWorker);
        if settings.listen {
            roles.push(Role::SmtpWorker);
        }
        let described = interfaces::describe(&listen, &self.tls_ports(main, &listen));
        let mut metrics_socket = None;
        match metrics_place(main).map_err(|text| anyhow!(text))? {
            Some(ListenPlace::Port(address)) if listen.contains(&address) => {
                bail!("openmetrics_listen: {address} is where SMTP listens");
            }
            Some(ListenPlace::Port(address)) => listen.push(address),
            Some(ListenPlace::Socket(path)) => metrics_socket = Some(path),
            None => {}
        }
        Ok(Plan {
            snapshot,
            description: format!("{queue}, {described}"),
            listen,
            backlog: i32::try_from(main.int("smtp_connect_backlog")).unwrap_or(i32::MAX),
            rights: self.rights.clone(),
            roles,
            keeper,
            check: Box::new(ConfigurationCheck::new(reading.written.clone(), own)),
            keeper_lacks,
            metrics_socket,
        })
    }

    /// The log and the sockets lie in directories of oxim's: root opens and removes nothing there.
    fn as_oxim(&self, work: impl FnOnce()) {
        match &self.rights {
            Some(rights) => without_root::as_other(rights, work),
            None => work(),
        }
    }

    fn tls_ports(&self, main: &Options, listen: &[SocketAddr]) -> Vec<u16> {
        if self.program.invocation.message.tls_on_connect {
            return listen.iter().map(SocketAddr::port).collect();
        }
        let written = main.plain("tls_on_connect_ports").unwrap_or_default();
        list::items(&written).filter_map(|item| interfaces::system_port(&item)).collect()
    }

    /// Binds, and where an address is in use tries again as `daemon_startup_retries` says.
    fn bind(&mut self, plan: &Plan) -> anyhow::Result<Vec<TcpListener>> {
        let main = &self.program.reading.written.main;
        let (mut left, pause) = (main.int("daemon_startup_retries"), main.time("daemon_startup_sleep"));
        loop {
            let (address, error) = match listeners::bind(plan, &[]) {
                Ok(listeners) => return Ok(listeners),
                Err(failure) => failure,
            };
            let place = match (address.ip().is_unspecified(), address.is_ipv6()) {
                (true, true) => "(any IPv6)".to_owned(),
                (true, false) => "(any IPv4)".to_owned(),
                (false, _) => address.ip().to_string(),
            };
            let reason = system_words(&error);
            let what =
                format!("socket bind() to port {} for address {place} failed: {reason}", address.port());
            if left <= 0 || error.kind() != std::io::ErrorKind::AddrInUse {
                self.log(&format!("{what}: daemon abandoned"), true);
                bail!("{what}: daemon abandoned");
            }
            let wait = interfaces::short_interval(pause);
            let tries = if left == 1 { "try" } else { "tries" };
            self.log(&format!("{what}: waiting {wait} before trying again ({left} more {tries})"), false);
            left -= 1;
            std::thread::sleep(pause);
        }
    }

    /// As root where the daemon is: a pid file that anyone else could change is worth nothing.
    fn write_pid_file(&mut self) {
        let Some(path) = self.pid_file.clone() else { return };
        let write = || -> std::io::Result<()> {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            // A new file, never one that somebody put there meanwhile.
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path)?;
            writeln!(file, "{}", std::process::id())
        };
        if let Err(error) = write() {
            let reason = system_words(&error);
            self.log(&format!("failed to open pid file {}: {reason}", path.display()), true);
            self.pid_file = None;
        }
    }
}

impl Office for Daemon {
    fn read_configuration(&mut self) -> Result<Plan, String> {
        let invocation = &self.program.invocation;
        let reading =
            super::start::read_configuration(&self.program.facts, &self.program.decision, invocation)
                .map_err(|error| error.to_string())?;
        if !reading.unsupported.is_empty() {
            let texts: Vec<String> = reading.unsupported.iter().map(reading::error_text).collect();
            return Err(texts.join("\n"));
        }
        self.check(&reading)?;
        self.plan(&reading).map_err(|error| error.to_string())
    }

    fn log(&mut self, line: &str, panic: bool) {
        let write = |log: &Log| {
            log.write(Which::Main, BStr::new(line));
            if panic {
                log.write(Which::Panic, BStr::new(line));
            }
        };
        self.as_oxim(|| write(&self.log));
    }

    fn started(&mut self, plan: &Plan) {
        let former = std::mem::replace(&mut self.metrics_socket, plan.metrics_socket.clone());
        if let Some(former) = former.filter(|former| Some(former) != plan.metrics_socket.as_ref()) {
            // Who listens there is about to hear that it is to end.
            self.as_oxim(|| openmetrics::leave_now(&former));
        }
        let description = &plan.description;
        let name = MAILER_NAME.to_lowercase();
        let version = mailer_version();
        self.log(
            &format!("{name} {version} daemon started: pid={}, {description}", std::process::id()),
            false,
        );
        if let Some(why) = &plan.keeper_lacks {
            self.log(why, true);
        }
        if let Some(waiting) = self.waiting.take() {
            let _ = std::fs::File::from(waiting).write_all(STARTED.as_bytes()); // nobody may be waiting any more
            let _ = descriptors::standard_to_null(&[0, 1, 2]); // then they stay what they are
        }
    }

    fn failed(&mut self, why: &str) {
        if let Some(waiting) = self.waiting.take() {
            let _ = std::fs::File::from(waiting).write_all(why.as_bytes()); // nobody may be waiting any more
        }
    }

    fn stopped(&mut self, plan: &Plan) {
        let sockets = [self.metrics_socket.take(), plan.metrics_socket.clone()];
        if sockets.iter().any(Option::is_some) {
            self.as_oxim(|| sockets.iter().flatten().for_each(|socket| openmetrics::leave(socket)));
        }
        if let Some(path) = &self.pid_file {
            let _ = fs::remove_file(path); // removed by hand is as good
        }
    }
}

/// Where the numbers are shown.
fn metrics_place(main: &Options) -> Result<Option<ListenPlace>, String> {
    crate::load::openmetrics_place(main).map_err(|error| reading::error_text(&error))
}

/// `-oPX`: what a daemon that ends badly has left behind. Only root and oxim may.
pub fn remove_pid_file(program: &Program) -> anyhow::Result<i32> {
    super::trust::check_pid_file(&program.standing).map_err(|text| anyhow!(text))?;
    let path = match &program.invocation.daemon.pid_file {
        Some(path) => Path::new(&path.to_os_str_lossy()).to_owned(),
        None => default_pid_file(program)?,
    };
    program.become_oxim()?;
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(anyhow!("cannot remove {}: {}", path.display(), system_words(&error)))
        }
        _ => Ok(0),
    }
}

fn addresses(main: &Options, override_list: Option<&BString>) -> Result<Vec<SocketAddr>, InterfaceError> {
    let split = |text: &[u8]| -> Vec<BString> { list::items(text).collect() };
    let interfaces = main.plain("local_interfaces").filter(|text| !text.is_empty());
    let interfaces = split(interfaces.as_deref().map_or(ALL_INTERFACES, |text| text.as_slice()));
    let ports = split(&main.plain("daemon_smtp_ports").unwrap_or_default());
    let items = override_list.map(|text| split(text)).unwrap_or_default();
    let written = WrittenInterfaces { interfaces: &interfaces, ports: &ports, override_items: &items };
    let mut found = interfaces::resolve(written, interfaces::system_service)?;
    if main.bool("disable_ipv6") {
        found.retain(SocketAddr::is_ipv4);
    }
    Ok(found)
}

/// `-oP`; else `pid_file_path` for a daemon that listens where the configuration says.
fn pid_file(program: &Program) -> anyhow::Result<Option<PathBuf>> {
    let settings = &program.invocation.daemon;
    if let Some(path) = &settings.pid_file {
        let path = path.to_path().map_err(|_| anyhow!("-oP: no path"))?;
        return Ok(Some(path.to_owned()));
    }
    if !settings.listen || settings.interfaces.is_some() {
        return Ok(None);
    }
    default_pid_file(program).map(Some)
}

fn default_pid_file(program: &Program) -> anyhow::Result<PathBuf> {
    let written = program.asked().expand_option("pid_file_path")?.filter(|text| !text.is_empty());
    Ok(match written {
        Some(path) => Path::new(&path.to_os_str_lossy()).to_owned(),
        None => program.globals.spool_directory.join("exim-daemon.pid"),
    })
}
