//! Values of options: what may be written for each kind, and what is wrong with what was written.
//!
//! Specification: sections "Boolean options" to "List construction" of chapter "The Exim runtime
//! configuration file". Messages are Exim's.

use super::option::{Kind, SettingValue};
use crate::syntax::{Position, Template};
use crate::text::interval;
use bstr::{BString, ByteSlice};

/// Reads the value that stands after `name = `.
pub fn read(kind: Kind, name: &str, text: &[u8], at: &Position) -> Result<SettingValue, String> {
    match kind {
        Kind::Bool => read_bool(name, text).map(SettingValue::Bool),
        Kind::Int => read_integer(name, text, &INTEGER).map(SettingValue::Int),
        Kind::Size => read_integer(name, text, &INTEGER).map(SettingValue::Int),
        Kind::KiloSize => read_integer(name, text, &KILOBYTES).map(SettingValue::Int),
        Kind::Octal => read_integer(name, text, &OCTAL).map(SettingValue::Int),
        Kind::Time => interval::parse(text)
            .map(SettingValue::Time)
            .ok_or_else(|| format!("invalid time value for {name}")),
        Kind::ExpandedTime if text.starts_with(b"$") => read_text(kind, name, text, at),
        Kind::ExpandedTime => read(Kind::Time, name, text, at),
        Kind::TimeList => read_times(name, text),
        Kind::Fixed => read_fixed(name, text).map(SettingValue::Int),
        Kind::ExpandedBool => read_expanded_bool(kind, name, text, at),
        Kind::ExpandedInt => match read_integer(name, text, &INTEGER) {
            Ok(number) => Ok(SettingValue::Int(number)),
            Err(_) => read_text(kind, name, text, at),
        },
        Kind::Multiple => read_text(kind, name, text, at).map(|value| match value {
            SettingValue::Text(text) => SettingValue::Texts(vec![text]),
            other => other,
        }),
        Kind::Text
        | Kind::Selectors
        | Kind::RewriteRules
        | Kind::User
        | Kind::Group
        | Kind::UserList
        | Kind::GroupList
        | Kind::Expanded
        | Kind::DomainList
        | Kind::HostList
        | Kind::AddressList
        | Kind::LocalPartList => read_text(kind, name, text, at),
    }
}

/// Reads a default as the tables write it: as `-bP` prints it; empty is unset.
pub fn read_default(kind: Kind, text: &str) -> Option<SettingValue> {
    if text.is_empty() {
        return None;
    }
    let at = Position::nowhere("default");
    match kind {
        Kind::Bool | Kind::ExpandedBool if text == "true" => Some(SettingValue::Bool(true)),
        Kind::Bool | Kind::ExpandedBool if text == "false" => Some(SettingValue::Bool(false)),
        // Not unquoted: these are already plain.
        Kind::Text => Some(SettingValue::Text(Template::literal(text.as_bytes(), &at))),
        Kind::Expanded => expanded("default", text.into(), &at).ok().map(SettingValue::Text),
        // A test reads all defaults; one that cannot be read would be unset.
        kind => read(kind, "default", text.as_bytes(), &at).ok(),
    }
}

/// `true`, `false`, `yes`, `no`, in any case.
pub fn boolean_word(text: &[u8]) -> Option<bool> {
    match text.to_ascii_lowercase().as_slice() {
        b"true" | b"yes" => Some(true),
        b"false" | b"no" => Some(false),
        _ => None,
    }
}

fn read_bool(name: &str, text: &[u8]) -> Result<bool, String> {
    let word = text.split_once_str(" ").map_or(text, |(word, _)| word);
    match boolean_word(word) {
        Some(value) if word.len() == text.len() => Ok(value),
        Some(_) => Err(format!("extra characters follow \"{}\" for boolean option {name}", word.as_bstr())),
        None => Err(format!("\"{}\" is not a valid value for the \"{name}\" option", word.as_bstr())),
    }
}

fn read_expanded_bool(kind: Kind, name: &str, text: &[u8], at: &Position) -> Result<SettingValue, String> {
    match boolean_word(text) {
        Some(value) => Ok(SettingValue::Bool(value)),
        None => read_text(kind, name, text, at),
    }
}

struct Integer {
    radix: Option<u32>,
    word: &'static str,
    limit: i64,
    /// What a number without a letter is multiplied with, and what the product is divided by.
    unit: i64,
}

const INTEGER: Integer = Integer { radix: None, word: "integer", limit: i32::MAX as i64, unit: 1 };
const KILOBYTES: Integer = Integer { radix: None, word: "integer", limit: i64::MAX, unit: 1024 };
const OCTAL: Integer = Integer { radix: Some(8), word: "octal integer", limit: i32::MAX as i64, unit: 1 };

fn read_integer(name: &str, text: &[u8], form: &Integer) -> Result<i64, String> {
    let (negative, unsigned) = match text.first() {
        Some(b'-') if form.radix.is_none() => (true, &text[1..]),
        Some(b'+') if form.radix.is_none() => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = match (form.radix, unsigned) {
        (Some(radix), digits) => (radix, digits),
        (None, [b'0', b'x' | b'X', digits @ ..]) => (16, digits),
        (None, [b'0', ..]) => (8, unsigned),
        (None, _) => (10, unsigned),
    };
    let length = digits.iter().take_while(|byte| char::from(**byte).is_digit(radix)).count();
    if length == 0 {
        return Err(format!("{} expected for {name}", form.word));
    }
    let overflow = || format!("absolute value of integer \"{}\" is too large (overflow)", text.as_bstr());
    let number = std::str::from_utf8(&digits[..length]).map_err(|_| overflow())?;
    let number = i64::from_str_radix(number, radix).map_err(|_| overflow())?;
    let (factor, rest) = match &digits[length..] {
        [b'K' | b'k', rest @ ..] => (1024, rest),
        [b'M' | b'm', rest @ ..] => (1024 * 1024, rest),
        [b'G' | b'g', rest @ ..] => (1024 * 1024 * 1024, rest),
        rest => (form.unit, rest),
    };
    let number = number.checked_mul(factor).filter(|n| *n <= form.limit).ok_or_else(overflow)? / form.unit;
    if !rest.trim().is_empty() {
        return Err(format!("extra characters follow {} value for {name}", form.word));
    }
    Ok(if negative { -number } else { number })
}

/// Decimal with up to three places, in thousandths.
fn read_fixed(name: &str, text: &[u8]) -> Result<i64, String> {
    let (negative, unsigned) = match text.first() {
        Some(b'-') => (true, &text[1..]),
        _ => (false, text),
    };
    let whole = unsigned.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if whole == 0 {
        return Err(format!("fixed-point number expected for {name}"));
    }
    let expected = |_| format!("fixed-point number expected for {name}");
    let number: i64 = unsigned[..whole].to_str_lossy().parse().map_err(expected)?;
    let mut thousandths = number.checked_mul(1000).ok_or_else(|| expected_fixed(name))?;
    let mut rest = &unsigned[whole..];
    if let [b'.', places @ ..] = rest {
        let length = places.iter().take_while(|byte| byte.is_ascii_digit()).count();
        for (place, weight) in places[..length].iter().zip([100, 10, 1]) {
            thousandths += i64::from(place - b'0') * weight;
        }
        rest = &places[length..];
    }
    if !rest.trim().is_empty() {
        return Err(format!("extra characters follow fixed-point value for {name}"));
    }
    Ok(if negative { -thousandths } else { thousandths })
}

fn expected_fixed(name: &str) -> String {
    format!("fixed-point number expected for {name}")
}

fn read_times(name: &str, text: &[u8]) -> Result<SettingValue, String> {
    let text = unquote(name, text)?;
    let mut times = Vec::new();
    for item in text.split_str(":").map(|item| item.trim()).filter(|item| !item.is_empty()) {
        let time = interval::parse(item).ok_or_else(|| format!("invalid time value for {name}"))?;
        if times.last().is_some_and(|last| time < *last) {
            return Err(format!("time value out of order for {name}"));
        }
        times.push(time);
    }
    Ok(SettingValue::Times(times))
}

fn read_text(kind: Kind, name: &str, text: &[u8], at: &Position) -> Result<SettingValue, String> {
    let text = unquote(name, text)?;
    if is_expanded(kind) {
        expanded(name, text, at).map(SettingValue::Text)
    } else {
        Ok(SettingValue::Text(Template::literal(&text, at)))
    }
}

/// Kinds whose text is expanded when it is used.
fn is_expanded(kind: Kind) -> bool {
    !matches!(kind, Kind::Text | Kind::Selectors | Kind::RewriteRules)
}

fn expanded(name: &str, text: BString, at: &Position) -> Result<Template, String> {
    Template::parse(&text, at).map_err(|error| format!("syntax error in option {name}: {error}"))
}

/// Takes double quotes off, with the escapes inside them; text that does not begin with one is as it is.
pub fn unquote(name: &str, text: &[u8]) -> Result<BString, String> {
    let [b'"', quoted @ ..] = text else {
        return Ok(text.into());
    };
    let mut value = BString::default();
    let mut rest = quoted;
    loop {
        match rest {
            [] => return Err(format!("missing quote at end of string value for {name}")),
            [b'"', after @ ..] if after.trim().is_empty() => return Ok(value),
            [b'"', ..] => return Err(format!("extra characters follow string value for {name}")),
            [b'\\', escape @ ..] => {
                let (byte, after) = unescape(escape);
                value.extend(byte);
                rest = after;
            }
            [byte, after @ ..] => {
                value.push(*byte);
                rest = after;
            }
        }
    }
}

/// One escape, after its backslash: the byte it means and what follows.
fn unescape(text: &[u8]) -> (Option<u8>, &[u8]) {
    match text {
        [] => (None, text),
        [b'n', rest @ ..] => (Some(b'\n'), rest),
        [b'r', rest @ ..] => (Some(b'\r'), rest),
        [b't', rest @ ..] => (Some(b'\t'), rest),
        [b'x', rest @ ..] => numeric_escape(rest, 16, 2),
        [b'0'..=b'7', ..] => numeric_escape(text, 8, 3),
        [byte, rest @ ..] => (Some(*byte), rest),
    }
}

fn numeric_escape(text: &[u8], radix: u32, most: usize) -> (Option<u8>, &[u8]) {
    let digits = text.iter().take(most).map_while(|byte| char::from(*byte).to_digit(radix));
    let (length, number) =
        digits.fold((0, 0u32), |(length, number), digit| (length + 1, number * radix + digit));
    // Three octal digits can say more than a byte holds; the low eight bits count, as in C.
    (Some((number & 0xff) as u8), &text[length..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn integer(text: &str) -> Result<i64, String> {
        read_integer("x", text.as_bytes(), &INTEGER)
    }

    #[test]
    fn integers_are_decimal_octal_or_hexadecimal_with_a_letter() {
        assert_eq!(integer("10"), Ok(10));
        assert_eq!(integer("010"), Ok(8));
        assert_eq!(integer("0x1F"), Ok(31));
        assert_eq!(integer("2K"), Ok(2048));
        assert_eq!(integer("-1"), Ok(-1));
        assert_eq!(integer("08"), Err("extra characters follow integer value for x".into()));
        assert_eq!(integer("x"), Err("integer expected for x".into()));
        assert!(integer("3G").unwrap_err().contains("too large"));
    }

    #[test]
    fn kilobytes_without_a_letter_are_kilobytes() {
        assert_eq!(read_integer("x", b"2048", &KILOBYTES), Ok(2048));
        assert_eq!(read_integer("x", b"2M", &KILOBYTES), Ok(2048));
    }

    #[test]
    fn quoted_text_may_hold_escapes() {
        assert_eq!(unquote("x", br#""\x41\101\r\q\"" "#).unwrap(), "AA\rq\"");
        assert_eq!(unquote("x", br#"a "b" \n"#).unwrap(), r#"a "b" \n"#);
        assert!(unquote("x", br#""a"#).unwrap_err().starts_with("missing quote"));
        assert!(unquote("x", br#""a" b"#).unwrap_err().starts_with("extra characters"));
    }
}
