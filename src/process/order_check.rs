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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::as_user::{Append, CheckFiles, ReadFile};
    use crate::expand::context::UserEntry;
    use std::path::Path;

    /// joe is 1000, www is 33.
    struct Fake;
    impl Users for Fake {
        fn by_name(&self, name: &[u8]) -> std::io::Result<Option<UserEntry>> {
            let uid = match name {
                b"root" => 0,
                b"www-data" => 33,
                b"joe" => 1000,
                _ => return Ok(None),
            };
            self.by_uid(uid)
        }
        fn by_uid(&self, uid: u32) -> std::io::Result<Option<UserEntry>> {
            let entry = UserEntry {
                name: "x".into(),
                uid,
                gid: uid,
                gecos: "".into(),
                home: "/".into(),
                shell: "/bin/sh".into(),
            };
            Ok([0, 33, 1000].contains(&uid).then_some(entry))
        }
        fn group(&self, _: &[u8]) -> std::io::Result<Option<u32>> {
            Ok(None)
        }
    }

    const TEXT: &str = "never_users = www-data\n\
        begin routers\n\
        local:\n driver = accept\n check_local_user\n transport = mailbox\n\
        forward:\n driver = redirect\n check_local_user\n file = $home/.forward\n\
        begin transports\n\
        mailbox:\n driver = appendfile\n file = /var/mail/$local_part_data\n\
        archive:\n driver = appendfile\n file = /srv/archive\n user = 77\n\
        remote:\n driver = smtp\n";

    fn check(uid: u32, router: &str, transport: &str, order: Order) -> Result<(), String> {
        let mut opener = |_: &Path| Ok(None);
        let overrides = crate::config::MacroOverrides(Vec::new());
        let (written, errors) = crate::load::read(Path::new("c"), TEXT.as_bytes(), &overrides, &mut opener);
        assert!(errors.is_empty(), "{errors:?}");
        let check = ConfigurationCheck::with_users(Arc::new(written.unwrap()), Box::new(Fake), 100);
        let who = Identity { uid, router: router.into(), transport: transport.into(), ..Identity::default() };
        check.check(&who, &order)
    }

    fn append(path: &str) -> Order {
        Order::Append(Append { path: path.into(), ..Append::default() })
    }

    #[test]
    fn what_the_configuration_could_mean_is_allowed() {
        assert_eq!(check(1000, "local", "mailbox", append("/var/mail/joe")), Ok(()));
        assert_eq!(check(77, "local", "archive", append("/srv/archive")), Ok(()));
        let read = Order::ReadFile(ReadFile { path: "/home/joe/.forward".into(), limit: 1 });
        assert_eq!(check(1000, "forward", "", read), Ok(()));
    }

    #[test]
    fn nobody_but_whom_the_configuration_names_is_ever_acted_as() {
        for (uid, router, transport, path) in [
            (0, "local", "mailbox", "/var/mail/root"),
            (33, "local", "mailbox", "/var/mail/www-data"),
            (4711, "local", "mailbox", "/var/mail/nobody"),
            (1000, "local", "archive", "/srv/archive"),
            (77, "local", "archive", "/etc/cron.d/x"),
            (100, "local", "remote", "/x"),
            (1000, "local", "absent", "/x"),
            (1000, "", "mailbox", "/var/mail/joe"),
        ] {
            assert!(check(uid, router, transport, append(path)).is_err(), "{uid} {transport} {path}");
        }
        let files = Order::CheckFiles(CheckFiles { paths: vec!["/etc/shadow".into()] });
        assert!(check(1000, "local", "", files).is_err());
    }
}
