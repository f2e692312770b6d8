//! What tests/install.rs needs: the manifest as it has to come out under a layout, and the two scripts.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use oxim::config::build_settings;

pub mod real;

/// The variables of the Makefile that say where things go.
#[derive(Debug, Clone)]
pub struct Layout {
    pub prefix: PathBuf,
    pub sysconfdir: PathBuf,
    pub spool: PathBuf,
    pub log: PathBuf,
    pub config_file: PathBuf,
    /// `LOG_FILE_PATH`, if it is set.
    pub log_file_path: String,
}

impl Layout {
    /// The defaults.
    pub fn usual() -> Self {
        Self {
            prefix: "/usr/local".into(),
            sysconfdir: "/etc".into(),
            spool: "/var/spool/oxim".into(),
            log: "/var/spool/oxim/log".into(),
            config_file: "/etc/oxim/oxim.conf".into(),
            log_file_path: String::new(),
        }
    }

    /// Every place chosen otherwise.
    pub fn changed() -> Self {
        Self {
            prefix: "/opt/mail".into(),
            sysconfdir: "/opt/etc".into(),
            spool: "/srv/spool".into(),
            log: "/srv/log".into(),
            config_file: "/opt/etc/mta.conf".into(),
            log_file_path: "syslog : /srv/log/%slog".into(),
        }
    }

    fn variables(&self) -> Vec<(&'static str, PathBuf)> {
        let is_usr = self.prefix == Path::new("/usr");
        let units = if is_usr { "/lib/systemd/system" } else { "/etc/systemd/system" };
        vec![
            ("$BINDIR", self.prefix.join("bin")),
            ("$SBINDIR", self.prefix.join("sbin")),
            ("$LIBDIR", self.prefix.join("lib")),
            ("$MANDIR", self.prefix.join("share/man")),
            ("$DOCDIR", self.prefix.join("share/doc/oxim")),
            ("$UNITDIR", units.into()),
            ("$SYSCONFDIR", self.sysconfdir.clone()),
            ("$CONFIG_FILE", self.config_file.clone()),
            ("$SPOOL", self.spool.clone()),
            ("$LOG", self.log.clone()),
        ]
    }

    /// The path with its names replaced.
    fn resolve(&self, path: &str) -> String {
        let (name, rest) = path.split_once('/').map_or((path, String::new()), |(n, r)| (n, format!("/{r}")));
        match self.variables().into_iter().find(|(variable, _)| *variable == name) {
            Some((_, place)) => format!("{}{rest}", place.display()),
            None => {
                assert!(!path.starts_with('$'), "{path}: the manifest uses a name that no script sets");
                path.to_owned()
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    Link,
    Directory,
    Config,
}

/// One line of the manifest.
#[derive(Debug, Clone)]
pub struct Entry {
    pub kind: Kind,
    /// None: the link's own, which is the same everywhere.
    pub mode: Option<u32>,
    /// User and group; `oxim` stands for the chosen ones.
    pub owner: (String, String),
    pub path: PathBuf,
    /// Where a link points.
    pub source: String,
}

/// The manifest under this layout.
pub fn entries(layout: &Layout) -> Vec<Entry> {
    let manifest = fs::read_to_string(repository().join("packaging/manifest")).expect("the manifest");
    let lines = manifest.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let entries: Vec<Entry> = lines.map(|line| entry(line, layout)).collect();
    assert!(entries.len() > 20, "the manifest could not be read");
    entries
}

fn entry(line: &str, layout: &Layout) -> Entry {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [kind, mode, owner, path, rest @ ..] = words.as_slice() else { panic!("{line:?} is too short") };
    let kind = match *kind {
        "file" => Kind::File,
        "link" => Kind::Link,
        "dir" => Kind::Directory,
        "config" => Kind::Config,
        other => panic!("{line:?}: {other} is no kind of entry"),
    };
    let (user, group) = owner.split_once(':').unwrap_or((owner, owner));
    Entry {
        kind,
        mode: u32::from_str_radix(mode, 8).ok(),
        owner: (user.to_owned(), group.to_owned()),
        path: layout.resolve(path).into(),
        source: rest.first().map(|source| layout.resolve(source)).unwrap_or_default(),
    }
}

pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// packaging/install or packaging/uninstall with the variables that the Makefile exports.
pub fn script(name: &str, layout: &Layout, destdir: Option<&Path>) -> Command {
    let mut command = Command::new("sh");
    command.arg(repository().join("packaging").join(name));
    if name == "install" {
        command.arg(env!("CARGO_BIN_EXE_oxim"));
    }
    command
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("PREFIX", &layout.prefix)
        .env("SYSCONFDIR", &layout.sysconfdir)
        .env("SPOOL_DIRECTORY", &layout.spool)
        .env("OXIM_USER", build_settings::USER)
        .env("OXIM_GROUP", build_settings::GROUP)
        .env("OXIM_KEEPER_USER", build_settings::KEEPER_USER)
        .env("OXIM_KEEPER_GROUP", build_settings::KEEPER_GROUP)
        .env("OXIM_CONFIGURE_FILE", format!("{}:/etc/exim.conf", layout.config_file.display()))
        .env("OXIM_TRUSTED_CONFIG_LIST", layout.sysconfdir.join("oxim/trusted_configs"))
        .env("OXIM_LOG_FILE_PATH", &layout.log_file_path)
        .env("DESTDIR", destdir.unwrap_or(Path::new("")));
    command
}

/// Runs it to its end, which has to be a success, and gives what it printed.
pub fn output_of(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    said
}

/// Whether a test that needs this may run; in CI (`OXIM_REQUIRE_ROOT` is set) it must.
pub fn have(what: &str, there: bool) -> bool {
    if !there {
        assert!(std::env::var_os("OXIM_REQUIRE_ROOT").is_none(), "{what} is missing, and CI skips nothing");
        eprintln!("skipped: {what} is missing");
    }
    there
}

pub fn have_tool(name: &str) -> bool {
    let look = format!("command -v {name}");
    have(name, Command::new("sh").args(["-c", &look]).output().is_ok_and(|found| found.status.success()))
}

/// True in the process that [`real::run_inside`] starts.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

const INSIDE: &str = "OXIM_INSTALL_INSIDE";

/// A command as another user, with that user's home and nothing else in its environment.
fn as_user(program: &str, name: &str) -> Command {
    let entry = nix::unistd::User::from_name(name).expect("the user data base").expect("a user");
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("HOME", &entry.dir)
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .current_dir("/")
        .uid(entry.uid.as_raw())
        .gid(entry.gid.as_raw());
    command
}
