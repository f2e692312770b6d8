//! Host and domain lists that ask the DNS, and what comes out of lists for the callers.

#[path = "expand/context.rs"]
mod context;

use bstr::BString;
use oxim::dns::{Answer, Mx, Resolver, Tlsa};
use oxim::expand::context::{Globals, NoHooks};
use oxim::expand::{Context, expand};
use oxim::matching::{self, HostSubject, Match, MatchError};
use oxim::syntax::{Position, Template};
use oxim::text::Value;
use std::net::IpAddr;
use std::sync::Arc;

/// A small DNS. `later.example` and 192.0.2.99 have no answer now; 192.0.2.66 claims a name that is not its own.
struct SmallDns;

impl Resolver for SmallDns {
    fn addresses(&self, name: &[u8]) -> Answer<IpAddr> {
        match name {
            b"host.example" => found(["192.0.2.1".parse().unwrap()]),
            b"me.example" => found(["127.0.0.1".parse().unwrap()]),
            b"later.example" => Answer::TryLater("time-out".into()),
            _ => Answer::NoName,
        }
    }
    fn names(&self, address: IpAddr) -> Answer<BString> {
        match address.to_string().as_str() {
            "192.0.2.1" | "192.0.2.66" => found(["host.example".into()]),
            "192.0.2.99" => Answer::TryLater("time-out".into()),
            _ => Answer::NoName,
        }
    }
    fn mx(&self, domain: &[u8]) -> Answer<Mx> {
        let mx = |preference, exchange: &str| Mx { preference, exchange: exchange.into() };
        match domain {
            b"first.example" => found([mx(10, "me.example"), mx(20, "host.example")]),
            b"second.example" => found([mx(20, "me.example"), mx(10, "host.example")]),
            b"elsewhere.example" => found([mx(10, "host.example")]),
            b"later.example" => Answer::TryLater("time-out".into()),
            _ => Answer::NoName,
        }
    }
    fn txt(&self, _: &[u8]) -> Answer<BString> {
        found(["one".into(), "two".into()])
    }
    fn tlsa(&self, _: &[u8]) -> Answer<Tlsa> {
        Answer::NoName
    }
}

fn found<T>(records: impl Into<Vec<T>>) -> Answer<T> {
    Answer::Found { records: records.into(), secure: false, alias_of: None }
}

fn globals() -> Arc<Globals> {
    Arc::new(context::globals(Arc::new(SmallDns)))
}

fn list(text: &str) -> Template {
    Template::parse(text.as_bytes(), &Position::nowhere("test")).unwrap()
}

fn host(address: &str, text: &str) -> Result<bool, MatchError> {
    let context = Context::new(globals(), &NoHooks);
    let subject = HostSubject { address: address.parse().ok(), name: None };
    matching::host(&context, &subject, &list(text)).map(|answer| answer.is_yes())
}

fn domain(name: &str, text: &str) -> Result<bool, MatchError> {
    let context = Context::new(globals(), &NoHooks);
    matching::domain(&context, &Value::tainted(name), &list(text)).map(|answer| answer.is_yes())
}

fn deferred<T>(answer: Result<T, MatchError>) -> bool {
    matches!(answer, Err(MatchError::Defer(_)))
}

#[test]
fn a_host_is_known_by_names_that_lead_back_to_its_address() {
    assert_eq!(host("192.0.2.1", "*.example"), Ok(true));
    assert_eq!(host("192.0.2.1", "^host\\\\."), Ok(true));
    assert_eq!(host("192.0.2.1", "host.example"), Ok(true));
    assert_eq!(host("192.0.2.66", "*.example"), Ok(false));
    assert_eq!(host("127.0.0.1", "@"), Ok(true));
}

#[test]
fn a_name_that_cannot_be_found_ends_the_list_unless_it_says_otherwise() {
    assert_eq!(host("192.0.2.5", "*.example : 192.0.2.5"), Ok(false));
    assert_eq!(host("192.0.2.5", "192.0.2.5 : *.example"), Ok(true));
    assert_eq!(host("192.0.2.5", "+ignore_unknown : *.example : 192.0.2.5"), Ok(true));
    assert_eq!(host("192.0.2.5", "+include_unknown : *.example"), Ok(true));
    assert_eq!(host("192.0.2.5", "nosuch.example : 192.0.2.5"), Ok(false));
}

#[test]
fn an_answer_that_is_not_there_now_defers_unless_the_list_says_otherwise() {
    assert!(deferred(host("192.0.2.99", "*.example")));
    assert!(deferred(host("192.0.2.1", "later.example")));
    assert_eq!(host("192.0.2.99", "+ignore_defer : *.example : 192.0.2.99"), Ok(true));
    assert_eq!(host("192.0.2.99", "+include_defer : *.example"), Ok(true));
    assert!(deferred(domain("later.example", "@mx_any")));
}

#[test]
fn a_local_submission_matches_an_empty_item_and_the_asterisk_only() {
    assert_eq!(host("", ":"), Ok(true));
    assert_eq!(host("", "*"), Ok(true));
    for text in ["127.0.0.1", "*.example", "host.example", "@[]", "!127.0.0.1 : 0.0.0.0/0"] {
        assert_eq!(host("", text), Ok(false), "{text}");
    }
    assert_eq!(host("192.0.2.1", ":"), Ok(false));
}

#[test]
fn mx_items_tell_where_the_mail_of_a_domain_goes() {
    for (name, any, primary, secondary) in [
        ("first.example", true, true, false),
        ("second.example", true, false, true),
        ("elsewhere.example", false, false, false),
        ("nosuch.example", false, false, false),
    ] {
        assert_eq!(domain(name, "@mx_any"), Ok(any), "{name}");
        assert_eq!(domain(name, "@mx_primary"), Ok(primary), "{name}");
        assert_eq!(domain(name, "@mx_secondary"), Ok(secondary), "{name}");
    }
    assert_eq!(domain("first.example", "@mx_any/ignore=127.0.0.1"), Ok(false));
}

#[test]
fn what_a_list_of_the_configuration_gives_is_not_from_outside() {
    let context = Context::new(globals(), &NoHooks);
    let answer = matching::domain(&context, &Value::tainted("A.B"), &list("+d2"));
    assert_eq!(answer, Ok(Match::Yes(Some(Value::clean("a.b")))));
    let local = matching::local_part(&context, &Value::tainted("JOE"), &list("joe"), true);
    assert_eq!(local, Ok(Match::No));
}

#[test]
fn a_list_made_of_outside_text_stays_tainted_and_names_nothing() {
    let mut context = Context::new(globals(), &NoHooks);
    context.address.domain = Some(Value::tainted("+d1"));
    let answer = matching::domain(&context, &Value::tainted("a.b"), &list("$domain"));
    assert!(matches!(answer, Err(MatchError::Failed(text)) if text.contains("ainted")));
    context.address.domain = Some(Value::tainted("a.b"));
    let answer = matching::domain(&context, &Value::tainted("a.b"), &list("$domain"));
    assert_eq!(answer, Ok(Match::Yes(Some(Value::tainted("a.b")))));
}

#[test]
fn a_forced_failure_matches_nothing_and_another_defers() {
    assert_eq!(domain("a.b", "${if eq{1}{2}{}fail}"), Ok(false));
    // The panic log has the reason.
    assert_eq!(domain("a.b", "${readfile{/nonexist}}"), Err(MatchError::Unexpanded));
}

#[test]
fn records_of_the_dns_are_looked_up_and_come_from_outside() {
    let context = Context::new(globals(), &NoHooks);
    let value = |text: &str| expand(&list(text), &context);
    let text = |text: &str| value(text).unwrap().bytes().to_string();
    assert_eq!(text("${lookup dnsdb{mx=first.example}}"), "10 me.example\n20 host.example");
    assert_eq!(text("${lookup dnsdb{>:,, mx=first.example}}"), "10,me.example:20,host.example");
    assert_eq!(text("${lookup dnsdb{>: mxh=first.example}}"), "me.example:host.example");
    assert_eq!(text("${lookup dnsdb{ptr=192.0.2.1}}"), "host.example");
    assert_eq!(text("${lookup dnsdb{>; txt=x.example}}"), "one;two");
    assert_eq!(text("${lookup dnsdb{a=nosuch.example}{y}{n}}"), "n");
    assert_eq!(text("${lookup dnsdb{defer_never,a=later.example}{y}{n}}"), "n");
    assert!(value("${lookup dnsdb{a=later.example}}").is_err());
    assert!(value("${lookup dnsdb{a=host.example}}").unwrap().is_tainted());
}
