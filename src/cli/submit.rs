//! A message on standard input: `-bm`, `-t`, or just recipients.
//!
//! Specification: chapter "The Exim command line", and what it says of `-bm`, `-t`, `-oe...` and `-od...`.

use super::Program;
use super::args::{DeliveryMode, ErrorMode};
use super::caller::{self, Sender};
use super::delivery::{When, Worker};
use super::error_mail::{self, Complaint};
use super::standard_input::TimedInput;
use crate::acl::{Place, Runner, Verdict as AclVerdict};
use crate::expand::context::Context;
use crate::log::Which;
use crate::mail::{Address, Recipient, Reply, parse_list};
use crate::receive::{
    self, Arrival, Caller, Controls, Draft, ErrorsTo, Extract, LocalAnswer, NewMail, Outcome, Refusal,
    Verdict,
};
use crate::smtp_in::{added_header, rejected_headers};
use crate::upward::Submit;
use bstr::{BString, ByteSlice};
use std::io::{BufReader, Read, Write};
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

/// Takes the message in, and delivers it as the options say; gives the exit code.
pub fn run(program: Program) -> anyhow::Result<i32> {
    let who = caller::caller(&program)?;
    let sender = caller::sender(&program, &who.login)?;
    let worker = Worker::start(program)?;
    let program = &worker.program;
    let recipients = match recipients(program) {
        Ok(recipients) => recipients,
        Err(Bad { item, reason }) => {
            let complaint = Complaint::BadRecipient { item, reason };
            return refuse(&worker, &who, &sender, complaint, rest_of_input());
        }
    };
    let mut context = Context::new(program.globals.clone(), &crate::expand::context::NoHooks);
    context.session.origin = caller::origin(program, &who.login);
    let own = Address::new(who.login.clone(), program.globals.qualify_domain.clone());
    if program.standing.trusted && sender.address != own {
        // Who sends in another's name is not authenticated by being who calls.
        let origin = &mut context.session.origin;
        origin.authenticated_id = program.invocation.message.authenticated_id.clone();
        origin.authenticated_sender = program.invocation.message.authenticated_sender.clone();
    }
    context.session.caller_uid = who.uid;
    context.session.caller_gid = who.gid;
    let mail = new_mail(program, &who, &sender, recipients);
    match receive_it(&worker, context, mail) {
        Ok(answer) => finish(&worker, &answer),
        Err((complaint, copy)) => refuse(&worker, &who, &sender, complaint, copy),
    }
}

/// Says what there is to say, starts the deliveries (a mail about an error among them); gives the exit code.
fn finish(worker: &Worker, answer: &LocalAnswer) -> anyhow::Result<i32> {
    std::io::stderr().write_all(&answer.words)?;
    let code = match &answer.outcome {
        Outcome::Accepted { .. } => worker.deliver(when(&worker.program))?,
        Outcome::Refused { why: Refusal::Lost, .. } => {
            eprintln!("exim: timed out while reading - message abandoned");
            return Ok(1);
        }
        Outcome::Refused { .. } => worker.deliver(when_report(&worker.program))?,
    };
    Ok(if answer.status == 0 { code } else { i32::from(answer.status) })
}

/// Takes the message in with the ACL for local messages, once `acl_not_smtp_start` has let it come; if it does
/// not, the complaint and what there is of the message are given.
fn receive_it(worker: &Worker, context: Context, mail: NewMail) -> Result<LocalAnswer, (Complaint, Vec<u8>)> {
    let program = &worker.program;
    let configuration = &worker.configuration;
    let stop = AtomicBool::new(false);
    let runner = Runner::new(&configuration.acls, &*configuration.routers, &stop);
    let mut context = Context { hooks: &runner, ..context };
    let keep = program.invocation.message.errors != ErrorMode::Print;
    let timeout =
        program.invocation.message.receive_timeout.unwrap_or(program.globals.main.time("receive_timeout"));
    let mut source = BufReader::new(TimedInput::new(timeout, keep));
    let start = runner.run_option(&mut context, Place::NotSmtpStart, None);
    if let Some(answer) = start.filter(|answer| answer.verdict != AclVerdict::Accept) {
        let words = answer.message.unwrap_or_else(|| PROHIBITED.into());
        return Err((Complaint::Acl(words), source.into_inner().into_copy()));
    }
    let errors_to = match program.invocation.message.errors {
        ErrorMode::Mail => ErrorsTo::Mail,
        ErrorMode::MailQuietly => ErrorsTo::MailStatusZero,
        ErrorMode::Print => ErrorsTo::Terminal,
    };
    let mut ask = |context: &mut Context, draft: Draft| ask_acl(&runner, context, draft);
    let errors: (ErrorsTo, &dyn Submit) = (errors_to, &*worker.submitter);
    Ok(receive::accept_local(&worker.station, &mut context, mail, &mut source, &mut ask, errors))
}

/// `acl_not_smtp`; its rejection is logged here, with the headers in the reject log.
fn ask_acl(runner: &Runner, context: &mut Context, draft: Draft) -> Verdict {
    let Some(answer) = runner.run_option(context, Place::NotSmtp, None) else { return Verdict::Accept };
    apply_effects(runner, draft.controls, draft.add_headers, draft.remove_headers);
    match answer.verdict {
        AclVerdict::Accept => Verdict::Accept,
        AclVerdict::Discard => Verdict::Discard,
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
    controls.suppress_local_fixups |= effects.suppress_local_fixups;
    if let Some(submission) = &effects.submission {
        controls.submission = Some(receive::Submission {
            sender_retain: submission.sender_retain,
            domain: submission.domain.clone(),
            name: submission.name.clone().unwrap_or_default(),
        });
    }
}

fn new_mail(program: &Program, who: &Caller, sender: &Sender, recipients: Vec<Address>) -> NewMail {
    let given = &program.invocation.message;
    let main = &program.globals.main;
    let (recipients, arguments) =
        if given.extract { (Vec::new(), recipients) } else { (recipients, Vec::new()) };
    let remove_arguments = main.bool("extract_addresses_remove_arguments");
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
        smtputf8: false,
        dsn_envid: None,
        dsn_ret: 0,
        allow_unqualified_sender: !given.no_qualify,
        allow_unqualified_recipient: !given.no_qualify,
        dot_ends: !given.dot_is_text,
        started: SystemTime::now(),
        controls: Controls {
            queue_only: when(program) == When::Never,
            suppress_local_fixups: given.suppress_fixups && program.standing.trusted,
            ..Controls::default()
        },
        add_headers: Vec::new(),
        remove_headers: Vec::new(),
        about: caller::about(program),
        local_error: given.bounce_about.is_some() && program.standing.trusted,
        pipelining: BString::default(),
    }
}

/// When the message is delivered: options, and what the configuration says of queueing.
pub fn when(program: &Program) -> When {
    let main = &program.globals.main;
    let given = &program.invocation.message;
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
fn when_report(program: &Program) -> When {
    if program.globals.main.bool("queue_only") { When::Never } else { When::Soon }
}

/// An argument that is no address.
struct Bad {
    item: BString,
    reason: BString,
}

/// Every argument is a list of addresses.
fn recipients(program: &Program) -> Result<Vec<Address>, Bad> {
    let syntax = caller::syntax(&program.globals.main);
    let mut found = Vec::new();
    for item in &program.invocation.arguments {
        let bad = |reason: &[u8]| Bad { item: item.clone(), reason: reason.into() };
        let parsed = parse_list(item, syntax);
        if parsed.is_empty() {
            return Err(bad(b"empty address"));
        }
        for one in parsed {
            let address = one.parsed.map_err(|error| bad(&error.message))?.address;
            if address.domain().is_empty() && program.invocation.message.no_qualify {
                return Err(bad(b"unqualified recipient address not allowed"));
            }
            found.push(caller::qualified(address, &program.globals.qualify_recipient));
        }
    }
    Ok(found)
}

/// Tells what is wrong as `-oe...` says; gives the exit code.
fn refuse(
    worker: &Worker,
    who: &Caller,
    sender: &Sender,
    complaint: Complaint,
    copy: Vec<u8>,
) -> anyhow::Result<i32> {
    let mode = worker.program.invocation.message.errors;
    if mode == ErrorMode::Print {
        eprintln!("exim: {}", complaint.for_terminal());
        return Ok(1);
    }
    let to = if sender.address.is_null() {
        Address::new(who.login.clone(), worker.program.globals.qualify_domain.clone())
    } else {
        sender.address.clone()
    };
    match error_mail::send(worker, to, &complaint, copy) {
        Ok(()) => {
            let code = worker.deliver(when_report(&worker.program))?;
            Ok(if mode == ErrorMode::MailQuietly { code } else { 1 })
        }
        Err(error) => {
            eprintln!("exim: {}\nexim: no mail could be sent about it: {error}", complaint.for_terminal());
            Ok(1)
        }
    }
}

/// What the caller still has to say, for a mail about an error found before it was read.
fn rest_of_input() -> Vec<u8> {
    let mut copy = Vec::new();
    // What cannot be read is not shown.
    let _ = std::io::stdin().lock().take(error_mail::MOST_COPIED as u64).read_to_end(&mut copy);
    copy
}
