//! Where one case runs: its directory, users, ports, and how a program is called there.
//!
//! With root each command runs in a private mount namespace whose `/etc` is the case's own: it has
//! the users of the tests, and the case's configuration lies at `/etc/exim4/exim4.conf`, a place that
//! exim4 and oxim both search, so no command needs `-C` and nothing is lost by it. Without root
//! everything runs as the one user, with `-C`.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use super::case::Caller;

/// No single command of a case takes longer than this.
pub const COMMAND_DEADLINE: Duration = Duration::from_secs(40);

const CALLER_UID: u32 = 64911;
const OWNER_UID: u32 = 64912;
const OXIM_UID: u32 = 64901;

/// Which program is tested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    Exim4,
    Oxim,
}

/// How the program is installed for the case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A set-uid root copy, called by an ordinary user.
    SetUid,
    /// No set-uid bit; a daemon started by root takes submissions over its socket.
    Daemon,
    /// No root at all: a daemon and its callers under one uid.
    OneUser,
}

impl Mode {
    /// The mode's name on the command line and in `not_yet.txt`.
    pub fn name(self) -> &'static str {
        match self {
            Mode::SetUid => "setuid",
            Mode::Daemon => "daemon",
            Mode::OneUser => "oneuser",
        }
    }
}

/// The directory of all cases of this run, with the copies of the program.
pub struct Workshop {
    pub directory: PathBuf,
    pub program: Program,
}

impl Workshop {
    /// Makes the directory and copies the program into it, once plain and once set-uid root.
    pub fn new(program: Program, binary: &Path) -> std::io::Result<Workshop> {
        Self::named(program, binary, "parity")
    }

    /// The same, beside others of this process.
    pub fn named(program: Program, binary: &Path, name: &str) -> std::io::Result<Workshop> {
        // /tmp may be mounted nosuid, and a home directory may be closed to other users
        let directory = PathBuf::from(format!("/var/tmp/oxim-{name}-{}", std::process::id()));
        fs::create_dir_all(directory.join("bin"))?;
        fs::create_dir_all(directory.join("setuid"))?;
        if program == Program::Oxim {
            for (place, mode) in [("bin/oxim", 0o755), ("setuid/oxim", 0o4755)] {
                let path = directory.join(place);
                fs::copy(binary, &path)?;
                fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
            }
        }
        Ok(Workshop { directory, program })
    }

    fn binary(&self, mode: Mode) -> PathBuf {
        match (&self.program, mode) {
            (Program::Exim4, _) => "/usr/sbin/exim4".into(),
            (Program::Oxim, Mode::SetUid) => self.directory.join("setuid/oxim"),
            (Program::Oxim, _) => self.directory.join("bin/oxim"),
        }
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        if std::env::var_os("OXIM_KEEP").is_some() {
            println!("kept: {}", self.directory.display());
            return;
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// One case's surroundings in one mode.
pub struct World {
    pub directory: PathBuf,
    pub port: u16,
    pub sink_port: u16,
    pub port2: u16,
    pub mode: Mode,
    pub program: Program,
    binary: PathBuf,
    daemon: Option<Child>,
}

impl World {
    /// Makes the directory with spool, log and mail, and the private `/etc`.
    pub fn new(workshop: &Workshop, name: &str, mode: Mode) -> std::io::Result<World> {
        let directory = workshop.directory.join(format!("{}-{}", name.replace('/', "-"), mode.name()));
        fs::create_dir_all(&directory)?;
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?;
        let world = World {
            binary: workshop.binary(mode),
            directory,
            port: free_port(),
            sink_port: free_port(),
            port2: free_port(),
            mode,
            program: workshop.program.clone(),
            daemon: None,
        };
        // oxim's is passed through to the submission socket; nobody else sees what lies in it
        let spool_mode = if world.program == Program::Oxim { 0o751 } else { 0o750 };
        for (name, permissions) in [("spool", spool_mode), ("log", 0o755), ("mail", 0o1777), ("run", 0o1777)]
        {
            let path = world.directory.join(name);
            fs::create_dir_all(&path)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(permissions))?;
        }
        if mode != Mode::OneUser {
            for name in ["spool", "log"] {
                let (uid, gid) = world.mailer_ids();
                chown(world.directory.join(name), Some(uid), Some(gid))?;
            }
            world.make_etc()?;
        }
        Ok(world)
    }

    /// Text with `@DIR@` and the like replaced by what they are in this run.
    pub fn substitute(&self, text: &str) -> String {
        let with_tls = PRELUDE.replace("tls_advertise_hosts =", TLS_OPTIONS);
        let blocks = [
            ("@PRELUDE_TLS@", with_tls.as_str()),
            ("@PRELUDE@", PRELUDE),
            ("@ROUTER_LOCAL@", ROUTER_LOCAL),
            ("@ROUTER_SINK@", ROUTER_SINK),
            ("@TRANSPORT_MAILDIR@", TRANSPORT_MAILDIR),
            ("@TRANSPORT_SMTP@", TRANSPORT_SMTP),
            ("@PROGRAM@", self.binary.to_str().unwrap_or_default()),
            ("@TESTS@", concat!(env!("CARGO_MANIFEST_DIR"), "/tests")),
        ];
        let mut text = text.to_owned();
        for (name, block) in blocks {
            text = text.replace(name, block);
        }
        for (value, name) in self.names() {
            text = text.replace(&name, &value);
        }
        text
    }

    /// What this run's own names are, and the placeholders for them.
    pub fn names(&self) -> Vec<(String, String)> {
        let pair = |value: String, name: &str| (value, name.to_owned());
        let mut names = vec![
            pair(self.directory.display().to_string(), "@DIR@"),
            pair(self.port.to_string(), "@PORT@"),
            pair(self.port2.to_string(), "@PORT2@"),
            pair(self.sink_port.to_string(), "@SINK@"),
        ];
        if self.mode == Mode::OneUser {
            names.push(pair(own_name(), "@CALLER@"));
            names.push(pair(own_name(), "@USER@"));
        } else {
            names.push(pair("pcaller".into(), "@CALLER@"));
            names.push(pair("powner".into(), "@USER@"));
        }
        names
    }

    /// What a text of this run may hold besides the names: the user the program runs as.
    pub fn output_names(&self) -> Vec<(String, String)> {
        let mut names = self.names();
        let mailer = if self.program == Program::Exim4 { "Debian-exim" } else { "oxim" };
        names.push((format!("U={mailer} "), "U=@EXIM@ ".into()));
        names.push((format!("from {mailer} by"), "from @EXIM@ by".into()));
        let (uid, gid) = self.mailer_ids();
        names.push((format!("{mailer} {uid} {gid}"), "@EXIM@ @EXIM_UID@ @EXIM_GID@".into()));
        names.push((format!("euid={uid} egid={gid}"), "euid=@EXIM_UID@ egid=@EXIM_GID@".into()));
        names.push((format!("or uid={uid} can use"), "or uid=@EXIM_UID@ can use".into()));
        names.push((format!("-ident {mailer}"), "-ident @EXIM@".into()));
        names.push((self.binary.display().to_string(), "@BINARY@".into()));
        names
    }

    /// Writes a file of the case; the main configuration also goes where it is searched.
    pub fn write_file(&self, name: &str, mode: u32, body: &str) -> std::io::Result<()> {
        let path = self.directory.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, self.substitute(body))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        if name == "exim.conf" && self.mode != Mode::OneUser {
            fs::copy(&path, self.directory.join("etc/exim4/exim4.conf"))?;
        }
        Ok(())
    }

    /// Makes what runs from now on in the private `/etc` ask this name server.
    pub fn write_resolv_conf(&self, text: &str) -> std::io::Result<()> {
        if self.mode == Mode::OneUser {
            return Err(std::io::Error::other("a name server needs root"));
        }
        let path = self.directory.join("etc/resolv.conf");
        let _ = fs::remove_file(&path);
        fs::write(path, text)
    }

    /// Runs the program to its end.
    pub fn call(&self, call: &Call) -> std::io::Result<Output> {
        let mut arguments = Vec::new();
        if self.mode == Mode::OneUser && !call.bare {
            arguments.extend(["-C".to_owned(), self.directory.join("exim.conf").display().to_string()]);
        }
        arguments.extend(call.arguments.iter().map(|a| self.substitute(a)));
        let mut command = self.command(call.caller, &self.binary, call.name, &arguments)?;
        run(&mut command, self.substitute(call.input).as_bytes())
    }

    /// Runs a shell script in the case's directory as root (without root: as the user).
    pub fn shell(&self, script: &str) -> std::io::Result<Output> {
        let arguments = ["-e".to_owned(), "-c".to_owned(), self.substitute(script)];
        let mut command = self.command(Caller::Root, Path::new("/bin/sh"), None, &arguments)?;
        // what a tool calls text depends on it
        run(command.env("LC_ALL", "C.UTF-8"), b"")
    }

    /// Starts a daemon in the foreground and waits until the main log says that it listens.
    pub fn start_daemon(&mut self, arguments: &[String]) -> Result<(), String> {
        self.start_daemon_on(self.port, arguments)
    }

    /// The same on a port that is not `@PORT@`.
    pub fn start_daemon_on(&mut self, port: u16, arguments: &[String]) -> Result<(), String> {
        let mut all = Vec::new();
        if self.mode == Mode::OneUser {
            all.extend(["-C".to_owned(), self.directory.join("exim.conf").display().to_string()]);
        }
        let own = ["-bdf".to_owned(), "-oX".to_owned(), format!("127.0.0.1.{port}"), "-oP".to_owned()];
        all.extend(own);
        all.push(self.directory.join("run/daemon.pid").display().to_string());
        all.extend(arguments.iter().map(|a| self.substitute(a)));
        let mut command = self.command(Caller::Root, &self.binary, None, &all).map_err(|e| e.to_string())?;
        let output = fs::File::create(self.directory.join("run/daemon.out")).map_err(|e| e.to_string())?;
        let copy = output.try_clone().map_err(|e| e.to_string())?;
        command.stdin(Stdio::null()).stdout(output).stderr(copy);
        let started = self.count_in_mainlog("daemon started: pid=");
        self.daemon = Some(command.spawn().map_err(|e| e.to_string())?);
        self.wait_for("the daemon to listen", |world| {
            if let Some(daemon) = world.daemon.as_mut()
                && let Ok(Some(status)) = daemon.try_wait()
            {
                let said = fs::read_to_string(world.directory.join("run/daemon.out")).unwrap_or_default();
                return Err(format!("the daemon ended ({status}): {said}"));
            }
            Ok(world.count_in_mainlog("daemon started: pid=") > started)
        })
    }

    /// Ends the daemon with SIGTERM and waits for it; kills it when it does not end.
    pub fn stop_daemon(&mut self) -> Result<(), String> {
        let Some(mut daemon) = self.daemon.take() else { return Ok(()) };
        signal(&daemon, nix::sys::signal::Signal::SIGTERM);
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if let Ok(Some(_)) = daemon.try_wait() {
                return Ok(());
            }
            std::thread::sleep(POLL);
        }
        let _ = daemon.kill();
        let _ = daemon.wait();
        Err("the daemon did not end within 10 s of SIGTERM".into())
    }

    /// True while a daemon was started and not stopped.
    pub fn has_daemon(&self) -> bool {
        self.daemon.is_some()
    }

    /// The daemon's process id, if one was started.
    pub fn daemon_id(&self) -> Option<i32> {
        self.daemon.as_ref().and_then(|daemon| i32::try_from(daemon.id()).ok())
    }

    /// Polls until the main log holds the text often enough.
    pub fn wait_mainlog(&mut self, text: &str, count: usize) -> Result<(), String> {
        let text = self.substitute(text);
        self.wait_for(&format!("\"{text}\" in the main log"), |w| Ok(w.count_in_mainlog(&text) >= count))
    }

    fn wait_for(
        &mut self,
        what: &str,
        mut done: impl FnMut(&mut World) -> Result<bool, String>,
    ) -> Result<(), String> {
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            if done(self)? {
                return Ok(());
            }
            std::thread::sleep(POLL);
        }
        let log = self.mainlog();
        let last: Vec<&str> = log.lines().rev().take(5).collect();
        Err(format!("waited in vain for {what}; the last lines of the main log, newest first: {last:?}"))
    }

    fn count_in_mainlog(&self, text: &str) -> usize {
        self.mainlog().matches(text).count()
    }

    /// What the main log holds by now.
    pub fn mainlog(&self) -> String {
        let log = fs::read(self.directory.join("log/mainlog")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    fn mailer_ids(&self) -> (u32, u32) {
        if self.mode == Mode::OneUser {
            return (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
        }
        let name = if self.program == Program::Exim4 { "Debian-exim" } else { "oxim" };
        match nix::unistd::User::from_name(name) {
            Ok(Some(user)) => (user.uid.as_raw(), user.gid.as_raw()),
            _ => (OXIM_UID, OXIM_UID),
        }
    }

    /// A command in the private `/etc`, as the caller.
    fn command(
        &self,
        caller: Caller,
        binary: &Path,
        name: Option<&str>,
        arguments: &[String],
    ) -> std::io::Result<Command> {
        if self.mode == Mode::OneUser {
            let mut command = Command::new(binary);
            if let Some(name) = name {
                command.arg0(name);
            }
            command.args(arguments).current_dir(&self.directory);
            return Ok(command);
        }
        let mut command = Command::new("unshare");
        command.args(["-m", "--propagation", "private", "--", "/bin/sh"]);
        command.arg(self.directory.join("enter")).current_dir(&self.directory);
        if caller == Caller::User {
            let id = CALLER_UID.to_string();
            command.args(["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups", "--"]);
            command.env("USER", "pcaller").env("LOGNAME", "pcaller");
        }
        match name {
            // a name of its own: a link in the case's directory (exec -a is not in every sh)
            Some(name) => {
                let link = self.directory.join("run").join(name);
                if !link.exists() {
                    symlink(binary, &link)?;
                }
                command.arg(link);
            }
            None => {
                command.arg(binary);
            }
        }
        command.args(arguments);
        Ok(command)
    }

    /// A copy of `/etc` as links, but with the users of the tests and the configuration.
    fn make_etc(&self) -> std::io::Result<()> {
        let etc = self.directory.join("etc");
        let real = self.directory.join("realetc");
        fs::create_dir_all(&etc)?;
        fs::create_dir_all(&real)?;
        for entry in fs::read_dir("/etc")? {
            let name = entry?.file_name();
            let own = ["passwd", "group", "hosts", "exim4", "oxim", "aliases"].iter().any(|own| name == *own);
            if !own {
                symlink(real.join(&name), etc.join(&name))?;
            }
        }
        let mut passwd = fs::read_to_string("/etc/passwd")?;
        let mut group = fs::read_to_string("/etc/group")?;
        let users =
            [("oxim", OXIM_UID, ""), ("pcaller", CALLER_UID, "Paul Caller"), ("powner", OWNER_UID, "")];
        for (name, uid, gecos) in users {
            if !passwd.lines().any(|l| l.starts_with(&format!("{name}:"))) {
                passwd.push_str(&format!("{name}:x:{uid}:{uid}:{gecos}:/nonexistent:/bin/sh\n"));
                group.push_str(&format!("{name}:x:{uid}:\n"));
            }
        }
        fs::write(etc.join("passwd"), passwd)?;
        fs::write(etc.join("group"), group)?;
        fs::write(etc.join("hosts"), hosts_of_ipv4(&fs::read_to_string("/etc/hosts").unwrap_or_default()))?;
        for directory in ["exim4", "oxim"] {
            fs::create_dir_all(etc.join(directory))?;
            let trusted = self.directory.join("trusted.conf").display().to_string() + "\n";
            fs::write(etc.join(directory).join("trusted_configs"), trusted)?;
        }
        let script = format!(
            "set -e\nmount --rbind /etc {real}\nmount --bind {etc} /etc\nexec \"$@\"\n",
            real = real.display(),
            etc = etc.display()
        );
        fs::write(self.directory.join("enter"), script)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.stop_daemon();
    }
}

/// One call of the program.
pub struct Call<'a> {
    pub caller: Caller,
    /// Another name than the binary's (`mailq`).
    pub name: Option<&'a str>,
    /// Without root: no `-C` in front of the arguments.
    pub bare: bool,
    pub arguments: &'a [String],
    pub input: &'a str,
}

/// How often something that is waited for is looked at.
pub const POLL: Duration = Duration::from_millis(15);

/// What nearly every configuration of a case begins with.
const PRELUDE: &str = "primary_hostname = mail.test.example\n\
    qualify_domain = test.example\n\
    spool_directory = @DIR@/spool\n\
    log_file_path = @DIR@/log/%slog\n\
    keep_environment =\n\
    tls_advertise_hosts =\n\
    chunking_advertise_hosts =\n\
    pipelining_connect_advertise_hosts =\n\
    smtputf8_advertise_hosts =";

/// The hosts file without IPv6 addresses: localhost has one on some machines and none on others, and it comes first.
fn hosts_of_ipv4(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.split_whitespace().next().is_some_and(|a| a.contains(':')));
    lines.map(|line| format!("{line}\n")).collect()
}

/// With the certificate that `tests/demo/pki.sh` makes, in place of no TLS at all.
const TLS_OPTIONS: &str = "tls_advertise_hosts = *\ntls_certificate = @DIR@/pki/server.pem\n\
    tls_privatekey = @DIR@/pki/server.key";

/// Local users with a Maildir each; the router and the transport of most cases.
const ROUTER_LOCAL: &str = "local:\n  driver = accept\n  domains = test.example\n  \
    local_parts = ann : bob : carl : @CALLER@\n  transport = maildir";
const TRANSPORT_MAILDIR: &str = "maildir:\n  driver = appendfile\n  \
    directory = @DIR@/mail/$local_part_data\n  maildir_format\n  user = @USER@";
/// Everything else goes to the scripted server of the case.
const ROUTER_SINK: &str = "sink:\n  driver = manualroute\n  route_list = * 127.0.0.1::@SINK@ byname\n  \
    self = send\n  transport = smtp";
const TRANSPORT_SMTP: &str = "smtp:\n  driver = smtp\n  hosts_try_fastopen =\n  hosts_try_prdr =\n  \
    hosts_try_chunking =\n  hosts_try_dane =\n  hosts_pipe_connect =";

/// Runs a command to its end, feeding its standard input; one that takes too long is killed.
pub fn run(command: &mut Command, input: &[u8]) -> std::io::Result<Output> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take();
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || {
        if let Some(stdin) = stdin.as_mut() {
            let _ = stdin.write_all(&input);
        }
    });
    let guard = KillAfter::new(&child, COMMAND_DEADLINE);
    let output = child.wait_with_output();
    drop(guard);
    let _ = feeder.join();
    output
}

/// Kills a process that takes too long; dropping it calls that off.
pub struct KillAfter {
    called_off: Option<std::sync::mpsc::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl KillAfter {
    /// The child is killed after this time.
    pub fn new(child: &Child, time: Duration) -> KillAfter {
        let id = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
        let (called_off, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            if wait.recv_timeout(time) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                let _ = nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGKILL);
            }
        });
        KillAfter { called_off: Some(called_off), thread: Some(thread) }
    }
}

impl Drop for KillAfter {
    fn drop(&mut self) {
        drop(self.called_off.take());
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

fn signal(child: &Child, signal: nix::sys::signal::Signal) {
    if let Ok(id) = i32::try_from(child.id()) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), signal);
    }
}

fn own_name() -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::getuid());
    user.ok().flatten().map_or_else(|| "nobody".into(), |u| u.name)
}

/// A port below the ephemeral range that nothing listens on; each is given out once.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 11_000).unwrap_or(0);
    loop {
        let port = 20_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
