//! The redirect router: aliases and plain .forward files (spec chapter "The redirect router").
//!
//! Filters (`# Exim filter`, `# Sieve filter`) are not built: such data defers the address.

use super::chain::{Asked, Verdict, known_transport};
use super::generic::{Generic, not_built, wrong};
use super::identity::identity;
use super::item::{Ancestor, Barred, Item, Route, Special, Trouble, ancestors, same_address};
use super::precondition::{expand_trouble, items};
use super::redirect_list::{self, Allowed, List, ListItem};
use crate::as_user::AsUser;
use crate::as_user::order::{Answer, FileRead, Identity, Order, ReadFile};
use crate::config::{ConfigError, Instance};
use crate::expand::{self, Context, ExpandError};
use crate::log::Which;
use crate::mail::Address;
use crate::syntax::Template;
use crate::text::Value;
use crate::transport::appendfile::read_file as read_file_here;
use bstr::{BStr, BString, ByteSlice};
use std::cell::Cell;
use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// Longest .forward, alias or included file that is read: a user supplies it.
const FILE_MAX: u64 = 16 * 1024 * 1024;

/// Exim's error number for redirection data that is wrong.
const BAD_REDIRECT: i32 = -17;

/// Options that are known but not built.
const NOT_BUILT: &[&str] =
    &["allow_freeze", "syntax_errors_to", "syntax_errors_text", "reply_transport", "rewrite"];

/// A compiled redirect router; fields are the options of their names.
#[derive(Debug)]
pub struct Redirect {
    source: Source,
    allow_defer: bool,
    allow_fail: bool,
    check_ancestor: bool,
    directory_transport: Option<Template>,
    file_transport: Option<Template>,
    pipe_transport: Option<Template>,
    forbid_blackhole: bool,
    forbid_file: bool,
    forbid_pipe: bool,
    forbid_include: bool,
    forbid_smtp_code: bool,
    hide_child_in_errmsg: bool,
    ignore_enotdir: bool,
    ignore_eacces: bool,
    include_directory: Option<BString>,
    one_time: bool,
    qualify_domain: Option<Template>,
    qualify_preserve_domain: bool,
    skip_syntax_errors: bool,
    ownership: Ownership,
    /// `repeat_use`
    pub repeat_use: bool,
}

#[derive(Debug)]
enum Source {
    Data(Template),
    File(Template),
}

/// Who may own the file.
#[derive(Debug)]
struct Ownership {
    check_owner: Option<bool>,
    check_group: Option<bool>,
    owners: Vec<BString>,
    owngroups: Vec<BString>,
    modemask: u32,
}

/// What a redirection gives.
pub struct Children {
    items: Vec<ListItem>,
    targets: HashMap<Kind, Target>,
    check_ancestor: bool,
    /// `hide_child_in_errmsg`
    pub hide: bool,
    /// `one_time`
    pub one_time: bool,
}

impl Redirect {
    /// Reads the private options.
    pub fn compile(instance: &Instance) -> Result<Self, Vec<ConfigError>> {
        let options = &instance.options;
        let mut errors = not_built(instance, NOT_BUILT);
        let source = match (options.text("data"), options.text("file")) {
            (Some(data), None) => Some(Source::Data(data.clone())),
            (None, Some(file)) => Some(Source::File(file.clone())),
            (data, _) => {
                let how = if data.is_some() { "only one of" } else { "one of" };
                let text =
                    format!("{} router:\n  {how} \"file\" or \"data\" must be specified", instance.name);
                errors.push(wrong(instance, "driver", text));
                None
            }
        };
        if options.bool("one_time") {
            for name in ["headers_add", "headers_remove", "unseen"] {
                if options.written(name).is_some() {
                    let text =
                        format!("{} router:\n  \"{name}\" is not permitted with \"one_time\"", instance.name);
                    errors.push(wrong(instance, name, text));
                }
            }
        }
        if options.written("transport").is_some() {
            errors.push(wrong(
                instance,
                "transport",
                format!("{} router:\n  a transport must not be defined for this router", instance.name),
            ));
        }
        let Some(source) = source.filter(|_| errors.is_empty()) else { return Err(errors) };
        let text = |name: &str| options.text(name).cloned();
        let one_time = options.bool("one_time");
        Ok(Self {
            source,
            allow_defer: options.bool("allow_defer"),
            allow_fail: options.bool("allow_fail"),
            check_ancestor: options.bool("check_ancestor"),
            directory_transport: text("directory_transport"),
            file_transport: text("file_transport"),
            pipe_transport: text("pipe_transport"),
            forbid_blackhole: options.bool("forbid_blackhole"),
            forbid_file: options.bool("forbid_file") || one_time,
            forbid_pipe: options.bool("forbid_pipe") || one_time,
            forbid_include: options.bool("forbid_include"),
            forbid_smtp_code: options.bool("forbid_smtp_code"),
            hide_child_in_errmsg: options.bool("hide_child_in_errmsg"),
            ignore_enotdir: options.bool("ignore_enotdir"),
            ignore_eacces: options.bool("ignore_eacces"),
            include_directory: options.plain("include_directory"),
            one_time,
            qualify_domain: text("qualify_domain"),
            qualify_preserve_domain: options.bool("qualify_preserve_domain"),
            skip_syntax_errors: options.bool("skip_syntax_errors"),
            ownership: Ownership::compile(instance),
            repeat_use: options.written("repeat_use").is_none() || options.bool("repeat_use"),
        })
    }

    /// Gets the data and reads it as a list.
    pub fn run(&self, asked: &Asked, context: &mut Context) -> Verdict {
        let data = match self.data(asked, context) {
            Ok(Some(data)) => data,
            Ok(None) => return Verdict::Decline,
            Err(trouble) => return Verdict::Defer(trouble),
        };
        if is_filter(&data) {
            let text = "error in redirect data: filters are not supported yet";
            return Verdict::Defer(bad_data(asked, text));
        }
        let allowed = match self.allowed(asked, context) {
            Ok(Some(allowed)) => allowed,
            Ok(None) => return Verdict::Decline,
            Err(trouble) => return Verdict::Defer(trouble),
        };
        let our_fault = Cell::new(false);
        let include = |path: &BStr| self.include(asked, context, path, &our_fault);
        match redirect_list::parse(&data, &allowed, &include) {
            List::Nothing => Verdict::Decline,
            List::Blackhole => Verdict::Discard,
            List::Fail(text, before) => {
                let trouble = forced(asked, self.allowed_text(text), 0);
                match before.is_empty() {
                    true => Verdict::Fail(trouble),
                    false => Verdict::FailAfter(trouble, self.children(before, asked, context)),
                }
            }
            List::Defer(text) => Verdict::Defer(forced(asked, self.allowed_text(text), -1)),
            List::Wrong(text) => Verdict::Defer(Trouble {
                our_fault: our_fault.get(),
                ..bad_data(asked, format!("error in redirect data: {text}"))
            }),
            List::Items(items, skipped) => {
                log_skipped(&skipped, asked, context);
                if items.is_empty() {
                    return Verdict::DeclineWith("syntax error in redirection data".into());
                }
                Verdict::Children(self.children(items, asked, context))
            }
        }
    }

    /// `forbid_smtp_code`: a code at the start of the text is not for the peer.
    fn allowed_text(&self, text: BString) -> BString {
        if self.forbid_smtp_code { without_code(text.as_bstr()).into() } else { text }
    }

    fn data(&self, asked: &Asked, context: &Context) -> Result<Option<BString>, Trouble> {
        let (template, option) = match &self.source {
            Source::Data(template) => (template, "data"),
            Source::File(template) => (template, "file"),
        };
        let value = match expand::expand(template, context) {
            Ok(value) => value,
            Err(ExpandError::Forced(_)) => return Ok(None),
            Err(error) => return Err(expand_trouble(asked.router, template, option, &error)),
        };
        match &self.source {
            Source::Data(_) => Ok(Some(value.into_bytes()).filter(|text| !text.is_empty())),
            Source::File(_) => self.file(&value, asked, context),
        }
    }

    fn file(&self, value: &Value, asked: &Asked, context: &Context) -> Result<Option<BString>, Trouble> {
        let defer = |text: String| Trouble::defer(asked.router.name.as_bstr(), text);
        let path = value.to_clean("filename for redirect").map_err(|error| defer(error.to_string()))?;
        if !path.starts_with(b"/") {
            return Err(defer(format!("error in redirect data: \"{path}\" is not an absolute path")));
        }
        let reader = Reader::new(asked, context)?;
        match reader.read(path) {
            Ok(file) => {
                self.ownership.check(path, &file, asked, context).map_err(defer)?;
                Ok(Some(file.content).filter(|text| !text.is_empty()))
            }
            Err(Unread { ours: true, text, .. }) => {
                let trouble = defer(format!("failed to open {path}: {text}"));
                Err(Trouble { our_fault: true, ..trouble })
            }
            Err(Unread { errno: libc::ENOENT, .. }) => self.absent(path, asked),
            Err(Unread { errno: libc::ENOTDIR, .. }) if self.ignore_enotdir => Ok(None),
            Err(Unread { errno: libc::EACCES, .. }) if self.ignore_eacces => Ok(None),
            Err(Unread { errno: libc::EACCES, text, .. }) => {
                let as_whom =
                    reader.user.map_or_else(String::new, |(uid, gid)| format!(" (euid={uid} egid={gid})"));
                Err(defer(format!("failed to open {path}: {text}{as_whom}")))
            }
            Err(Unread { text, .. }) => Err(defer(format!("failed to open {path}: {text}"))),
        }
    }

    /// A file that is not there: the router declines if its directory is there.
    fn absent(&self, path: &BStr, asked: &Asked) -> Result<Option<BString>, Trouble> {
        let directory = path.rfind_byte(b'/').map_or(&b"/"[..], |at| &path[..at.max(1)]);
        if self.ignore_enotdir || Path::new(std::ffi::OsStr::from_bytes(directory)).exists() {
            return Ok(None);
        }
        let text = format!("{path}: directory {} does not exist", directory.as_bstr());
        Err(Trouble::defer(asked.router.name.as_bstr(), text))
    }

    fn include(
        &self,
        asked: &Asked,
        context: &Context,
        path: &BStr,
        our_fault: &Cell<bool>,
    ) -> Result<BString, BString> {
        let inside = |directory: &BString| {
            path.starts_with(directory.as_slice()) && path.get(directory.len()) == Some(&b'/')
        };
        if let Some(directory) = self.include_directory.as_ref().filter(|directory| !inside(directory)) {
            return Err(format!("included file {path} is not in directory {directory}").into());
        }
        let reader = Reader::new(asked, context).map_err(|trouble| trouble.text)?;
        match reader.read(path) {
            Ok(file) if is_regular(&file) => Ok(file.content),
            Ok(_) => Err(format!("included file {path} is not a regular file").into()),
            Err(unread) => {
                our_fault.set(unread.ours);
                Err(format!("failed to open included file {path}: {}", unread.text).into())
            }
        }
    }

    fn allowed(&self, asked: &Asked, context: &Context) -> Result<Option<Allowed>, Trouble> {
        let incoming = BString::from(asked.item.address.domain());
        let qualify_domain = match &self.qualify_domain {
            _ if self.qualify_preserve_domain => incoming.clone(),
            None => context.globals.qualify_recipient.clone(),
            Some(template) => match expand::expand(template, context) {
                Ok(value) => value.into_bytes(),
                Err(_) => return Ok(None),
            },
        };
        Ok(Some(Allowed {
            defer: self.allow_defer,
            fail: self.allow_fail,
            blackhole: !self.forbid_blackhole,
            include: !self.forbid_include,
            incoming_domain: incoming,
            qualify_domain,
            skip_syntax_errors: self.skip_syntax_errors,
        }))
    }

    /// Files and pipes are named even where they are barred: each fails or waits for itself.
    fn children(&self, items: Vec<ListItem>, asked: &Asked, context: &Context) -> Children {
        let mut targets = HashMap::new();
        for item in &items {
            let Some(kind) = Kind::of(item) else { continue };
            targets.entry(kind).or_insert_with(|| self.target(kind, asked, context));
        }
        Children {
            items,
            targets,
            check_ancestor: self.check_ancestor,
            hide: self.hide_child_in_errmsg,
            one_time: self.one_time,
        }
    }

    fn target(&self, kind: Kind, asked: &Asked, context: &Context) -> Target {
        let (option, template, forbidden) = match kind {
            Kind::Pipe => ("pipe_transport", &self.pipe_transport, self.forbid_pipe),
            Kind::Directory => ("directory_transport", &self.directory_transport, self.forbid_file),
            Kind::File => ("file_transport", &self.file_transport, self.forbid_file),
        };
        let transport = match template {
            None => Err(format!("{option} unset in {} router", asked.router.name).into()),
            Some(template) => expand::expand(template, context)
                .map_err(|error| expand_trouble(asked.router, template, "transport", &error))
                .and_then(|name| known_transport(asked.router, name, asked.transports))
                .map_err(|trouble| trouble.text),
        };
        Target { forbidden, transport }
    }
}

/// What an item that is no address asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Pipe,
    Directory,
    File,
}

impl Kind {
    fn of(item: &ListItem) -> Option<Self> {
        match item {
            ListItem::Address(_) => None,
            ListItem::Pipe(_) => Some(Self::Pipe),
            ListItem::File(path) if path.ends_with(b"/") => Some(Self::Directory),
            ListItem::File(_) => Some(Self::File),
        }
    }
}

/// How items of one kind are delivered.
#[derive(Clone, Debug)]
struct Target {
    forbidden: bool,
    /// The transport, or why there is none.
    transport: Result<BString, BString>,
}

/// Items that were skipped are in the log, whether or not the rest is delivered.
fn log_skipped(skipped: &[(BString, BString)], asked: &Asked, context: &Context) {
    let id = context.message.id.as_ref().map_or_else(String::new, |id| format!("{id} "));
    for (text, error) in skipped {
        let line = format!("{id}{} router: skipped error: {error} in \"{text}\"", asked.router.name);
        context.globals.log.write(Which::Main, line.as_bytes().as_bstr());
    }
}

/// The children as items: addresses to be routed from `start` on, files and pipes with their transport.
pub fn make_items(
    children: &Children,
    item: &Item,
    ancestor: &Arc<Ancestor>,
    start: usize,
    route: &Route,
) -> Vec<Item> {
    let mut made = Vec::new();
    for child in &children.items {
        let special = match child {
            ListItem::Address(address) => {
                let address = replace_ancestor(children, item, address);
                let mut new = item.child(ancestor, address);
                new.start = start;
                made.push(new);
                continue;
            }
            ListItem::Pipe(command) => Special::Pipe(Value::tainted(command.clone())),
            ListItem::File(path) if path.ends_with(b"/") => Special::Directory(Value::clean(path.clone())),
            ListItem::File(path) => Special::File(Value::clean(path.clone())),
        };
        let mut new = item.child(ancestor, item.address.clone());
        let mut way = route.clone();
        if let Some(target) = Kind::of(child).and_then(|kind| children.targets.get(&kind)) {
            way.transport = target.transport.clone().unwrap_or_default();
            if target.forbidden || target.transport.is_err() {
                let no_transport = target.transport.clone().err();
                new.barred = Some(Box::new(Barred { forbidden: target.forbidden, no_transport }));
            }
        }
        way.vars.transport_name = way.transport.clone();
        match &special {
            Special::Pipe(command) => way.vars.address_pipe = Some(command.clone()),
            Special::File(path) | Special::Directory(path) => way.vars.address_file = Some(path.clone()),
        }
        new.special = Some(special);
        new.route = Some(Box::new(way));
        made.push(new);
    }
    made
}

/// `check_ancestor`: an ancestor that comes again is replaced by the current address.
fn replace_ancestor(children: &Children, item: &Item, address: &Address) -> Address {
    let is_ancestor = || ancestors(item).any(|ancestor| same_address(&ancestor.address, address));
    if children.check_ancestor && is_ancestor() { item.address.clone() } else { address.clone() }
}

/// Something is wrong with the list itself.
fn bad_data(asked: &Asked, text: impl Into<BString>) -> Trouble {
    Trouble { errno: BAD_REDIRECT, ..Trouble::defer(asked.router.name.as_bstr(), text) }
}

fn forced(asked: &Asked, text: BString, errno: i32) -> Trouble {
    Trouble { router: Some(asked.router.name.clone()), text, errno, for_peer: true, ..Trouble::default() }
}

/// The text without an SMTP code (`550 `) and an enhanced code (`5.1.1 `) at its start.
fn without_code(text: &BStr) -> &[u8] {
    let is_code = |word: &[u8]| word.len() == 3 && word.iter().all(u8::is_ascii_digit);
    let is_enhanced = |word: &[u8]| {
        word.len() >= 5 && word[1] == b'.' && word.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.')
    };
    let Some((_, rest)) = text.split_once_str(" ").filter(|(word, _)| is_code(word)) else { return text };
    match rest.split_once_str(" ") {
        Some((word, rest)) if is_enhanced(word) => rest,
        _ => rest,
    }
}

/// `# Exim filter` and `# Sieve filter` in the first line.
fn is_filter(data: &[u8]) -> bool {
    let line = data.trim_start();
    let Some(rest) = line.strip_prefix(b"#") else { return false };
    let rest = rest.trim_start().to_ascii_lowercase();
    rest.starts_with(b"exim filter") || rest.starts_with(b"sieve filter")
}

/// Why a file could not be read.
struct Unread {
    errno: i32,
    text: String,
    /// The process that reads as the user died or could not be had.
    ours: bool,
}

/// Who reads files: the user of the generic options `user` and `group`, whose defaults are the local user's; without
/// one, whoever routes.
struct Reader<'a> {
    orders: Option<&'a Arc<dyn AsUser>>,
    router: &'a Generic,
    user: Option<(u32, u32)>,
}

impl<'a> Reader<'a> {
    fn new(asked: &Asked<'a>, context: &Context) -> Result<Self, Trouble> {
        let user = identity(asked.router, asked.user, context)?;
        Ok(Self { orders: asked.orders.as_ref(), router: asked.router, user })
    }

    fn read(&self, path: &BStr) -> Result<FileRead, Unread> {
        let file = ReadFile { path: path.into(), limit: FILE_MAX };
        let failed = |errno: i32, text: String| Unread { errno, text, ours: false };
        let not_done = |text: String| Unread { errno: libc::EAGAIN, text, ours: true };
        let (Some(orders), Some((uid, gid))) = (self.orders, self.user) else {
            return read_file_here(&file).map_err(|error| {
                let errno = error.raw_os_error().unwrap_or(libc::EIO);
                failed(errno, crate::sys::errno_words(errno))
            });
        };
        let who = Identity { uid, gid, router: self.router.name.clone(), ..Identity::default() };
        match orders.carry_out(&who, &Order::ReadFile(file), &[]) {
            Ok(Answer::File(file)) => Ok(file),
            Ok(Answer::Trouble(trouble)) if trouble.ours => Err(not_done(trouble.text.to_string())),
            Ok(Answer::Trouble(trouble)) if trouble.errno > 0 => {
                Err(failed(trouble.errno, crate::sys::errno_words(trouble.errno)))
            }
            Ok(Answer::Trouble(trouble)) => Err(failed(libc::EIO, trouble.text.to_string())),
            Ok(_) => Err(not_done("unexpected answer".into())),
            Err(error) => Err(not_done(error.to_string())),
        }
    }
}

fn is_regular(file: &FileRead) -> bool {
    file.mode & libc::S_IFMT == libc::S_IFREG
}

impl Ownership {
    fn compile(instance: &Instance) -> Self {
        let options = &instance.options;
        let set = |name: &str| options.written(name).map(|_| options.bool(name));
        let list = |name: &str| options.plain(name).map_or_else(Vec::new, |text| items(&text, b':'));
        let modemask = if options.written("modemask").is_some() { options.int("modemask") } else { 0o022 };
        Self {
            check_owner: set("check_owner"),
            check_group: set("check_group"),
            owners: list("owners"),
            owngroups: list("owngroups"),
            modemask: u32::try_from(modemask).unwrap_or(0o022),
        }
    }

    fn check(&self, path: &BStr, file: &FileRead, asked: &Asked, context: &Context) -> Result<(), String> {
        if !is_regular(file) {
            return Err(format!("failed to read {path}: not a regular file"));
        }
        if file.mode & self.modemask & 0o7777 != 0 {
            let mode = file.mode & 0o7777;
            return Err(format!(
                "bad mode (0{:o}) for {path}: 0{:o} bit(s) unexpected",
                file.mode,
                mode & self.modemask
            ));
        }
        let local = asked.user;
        let check_owner = self.check_owner.unwrap_or(local.is_some() || !self.owners.is_empty());
        if check_owner {
            let is_owner = local.is_some_and(|user| user.uid == file.uid)
                || self.owners.iter().any(|name| {
                    super::identity::find_user(name.as_bstr(), context).is_ok_and(|(uid, _)| uid == file.uid)
                });
            if !is_owner {
                return Err(format!("bad owner for {path}"));
            }
        }
        let group_writable = self.modemask & 0o020 == 0;
        let check_group =
            self.check_group.unwrap_or((local.is_some() && group_writable) || !self.owngroups.is_empty());
        if check_group {
            let is_group = local.is_some_and(|user| user.gid == file.gid)
                || self.owngroups.iter().any(|name| {
                    super::identity::find_group(name.as_bstr(), context).is_ok_and(|gid| gid == file.gid)
                });
            if !is_group {
                return Err(format!("bad group for {path}"));
            }
        }
        Ok(())
    }
}
