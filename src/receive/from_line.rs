//! A UUCP `From ` line before the headers of a message on standard input (`uucp_from_pattern`,
//! `uucp_from_sender`; spec section "The UUCP From line").

use super::new_mail::NewMail;
use crate::expand::{self, Context, ExpandError};
use crate::mail::{Address, Syntax, parse_address};
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

/// A trusted caller that gave no sender (`-f`) sends in the name that the line gives.
pub(super) fn take_sender(
    context: &Context,
    mail: &mut NewMail,
    line: &[u8],
    syntax: Syntax,
) -> Result<(), ExpandError> {
    let own = Address::new(mail.caller.login.as_bstr(), context.globals.qualify_domain.as_bstr());
    if !mail.caller.trusted || mail.sender != own {
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
    if let Some(sender) = address_of(&sender?.into_bytes(), context, syntax) {
        mail.sender = sender;
        // The caller's name does not belong to this address, not even one that was given with `-F`.
        mail.caller.full_name.clear();
    }
    Ok(())
}

/// The address, qualified; none if the text is no address.
fn address_of(text: &BString, context: &Context, syntax: Syntax) -> Option<Address> {
    if text.trim().is_empty() {
        return Some(Address::null());
    }
    let address = parse_address(text, syntax).ok()?.address;
    let unqualified = address.is_unqualified();
    Some(if unqualified { address.qualified(&context.globals.qualify_domain) } else { address })
}
