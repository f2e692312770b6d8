//! The manualroute router: hosts written in the configuration (spec chapter "The manualroute router").

use super::chain::{Asked, Verdict, is_on, known_transport};
use super::generic::{Flag, SelfAction, flag, wrong};
use super::host_list::{self, By, Family, Found, HostItem, LookUp};
use super::item::{Remark, Trouble};
use super::precondition::{expand_trouble, items};
use crate::config::{ConfigError, Instance};
use crate::expand::{self, Context, ExpandError};
use crate::matching::{self, Match, MatchError};
use crate::syntax::{Position, Template};
use crate::transport::Host;
use bstr::{BStr, BString, ByteSlice};

/// Exim's error number for a host without address.
const HOST_LOOKUP: i32 = -32;
/// Exim's error number for an answer of the DNS that cannot be used now.
const DNS_DEFER: i32 = -36;

/// What to do when a host has no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FindFailed {
    Freeze,
    Defer,
    Fail,
    Pass,
    Decline,
    Ignore,
}

/// A compiled manualroute router; fields are the options of their names.
#[derive(Debug)]
pub struct Manualroute {
    source: Source,
    host_find_failed: FindFailed,
    host_all_ignored: FindFailed,
    hosts_randomize: Flag,
}

#[derive(Debug)]
enum Source {
    /// `route_list`: pattern, hosts and options, as written.
    List(Vec<Rule>),
    /// `route_data`
    Data(Template),
}

#[derive(Debug)]
struct Rule {
    pattern: Template,
    hosts: Template,
    options: BString,
}

/// The options of one rule.
#[derive(Debug)]
struct RuleOptions {
    randomize: bool,
    look_up: LookUp,
    transport: Option<BString>,
}

impl Manualroute {
    /// Reads the private options.
    pub fn compile(instance: &Instance) -> Result<Self, Vec<ConfigError>> {
        let options = &instance.options;
        let mut errors = Vec::new();
        let source = match (options.text("route_list"), options.text("route_data")) {
            (Some(list), None) => match compile_rules(list) {
                Ok(rules) => Some(Source::List(rules)),
                Err(text) => {
                    errors.push(wrong(instance, "route_list", text));
                    None
                }
            },
            (None, Some(data)) => Some(Source::Data(data.clone())),
            _ => {
                let text = format!(
                    "{} router:\n  route_list or route_data (but not both) must be specified",
                    instance.name
                );
                errors.push(wrong(instance, "driver", text));
                None
            }
        };
        let find_failed = read_find_failed(instance, "host_find_failed", FindFailed::Freeze, &mut errors);
        let all_ignored = read_find_failed(instance, "host_all_ignored", FindFailed::Defer, &mut errors);
        match source {
            Some(source) if errors.is_empty() => Ok(Self {
                source,
                host_find_failed: find_failed,
                host_all_ignored: all_ignored,
                hosts_randomize: flag(instance, "hosts_randomize", false),
            }),
            _ => Err(errors),
        }
    }

    /// Finds the rule for the domain, its hosts, and their addresses.
    pub fn run(&self, asked: &Asked, context: &mut Context) -> Verdict {
        let (hosts, options) = match self.data(asked, context) {
            Ok(Some(found)) => found,
            Ok(None) => return Verdict::Decline,
            Err(trouble) => return Verdict::Defer(trouble),
        };
        let options = match self.rule_options(options.as_bstr(), asked, context) {
            Ok(options) => options,
            Err(trouble) => return Verdict::Defer(trouble),
        };
        let remote = match self.is_remote(&options, asked, context) {
            Ok(remote) => remote,
            Err(trouble) => return Verdict::Defer(trouble),
        };
        if !remote {
            let host_list = Some(hosts).filter(|list| !list.is_empty());
            return Verdict::Accept { transport: options.transport, hosts: Vec::new(), host_list };
        }
        self.look_up(hosts.as_bstr(), options, asked, context)
    }

    /// The host list (expanded) and the options of the rule that holds.
    fn data(&self, asked: &Asked, context: &mut Context) -> Result<Option<(BString, BString)>, Trouble> {
        let rules = match &self.source {
            Source::List(rules) => rules,
            Source::Data(template) => {
                return match expand::expand(template, context) {
                    Ok(value) if value.is_empty() => Ok(None),
                    Ok(value) => {
                        let (hosts, options) = split_word(value.bytes());
                        Ok(Some((hosts, options.into())))
                    }
                    Err(ExpandError::Forced(_)) => Ok(None),
                    Err(error) => Err(expand_trouble(asked.router, template, "route_data", &error)),
                };
            }
        };
        let domain = context.address.domain.clone().unwrap_or_default();
        for rule in rules {
            let data = match matching::domain(context, &domain, &rule.pattern) {
                Ok(Match::Yes(data)) => data,
                Ok(Match::No) => continue,
                Err(error) => {
                    let text = match error {
                        MatchError::Unexpanded => "lookup defer in route_list".to_owned(),
                        other => format!("lookup of domain in route_list deferred: {other}"),
                    };
                    return Err(Trouble::defer(asked.router.name.as_bstr(), text));
                }
            };
            context.dynamic.borrow_mut().value = data;
            let hosts = match expand::expand(&rule.hosts, context) {
                Ok(hosts) => hosts.into_bytes(),
                Err(ExpandError::Forced(_)) => return Ok(None),
                Err(error) => return Err(expand_trouble(asked.router, &rule.hosts, "route_list", &error)),
            };
            return Ok(Some((hosts, rule.options.clone())));
        }
        Ok(None)
    }

    fn rule_options(&self, text: &BStr, asked: &Asked, context: &Context) -> Result<RuleOptions, Trouble> {
        let randomize = is_on(asked.router, &self.hosts_randomize, "hosts_randomize", context)?;
        let mut options = RuleOptions { randomize, look_up: LookUp::default(), transport: None };
        for word in text.fields() {
            match word {
                b"randomize" => options.randomize = true,
                b"no_randomize" => options.randomize = false,
                b"byname" => options.look_up.by = By::Name,
                b"bydns" => options.look_up.by = By::Dns,
                b"ipv4_only" => options.look_up.family = Family::OnlyIpv4,
                b"ipv4_prefer" => options.look_up.family = Family::Ipv4First,
                name if asked.transports.contains_key(name.as_bstr()) => {
                    options.transport = Some(name.into());
                }
                other => {
                    let problem = format!("unknown routing option or transport name \"{}\"", other.as_bstr());
                    let mut trouble =
                        Trouble::defer(asked.router.name.as_bstr(), format!("error in router: {problem}"));
                    trouble
                        .log_lines
                        .push(format!("Error in {} router: {problem}", asked.router.name).into());
                    return Err(trouble);
                }
            }
        }
        Ok(options)
    }

    fn is_remote(&self, options: &RuleOptions, asked: &Asked, context: &Context) -> Result<bool, Trouble> {
        if let Some(name) = &options.transport {
            return Ok(asked.transports.get(name).copied().unwrap_or(true));
        }
        let Some(template) = &asked.router.transport else { return Ok(true) };
        let name = expand::expand(template, context)
            .map_err(|error| expand_trouble(asked.router, template, "transport", &error))?;
        let name = known_transport(asked.router, name, asked.transports)?;
        Ok(asked.transports.get(&name).copied().unwrap_or(true))
    }

    fn look_up(&self, hosts: &BStr, options: RuleOptions, asked: &Asked, context: &mut Context) -> Verdict {
        let mut list = host_list::parse(hosts);
        if list.is_empty() {
            let domain = context.address.domain.clone().unwrap_or_default();
            let text = format!(
                "error in {} router: no host(s) specified for domain {}",
                asked.router.name,
                domain.bytes()
            );
            let mut trouble = Trouble::defer(asked.router.name.as_bstr(), text.clone());
            trouble.log_lines.push(text.into());
            return Verdict::Defer(trouble);
        }
        if options.randomize {
            host_list::randomize(&mut list);
        }
        let mut found: Vec<Host> = Vec::new();
        let (mut ignored, mut own_first) = (false, false);
        for (group, item) in &list {
            match self.one_host(item, *group, &options, asked, context) {
                Ok(Found::Hosts { hosts, .. }) if hosts.is_empty() => ignored = true,
                Ok(Found::Hosts { self_first: true, hosts }) if found.is_empty() => {
                    match own_host(asked, hosts) {
                        Ok(hosts) => {
                            found.extend(hosts);
                            own_first = true;
                        }
                        Err(verdict) => return verdict,
                    }
                }
                // Where `self` lets this host stand first, there may be more of it: another port, for instance.
                Ok(Found::Hosts { hosts, .. }) if own_first => found.extend(hosts),
                // This host only further down the list: it and all after it are left out.
                Ok(Found::Hosts { self_first: true, .. }) => break,
                Ok(Found::Hosts { hosts, .. }) => found.extend(hosts),
                Ok(Found::TryLater(_)) if asked.router.pass_on_timeout => return Verdict::Pass,
                Ok(Found::TryLater(why)) => {
                    ::log::debug!(target: "route", "host lookup for {}: {why}", item.name);
                    let text = format!("host lookup for {} did not complete (DNS timeout?)", item.name);
                    return Verdict::Defer(Trouble::defer(asked.router.name.as_bstr(), text));
                }
                Ok(Found::Insecure(name)) => {
                    let text = format!("host lookup for {name} done insecurely");
                    let trouble = Trouble::defer(asked.router.name.as_bstr(), text);
                    return Verdict::Defer(Trouble { errno: DNS_DEFER, ..trouble });
                }
                Ok(Found::Nothing) if self.host_find_failed == FindFailed::Ignore => ignored = true,
                Ok(Found::Nothing) => return no_address(self.host_find_failed, item, asked),
                Err(trouble) => return Verdict::Defer(trouble),
            }
        }
        if found.is_empty() && ignored {
            let action = if self.host_all_ignored == FindFailed::Ignore {
                FindFailed::Defer
            } else {
                self.host_all_ignored
            };
            return all_ignored(action, asked);
        }
        Verdict::Accept { transport: options.transport, hosts: found, host_list: None }
    }

    fn one_host(
        &self,
        item: &HostItem,
        group: usize,
        options: &RuleOptions,
        asked: &Asked,
        context: &mut Context,
    ) -> Result<Found, Trouble> {
        let spread = options.randomize.then_some(group);
        let found = host_list::find(item, options.look_up, &asked.router.dnssec, spread, context);
        host_list::drop_ignored(found, asked.router, context)
    }
}

/// The first host is this host: `self` says what happens.
fn own_host(asked: &Asked, hosts: Vec<Host>) -> Result<Vec<Host>, Verdict> {
    let router = asked.router;
    let domain = asked.item.address.domain();
    let text = || "remote host address is the local host".to_owned();
    match &router.self_action {
        SelfAction::Send => Ok(hosts),
        SelfAction::Pass => Err(Verdict::PassWith(text().into())),
        SelfAction::Reroute(domain) => Err(Verdict::Reroute(domain.clone())),
        SelfAction::Fail => Err(Verdict::Fail(Trouble {
            router: Some(router.name.clone()),
            text: text().into(),
            ..Trouble::default()
        })),
        SelfAction::Defer | SelfAction::Freeze => {
            let freeze = router.self_action == SelfAction::Freeze;
            let mut trouble = Trouble::defer(router.name.as_bstr(), text());
            trouble.freeze = freeze;
            trouble.remark = Some(Remark::LocalHost(domain.as_bytes().into()));
            Err(Verdict::Defer(trouble))
        }
    }
}

fn no_address(action: FindFailed, item: &HostItem, asked: &Asked) -> Verdict {
    let router = asked.router;
    let text = format!("lookup of host \"{}\" failed in {} router", item.name, router.name);
    let remark = Some(Remark::NoAddress(item.name.clone()));
    match by_action(action, text, asked) {
        Verdict::Defer(trouble) => Verdict::Defer(Trouble { errno: HOST_LOOKUP, remark, ..trouble }),
        Verdict::Fail(trouble) => Verdict::Fail(Trouble { remark, ..trouble }),
        other => other,
    }
}

fn all_ignored(action: FindFailed, asked: &Asked) -> Verdict {
    let text = format!(
        "lookup failed for all hosts in {} router: host_find_failed=ignore host_all_ignored={}",
        asked.router.name,
        action.word()
    );
    by_action(action, text, asked)
}

fn by_action(action: FindFailed, text: String, asked: &Asked) -> Verdict {
    let router = asked.router;
    match action {
        FindFailed::Pass => Verdict::Pass,
        FindFailed::Decline | FindFailed::Ignore => Verdict::Decline,
        FindFailed::Fail => Verdict::Fail(Trouble {
            router: Some(router.name.clone()),
            text: text.into(),
            ..Trouble::default()
        }),
        FindFailed::Defer => Verdict::Defer(Trouble::defer(router.name.as_bstr(), text)),
        FindFailed::Freeze => {
            let mut trouble = Trouble::defer(router.name.as_bstr(), text);
            trouble.freeze = true;
            Verdict::Defer(trouble)
        }
    }
}

impl FindFailed {
    /// As it is written.
    fn word(self) -> &'static str {
        match self {
            Self::Freeze => "freeze",
            Self::Defer => "defer",
            Self::Fail => "fail",
            Self::Pass => "pass",
            Self::Decline => "decline",
            Self::Ignore => "ignore",
        }
    }
}

fn read_find_failed(
    instance: &Instance,
    option: &str,
    default: FindFailed,
    errors: &mut Vec<ConfigError>,
) -> FindFailed {
    let Some(text) = instance.options.plain(option) else { return default };
    match text.as_bytes() {
        b"freeze" => FindFailed::Freeze,
        b"defer" => FindFailed::Defer,
        b"fail" => FindFailed::Fail,
        b"pass" => FindFailed::Pass,
        b"decline" => FindFailed::Decline,
        b"ignore" if option == "host_find_failed" => FindFailed::Ignore,
        _ => {
            let text = format!("{} router:\n  unrecognized setting for {option} option", instance.name);
            errors.push(wrong(instance, option, text));
            default
        }
    }
}

fn compile_rules(list: &Template) -> Result<Vec<Rule>, String> {
    items(list.text(), b';').iter().map(|text| compile_rule(text.as_bstr(), list.at())).collect()
}

fn compile_rule(text: &BStr, at: &Position) -> Result<Rule, String> {
    let (pattern, rest) = split_word(text);
    let (hosts, options) = split_word(rest);
    let parse = |text: &BString| Template::parse(text, at).map_err(|error| error.to_string());
    Ok(Rule { pattern: parse(&pattern)?, hosts: parse(&hosts)?, options: options.into() })
}

/// The first word (quotes taken off, expansion items kept whole) and what follows it.
fn split_word(text: &BStr) -> (BString, &BStr) {
    let text = text.trim_start();
    if text.first() == Some(&b'"') {
        let mut word = BString::default();
        let mut escaped = false;
        for (at, &byte) in text.iter().enumerate().skip(1) {
            match byte {
                _ if escaped => {
                    if byte != b'"' && byte != b'\\' {
                        word.push(b'\\');
                    }
                    word.push(byte);
                    escaped = false;
                }
                b'\\' => escaped = true,
                b'"' => return (word, text[at + 1..].trim_start().as_bstr()),
                _ => word.push(byte),
            }
        }
        return (word, b"".as_bstr());
    }
    let mut depth = 0_u32;
    for (at, &byte) in text.iter().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            _ if byte.is_ascii_whitespace() && depth == 0 => {
                return (text[..at].into(), text[at..].trim_start().as_bstr());
            }
            _ => {}
        }
    }
    (text.into(), b"".as_bstr())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_has_a_pattern_hosts_and_options() {
        let at = Position::nowhere("test");
        let rule = compile_rule(b"*.x \"a : b\" byname remote".as_bstr(), &at).unwrap();
        assert_eq!(rule.pattern.text(), "*.x");
        assert_eq!(rule.hosts.text(), "a : b");
        assert_eq!(rule.options, "byname remote");
        let rule = compile_rule(b"* ${if eq {a}{b} {x}{y}}.z".as_bstr(), &at).unwrap();
        assert_eq!(rule.hosts.text(), "${if eq {a}{b} {x}{y}}.z");
        assert_eq!(rule.options, "");
    }
}
