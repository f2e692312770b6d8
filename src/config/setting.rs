//! One option line: its name, `no_` and `hide`, its value, and what may be wrong with it.
//!
//! Specification: section "Common option syntax". Messages are Exim's.

use super::nearest::hint;
use super::option::{Effect, Kind, OptionDef, Options, Setting, SettingValue};
use super::print;
use super::value;
use super::written::Tables;
use crate::syntax::{Position, Template};
use bstr::ByteSlice;

/// What came of an option line.
pub enum Outcome {
    /// The option was set, and acts.
    Set,
    /// The option was set, and is known but not supported yet.
    Unsupported(String),
    /// Nothing was set.
    Wrong(String),
}

/// Takes `hide ` off.
pub fn take_hide(line: &[u8]) -> (bool, &[u8]) {
    match line.strip_prefix(b"hide") {
        Some(rest) if rest.first().is_none_or(u8::is_ascii_whitespace) => (true, rest.trim_start()),
        _ => (false, line),
    }
}

/// The name at the start of a line and what follows it, without white space between.
pub fn take_name(line: &[u8]) -> (&[u8], &[u8]) {
    let length = line.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
    let (name, rest) = line.split_at(length);
    (name, rest.trim_start())
}

/// Reads one option line of the main section or of a driver. `what` stands before the name of an unknown
/// option (`main option`, `option`), `after` behind it.
pub fn read(
    options: &mut Options,
    tables: &Tables,
    line: &[u8],
    at: &Position,
    words: (&str, &str),
) -> Outcome {
    let (hidden, line) = take_hide(line);
    if line.first().is_some_and(|byte| !byte.is_ascii_alphabetic()) {
        return Outcome::Wrong(format!("option setting expected: {}", line.as_bstr()));
    }
    let (name, rest) = take_name(line);
    let name = name.to_str_lossy();
    let Some((def, negated)) = find(options, tables, &name) else {
        let known = options.defs().filter(|def| tables.has(def)).map(|def| def.name);
        let hint = hint(&name, known);
        return Outcome::Wrong(format!("{} \"{name}\" unknown{}{hint}", words.0, words.1));
    };
    if let Some(old) = options.written(def.name)
        && !is_joined(def, &old.value)
    {
        return Outcome::Wrong(format!("\"{name}\" option set for the second time"));
    }
    match read_setting(def, negated, &name, rest, at) {
        Err(message) => Outcome::Wrong(message),
        Ok(value) => put(options, def, Setting { value, at: at.clone(), hidden }),
    }
}

/// The row of a name, which may have `no_` or `not_` before it.
fn find(options: &Options, tables: &Tables, name: &str) -> Option<(&'static OptionDef, bool)> {
    let known = |name: &str| options.def(synonym(name).unwrap_or(name)).filter(|def| tables.has(def));
    let negated = name.strip_prefix("no_").or_else(|| name.strip_prefix("not_"));
    known(name).map(|def| (def, false)).or_else(|| negated.and_then(known).map(|def| (def, true)))
}

fn read_setting(
    def: &OptionDef,
    negated: bool,
    name: &str,
    rest: &[u8],
    at: &Position,
) -> Result<SettingValue, String> {
    if matches!(def.kind, Kind::Bool | Kind::ExpandedBool) {
        if rest.is_empty() {
            return Ok(SettingValue::Bool(!negated));
        }
        if negated || rest[0] != b'=' {
            return Err(format!("extra characters follow boolean option {name}"));
        }
    } else if negated {
        return Err("negation prefix applied to a non-boolean option".to_owned());
    } else if rest.is_empty() {
        return Err(format!("unexpected end of line (data missing) after {name}"));
    }
    let Some(text) = rest.strip_prefix(b"=") else {
        return Err(format!("missing \"=\" after {name}"));
    };
    value::read(def.kind, name, text.trim(), at)
}

/// Options that may be given several times.
fn is_joined(def: &OptionDef, old: &SettingValue) -> bool {
    matches!(old, SettingValue::Texts(_))
        || matches!(def.name, "headers_add" | "headers_remove" | "condition")
}

/// How the values of options that may be given several times are joined.
fn joined(def: &OptionDef, old: &Setting, new: &Setting) -> Option<SettingValue> {
    let (SettingValue::Text(first), SettingValue::Text(second)) = (&old.value, &new.value) else {
        return match (&old.value, &new.value) {
            (SettingValue::Texts(first), SettingValue::Texts(second)) => {
                Some(SettingValue::Texts([first.clone(), second.clone()].concat()))
            }
            _ => None,
        };
    };
    let (first, second) = (first.text(), second.text());
    let text = match def.name {
        "headers_add" => bstr::join("\n", [first, second]),
        "headers_remove" => bstr::join(":", [first, second]),
        "condition" => {
            let mut text = b"${if and{{bool_lax{".to_vec();
            text.extend_from_slice(first);
            text.extend_from_slice(b"}}{bool_lax{");
            text.extend_from_slice(second);
            text.extend_from_slice(b"}}}}");
            text
        }
        _ => return None,
    };
    // Both were parsed already, so their sum is an expandable string, too.
    Template::parse(&text, &old.at).ok().map(SettingValue::Text)
}

/// Options that set two others.
const SHORT_FORMS: [(&str, [&str; 2]); 2] = [
    ("verify", ["verify_sender", "verify_recipient"]),
    ("fail_verify", ["fail_verify_sender", "fail_verify_recipient"]),
];

/// Old names of options.
const SYNONYMS: [(&str, &str); 2] =
    [("daemon_smtp_port", "daemon_smtp_ports"), ("return_size_limit", "bounce_return_size_limit")];

/// The present name of an option, if this is an old one.
pub fn synonym(name: &str) -> Option<&'static str> {
    SYNONYMS.iter().find(|(old, _)| *old == name).map(|(_, present)| *present)
}

/// True for a name that is only another way to write others; `-bP` leaves it out.
pub fn is_short_form(name: &str) -> bool {
    synonym(name).is_some() || SHORT_FORMS.iter().any(|(short, _)| *short == name)
}

fn put(options: &mut Options, def: &'static OptionDef, mut setting: Setting) -> Outcome {
    if let Some(old) = options.written(def.name) {
        match joined(def, old, &setting) {
            Some(value) => {
                setting = Setting { value, at: old.at.clone(), hidden: setting.hidden || old.hidden }
            }
            None => return Outcome::Wrong(format!("\"{}\" option set for the second time", def.name)),
        }
    }
    let refused = check_effect(def, &setting.value);
    for (name, others) in SHORT_FORMS {
        for other in others.iter().filter(|_| name == def.name) {
            if let Some(other) = options.def(other) {
                options.put(other, setting.clone());
            }
        }
    }
    options.put(def, setting);
    match refused {
        Some(message) => Outcome::Unsupported(message),
        None => Outcome::Set,
    }
}

/// Is this value refused? A value equal to the default never is.
fn check_effect(def: &OptionDef, value: &SettingValue) -> Option<String> {
    let written = print::value(def.kind, Some(value));
    let default = print::value(def.kind, value::read_default(def.kind, def.default).as_ref());
    if written == default {
        return None;
    }
    match def.effect {
        Effect::Acts | Effect::NoEffect(_) => None,
        Effect::Refuses => Some(format!("option \"{}\" is known but not supported yet", def.name)),
        Effect::OnlyAs(only) if written == only => None,
        Effect::OnlyAs(only) => {
            Some(format!("option \"{}\" is known, but only the value \"{only}\" is supported yet", def.name))
        }
    }
}
