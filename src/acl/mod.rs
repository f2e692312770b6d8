//! Access control lists: compiling what the configuration says and running it.
//!
//! Specification: chapter "Access control lists". An ACL is a list of statements
//! ([`crate::syntax::acl`]); [`Runner::run`] obeys them in one [`Place`] and gives an [`Answer`]: what to
//! do, what the peer hears, what the log says. What ACLs change besides is in [`effects`].
//!
//! What is not built (callouts, DNS lists, rate limits, content scanning ...) is refused when the
//! configuration is read, with its place in the file.
pub mod effects;
pub mod peer;
pub mod place;

mod condition;
mod control;
mod header_check;
mod modifier;
mod run;
mod verify;

pub use effects::{MessageEffects, SessionEffects};
pub use place::Place;
pub use run::{Answer, Runner, Verdict};

use crate::config::{ConfigError, Options, written::AclText};
use crate::syntax::acl::{AclSyntaxError, Item, Statement, parse, parse_inline};
use crate::syntax::acl_words::Word;
use crate::syntax::{Position, Template};
use bstr::{BStr, BString};
use std::collections::HashMap;
use std::sync::Arc;

/// All named ACLs of a configuration, checked.
#[derive(Clone, Debug, Default)]
pub struct Acls {
    by_name: HashMap<BString, Arc<Vec<Statement>>>,
    may_delay: bool,
}

impl Acls {
    /// Parses and checks every ACL; everything wrong is told. What is at fault is left out.
    pub fn compile(texts: &[AclText]) -> (Acls, Vec<ConfigError>) {
        let mut acls = Acls::default();
        let mut errors = Vec::new();
        for text in texts {
            match parse(&text.lines) {
                Ok(statements) => {
                    errors.extend(check(&statements));
                    acls.may_delay |= delays(&statements);
                    acls.by_name.insert(text.name.clone(), Arc::new(statements));
                }
                Err(faults) => errors.extend(faults.into_iter().map(config_error)),
            }
        }
        (acls, errors)
    }

    /// Checks the main options that name ACLs: what is written in place of a name is parsed, as far as
    /// it needs no expansion.
    pub fn check_options(&mut self, main: &Options) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        for place in Place::ALL {
            let Some(setting) = main.def(place.option()).and_then(|_| main.text(place.option())) else {
                continue;
            };
            let text = setting.text();
            if text.starts_with(b"/") {
                errors.push(unsupported(setting.at(), format!("{}: an ACL in a file", place.option())));
            } else if !text.contains(&b'$') && !self.by_name.contains_key(text) {
                match parse_inline(text, setting.at()) {
                    Ok(statements) => {
                        errors.extend(check(&statements));
                        self.may_delay |= delays(&statements);
                    }
                    Err(faults) => errors.extend(faults.into_iter().map(config_error)),
                }
            }
        }
        errors
    }

    /// The ACL of this name.
    pub fn named(&self, name: &BStr) -> Option<Arc<Vec<Statement>>> {
        self.by_name.get(name).cloned()
    }

    /// True if any ACL may wait: replies are sent before such an ACL runs.
    pub fn may_delay(&self) -> bool {
        self.may_delay
    }
}

fn delays(statements: &[Statement]) -> bool {
    statements.iter().flat_map(|statement| &statement.items).any(|item| item.word == Word::Delay)
}

fn config_error(fault: AclSyntaxError) -> ConfigError {
    ConfigError {
        at: fault.at,
        message: format!("error in ACL: {}", fault.message),
        line: None,
        unsupported: false,
    }
}

fn unsupported(at: &Position, what: String) -> ConfigError {
    let message = format!("{what} is known but not supported yet");
    ConfigError { at: at.clone(), message, line: None, unsupported: true }
}

/// What of these statements is not built.
fn check(statements: &[Statement]) -> Vec<ConfigError> {
    statements.iter().flat_map(|statement| &statement.items).filter_map(check_item).collect()
}

fn check_item(item: &Item) -> Option<ConfigError> {
    let at = item.argument.at();
    if let Some(what) = item.argument.unsupported().first() {
        return Some(unsupported(at, format!("\"{}\" in an expansion", what.name)));
    }
    let built = match item.word {
        Word::Verify => return verify::check(&item.argument),
        Word::Control => return control::check(&item.argument),
        Word::Acl => return check_nested(&item.argument),
        Word::RemoveHeader => !item.argument.text().starts_with(b"^"),
        word => !NOT_BUILT.contains(&word),
    };
    (!built).then(|| unsupported(at, format!("ACL \"{}\"", item.word.name())))
}

/// Conditions and modifiers that are known but not built.
pub const NOT_BUILT: &[Word] = &[
    Word::AtrnDomains,
    Word::Dcc,
    Word::Decode,
    Word::DkimSigners,
    Word::DkimStatus,
    Word::DmarcStatus,
    Word::Dnslists,
    Word::Malware,
    Word::MimeRegex,
    Word::Queue,
    Word::Ratelimit,
    Word::Regex,
    Word::Seen,
    Word::Spam,
    Word::Spf,
    Word::SpfGuess,
    Word::Udpsend,
];

fn check_nested(argument: &Template) -> Option<ConfigError> {
    argument.text().starts_with(b"/").then(|| unsupported(argument.at(), "an ACL in a file".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Effect;
    use crate::syntax::Located;

    fn acl(name: &str, lines: &[&str]) -> AclText {
        let file = Arc::new("/etc/test.conf".into());
        let at = |line: usize| Position { file: Arc::clone(&file), line: line as u32 };
        AclText {
            name: name.into(),
            lines: lines
                .iter()
                .enumerate()
                .map(|(i, l)| Located { value: (*l).into(), at: at(i + 2) })
                .collect(),
            at: at(1),
        }
    }

    #[test]
    fn what_is_not_built_is_refused_with_its_line() {
        let (_, errors) = Acls::compile(&[acl("a", &["accept hosts = *", "deny dnslists = x.example"])]);
        assert_eq!(errors.len(), 1);
        assert!(errors[0].unsupported);
        assert_eq!(errors[0].at.to_string(), "/etc/test.conf:3");
        assert_eq!(errors[0].message, "ACL \"dnslists\" is known but not supported yet");
    }

    #[test]
    fn callouts_and_unknown_controls_are_refused() {
        let (_, errors) = Acls::compile(&[acl(
            "a",
            &[
                "require verify = recipient/callout=10s,defer_ok",
                "warn control = cutthrough_delivery",
                "warn control = foo",
            ],
        )]);
        let messages: Vec<_> =
            errors.iter().map(|error| (error.message.as_str(), error.unsupported)).collect();
        assert_eq!(
            messages,
            [
                ("ACL \"verify = recipient/callout=10s,defer_ok\" is known but not supported yet", true),
                ("ACL \"control = cutthrough_delivery\" is known but not supported yet", true),
                ("error in ACL: syntax error in \"control=foo\"", false),
            ]
        );
    }

    /// The option acts on callouts and cutthrough delivery, and on nothing else.
    #[test]
    fn hosts_verify_avoid_tls_is_without_effect_as_long_as_what_it_acts_on_is_refused() {
        let mut rows = crate::transport::options::SMTP.iter();
        let row = rows.find(|def| def.name == "hosts_verify_avoid_tls").unwrap();
        let lines = [
            "deny verify = recipient/callout",
            "deny verify = sender/defer_ok/callout=use_sender",
            "deny verify = header_sender/callout",
            "warn control = cutthrough_delivery/defer=pass",
        ];
        for line in lines {
            let (_, errors) = Acls::compile(&[acl("a", &[line])]);
            let refused = errors.len() == 1 && errors[0].unsupported;
            assert_eq!(matches!(row.effect, Effect::NoEffect(_)), refused, "{line}: {errors:?}");
        }
    }

    #[test]
    fn every_fault_of_every_acl_is_told_at_once() {
        let (acls, errors) = Acls::compile(&[acl("a", &["acept", "accept hosts"]), acl("b", &["accept"])]);
        assert_eq!(errors.len(), 2);
        assert!(acls.named("b".into()).is_some());
    }
}
