//! Local deliveries, one address after the other: the options are expanded here, the act is an order that is
//! carried out with the user's rights.

use super::grouping::{envelope_to, wire_address};
use super::message::{Attempt, RetryKey, Setback};
use super::report;
use super::retry::{errno, is_waiting};
use super::routing::{defer, fail, setback};
use crate::as_user::order::{Answer, Append, Identity, Order};
use crate::expand::{self, Context, ExpandError};
use crate::mail::date;
use crate::route::Item;
use crate::route::identity::{find_group, find_user};
use crate::route::item::Special;
use crate::route::precondition::items;
use crate::spool::layout::file_name;
use crate::syntax::Template;
use crate::text::Value;
use crate::transport::appendfile::{Appendfile, errno as append_errno};
use crate::transport::registry::Generic;
use crate::transport::write_message::HeaderChanges;
use crate::transport::{Delivered, Driver, Job, JobAddress, Outcome, Problem, Transport};
use bstr::{BStr, BString, ByteSlice};
use std::fs::File;
use std::sync::Arc;
use std::time::SystemTime;

/// Delivers all addresses of local transports.
pub fn deliver_all(attempt: &mut Attempt) {
    while let Some(item) = attempt.local.pop() {
        if !attempt.seen.insert(item.unique()) {
            attempt.twins.push(item);
            continue;
        }
        deliver_one(attempt, item);
        if !attempt.local.is_empty() || !attempt.remote.is_empty() {
            attempt.write_journal();
        }
    }
}

fn deliver_one(attempt: &mut Attempt, item: Item) {
    let route = item.route.clone().unwrap_or_default();
    ::log::debug!(target: "transport", "{} by {}", item.address, route.transport);
    let base = |item: Item, problem: Problem| Setback {
        router: route.router.clone(),
        transport: route.transport.clone(),
        quiet: route.disable_logging,
        ..setback(item, problem)
    };
    let Some(transport) = attempt.env.transports.get(route.transport.as_bstr()).cloned() else {
        let problem = problem(-1, format!("{} transport not found", route.transport));
        defer(attempt, base(item, problem));
        return;
    };
    let base = |item: Item, problem: Problem| {
        let told = base(item, problem);
        Setback { quiet: told.quiet || transport.generic.disable_logging, ..told }
    };
    let key = retry_key(&item, &transport);
    if attempt.how.queue_run && !attempt.how.force && is_waiting(attempt, key.key.as_bstr()) {
        let problem = problem(errno::LOCAL_RETRY, "Retry time not yet reached");
        let quiet = !attempt.env.log().selectors().has(crate::log::Selector::RetryDefer);
        defer(attempt, Setback { quiet, ..base(item, problem) });
        return;
    }
    let start = SystemTime::now();
    match run(attempt, &item, &transport) {
        Outcome::Delivered(done) => {
            let took = start.elapsed().unwrap_or_default();
            report::delivered(attempt, &item, &done, true, took);
            if !attempt.message.envelope.first_time && attempt.env.hints.retry(key.key.as_bstr()).is_some() {
                attempt.env.hints.remove_retry(key.key.as_bstr());
            }
            attempt.finish(item);
        }
        Outcome::Deferred(problem) => {
            let retry = if problem.our_fault { Vec::new() } else { vec![key] };
            defer(attempt, Setback { retry, ..base(item, problem) });
        }
        Outcome::Failed(problem) => {
            fail(attempt, base(item, problem));
        }
    }
}

fn retry_key(item: &Item, transport: &Transport) -> RetryKey {
    let whole = transport.generic.retry_use_local_part;
    let (text, subject) = if item.special.is_some() {
        (item.unique(), item.address.to_bytes())
    } else if whole {
        (item.address.to_bytes(), item.address.to_bytes())
    } else {
        (item.address.domain().into(), [&b"*@"[..], item.address.domain()].concat().into())
    };
    let key = [b"T:", text.as_slice()].concat().into();
    RetryKey { key, subject, other: None, by_message: false, host: false }
}

fn run(attempt: &mut Attempt, item: &Item, transport: &Arc<Transport>) -> Outcome {
    let Driver::Appendfile(driver) = &transport.driver else {
        return Outcome::Deferred(problem(-1, "not a local transport"));
    };
    match prepare(attempt, item, transport, driver) {
        Ok((who, order)) => carry_out(attempt, &who, &order),
        Err(outcome) => *outcome,
    }
}

/// Everything that needs expanding: who, and what.
fn prepare(
    attempt: &mut Attempt,
    item: &Item,
    transport: &Arc<Transport>,
    driver: &Appendfile,
) -> Result<(Identity, Order), Box<Outcome>> {
    set_variables(&mut attempt.context, item, transport.name.as_bstr());
    let defer = |problem: Problem| Box::new(Outcome::Deferred(problem));
    let home = home_directory(attempt, item, transport).map_err(defer)?;
    attempt.context.address.home = home.clone();
    let who = identity(attempt, item, transport).map_err(defer)?;
    check_size(attempt, transport)?;
    let return_path = return_path(attempt, item, &transport.generic, &attempt.context).map_err(defer)?;
    attempt.context.message.return_path = Some(return_path.clone());
    let (add, remove) = header_changes(item, &transport.generic, &attempt.context).map_err(defer)?;
    let zone = attempt.env.log().zone().clone();
    let date = transport.generic.delivery_date_add.then(|| date::full(SystemTime::now(), &zone));
    let to = transport.generic.envelope_to_add.then(|| envelope_to(attempt, std::slice::from_ref(item)));
    let changes = HeaderChanges {
        return_path: transport.generic.return_path_add.then_some(return_path.as_bstr()),
        envelope_to: to.as_ref().map(|to| to.as_bstr()),
        delivery_date: date.as_ref().map(|date| date.as_bytes().as_bstr()),
        remove: &remove,
        add: &add,
    };
    let current_directory = current_directory(attempt, item, transport).map_err(defer)?;
    // The driver changes $message_size while it expands, so it gets a context of its own.
    let mut own = attempt.context.clone();
    let job = Job {
        message: &attempt.message,
        addresses: vec![job_address(item, &transport.generic)],
        return_path: return_path.clone(),
        headers_add: Vec::new(),
        late_headers: None,
        headers_remove: Vec::new(),
        hosts: Vec::new(),
        context: &attempt.context,
        user: Some((who.uid, who.gid)),
    };
    let home = home.map(Value::into_bytes);
    let order = driver
        .plan(&transport.generic, &job, &changes, &mut own, home.as_ref().map(|home| home.as_bstr()))
        .map(|order| Append { current_directory, ..order })
        .map_err(|problem| {
            if problem.text.starts_with(b"Tainted") || problem.text.starts_with(b"Mandatory") {
                report_panic(attempt, &problem);
            }
            defer(problem)
        })?;
    Ok((who, Order::Append(order)))
}

fn report_panic(attempt: &Attempt, problem: &Problem) {
    let text = format!("{} {}", attempt.message.id, problem.text);
    attempt.env.log().write(crate::log::Which::Panic, text.as_bytes().as_bstr());
}

fn carry_out(attempt: &Attempt, who: &Identity, order: &Order) -> Outcome {
    let path = attempt.message.directory.join(file_name(&attempt.message.id, 'D'));
    let answer = File::open(&path).and_then(|data| attempt.env.as_user.carry_out(who, order, &[&data]));
    match answer {
        Ok(Answer::Done(done)) => Outcome::Delivered(Delivered {
            local_target: Some(done.file),
            size: done.size,
            ..Delivered::default()
        }),
        Ok(Answer::Trouble(trouble)) => {
            let problem = Problem {
                text: trouble.text,
                errno: if trouble.errno == 0 { -1 } else { trouble.errno },
                more_errno: trouble.more_errno,
                our_fault: trouble.ours,
                ..Problem::default()
            };
            if trouble.permanent { Outcome::Failed(problem) } else { Outcome::Deferred(problem) }
        }
        Ok(_) => {
            Outcome::Deferred(Problem { our_fault: true, ..problem(-1, "unexpected answer to an order") })
        }
        Err(error) => Outcome::Deferred(Problem {
            our_fault: true,
            ..problem(-1, format!("delivery could not be carried out: {error}"))
        }),
    }
}

/// Variables of the address, as its router left them.
pub fn set_variables(context: &mut Context, item: &Item, transport: &BStr) {
    let Some(route) = &item.route else { return };
    context.address = route.vars.clone();
    context.address.transport_name = transport.into();
    context.address.router_name.clear();
    let mut dynamic = context.dynamic.borrow_mut();
    dynamic.domain_data = route.domain_data.clone();
    dynamic.local_part_data = route.local_part_data.clone();
}

/// What a transport gets of one address.
pub fn job_address(item: &Item, generic: &Generic) -> JobAddress {
    let route = item.route.clone().unwrap_or_default();
    let redirected = match &item.special {
        Some(Special::File(path) | Special::Directory(path)) => Some(path.clone()),
        Some(Special::Pipe(command)) => Some(command.derive([&b"|"[..], command.bytes()].concat())),
        None => None,
    };
    JobAddress {
        address: wire_address(item, generic.rcpt_include_affixes),
        variables: route.vars,
        domain_data: route.domain_data,
        local_part_data: route.local_part_data,
        redirected,
        orcpt: item.orcpt.clone(),
        dsn_flags: item.dsn_flags,
    }
}

fn home_directory(attempt: &Attempt, item: &Item, transport: &Transport) -> Result<Option<Value>, Problem> {
    let route = item.route.as_deref();
    let template = transport.generic.home_directory.as_ref().or(route.and_then(|route| route.home.as_ref()));
    match template {
        Some(template) => expand_for(transport, "home directory", template, &attempt.context).map(Some),
        None => Ok(route.and_then(|route| route.default_home.clone())),
    }
}

/// The transport's, the router's, or the home directory; empty if there is none.
fn current_directory(attempt: &Attempt, item: &Item, transport: &Transport) -> Result<BString, Problem> {
    let of_router = item.route.as_deref().and_then(|route| route.current_directory.as_ref());
    match transport.generic.current_directory.as_ref().or(of_router) {
        Some(template) => {
            expand_for(transport, "current directory", template, &attempt.context).map(Value::into_bytes)
        }
        None => Ok(attempt.context.address.home.clone().map(Value::into_bytes).unwrap_or_default()),
    }
}

fn expand_for(
    transport: &Transport,
    what: &str,
    template: &Template,
    context: &Context,
) -> Result<Value, Problem> {
    expand::expand(template, context).map_err(|error| {
        let text = format!(
            "{what} \"{}\" failed to expand for {} transport: {error}",
            template.text(),
            transport.name
        );
        problem(-1, text)
    })
}

/// The transport's user, else the router's, else our own.
fn identity(attempt: &Attempt, item: &Item, transport: &Transport) -> Result<Identity, Problem> {
    let globals = &attempt.env.globals;
    let route = item.route.as_deref();
    let of_router = route.and_then(|route| route.user);
    let generic = &transport.generic;
    let (mut uid, gid) = of_router.unwrap_or((globals.oxim_uid, globals.oxim_gid));
    let mut gid = Some(gid);
    if let Some(template) = &generic.user {
        let name = expand_for(transport, "user", template, &attempt.context)?;
        (uid, gid) = find_user(name.bytes().trim().as_bstr(), &attempt.context)
            .map_err(|_| not_found(attempt, "user", name.bytes(), template, transport))?;
    }
    if let Some(template) = &generic.group {
        let name = expand_for(transport, "group", template, &attempt.context)?;
        gid = find_group(name.bytes().trim().as_bstr(), &attempt.context)
            .map(Some)
            .map_err(|_| not_found(attempt, "group", name.bytes(), template, transport))?;
    }
    let Some(gid) = gid else {
        let text = format!("user set without group for the {} transport", transport.name);
        attempt.env.log().panic(format!("{} {text}", attempt.message.id).as_bytes().as_bstr());
        return Err(problem(append_errno::USER, text));
    };
    if uid == 0 && globals.oxim_uid != 0 {
        let text = format!("User 0 set for {} transport is on the fixed_never_users list", transport.name);
        let problem = problem(append_errno::USER, text);
        let line = format!("{} {}", attempt.message.id, problem.text);
        attempt.env.log().panic(line.as_bytes().as_bstr());
        return Err(problem);
    }
    let initgroups =
        generic.initgroups || (generic.user.is_none() && route.is_some_and(|route| route.initgroups));
    let login =
        if initgroups { globals.users.by_uid(uid).ok().flatten().map(|user| user.name) } else { None };
    Ok(Identity {
        uid,
        gid,
        initgroups: login,
        router: route.map_or_else(BString::default, |route| route.router.clone()),
        transport: transport.name.clone(),
    })
}

fn not_found(
    attempt: &Attempt,
    what: &str,
    name: &BStr,
    template: &Template,
    transport: &Transport,
) -> Problem {
    let text = format!(
        "Failed to find {what} \"{name}\" from expanded string \"{}\" for the {} transport",
        template.text(),
        transport.name
    );
    attempt.env.log().panic(format!("{} {text}", attempt.message.id).as_bytes().as_bstr());
    problem(append_errno::USER, text)
}

fn check_size(attempt: &Attempt, transport: &Transport) -> Result<(), Box<Outcome>> {
    let Some(template) = &transport.generic.message_size_limit else { return Ok(()) };
    let defer = |problem: Problem| Box::new(Outcome::Deferred(problem));
    let value = expand_for(transport, "message_size_limit", template, &attempt.context).map_err(defer)?;
    let Some(limit) = size_of(value.bytes()) else {
        let text = format!(
            "bad integer \"{}\" for message_size_limit in {} transport",
            value.bytes(),
            transport.name
        );
        return Err(defer(problem(-1, text)));
    };
    if limit > 0 && attempt.context.message.size > limit {
        let text = format!("message is too big (transport limit = {limit})");
        return Err(Box::new(Outcome::Failed(problem(0, text))));
    }
    Ok(())
}

/// A number with K, M or G.
fn size_of(text: &BStr) -> Option<u64> {
    let text = text.trim();
    let (digits, factor) = match text.last()?.to_ascii_uppercase() {
        b'K' => (&text[..text.len() - 1], 1 << 10),
        b'M' => (&text[..text.len() - 1], 1 << 20),
        b'G' => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1_u64),
    };
    digits.to_str().ok()?.parse::<u64>().ok()?.checked_mul(factor)
}

/// The return path of a delivery: the transport's, else `errors_to`, else the sender.
pub fn return_path(
    attempt: &Attempt,
    item: &Item,
    generic: &Generic,
    context: &Context,
) -> Result<BString, Problem> {
    let inherited = attempt.errors_to(item);
    let Some(template) = &generic.return_path else { return Ok(inherited) };
    match expand::expand(template, context) {
        Ok(value) => Ok(value.into_bytes()),
        Err(ExpandError::Forced(_)) => Ok(inherited),
        Err(error) => {
            Err(problem(-1, format!("Failed to expand return path \"{}\": {error}", template.text())))
        }
    }
}

/// Headers to add and names to remove: the routers' and the transport's.
pub fn header_changes(
    item: &Item,
    generic: &Generic,
    context: &Context,
) -> Result<(Vec<BString>, Vec<BString>), Problem> {
    let mut add = item.headers_add.clone();
    let mut remove = Vec::new();
    let at = crate::syntax::Position::nowhere("headers");
    for name in &item.headers_remove {
        push_expanded(&mut remove, name, &at, context, "headers_remove")?;
    }
    for list in &generic.headers_remove {
        for name in items(list.text(), b':') {
            push_expanded(&mut remove, &name, list.at(), context, "headers_remove")?;
        }
    }
    for list in &generic.headers_add {
        for text in items(list.text(), b'\n') {
            push_expanded(&mut add, &text, list.at(), context, "headers_add")?;
        }
    }
    Ok((add, remove))
}

fn push_expanded(
    into: &mut Vec<BString>,
    text: &BString,
    at: &crate::syntax::Position,
    context: &Context,
    option: &str,
) -> Result<(), Problem> {
    let template = Template::parse(text, at).map_err(|error| problem(-1, error.to_string()))?;
    match expand::expand(&template, context) {
        Ok(value) if value.bytes().trim().is_empty() => Ok(()),
        Ok(value) => {
            into.push(value.bytes().trim_end().into());
            Ok(())
        }
        Err(ExpandError::Forced(_)) => Ok(()),
        Err(error) => Err(problem(-1, format!("failed to expand {option} \"{text}\": {error}"))),
    }
}

fn problem(errno: i32, text: impl Into<BString>) -> Problem {
    Problem { text: text.into(), errno, ..Problem::default() }
}
