//! An order held against the configuration: what no router or transport could have meant is refused, so that a
//! delivery worker that was broken into can act as no other user than one the configuration names.
//!
//! Fixed texts are compared literally, and of a path that is expanded what is written around its variables
//! ([`order_shape`]). A user that is expanded cannot be foretold: there the user may be anyone but
//! root, `never_users` and oxim itself, and the group is that user's primary one or at least no system group.
//! Supplementary groups are the user's own, where `initgroups` asks for them. All of it runs in the user
//! child, so a look-up that hangs stops nobody else. `manual/privileges` says what remains.

use super::order_shape;
use super::user_child::OrderCheck;
use crate::as_user::{Identity, Order, SystemUsers};
use crate::config::{Instance, Options, Written, build_settings};
use crate::expand::context::{UserEntry, Users};
use crate::sys::identity;
use crate::text::list;
use bstr::{BStr, BString, ByteSlice};
use std::sync::Arc;

/// An expanded `group` may be the user's own, or one from here on (`GID_MIN` of login.defs): shadow, disk, adm, docker and
/// their like lie below, and are had only by a configuration that names them.
const FIRST_ORDINARY_GID: u32 = 1000;

/// The master's own copy of the configuration.
pub struct ConfigurationCheck {
    written: Arc<Written>,
    users: Box<dyn Users>,
    /// What oxim runs as: deliveries without a user are its.
    own: Own,
}

/// oxim's own identity.
#[derive(Clone, Copy)]
struct Own {
    uid: u32,
    gid: u32,
    /// Orders change the uid; else everything is this one user's anyhow.
    is_root: bool,
}

/// Whom one place of the configuration lets an order act as.
struct Allowed<'w> {
    user: User<'w>,
    /// `group`; none: the primary one.
    group: Option<&'w [u8]>,
    initgroups: bool,
}

/// Where the user comes from.
#[derive(Clone, Copy)]
enum User<'w> {
    /// `user`, a name or number or a text that is expanded.
    Named(&'w [u8]),
    /// `check_local_user`: anybody in the user data base.
    Local,
    /// Nobody is named: oxim itself.
    Own,
}

impl ConfigurationCheck {
    /// Checks against this configuration; `own` is the uid and gid that oxim runs as.
    pub fn new(written: Arc<Written>, (uid, gid): (u32, u32)) -> Self {
        let own = Own { uid, gid, is_root: identity::is_root() };
        Self { written, users: Box::new(SystemUsers), own }
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
        // To the kernel, the last number means "leave it as it is".
        if who.uid == 0 || who.uid == u32::MAX || who.gid == u32::MAX {
            return Err("no order is carried out as root".into());
        }
        Ok(())
    }

    /// A user name or number.
    fn user_number(&self, text: &[u8]) -> Result<Option<u32>, String> {
        if let Some(number) = number(text) {
            return Ok(Some(number));
        }
        let found = self.users.by_name(text).map_err(|error| error.to_string())?;
        Ok(found.map(|user| user.uid))
    }

    fn check_identity(&self, who: &Identity, allowed: &Allowed) -> Result<(), String> {
        if !self.is_user(who.uid, allowed.user)? {
            return Err(format!("the configuration lets no delivery run as uid {} here", who.uid));
        }
        if !self.is_group(who, allowed)? {
            return Err(format!(
                "the configuration lets no delivery of uid {} run as gid {} here",
                who.uid, who.gid
            ));
        }
        let Some(login) = &who.initgroups else { return Ok(()) };
        let is_own_login = self.user_by_name(login)?.is_some_and(|user| user.uid == who.uid);
        if allowed.initgroups && is_own_login {
            return Ok(());
        }
        Err(format!("the configuration gives no delivery of uid {} the groups of {login} here", who.uid))
    }

    fn is_user(&self, uid: u32, allowed: User) -> Result<bool, String> {
        Ok(match allowed {
            User::Named(text) if is_fixed(text) => self.user_number(text.trim())? == Some(uid),
            User::Named(_) => uid != self.own.uid || !self.own.is_root,
            User::Local => self.user_by_uid(uid)?.is_some(),
            User::Own => uid == self.own.uid,
        })
    }

    fn is_group(&self, who: &Identity, allowed: &Allowed) -> Result<bool, String> {
        match allowed.group {
            Some(text) if is_fixed(text) => {
                let text = text.trim();
                let named = match number(text) {
                    Some(gid) => Some(gid),
                    None => self.users.group(text).map_err(|error| error.to_string())?,
                };
                Ok(named == Some(who.gid))
            }
            Some(_) if who.gid >= FIRST_ORDINARY_GID => Ok(true),
            _ => Ok(self.primary_group(who.uid, allowed.user)? == Some(who.gid)),
        }
    }

    /// As routers and transports find it: a uid without an entry has none.
    fn primary_group(&self, uid: u32, user: User) -> Result<Option<u32>, String> {
        let entry = match user {
            User::Own => return Ok(Some(self.own.gid)),
            User::Named(text) if is_fixed(text) && number(text.trim()).is_none() => {
                self.user_by_name(text.trim())?
            }
            User::Named(_) | User::Local => self.user_by_uid(uid)?,
        };
        let own = (uid == self.own.uid).then_some(self.own.gid);
        Ok(entry.map(|entry| entry.gid).or(own))
    }

    fn user_by_uid(&self, uid: u32) -> Result<Option<UserEntry>, String> {
        self.users.by_uid(uid).map_err(|error| error.to_string())
    }
    fn user_by_name(&self, name: &[u8]) -> Result<Option<UserEntry>, String> {
        self.users.by_name(name).map_err(|error| error.to_string())
    }
}

impl OrderCheck for ConfigurationCheck {
    fn check(&self, who: &Identity, order: &Order) -> Result<(), String> {
        self.check_never(who)?;
        let router = named(&self.written.routers, &who.router)?;
        let transport = named(&self.written.transports, &who.transport)?;
        match (order, transport, router) {
            (Order::Append(append), Some(transport), Some(router))
                if transport.driver.name == "appendfile" =>
            {
                order_shape::check_way(router, transport)?;
                self.check_identity(who, &of_delivery(transport, router))?;
                order_shape::check_append(&transport.options, append)?;
                check_mailbox(transport, router, append.path.as_bstr())
            }
            (Order::Run(run), Some(transport), Some(router)) if transport.driver.name == "pipe" => {
                order_shape::check_way(router, transport)?;
                self.check_identity(who, &of_delivery(transport, router))?;
                let program = run.command.first().map(|word| word.as_bstr()).unwrap_or_default();
                if written(transport, "command").is_none() {
                    return check_redirected(router, "pipe_transport", "forbid_pipe", transport, program);
                }
                check_command(&transport.options, program)
            }
            (Order::ReadFile(read), None, Some(router)) if router.driver.name == "redirect" => {
                self.check_identity(who, &of_router(router))?;
                check_list_file(&router.options, read.path.as_bstr())
            }
            (Order::CheckFiles(_), None, Some(router)) => self.check_required_files(who, router),
            _ => Err("the configuration has no such order".into()),
        }
    }
}

impl ConfigurationCheck {
    /// `require_files` names its users itself: an item without slash is `user` or `user,group`.
    fn check_required_files(&self, who: &Identity, router: &Instance) -> Result<(), String> {
        let mut refusal = "the configuration has no such order".to_owned();
        let list = router.options.plain("require_files").unwrap_or_default();
        for item in list::items(&list).filter(|item| !has_outer_slash(item)) {
            let (user, group) = match item.split_once_str(",") {
                Some((user, group)) => (user, Some(group)),
                None => (item.as_slice(), None),
            };
            let allowed = Allowed { user: User::Named(user), group, initgroups: false };
            match self.check_identity(who, &allowed) {
                Ok(()) => return Ok(()),
                Err(text) => refusal = text,
            }
        }
        Err(refusal)
    }
}

/// The transport's user, else the router's, else the one the router found, else oxim; as `deliver::local` takes them.
fn of_delivery<'w>(transport: &'w Instance, router: &'w Instance) -> Allowed<'w> {
    let of_transport = written(transport, "group");
    let initgroups = transport.options.bool("initgroups");
    if let Some(user) = written(transport, "user") {
        return Allowed { user: User::Named(user), group: of_transport, initgroups };
    }
    let below = of_router(router);
    let of_router = match below.user {
        User::Own => None, // a router's group means nothing without a user
        _ => below.group,
    };
    Allowed { group: of_transport.or(of_router), initgroups: initgroups || below.initgroups, ..below }
}

/// Whom a router makes deliver, and read a .forward: its user, else the local user that it found.
fn of_router(router: &Instance) -> Allowed<'_> {
    let user = match written(router, "user") {
        Some(user) => User::Named(user),
        None if router.options.bool("check_local_user") => User::Local,
        None => User::Own,
    };
    Allowed { user, group: written(router, "group"), initgroups: router.options.bool("initgroups") }
}

/// What an option is set to; an empty text is as good as none.
fn written<'w>(instance: &'w Instance, name: &str) -> Option<&'w [u8]> {
    instance.options.text(name).map(|text| text.text().as_bytes()).filter(|text| !text.is_empty())
}

fn number(text: &[u8]) -> Option<u32> {
    text.to_str().ok()?.parse().ok()
}

/// A slash that stands outside of `${...}`: the item is a path whatever the rest expands to.
fn has_outer_slash(item: &[u8]) -> bool {
    let mut depth = 0_usize;
    item.iter().any(|byte| {
        match byte {
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        *byte == b'/' && depth == 0
    })
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

/// A transport with neither `file` nor `directory` takes the path from a .forward or alias file: then the router
/// must be one that hands such paths to it. (The file itself is not read again here: where it lies is expanded.)
fn check_mailbox(transport: &Instance, router: &Instance, path: &BStr) -> Result<(), String> {
    match ["file", "directory"].iter().find(|name| written(transport, name).is_some()) {
        Some(name) => check_path(&transport.options, name, path),
        None => check_redirected(router, "file_transport", "forbid_file", transport, path)
            .or_else(|_| check_redirected(router, "directory_transport", "forbid_file", transport, path)),
    }
}

/// The router hands what stands in its list to this transport, and may. `target` is the path or program.
fn check_redirected(
    router: &Instance,
    option: &str,
    forbidden_by: &str,
    transport: &Instance,
    target: &BStr,
) -> Result<(), String> {
    let hands_over = router.driver.name == "redirect"
        && router.options.text(option).is_some_and(|text| match text.as_literal() {
            Some(name) => name.trim() == transport.name.as_bytes(),
            None => true,
        });
    if hands_over && !router.options.bool(forbidden_by) && target.starts_with(b"/") {
        return Ok(());
    }
    Err(format!("the {} router does not hand {target} to the {} transport", router.name, transport.name))
}

fn check_path(options: &Options, name: &str, path: &BStr) -> Result<(), String> {
    options.text(name).map_or(Ok(()), |template| order_shape::check_path(template, path))
}

/// The router's `file`, or what such a list may include.
fn check_list_file(options: &Options, path: &BStr) -> Result<(), String> {
    let named = match options.text("file") {
        Some(template) => order_shape::check_path(template, path),
        None => Err("the router has no file".into()),
    };
    let Err(refusal) = named else { return Ok(()) };
    let inside = match options.plain("include_directory").filter(|text| !text.is_empty()) {
        Some(directory) => {
            let rest = path.strip_prefix(directory.as_slice());
            rest.is_some_and(|rest| rest.starts_with(b"/") && !rest.split_str("/").any(|part| part == b".."))
        }
        None => true,
    };
    if inside && !options.bool("forbid_include") { Ok(()) } else { Err(refusal) }
}

/// A command whose first word the configuration fixes must be that program: its whole path, or, of a name without
/// slash, a file of that name in a directory of `path`.
fn check_command(options: &Options, program: &BStr) -> Result<(), String> {
    let Some(text) = options.text("command") else { return Ok(()) };
    let first = text.text().fields().next().unwrap_or_default();
    if !is_fixed(first) || first == program.as_bytes() {
        return Ok(());
    }
    let search = options.plain("path").unwrap_or_default();
    let is_found = !first.contains(&b'/')
        && match program.rsplit_once_str("/") {
            Some((directory, name)) => {
                let is_listed = search.split(|byte| *byte == b':').any(|item| item.trim() == directory);
                name == first && (is_listed || !is_fixed(&search))
            }
            None => false,
        };
    if is_found {
        return Ok(());
    }
    Err(format!("the configuration fixes the command {}, not {program}", first.as_bstr()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::as_user::{Append, CheckFiles, ReadFile};
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
        fn group(&self, name: &[u8]) -> std::io::Result<Option<u32>> {
            Ok((name == b"mail").then_some(8))
        }
    }

    const TEXT: &str = "never_users = 33\n\
        begin routers\n\
        local:\n driver = accept\n check_local_user\n transport = mailbox\n\
        grouped:\n driver = accept\n check_local_user\n group = mail\n initgroups\n transport = mailbox\n\
        forward:\n driver = redirect\n check_local_user\n file = $home/.forward\n file_transport = address_file\n\
        \x20forbid_include\n\
        lists:\n driver = redirect\n user = 1000\n file = /etc/lists/$local_part\n include_directory = /etc/lists.d\n\
        \x20pipe_transport = address_pipe\n forbid_file\n file_transport = address_file\n\
        to_nobodys:\n driver = accept\n transport = nobodys\n\
        to_archive:\n driver = accept\n transport = archive\n\
        to_virtual:\n driver = accept\n transport = ${if eq{a}{b}{x}{virtual}}\n\
        served:\n driver = redirect\n check_local_user\n user = 1000\n group = mail\n file = /srv/list\n\
        asked:\n driver = accept\n require_files = joe,mail:$home/.procmailrc\n transport = mailbox\n\
        begin transports\n\
        mailbox:\n driver = appendfile\n file = /var/mail/$local_part_data\n\
        archive:\n driver = appendfile\n file = /srv/archive\n user = 77\n group = 8\n\
        nobodys:\n driver = appendfile\n file = /srv/nobodys\n user = 78\n\
        virtual:\n driver = appendfile\n file = /srv/$domain_data\n user = $local_part_data\n\
        \x20group = $domain_data\n\
        address_file:\n driver = appendfile\n\
        remote:\n driver = smtp\n";

    fn checked(who: Identity, order: Order) -> Result<(), String> {
        let mut opener = |_: &Path| Ok(None);
        let overrides = crate::config::MacroOverrides(Vec::new());
        let (written, errors) = crate::load::read(Path::new("c"), TEXT.as_bytes(), &overrides, &mut opener);
        assert!(errors.is_empty(), "{errors:?}");
        let own = Own { uid: 100, gid: 101, is_root: true };
        let check = ConfigurationCheck { written: Arc::new(written.unwrap()), users: Box::new(Fake), own };
        check.check(&who, &order)
    }

    fn who(uid: u32, gid: u32, router: &str, transport: &str) -> Identity {
        Identity { uid, gid, router: router.into(), transport: transport.into(), ..Identity::default() }
    }

    fn append(path: &str) -> Order {
        // As appendfile's defaults make it.
        Order::Append(Append {
            path: path.into(),
            mode: 0o600,
            directory_mode: 0o700,
            lockfile_mode: 0o600,
            lock_retries: 10,
            check_owner: true,
            create_directory: true,
            mode_fail_narrower: true,
            use_lockfile: true,
            ..Append::default()
        })
    }

    #[test]
    fn what_the_configuration_could_mean_is_allowed() {
        for (uid, gid, router, transport, path) in [
            (1000, 1000, "local", "mailbox", "/var/mail/joe"),
            (1000, 8, "grouped", "mailbox", "/var/mail/joe"),
            (77, 8, "to_archive", "archive", "/srv/archive"),
            (1000, 1000, "to_virtual", "virtual", "/srv/x"),
            (1000, 5000, "to_virtual", "virtual", "/srv/x"),
            (1000, 1000, "forward", "address_file", "/home/joe/mbox"),
            (100, 101, "asked", "mailbox", "/var/mail/joe"),
        ] {
            assert_eq!(
                checked(who(uid, gid, router, transport), append(path)),
                Ok(()),
                "{uid} {gid} {router}"
            );
        }
        let read = Order::ReadFile(ReadFile { path: "/home/joe/.forward".into(), limit: 1 });
        assert_eq!(checked(who(1000, 1000, "forward", ""), read), Ok(()));
        let read = Order::ReadFile(ReadFile { path: "/srv/list".into(), limit: 1 });
        assert_eq!(checked(who(1000, 8, "served", ""), read.clone()), Ok(()));
        for (uid, gid) in [(1000, 1000), (33, 33), (0, 0), (4711, 8)] {
            assert!(checked(who(uid, gid, "served", ""), read.clone()).is_err(), "{uid} {gid}");
        }
        let files = Order::CheckFiles(CheckFiles { paths: vec!["/home/joe/.procmailrc".into()] });
        assert_eq!(checked(who(1000, 8, "asked", ""), files), Ok(()));
    }

    #[test]
    fn nobody_but_whom_the_configuration_names_is_ever_acted_as() {
        for (uid, router, transport, path) in [
            (0, "local", "mailbox", "/var/mail/root"),
            (33, "local", "mailbox", "/var/mail/www"),
            (4711, "local", "mailbox", "/var/mail/nobody"),
            (1000, "to_archive", "archive", "/srv/archive"),
            (77, "to_archive", "archive", "/etc/cron.d/x"),
            (77, "local", "archive", "/srv/archive"),
            (78, "to_nobodys", "nobodys", "/srv/nobodys"),
            (100, "local", "remote", "/x"),
            (100, "to_virtual", "virtual", "/srv/x"),
            (u32::MAX, "to_virtual", "virtual", "/srv/x"),
            (1000, "local", "mailbox", "/home/joe/.ssh/authorized_keys"),
            (1000, "local", "mailbox", "/var/mail/../../home/joe/.profile"),
            (1000, "lists", "address_file", "/home/joe/mbox"),
            (1000, "local", "absent", "/x"),
            (1000, "", "mailbox", "/var/mail/joe"),
            (1000, "local", "address_file", "/home/joe/mbox"),
        ] {
            let gid = match uid {
                77 => 8,
                78 => 101, // of a number that is nobody's, oxim's group would let it into the spool
                _ => uid,
            };
            let answer = checked(who(uid, gid, router, transport), append(path));
            assert!(answer.is_err(), "{uid} {transport} {path}");
        }
        for (uid, gid, router) in [(1000, 1000, "local"), (1000, 1000, "asked"), (33, 8, "asked")] {
            let files = Order::CheckFiles(CheckFiles { paths: vec!["/etc/shadow".into()] });
            assert!(checked(who(uid, gid, router, ""), files).is_err(), "{uid} {gid} {router}");
        }
    }

    #[test]
    fn no_group_is_had_that_the_configuration_does_not_give() {
        const SHADOW: u32 = 42;
        for gid in [0, SHADOW, 101] {
            for (router, transport) in [
                ("local", "mailbox"),
                ("grouped", "mailbox"),
                ("to_virtual", "virtual"),
                ("forward", "address_file"),
            ] {
                let path = if transport == "virtual" { "/srv/x" } else { "/var/mail/joe" };
                let answer = checked(who(1000, gid, router, transport), append(path));
                assert!(answer.is_err(), "{gid} {router} {transport}");
            }
            let read = Order::ReadFile(ReadFile { path: "/etc/shadow".into(), limit: 1 });
            assert!(checked(who(1000, gid, "forward", ""), read).is_err(), "{gid}");
        }
        let with_groups = |login: &str, gid, router: &str| Identity {
            initgroups: Some(login.into()),
            ..who(1000, gid, router, "mailbox")
        };
        let order = append("/var/mail/joe");
        assert_eq!(checked(with_groups("joe", 8, "grouped"), order.clone()), Ok(()));
        assert!(checked(with_groups("root", 8, "grouped"), order.clone()).is_err());
        assert!(checked(with_groups("joe", 1000, "local"), order).is_err());
    }

    #[test]
    fn an_order_of_another_mode_or_switch_than_the_configurations_is_refused() {
        let joe = || who(1000, 1000, "local", "mailbox");
        let Order::Append(good) = append("/var/mail/joe") else { unreachable!("made above") };
        assert_eq!(checked(joe(), Order::Append(good.clone())), Ok(()));
        for bad in [
            Append { mode: 0o4755, ..good.clone() },
            Append { directory_mode: 0o777, ..good.clone() },
            Append { check_owner: false, ..good.clone() },
            Append { allow_symlink: true, ..good.clone() },
            Append { create_below: Some("/home/joe".into()), ..good.clone() },
            Append { format: crate::as_user::Format::Maildir, ..good.clone() },
        ] {
            assert!(checked(joe(), Order::Append(bad.clone())).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_a_list_includes_is_read_where_the_configuration_allows_it() {
        let read = |router: &str, path: &str| {
            checked(who(1000, 1000, router, ""), Order::ReadFile(ReadFile { path: path.into(), limit: 1 }))
        };
        for path in ["/etc/lists/staff", "/etc/lists.d/more"] {
            assert_eq!(read("lists", path), Ok(()), "{path}");
        }
        for (router, path) in [
            ("lists", "/home/joe/.ssh/id_rsa"),
            ("lists", "/etc/lists.d/../shadow"),
            ("forward", "/home/joe/.ssh/id_rsa"),
            ("local", "/home/joe/.forward"),
        ] {
            assert!(read(router, path).is_err(), "{router} {path}");
        }
    }

    #[test]
    fn a_fixed_command_is_meant_with_its_whole_path() {
        let table: &'static [crate::config::OptionDef] = crate::transport::options::PIPE;
        let mut options = Options::new(vec![table]);
        options.put_default("command", "/usr/bin/procmail -d $local_part_data");
        options.put_default("path", "/bin:/usr/bin");
        assert!(check_command(&options, "/usr/bin/procmail".into()).is_ok());
        assert!(check_command(&options, "/tmp/x/procmail".into()).is_err());
        options.put_default("command", "procmail");
        assert!(check_command(&options, "/usr/bin/procmail".into()).is_ok());
        assert!(check_command(&options, "/tmp/x/procmail".into()).is_err());
    }
}
