//! Variables of a message: its envelope, headers and body.

use super::header;
use super::variable::{Row, number, outside, own};
use crate::expand::Context;
use crate::mail::HeaderKind;
use crate::text::{Value, list};
use bstr::{BString, ByteSlice};
use std::time::{SystemTime, UNIX_EPOCH};

/// Name to value.
pub const TABLE: &[Row] = &[
    ("acl_arg1", |c| acl_argument(c, 0)),
    ("acl_arg2", |c| acl_argument(c, 1)),
    ("acl_arg3", |c| acl_argument(c, 2)),
    ("acl_arg4", |c| acl_argument(c, 3)),
    ("acl_arg5", |c| acl_argument(c, 4)),
    ("acl_arg6", |c| acl_argument(c, 5)),
    ("acl_arg7", |c| acl_argument(c, 6)),
    ("acl_arg8", |c| acl_argument(c, 7)),
    ("acl_arg9", |c| acl_argument(c, 8)),
    ("acl_narg", |c| number(c.dynamic.borrow().acl_arguments.len())),
    ("acl_verify_message", |c| c.dynamic.borrow().acl_verify_message.clone()),
    ("body_linecount", |c| number(c.message.body_lines)),
    ("body_zerocount", |c| number(c.message.body_zeros)),
    ("bounce_recipient", |c| c.message.bounce_recipient.as_deref().and_then(|text| outside(text))),
    ("headers_added", |c| outside(&c.dynamic.borrow().headers_added)),
    ("local_scan_data", |_| None),
    ("max_received_linelength", |c| number(c.message.max_received_line)),
    ("message_age", |c| number(age(c))),
    ("message_body", |c| body(c, c.message.body_start.as_deref())),
    ("message_body_end", |c| body(c, c.message.body_end.as_deref())),
    ("message_body_size", |c| number(c.message.body_size)),
    ("message_exim_id", id),
    ("message_headers", |c| headers(c, false)),
    ("message_headers_raw", |c| headers(c, true)),
    ("message_id", id),
    ("message_linecount", |c| {
        number(c.message.lines_received.unwrap_or_else(|| c.message.body_lines + header_lines(c)))
    }),
    ("message_size", |c| number(c.message.size)),
    ("message_smtputf8", |_| Some(Value::clean("no"))),
    ("originator_gid", |c| number(c.message.originator_gid)),
    ("originator_uid", |c| number(c.message.originator_uid)),
    ("prvscheck_address", |c| c.dynamic.borrow().prvscheck_address.clone()),
    ("prvscheck_keynum", |c| c.dynamic.borrow().prvscheck_keynum.clone()),
    ("prvscheck_result", |c| c.dynamic.borrow().prvscheck_result.clone()),
    ("received_count", |c| number(received_count(c))),
    ("received_for", |c| c.message.received_for.as_deref().and_then(|text| outside(text))),
    ("received_time", |c| number(c.message.received.map_or(0, seconds))),
    ("recipients", |c| recipients(c, false)),
    ("recipients_count", |c| number(c.message.recipients.len())),
    ("recipients_list", |c| recipients(c, true)),
    ("reply_address", reply_address),
    ("return_path", return_path),
    ("sender_address", |c| c.message.sender.as_ref().and_then(|a| outside(&a.to_bytes()))),
    ("sender_address_domain", |c| c.message.sender.as_ref().and_then(|a| outside(a.domain()))),
    ("sender_address_local_part", |c| c.message.sender.as_ref().and_then(|a| outside(a.local_part()))),
    ("warn_message_delay", warn_delay),
    ("warn_message_recipient", warn_recipients),
    ("warn_message_recipients", warn_recipients),
    ("warnmsg_delay", warn_delay),
    ("warnmsg_recipient", warn_recipients),
    ("warnmsg_recipients", warn_recipients),
];

fn acl_argument(context: &Context, index: usize) -> Option<Value> {
    context.dynamic.borrow().acl_arguments.get(index).cloned()
}

fn id(context: &Context) -> Option<Value> {
    context.message.id.as_ref().map(|id| Value::clean(id.as_str()))
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn age(context: &Context) -> u64 {
    let now = seconds(context.now.unwrap_or_else(SystemTime::now));
    context.message.received.map_or(0, |received| now.saturating_sub(seconds(received)))
}

/// The body with its newlines as spaces, unless `message_body_newlines` is set; zero bytes are spaces too.
fn body(context: &Context, text: Option<&BString>) -> Option<Value> {
    let main = &context.globals.main;
    let newlines = main.def("message_body_newlines").is_some() && main.bool("message_body_newlines");
    let plain = |b: &u8| if *b == 0 || (*b == b'\n' && !newlines) { b' ' } else { *b };
    text.map(|text| Value::tainted(text.iter().map(plain).collect::<Vec<u8>>()))
}

/// All headers; decoded ones without white space at their ends, raw ones as they are.
fn headers(context: &Context, raw: bool) -> Option<Value> {
    let live = || context.message.headers.iter().filter(|header| header.kind != HeaderKind::Deleted);
    if raw {
        return outside(&bstr::concat(live().map(|header| &header.text)));
    }
    let trimmed = live().map(|header| header.text.trim_end());
    outside(&header::decode(context, &bstr::join("\n", trimmed)))
}

fn header_lines(context: &Context) -> u64 {
    context.message.headers.iter().map(|header| header.text.find_iter(b"\n").count() as u64).sum()
}

fn received_count(context: &Context) -> usize {
    context.message.headers.iter().filter(|header| header.kind == HeaderKind::Received).count()
}

fn recipients(context: &Context, as_list: bool) -> Option<Value> {
    let addresses = context.message.recipients.iter().map(|address| address.to_bytes());
    if as_list {
        let mut builder = list::Builder::new(b':');
        addresses.for_each(|address| builder.push(&address));
        return outside(&builder.finish());
    }
    outside(&bstr::join(", ", addresses))
}

/// Reply-To: if it has content, else From:.
fn reply_address(context: &Context) -> Option<Value> {
    let text = header::header_text(context, b"reply-to");
    if text.is_empty() { outside(&header::header_text(context, b"from")) } else { outside(&text) }
}

fn return_path(context: &Context) -> Option<Value> {
    context.message.return_path.as_deref().and_then(|path| outside(path))
}

fn warn_delay(context: &Context) -> Option<Value> {
    context.message.warn_message_delay.as_deref().and_then(|text| own(text))
}

fn warn_recipients(context: &Context) -> Option<Value> {
    context.message.warn_message_recipients.as_deref().and_then(|text| outside(text))
}
