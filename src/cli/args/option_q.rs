//! `-q...`, `-R...` and `-S...`: queue runs.

use super::UsageError;
use super::parser::Parser;
use super::time::interval;
use crate::mail::MessageId;
use crate::queue::Selection;
use bstr::BString;

/// `-q[q][i][f[f]][l][G<name>][<time>]`; `-qR` and `-qS` are `-R` and `-S`.
pub(super) fn read(parser: &mut Parser, rest: &[u8]) -> Result<(), UsageError> {
    match rest.first() {
        Some(b'R') => return select(parser, &rest[1..], true),
        Some(b'S') => return select(parser, &rest[1..], false),
        _ => {}
    }
    let option = parser.option;
    let mut rest = rest;
    let mut flag = |letter: &[u8]| match rest.strip_prefix(letter) {
        Some(tail) => {
            rest = tail;
            true
        }
        None => false,
    };
    let run = &mut parser.found.daemon.queue_run;
    run.two_stage |= flag(b"q");
    run.first_only |= flag(b"i");
    if flag(b"f") {
        run.force = true;
        run.force_frozen |= flag(b"f");
    }
    run.local_only |= flag(b"l");
    parser.queue_run = true;
    if rest.starts_with(b"G") {
        return named_queue(option, rest);
    }
    let bad_time = |text: &BString| UsageError::new(format!("exim: bad time value {text}: abandoned"));
    if !rest.is_empty() {
        let time = interval(rest).ok_or_else(|| bad_time(option))?;
        parser.found.daemon.queue_interval = Some(time);
        return Ok(());
    }
    let Some(next) = parser.next_if(|next| !next.starts_with(b"-")) else { return Ok(()) };
    if MessageId::parse(&next).is_some() {
        let last = parser.next_if(|next| MessageId::parse(next).is_some());
        let run = &mut parser.found.daemon.queue_run;
        (run.from, run.to) = (Some(next), last);
        return Ok(());
    }
    parser.found.daemon.queue_interval = Some(interval(&next).ok_or_else(|| bad_time(&next))?);
    Ok(())
}

/// The default queue has the empty name; others are not built.
fn named_queue(option: &BString, rest: &[u8]) -> Result<(), UsageError> {
    if rest == b"G" { Ok(()) } else { Err(UsageError::not_built(option)) }
}

/// `-R[f|ff|r|rf|rff] <string>`, `-R<string>`; `-S` likewise.
pub(super) fn select(parser: &mut Parser, rest: &[u8], by_recipient: bool) -> Result<(), UsageError> {
    let letter = if by_recipient { "R" } else { "S" };
    let flags = matches!(rest, b"" | b"f" | b"ff" | b"r" | b"rf" | b"rff");
    let text = match flags {
        true => parser.next_or(format!("exim: string expected after -{letter}"))?,
        false => rest.into(),
    };
    let run = &mut parser.found.daemon.queue_run;
    let flags = if flags { rest } else { b"" };
    run.force |= flags.contains(&b'f');
    run.force_frozen |= flags.ends_with(b"ff");
    let selection = Some(Selection { text, regex: flags.starts_with(b"r") });
    match by_recipient {
        true => run.recipient = selection,
        false => run.sender = selection,
    }
    parser.queue_run = true;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Action, parse};
    use bstr::BString;

    fn action(line: &str) -> Action {
        let arguments: Vec<BString> = line.split(' ').map(BString::from).collect();
        parse(b"oxim", &arguments).unwrap().action
    }

    #[test]
    fn flags_of_a_queue_run_are_read_in_order() {
        let Action::QueueRun(run) = action("-qqiffl") else { panic!() };
        assert!(run.two_stage && run.first_only && run.force && run.force_frozen && run.local_only);
        let Action::QueueRun(run) = action("-Rff @x") else { panic!() };
        assert!(run.force_frozen && run.recipient.unwrap().text == "@x");
        assert_eq!(action("-q30m"), Action::Daemon);
        assert_eq!(action("-q 30m"), Action::Daemon);
        let Action::QueueRun(run) = action("-q 1aaaaa-000000-00") else { panic!() };
        assert!(run.from.is_some());
    }
}
