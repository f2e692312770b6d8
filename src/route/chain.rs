//! The routers in order: which runs, what its answer means, and what is said when none is left.
//!
//! Specification: chapter "How Exim receives and delivers mail", sections on running routers.

use super::generic::{Flag, Generic};
use super::identity::identity;
use super::item::{Ancestor, Item, Route, Routed, Trouble, ancestors, same_address};
use super::precondition::{self, Met, expand_trouble, items};
use super::variables::{set_data, set_variables};
use super::{accept, manualroute, redirect, verify};
use crate::as_user::AsUser;
use crate::config::{ConfigError, Instance};
use crate::expand::context::UserEntry;
use crate::expand::{self, Context, ExpandError};
use crate::mail::Address;
use crate::syntax::Template;
use crate::text::Value;
use crate::transport::Host;
use bstr::{BStr, BString, ByteSlice};
use std::collections::HashMap;
use std::sync::Arc;

/// Why an address is routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// To deliver to it.
    Deliver,
    /// `verify = recipient`, `-bv`.
    VerifyRecipient,
    /// `verify = sender`, `-bvs`.
    VerifySender,
    /// `-bt`.
    AddressTest,
    /// SMTP EXPN.
    Expand,
}

impl How {
    /// True when nothing is to be delivered.
    pub fn is_verify(self) -> bool {
        matches!(self, How::VerifyRecipient | How::VerifySender)
    }
}

/// Who carries out what needs a user's rights; none: all is done with the rights at hand (verifying).
pub type Orders = Option<Arc<dyn AsUser>>;

/// The drivers.
#[derive(Debug)]
enum Driver {
    Accept,
    Redirect(Box<redirect::Redirect>),
    Manualroute(manualroute::Manualroute),
}

/// One router.
#[derive(Debug)]
struct Router {
    generic: Generic,
    driver: Driver,
}

/// What a driver answers.
pub enum Verdict {
    /// Deliver with the router's transport, or this one, to these hosts.
    Accept {
        /// Overrides the router's.
        transport: Option<BString>,
        /// For remote transports.
        hosts: Vec<Host>,
        /// `$host` for local transports.
        host_list: Option<BString>,
    },
    /// Route these instead.
    Children(redirect::Children),
    /// Not mine.
    Decline,
    /// Not mine; this is said of the address if nobody takes it.
    DeclineWith(BString),
    /// Go on, whatever `more` says.
    Pass,
    /// The same; the text is for the log if no router is left.
    PassWith(BString),
    /// Throw it away.
    Discard,
    /// Never.
    Fail(Trouble),
    /// Never, and these are routed all the same: they stood before the `:fail:`.
    FailAfter(Trouble, redirect::Children),
    /// Not now.
    Defer(Trouble),
    /// Route again with this domain.
    Reroute(BString),
}

/// What drivers get besides the item.
pub struct Asked<'a> {
    /// The router's generic options.
    pub router: &'a Generic,
    /// The item.
    pub item: &'a Item,
    /// Why.
    pub how: How,
    /// The user that `check_local_user` found.
    pub user: Option<&'a UserEntry>,
    /// Rights of users.
    pub orders: &'a Orders,
    /// Transports by name; true: a remote one.
    pub transports: &'a HashMap<BString, bool>,
}

/// All routers.
pub struct Chain {
    routers: Vec<Router>,
    transports: HashMap<BString, bool>,
    orders: Orders,
}

impl Chain {
    /// Compiles the routers in order. `transports` are the names of all transports, true for remote ones.
    /// `orders` carries out what needs a user's rights.
    pub fn compile(
        instances: &[Instance],
        transports: HashMap<BString, bool>,
        orders: Orders,
    ) -> Result<Self, Vec<ConfigError>> {
        let names: Vec<BString> = instances.iter().map(|instance| instance.name.clone()).collect();
        let mut routers = Vec::new();
        let mut errors = Vec::new();
        for instance in instances {
            let driver = compile_driver(instance);
            match (Generic::compile(instance, &names), driver) {
                (Ok(generic), Ok(driver)) => routers.push(Router { generic, driver }),
                (generic, driver) => {
                    errors.extend(generic.err().into_iter().flatten());
                    errors.extend(driver.err().into_iter().flatten());
                }
            }
        }
        if errors.is_empty() { Ok(Self { routers, transports, orders }) } else { Err(errors) }
    }

    /// Name of the router at `index`.
    pub fn name(&self, index: usize) -> &BStr {
        self.routers.get(index).map_or(b"".as_bstr(), |router| router.generic.name.as_bstr())
    }

    /// Routes one address. More than one answer comes only from `unseen` routers, and from
    /// a `:fail:` behind other items, which comes before theirs. `context.address` is left
    /// as the last router had it.
    pub fn route(&self, context: &mut Context, item: Item, how: How) -> Vec<Routed> {
        // Outside deliveries (verification, -bt) there is a return path only while an address is routed.
        let before = context.message.return_path.clone();
        if before.is_none() {
            context.message.return_path = context.message.sender.as_ref().map(|sender| sender.to_bytes());
        }
        let answers = self.walk(context, item, how);
        context.message.return_path = before;
        answers
    }

    fn walk(&self, context: &mut Context, item: Item, how: How) -> Vec<Routed> {
        let mut answers = Vec::new();
        let mut item = item;
        let mut index = item.start;
        let mut last = None;
        while let Some(router) = self.routers.get(index) {
            last = Some(router);
            match self.ask(router, index, &mut item, how, context) {
                Step::Next(next) => index = next,
                Step::NoMore => break,
                Step::Done(answer) => {
                    answers.push(answer);
                    return answers;
                }
                Step::FailedAfter(both) => {
                    answers.extend(*both);
                    return answers;
                }
                Step::Unseen(answer, copy) => {
                    answers.push(answer);
                    item = *copy;
                    index += 1;
                }
            }
        }
        answers.push(unrouteable(item, last, context));
        answers
    }

    /// One router and one address.
    fn ask(&self, router: &Router, index: usize, item: &mut Item, how: How, context: &mut Context) -> Step {
        let generic = &router.generic;
        set_variables(generic, item, context);
        ::log::debug!(target: "route", "{} router: {}", generic.name, item.address);
        if is_loop(router, index, item) {
            return Step::Next(index + 1);
        }
        let user = match precondition::check(generic, item, how, context, &self.orders) {
            Ok(Met::Yes(user)) => user,
            Ok(Met::No) => {
                ::log::debug!(target: "route", "{} router skipped", generic.name);
                return Step::Next(index + 1);
            }
            Err(trouble) => return self.deferred(generic, item, trouble),
        };
        match set_data(generic, item, context) {
            Ok(true) => {}
            Ok(false) => return self.declined(generic, index, item, context),
            Err(trouble) => return self.deferred(generic, item, trouble),
        }
        let asked = Asked {
            router: generic,
            item,
            how,
            user: user.as_ref(),
            orders: &self.orders,
            transports: &self.transports,
        };
        let verdict = match &router.driver {
            Driver::Accept => accept::run(),
            Driver::Redirect(driver) => driver.run(&asked, context),
            Driver::Manualroute(driver) => driver.run(&asked, context),
        };
        self.act(verdict, generic, index, item, user.as_ref(), how, context)
    }

    #[allow(clippy::too_many_arguments, reason = "all that one step of the walk knows")]
    fn act(
        &self,
        verdict: Verdict,
        generic: &Generic,
        index: usize,
        item: &mut Item,
        user: Option<&UserEntry>,
        how: How,
        context: &mut Context,
    ) -> Step {
        match verdict {
            Verdict::Decline => self.declined(generic, index, item, context),
            Verdict::DeclineWith(text) => {
                item.unrouteable = Some(text);
                self.declined(generic, index, item, context)
            }
            Verdict::PassWith(text) => {
                item.unrouteable = Some(text);
                Step::Next(generic.pass_router.unwrap_or(index + 1))
            }
            Verdict::Pass => Step::Next(generic.pass_router.unwrap_or(index + 1)),
            Verdict::Defer(trouble) => self.deferred(generic, item, trouble),
            Verdict::Fail(trouble) => Step::Done(Routed::Failed(item.clone(), mark(generic, trouble))),
            Verdict::FailAfter(trouble, children) => {
                let failed = Routed::Failed(item.clone(), mark(generic, trouble));
                if how.is_verify() {
                    return Step::Done(failed);
                }
                match self.accepted(Verdict::Children(children), generic, index, item, user, how, context) {
                    Ok(children) => Step::FailedAfter(Box::new([failed, children])),
                    Err(_) => Step::Done(failed),
                }
            }
            Verdict::Discard => {
                // Nothing is left for a copy to be made of, but a wrong value is found all the same.
                match is_on(generic, &generic.unseen, "unseen", context) {
                    Ok(_) => Step::Done(Routed::Discarded(item.clone(), generic.name.clone())),
                    Err(trouble) => self.deferred(generic, item, trouble),
                }
            }
            Verdict::Reroute(domain) => {
                let child = Address::new(item.address.local_part(), domain);
                let ancestor = Arc::new(item.as_ancestor(index, &seen(context)));
                let children = vec![item.child(&ancestor, child)];
                Step::Done(Routed::Children { ancestor, item: item.clone(), children })
            }
            verdict => match self.accepted(verdict, generic, index, item, user, how, context) {
                Ok(answer) => self.unseen(answer, generic, index, item, context),
                Err(trouble) => self.deferred(generic, item, trouble),
            },
        }
    }

    /// An accepted address gets what the generic options say; then its transport or its children.
    #[allow(clippy::too_many_arguments, reason = "all that one step of the walk knows")]
    fn accepted(
        &self,
        verdict: Verdict,
        generic: &Generic,
        index: usize,
        item: &Item,
        user: Option<&UserEntry>,
        how: How,
        context: &mut Context,
    ) -> Result<Routed, Trouble> {
        let fails = match how {
            How::VerifyRecipient => generic.fail_verify_recipient,
            How::VerifySender => generic.fail_verify_sender,
            _ => false,
        };
        if fails {
            let trouble = Trouble {
                router: Some(generic.name.clone()),
                text: format!("{} router forced verify failure", generic.name).into(),
                ..Trouble::default()
            };
            return Ok(Routed::Failed(item.clone(), trouble));
        }
        let mut item = item.clone();
        if !how.is_verify() {
            self.set_errors_to(generic, &mut item, context)?;
            add_headers(generic, &mut item, context)?;
        }
        match verdict {
            Verdict::Children(children) => {
                let mut ancestor = item.as_ancestor(index, &seen(context));
                ancestor.hide_children = children.hide;
                ancestor.one_time = children.one_time;
                let ancestor = Arc::new(ancestor);
                let start = generic.redirect_router.unwrap_or(0);
                let route = self.route_of(generic, user, context)?;
                let made = redirect::make_items(&children, &item, &ancestor, start, &route);
                Ok(Routed::Children { ancestor, item, children: made })
            }
            Verdict::Accept { transport, hosts, host_list } => {
                let mut route = self.route_of(generic, user, context)?;
                route.transport = match transport {
                    Some(name) => name,
                    None => self.transport_name(generic, how, context)?,
                };
                route.vars.transport_name = route.transport.clone();
                route.vars.host = host_list.map(Value::clean);
                route.log_as_local = generic
                    .log_as_local
                    .unwrap_or(self.transports.get(&route.transport).is_some_and(|remote| !remote));
                route.hosts = hosts;
                item.route = Some(Box::new(route));
                Ok(Routed::Assigned(item))
            }
            _ => Err(Trouble::defer(generic.name.as_bstr(), "router gave no answer")),
        }
    }

    fn route_of(
        &self,
        generic: &Generic,
        user: Option<&UserEntry>,
        context: &Context,
    ) -> Result<Route, Trouble> {
        let dynamic = context.dynamic.borrow();
        let (domain_data, local_part_data) = (dynamic.domain_data.clone(), dynamic.local_part_data.clone());
        drop(dynamic);
        let password_home = user.map(|user| Value::clean(path_bytes(&user.home)));
        Ok(Route {
            router: generic.name.clone(),
            vars: context.address.clone(),
            domain_data,
            local_part_data,
            user: identity(generic, user, context)?,
            initgroups: generic.initgroups,
            home: generic.transport_home_directory.clone(),
            default_home: password_home.or_else(|| context.address.home.clone()),
            current_directory: generic.transport_current_directory.clone(),
            disable_logging: generic.disable_logging,
            shown_local_part: context
                .address
                .local_part
                .as_ref()
                .map_or_else(BString::default, |part| part.bytes().to_owned()),
            ..Route::default()
        })
    }

    fn transport_name(&self, generic: &Generic, how: How, context: &Context) -> Result<BString, Trouble> {
        let Some(template) = &generic.transport else {
            if how.is_verify() {
                return Ok(BString::default());
            }
            let text = format!("error in {} router: transport missing", generic.name);
            return Err(Trouble::defer(generic.name.as_bstr(), text));
        };
        let name = expand::expand(template, context)
            .map_err(|error| expand_trouble(generic, template, "transport", &error))?;
        known_transport(generic, name, &self.transports)
    }

    /// `errors_to` must be an address that verifies; else the errors go where they went before.
    fn set_errors_to(
        &self,
        generic: &Generic,
        item: &mut Item,
        context: &mut Context,
    ) -> Result<(), Trouble> {
        let Some(template) = &generic.errors_to else { return Ok(()) };
        let value = match expand::expand(template, context) {
            Ok(value) => value,
            Err(ExpandError::Forced(_)) => return Ok(()),
            Err(error) => return Err(expand_trouble(generic, template, "errors_to", &error)),
        };
        let text = value.bytes().trim();
        if text.is_empty() {
            item.errors_to = Some(BString::default());
            return Ok(());
        }
        let mut address = Address::split(text);
        if address.domain().is_empty() {
            address = Address::new(address.local_part(), context.globals.qualify_recipient.clone());
        }
        if verify::is_routable(self, context, &address) {
            item.errors_to = Some(address.to_bytes());
        }
        Ok(())
    }

    fn unseen(
        &self,
        answer: Routed,
        generic: &Generic,
        index: usize,
        item: &Item,
        context: &Context,
    ) -> Step {
        match is_on(generic, &generic.unseen, "unseen", context) {
            Ok(false) => Step::Done(answer),
            Ok(true) => {
                // Both ways have the same parent: it is finished only when both are.
                let (answer, ancestor) = with_parent(answer, || item.as_ancestor(index, &seen(context)));
                let mut copy = item.child(&ancestor, item.address.clone());
                copy.headers_add.clear();
                copy.headers_remove.clear();
                Step::Unseen(answer, Box::new(copy))
            }
            Err(trouble) => self.deferred(generic, item, trouble),
        }
    }

    fn declined(&self, generic: &Generic, index: usize, item: &Item, context: &Context) -> Step {
        match is_on(generic, &generic.more, "more", context) {
            Ok(true) => Step::Next(index + 1),
            Ok(false) => Step::NoMore,
            Err(trouble) => self.deferred(generic, item, trouble),
        }
    }

    fn deferred(&self, generic: &Generic, item: &Item, trouble: Trouble) -> Step {
        Step::Done(Routed::Deferred(item.clone(), mark(generic, trouble)))
    }
}

/// The answer with the address itself as parent of what becomes of it, and that parent.
fn with_parent(answer: Routed, make: impl FnOnce() -> Ancestor) -> (Routed, Arc<Ancestor>) {
    match answer {
        Routed::Children { ancestor, item, children } => {
            let shared = Arc::clone(&ancestor);
            (Routed::Children { ancestor, item, children }, shared)
        }
        Routed::Assigned(mut item) => {
            let ancestor = Arc::new(make());
            item.parent = Some(Arc::clone(&ancestor));
            (Routed::Assigned(item), ancestor)
        }
        other => (other, Arc::new(make())),
    }
}

/// What one router's turn comes to.
enum Step {
    Next(usize),
    NoMore,
    Done(Routed),
    FailedAfter(Box<[Routed; 2]>),
    Unseen(Routed, Box<Item>),
}

fn compile_driver(instance: &Instance) -> Result<Driver, Vec<ConfigError>> {
    match instance.driver.name {
        "accept" => accept::compile(instance).map(|()| Driver::Accept),
        "redirect" => redirect::Redirect::compile(instance).map(|driver| Driver::Redirect(Box::new(driver))),
        "manualroute" => manualroute::Manualroute::compile(instance).map(Driver::Manualroute),
        other => Err(vec![ConfigError {
            at: instance.at.clone(),
            message: format!("router driver \"{other}\" is known but not supported yet"),
            line: None,
            unsupported: true,
        }]),
    }
}

fn mark(generic: &Generic, mut trouble: Trouble) -> Trouble {
    trouble.retry_use_local_part = generic.retry_use_local_part;
    trouble.disable_logging = generic.disable_logging;
    trouble
}

/// The answer when no router took the address.
fn unrouteable(item: Item, last: Option<&Router>, context: &Context) -> Routed {
    let text = item.unrouteable.clone();
    let only_for_log = text.is_some();
    let text = text.unwrap_or_else(|| "Unrouteable address".into());
    let mut trouble = Trouble { text, only_for_log, ..Trouble::default() };
    if let Some(template) = last.and_then(|router| router.generic.cannot_route_message.as_ref()) {
        match expand::expand(template, context) {
            Ok(text) => {
                trouble.text = text.into_bytes();
                trouble.for_peer = true;
                trouble.only_for_log = false;
            }
            Err(ExpandError::Forced(_)) => {}
            Err(error) => {
                let line = format!("failed to expand cannot_route_message: {error}");
                trouble.log_lines.push(line.into());
            }
        }
    }
    Routed::Failed(item, trouble)
}

/// A router is skipped for an address that it made from the same address before.
fn is_loop(router: &Router, index: usize, item: &Item) -> bool {
    let no_repeat = matches!(&router.driver, Driver::Redirect(driver) if !driver.repeat_use);
    ancestors(item).any(|ancestor| {
        ancestor.router == index && (no_repeat || same_address(&ancestor.address, &item.address))
    })
}

fn add_headers(router: &Generic, item: &mut Item, context: &Context) -> Result<(), Trouble> {
    for list in &router.headers_add {
        for text in items(list.text(), b'\n') {
            let template = Template::parse(&text, list.at())
                .map_err(|error| Trouble::defer(router.name.as_bstr(), error.to_string()))?;
            match expand::expand(&template, context) {
                Ok(value) if value.is_empty() => {}
                Ok(value) => {
                    let mut line = value.into_bytes();
                    if !line.ends_with(b"\n") {
                        line.push(b'\n');
                    }
                    item.headers_add.push(line);
                }
                Err(ExpandError::Forced(_)) => {}
                Err(error) => return Err(expand_trouble(router, &template, "headers_add", &error)),
            }
        }
    }
    for list in &router.headers_remove {
        item.headers_remove.extend(items(list.text(), b':'));
    }
    Ok(())
}

/// A boolean option that may be an expansion.
pub fn is_on(router: &Generic, flag: &Flag, option: &str, context: &Context) -> Result<bool, Trouble> {
    let (template, default) = match flag {
        Flag::Fixed(on) => return Ok(*on),
        Flag::Expanded(template, default) => (template, *default),
    };
    let value = match expand::expand(template, context) {
        Ok(value) => value,
        Err(ExpandError::Forced(_)) => return Ok(default),
        Err(error) => return Err(expand_trouble(router, template, option, &error)),
    };
    match expand::boolean(value.bytes()) {
        Some(on) => Ok(on),
        None => {
            let text = format!(
                "\"{}\" is not a valid value for the \"{option}\" option in the {} router",
                value.bytes(),
                router.name
            );
            Err(Trouble::defer(router.name.as_bstr(), text))
        }
    }
}

fn seen(context: &Context) -> Address {
    let part = |value: &Option<Value>| value.as_ref().map_or_else(BString::default, |v| v.bytes().to_owned());
    Address::new(part(&context.address.local_part), part(&context.address.domain))
}

fn path_bytes(path: &std::path::Path) -> &[u8] {
    use std::os::unix::ffi::OsStrExt;
    path.as_os_str().as_bytes()
}

/// A transport's name, if there is such a transport.
pub fn known_transport(
    router: &Generic,
    name: Value,
    transports: &HashMap<BString, bool>,
) -> Result<BString, Trouble> {
    let known = transports.contains_key(name.bytes());
    match name.to_clean("name of transport") {
        Ok(name) if known => Ok(name.into()),
        Ok(name) => {
            let text = format!("transport \"{name}\" not found in {} router", router.name);
            Err(Trouble::defer(router.name.as_bstr(), text))
        }
        Err(error) => Err(Trouble::defer(router.name.as_bstr(), error.to_string())),
    }
}
