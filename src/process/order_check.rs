//! An order held against the configuration: what no router or transport could have meant is refused, so that a
//! delivery worker that was broken into can act as no other user than one the configuration names.
//!
//! Fixed texts are compared literally; a text that is expanded cannot be foretold, so there only the uid's
//! own limits hold (never root, never `never_users`). `manual/privileges` says what remains.

use super::user_child::OrderCheck;
use crate::as_user::{Identity, Order, SystemUsers};
use crate::config::{Instance, Options, Written, build_settings};
use crate::expand::context::Users;
use bstr::{BStr, BString, ByteSlice};
use std::sync::Arc;

/// The master's own copy of the configuration.
pub struct ConfigurationCheck {
    written: Arc<Written>,
    users: Box<dyn Users>,
    /// The uid that oxim runs as: deliveries without a user are its.
    oxim_uid: u32,
}

impl ConfigurationCheck {
    /// Checks against this configuration.
    pub fn new(written: Arc<Written>, oxim_uid: u32) -> Self {
        Self { written, users: Box::new(SystemUsers), oxim_uid }
    }
    #[cfg(test)]
    fn with_users(written: Arc<Written>, users: Box<dyn Users>, oxim_uid: u32) -> Self {
        Self { written, users, oxim_uid }
    }

    fn check_never(&self, who: &Identity) -> Result<(), String> {
        let list = self.written.main.plain("never_users").unwrap_or_default();
        let fixed = BStr::new(build_settings::FIXED_NEVER_USERS);
        let items = fixed.split(|b| *b == b':').chain(list.split(|b| *b == b':'));
        for item in items.map(|item| item.trim()).filter(|item| !item.is_empty()) {
            if self.user_number(item)? == Some(who.uid) {
                return Err(format!(
                    "User {} set for {} transport is on the never_users list",
                    who.uid, who.transport
                ));
            }
        }
        if who.uid == 0 { Err("no order is carried out as root".into()) } else { Ok(()) }
    }

    /// A user name or number.
    fn user_number(&self, text: &[u8]) -> Result<Option<u32>, String> {
        if let Some(number) = text.to_str().ok().and_then(|text| text.parse().ok()) {
            return Ok(Some(number));
        }
        let found = self.users.by_name(text).map_err(|error| error.to_string())?;
        Ok(found.map(|user| user.uid))
    }

    fn check_uid(
        &self,
        who: &Identity,
        transport: Option<&Instance>,
        router: Option<&Instance>,
    ) -> Result<(), String> {
        let user = |instance: &Instance| instance.options.text("user").map(|text| text.text().to_owned());
        let set = transport.and_then(user).or_else(|| router.and_then(user)).filter(|text| !text.is_empty());
        let refusal = || Err(format!("the configuration lets no delivery run as uid {} here", who.uid));
        match set {
            Some(text) if is_fixed(&text) => match self.user_number(&text)? {
                Some(uid) if uid == who.uid => Ok(()),
                _ => refusal(),
            },
            Some(_) => Ok(()),
            None if router.is_some_and(|router| router.options.bool("check_local_user")) => {
                let known = self.users.by_uid(who.uid).map_err(|error| error.to_string())?;
                if known.is_some() { Ok(()) } else { refusal() }
            }
            None if who.uid == self.oxim_uid => Ok(()),
            None => refusal(),
        }
    }
}

impl OrderCheck for ConfigurationCheck {
    fn check(&self, who: &Identity, order: &Order) -> Result<(), String> {
        self.check_never(who)?;
        let router = named(&self.written.routers, &who.router)?;
        let transport = named(&self.written.transports, &who.transport)?;
        self.check_uid(who, transport, router)?;
        match (order, transport, router) {
            (Order::Append(append), Some(transport), _) if transport.driver.name == "appendfile" => {
                check_path(&transport.options, &["file", "directory"], append.path.as_bstr())
            }
            (Order::Run(run), Some(transport), _) if transport.driver.name == "pipe" => {
                let program = run.command.first().map(|word| word.as_bstr()).unwrap_or_default();
                check_command(&transport.options, program)
            }
            (Order::ReadFile(read), None, Some(router)) if router.driver.name == "redirect" => {
                check_path(&router.options, &["file"], read.path.as_bstr())
            }
            (Order::CheckFiles(_), None, Some(router)) if router.options.text("require_files").is_some() => {
                Ok(())
            }
            _ => Err("the configuration has no such order".into()),
        }
    }
}

fn named<'w>(instances: &'w [Instance], name: &BString) -> Result<Option<&'w Instance>, String> {
    if name.is_empty() {
        return Ok(None);
    }
    let found = instances.iter().find(|instance| instance.name == *name);
    found.map(Some).ok_or_else(|| format!("the configuration has no {name}"))
}

/// Nothing in it is expanded.
fn is_fixed(text: &[u8]) -> bool {
    !text.contains(&b'$') && !text.contains(&b'\\')
}

/// A path that the configuration fixes must be that path.
fn check_path(options: &Options, names: &[&str], path: &BStr) -> Result<(), String> {
    let fixed = names.iter().filter_map(|name| options.text(name)).find(|text| is_fixed(text.text()));
    match fixed {
        Some(text) if text.text().trim_end_with(|c| c == '/') != path.trim_end_with(|c| c == '/') => {
            Err(format!("the configuration fixes the path {}, not {path}", text.text()))
        }
        _ => Ok(()),
    }
}

/// A command whose first word the configuration fixes must be that program.
fn check_command(options: &Options, program: &BStr) -> Result<(), String> {
    let Some(text) = options.text("command") else { return Ok(()) };
    let first = text.text().fields().next().unwrap_or_default();
    let name = |path: &[u8]| BString::from(path.rsplit(|b| *b == b'/').next().unwrap_or(path));
    if is_fixed(first) && name(first) != name(program) {
        return Err(format!("the configuration fixes the command {}, not {program}", first.as_bstr()));
    }
    Ok(())
}
