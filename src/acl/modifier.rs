//! The modifiers that act where they stand.
//!
//! Specification: sections "ACL modifiers", "Adding header lines in ACLs", "Removing header lines in ACLs".

use super::Place;
use super::condition::fail_expansion;
use super::control::{self, Control, ControlError};
use super::effects::{AddedHeader, HeaderPlace};
use super::place::places_of;
use super::run::{Runner, Tested, Texts};
use crate::expand::context::Context;
use crate::expand::{ExpandError, expand, printing};
use crate::log::Which;
use crate::mail::Header;
use crate::syntax::acl::Item;
use crate::syntax::acl_words::Word;
use crate::text::Value;
use bstr::{BStr, BString, ByteSlice};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Header lines that ACLs may add to one message: `add_header` in a RCPT ACL runs as often as the peer likes.
const HEADERS_MAX: usize = 1000;
/// Bytes of ACL variables kept in one connection, for the same reason.
const VARIABLES_BYTES_MAX: usize = 4 << 20;
/// How often a delay looks whether the process is to end.
const DELAY_SLICE: Duration = Duration::from_millis(200);

impl Runner<'_> {
    pub(super) fn apply_modifier(
        &self,
        context: &mut Context,
        place: Place,
        item: &Item,
        texts: &mut Texts,
    ) -> Tested {
        let value = match expand(&item.argument, context) {
            Ok(value) => value,
            Err(ExpandError::Forced(_)) => return Tested::Met,
            Err(error) => return fail_expansion(&item.argument, &error, texts),
        };
        match item.word {
            Word::Set => set_variable(context, item, value, texts),
            Word::Control => self.apply_control(context, place, &value, texts),
            Word::Delay => self.wait(&value, texts),
            Word::AddHeader => {
                self.add_headers(context, place, value.bytes());
                Tested::Met
            }
            Word::RemoveHeader => self.remove_headers(&value, texts),
            Word::LogRejectTarget => {
                set_targets(context, place, &value, texts);
                Tested::Met
            }
            Word::Logwrite => {
                write_log(context, place, &value);
                Tested::Met
            }
            // `continue`: its expansion was all there is to do
            _ => Tested::Met,
        }
    }

    fn apply_control(&self, context: &mut Context, place: Place, value: &Value, texts: &mut Texts) -> Tested {
        let (name, control) = Control::parse(value.bytes());
        if !name.is_empty() && !control::is_allowed(name, place) {
            texts.log = Some(format!("cannot use \"control={name}\" in {} ACL", place.name()).into());
            return Tested::Error;
        }
        match control {
            Ok(control) => {
                let mut state = self.state();
                let state = &mut *state;
                control.apply(&mut state.session, &mut state.message, &mut state.caseful);
                if let (Place::Rcpt, Some(recipient)) = (place, &state.recipient) {
                    let local_part = recipient.unquoted_local_part();
                    let shown =
                        if state.caseful { local_part.to_vec() } else { local_part.to_ascii_lowercase() };
                    context.address.local_part = Some(Value::tainted(shown));
                }
                Tested::Met
            }
            Err(ControlError::Syntax) => {
                texts.log = Some(format!("syntax error in \"control={}\"", value.bytes()).into());
                Tested::Error
            }
            Err(ControlError::NotBuilt) => {
                texts.log = Some(format!("\"control={name}\" is not supported yet").into());
                Tested::Error
            }
        }
    }

    /// Waits; the end of the process ends it. (Replies were sent before the ACL began.)
    fn wait(&self, value: &Value, texts: &mut Texts) -> Tested {
        let Some(time) = parse_interval(value.bytes()) else {
            texts.log = Some(
                format!(
                    "syntax error in argument for \"delay\" modifier: \"{}\" is not a time value",
                    value.bytes()
                )
                .into(),
            );
            return Tested::Error;
        };
        let end = Instant::now() + time;
        while !self.stop.load(Ordering::Relaxed) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            std::thread::sleep(left.min(DELAY_SLICE));
        }
        Tested::Met
    }

    fn remove_headers(&self, value: &Value, texts: &mut Texts) -> Tested {
        let names = value.bytes().split_str(":").map(|name| name.trim()).filter(|name| !name.is_empty());
        let names: Vec<BString> = names.map(BString::from).collect();
        if names.iter().any(|name| name.starts_with(b"^")) {
            texts.log = Some("a regular expression in \"remove_header\" is not supported yet".into());
            return Tested::Error;
        }
        let mut state = self.state();
        let room = HEADERS_MAX.saturating_sub(state.message.headers_to_remove.len());
        state.message.headers_to_remove.extend(names.into_iter().take(room));
        Tested::Met
    }

    /// Gathers header lines; in an ACL that receives no message they have no effect.
    pub(super) fn add_headers(&self, context: &Context, place: Place, text: &[u8]) {
        if !places_of(Word::AddHeader).contains(place) {
            return;
        }
        let mut state = self.state();
        for header in split_headers(text) {
            let known = &mut state.message.headers_to_add;
            if !known.contains(&header) && known.len() < HEADERS_MAX {
                known.push(header);
            }
        }
        let shown: Vec<&[u8]> =
            state.message.headers_to_add.iter().map(|added| added.header.text.trim_end()).collect();
        context.dynamic.borrow_mut().headers_added = shown.join(&b'\n').into();
    }
}

/// Cuts at newlines that no white space follows; a line that is no header gets `X-ACL-Warn:`.
fn split_headers(text: &[u8]) -> Vec<AddedHeader> {
    let text = text.trim_with(|c| c == '\n' || c == '\r');
    let mut lines: Vec<BString> = Vec::new();
    for line in text.split(|b| *b == b'\n') {
        match lines.last_mut() {
            Some(last) if line.starts_with(b" ") || line.starts_with(b"\t") => {
                last.push(b'\n');
                last.extend_from_slice(line);
            }
            _ => lines.push(line.into()),
        }
    }
    lines.iter().filter(|line| !line.is_empty()).map(|line| read_header(line.as_bstr())).collect()
}

fn read_header(line: &BStr) -> AddedHeader {
    let prefixes = [
        (":at_start:", HeaderPlace::AtStart),
        (":after_received:", HeaderPlace::AfterReceived),
        (":at_start_rfc:", HeaderPlace::AtStartRfc),
        (":at_end:", HeaderPlace::AtEnd),
    ];
    let found =
        prefixes.iter().find_map(|(prefix, place)| Some((line.strip_prefix(prefix.as_bytes())?, *place)));
    let (text, place) = found.unwrap_or((line, HeaderPlace::AtEnd));
    let text = text.trim_start();
    let name_end = text.iter().position(|b| !b.is_ascii_graphic() || *b == b':').unwrap_or(0);
    let is_header = name_end > 0 && text[name_end..].trim_start().starts_with(b":");
    let mut full = BString::from(if is_header { &b""[..] } else { b"X-ACL-Warn: " });
    full.extend_from_slice(text);
    full.push(b'\n');
    AddedHeader { place, header: Header::new(full) }
}

fn set_variable(context: &Context, item: &Item, value: Value, texts: &mut Texts) -> Tested {
    let variables = &mut context.dynamic.borrow_mut().acl_variables;
    let held: usize = variables.values().map(|value| value.bytes().len()).sum();
    if held + value.bytes().len() > VARIABLES_BYTES_MAX {
        texts.log = Some(format!("too much data in ACL variables at acl_{}", item.variable).into());
        return Tested::Error;
    }
    variables.insert(item.variable.clone(), value);
    Tested::Met
}

fn log_of(name: &[u8]) -> Option<Which> {
    match name {
        b"main" => Some(Which::Main),
        b"reject" => Some(Which::Reject),
        b"panic" => Some(Which::Panic),
        _ => None,
    }
}

/// A name that is none leaves all as it was: what to do with the peer does not depend on where that is told.
fn set_targets(context: &Context, place: Place, value: &Value, texts: &mut Texts) {
    let mut targets = Vec::new();
    for name in value.bytes().split_str(":").map(|name| name.trim()).filter(|name| !name.is_empty()) {
        let Some(target) = log_of(name) else {
            let name = name.as_bstr();
            return complain(
                context,
                place,
                &format!("unknown log name \"{name}\" in \"log_reject_target\""),
            );
        };
        targets.push(target);
    }
    texts.targets = targets;
}

fn complain(context: &Context, place: Place, what: &str) {
    context.globals.log.panic(format!("{what} in {} ACL", place.name()).as_bytes().as_bstr());
}

/// `:main,reject: text`; without names to the main log.
fn write_log(context: &Context, place: Place, value: &Value) {
    let text = value.bytes().trim_start().as_bstr();
    let mut targets = vec![Which::Main];
    let mut line = text;
    if let Some(rest) = text.strip_prefix(b":") {
        let (names, after) = rest.split_once_str(":").unwrap_or((rest, b""));
        let known: Option<Vec<Which>> = names.split_str(",").map(|name| log_of(name.trim())).collect();
        match known {
            Some(known) => targets = known,
            None => {
                return complain(context, place, &format!("unknown log name in \"{text}\" in \"logwrite\""));
            }
        }
        line = after.trim_start().as_bstr();
    }
    let mut shown = printable_line(context, line);
    if let Some(id) = &context.message.id {
        shown = format!("{id} {shown}").into();
    }
    for target in targets {
        context.globals.log.write(target, shown.as_bstr());
    }
}

/// What a log line shows of a text from outside (`print_topbitchars`); backslashes stay single.
fn printable_line(context: &Context, text: &[u8]) -> BString {
    let main = &context.globals.main;
    let top = main.def("print_topbitchars").is_some() && main.bool("print_topbitchars");
    printing(text, top)
}

/// `1h30m`; a number without a letter is seconds.
fn parse_interval(text: &[u8]) -> Option<Duration> {
    let mut total = 0_u64;
    let mut rest = text.trim();
    while !rest.is_empty() {
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let number: u64 = rest[..digits].to_str().ok()?.parse().ok()?;
        let unit = match rest.get(digits) {
            None | Some(b's') => 1,
            Some(b'm') => 60,
            Some(b'h') => 3600,
            Some(b'd') => 86_400,
            Some(b'w') => 604_800,
            Some(_) => return None,
        };
        total = total.checked_add(number.checked_mul(unit)?)?;
        rest = rest.get(digits + 1..).unwrap_or_default();
    }
    Some(Duration::from_secs(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn added_lines_that_are_no_headers_get_a_name_and_folded_lines_stay_together() {
        let headers = split_headers(b"\nX-A: b\n folded\n:at_start:X-C : d\nnot a header\n");
        let texts: Vec<_> = headers.iter().map(|added| added.header.text.to_string()).collect();
        assert_eq!(texts, ["X-A: b\n folded\n", "X-C : d\n", "X-ACL-Warn: not a header\n"]);
        assert_eq!(headers[1].place, HeaderPlace::AtStart);
    }

    #[test]
    fn a_delay_is_an_exim_time() {
        assert_eq!(parse_interval(b"1h2m3s"), Some(Duration::from_secs(3723)));
        assert_eq!(parse_interval(b"30"), Some(Duration::from_secs(30)));
        assert_eq!(parse_interval(b"xx"), None);
    }
}
