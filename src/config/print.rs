//! Options as `-bP` prints them.
//!
//! Recorded from Exim: control characters are printed as escapes, white space of lists is kept, sizes that are
//! whole kilobytes or megabytes get their letter, and what has no number is printed as nothing.

use super::option::{Kind, OptionDef, Options, SettingValue};
use super::setting::synonym;
use crate::text::interval;
use bstr::{BStr, BString, ByteSlice};

/// What a non-admin user sees of a hidden option.
pub const HIDDEN: &str = "<value not displayable>";

/// One option with its name, as a line without its end; `names` false: the value alone (`-n`).
pub fn option(options: &Options, def: &OptionDef, names: bool, hidden: bool) -> BString {
    let current = options.value(synonym(def.name).unwrap_or(def.name));
    if hidden {
        return named(def.name, HIDDEN.into(), names);
    }
    if let (Kind::Bool | Kind::ExpandedBool, None | Some(SettingValue::Bool(_))) = (def.kind, current) {
        let on = matches!(current, Some(SettingValue::Bool(true)));
        return format!("{}{}", if on { "" } else { "no_" }, def.name).into();
    }
    let text = value(def.kind, current);
    let unset_list = matches!(def.kind, Kind::Fixed | Kind::UserList | Kind::GroupList) && text.is_empty();
    if unset_list && names {
        return format!("{} =", def.name).into();
    }
    named(def.name, text, names)
}

fn named(name: &str, text: BString, names: bool) -> BString {
    if !names {
        return text;
    }
    let mut line = BString::from(name);
    line.extend_from_slice(b" = ");
    line.extend_from_slice(&text);
    line
}

/// A value alone; nothing for what is unset, but for numbers and times.
pub fn value(kind: Kind, value: Option<&SettingValue>) -> BString {
    match value {
        None => match kind {
            Kind::Time => "0s".into(),
            Kind::Int | Kind::Size | Kind::KiloSize | Kind::Octal => "0".into(),
            _ => BString::default(),
        },
        Some(SettingValue::Bool(on)) => on.to_string().into(),
        Some(SettingValue::Int(number)) => integer(kind, *number).into(),
        Some(SettingValue::Time(time)) => interval::print(*time).into(),
        Some(SettingValue::Times(times)) => {
            let times: Vec<String> = times.iter().map(|time| interval::print(*time)).collect();
            times.join(":").into()
        }
        Some(SettingValue::Text(text)) => match kind {
            Kind::UserList | Kind::GroupList => id_list(text.text()),
            _ => escaped(text.text()),
        },
        Some(SettingValue::Texts(texts)) => {
            let texts: Vec<BString> = texts.iter().map(|text| escaped(text.text())).collect();
            bstr::join(";", texts).into()
        }
    }
}

fn integer(kind: Kind, number: i64) -> String {
    const KILO: i64 = 1024;
    match kind {
        Kind::Octal => format!("0{number:o}").replacen("00", "0", usize::from(number == 0)),
        Kind::Fixed => fixed(number),
        Kind::Size if number != 0 && number % (KILO * KILO) == 0 => format!("{}M", number / KILO / KILO),
        Kind::Size if number != 0 && number % KILO == 0 => format!("{}K", number / KILO),
        Kind::KiloSize if number == 0 => "0".to_owned(),
        Kind::KiloSize if number % (KILO * KILO) == 0 => format!("{}G", number / KILO / KILO),
        Kind::KiloSize if number % KILO == 0 => format!("{}M", number / KILO),
        Kind::KiloSize => format!("{number}K"),
        _ => number.to_string(),
    }
}

/// Thousandths with as many places as are needed, at least one.
fn fixed(thousandths: i64) -> String {
    let sign = if thousandths < 0 { "-" } else { "" };
    let whole = thousandths.abs() / 1000;
    let places = format!("{:03}", thousandths.abs() % 1000);
    let places = places.trim_end_matches('0');
    format!("{sign}{whole}.{}", if places.is_empty() { "0" } else { places })
}

/// Lists of users and groups are printed without white space.
fn id_list(text: &BStr) -> BString {
    let items = text.split_str(":").map(|item| item.trim()).filter(|item| !item.is_empty());
    bstr::join(":", items).into()
}

/// Control characters and bytes over 126 as escapes.
fn escaped(text: &BStr) -> BString {
    let mut out = BString::default();
    for byte in text.bytes() {
        match byte {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b' '..=b'~' => out.push(byte),
            _ => out.extend_from_slice(format!("\\{byte:03o}").as_bytes()),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_printed_as_exim_prints_their_kind() {
        assert_eq!(integer(Kind::Size, 2048), "2K");
        assert_eq!(integer(Kind::Int, 2048), "2048");
        assert_eq!(integer(Kind::KiloSize, 2048), "2M");
        assert_eq!(integer(Kind::KiloSize, 2049), "2049K");
        assert_eq!(integer(Kind::Octal, 0o660), "0660");
        assert_eq!(integer(Kind::Octal, 0), "0");
        assert_eq!(integer(Kind::Fixed, 2500), "2.5");
        assert_eq!(integer(Kind::Fixed, 3000), "3.0");
        assert_eq!(integer(Kind::Fixed, 125), "0.125");
    }
}
