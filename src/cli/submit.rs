//! A message on standard input: `-bm`, `-t`, or just recipients.
//!
//! Specification: chapter "The Exim command line", and what it says of `-bm`, `-t`, `-oe...` and `-od...`.

use super::args::{DeliveryMode, ErrorMode};
use super::caller::{self, Sender};
use super::delivery::{When, Worker};
use super::error_mail::{self, Complaint};
use super::standard_input::{CallInput, TimedInput};
use super::{Asked, Program};
use crate::acl::{Place, Runner, Verdict as AclVerdict};
use crate::expand::context::{Context, Globals};
use crate::load::Configuration;
use crate::log::Which;
use crate::mail::{Address, Recipient, Reply, Syntax, parse_list};
use crate::process::orders::wait_readable;
use crate::receive::{
    self, Arrival, Caller, Controls, Draft, ErrorsTo, Extract, LocalAnswer, NewMail, Outcome, OwnMessages,
    Refusal, Station, Verdict,
};
use crate::smtp_in::{added_header, rejected_headers};
use crate::upward::Submit;
use bstr::{BString, ByteSlice};
use std::io::{BufReader, Write};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

/// What taking a message in needs.
pub struct Intake<'a> {
    /// Who asks for what.
    pub asked: Asked<'a>,
    /// Compiled.
    pub configuration: &'a Configuration,
    /// Takes messages in.
    pub station: &'a Station,
    /// Takes our own messages in.
    pub submitter: &'a OwnMessages,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// For whoever called.
    pub exit_code: i32,
    /// When what was taken in is delivered.
    pub when: When,
    /// Nothing was taken in, for a reason that may pass; nobody got mail about it.
    pub is_to_be_tried_again: bool,
}

impl Taken {
    fn of(exit_code: i32, when: When) -> Self {
        Self { exit_code, when, is_to_be_tried_again: false }
    }
}

/// Where `message_size_limit` says nothing, what lies in `drop/` has this limit.
const MOST_WITHOUT_LIMIT: u64 = 1 << 30;

/// The longest message, for one that is left in `drop/`.
pub fn longest_message(globals: &Arc<Globals>) -> u64 {
    let context = Context::new(globals.clone(), &crate::expand::context::NoHooks);
    receive::size_limit(&context).ok().filter(|limit| *limit > 0).unwrap_or(MOST_WITHOUT_LIMIT)
}

/// Takes the message in from standard input, and delivers it as the options say; gives the exit code.
pub fn run(program: Program) -> anyhow::Result<i32> {
    // What is wrong with the call itself is told before anything is started.
    caller::sender(&program.asked(), &caller::caller(&program.asked())?.login)?;
    let worker = Worker::start(program)?;
    let mut input = TimedInput::new(std::io::stdin(), |time| wait_readable(std::io::stdin(), time));
    let taken = take_in(&worker.intake(), &mut input, &mut std::io::stderr())?;
    worker.deliver(taken.when)?;
    Ok(taken.exit_code)
}

/// Takes one message in from `input`; what is wrong with it is told as `-oe...` says.
pub fn take_in(intake: &Intake, input: &mut dyn CallInput, errors: &mut dyn Write) -> anyhow::Result<Taken> {
    let asked = &intake.asked;
    let who = caller::caller(asked)?;
    let sender = caller::sender(asked, &who.login)?;
    input.keep_copy(asked.invocation.message.errors != ErrorMode::Print);
    let time = asked.invocation.message.receive_timeout.unwrap_or(asked.globals.main.time("receive_timeout"));
    input.set_time(time);
    let recipients = match recipients(asked) {
        Ok(recipients) => recipients,
        Err(Bad { item, reason }) => {
            if asked.invocation.message.errors != ErrorMode::Print {
                // What cannot be read is not shown.
                let _ = std::io::copy(input, &mut std::io::sink());
            }
            return refuse(intake, &who, &sender, Complaint::BadRecipient { item, reason }, input, errors);
        }
    };
    let mut context = Context::new(asked.globals.clone(), &crate::expand::context::NoHooks);
    context.session.origin = caller::origin(asked, &who.login);
    let own = Address::new(who.login.clone(), asked.globals.qualify_domain.clone());
    if asked.standing.trusted && sender.address != own {
        // Who sends in another's name is not authenticated by being who calls.
        let origin = &mut context.session.origin;
        origin.authenticated_id = asked.invocation.message.authenticated_id.clone();
        origin.authenticated_sender = asked.invocation.message.authenticated_sender.clone();
    }
    context.session.caller_uid = who.uid;
    context.session.caller_gid = who.gid;
    let mail = new_mail(asked, &who, &sender, recipients);
    match receive_it(intake, context, mail, input) {
        Ok(answer) => {
            errors.write_all(&answer.words)?;
            let when = match answer.outcome {
                Outcome::Accepted { .. } => when(asked),
                Outcome::Refused { why: Refusal::Lost, .. } => {
                    writeln!(errors, "exim: timed out while reading - message abandoned")?;
                    return Ok(Taken { is_to_be_tried_again: true, ..Taken::of(1, When::Never) });
                }
                Outcome::Refused { why: Refusal::Spool | Refusal::Configuration, .. } => {
                    let exit_code = i32::from(answer.status);
                    return Ok(Taken {
                        is_to_be_tried_again: true,
                        ..Taken::of(exit_code, when_report(asked))
                    });
                }
                // A mail about the error may have been announced.
                Outcome::Refused { .. } => when_report(asked),
            };
            Ok(Taken::of(i32::from(answer.status), when))
        }
        Err(complaint) => refuse(intake, &who, &sender, complaint, input, errors),
    }
}

/// Takes the message in with the ACL for local messages, once `acl_not_smtp_start` has let it come.
fn receive_it(
    intake: &Intake,
    context: Context,
    mail: NewMail,
    input: &mut dyn CallInput,
) -> Result<LocalAnswer, Complaint> {
    let configuration = intake.configuration;
    let stop = AtomicBool::new(false);
    let runner = Runner::new(&configuration.acls, &*configuration.routers, &stop);
    let mut context = Context { hooks: &runner, ..context };
    let start = runner.run_option(&mut context, Place::NotSmtpStart, None);
    if let Some(answer) = start.filter(|answer| answer.verdict != AclVerdict::Accept) {
        // What cannot be read is not shown.
        let _ = std::io::copy(input, &mut std::io::sink());
        return Err(Complaint::Acl(answer.message.unwrap_or_else(|| PROHIBITED.into())));
    }
    let errors_to = match intake.asked.invocation.message.errors {
        ErrorMode::Mail => ErrorsTo::Mail,
        ErrorMode::MailQuietly => ErrorsTo::MailStatusZero,
        ErrorMode::Print => ErrorsTo::Terminal,
    };
    let mut source = BufReader::new(input);
    let mut ask = |context: &mut Context, draft: Draft| ask_acl(&runner, context, draft);
    let errors: (ErrorsTo, &dyn Submit) = (errors_to, intake.submitter);
    Ok(receive::accept_local(intake.station, &mut context, mail, &mut source, &mut ask, errors))
}

/// `acl_not_smtp`; its rejection is logged here, with the headers in the reject log.
fn ask_acl(runner: &Runner, context: &mut Context, draft: Draft) -> Verdict {
    let Some(answer) = runner.run_option(context, Place::NotSmtp, None) else { return Verdict::Accept };
    apply_effects(runner, draft.controls, draft.add_headers, draft.remove_headers);
    match answer.verdict {
        AclVerdict::Accept => Verdict::Accept,
        AclVerdict::Discard => Verdict::Discard(answer.log_message.or(answer.message)),
        verdict => {
            let code = if matches!(verdict, AclVerdict::Defer | AclVerdict::Error) { 451 } else { 550 };
            let message = answer.message.clone().unwrap_or_else(|| PROHIBITED.into());
            let logged = answer.log_message.as_ref().unwrap_or(&message);
            let sender = context.message.sender.as_ref().map(Address::to_bytes).unwrap_or_default();
            let line = format!("{} F=<{sender}> rejected by non-SMTP ACL: {logged}", draft.id);
            for target in &answer.log_targets {
                let mut text = BString::from(line.as_str());
                if *target == Which::Reject {
                    text.extend_from_slice(&rejected_headers(context, draft.headers));
                }
                context.globals.log.write(*target, text.as_bstr());
            }
            Verdict::Refuse(Reply::new(code, message))
        }
    }
}

/// What the caller hears of an ACL that has no words of its own.
const PROHIBITED: &str = "Administrative prohibition";

/// Controls and headers that the ACL set.
fn apply_effects(
    runner: &Runner,
    controls: &mut Controls,
    add_headers: &mut Vec<receive::HeaderAddition>,
    remove_headers: &mut Vec<BString>,
) {
    let effects = runner.message_effects();
    let (add, remove) = runner.take_headers();
    add_headers.extend(add.into_iter().map(added_header));
    remove_headers.extend(remove);
    controls.freeze |= effects.freeze.is_some();
    controls.queue_only |= effects.queue_only;
    controls.queued_by_acl |= effects.queue_only;
    controls.suppress_local_fixups |= effects.suppress_local_fixups;
    if let Some(submission) = &effects.submission {
        controls.submission = Some(receive::Submission {
            sender_retain: submission.sender_retain,
            domain: submission.domain.clone(),
            name: submission.name.clone().unwrap_or_default(),
        });
    }
}

fn new_mail(asked: &Asked, who: &Caller, sender: &Sender, recipients: Vec<Address>) -> NewMail {
    let given = &asked.invocation.message;
    let main = &asked.globals.main;
    let (recipients, arguments) =
        if given.extract { (Vec::new(), recipients) } else { (recipients, Vec::new()) };
    let remove_arguments = main.bool("extract_addresses_remove_arguments");
    // A caller that writes eight-bit addresses is taken to mean an internationalized message.
    let smtputf8 = recipients.iter().any(|address| !address.to_bytes().is_ascii());
    NewMail {
        arrival: Arrival::Local,
        caller: who.clone(),
        sender: sender.address.clone(),
        raw_sender: sender.address.clone(),
        sender_set_untrusted: sender.set_untrusted,
        recipients: recipients
            .into_iter()
            .map(|address| Recipient { address, ..Recipient::default() })
            .collect(),
        extract: given.extract.then_some(Extract { arguments, remove_arguments }),
        body_8bitmime: 0,
        smtputf8,
        dsn_envid: None,
        dsn_ret: 0,
        allow_unqualified_sender: !given.no_qualify,
        allow_unqualified_recipient: !given.no_qualify,
        dot_ends: !given.dot_is_text,
        started: SystemTime::now(),
        controls: Controls {
            queue_only: when(asked) == When::Never,
            suppress_local_fixups: given.suppress_fixups,
            ..Controls::default()
        },
        add_headers: Vec::new(),
        remove_headers: Vec::new(),
        about: caller::about(asked),
        local_error: given.bounce_about.is_some(),
        pipelining: BString::default(),
    }
}

/// When the message is delivered: options, and what the configuration says of queueing.
pub fn when(asked: &Asked) -> When {
    let main = &asked.globals.main;
    let given = &asked.invocation.message;
    let file_is_there = main.plain("queue_only_file").is_some_and(|path| {
        crate::text::list::items(&path).any(|item| item.starts_with(b"/") && item.to_path_lossy().exists())
    });
    let queue = main.bool("queue_only") || file_is_there;
    let override_allowed = main.bool("queue_only_override");
    match given.delivery {
        DeliveryMode::Queue => When::Never,
        DeliveryMode::Default if queue => When::Never,
        _ if queue && !override_allowed => When::Never,
        DeliveryMode::Foreground => When::Now,
        DeliveryMode::QueueSmtp if given.foreground => When::LocalNow,
        DeliveryMode::QueueSmtp => When::LocalSoon,
        DeliveryMode::Default | DeliveryMode::Background => When::Soon,
    }
}

/// When a mail about an error is delivered: `-od...` speak of the message, not of this mail.
fn when_report(asked: &Asked) -> When {
    if asked.globals.main.bool("queue_only") { When::Never } else { When::Soon }
}

/// An argument that is no address.
struct Bad {
    item: BString,
    reason: BString,
}

/// Every argument is a list of addresses.
fn recipients(asked: &Asked) -> Result<Vec<Address>, Bad> {
    // The option allow_domain_literals is for SMTP commands.
    let syntax = Syntax { domain_literals: true, utf8_domains: true, ..caller::syntax(&asked.globals.main) };
    let mut found = Vec::new();
    for item in &asked.invocation.arguments {
        if item.is_empty() && asked.invocation.message.extract {
            continue;
        }
        let bad = |reason: &[u8]| Bad { item: item.clone(), reason: reason.into() };
        let parsed = parse_list(item, syntax);
        if parsed.is_empty() {
            return Err(bad(b"empty address"));
        }
        for one in parsed {
            let address = one.parsed.map_err(|error| bad(&error.message))?.address;
            if address.domain().is_empty() && asked.invocation.message.no_qualify {
                return Err(bad(b"unqualified recipient address not allowed"));
            }
            found.push(caller::qualified(address, &asked.globals.qualify_recipient));
        }
    }
    Ok(found)
}

/// Tells what is wrong as `-oe...` says.
fn refuse(
    intake: &Intake,
    who: &Caller,
    sender: &Sender,
    complaint: Complaint,
    input: &mut dyn CallInput,
    errors: &mut dyn Write,
) -> anyhow::Result<Taken> {
    let mode = intake.asked.invocation.message.errors;
    if mode == ErrorMode::Print {
        writeln!(errors, "exim: {}", complaint.for_terminal())?;
        return Ok(Taken::of(1, When::Never));
    }
    let to = if sender.address.is_null() {
        Address::new(who.login.clone(), intake.asked.globals.qualify_domain.clone())
    } else {
        sender.address.clone()
    };
    match error_mail::send(intake, to, &complaint, input.take_copy()) {
        Ok(()) => {
            let exit_code = if mode == ErrorMode::MailQuietly { 0 } else { 1 };
            Ok(Taken::of(exit_code, when_report(&intake.asked)))
        }
        Err(error) => {
            writeln!(errors, "exim: {}", complaint.for_terminal())?;
            writeln!(errors, "exim: no mail could be sent about it: {error}")?;
            Ok(Taken { is_to_be_tried_again: true, ..Taken::of(1, When::Never) })
        }
    }
}
