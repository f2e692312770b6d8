//! Users and groups that the configuration names: each must be a number or be known to the system.
//!
//! Specification: section "User and group names". What is expanded is looked up when it is used.

use crate::config::option::Setting;
use crate::config::{ConfigError, Kind, Options, SettingValue, Written};
use bstr::{BStr, ByteSlice};
use nix::unistd::{Group, User};

/// Everything wrong with the users and groups of this configuration.
pub fn check(written: &Written) -> Vec<ConfigError> {
    let drivers = [&written.routers, &written.transports, &written.authenticators];
    let private = drivers.into_iter().flatten().map(|instance| &instance.options);
    let mut errors: Vec<ConfigError> =
        std::iter::once(&written.main).chain(private).flat_map(check_options).collect();
    errors.sort_by_key(|error| error.at.line);
    errors
}

fn check_options(options: &Options) -> Vec<ConfigError> {
    let settings = options.settings().filter_map(|(name, setting)| Some((options.def(name)?.kind, setting)));
    settings.flat_map(|(kind, setting)| check_setting(kind, setting)).collect()
}

/// Says what is wrong with one name.
type Check = fn(&BStr) -> Option<String>;

fn check_setting(kind: Kind, setting: &Setting) -> Vec<ConfigError> {
    let SettingValue::Text(text) = &setting.value else { return Vec::new() };
    let text = text.text();
    if text.contains(&b'$') {
        return Vec::new();
    }
    let (check, names): (Check, Vec<&[u8]>) = match kind {
        Kind::User => (check_user, vec![text]),
        Kind::Group => (check_group, vec![text]),
        Kind::UserList => (check_user, items(text)),
        Kind::GroupList => (check_group, items(text)),
        _ => return Vec::new(),
    };
    let messages = names.into_iter().filter_map(|name| check(name.as_bstr()));
    let error = |message| ConfigError { at: setting.at.clone(), message, line: None, unsupported: false };
    messages.map(error).collect()
}

/// The items of a list, which may change its separator.
fn items(text: &BStr) -> Vec<&[u8]> {
    let (separator, list) = match text.as_bytes() {
        [b'<', separator, rest @ ..] if separator.is_ascii_punctuation() => (*separator, rest),
        list => (b':', list),
    };
    list.split(|byte| *byte == separator).map(|item| item.trim()).filter(|item| !item.is_empty()).collect()
}

fn check_user(name: &BStr) -> Option<String> {
    let known = || User::from_name(name.to_str().ok()?).ok()?;
    (!is_number(name) && known().is_none()).then(|| format!("user {name} was not found"))
}

fn check_group(name: &BStr) -> Option<String> {
    let known = || Group::from_name(name.to_str().ok()?).ok()?;
    (!is_number(name) && known().is_none()).then(|| format!("group {name} was not found"))
}

fn is_number(name: &BStr) -> bool {
    !name.is_empty() && name.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, MacroOverrides};
    use std::path::Path;

    #[test]
    fn users_and_groups_that_nobody_knows_are_named_with_their_line() {
        let text =
            b"trusted_users = root : no.such.user\ntrusted_groups = 54321\nexim_user = $local_part\nnever_users =\n";
        let mut opener = |_: &Path| Ok(None);
        let tables = crate::load::tables::tables();
        let (written, _) =
            config::read(Path::new("c"), text, &MacroOverrides::default(), &tables, &mut opener);
        let errors: Vec<String> = check(&written.unwrap()).iter().map(|error| error.to_string()).collect();
        assert_eq!(errors, ["c:1: user no.such.user was not found"]);
    }
}
