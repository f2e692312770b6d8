//! Single tests of `${if`: strings, files, addresses, ACLs.

use super::evaluate_condition::argument;
use super::{ExpandError, condition_list, eval, failed, item_call, regex};
use crate::expand::Context;
use crate::syntax::tree::Tree;
use crate::text::{Value, list};
use bstr::ByteSlice;
use std::ffi::OsStr;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Does it hold?
pub fn test(name: &str, arguments: &[Tree], context: &Context) -> Result<bool, ExpandError> {
    match name {
        "first_delivery" => Ok(context.message.id.is_some() && !context.message.deliver_retry),
        "queue_running" => Ok(context.message.queue_running),
        "bool" => boolean(&argument(arguments, 0, context)?),
        "bool_lax" => Ok(lax(argument(arguments, 0, context)?.bytes())),
        "exists" => Ok(exists(&argument(arguments, 0, context)?)),
        "isip" | "isip4" | "isip6" => {
            let value = argument(arguments, 0, context)?;
            let text = value.bytes().to_str().unwrap_or_default();
            let four = text.parse::<Ipv4Addr>().is_ok();
            // An interface may follow: `fe80::1%eth0`.
            let six = || text.split('%').next().is_some_and(|text| text.parse::<Ipv6Addr>().is_ok());
            Ok(match name {
                "isip4" => four,
                "isip6" => six(),
                _ => four || six(),
            })
        }
        "match" => matches(arguments, context),
        "inlist" | "inlisti" => in_list(name == "inlisti", arguments, context),
        "match_domain" | "match_address" | "match_local_part" | "match_ip" => {
            condition_list::test(name, arguments, context)
        }
        "acl" => {
            let (holds, message) = item_call::call_acl(arguments, context)?;
            context.dynamic.borrow_mut().value = Some(message);
            Ok(holds)
        }
        other => eval::not_yet(other),
    }
}

fn boolean(value: &Value) -> Result<bool, ExpandError> {
    match super::truth(value.bytes()) {
        Ok(holds) => Ok(holds),
        Err(_) => failed(format!("unrecognised boolean value \"{}\"", value.bytes().trim().as_bstr())),
    }
}

/// The loose rule: nothing, `0`, `no` and `false` are false.
fn lax(text: &[u8]) -> bool {
    !matches!(text.trim().to_ascii_lowercase().as_slice(), b"" | b"0" | b"no" | b"false")
}

/// Outside text may be asked about: only whether there is a file comes out.
fn exists(value: &Value) -> bool {
    let path = Path::new(OsStr::from_bytes(value.bytes()));
    !value.is_empty() && std::fs::metadata(path).is_ok()
}

fn matches(arguments: &[Tree], context: &Context) -> Result<bool, ExpandError> {
    let subject = argument(arguments, 0, context)?;
    let pattern = argument(arguments, 1, context)?;
    let compiled = regex::compile(pattern.bytes(), false)?;
    let Some(captures) = regex::captures(&compiled, &subject)? else { return Ok(false) };
    context.dynamic.borrow_mut().captures = captures;
    Ok(true)
}

fn in_list(caseless: bool, arguments: &[Tree], context: &Context) -> Result<bool, ExpandError> {
    let subject = argument(arguments, 0, context)?;
    let items = match arguments.get(1) {
        Some(tree) => eval::list(tree, context)?,
        None => Value::default(),
    };
    let found = list::items(items.bytes()).find(|item| {
        if caseless { item.eq_ignore_ascii_case(subject.bytes()) } else { item.as_bstr() == subject.bytes() }
    });
    let Some(item) = found else { return Ok(false) };
    context.dynamic.borrow_mut().value = Some(items.derive(item));
    Ok(true)
}
