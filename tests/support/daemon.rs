//! Two mail servers side by side in a test: oxim and Debian's exim4, each with its own spool, logs and Maildir.
//!
//! As root both run with their own user and deliver as `nobody`; without root everything is this user's, and
//! exim4 (which gives up its rights for `-C`) is left out.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Oxim,
    /// Built with `MESSAGE_IDS=short`: the environment tells where it is.
    OximShort,
    Exim4,
}

impl Program {
    pub fn path(self) -> PathBuf {
        match self {
            Self::Oxim => PathBuf::from(env!("CARGO_BIN_EXE_oxim")),
            Self::OximShort => std::env::var_os("OXIM_SHORT_PROGRAM").unwrap_or_default().into(),
            Self::Exim4 => PathBuf::from("/usr/sbin/exim4"),
        }
    }
    fn user(self) -> &'static str {
        match self {
            Self::Oxim | Self::OximShort => "oxim",
            Self::Exim4 => "Debian-exim",
        }
    }
}

pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Whether a test that needs this may run; in CI (`OXIM_REQUIRE_ROOT` is set) it must.
pub fn have(what: &str, there: bool) -> bool {
    if !there {
        assert!(std::env::var_os("OXIM_REQUIRE_ROOT").is_none(), "{what} is missing, and CI skips nothing");
        eprintln!("skipped: {what} is missing");
    }
    there
}

pub fn have_exim4() -> bool {
    have("root with exim4 installed", is_root() && Program::Exim4.path().exists())
}

pub fn have_tool(name: &str) -> bool {
    have(
        name,
        Command::new("sh")
            .args(["-c", &format!("command -v {name}")])
            .output()
            .is_ok_and(|o| o.status.success()),
    )
}

/// uid and gid of the staple keeper's user where only the test has one.
const KEEPERS_NUMBER: u32 = 64_902;

/// A place for one server: `configure`, `spool`, `log`, `mail` (a Maildir).
pub struct Place {
    pub program: Program,
    pub directory: tempfile::TempDir,
    /// Variables that the program finds in its environment.
    pub environment: Vec<(&'static str, String)>,
}

impl Place {
    /// `text` may name `@DIR@`, `@USER@` (the user deliveries run as), `@PORT@` (the daemon's) and whatever else the caller has replaced.
    pub fn new(program: Program, text: &str) -> Self {
        let directory =
            tempfile::Builder::new().prefix("oxim-test").tempdir().expect("a temporary directory");
        let place = Self { program, directory, environment: Vec::new() };
        for name in ["spool", "log", "mail", "mail/new", "mail/cur", "mail/tmp"] {
            fs::create_dir_all(place.path(name)).expect("a directory");
        }
        place.configure(text);
        if is_root() {
            fs::set_permissions(place.directory.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
            for name in ["spool", "log"] {
                own(program.user(), &place.path(name));
            }
            for name in ["mail", "mail/new", "mail/cur", "mail/tmp"] {
                own("nobody", &place.path(name));
            }
        }
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What runs here knows the staple keeper's user, though the system may not: for root, in a mount namespace.
    pub fn with_keepers_user(self) -> Self {
        let name = oxim::config::build_settings::KEEPER_USER;
        if is_root() && nix::unistd::User::from_name(name).ok().flatten().is_none() {
            fs::create_dir(self.path("users")).expect("a directory");
            let passwd = fs::read_to_string("/etc/passwd").expect("passwd");
            let group = fs::read_to_string("/etc/group").expect("group");
            let number = KEEPERS_NUMBER;
            let user = format!("{passwd}{name}:x:{number}:{number}::/nonexistent:/usr/sbin/nologin\n");
            fs::write(self.path("users/passwd"), user).expect("writing");
            fs::write(self.path("users/group"), format!("{group}{name}:x:{number}:\n")).expect("writing");
        }
        self
    }

    /// What runs here does not know the staple keeper's user, though the system may: for root.
    pub fn without_keepers_user(self) -> Self {
        let name = oxim::config::build_settings::KEEPER_USER;
        fs::create_dir(self.path("users")).expect("a directory");
        for file in ["passwd", "group"] {
            let text = fs::read_to_string(format!("/etc/{file}")).expect("reading");
            let others = text.lines().filter(|line| !line.starts_with(&format!("{name}:")));
            let others: String = others.map(|line| format!("{line}\n")).collect();
            fs::write(self.path("users").join(file), others).expect("writing");
        }
        self
    }

    /// What runs here reads this resolv.conf: for root, in a mount namespace.
    pub fn with_resolv_conf(self, text: &str) -> Self {
        fs::write(self.path("resolv.conf"), text).expect("writing");
        self
    }

    pub fn configure(&self, text: &str) {
        let user = if is_root() { "nobody".to_owned() } else { own_name() };
        let here = self.directory.path().to_string_lossy().into_owned();
        let head = "primary_hostname = host.test\nspool_directory = @DIR@/spool\nlog_file_path = @DIR@/log/%slog\n\
                    keep_environment =\nhost_lookup =\n";
        let text = format!("{head}{text}").replace("@DIR@", &here).replace("@USER@", &user);
        fs::write(self.path("configure"), text).expect("writing the configuration");
    }

    /// Runs the program to its end.
    pub fn run(&self, arguments: &[&str], input: &[u8]) -> Output {
        use std::io::Write;
        let mut child = command(self)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starting the program");
        child.stdin.take().expect("a pipe").write_all(input).expect("writing to the program");
        child.wait_with_output().expect("the program's end")
    }

    pub fn daemon(self) -> Daemon {
        Daemon::start(self)
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log/mainlog")).unwrap_or_default()
    }

    /// Waits until the main log has this text, and gives the whole log.
    pub fn wait_for_log(&self, text: &str) -> String {
        self.wait_for("log", text, || self.log())
    }

    /// The same in the panic log, which is written after the main log.
    pub fn wait_for_panic_log(&self, text: &str) -> String {
        self.wait_for("panic log", text, || self.panic_log())
    }

    pub fn panic_log(&self) -> String {
        fs::read_to_string(self.path("log/paniclog")).unwrap_or_default()
    }

    fn wait_for(&self, name: &str, text: &str, read: impl Fn() -> String) -> String {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let log = read();
            if log.contains(text) {
                return log;
            }
            assert!(Instant::now() < deadline, "{text:?} is not in the {name} of {:?}:\n{log}", self.program);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for so many messages in the Maildir and gives their texts.
    pub fn wait_for_mail(&self, count: usize) -> Vec<String> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let files: Vec<_> = fs::read_dir(self.path("mail/new")).expect("the Maildir").flatten().collect();
            if files.len() >= count {
                return files.iter().map(|f| fs::read_to_string(f.path()).expect("a message")).collect();
            }
            assert!(Instant::now() < deadline, "{} of {count} messages; log:\n{}", files.len(), self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn mail_count(&self) -> usize {
        fs::read_dir(self.path("mail/new")).expect("the Maildir").count()
    }
}

/// A running daemon; it is ended when this is dropped.
pub struct Daemon {
    pub place: Place,
    pub port: u16,
    child: Child,
}

impl Daemon {
    /// The process that was started: the master.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The process that serves SMTP.
    pub fn smtp_worker(&self) -> u32 {
        self.role("oxim-smtp").expect("an SMTP worker")
    }

    /// The process of this name that the master has started.
    pub fn role(&self, name: &str) -> Option<u32> {
        self.roles(name).first().copied()
    }

    /// The same, and all of them: a former one may have sessions still.
    pub fn roles(&self, name: &str) -> Vec<u32> {
        let (ours, named) = (format!("PPid:\t{}\n", self.pid()), format!("Name:\t{name}\n"));
        let processes = fs::read_dir("/proc").expect("/proc").flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.starts_with(&named) && status.contains(&ours)
        })
        .collect()
    }

    fn start(place: Place) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        let text = fs::read_to_string(place.path("configure")).expect("the configuration");
        fs::write(place.path("configure"), text.replace("@PORT@", &port.to_string())).expect("writing");
        let child = spawn(&place, port);
        let daemon = Self { place, port, child };
        daemon.wait_until_it_listens();
        daemon
    }

    /// Ended, and started again on the same port.
    pub fn restarted(mut self) -> Self {
        self.end();
        self.child = spawn(&self.place, self.port);
        self.wait_until_it_listens();
        self
    }

    fn end(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
    }

    fn wait_until_it_listens(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < deadline, "the daemon does not listen; log:\n{}", self.place.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A daemon that only runs the queue.
pub struct QueueDaemon {
    pub place: Place,
    child: Child,
}

impl QueueDaemon {
    /// `arguments` are its `-q<time>` and whatever else.
    pub fn start(place: Place, arguments: &[&str]) -> Self {
        let pid = place.path("pid");
        // In the foreground: who has started it knows when it has ended.
        let child = command(&place)
            .args(arguments)
            .args(["-v", "-oP"])
            .arg(pid)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starting the daemon");
        place.wait_for_log("daemon started");
        Self { place, child }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for QueueDaemon {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

fn spawn(place: &Place, port: u16) -> Child {
    command(place)
        .args(["-bdf", "-oX", &format!("127.0.0.1.{port}"), "-oP"])
        .arg(place.path("pid"))
        .stdin(Stdio::null())
        .spawn()
        .expect("starting the daemon")
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
    }
}

fn own_name() -> String {
    nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().expect("our own user").name
}

fn own(user: &str, path: &Path) {
    let user = nix::unistd::User::from_name(user).ok().flatten().unwrap_or_else(|| panic!("no user {user}"));
    nix::unistd::chown(path, Some(user.uid), Some(user.gid)).expect("chown");
}

/// The program on its way to be started: exim4 sees, in a mount namespace of its own, a list of trusted
/// configurations that has this place's (it gives up its rights for any other).
fn command(place: &Place) -> Command {
    const WITH_TRUST: &str =
        "touch /etc/exim4/trusted_configs && mount --bind \"$0\" /etc/exim4/trusted_configs && exec \"$@\"";
    const WITH_OWN_ETC: &str = "for file in users/passwd users/group resolv.conf; do \
        if test -e \"$0/$file\"; then mount --bind \"$0/$file\" \"/etc/${file#users/}\"; fi || exit; done; exec \"$@\"";
    let configuration = place.path("configure");
    let mut command = match place.program {
        // Root where oxim is not installed (the staple keeper's user), or with names of the test's own: this program has
        // files of /etc of its own, in a mount namespace.
        Program::Oxim if place.path("users").exists() || place.path("resolv.conf").exists() => {
            let mut command = Command::new("unshare");
            command
                .args(["-m", "sh", "-c", WITH_OWN_ETC])
                .arg(place.directory.path())
                .arg(place.program.path());
            command
        }
        Program::Oxim | Program::OximShort => Command::new(place.program.path()),
        Program::Exim4 => {
            let trusted = place.path("trusted_configs");
            fs::write(&trusted, format!("{}\n", configuration.display())).expect("writing");
            let mut command = Command::new("unshare");
            command.args(["-m", "sh", "-c", WITH_TRUST]).arg(trusted).arg(place.program.path());
            command
        }
    };
    command.arg("-C").arg(configuration).envs(place.environment.iter().map(|(name, value)| (name, value)));
    command
}
