//! The `verify` condition.
//!
//! Specification: section "ACL conditions" (`verify = ...`) and "Address verification". Routing is asked
//! through [`crate::upward::Verifier`]; callouts are not built and refused.

use super::effects::SenderVerifyFailure;
use super::place::places_of_verify;
use super::run::{Runner, Tested, Texts};
use super::{Place, header_check, unsupported};
use crate::config::ConfigError;
use crate::expand::context::Context;
use crate::expand::{ExpandError, expand};
use crate::mail::Address;
use crate::matching::host_name::{self, HostName};
use crate::syntax::Template;
use crate::syntax::acl::Item;
use crate::text::Value;
use crate::upward::Verified;
use bstr::{BStr, BString, ByteSlice};

/// One verification, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Verification {
    what: What,
    defer_ok: bool,
    case_insensitive: bool,
    no_details: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum What {
    #[default]
    Recipient,
    Sender,
    SenderIs(Address),
    HeaderSyntax,
    HeaderNamesAscii,
    Helo,
    NotBlind,
    ReverseHostLookup,
    Certificate,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum VerifyError {
    Syntax,
    NotBuilt,
}

impl What {
    fn name(&self) -> &'static str {
        match self {
            Self::Recipient => "recipient",
            Self::Sender | Self::SenderIs(_) => "sender",
            Self::HeaderSyntax => "header_syntax",
            Self::HeaderNamesAscii => "header_names_ascii",
            Self::Helo => "helo",
            Self::NotBlind => "not_blind",
            Self::ReverseHostLookup => "reverse_host_lookup",
            Self::Certificate => "certificate",
        }
    }
}

fn parse(text: &BStr) -> Result<Verification, VerifyError> {
    let mut parts = text.split_str("/").map(|part| part.trim());
    let first = parts.next().unwrap_or_default();
    let what = match first {
        b"recipient" => What::Recipient,
        b"sender" => What::Sender,
        b"header_syntax" => What::HeaderSyntax,
        b"header_names_ascii" => What::HeaderNamesAscii,
        b"helo" => What::Helo,
        b"not_blind" => What::NotBlind,
        b"reverse_host_lookup" => What::ReverseHostLookup,
        b"certificate" => What::Certificate,
        b"header_sender" | b"csa" | b"arc" => return Err(VerifyError::NotBuilt),
        _ => match first.strip_prefix(b"sender=") {
            Some(address) => What::SenderIs(Address::split(address.trim())),
            None => return Err(VerifyError::Syntax),
        },
    };
    let mut verification = Verification { what, ..Verification::default() };
    for option in parts {
        match option {
            b"defer_ok" => verification.defer_ok = true,
            b"case_insensitive" if verification.what == What::NotBlind => {
                verification.case_insensitive = true
            }
            b"no_details" => verification.no_details = true,
            option if option.starts_with(b"callout") || option.starts_with(b"quota") => {
                return Err(VerifyError::NotBuilt);
            }
            b"success_on_redirect" | b"pass_on_timeout" => return Err(VerifyError::NotBuilt),
            _ => return Err(VerifyError::Syntax),
        }
    }
    Ok(verification)
}

/// Checks what needs no expansion.
pub(super) fn check(argument: &Template) -> Option<ConfigError> {
    let text = argument.text();
    let expands = text.contains(&b'$');
    match parse(text) {
        Err(VerifyError::NotBuilt) => Some(unsupported(argument.at(), format!("ACL \"verify = {text}\""))),
        Err(VerifyError::Syntax) if expands && !text.contains_str("/callout") => None,
        Err(VerifyError::Syntax) if expands => {
            Some(unsupported(argument.at(), format!("ACL \"verify = {text}\"")))
        }
        Err(VerifyError::Syntax) => Some(ConfigError {
            at: argument.at().clone(),
            message: format!("error in ACL: {}", syntax_message(text)),
            line: None,
            unsupported: false,
        }),
        Ok(_) => None,
    }
}

fn syntax_message(text: &BStr) -> String {
    format!(
        "expected \"sender[=address]\", \"recipient\", \"helo\", \"header_syntax\", \"header_sender\", \
         \"header_names_ascii\" or \"reverse_host_lookup\" at start of ACL condition \"verify {text}\""
    )
}

impl Runner<'_> {
    pub(super) fn test_verify(
        &self,
        context: &mut Context,
        place: Place,
        item: &Item,
        texts: &mut Texts,
    ) -> Tested {
        let value = match expand(&item.argument, context) {
            Ok(value) => value,
            Err(ExpandError::Forced(_)) => return Tested::Ignored,
            Err(error) => return super::condition::fail_expansion(&item.argument, &error, texts),
        };
        ::log::debug!(target: "verify", "verify = {}", value.bytes());
        let verification = match parse(value.bytes()) {
            Ok(verification) => verification,
            Err(VerifyError::Syntax) => {
                texts.log = Some(syntax_message(value.bytes()).into());
                return Tested::Error;
            }
            Err(VerifyError::NotBuilt) => {
                texts.log = Some(format!("\"verify = {}\" is not supported yet", value.bytes()).into());
                return Tested::Error;
            }
        };
        let name = verification.what.name();
        if !places_of_verify(name).contains(place) {
            texts.log = Some(format!("cannot verify {name} in ACL for {}", place.name()).into());
            return Tested::Error;
        }
        match &verification.what {
            What::Recipient => self.verify_recipient(context, &verification, texts),
            What::Sender => {
                let sender = context.message.sender.clone().unwrap_or_default();
                self.verify_sender(context, sender, &verification, texts)
            }
            What::SenderIs(address) => self.verify_sender(context, address.clone(), &verification, texts),
            What::HeaderSyntax => told(header_check::check_syntax(context), texts),
            What::HeaderNamesAscii => told(header_check::check_names(&context.message.headers), texts),
            What::NotBlind => {
                told(header_check::check_not_blind(&context.message, verification.case_insensitive), texts)
            }
            What::Certificate => {
                let tls = context.session.origin.tls.as_ref();
                met(tls.is_some_and(|tls| tls.certificate_verified && !tls.peer_certificate.is_empty()))
            }
            What::Helo => verify_helo(context),
            What::ReverseHostLookup => verify_reverse(context, verification.defer_ok, texts),
        }
    }

    fn verify_recipient(&self, context: &mut Context, how: &Verification, texts: &mut Texts) -> Tested {
        let Some(recipient) = self.state().recipient.clone() else { return Tested::NotMet };
        match self.verifier.verify(context, &recipient, false) {
            Verified::Ok { address_data } => {
                context.address.address_data = address_data;
                Tested::Met
            }
            Verified::Failed { message, log_message, .. } => {
                context.dynamic.borrow_mut().recipient_verify_failure = "route".into();
                set_verify_texts(texts, message, log_message);
                Tested::NotMet
            }
            Verified::Deferred { .. } if how.defer_ok => Tested::Met,
            Verified::Deferred { message, log_message } => {
                set_verify_texts(texts, message, log_message);
                Tested::Defer
            }
        }
    }

    /// The outcome is kept for the message, so that a sender is routed once.
    fn verify_sender(
        &self,
        context: &mut Context,
        sender: Address,
        how: &Verification,
        texts: &mut Texts,
    ) -> Tested {
        if sender.is_null() {
            return Tested::Met;
        }
        let kept = self.state().sender_verified.clone().filter(|(address, _)| *address == sender);
        let outcome = match kept {
            Some((_, outcome)) => outcome,
            None => {
                let outcome = sender_outcome(self.verifier.verify(context, &sender, true), &sender);
                self.state().sender_verified = Some((sender, outcome.clone()));
                outcome
            }
        };
        match outcome {
            Ok(data) => {
                context.dynamic.borrow_mut().sender_address_data = data;
                Tested::Met
            }
            Err(failure) if failure.temporary && how.defer_ok => Tested::Met,
            Err(failure) => {
                context.dynamic.borrow_mut().sender_verify_failure = "route".into();
                let temporary = failure.temporary;
                let text =
                    if temporary { "Could not complete sender verify" } else { "Sender verify failed" };
                texts.user = (!temporary).then(|| text.into());
                texts.log = Some(text.into());
                context.dynamic.borrow_mut().acl_verify_message =
                    Some(Value::tainted(failure.message.clone()));
                texts.sender_failure = (!how.no_details).then_some(failure);
                if temporary { Tested::Defer } else { Tested::NotMet }
            }
        }
    }
}

fn sender_outcome(verified: Verified, sender: &Address) -> Result<Option<Value>, SenderVerifyFailure> {
    let failure = |message, log_message, temporary| SenderVerifyFailure {
        address: sender.clone(),
        message,
        log_message,
        temporary,
    };
    match verified {
        Verified::Ok { address_data } => Ok(address_data),
        Verified::Failed { message, log_message, .. } => Err(failure(message, log_message, false)),
        Verified::Deferred { message, log_message } => Err(failure(message, log_message, true)),
    }
}

fn set_verify_texts(texts: &mut Texts, message: BString, log_message: BString) {
    texts.user = (!message.is_empty()).then_some(message);
    texts.log = (!log_message.is_empty()).then_some(log_message);
}

/// HELO is checked once; a session without a host passes.
fn verify_helo(context: &mut Context) -> Tested {
    let origin = &mut context.session.origin;
    let Some(host) = origin.host else { return Tested::Met };
    let Some(helo) = origin.helo.clone() else { return Tested::NotMet };
    if !origin.helo_verified {
        let name = origin.host_name.as_ref();
        origin.helo_verified =
            host_name::helo_matches(&*context.globals.dns, &helo, host.ip(), name).unwrap_or(false);
    }
    met(origin.helo_verified)
}

fn verify_reverse(context: &mut Context, defer_ok: bool, texts: &mut Texts) -> Tested {
    let origin = &mut context.session.origin;
    let Some(host) = origin.host else { return Tested::Met };
    if origin.host_name.is_some() {
        return Tested::Met;
    }
    match host_name::look_up(&*context.globals.dns, host.ip()) {
        HostName::Found(names) => {
            origin.host_name = names.into_iter().next();
            Tested::Met
        }
        HostName::NotFound(why) | HostName::Mismatch(why) => {
            origin.host_lookup_failed = true;
            texts.log = Some(format!("host lookup failed for reverse lookup check ({why})").into());
            Tested::NotMet
        }
        HostName::TryLater(_) if defer_ok => Tested::Met,
        HostName::TryLater(why) => {
            origin.host_lookup_deferred = true;
            texts.log = Some(format!("host lookup deferred for reverse lookup check ({why})").into());
            Tested::Defer
        }
    }
}

fn met(yes: bool) -> Tested {
    if yes { Tested::Met } else { Tested::NotMet }
}

/// A check of the headers: what is wrong goes to the log, and to the peer as `$acl_verify_message`.
fn told(checked: Result<(), header_check::HeaderFault>, texts: &mut Texts) -> Tested {
    match checked {
        Ok(()) => Tested::Met,
        Err(fault) => {
            texts.user = fault.message;
            texts.log = Some(fault.log_message);
            Tested::NotMet
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_follow_slashes_and_callouts_are_not_built() {
        let read = parse("sender=a@b.example/defer_ok".into()).unwrap();
        assert_eq!(read.what, What::SenderIs(Address::new("a", "b.example")));
        assert!(read.defer_ok);
        assert_eq!(parse("recipient/callout=30s,defer_ok".into()), Err(VerifyError::NotBuilt));
        assert_eq!(parse("recipient/foo".into()), Err(VerifyError::Syntax));
    }
}
