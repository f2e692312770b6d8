//! The conditions of ACLs.
//!
//! Specification: section "ACL conditions". A forced failure of the argument's expansion makes a
//! condition true.

use super::Place;
use super::run::{Runner, Tested, Texts, Verdict, expand_failed};
use crate::expand::context::Context;
use crate::expand::{ExpandError, expand, truth};
use crate::mail::envelope::TlsInfo;
use crate::matching::{self, HostSubject, Match, MatchError};
use crate::syntax::acl::Item;
use crate::syntax::acl_words::{Verb, Word};
use crate::syntax::{Position, Template};
use crate::text::Value;
use bstr::{BString, ByteSlice};

/// Arguments of a named ACL: `$acl_arg1` to `$acl_arg9`.
const ARGUMENTS_MAX: usize = 9;

impl Runner<'_> {
    pub(super) fn test_condition(
        &self,
        context: &mut Context,
        place: Place,
        verb: Verb,
        item: &Item,
        texts: &mut Texts,
    ) -> Tested {
        let list = &item.argument;
        match item.word {
            Word::Acl => self.test_acl(context, place, verb, list, texts),
            Word::Authenticated => {
                let name = context.session.origin.authenticator.clone();
                test_string_list(context, name, list, texts)
            }
            Word::Encrypted => {
                let suite = context.session.origin.tls.as_ref().map(cipher_suite);
                test_string_list(context, suite, list, texts)
            }
            Word::Condition => test_expanded(context, list, texts),
            Word::Domains => test_domains(context, list, texts),
            Word::LocalParts => self.test_local_parts(context, list, texts),
            Word::Recipients => {
                let recipient = self.state().recipient.clone();
                let address = Value::tainted(recipient.map(|address| address.to_bytes()).unwrap_or_default());
                let matched = matching::address(context, &address, list);
                let (tested, data) = outcome(matched, list, texts);
                set_if_met(tested, data, &mut context.dynamic.borrow_mut().recipient_data);
                tested
            }
            Word::Senders => {
                let matched = matching::address(context, &sender(context), list);
                let (tested, data) = outcome(matched, list, texts);
                set_if_met(tested, data, &mut context.dynamic.borrow_mut().sender_data);
                tested
            }
            Word::SenderDomains => {
                let domain = context.message.sender.as_ref().map(|sender| sender.domain().to_owned());
                let domain = Value::tainted(domain.unwrap_or_default());
                outcome(matching::domain(context, &domain, list), list, texts).0
            }
            Word::Hosts => {
                let origin = &context.session.origin;
                let host = HostSubject {
                    address: origin.host.map(|host| host.ip()),
                    name: origin.host_name.clone(),
                };
                let (tested, data) = outcome(matching::host(context, &host, list), list, texts);
                set_if_met(tested, data, &mut context.dynamic.borrow_mut().host_data);
                tested
            }
            Word::Verify => self.test_verify(context, place, item, texts),
            // refused when the configuration was read; an inline ACL comes here
            word => {
                texts.log = Some(format!("ACL \"{}\" is not supported yet", word.name()).into());
                Tested::Error
            }
        }
    }

    fn test_local_parts(&self, context: &mut Context, list: &Template, texts: &mut Texts) -> Tested {
        let caseful = self.state().caseful;
        let local_part = context.address.local_part.clone().unwrap_or_default();
        let (tested, data) = outcome(matching::local_part(context, &local_part, list, caseful), list, texts);
        set_if_met(tested, data, &mut context.dynamic.borrow_mut().local_part_data);
        tested
    }

    /// `acl = name arguments` or `acl = text`.
    fn test_acl(
        &self,
        context: &mut Context,
        place: Place,
        verb: Verb,
        argument: &Template,
        texts: &mut Texts,
    ) -> Tested {
        let (name, arguments) = match self.split_call(context, argument) {
            Ok(call) => call,
            Err((_, ExpandError::Forced(_))) => return Tested::Ignored,
            Err((template, error)) => return fail_expansion(&template, &error, texts),
        };
        let saved = std::mem::replace(&mut context.dynamic.borrow_mut().acl_arguments, arguments);
        let verdict = self.run_named(context, place, &name, texts);
        context.dynamic.borrow_mut().acl_arguments = saved;
        match verdict {
            Verdict::Accept => Tested::Met,
            Verdict::Deny => Tested::NotMet,
            Verdict::Drop => Tested::Dropped,
            Verdict::Defer => Tested::Defer,
            Verdict::Error => Tested::Error,
            Verdict::Discard if matches!(verb, Verb::Accept | Verb::Discard) => Tested::Discard,
            Verdict::Discard => {
                texts.log = Some(
                    format!(
                        "nested ACL returned \"discard\" for \"{}\" command (only allowed with \"accept\" or \"discard\")",
                        verb.name()
                    )
                    .into(),
                );
                Tested::Error
            }
        }
    }

    /// The name (or whole text) and the arguments: words are expanded one by one if the first names an ACL.
    fn split_call(
        &self,
        context: &Context,
        argument: &Template,
    ) -> Result<(Value, Vec<Value>), (Template, ExpandError)> {
        let words: Vec<&[u8]> =
            argument.text().split(|b| b.is_ascii_whitespace()).filter(|word| !word.is_empty()).collect();
        if let Some((first, rest)) = words.split_first()
            && !rest.is_empty()
            && let Ok(first) = parse_word(first, argument.at())
            && let Ok(name) = expand(&first, context)
            && self.acls.named(name.bytes()).is_some()
        {
            let arguments = rest.iter().take(ARGUMENTS_MAX).map(|word| {
                let word = parse_word(word, argument.at())?;
                expand(&word, context)
            });
            let arguments = arguments.collect::<Result<_, _>>().map_err(|error| (first, error))?;
            return Ok((name, arguments));
        }
        let name = expand(argument, context).map_err(|error| (argument.clone(), error))?;
        Ok((name, Vec::new()))
    }
}

fn parse_word(word: &[u8], at: &Position) -> Result<Template, ExpandError> {
    Template::parse(word, at).map_err(|error| ExpandError::Failed(error.to_string()))
}

pub(super) fn sender(context: &Context) -> Value {
    Value::tainted(context.message.sender.as_ref().map(|sender| sender.to_bytes()).unwrap_or_default())
}

fn test_domains(context: &mut Context, list: &Template, texts: &mut Texts) -> Tested {
    let domain = context.address.domain.clone().unwrap_or_default();
    let (tested, data) = outcome(matching::domain(context, &domain, list), list, texts);
    set_if_met(tested, data, &mut context.dynamic.borrow_mut().domain_data);
    tested
}

/// The name between version and bits, which is what `encrypted` compares.
fn cipher_suite(tls: &TlsInfo) -> BString {
    let cipher = &tls.cipher;
    let name = cipher.split_once_str(b":").map_or(cipher.as_slice(), |(_, rest)| rest);
    name.rsplit_once_str(b":").map_or(name, |(name, _)| name).into()
}

/// `authenticated`, `encrypted`: false if there is nothing, else the name must be in the list.
fn test_string_list(context: &Context, name: Option<BString>, list: &Template, texts: &mut Texts) -> Tested {
    let Some(name) = name else { return Tested::NotMet };
    let matched = matching::local_part(context, &Value::tainted(name), list, false);
    outcome(matched, list, texts).0
}

fn test_expanded(context: &Context, argument: &Template, texts: &mut Texts) -> Tested {
    let value = match expand(argument, context) {
        Ok(value) => value,
        Err(ExpandError::Forced(_)) => return Tested::Ignored,
        Err(error) => return fail_expansion(argument, &error, texts),
    };
    match truth(value.bytes()) {
        Ok(true) => Tested::Met,
        Ok(false) => Tested::NotMet,
        Err(error) => {
            texts.log = Some(error.to_string().into());
            Tested::Defer
        }
    }
}

/// A failed expansion is an error; one that may work later defers.
pub(super) fn fail_expansion(template: &Template, error: &ExpandError, texts: &mut Texts) -> Tested {
    texts.log = Some(expand_failed(template, error));
    if matches!(error, ExpandError::Defer(_)) { Tested::Defer } else { Tested::Error }
}

fn outcome(
    matched: Result<Match, MatchError>,
    list: &Template,
    texts: &mut Texts,
) -> (Tested, Option<Value>) {
    match matched {
        Ok(Match::Yes(data)) => (Tested::Met, data),
        Ok(Match::No) => (Tested::NotMet, None),
        Err(MatchError::Defer(why)) => {
            texts.log = Some(why.into());
            (Tested::Defer, None)
        }
        Err(MatchError::Unexpanded) => (Tested::Defer, None), // the panic log has it
        Err(MatchError::Failed(why)) => {
            texts.log = Some(format!("{why} in list \"{}\"", list.text()).into());
            (Tested::Defer, None)
        }
    }
}

fn set_if_met(tested: Tested, data: Option<Value>, variable: &mut Option<Value>) {
    if tested == Tested::Met {
        *variable = data;
    }
}
