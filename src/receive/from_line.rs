//! A UUCP `From ` line before the headers of a message on standard input (`uucp_from_pattern`,
//! `uucp_from_sender`; spec section "The UUCP From line").

use super::new_mail::NewMail;
use crate::expand::{self, Context, ExpandError};
use crate::mail::{Address, Syntax, parse_address};
use crate::matching;
use crate::text::Value;
use bstr::{BString, ByteSlice};
use pcre2::bytes::Regex;

/// The pattern, compiled when a line that begins with `From ` is met; one that cannot be compiled matches nothing.
fn pattern(context: &Context) -> Option<Regex> {
    let text = context.globals.main.plain("uucp_from_pattern")?;
    Regex::new(text.to_str().ok()?).ok()
}

/// True if the pattern matches.
pub(super) fn is_from_line(context: &Context, line: &[u8]) -> bool {
    line.starts_with(b"From ") && pattern(context).is_some_and(|regex| regex.is_match(line).unwrap_or(false))
}

/// A caller that gave no sender (`-f`) sends in the name that the line gives, if trusted or allowed to by
/// `untrusted_set_sender`.
pub(super) fn take_sender(
    context: &mut Context,
    mail: &mut NewMail,
    line: &[u8],
    syntax: Syntax,
) -> Result<(), ExpandError> {
    let own = Address::new(mail.caller.login.as_bstr(), context.globals.qualify_domain.as_bstr());
    if mail.sender != own {
        return Ok(());
    }
    let (Some(regex), Some(template)) = (pattern(context), context.globals.main.text("uucp_from_sender"))
    else {
        return Ok(());
    };
    let Ok(Some(found)) = regex.captures(line) else { return Ok(()) };
    let captures = (0..found.len()).map(|at| found.get(at).map(|part| Value::tainted(part.as_bytes())));
    let before = std::mem::replace(&mut context.dynamic.borrow_mut().captures, captures.collect());
    let sender = expand::expand(template, context);
    context.dynamic.borrow_mut().captures = before;
    let Some(sender) = address_of(&sender?.into_bytes(), context, syntax) else { return Ok(()) };
    if mail.caller.trusted {
        mail.sender = sender;
        context.session.origin.authenticated_sender = None;
        // The caller's name does not belong to this address, not even one that was given with `-F`.
        mail.caller.full_name.clear();
    } else if may_set(context, &sender) {
        mail.sender = sender;
    }
    Ok(())
}

/// `untrusted_set_sender`. (Unlike `-f <>`, the null sender of a line is not for everybody.)
fn may_set(context: &Context, sender: &Address) -> bool {
    match context.globals.main.text("untrusted_set_sender") {
        Some(list) if !list.text().is_empty() && !sender.is_null() => {
            matching::address(context, &Value::tainted(sender.to_bytes()), list)
                .is_ok_and(|answer| answer.is_yes())
        }
        _ => false,
    }
}

/// The address, qualified; none if the text is no address.
fn address_of(text: &BString, context: &Context, syntax: Syntax) -> Option<Address> {
    if matches!(text.trim(), b"" | b"<>") {
        return Some(Address::null());
    }
    let address = parse_address(text, syntax).ok()?.address;
    let unqualified = address.is_unqualified();
    Some(if unqualified { address.qualified(&context.globals.qualify_domain) } else { address })
}
