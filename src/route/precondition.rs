//! The tests that decide whether a router runs, in the order of spec section "Router preconditions":
//! affixes, verify / address_test / verify_only / expn, domains, local_parts, check_local_user,
//! router_home_directory, senders, require_files, condition.

use super::chain::{How, Orders};
use super::generic::Generic;
use super::item::{Item, Trouble};
use crate::as_user::order::{Answer, CheckFiles, Identity, Order};
use crate::expand::context::UserEntry;
use crate::expand::{self, Context, ExpandError};
use crate::matching::{self, Match, MatchError};
use crate::syntax::Template;
use crate::text::Value;
use bstr::{BStr, BString, ByteSlice};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What the tests found.
pub enum Met {
    /// The router runs; the password entry if `check_local_user` found one.
    Yes(Option<UserEntry>),
    /// The router is skipped.
    No,
}

/// Checks all preconditions. Sets the address variables in `context`, which the router then sees.
pub fn check(
    router: &Generic,
    item: &Item,
    how: How,
    context: &mut Context,
    orders: &Orders,
) -> Result<Met, Trouble> {
    if !check_affixes(router, context) || !check_how(router, how) {
        return Ok(Met::No);
    }
    if !check_domains(router, context)? || !check_local_parts(router, context)? {
        return Ok(Met::No);
    }
    let mut user = None;
    if router.check_local_user {
        match find_local_user(router, context)? {
            Some(entry) => user = Some(entry),
            None => return Ok(Met::No),
        }
    }
    set_home(router, context)?;
    print_debug(router, how, context);
    if !check_senders(router, item, context)? || !check_files(router, context, orders)? {
        return Ok(Met::No);
    }
    Ok(if check_conditions(router, context)? { Met::Yes(user) } else { Met::No })
}

fn check_affixes(router: &Generic, context: &mut Context) -> bool {
    let Some(full) = context.address.local_part.clone() else { return true };
    let mut rest = full.bytes().to_owned();
    let mut prefix = None;
    if let Some(list) = &router.local_part_prefix {
        prefix = items(list.text(), b':').iter().find_map(|affix| match_prefix(&rest, affix));
        if prefix.is_none() && !router.local_part_prefix_optional {
            return false;
        }
    }
    if let Some((length, _)) = prefix {
        rest.drain(..length);
    }
    let mut suffix = None;
    if let Some(list) = &router.local_part_suffix {
        suffix = items(list.text(), b':').iter().find_map(|affix| match_suffix(&rest, affix));
        if suffix.is_none() && !router.local_part_suffix_optional {
            return false;
        }
    }
    if let Some((length, _)) = suffix {
        let kept = rest.len() - length;
        rest.truncate(kept);
    }
    let part = |bytes: &[u8]| Some(full.derive(bytes));
    let vars = &mut context.address;
    if let Some((length, wild)) = prefix {
        vars.local_part_prefix = part(&full.bytes()[..length]);
        vars.local_part_prefix_v = part(&full.bytes()[..wild]);
    }
    if let Some((length, wild)) = suffix {
        let start = full.bytes().len() - length;
        vars.local_part_suffix = part(&full.bytes()[start..]);
        vars.local_part_suffix_v = part(&full.bytes()[full.bytes().len() - wild..]);
    }
    vars.local_part = Some(full.derive(rest));
    true
}

/// Length of the prefix and of its wild part; a wild part is as long as it can be.
fn match_prefix(local_part: &[u8], affix: &[u8]) -> Option<(usize, usize)> {
    match affix.strip_prefix(b"*") {
        None => starts_with(local_part, affix).then_some((affix.len(), 0)),
        Some(fixed) => (0..=local_part.len().saturating_sub(fixed.len()))
            .rev()
            .find(|at| starts_with(&local_part[*at..], fixed))
            .map(|at| (at + fixed.len(), at)),
    }
}

/// The same for a suffix.
fn match_suffix(local_part: &[u8], affix: &[u8]) -> Option<(usize, usize)> {
    match affix.strip_suffix(b"*") {
        None => {
            let start = local_part.len().checked_sub(affix.len())?;
            starts_with(&local_part[start..], affix).then_some((affix.len(), 0))
        }
        Some(fixed) => (0..local_part.len()).find(|at| starts_with(&local_part[*at..], fixed)).map(|at| {
            let length = local_part.len() - at;
            (length, length - fixed.len())
        }),
    }
}

fn starts_with(text: &[u8], start: &[u8]) -> bool {
    text.len() >= start.len() && text[..start.len()].eq_ignore_ascii_case(start)
}

fn check_how(router: &Generic, how: How) -> bool {
    match how {
        How::VerifySender => router.verify_sender,
        How::VerifyRecipient => router.verify_recipient,
        How::AddressTest => router.address_test && !router.verify_only,
        How::Expand => router.expn && !router.verify_only,
        How::Deliver => !router.verify_only,
    }
}

fn check_domains(router: &Generic, context: &mut Context) -> Result<bool, Trouble> {
    context.dynamic.borrow_mut().domain_data = None;
    let Some(list) = &router.domains else { return Ok(true) };
    let domain = context.address.domain.clone().unwrap_or_default();
    match matching::domain(context, &domain, list) {
        Ok(Match::Yes(data)) => {
            context.dynamic.borrow_mut().domain_data = data;
            Ok(true)
        }
        Ok(Match::No) => Ok(false),
        Err(error) => Err(list_trouble(router, "domains", &error)),
    }
}

fn check_local_parts(router: &Generic, context: &mut Context) -> Result<bool, Trouble> {
    context.dynamic.borrow_mut().local_part_data = None;
    let Some(list) = &router.local_parts else { return Ok(true) };
    let local_part = context.address.local_part.clone().unwrap_or_default();
    match matching::local_part(context, &local_part, list, router.caseful_local_part) {
        Ok(Match::Yes(data)) => {
            context.dynamic.borrow_mut().local_part_data = data;
            Ok(true)
        }
        Ok(Match::No) => Ok(false),
        Err(error) => Err(list_trouble(router, "local_parts", &error)),
    }
}

fn find_local_user(router: &Generic, context: &mut Context) -> Result<Option<UserEntry>, Trouble> {
    let local_part = context.address.local_part.clone().unwrap_or_default();
    let found = context.globals.users.by_name(local_part.bytes()).map_err(|error| {
        Trouble::defer(
            router.name.as_bstr(),
            format!("failed to look up user \"{}\": {error}", local_part.bytes()),
        )
    })?;
    if let Some(entry) = &found {
        context.address.local_user = Some((entry.uid, entry.gid));
        context.address.home = Some(Value::clean(entry.home.as_os_str().as_bytes()));
        // The name is in the user data base: no longer outside text.
        context.dynamic.borrow_mut().local_part_data = Some(Value::clean(local_part.bytes()));
    }
    Ok(found)
}

fn set_home(router: &Generic, context: &mut Context) -> Result<(), Trouble> {
    let Some(template) = &router.router_home_directory else { return Ok(()) };
    match expand::expand(template, context) {
        Ok(home) => context.address.home = Some(home),
        Err(ExpandError::Forced(_)) => {}
        Err(error) => return Err(expand_trouble(router, template, "router_home_directory", &error)),
    }
    Ok(())
}

fn print_debug(router: &Generic, how: How, context: &Context) {
    let Some(template) = &router.debug_print else { return };
    if how != How::AddressTest && !log::log_enabled!(log::Level::Debug) {
        return;
    }
    match expand::expand(template, context) {
        Ok(text) => log::debug!(target: "route", "{}", text.bytes()),
        Err(error) => {
            log::debug!(target: "route", "failed to expand debug_output \"{}\": {error}", template.text())
        }
    }
}

fn check_senders(router: &Generic, item: &Item, context: &Context) -> Result<bool, Trouble> {
    let Some(list) = &router.senders else { return Ok(true) };
    let _ = item;
    let sender = context.message.sender.clone().unwrap_or_default();
    match matching::address(context, &Value::tainted(sender.to_bytes()), list) {
        Ok(answer) => Ok(matches!(answer, Match::Yes(_))),
        Err(error) => Err(list_trouble(router, "senders", &error)),
    }
}

fn check_conditions(router: &Generic, context: &Context) -> Result<bool, Trouble> {
    for template in &router.conditions {
        let value = match expand::expand(template, context) {
            Ok(value) => value,
            Err(ExpandError::Forced(_)) => return Ok(false),
            Err(error) => return Err(expand_trouble(router, template, "condition", &error)),
        };
        let text = value.bytes().to_ascii_lowercase();
        if matches!(text.as_slice(), b"" | b"0" | b"no" | b"false") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// `require_files`: paths that must or (`!`) must not be there; an item without slash is a user (and
/// group) who must be able to see the files after it.
fn check_files(router: &Generic, context: &Context, orders: &Orders) -> Result<bool, Trouble> {
    let Some(list) = &router.require_files else { return Ok(true) };
    let mut user: Option<(u32, u32)> = None;
    for item in items(list.text(), b':') {
        let template = Template::parse(&item, list.at())
            .map_err(|error| Trouble::defer(router.name.as_bstr(), error.to_string()))?;
        let text = match expand::expand(&template, context) {
            Ok(value) => value,
            Err(ExpandError::Forced(_)) => continue,
            Err(error) => return Err(expand_trouble(router, &template, "require_files", &error)),
        };
        let text = text.bytes().trim().to_owned();
        if text.is_empty() {
            continue;
        }
        if !text.contains(&b'/') {
            match named_user(router, text.as_bstr(), context)? {
                Some(found) => user = Some(found),
                None => return Ok(false),
            }
        } else if !check_file(router, text.as_bstr(), user, orders)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn named_user(router: &Generic, text: &BStr, context: &Context) -> Result<Option<(u32, u32)>, Trouble> {
    let (name, group) = match text.split_once_str(",") {
        Some((name, group)) => (name.trim(), Some(group.trim())),
        None => (text.as_bytes(), None),
    };
    let users = &context.globals.users;
    let io = |error: std::io::Error| {
        Trouble::defer(router.name.as_bstr(), format!("user look-up failed: {error}"))
    };
    let Some(entry) = users.by_name(name).map_err(io)? else { return Ok(None) };
    match group {
        None => Ok(Some((entry.uid, entry.gid))),
        Some(group) => Ok(users.group(group).map_err(io)?.map(|gid| (entry.uid, gid))),
    }
}

fn check_file(
    router: &Generic,
    item: &BStr,
    user: Option<(u32, u32)>,
    orders: &Orders,
) -> Result<bool, Trouble> {
    let mut path = item.as_bytes();
    let (mut wanted, mut eacces_is_absent) = (true, false);
    loop {
        match path.first() {
            Some(b'!') => wanted = !wanted,
            Some(b'+') => eacces_is_absent = true,
            _ => break,
        }
        path = path[1..].trim_start();
    }
    let errno = match user {
        None => stat(path),
        Some(identity) => stat_as_user(router, path, identity, orders)?,
    };
    match errno {
        0 => Ok(wanted),
        libc::ENOENT | libc::ENOTDIR => Ok(!wanted),
        libc::EACCES if eacces_is_absent => Ok(!wanted),
        other => {
            let error = std::io::Error::from_raw_os_error(other);
            let text = format!("require_files: error for {}: {error}", path.as_bstr());
            Err(Trouble::defer(router.name.as_bstr(), text))
        }
    }
}

fn stat(path: &[u8]) -> i32 {
    match std::fs::metadata(Path::new(std::ffi::OsStr::from_bytes(path))) {
        Ok(_) => 0,
        Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
    }
}

fn stat_as_user(
    router: &Generic,
    path: &[u8],
    (uid, gid): (u32, u32),
    orders: &Orders,
) -> Result<i32, Trouble> {
    let Some(as_user) = orders else { return Ok(stat(path)) };
    let who = Identity { uid, gid, router: router.name.clone(), ..Identity::default() };
    let order = Order::CheckFiles(CheckFiles { paths: vec![path.into()] });
    let not_done = |why: String| Trouble {
        our_fault: true,
        ..Trouble::defer(router.name.as_bstr(), format!("require_files: {why}"))
    };
    match as_user.carry_out(&who, &order, &[]) {
        Ok(Answer::Checked(errors)) => Ok(errors.first().copied().unwrap_or(libc::EIO)),
        Ok(Answer::Trouble(trouble)) => {
            Err(Trouble { our_fault: trouble.ours, ..Trouble::defer(router.name.as_bstr(), trouble.text) })
        }
        Ok(_) => Err(not_done("unexpected answer".into())),
        Err(error) => Err(not_done(error.to_string())),
    }
}

/// The deferral for an expansion that failed; it is also logged.
pub fn expand_trouble(router: &Generic, template: &Template, option: &str, error: &ExpandError) -> Trouble {
    let text =
        format!("failed to expand {option} \"{}\" in {} router: {error}", template.text(), router.name);
    let mut trouble = Trouble::defer(router.name.as_bstr(), text.clone());
    if !matches!(error, ExpandError::Defer(_)) {
        trouble.log_lines.push(text.into());
    }
    trouble
}

fn list_trouble(router: &Generic, option: &str, error: &MatchError) -> Trouble {
    let text = match error {
        MatchError::Unexpanded => format!("{option} check lookup or other defer"),
        other => format!("{option} check lookup or other defer: {other}"),
    };
    Trouble::defer(router.name.as_bstr(), text)
}

/// Items of a list, trimmed, empty ones left out; `<x` at its start changes the separator and a doubled
/// separator stands for itself (spec section "List construction").
pub fn items(list: &[u8], separator: u8) -> Vec<BString> {
    let mut list = list.trim_start();
    let mut separator = separator;
    if list.first() == Some(&b'<') && list.get(1).is_some_and(|b| b.is_ascii_punctuation()) {
        separator = list[1];
        list = &list[2..];
    }
    let mut found = Vec::new();
    let mut item = BString::default();
    let mut at = 0;
    while at < list.len() {
        if list[at] == separator {
            if list.get(at + 1) == Some(&separator) {
                item.push(separator);
                at += 2;
                continue;
            }
            found.push(std::mem::take(&mut item));
        } else {
            item.push(list[at]);
        }
        at += 1;
    }
    found.push(item);
    found.into_iter().map(|item| BString::from(item.trim())).filter(|item| !item.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wild_prefix_takes_as_much_as_it_can_and_a_wild_suffix_begins_at_the_first_match() {
        assert_eq!(match_prefix(b"a-b-joe", b"*-"), Some((4, 3)));
        assert_eq!(match_suffix(b"joe+a+b", b"+*"), Some((4, 3)));
        assert_eq!(match_prefix(b"real-joe", b"Real-"), Some((5, 0)));
        assert_eq!(match_suffix(b"list-request", b"-request"), Some((8, 0)));
        assert_eq!(match_suffix(b"list", b"-request"), None);
    }

    #[test]
    fn a_list_may_change_its_separator_and_double_it() {
        assert_eq!(items(b"a : b::c :", b':'), ["a", "b:c"]);
        assert_eq!(items(b"<; a::b ; c", b':'), ["a::b", "c"]);
    }
}
