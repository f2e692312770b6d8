//! Running an ACL: statements in order, until one decides.
//!
//! Specification: sections "ACL verbs" and "Condition and modifier processing"; the interplay of
//! `message`, `log_message` and the texts of failed verifications as recorded from Exim.

use super::effects::{MessageEffects, SenderVerifyFailure, SessionEffects};
use super::{Acls, Place, peer};
use crate::expand::context::{AclAnswer, Context, Hooks};
use crate::expand::{ExpandError, expand};
use crate::log::{Selector, Which};
use crate::mail::Address;
use crate::matching::host_name;
use crate::syntax::acl::{Item, Statement, parse_inline};
use crate::syntax::acl_words::{Verb, Word};
use crate::syntax::{Position, Template};
use crate::text::Value;
use crate::upward::Verifier;
use bstr::{BString, ByteSlice};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// ACLs nested in each other: the specification's limit, to catch loops.
const NESTED_MAX: u32 = 20;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Accept,
    /// Permanent rejection.
    Deny,
    /// Temporary rejection.
    Defer,
    /// Permanent rejection, and the connection is closed.
    Drop,
    /// Accept and throw away.
    Discard,
    /// The ACL cannot work as written: a temporary rejection.
    Error,
}

/// Result of an ACL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What to do.
    pub verdict: Verdict,
    /// For the peer; it may begin with codes. None: the caller's own words.
    pub message: Option<BString>,
    /// For the log; it may have several lines, the first is logged.
    pub log_message: Option<BString>,
    /// The logs that a rejection goes to.
    pub log_targets: Vec<Which>,
    /// `verify = sender` failed: told to the peer before the message, and logged.
    pub sender_failure: Option<SenderVerifyFailure>,
}

/// Runs ACLs for one session; it is also what `${acl{...}}` calls.
pub struct Runner<'s> {
    pub(super) acls: &'s Acls,
    pub(super) verifier: &'s dyn Verifier,
    /// Set when the process is to end: delays end at once.
    pub(super) stop: &'s AtomicBool,
    state: RefCell<State>,
}

/// What lives longer than one ACL.
#[derive(Default)]
pub(super) struct State {
    pub session: SessionEffects,
    pub message: MessageEffects,
    /// Warnings of this message that were logged.
    pub warned: BTreeSet<BString>,
    /// Outcome of `verify = sender` for this message.
    pub sender_verified: Option<(Address, Result<Option<Value>, SenderVerifyFailure>)>,
    /// The place of the ACL that runs now, for `${acl{...}}`.
    place: Option<Place>,
    pub recipient: Option<Address>,
    /// `control = caseful_local_part` is on.
    pub caseful: bool,
    depth: u32,
}

/// How a condition came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tested {
    Met,
    /// The argument's expansion was forced to fail: as if it were met, even if it is negated.
    Ignored,
    NotMet,
    /// Not met, by a nested `drop`.
    Dropped,
    Defer,
    Error,
    Discard,
}

/// Texts that conditions leave, and where rejections are logged.
#[derive(Default)]
pub(super) struct Texts {
    pub user: Option<BString>,
    pub log: Option<BString>,
    pub targets: Vec<Which>,
    pub sender_failure: Option<SenderVerifyFailure>,
}

/// Modifiers that wait for the end of their statement.
#[derive(Default)]
struct Pending<'i> {
    message: Option<&'i Template>,
    log_message: Option<&'i Template>,
    endpass: bool,
}

impl<'s> Runner<'s> {
    /// A runner for one session.
    pub fn new(acls: &'s Acls, verifier: &'s dyn Verifier, stop: &'s AtomicBool) -> Self {
        Self { acls, verifier, stop, state: RefCell::default() }
    }

    /// What ACLs set for the connection so far.
    pub fn session_effects(&self) -> SessionEffects {
        self.state.borrow().session.clone()
    }
    /// What ACLs set for the message so far.
    pub fn message_effects(&self) -> MessageEffects {
        self.state.borrow().message.clone()
    }
    /// Takes the header lines and names gathered since the last call (add, remove).
    pub fn take_headers(&self) -> (Vec<super::effects::AddedHeader>, Vec<BString>) {
        let message = &mut self.state.borrow_mut().message;
        (std::mem::take(&mut message.headers_to_add), std::mem::take(&mut message.headers_to_remove))
    }
    /// Forgets what belongs to one message: after each message, at MAIL, RSET, HELO, STARTTLS. The
    /// `acl_m` variables go with it.
    pub fn reset_message(&self, context: &Context) {
        let mut state = self.state.borrow_mut();
        state.message = MessageEffects::default();
        state.warned.clear();
        state.sender_verified = None;
        let mut dynamic = context.dynamic.borrow_mut();
        dynamic.acl_variables.retain(|name, _| !name.starts_with(b"m"));
        dynamic.headers_added.clear();
        dynamic.sender_address_data = None;
    }

    /// Runs the ACL that the main option of this place names; none if it is unset. `recipient` is for
    /// the ACLs of RCPT and VRFY.
    pub fn run_option(
        &self,
        context: &mut Context,
        place: Place,
        recipient: Option<&Address>,
    ) -> Option<Answer> {
        let template = context.globals.main.text(place.option())?.clone();
        let text = match expand(&template, context) {
            Ok(text) if text.is_empty() => return None,
            Ok(text) => text,
            Err(ExpandError::Forced(_)) => return None,
            Err(error) => return Some(Answer::error(expand_failed(&template, &error))),
        };
        Some(self.run(context, place, &text, recipient))
    }

    /// Runs one ACL by name or text.
    pub fn run(
        &self,
        context: &mut Context,
        place: Place,
        text: &Value,
        recipient: Option<&Address>,
    ) -> Answer {
        {
            let mut state = self.state.borrow_mut();
            state.place = Some(place);
            state.recipient = recipient.cloned();
            state.caseful = false;
        }
        let mut texts = Texts { targets: vec![Which::Main, Which::Reject], ..Texts::default() };
        let verdict = self.run_named(context, place, text, &mut texts);
        let mut state = self.state.borrow_mut();
        state.place = None;
        if verdict == Verdict::Discard {
            state.message.discarded_by = discarder(place).or(state.message.discarded_by);
        }
        drop(state);
        host_name::settle(context);
        context.dynamic.borrow_mut().acl_verify_message = None;
        if verdict == Verdict::Error {
            // what is wrong with an ACL is not the peer's business
            texts.user = None;
        }
        Answer {
            verdict,
            message: texts.user,
            log_message: texts.log,
            log_targets: texts.targets,
            sender_failure: texts.sender_failure,
        }
    }

    pub(super) fn state(&self) -> std::cell::RefMut<'_, State> {
        self.state.borrow_mut()
    }

    /// Finds and runs an ACL at any depth.
    pub(super) fn run_named(
        &self,
        context: &mut Context,
        place: Place,
        text: &Value,
        texts: &mut Texts,
    ) -> Verdict {
        if self.state.borrow().depth >= NESTED_MAX {
            texts.log = Some("ACL nested too deep: possible loop".into());
            return Verdict::Error;
        }
        let statements = match self.find(text) {
            Ok(statements) => statements,
            Err(message) => {
                texts.log = Some(message);
                return Verdict::Error;
            }
        };
        self.state.borrow_mut().depth += 1;
        let verdict = self.run_statements(context, place, &statements, texts);
        self.state.borrow_mut().depth -= 1;
        verdict
    }

    fn find(&self, text: &Value) -> Result<Arc<Vec<Statement>>, BString> {
        let name = text.bytes().trim().as_bstr();
        if let Some(acl) = self.acls.named(name) {
            return Ok(acl);
        }
        if name.starts_with(b"/") {
            return Err(format!("ACL file \"{name}\": an ACL in a file is not supported yet").into());
        }
        // Text from outside must not become a program.
        text.to_clean("ACL").map_err(|error| BString::from(error.to_string()))?;
        parse_inline(name, &Position::nowhere("inline ACL"))
            .map(Arc::new)
            .map_err(|faults| faults.first().map(|fault| fault.message.clone()).unwrap_or_default().into())
    }

    fn run_statements(
        &self,
        context: &mut Context,
        place: Place,
        statements: &[Statement],
        texts: &mut Texts,
    ) -> Verdict {
        for (index, statement) in statements.iter().enumerate() {
            texts.user = None;
            texts.log = None;
            let mut pending = Pending::default();
            let tested = self.test_items(context, place, statement, &mut pending, texts);
            ::log::debug!(target: "acl", "{:?} at {}: {tested:?}", statement.verb, statement.at);
            if tested == Tested::Met
                && matches!(statement.verb, Verb::Accept | Verb::Discard)
                && texts.sender_failure.take().is_some()
            {
                // `accept !verify = sender`: why that failed is nothing that the peer must hear.
                texts.user = None;
                texts.log = None;
            }
            if statement.verb == Verb::Warn && tested == Tested::Met {
                texts.log = None;
            }
            // At the end of the ACL, an `accept` that did not accept is what denies.
            let denies = matches!(statement.verb, Verb::Accept | Verb::Discard)
                && matches!(tested, Tested::NotMet | Tested::Dropped)
                && index + 1 == statements.len();
            if denies || texts_matter(statement.verb, tested, pending.endpass) {
                set_texts(context, &pending, texts);
                if statement.verb != Verb::Warn && texts.log.is_none() {
                    texts.log.clone_from(&texts.user);
                }
            }
            if let Some(verdict) = decide(statement.verb, tested, pending.endpass) {
                if verdict == Verdict::Discard && !may_discard(place) {
                    let line = format!("\"discard\" verb not allowed in {} ACL", place.name());
                    context.globals.log.panic(line.as_bytes().as_bstr());
                    return Verdict::Error;
                }
                return verdict;
            }
            if statement.verb == Verb::Warn {
                // What a verification says is neither a warning nor a header line.
                match pending.message {
                    None => texts.user = None,
                    Some(_) => texts.sender_failure = None,
                }
                self.finish_warn(context, place, tested, texts);
            }
        }
        // What a nested ACL said last is what the peer hears at the end of this one, but for a `warn`.
        if statements.last().is_none_or(|statement| statement.verb == Verb::Warn) {
            texts.user = None;
            texts.log = None;
            texts.sender_failure = None;
        }
        Verdict::Deny
    }

    fn test_items<'i>(
        &self,
        context: &mut Context,
        place: Place,
        statement: &'i Statement,
        pending: &mut Pending<'i>,
        texts: &mut Texts,
    ) -> Tested {
        for item in &statement.items {
            match item.word {
                Word::Message => pending.message = Some(&item.argument),
                Word::LogMessage => pending.log_message = Some(&item.argument),
                Word::Endpass => pending.endpass = true,
                _ => match self.test_item(context, place, statement.verb, item, texts) {
                    Tested::Met => {}
                    other => return other,
                },
            }
        }
        Tested::Met
    }

    fn test_item(
        &self,
        context: &mut Context,
        place: Place,
        verb: Verb,
        item: &Item,
        texts: &mut Texts,
    ) -> Tested {
        let word = item.word;
        if !super::place::places_of(word).contains(place) {
            let act = if word.is_modifier() { "use" } else { "test" };
            texts.log =
                Some(format!("cannot {act} {} condition in {} ACL", word.name(), place.name()).into());
            return Tested::Error;
        }
        let tested = if word.is_modifier() {
            self.apply_modifier(context, place, item, texts)
        } else {
            self.test_condition(context, place, verb, item, texts)
        };
        host_name::settle(context);
        match (tested, item.negated) {
            (Tested::Ignored, _) => Tested::Met,
            (Tested::Met, true) => Tested::NotMet,
            (Tested::NotMet | Tested::Dropped, true) => Tested::Met,
            (other, _) => other,
        }
    }

    /// `warn` with all conditions met logs once; a deferred one says that it was skipped.
    fn finish_warn(&self, context: &mut Context, place: Place, tested: Tested, texts: &mut Texts) {
        let log = Arc::clone(&context.globals.log);
        let peer = peer::host_and_ident(&context.session.origin, log.selectors(), true);
        let host = match &context.message.id {
            Some(id) => format!("{id} {peer}"),
            None => peer.to_string(),
        };
        match tested {
            Tested::Met => {
                if let Some(text) = texts.log.take() {
                    let line = format!("{host} Warning: {}", text.replace("\n", "\\n").as_bstr());
                    if self.state.borrow_mut().warned.insert(line.clone().into()) {
                        log.write(Which::Main, line.as_bytes().as_bstr());
                    }
                }
                match texts.user.take() {
                    Some(text) if super::place::places_of(Word::AddHeader).contains(place) => {
                        self.add_headers(context, place, &text);
                    }
                    Some(_) => log.panic(header_line_misplaced(place).as_bytes().as_bstr()),
                    None => {}
                }
            }
            Tested::Defer if log.wants(Selector::AclWarnSkipped) => {
                let why = texts.log.take().map_or_else(String::new, |why| format!(": {}", first_line(&why)));
                let line =
                    format!("{host} Warning: ACL \"warn\" statement skipped: condition test deferred{why}");
                log.optional(Selector::AclWarnSkipped, Which::Main, line.as_bytes().as_bstr());
            }
            _ => {}
        }
    }
}

fn header_line_misplaced(place: Place) -> String {
    format!(
        "ACL \"warn\" with \"message\" setting found in a non-message ({}) ACL: \
         cannot specify header lines here: message ignored",
        place.name()
    )
}

fn first_line(text: &BString) -> &bstr::BStr {
    text.lines().next().unwrap_or_default().as_bstr()
}

/// Is there something that can be thrown away?
fn may_discard(place: Place) -> bool {
    matches!(place, Place::Mail | Place::Rcpt | Place::Data | Place::DataPrdr | Place::Mime | Place::NotSmtp)
}

/// Which ACL threw a message away, as log lines name it.
fn discarder(place: Place) -> Option<&'static str> {
    match place {
        Place::Mail => Some("MAIL"),
        Place::Data => Some("DATA"),
        Place::NotSmtp => Some("non-SMTP"),
        // one recipient is discarded; the caller knows when none is left
        _ => None,
    }
}

/// The outcomes for which a statement's `message` and `log_message` are used.
fn texts_matter(verb: Verb, tested: Tested, endpass: bool) -> bool {
    match verb {
        Verb::Accept | Verb::Discard => match tested {
            Tested::Met => !endpass,
            Tested::NotMet | Tested::Dropped => endpass,
            _ => false,
        },
        Verb::Defer | Verb::Deny | Verb::Drop | Verb::Warn => tested == Tested::Met,
        Verb::Require => matches!(tested, Tested::NotMet | Tested::Dropped),
    }
}

fn decide(verb: Verb, tested: Tested, endpass: bool) -> Option<Verdict> {
    match (tested, verb) {
        (Tested::Error, _) => Some(Verdict::Error),
        (Tested::Defer, Verb::Warn) => None,
        (Tested::Defer, _) => Some(Verdict::Defer),
        (Tested::Discard, _) => Some(Verdict::Discard),
        (Tested::Met, Verb::Accept) => Some(Verdict::Accept),
        (Tested::Met, Verb::Discard) => Some(Verdict::Discard),
        (Tested::Met, Verb::Deny) => Some(Verdict::Deny),
        (Tested::Met, Verb::Defer) => Some(Verdict::Defer),
        (Tested::Met, Verb::Drop) => Some(Verdict::Drop),
        (Tested::Met, Verb::Require | Verb::Warn) => None,
        (Tested::NotMet, Verb::Require) => Some(Verdict::Deny),
        (Tested::Dropped, Verb::Require) => Some(Verdict::Drop),
        (Tested::NotMet, Verb::Accept | Verb::Discard) if endpass => Some(Verdict::Deny),
        (Tested::Dropped, Verb::Accept | Verb::Discard) if endpass => Some(Verdict::Drop),
        (Tested::NotMet | Tested::Dropped | Tested::Ignored, _) => None,
    }
}

/// `message` overrides what a verification said; `log_message` is put before it.
fn set_texts(context: &Context, pending: &Pending, texts: &mut Texts) {
    if let Some(user) = &texts.user {
        context.dynamic.borrow_mut().acl_verify_message = Some(Value::tainted(user.clone()));
    }
    let user = pending.message.and_then(|message| expand_text(context, message));
    let log = pending.log_message.and_then(|message| expand_text(context, message));
    if let Some(user) = user {
        texts.user = Some(user);
    }
    if let Some(log) = log {
        texts.log = match texts.log.take() {
            Some(old) if old != log => Some(format!("{log}: {old}").into()),
            _ => Some(log),
        };
    }
}

/// Expands a text; one that fails or is empty is ignored, and a failure that was not forced is logged.
fn expand_text(context: &Context, template: &Template) -> Option<BString> {
    match expand(template, context) {
        Ok(value) if value.is_empty() => None,
        Ok(value) => Some(value.into_bytes()),
        Err(ExpandError::Forced(_)) => None,
        Err(error) => {
            let line = format!("failed to expand ACL message \"{}\": {error}", template.text());
            context.globals.log.panic(line.as_bytes().as_bstr());
            None
        }
    }
}

/// Exim's words for an argument that cannot be expanded.
pub(super) fn expand_failed(template: &Template, error: &ExpandError) -> BString {
    format!("failed to expand ACL string \"{}\": {error}", template.text()).into()
}

impl Answer {
    fn error(log_message: BString) -> Self {
        Self {
            verdict: Verdict::Error,
            message: None,
            log_message: Some(log_message),
            log_targets: vec![Which::Main, Which::Reject],
            sender_failure: None,
        }
    }
}

impl Hooks for Runner<'_> {
    /// Runs an ACL from inside an expansion: on a copy of the context, whose variables are taken over.
    fn call_acl(&self, context: &Context, name: &[u8], arguments: &[Value]) -> Result<AclAnswer, String> {
        let place = self.state.borrow().place.ok_or("ACL is not running")?;
        let mut inner = context.clone();
        inner.dynamic.borrow_mut().acl_arguments = arguments.to_vec();
        let mut texts = Texts::default();
        let verdict = self.run_named(&mut inner, place, &Value::clean(name), &mut texts);
        let saved = std::mem::take(&mut context.dynamic.borrow_mut().acl_arguments);
        let mut dynamic = inner.dynamic.into_inner();
        dynamic.acl_arguments = saved;
        dynamic.depth = context.dynamic.borrow().depth;
        context.dynamic.replace(dynamic);
        let message = Value::tainted(texts.user.unwrap_or_default());
        match verdict {
            Verdict::Accept => Ok(AclAnswer::Accept(message)),
            Verdict::Deny | Verdict::Drop | Verdict::Discard => Ok(AclAnswer::Deny(message)),
            Verdict::Defer => Ok(AclAnswer::Defer(message)),
            Verdict::Error => {
                Err(format!("error from acl \"{}\": {}", name.as_bstr(), texts.log.unwrap_or_default()))
            }
        }
    }
}
