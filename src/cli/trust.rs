//! Who may do what: the order of decisions of a start with foreign rights, who may own the configuration, and
//! who counts as trusted or admin user.
//!
//! Pure but for [`open_configuration`]: facts come in, decisions go out. Specification: sections "Trusted and
//! admin users", "Using a different configuration file", chapter "Security considerations".

use super::args::{Action, Invocation};
use crate::queue::Act;
use bstr::{BString, ByteSlice};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A configuration file larger than this is none.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// What is known of the caller and of this build before the configuration is read.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Real uid of the process.
    pub real_uid: u32,
    /// uid of the oxim user, if there is such a user.
    pub oxim_uid: Option<u32>,
    /// uid of `CONFIGURE_OWNER`, if one is set.
    pub configure_owner: Option<u32>,
    /// gid of `CONFIGURE_GROUP`, if one is set.
    pub configure_group: Option<u32>,
    /// The search path of the build.
    pub default_path: BString,
    /// `TRUSTED_CONFIG_LIST`'s lines; none if there is no such file, or not root alone may write it.
    pub trusted_files: Option<BString>,
    /// `WHITELIST_D_MACROS`.
    pub macro_names: BString,
    /// `WHITELIST_D_VALUES`.
    pub macro_values: String,
}

impl Facts {
    /// Whether root, the mailer's user or the owner of the configuration calls.
    pub fn is_ours(&self) -> bool {
        self.real_uid == 0
            || Some(self.real_uid) == self.oxim_uid
            || Some(self.real_uid) == self.configure_owner
    }
}

/// What follows for the rights of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Root's rights (if there are any) are kept for reading the configuration and for what needs them.
    pub keep_rights: bool,
    /// `-D` is why they are not: Exim says so on standard error.
    pub macros_rejected: bool,
    /// `-C` is why.
    pub file_rejected: bool,
    /// Owner and mode of the configuration file are checked.
    pub check_file: bool,
}

/// Decides from the command line alone, before anything is opened.
pub fn decide(facts: &Facts, invocation: &Invocation) -> Decision {
    let other_file = invocation.config.as_ref().is_some_and(|list| *list != facts.default_path);
    let is_root = facts.real_uid == 0;
    let is_ours = facts.is_ours();
    let file_is_good = match &invocation.config {
        Some(list) if other_file && !is_root => is_ours && is_listed(facts, list),
        _ => true,
    };
    let macros_are_good =
        invocation.macros.is_empty() || is_root || (is_ours && macros_are_listed(facts, &invocation.macros));
    let keep_rights = file_is_good && macros_are_good && !drops_always(invocation);
    Decision {
        keep_rights,
        macros_rejected: !macros_are_good,
        file_rejected: !file_is_good,
        check_file: !other_file || (keep_rights && !is_root),
    }
}

/// `-be` runs with the caller's rights, so that it opens no file the caller could not.
fn drops_always(invocation: &Invocation) -> bool {
    matches!(invocation.action, Action::Expand)
}

/// Every file of the list stands in `TRUSTED_CONFIG_LIST`.
fn is_listed(facts: &Facts, list: &BString) -> bool {
    let Some(lines) = &facts.trusted_files else { return false };
    let mut files =
        list.split(|b| *b == b':').map(|file| file.trim()).filter(|file| !file.is_empty()).peekable();
    let listed = |file: &[u8]| {
        lines.lines().map(|line| line.trim()).filter(|line| line.starts_with(b"/")).any(|line| line == file)
    };
    files.peek().is_some() && files.all(listed)
}

fn macros_are_listed(facts: &Facts, macros: &[(BString, BString)]) -> bool {
    let Ok(pattern) = pcre2::bytes::Regex::new(&facts.macro_values) else { return false };
    let names: Vec<&[u8]> = facts.macro_names.split(|b| *b == b':').map(|name| name.trim()).collect();
    macros.iter().all(|(name, value)| {
        names.contains(&name.as_slice()) && (value.is_empty() || pattern.is_match(value).unwrap_or(false))
    })
}

/// A configuration file that cannot be used; the text is Exim's.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// None of the list is there.
    #[error("non-existent configuration file(s): {0}")]
    Missing(BString),
    /// It is there and cannot be opened.
    #[error("failed to open configuration file {path}: {reason} (euid={euid} egid={egid})")]
    Unreadable {
        /// The file.
        path: String,
        /// The system's words.
        reason: String,
        /// Effective ids at that time.
        euid: u32,
        /// See above.
        egid: u32,
    },
    /// Somebody who is not to could change it.
    #[error("Exim configuration file {0} has the wrong owner, group, or mode")]
    Unsafe(String),
    /// It cannot be read.
    #[error("failed to read configuration file {0}: {1}")]
    Read(String, io::Error),
}

/// Opens the first file of the list that exists and reads it; the checks are made on the open file.
pub fn open_configuration(
    list: &BString,
    facts: &Facts,
    check_file: bool,
    named_by_option: bool,
) -> Result<(PathBuf, Vec<u8>), FileError> {
    for name in list.split(|b| *b == b':').map(|name| name.trim()).filter(|name| !name.is_empty()) {
        let path = name.to_path_lossy().into_owned();
        if !path.is_absolute() && !named_by_option {
            continue;
        }
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if is_absent(&error) => continue,
            Err(error) => return Err(unreadable(&path, &error)),
        };
        let text = path.display().to_string();
        let about = file.metadata().map_err(|error| FileError::Read(text.clone(), error))?;
        if !about.is_file() || (check_file && !is_safe(about.uid(), about.gid(), about.mode(), facts)) {
            return Err(FileError::Unsafe(text));
        }
        let mut content = Vec::new();
        file.take(MAX_FILE).read_to_end(&mut content).map_err(|error| FileError::Read(text, error))?;
        return Ok((path, content));
    }
    Err(FileError::Missing(list.clone()))
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn unreadable(path: &Path, error: &io::Error) -> FileError {
    let reason = crate::sys::system_words(error);
    let (euid, egid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    FileError::Unreadable { path: path.display().to_string(), reason, euid, egid }
}

/// Owner root or `CONFIGURE_OWNER`; writable by the group only if it is root's or `CONFIGURE_GROUP`; never by all.
fn is_safe(uid: u32, gid: u32, mode: u32, facts: &Facts) -> bool {
    const GROUP_WRITES: u32 = 0o020;
    const OTHERS_WRITE: u32 = 0o002;
    let owner = uid == 0 || Some(uid) == facts.configure_owner;
    let group = mode & GROUP_WRITES == 0 || gid == 0 || Some(gid) == facts.configure_group;
    owner && group && mode & OTHERS_WRITE == 0
}

/// The caller, once the configuration is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Real uid.
    pub uid: u32,
    /// Real gid.
    pub gid: u32,
    /// May set sender and origin of a message.
    pub trusted: bool,
    /// May see and change the queue, run daemons, debug.
    pub admin: bool,
    /// The oxim user.
    pub oxim_uid: u32,
}

/// What of the configuration makes users trusted or admin, as numbers.
#[derive(Clone, Debug, Default)]
pub struct TrustLists {
    /// The oxim user.
    pub oxim_uid: u32,
    /// The oxim group.
    pub oxim_gid: u32,
    /// `trusted_users`
    pub trusted_users: Vec<u32>,
    /// `trusted_groups`
    pub trusted_groups: Vec<u32>,
    /// `admin_groups`
    pub admin_groups: Vec<u32>,
}

/// Section "Trusted and admin users". Without root's rights in this process a trusted group or user is the
/// same: the real ids decide.
pub fn standing(uid: u32, gid: u32, groups: &[u32], lists: &TrustLists) -> Standing {
    let is_ours = uid == 0 || uid == lists.oxim_uid;
    let in_any = |wanted: &[u32]| wanted.contains(&gid) || groups.iter().any(|group| wanted.contains(group));
    Standing {
        uid,
        gid,
        trusted: is_ours || lists.trusted_users.contains(&uid) || in_any(&lists.trusted_groups),
        admin: is_ours || in_any(&[lists.oxim_gid]) || in_any(&lists.admin_groups),
        oxim_uid: lists.oxim_uid,
    }
}

/// What the options of the configuration relax.
#[derive(Clone, Copy, Debug)]
pub struct Relaxed {
    /// `prod_requires_admin` is true.
    pub prod_requires_admin: bool,
    /// `queue_list_requires_admin` is true.
    pub list_requires_admin: bool,
    /// `commandline_checks_require_admin` is true.
    pub checks_require_admin: bool,
}

/// Refuses what this caller may not ask for, in Exim's words; `dropped` tells that root's rights were given up.
pub fn check_action(invocation: &Invocation, who: &Standing, relaxed: Relaxed) -> Result<(), String> {
    const DENIED: &str = "exim: permission denied";
    if invocation.debug.is_some() && !who.admin {
        return Err("exim: debugging permission denied".into());
    }
    if invocation.syslog_tag.is_some() && !who.admin {
        return Err("exim: you lack sufficient privilege to specify syslog process name".into());
    }
    if invocation.message.suppress_fixups && !who.trusted {
        return Err("exim: permission denied (-G requires a trusted user)".into());
    }
    if invocation.daemon.pid_file.is_some() {
        check_pid_file(who)?;
    }
    let may = match &invocation.action {
        // Without -bd it is a queue run that is repeated.
        Action::Daemon => who.admin || (!invocation.daemon.listen && !relaxed.prod_requires_admin),
        Action::QueueRun(_) => who.admin || !relaxed.prod_requires_admin,
        Action::ListQueue(_) => who.admin || !relaxed.list_requires_admin,
        Action::Expand | Action::TestAddresses | Action::VerifyAddresses { .. } | Action::TestRetry
            if relaxed.checks_require_admin && !who.admin =>
        {
            return Err("exim: those command-line flags are set to require admin".into());
        }
        Action::LogLine(_) | Action::Certificates { .. } => who.admin,
        Action::Messages(command) => return check_messages(command.what, who, relaxed),
        _ => true,
    };
    if !may {
        return Err(DENIED.into());
    }
    if invocation.loaded_message.is_some() && !who.admin {
        return Err(DENIED.into());
    }
    if invocation.message.reference.is_some() && !who.trusted {
        return Err("-oMm must be called by a trusted user/config".into());
    }
    let runs_queue = matches!(invocation.action, Action::Daemon | Action::QueueRun(_));
    if invocation.dry_run && runs_queue && who.uid != 0 && !who.admin {
        return Err(DENIED.into());
    }
    Ok(())
}

/// `-oP` and `-oPX` are for root and oxim alone: a file is written and removed with their rights.
pub fn check_pid_file(who: &Standing) -> Result<(), String> {
    if who.uid == 0 || who.uid == who.oxim_uid {
        return Ok(());
    }
    let (uid, oxim, euid) = (who.uid, who.oxim_uid, nix::unistd::geteuid());
    Err(format!("exim: only uid=0 or uid={oxim} can use -oP and -oPX (uid={uid} euid={euid} | {uid})"))
}

/// `-M` and `-Mc` as queue runs. All else but `-Mg` is decided on the open message by the queue, since `-Mrm` is also for
/// the one who sent it.
fn check_messages(what: Act, who: &Standing, relaxed: Relaxed) -> Result<(), String> {
    match what {
        Act::Deliver | Act::DeliverIfDue if who.admin || !relaxed.prod_requires_admin => Ok(()),
        Act::Deliver | Act::DeliverIfDue => Err("exim: Permission denied".into()),
        Act::GiveUp if !who.admin => Err("exim: permission denied".into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::args::parse;
    use super::*;

    fn facts(uid: u32) -> Facts {
        Facts {
            real_uid: uid,
            oxim_uid: Some(100),
            configure_owner: Some(50),
            default_path: "/etc/oxim/oxim.conf:/etc/exim4/exim4.conf".into(),
            trusted_files: Some("# comment\n/etc/oxim/test.conf\n".into()),
            macro_names: "OUTGOING:PORT".into(),
            macro_values: "^[A-Za-z0-9_/.-]*$".into(),
            ..Facts::default()
        }
    }

    fn keeps(uid: u32, line: &str) -> bool {
        let arguments: Vec<BString> = line.split(' ').map(BString::from).collect();
        decide(&facts(uid), &parse(b"oxim", &arguments).unwrap()).keep_rights
    }

    #[test]
    fn another_configuration_costs_the_rights_unless_root_or_listed() {
        const USER: u32 = 1000;
        assert!(keeps(USER, "x@y"));
        assert!(keeps(0, "-C /any.conf x@y"));
        assert!(!keeps(USER, "-C /any.conf x@y"));
        assert!(!keeps(USER, "-C /etc/oxim/test.conf x@y"));
        assert!(keeps(100, "-C /etc/oxim/test.conf x@y"));
        assert!(keeps(50, "-C /etc/oxim/test.conf x@y"));
        assert!(!keeps(100, "-C /etc/oxim/test.conf:/any.conf x@y"));
        assert!(keeps(USER, "-C /etc/oxim/oxim.conf:/etc/exim4/exim4.conf x@y"));
        assert!(!keeps(0, "-be x"));
    }

    #[test]
    fn macros_cost_the_rights_unless_white_listed_for_the_oxim_user() {
        assert!(keeps(0, "-DANY=x@y x"));
        assert!(!keeps(1000, "-DOUTGOING=x x"));
        assert!(keeps(100, "-DOUTGOING=x/y.z -DPORT= x"));
        assert!(!keeps(100, "-DOUTGOING=${run x"));
        assert!(!keeps(100, "-DOTHER=x x"));
    }

    #[test]
    fn a_configuration_that_others_may_write_is_refused() {
        let facts = facts(1000);
        assert!(is_safe(0, 0, 0o100_644, &facts));
        assert!(is_safe(50, 7, 0o100_600, &facts));
        assert!(is_safe(0, 0, 0o100_664, &facts));
        assert!(!is_safe(0, 7, 0o100_664, &facts));
        assert!(!is_safe(0, 0, 0o100_646, &facts));
        assert!(!is_safe(1000, 0, 0o100_644, &facts));
    }

    #[test]
    fn a_file_list_takes_the_first_that_exists() {
        let directory = tempfile::tempdir().unwrap();
        let there = directory.path().join("b.conf");
        std::fs::write(&there, "qualify_domain = x\n").unwrap();
        let list = BString::from(format!("{}/a.conf:{}", directory.path().display(), there.display()));
        let (path, content) = open_configuration(&list, &facts(0), false, true).unwrap();
        assert_eq!((path, content), (there, b"qualify_domain = x\n".to_vec()));
        let gone = BString::from("/nonexistent");
        let error = open_configuration(&gone, &facts(0), false, true).unwrap_err();
        assert_eq!(error.to_string(), "non-existent configuration file(s): /nonexistent");
    }

    #[test]
    fn ordinary_users_are_refused_in_exims_words() {
        let lists =
            TrustLists { oxim_uid: 100, oxim_gid: 101, admin_groups: vec![20], ..TrustLists::default() };
        let relaxed =
            Relaxed { prod_requires_admin: true, list_requires_admin: true, checks_require_admin: false };
        let user = standing(1000, 1000, &[1000], &lists);
        let admin = standing(1000, 1000, &[20], &lists);
        assert!(!user.admin && !user.trusted && admin.admin && !admin.trusted);
        let asked = |line: &str, who: &Standing| {
            let arguments: Vec<BString> = line.split(' ').map(BString::from).collect();
            check_action(&parse(b"oxim", &arguments).unwrap(), who, relaxed)
        };
        let certificates = "--certificates --json";
        for line in ["-bd", "-q", "-q30m", "-bp", "-bpc", "-R x", "-be -Mset 1aaaaa-000000-00", certificates]
        {
            assert_eq!(asked(line, &user), Err("exim: permission denied".into()), "{line}");
            assert_eq!(asked(line, &admin), Ok(()), "{line}");
        }
        assert_eq!(asked("-M 1aaaaa-000000-00", &user), Err("exim: Permission denied".into()));
        assert_eq!(asked("-Mg 1aaaaa-000000-00", &user), Err("exim: permission denied".into()));
        assert_eq!(asked("-Mvl 1aaaaa-000000-00", &user), Ok(()), "the queue decides");
        assert_eq!(asked("-z x", &user), Err("exim: permission denied".into()));
        assert_eq!(
            asked("-G a@b", &user),
            Err("exim: permission denied (-G requires a trusted user)".into())
        );
        assert!(asked("-bd -oP /x", &admin).unwrap_err().starts_with("exim: only uid=0 or uid=100 can use"));
        assert_eq!(asked("-d -bV", &user), Err("exim: debugging permission denied".into()));
        assert_eq!(asked("-bt x@y", &user), Ok(()));
        assert_eq!(asked("-Mrm 1aaaaa-000000-00", &user), Ok(()));
    }
}
