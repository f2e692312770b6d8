//! The written form of a lookup type: `partial2(.)lsearch*@,ret=key`.
//!
//! Specification: chapter "File and database lookups".

use bstr::{BString, ByteSlice};

/// One type of lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookupDef {
    /// Its name.
    pub name: &'static str,
    /// It takes a key and a file; else it takes a query.
    pub single_key: bool,
    /// It is built.
    pub supported: bool,
}

const fn key(name: &'static str, supported: bool) -> LookupDef {
    LookupDef { name, single_key: true, supported }
}

const fn query(name: &'static str, supported: bool) -> LookupDef {
    LookupDef { name, single_key: false, supported }
}

/// All types of the specification.
pub const LOOKUP_TYPES: &[LookupDef] = &[
    key("cdb", true),
    key("dbm", false),
    key("dbmjz", false),
    key("dbmnz", false),
    query("dnsdb", true),
    key("dsearch", true),
    query("ibase", false),
    key("iplsearch", true),
    key("json", false),
    query("ldap", false),
    query("ldapauth", false),
    query("ldapdn", false),
    query("ldapm", false),
    key("lmdb", false),
    key("lsearch", true),
    query("mysql", false),
    key("nis", false),
    key("nis0", false),
    query("nisplus", false),
    key("nmh", false),
    key("nwildlsearch", true),
    query("oracle", false),
    query("passwd", true),
    query("pgsql", false),
    key("psl", false),
    query("redis", false),
    key("regdom", false),
    key("spf", false),
    query("sqlite", true),
    query("testdb", false),
    query("whoson", false),
    key("wildlsearch", true),
];

/// The type of this name.
pub fn lookup_def(name: &[u8]) -> Option<&'static LookupDef> {
    LOOKUP_TYPES.iter().find(|def| def.name.as_bytes() == name)
}

/// What is looked up after the key itself was not found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyDefault {
    /// Nothing.
    #[default]
    None,
    /// `*`
    Star,
    /// `*@domain`, then `*`
    StarAt,
}

/// `partial`: components are removed from the key's start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partial {
    /// Components that stay.
    pub minimum: usize,
    /// What stands before what is left of the key: `*.`
    pub affix: BString,
}

/// A type as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupType {
    /// The type.
    pub def: &'static LookupDef,
    /// `partial`
    pub partial: Option<Partial>,
    /// `*` or `*@` after the name.
    pub default: KeyDefault,
    /// `name=value` after commas.
    pub options: Vec<(BString, BString)>,
}

impl LookupType {
    /// Parses `text`, which has no semicolon; the error is Exim's text.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let mut words = text.split(|b| *b == b',');
        let head = words.next().unwrap_or_default();
        let format_error = || format!("format error in lookup type \"{}\"", text.as_bstr());
        let (partial, rest) = parse_partial(head).ok_or_else(format_error)?;
        let (name, default) = match rest.find_byte(b'*') {
            None => (rest, KeyDefault::None),
            Some(star) => match &rest[star..] {
                b"*" => (&rest[..star], KeyDefault::Star),
                b"*@" => (&rest[..star], KeyDefault::StarAt),
                _ => return Err(format_error()),
            },
        };
        let def = lookup_def(name).ok_or_else(|| format!("unknown lookup type \"{}\"", name.as_bstr()))?;
        if !def.single_key {
            if partial.is_some() {
                return Err(format!("\"partial\" is not permitted for lookup type \"{}\"", def.name));
            }
            if default != KeyDefault::None {
                return Err(format!(
                    "defaults using \"*\" or \"*@\" are not permitted for lookup type \"{}\"",
                    rest.as_bstr()
                ));
            }
        }
        let options = words
            .map(|word| match word.split_once_str("=") {
                Some((name, value)) => (name.into(), value.into()),
                None => (word.into(), BString::default()),
            })
            .collect();
        Ok(Self { def, partial, default, options })
    }

    /// The value of an option.
    pub fn option(&self, name: &str) -> Option<&[u8]> {
        self.options.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_slice())
    }
}

/// The `partial` prefix, if there is one, and the rest; none: it has no right form.
fn parse_partial(text: &[u8]) -> Option<(Option<Partial>, &[u8])> {
    let Some(rest) = text.strip_prefix(b"partial") else { return Some((None, text)) };
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let minimum = match digits {
        0 => 2,
        _ => rest[..digits].to_str().ok()?.parse().ok()?,
    };
    let rest = &rest[digits..];
    if let Some(rest) = rest.strip_prefix(b"-") {
        return Some((Some(Partial { minimum, affix: "*.".into() }), rest));
    }
    let (affix, rest) = rest.strip_prefix(b"(")?.split_once_str(")")?;
    affix
        .iter()
        .all(|b| b.is_ascii_punctuation())
        .then(|| (Some(Partial { minimum, affix: affix.into() }), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decorations_of_a_type_are_told_apart() {
        let plain = LookupType::parse(b"lsearch").unwrap();
        assert_eq!((plain.partial, plain.default), (None, KeyDefault::None));
        let rich = LookupType::parse(b"partial3(.)lsearch*@,ret=key").unwrap();
        assert_eq!(rich.partial, Some(Partial { minimum: 3, affix: ".".into() }));
        assert_eq!(rich.default, KeyDefault::StarAt);
        assert_eq!(rich.option("ret"), Some(&b"key"[..]));
    }

    #[test]
    fn wrong_types_get_exims_words() {
        let text = |name: &[u8]| LookupType::parse(name).unwrap_err();
        assert_eq!(text(b"foo"), "unknown lookup type \"foo\"");
        assert_eq!(text(b"partialx-lsearch"), "format error in lookup type \"partialx-lsearch\"");
        assert_eq!(text(b"partial-passwd"), "\"partial\" is not permitted for lookup type \"passwd\"");
    }
}
