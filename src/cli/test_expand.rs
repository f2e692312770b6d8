//! `-be`: expands its arguments, or the lines of standard input, and shows what comes out.
//!
//! Specification: section "Testing string expansions". In both, a line `NAME = text` defines a macro; in lines
//! of standard input, `set acl_m_name = text` sets an ACL variable.

use crate::config::macros::{Macros, looks_like_definition};
use crate::expand::{Context, expand_text};
use crate::text::Value;
use bstr::{BString, ByteSlice};
use std::io::{self, BufRead, Write};

/// What stands before each answer when lines are read.
const PROMPT: &[u8] = b"> ";
/// Longest line with its continuation, in bytes.
const MAX_LINE: usize = 1024 * 1024;

/// Expands each argument; without arguments, each line of `input` up to its end. Errors are those of `output`
/// and `input`: an expansion that fails is an answer.
pub fn run(
    context: &Context,
    mut macros: Macros,
    arguments: &[BString],
    input: &mut dyn BufRead,
    output: &mut dyn Write,
) -> io::Result<()> {
    if !arguments.is_empty() {
        for argument in arguments {
            show(context, &mut macros, argument, output)?;
        }
        return output.flush();
    }
    loop {
        output.write_all(PROMPT)?;
        output.flush()?;
        let Some(line) = logical_line(input)? else { break };
        match set(context, &macros.replace(&line, false).text) {
            Some(answer) => answer_line(&answer, output)?,
            None => show(context, &mut macros, &line, output)?,
        }
    }
    output.write_all(b"\n")?;
    output.flush()
}

/// A line with those that continue it; none at the end.
fn logical_line(input: &mut dyn BufRead) -> io::Result<Option<BString>> {
    let mut whole = BString::default();
    let mut any = false;
    loop {
        let mut line = Vec::new();
        if input.read_until(b'\n', &mut line)? == 0 {
            return Ok(any.then_some(whole));
        }
        let text = line.trim_end();
        let text = if any { text.trim_start() } else { text };
        any = true;
        let continued = text.strip_suffix(b"\\");
        whole.extend_from_slice(continued.unwrap_or(text));
        if continued.is_none() || whole.len() > MAX_LINE {
            return Ok(Some(whole));
        }
    }
}

fn show(context: &Context, macros: &mut Macros, text: &[u8], output: &mut dyn Write) -> io::Result<()> {
    if looks_like_definition(text) && is_definition(text) {
        let line = macros.replace(text, true).text;
        return match macros.define(&line) {
            Ok(()) => {
                let name =
                    line.split(|b| !b.is_ascii_alphanumeric() && *b != b'_').next().unwrap_or_default();
                answer_line(&bstr::concat([&b"Defined macro '"[..], name, b"'"]), output)
            }
            Err(message) => answer_line(message.as_bytes(), output),
        };
    }
    answer_line(&expanded(context, &macros.replace(text, false).text), output)
}

/// A macro's name with an equals sign behind it.
fn is_definition(text: &[u8]) -> bool {
    let name = text.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
    text[name..].trim_start().starts_with(b"=")
}

fn expanded(context: &Context, text: &[u8]) -> BString {
    match expand_text(&Value::clean(text), context) {
        Ok(value) => value.into_bytes(),
        Err(error) => format!("Failed: {error}").into(),
    }
}

/// `set acl_m_name = text`; none: the line is no such.
fn set(context: &Context, line: &[u8]) -> Option<BString> {
    let (name, text) = line.strip_prefix(b"set ")?.split_once_str("=")?;
    let name = name.trim().strip_prefix(b"acl_")?;
    let good = matches!(name, [b'c' | b'm', b'_' | b'0'..=b'9', ..])
        && name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_');
    if !good {
        return None;
    }
    Some(match expand_text(&Value::clean(text.trim()), context) {
        Ok(value) => {
            context.dynamic.borrow_mut().acl_variables.insert(name.into(), value);
            format!("variable 'acl_{}' set", name.as_bstr()).into()
        }
        Err(error) => format!("Failed: {error}").into(),
    })
}

fn answer_line(answer: &[u8], output: &mut dyn Write) -> io::Result<()> {
    output.write_all(answer)?;
    output.write_all(b"\n")
}
