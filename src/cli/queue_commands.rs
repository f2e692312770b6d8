//! What is asked of the queue: `-q`, `-M...`, `-bp`.

use super::args::{self, MessageAction, MessageCommand, QueueListing};
use super::caller;
use super::delivery::{When, Worker};
use super::trust::Standing;
use super::{Asked, Program};
use crate::deliver::Env;
use crate::mail::MessageId;
use crate::process::services;
use crate::queue::{self, Act, Listing, Run, Selection};
use crate::spool::Layout;
use crate::spool::message::read_header;
use bstr::ByteSlice;
use std::io::Write;
use std::time::SystemTime;

/// One queue run, here and now.
pub fn run_queue(program: Program, run: &args::QueueRun) -> anyhow::Result<i32> {
    let worker = Worker::start(program)?;
    queue::run(worker.env(), &meant_run(run));
    worker.deliver(When::Now)
}

/// The queue's own words for a run.
pub fn meant_run(run: &args::QueueRun) -> Run {
    let selection = |asked: &args::Selection| Selection { text: asked.text.clone(), regex: asked.regex };
    Run {
        two_stage: run.two_stage,
        first_only: run.first_only,
        force: run.force,
        force_frozen: run.force_frozen,
        local_only: run.local_only,
        recipient: run.recipient.as_ref().map(selection),
        sender: run.sender.as_ref().map(selection),
        from: run.from.clone(),
        to: run.to.clone(),
    }
}

/// `-bp` and its family.
pub fn list(program: &Program, listing: QueueListing) -> anyhow::Result<i32> {
    program.become_oxim()?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    queue::list(&services::layout(&program.globals), meant_listing(listing), SystemTime::now(), &mut out)?;
    out.flush()?;
    Ok(0)
}

/// The queue's own words for a listing.
pub fn meant_listing(listing: QueueListing) -> Listing {
    Listing {
        count: listing.count,
        unsorted: listing.unsorted,
        all: listing.all,
        undelivered: listing.undelivered,
        ids: listing.ids,
    }
}

/// `-M...`: each message in turn; the exit code is 1 if any could not be treated.
pub fn messages(program: Program, command: &MessageCommand) -> anyhow::Result<i32> {
    let worker = Worker::start(program)?;
    let mut out = std::io::stdout().lock();
    let code = act_on_messages(worker.env(), &worker.program.asked(), command, &mut out)?;
    out.flush()?;
    drop(out);
    worker.deliver(When::Now)?;
    Ok(code)
}

/// The same for a call of this process and for one over the submission socket.
pub fn act_on_messages(
    env: &Env,
    asked: &Asked,
    command: &MessageCommand,
    out: &mut dyn Write,
) -> anyhow::Result<i32> {
    let by = caller::caller(asked)?.login;
    let mut code = 0;
    for id in &command.ids {
        if command.what == MessageAction::Remove && !may_remove(&env.layout, asked.standing, id) {
            writeln!(out, "Permission denied")?;
            code = 1;
            continue;
        }
        if !queue::act(env, act(command.what), id, &command.addresses, by.as_bstr(), out)? {
            code = 1;
        }
    }
    Ok(code)
}

/// Admin users, and whoever handed the message in. One that is not there may be removed by anyone, to no effect.
fn may_remove(layout: &Layout, who: &Standing, id: &MessageId) -> bool {
    who.admin
        || layout.places_of(id).iter().all(|place| match read_header(place, id) {
            Ok((envelope, _)) => envelope.uid == who.uid,
            Err(crate::spool::message::OpenError::Gone) => true,
            Err(_) => false,
        })
}

fn act(what: MessageAction) -> Act {
    match what {
        MessageAction::Deliver => Act::Deliver,
        MessageAction::DeliverIfDue => Act::DeliverIfDue,
        MessageAction::Remove => Act::Remove,
        MessageAction::Freeze => Act::Freeze,
        MessageAction::Thaw => Act::Thaw,
        MessageAction::GiveUp => Act::GiveUp,
        MessageAction::AddRecipients => Act::AddRecipients,
        MessageAction::EditSender => Act::EditSender,
        MessageAction::MarkDelivered => Act::MarkDelivered,
        MessageAction::MarkAllDelivered => Act::MarkAllDelivered,
        MessageAction::ViewHeader => Act::ViewHeader,
        MessageAction::ViewBody => Act::ViewBody,
        MessageAction::ViewLog => Act::ViewLog,
        MessageAction::ViewCopy => Act::ViewCopy,
    }
}
