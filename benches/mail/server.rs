//! One server under test: its configuration, its life, and the CPU it and its descendants took.

use anyhow::{Context, bail};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A program that is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its name in the report.
    pub name: &'static str,
    /// Its file.
    pub path: PathBuf,
    /// The user that its spool belongs to.
    pub user: &'static str,
}

impl Server {
    /// What it and its descendants took since it was started.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        super::cpu::of_tree(self.pid.as_raw())
    }
}

impl Program {
    /// oxim as it was just built, and Exim if it is there and we are root (it gives up its rights with `-C` else).
    pub fn installed() -> Vec<Self> {
        let mut programs =
            vec![Self { name: "oxim", path: PathBuf::from(env!("CARGO_BIN_EXE_oxim")), user: "oxim" }];
        let exim = PathBuf::from("/usr/sbin/exim4");
        if exim.exists() && nix::unistd::geteuid().is_root() {
            programs.push(Self { name: "exim4", path: exim, user: "Debian-exim" });
        }
        programs
    }
}

impl Program {
    /// The program with its configuration, run by `wrapper` if that is not empty. Exim sees, in a mount
    /// namespace of its own, a list of trusted configurations that has this one: it gives up its rights else.
    pub fn command(&self, configuration: &Path, wrapper: &[&str]) -> anyhow::Result<Command> {
        const WITH_TRUST: &str = "touch /etc/exim4/trusted_configs && mount --bind \"$0\" /etc/exim4/trusted_configs && exec \"$@\"";
        let mut words: Vec<String> = wrapper.iter().map(|word| (*word).to_owned()).collect();
        words.push(self.path.to_string_lossy().into_owned());
        if self.name == "exim4" {
            let trusted = configuration.with_extension("trusted");
            fs::write(&trusted, format!("{}\n", configuration.display()))?;
            let trusted = trusted.to_string_lossy().into_owned();
            let unshare = ["unshare", "-m", "sh", "-c", WITH_TRUST, &trusted].map(str::to_owned);
            words.splice(0..0, unshare);
        }
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg("-C").arg(configuration);
        Ok(command)
    }
}

/// A running server.
pub struct Server {
    /// Where everything of it lies.
    pub directory: tempfile::TempDir,
    /// Its port on loopback.
    pub port: u16,
    pid: Pid,
    started: Instant,
    cpu_before: Duration,
    running: bool,
}

/// A run that failed leaves no server behind.
impl Drop for Server {
    fn drop(&mut self) {
        if self.running {
            let _ = kill(self.daemon(), Signal::SIGTERM); // gone already is as good
        }
    }
}

/// What a server took from start to end.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// CPU of it and all its descendants.
    pub cpu: Duration,
}

impl Server {
    /// Starts a daemon; `extra` are main options. It listens when this returns.
    pub fn start(program: &Program, extra: &str) -> anyhow::Result<Self> {
        Self::start_under(program, extra, &[])
    }

    /// The same, run by another command (`strace ...`).
    pub fn start_under(program: &Program, extra: &str, wrapper: &[&str]) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("oxim-bench").tempdir()?;
        let port = free_port()?;
        let configuration = write_configuration(program, directory.path(), extra)?;
        let cpu_before = children_cpu()?;
        let mut command = program.command(&configuration, wrapper)?;
        command.args(["-bdf", "-oX"]).arg(port.to_string());
        command.arg("-oP").arg(directory.path().join("pid")).stdin(Stdio::null()).process_group(0);
        let child = command.spawn().with_context(|| format!("starting {}", program.name))?;
        let server = Self {
            directory,
            port,
            pid: Pid::from_raw(child.id().cast_signed()),
            started: Instant::now(),
            cpu_before,
            running: true,
        };
        server.wait_until_it_listens()?;
        Ok(server)
    }

    fn wait_until_it_listens(&self) -> anyhow::Result<()> {
        while self.started.elapsed() < Duration::from_secs(30) {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        bail!("the server did not listen within 30 s; see {}", self.directory.path().display())
    }

    /// Process id of the daemon (or of what wraps it).
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// The daemon itself, also where it was started by `strace`, which takes no signals for it.
    fn daemon(&self) -> Pid {
        let written = fs::read_to_string(self.directory.path().join("pid")).ok();
        written.and_then(|text| text.trim().parse().ok()).map_or(self.pid, Pid::from_raw)
    }

    /// The Maildir that all mail goes to.
    pub fn maildir(&self) -> PathBuf {
        self.directory.path().join("mail/new")
    }

    /// Ends the daemon, waits for all descendants, and tells the CPU they took.
    pub fn stop(mut self) -> anyhow::Result<Taken> {
        kill(self.daemon(), Signal::SIGTERM)?;
        self.running = false;
        reap()?;
        Ok(Taken { cpu: children_cpu()?.saturating_sub(self.cpu_before) })
    }
}

/// Waits until no descendant is left.
pub fn reap() -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
            Err(nix::errno::Errno::ECHILD) => return Ok(()),
            Ok(WaitStatus::StillAlive) => std::thread::sleep(Duration::from_millis(2)),
            Ok(_) | Err(_) => {}
        }
    }
    bail!("processes of the server were still there after 20 s")
}

/// CPU of a server that is started and stopped and does nothing else.
pub fn empty_run(program: &Program, extra: &str) -> anyhow::Result<Duration> {
    Ok(Server::start(program, extra)?.stop()?.cpu)
}

fn children_cpu() -> anyhow::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let seconds = |time: nix::sys::time::TimeVal| {
        Duration::from_micros(u64::try_from(time.tv_sec() * 1_000_000 + time.tv_usec()).unwrap_or(0))
    };
    Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
}

/// A port that nobody listens on.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn write_configuration(program: &Program, directory: &Path, extra: &str) -> anyhow::Result<PathBuf> {
    let root = nix::unistd::geteuid().is_root();
    let own = nix::unistd::User::from_uid(nix::unistd::geteuid())?.context("our own user")?;
    let user = if root { "nobody".to_owned() } else { own.name };
    for name in ["spool", "log", "mail", "mail/new", "mail/cur", "mail/tmp"] {
        fs::create_dir_all(directory.join(name))?;
    }
    let here = directory.display();
    let text = format!(
        "primary_hostname = bench.example\nspool_directory = {here}/spool\nlog_file_path = {here}/log/%slog\n\
         keep_environment =\nacl_smtp_rcpt = accept\nacl_smtp_data = accept\nsmtp_accept_max = 200\nsmtp_connect_backlog = 200\n\
         smtp_accept_max_per_connection = 1000000\nhost_lookup =\nrfc1413_query_timeout = 0s\n{extra}\n\
         begin routers\nall:\n  driver = accept\n  transport = box\n\
         begin transports\nbox:\n  driver = appendfile\n  directory = {here}/mail\n  maildir_format\n  user = {user}\n\
         begin retry\n* * F,2h,15m\n"
    );
    let path = directory.join("configure");
    fs::write(&path, text)?;
    if root {
        own_by(program.user, &[directory.join("spool"), directory.join("log")])?;
        own_by(&user, &["mail", "mail/new", "mail/cur", "mail/tmp"].map(|name| directory.join(name)))?;
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(directory, open)?;
    }
    Ok(path)
}

fn own_by(user: &str, paths: &[PathBuf]) -> anyhow::Result<()> {
    let user =
        nix::unistd::User::from_name(user)?.with_context(|| format!("the user {user} does not exist"))?;
    for path in paths {
        nix::unistd::chown(path, Some(user.uid), Some(user.gid))?;
    }
    Ok(())
}
