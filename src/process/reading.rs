//! One reading of the configuration: the written form, the snapshot of all its files for the roles, and who
//! oxim runs as.

use super::snapshot::{Snapshot, read_file};
use crate::config::{ConfigError, MacroOverrides, Options, Written};
use crate::expand::context::Users;
use crate::load::{self, RunAs};
use crate::sys::identity;
use bstr::{BString, ByteSlice};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// A configuration that was read.
pub struct Reading {
    /// As it was written.
    pub written: Arc<Written>,
    /// Every file of it.
    pub snapshot: Snapshot,
    /// What it uses that is known but not supported yet: `-bP` and `-be` work nevertheless.
    pub unsupported: Vec<ConfigError>,
}

/// Reads a configuration whose main file is open and checked. Included files are read from the disk.
pub fn read(path: &Path, content: &[u8], macros: &[(BString, BString)]) -> Result<Reading, Vec<ConfigError>> {
    let mut snapshot = Snapshot {
        config_file: path.as_os_str().as_bytes().into(),
        macros: macros.to_vec(),
        ..Snapshot::default()
    };
    snapshot.keep(path, Some(content));
    let mut kept = snapshot.clone();
    let mut opener = |included: &Path| {
        let content = read_file(included)?;
        kept.keep(included, content.as_deref());
        Ok(content)
    };
    let overrides = MacroOverrides(macros.to_vec());
    let (written, errors) = load::read(path, content, &overrides, &mut opener);
    finish(written, errors, kept)
}

/// Reads the same configuration again in a role: nothing comes from the disk.
pub fn read_snapshot(snapshot: Snapshot) -> Result<Reading, Vec<ConfigError>> {
    let path = snapshot.config_file.to_path_lossy().into_owned();
    let content = snapshot.file(&path).ok().flatten().unwrap_or_default();
    let overrides = MacroOverrides(snapshot.macros.clone());
    let mut opener = |included: &Path| snapshot.file(included);
    let (written, errors) = load::read(&path, &content, &overrides, &mut opener);
    finish(written, errors, snapshot)
}

fn finish(
    written: Option<Written>,
    errors: Vec<ConfigError>,
    snapshot: Snapshot,
) -> Result<Reading, Vec<ConfigError>> {
    match written {
        Some(written) => Ok(Reading { written: Arc::new(written), snapshot, unsupported: errors }),
        None => Err(errors),
    }
}

/// Who oxim runs as: `exim_user` and `exim_group`, or (without root's rights) whoever started it.
pub fn run_as(main: &Options, users: &dyn Users) -> Result<RunAs, String> {
    if !identity::is_root() {
        let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        return Ok(RunAs { uid, gid });
    }
    let user = main.plain("exim_user").unwrap_or_default();
    let group = main.plain("exim_group").unwrap_or_default();
    let number = |text: &BString| text.to_str().ok().and_then(|text| text.parse::<u32>().ok());
    let (uid, own_group) = match number(&user) {
        Some(uid) => (uid, None),
        None => match users.by_name(&user) {
            Ok(Some(entry)) => (entry.uid, Some(entry.gid)),
            Ok(None) => return Err(format!("user {user} was not found")),
            Err(error) => return Err(format!("user {user} cannot be looked up: {error}")),
        },
    };
    let gid = match (number(&group), own_group) {
        (Some(gid), _) => gid,
        (None, own) if group.is_empty() => own.ok_or("exim_group is not set")?,
        (None, own) => match (users.group(&group), own) {
            (Ok(Some(gid)), _) => gid,
            // The default group of the build, where the user was changed and has a group of its own.
            (Ok(None), Some(gid)) if group == crate::config::build_settings::GROUP => gid,
            (Ok(None), _) => return Err(format!("group {group} was not found")),
            (Err(error), _) => return Err(format!("group {group} cannot be looked up: {error}")),
        },
    };
    Ok(RunAs { uid, gid })
}

/// A configuration error as Exim tells it.
pub fn error_text(error: &ConfigError) -> String {
    let line = match &error.line {
        Some(line) => format!("\n    \"{line}\""),
        None => String::new(),
    };
    match error.at.line {
        0 => format!("Exim configuration error:\n  {}{line}", error.message),
        number => format!(
            "Exim configuration error in line {number} of {}:\n  {}{line}",
            error.at.file.display(),
            error.message
        ),
    }
}
