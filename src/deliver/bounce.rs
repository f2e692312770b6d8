//! Bounce messages, word by word as Exim 4.96 writes them: multipart/report with a text for people, a
//! delivery-status (RFC 3464) for programs, and the message or its headers.

use super::message::{Attempt, Setback};
use super::report;
use crate::expand::{self, Context};
use crate::mail::{Address, HeaderKind};
use crate::route::Item;
use crate::route::item::Special;
use crate::text::quote::printable;
use crate::transport::Problem;
use crate::transport::write_message::{HeaderChanges, header_block};
use crate::upward::NewMessage;
use bstr::{BStr, BString, ByteSlice};
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::os::unix::fs::FileExt;

/// The limit on what is returned is rounded up to this, as in Exim.
const LIMIT_STEP: u64 = 8192;
/// Longest line of a body that is returned whole, where the option is not set (RFC 5321 section 4.5.3.1.6).
const LINE_MAX: u64 = 998;

/// Writes and submits the bounce for these addresses, all with the same errors address.
pub fn send(attempt: &mut Attempt, to: &BStr, group: &[Setback]) -> io::Result<()> {
    let boundary = boundary(attempt);
    let returned = returned_part(attempt, &boundary)?;
    // What is returned ends with its own last line; the part before it with a blank one.
    let end = if returned.is_empty() { "" } else { "\n" };
    let text = [
        headers(attempt, to, group, &boundary),
        people_part(attempt, group, &boundary),
        status_part(attempt, group, &boundary),
        returned,
        format!("{end}--{boundary}--\n").into_bytes(),
    ]
    .concat();
    let mut recipients = vec![Address::split(to)];
    recipients.extend(copies(attempt, to));
    attempt.submit(NewMessage { recipients, text, local_error: true, ..NewMessage::default() })
}

/// `1795443622-eximdsn-842157577`
pub fn boundary(attempt: &Attempt) -> String {
    let random = RandomState::new().build_hasher().finish() >> 33;
    format!("{}-eximdsn-{random}", Attempt::seconds(attempt.now))
}

fn headers(attempt: &Attempt, to: &BStr, group: &[Setback], boundary: &str) -> Vec<u8> {
    let mut text = BString::default();
    let shown = group.iter().map(|setback| &setback.item).filter(|item| !is_hidden(item));
    let name = |item: &Item| printable(&item.address.to_bytes(), shows_top_bit(attempt));
    let names: Vec<BString> = shown.map(name).collect();
    if !names.is_empty() {
        text.extend_from_slice(b"X-Failed-Recipients: ");
        text.extend(bstr::join(",\n  ", &names));
        text.extend_from_slice(b"\n");
    }
    if let Some(reply_to) = attempt.env.globals.main.plain("errors_reply_to").filter(|text| !text.is_empty())
    {
        text.extend_from_slice(format!("Reply-To: {reply_to}\n").as_bytes());
    }
    text.extend_from_slice(b"Auto-Submitted: auto-replied\n");
    text.extend_from_slice(format!("From: {}\nTo: {to}\n", from_header(&attempt.context)).as_bytes());
    text.extend(references(attempt));
    text.extend_from_slice(
        format!(
            "Content-Type: multipart/report; report-type=delivery-status; boundary={boundary}\n\
             MIME-Version: 1.0\nSubject: Mail delivery failed{}\n\n",
            if to == attempt.message.envelope.sender.to_bytes() {
                ": returning message to sender"
            } else {
                ""
            }
        )
        .as_bytes(),
    );
    text.into()
}

/// `dsn_from`, expanded.
pub fn from_header(context: &Context) -> BString {
    let globals = &context.globals;
    let fallback =
        || BString::from(format!("Mail Delivery System <Mailer-Daemon@{}>", globals.qualify_domain));
    match globals.main.text("dsn_from") {
        Some(template) => {
            expand::expand(template, context).map_or_else(|_| fallback(), |value| value.into_bytes())
        }
        None => fallback(),
    }
}

/// `References:` of a reply to the message (RFC 5322 section 3.6.4).
pub fn references(attempt: &Attempt) -> Vec<u8> {
    let find = |name: &str| {
        attempt.message.headers.iter().find(|header| {
            header.kind != HeaderKind::Deleted && header.name().eq_ignore_ascii_case(name.as_bytes())
        })
    };
    let mut words: Vec<&[u8]> = Vec::new();
    if let Some(header) = find("References").or_else(|| find("In-Reply-To")) {
        words.extend(header.body().fields().filter(|word| word.starts_with(b"<")));
    }
    if let Some(header) = find("Message-ID") {
        words.push(header.body().trim());
    }
    if words.is_empty() {
        return Vec::new();
    }
    [b"References: ".to_vec(), bstr::join(" ", words), b"\n".to_vec()].concat()
}

/// Its router says `hide_child_in_errmsg`.
fn is_hidden(item: &Item) -> bool {
    item.parent.as_ref().is_some_and(|parent| parent.hide_children)
}

/// The address as bounces and warnings name it, with the lines that say where it came from; false: nothing more may be
/// said of it, since reasons name it too.
pub fn named(attempt: &Attempt, item: &Item) -> (BString, bool) {
    let shown = |text: &[u8]| printable(text, shows_top_bit(attempt));
    let hidden = is_hidden(item);
    let text = item.text();
    let parent = item.parent.as_ref().filter(|_| item.special.is_some() && !hidden);
    let mut lines = BString::from(match (&item.special, parent) {
        _ if hidden => "  an undisclosed address\n".into(),
        (Some(Special::Pipe(_)), Some(parent)) => {
            format!("  pipe to {}\n    generated by {}\n", shown(&text), shown(&parent.address.to_bytes()))
        }
        (_, Some(parent)) => {
            format!("  save to {}\n    generated by {}\n", shown(&text), shown(&parent.address.to_bytes()))
        }
        _ => format!("  {}\n", shown(&text)),
    });
    let is_far = item.parent.as_ref().is_some_and(|parent| parent.parent.is_some());
    let origin = item.origin().map(|origin| origin.to_bytes());
    let origin = origin.filter(|origin| *origin != text && (is_far || parent.is_none()));
    if let Some(origin) = origin {
        let ultimately = if is_far { "ultimately " } else { "" };
        let origin = shown(&origin);
        lines.extend_from_slice(format!("    ({ultimately}generated from {origin})\n").as_bytes());
    }
    (lines, !hidden)
}

/// Are bytes over 127 shown to people as they are?
fn shows_top_bit(attempt: &Attempt) -> bool {
    attempt.env.globals.main.bool("print_topbitchars")
}

fn people_part(attempt: &Attempt, group: &[Setback], boundary: &str) -> Vec<u8> {
    let custom = attempt
        .env
        .globals
        .main
        .written("bounce_message_text")
        .and_then(|_| attempt.env.globals.main.plain("bounce_message_text"))
        .unwrap_or_default();
    let mut text = format!(
        "--{boundary}\nContent-type: text/plain; charset=us-ascii\n\n\
         This message was created automatically by mail delivery software.\n{custom}\n"
    );
    let to_sender = group.first().is_some_and(|setback| {
        attempt.errors_to(&setback.item) == attempt.message.envelope.sender.to_bytes()
    });
    if to_sender {
        text.push_str(
            "A message that you sent could not be delivered to one or more of its\n\
             recipients. This is a permanent error. The following address(es) failed:\n",
        );
    } else {
        let sender = attempt.message.envelope.sender.to_bytes();
        text.push_str(&format!(
            "A message sent by\n\n  <{sender}>\n\n\
             could not be delivered to one or more of its recipients. The following\naddress(es) failed:\n"
        ));
    }
    let mut text = BString::from(text);
    text.push(b'\n');
    for setback in group {
        text.extend(entry(attempt, setback));
    }
    text.push(b'\n');
    text.into()
}

/// One address: itself, where it came from, why.
fn entry(attempt: &Attempt, setback: &Setback) -> Vec<u8> {
    let (mut text, open) = named(attempt, &setback.item);
    if open {
        text.extend(reason_lines(&setback.problem));
    }
    text.into()
}

/// The host and the reason, indented, a remote server's words on lines of their own.
pub fn reason_lines(problem: &Problem) -> Vec<u8> {
    let mut text = BString::default();
    if let (Some(host), true) = (&problem.host, problem.errno <= 0) {
        let address = host.address.map_or_else(String::new, |address| format!(" [{address}]"));
        text.extend_from_slice(format!("    host {}{address}\n", host.name).as_bytes());
    }
    let reason = problem.user_text.clone().unwrap_or_else(|| report::reason(problem));
    let reason = reason.replace("\\n", "\n");
    let (words, response) = split_response(&reason);
    for line in words.lines().chain(response.unwrap_or_default().lines()) {
        text.extend_from_slice(b"    ");
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    text.into()
}

/// `SMTP error ... : ` and the response after it.
fn split_response(reason: &[u8]) -> (&[u8], Option<&[u8]>) {
    if !reason.starts_with(b"SMTP error") && !reason.starts_with(b"LMTP error") {
        return (reason, None);
    }
    let is_code = |at: &usize| {
        let after = &reason[at + 2..];
        after.len() >= 3
            && after[..3].iter().all(u8::is_ascii_digit)
            && matches!(after.get(3), None | Some(b' ' | b'-'))
    };
    match reason.find_iter(": ").find(is_code) {
        Some(at) => (&reason[..at + 1], Some(&reason[at + 2..])),
        None => (reason, None),
    }
}

fn status_part(attempt: &Attempt, group: &[Setback], boundary: &str) -> Vec<u8> {
    let mut text = status_start(attempt, boundary);
    for setback in group.iter().rev() {
        text.extend(status_of(setback, "failed", "5.0.0"));
        if let Some(host) = setback.problem.host.as_ref().filter(|_| setback.problem.errno <= 0) {
            text.extend_from_slice(format!("Remote-MTA: dns; {}\n", host.name).as_bytes());
            let reason = report::reason(&setback.problem).replace("\\n", "\n");
            if let (_, Some(response)) = split_response(&reason) {
                let folded = response.trim_end().replace("\n", "\n ");
                text.extend_from_slice(b"Diagnostic-Code: smtp; ");
                text.extend_from_slice(&folded);
                text.push(b'\n');
            }
        }
        text.push(b'\n');
    }
    text
}

/// The start of the delivery-status part.
pub fn status_start(attempt: &Attempt, boundary: &str) -> Vec<u8> {
    let mut text = format!(
        "--{boundary}\nContent-type: message/delivery-status\n\nReporting-MTA: dns; {}\n",
        attempt.env.globals.primary_hostname
    );
    if let Some(envid) = &attempt.message.envelope.dsn_envid {
        text.push_str(&format!("Original-Envelope-ID: {envid}\n"));
    }
    text.push('\n');
    text.into_bytes()
}

/// The fields of one recipient, without the blank line after it.
pub fn status_of(setback: &Setback, action: &str, status: &str) -> Vec<u8> {
    let item = &setback.item;
    let recipient = item.top().unwrap_or(&item.address).to_bytes();
    let mut text = format!("Action: {action}\n");
    if let Some(orcpt) = &item.orcpt {
        text.push_str(&format!("Original-Recipient: {orcpt}\n"));
    }
    // Whatever bytes the address has.
    [text.as_bytes(), b"Final-Recipient: rfc822;", &recipient, format!("\nStatus: {status}\n").as_bytes()]
        .concat()
}

/// The message, or its headers where it is too big or the options say so.
fn returned_part(attempt: &Attempt, boundary: &str) -> io::Result<Vec<u8>> {
    let main = &attempt.env.globals.main;
    let option = |name: &str| main.written(name).is_none() || main.bool(name);
    if !option("bounce_return_message") {
        return Ok(Vec::new());
    }
    let limit = u64::try_from(main.int("bounce_return_size_limit")).unwrap_or(0);
    let most = (limit / LIMIT_STEP + 1) * LIMIT_STEP;
    let size = attempt.message.body_size;
    let too_big = limit > 0 && size > most;
    let headers_only = !option("bounce_return_body")
        || attempt.message.envelope.dsn_ret == 1
        || too_big
        || has_long_line(attempt);
    let mut text = BString::from(format!("--{boundary}\n"));
    text.extend_from_slice(if headers_only {
        b"Content-type: text/rfc822-headers\n\n"
    } else {
        b"Content-type: message/rfc822\n\n"
    });
    text.extend(own_headers(attempt));
    if too_big || (headers_only && option("bounce_return_body") && attempt.message.envelope.dsn_ret != 1) {
        text.extend_from_slice(
            b"X-Exim-DSN-Information: Due to administrative limits only headers are returned\n",
        );
    }
    text.push(b'\n');
    if !headers_only {
        let mut body = vec![0; usize::try_from(size).unwrap_or(0)];
        attempt.message.data.read_exact_at(&mut body, attempt.message.body_offset())?;
        text.extend_from_slice(&body);
    }
    Ok(text.into())
}

fn has_long_line(attempt: &Attempt) -> bool {
    let main = &attempt.env.globals.main;
    let limit = match main.written("bounce_return_linesize_limit") {
        Some(_) => u64::try_from(main.int("bounce_return_linesize_limit")).unwrap_or(0),
        None => LINE_MAX,
    };
    limit > 0 && attempt.message.envelope.max_received_line > limit
}

/// The headers of the message with its return path, as bounces and warnings quote them.
pub fn own_headers(attempt: &Attempt) -> Vec<u8> {
    let sender = attempt.message.envelope.sender.to_bytes();
    let changes = HeaderChanges { return_path: Some(sender.as_bstr()), ..HeaderChanges::default() };
    header_block(&attempt.message.headers, &changes)
}

/// `errors_copy`: who gets a blind copy of bounces to this address.
fn copies(attempt: &Attempt, to: &BStr) -> Vec<Address> {
    use crate::matching::{Match, address};
    use crate::route::precondition::items;
    use crate::syntax::Template;
    use crate::text::Value;
    let Some(list) = attempt.env.globals.main.text("errors_copy") else { return Vec::new() };
    for rule in items(list.text(), b':') {
        let (pattern, copy) = rule.split_once_str(" ").unwrap_or((rule.as_bytes(), b""));
        let Ok(pattern) = Template::parse(pattern, list.at()) else { continue };
        let subject = Value::tainted(to);
        if !matches!(address(&attempt.context, &subject, &pattern), Ok(Match::Yes(_))) {
            continue;
        }
        let Ok(template) = Template::parse(copy.trim(), list.at()) else { return Vec::new() };
        let Ok(value) = expand::expand(&template, &attempt.context) else { return Vec::new() };
        return items(value.bytes(), b',').iter().map(|text| Address::split(text)).collect();
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Host;

    #[test]
    fn a_remote_servers_words_stand_on_lines_of_their_own() {
        let host = Host {
            name: "127.0.0.1".into(),
            address: Some("127.0.0.1".parse().unwrap()),
            port: None,
            preference: -1,
            secure: false,
            randomized: false,
        };
        let text =
            "SMTP error from remote mail server after RCPT TO:<no@rem.example>: 550-no such\\n550 user here";
        let problem = Problem { text: text.into(), host: Some(host), ..Problem::default() };
        assert_eq!(
            reason_lines(&problem).as_bstr(),
            "    host 127.0.0.1 [127.0.0.1]\n    SMTP error from remote mail server after RCPT TO:<no@rem.example>:\n\
             \u{20}   550-no such\n    550 user here\n"
        );
    }
}
