//! `dnsdb`: records of the DNS. Built: `a`, `aaaa`, `a+`, `mx`, `mxh`, `ptr`, `tlsa`, `txt`.
//!
//! Specification: section "More about dnsdb". Answers of several records are joined by newlines, or by what `>`
//! at the start of the query says.

use super::LookupError;
use crate::dns::Answer;
use crate::expand::Context;
use crate::text::{Value, list};
use bstr::{BString, ByteSlice};
use std::net::IpAddr;

/// Names in one query: each costs a question.
const MAX_NAMES: usize = 50;

/// What `defer_` says of temporary errors.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Defer {
    Strict,
    Never,
    /// The default: a deferral if no name gave an answer.
    Lax,
}

struct Query<'q> {
    kind: BString,
    names: &'q [u8],
    separator: BString,
    second: Option<BString>,
    defer: Defer,
    strict_dnssec: bool,
}

/// Asks.
pub fn find(context: &Context, query: &[u8]) -> Result<Option<Value>, LookupError> {
    let query = parse(query)?;
    let mut answers: Vec<BString> = Vec::new();
    let mut deferred = None;
    for name in list::items(query.names).take(MAX_NAMES) {
        match records(context, &query, &name)? {
            Answer::Found { records, secure, .. } => {
                let known = if secure { "yes" } else { "no" };
                context.dynamic.borrow_mut().lookup_dnssec_authenticated = known.into();
                if query.strict_dnssec && !secure {
                    continue;
                }
                answers.extend(records);
            }
            Answer::NoData | Answer::NoName => {}
            Answer::TryLater(why) if query.defer == Defer::Strict => return Err(LookupError::Defer(why)),
            Answer::TryLater(why) => deferred = Some(why),
        }
    }
    if answers.is_empty() {
        return match deferred {
            Some(why) if query.defer == Defer::Lax => Err(LookupError::Defer(why)),
            _ => Ok(None),
        };
    }
    // What the DNS says comes from outside.
    Ok(Some(Value::tainted(bstr::join(&query.separator, answers))))
}

/// `>sep,sep2 defer_x,dnssec_x,type=names`
fn parse(query: &[u8]) -> Result<Query<'_>, LookupError> {
    let mut parsed = Query {
        kind: "txt".into(),
        names: b"",
        separator: "\n".into(),
        second: None,
        defer: Defer::Lax,
        strict_dnssec: false,
    };
    let mut rest = query.trim_start();
    if let [b'>', separator, after @ ..] = rest {
        parsed.separator = vec![*separator].into();
        rest = after;
        if let [b',' | b';', second, after @ ..] = rest {
            let none = second.is_ascii_whitespace();
            parsed.second = Some(if none { BString::default() } else { vec![*second].into() });
            rest = if none { &rest[1..] } else { after };
        }
        rest = rest.trim_start();
    }
    while let Some((option, after)) = option(rest) {
        match option {
            b"defer_strict" => parsed.defer = Defer::Strict,
            b"defer_never" => parsed.defer = Defer::Never,
            b"defer_lax" => parsed.defer = Defer::Lax,
            b"dnssec_strict" => parsed.strict_dnssec = true,
            b"dnssec_lax" | b"dnssec_never" => parsed.strict_dnssec = false,
            other => {
                return Err(LookupError::Failed(format!("unsupported dnsdb option: {}", other.as_bstr())));
            }
        }
        rest = after.trim_start();
    }
    match rest.split_once_str("=") {
        Some((kind, names)) => {
            parsed.kind = kind.trim().to_ascii_lowercase().into();
            parsed.names = names;
        }
        None => parsed.names = rest,
    }
    Ok(parsed)
}

/// A word with an underscore and a comma behind it.
fn option(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (word, rest) = text.split_once_str(",")?;
    let word = word.trim();
    let known =
        ["defer_", "dnssec_", "retrans_", "retry_"].iter().any(|start| word.starts_with(start.as_bytes()));
    known.then_some((word, rest))
}

fn records(context: &Context, query: &Query, name: &[u8]) -> Result<Answer<BString>, LookupError> {
    let dns = &context.globals.dns;
    Ok(match query.kind.as_slice() {
        b"a" => map(dns.addresses(name), |ip: IpAddr| ip.is_ipv4().then(|| ip.to_string().into())),
        b"aaaa" => map(dns.addresses(name), |ip: IpAddr| ip.is_ipv6().then(|| ip.to_string().into())),
        b"a+" => map(dns.addresses(name), |ip: IpAddr| Some(ip.to_string().into())),
        b"mx" => {
            let between = query.second.clone().unwrap_or_else(|| " ".into());
            map(dns.mx(name), |mx| Some(format!("{}{between}{}", mx.preference, mx.exchange).into()))
        }
        b"mxh" => map(dns.mx(name), |mx| Some(mx.exchange)),
        b"txt" => map(dns.txt(name), Some),
        b"tlsa" => map(dns.tlsa(name), |tlsa| {
            let data: String = tlsa.data.iter().map(|byte| format!("{byte:02x}")).collect();
            Some(format!("{} {} {} {data}", tlsa.usage, tlsa.selector, tlsa.matching).into())
        }),
        b"ptr" => match name.to_str().ok().and_then(|text| text.parse().ok()) {
            Some(address) => map(dns.names(address), Some),
            None => return Err(unsupported("ptr of a name")),
        },
        other => return Err(unsupported(&other.as_bstr().to_string())),
    })
}

fn unsupported(kind: &str) -> LookupError {
    LookupError::Failed(format!("unsupported DNS record type: {kind}"))
}

fn map<T>(answer: Answer<T>, text: impl Fn(T) -> Option<BString>) -> Answer<BString> {
    match answer {
        Answer::Found { records, secure, alias_of } => {
            let records: Vec<BString> = records.into_iter().filter_map(text).collect();
            match records.is_empty() {
                true => Answer::NoData,
                false => Answer::Found { records, secure, alias_of },
            }
        }
        Answer::NoData => Answer::NoData,
        Answer::NoName => Answer::NoName,
        Answer::TryLater(why) => Answer::TryLater(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_options_type_and_names_are_told_apart() {
        let query = parse(b">: defer_never,ptr=192.0.2.1").unwrap();
        assert_eq!((query.kind.as_slice(), query.names), (&b"ptr"[..], &b"192.0.2.1"[..]));
        assert!(query.separator == ":" && query.defer == Defer::Never);
        let query = parse(b">;,. mx=a.b").unwrap();
        assert_eq!(query.second.as_deref(), Some(&b"."[..].into()));
        assert!(parse(b"retry_3,mx=a.b").is_err());
        assert_eq!(parse(b"a.b").unwrap().kind, "txt");
    }
}
