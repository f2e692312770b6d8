//! The start of the program, in the one order that keeps a set-uid start safe: descriptors, environment, arguments,
//! trust, configuration; only then anything else (DESIGN.md section 2).

use super::args::{Action, Invocation};
use super::trust::{self, Decision, Facts, Relaxed, Standing, TrustLists};
use super::{Program, environment, settings};
use crate::as_user::SystemUsers;
use crate::config::{Options, build_settings};
use crate::expand::context::{Globals, Users};
use crate::log::Which;
use crate::process::reading::{self, Reading};
use crate::process::{services, spool_directory};
use crate::sys::identity::{self, LaidDown, Rights};
use crate::sys::{inherited, secure};
use anyhow::{anyhow, bail};
use bstr::{BString, ByteSlice};
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

/// Facts about this build and caller; no configuration is read for it.
pub fn gather_facts() -> Facts {
    let number = |name: &str, look: &dyn Fn(&[u8]) -> Option<u32>| -> Option<u32> {
        if name.is_empty() { None } else { name.parse().ok().or_else(|| look(name.as_bytes())) }
    };
    let user = |name: &[u8]| SystemUsers.by_name(name).ok().flatten().map(|entry| entry.uid);
    let group = |name: &[u8]| SystemUsers.group(name).ok().flatten();
    Facts {
        real_uid: nix::unistd::getuid().as_raw(),
        oxim_uid: number(build_settings::USER, &user),
        configure_owner: number(build_settings::CONFIGURE_OWNER, &user),
        configure_group: number(build_settings::CONFIGURE_GROUP, &group),
        default_path: build_settings::CONFIGURE_FILE.into(),
        trusted_files: trusted_files(),
        macro_names: build_settings::WHITELIST_D_MACROS.into(),
        macro_values: build_settings::WHITELIST_D_VALUES.into(),
    }
}

/// `TRUSTED_CONFIG_LIST`, if root alone may write it.
fn trusted_files() -> Option<BString> {
    const OTHERS_WRITE: u32 = 0o022;
    if build_settings::TRUSTED_CONFIG_LIST.is_empty() {
        return None;
    }
    let file = std::fs::File::open(build_settings::TRUSTED_CONFIG_LIST).ok()?;
    let about = file.metadata().ok()?;
    if about.uid() != 0 || about.mode() & OTHERS_WRITE != 0 {
        return None;
    }
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(file, 1 << 20), &mut text).ok()?;
    Some(text.into())
}

/// Gives up root's rights for good where the decision says so.
pub fn apply_decision(decision: &Decision) -> anyhow::Result<()> {
    if !decision.keep_rights && !identity::is_plain() {
        log::debug!(target: "uid", "giving up root's rights for good");
        identity::become_user(&Rights::of_caller()?)?;
    }
    if identity::is_root() && secure::started_with_foreign_rights() {
        inherited::forget_limits()?;
    }
    Ok(())
}

/// Opens, checks and reads the configuration. The error is ready to be shown.
pub fn read_configuration(
    facts: &Facts,
    decision: &Decision,
    invocation: &Invocation,
) -> anyhow::Result<Reading> {
    let list = invocation.config.as_ref().unwrap_or(&facts.default_path);
    let named = invocation.config.is_some();
    let (path, content) = trust::open_configuration(list, facts, decision.check_file, named)
        .map_err(|error| anyhow!("LOG: MAIN PANIC DIE\n  {error}"))?;
    let mut reading = reading::read(&path, &content, &invocation.macros).map_err(|errors| {
        let texts: Vec<String> = errors.iter().map(reading::error_text).collect();
        anyhow!(texts.join("\n"))
    })?;
    reading.snapshot.settings = settings::of(invocation);
    Ok(reading)
}

/// From arguments to a program that knows its configuration and caller.
pub fn start(
    invocation: Invocation,
    found: Vec<(OsString, OsString)>,
    drop_group: Option<LaidDown>,
) -> anyhow::Result<Program> {
    let facts = gather_facts();
    let decision = trust::decide(&facts, &invocation);
    if decision.macros_rejected && says_so(&invocation) && !facts.is_ours() {
        eprintln!("macros_trusted rejecting macros for uid {}", facts.real_uid);
    }
    apply_decision(&decision)?;
    let reading = read_configuration(&facts, &decision, &invocation)?;
    let main = &reading.written.main;
    let keep = main.plain("keep_environment");
    let add = main.plain("add_environment").unwrap_or_default();
    let kept = environment::cleaned(&found, keep.as_deref().map_or(&[][..], |list| list.as_slice()), &add);
    let http_proxy =
        found.iter().find(|(name, _)| name == "http_proxy" && !secure::started_with_foreign_rights());
    let http_proxy = http_proxy.map(|(_, value)| value.clone());
    let purged = main.written("keep_environment").is_none() && !found.is_empty();
    crate::sys::environment::replace(&kept);
    let globals = services::globals(&reading).map_err(|text| anyhow!(text))?;
    let standing = standing(main, &globals)?;
    trust::check_action(&invocation, &standing, relaxed(main)).map_err(|text| anyhow!(text))?;
    let lost = lost_privilege(&facts, &decision, &invocation);
    let program = Program {
        invocation,
        facts,
        decision,
        reading,
        globals: Arc::new(globals),
        standing,
        drop_group,
        environment: kept,
        http_proxy,
    };
    if let Some(option) = lost {
        let line = format!("exim user lost privilege for using {option} option");
        eprintln!("LOG: MAIN PANIC\n  {line}");
        program.log_unprivileged(Which::Main, line.as_str().into());
        program.log_unprivileged(Which::Panic, line.as_str().into());
    }
    if purged && program.handles_mail() {
        let warning = b"Warning: purging the environment.\n Suggested action: use keep_environment.";
        program.log_unprivileged(Which::Main, warning.as_bstr());
    }
    if program.handles_mail() && !program.reading.unsupported.is_empty() {
        let texts: Vec<String> = program.reading.unsupported.iter().map(reading::error_text).collect();
        bail!(texts.join("\n"));
    }
    Ok(program)
}

/// The option that cost the mailer's own user the rights of root: that is worth a line in the logs.
fn lost_privilege(facts: &Facts, decision: &Decision, invocation: &Invocation) -> Option<&'static str> {
    let is_ours = facts.is_ours() && facts.real_uid != 0;
    let macros = decision.macros_rejected && says_so(invocation);
    let file = decision.file_rejected && invocation.action != Action::Expand;
    match (file, macros) {
        (true, _) if is_ours => Some("-C"),
        (false, true) if is_ours => Some("-D"),
        _ => None,
    }
}

/// Where macros cost nothing that is not given up anyway, Exim does not mention them.
fn says_so(invocation: &Invocation) -> bool {
    invocation.config.is_none() && invocation.action != Action::Expand
}

/// Whether the caller of this process is trusted, and an admin.
fn standing(main: &Options, globals: &Globals) -> anyhow::Result<Standing> {
    let caller = Rights::of_caller()?;
    let lists = trust_lists(main, globals)?;
    Ok(trust::standing(caller.uid, caller.gid, &caller.groups, &lists))
}

/// The same of a caller over the submission socket; its supplementary groups are those of the group data base.
pub fn standing_of(uid: u32, gid: u32, globals: &Globals) -> anyhow::Result<Standing> {
    let login = globals.users.by_uid(uid)?;
    let groups = match login {
        Some(entry) => Rights::with_groups_of(uid, gid, &entry.name)?.groups,
        None => Vec::new(),
    };
    let lists = trust_lists(&globals.main, globals)?;
    Ok(trust::standing(uid, gid, &groups, &lists))
}

fn trust_lists(main: &Options, globals: &Globals) -> anyhow::Result<TrustLists> {
    let users = &globals.users;
    let numbers = |name: &str, look: &dyn Fn(&[u8]) -> std::io::Result<Option<u32>>| {
        let list = main.plain(name).unwrap_or_default();
        crate::text::list::items(&list)
            .map(|item| match item.to_str().ok().and_then(|text| text.parse().ok()) {
                Some(number) => Ok(Some(number)),
                None => look(&item),
            })
            .filter_map(Result::transpose)
            .collect::<std::io::Result<Vec<u32>>>()
    };
    let user = |name: &[u8]| users.by_name(name).map(|entry| entry.map(|entry| entry.uid));
    let group = |name: &[u8]| users.group(name);
    let (oxim_uid, oxim_gid) = owners(main, globals);
    Ok(TrustLists {
        oxim_uid,
        oxim_gid,
        trusted_users: numbers("trusted_users", &user)?,
        trusted_groups: numbers("trusted_groups", &group)?,
        admin_groups: numbers("admin_groups", &group)?,
    })
}

/// Whose uid and gid count as oxim's. Without root's rights everything runs as whoever started it; that makes
/// nobody an administrator of a spool that is not theirs.
fn owners(main: &Options, globals: &Globals) -> (u32, u32) {
    if spool_directory::is_ours(globals) {
        return (globals.oxim_uid, globals.oxim_gid);
    }
    let number = |name: &str, look: &dyn Fn(&[u8]) -> Option<u32>| {
        let text = main.plain(name).unwrap_or_default();
        let number = text.to_str().ok().and_then(|text| text.parse().ok());
        number.or_else(|| look(&text)).unwrap_or(u32::MAX)
    };
    let user = |name: &[u8]| globals.users.by_name(name).ok().flatten().map(|entry| entry.uid);
    let group = |name: &[u8]| globals.users.group(name).ok().flatten();
    (number("exim_user", &user), number("exim_group", &group))
}

/// What the options relax.
pub fn relaxed(main: &Options) -> Relaxed {
    Relaxed {
        prod_requires_admin: main.bool("prod_requires_admin"),
        list_requires_admin: main.bool("queue_list_requires_admin"),
        checks_require_admin: main.bool("commandline_checks_require_admin"),
    }
}

impl Program {
    /// True for everything but questions about the configuration and the string language.
    fn handles_mail(&self) -> bool {
        !matches!(
            self.invocation.action,
            Action::Version | Action::Print | Action::Expand | Action::About | Action::InfoHelp
        )
    }
}
