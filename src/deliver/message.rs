//! One attempt to deliver one message, from its lock to its end.

use super::env::{Delivery, Env, How};
use super::{damaged, finish, freeze, local, remote, routing};
use crate::expand::Context;
use crate::expand::context::{MessageVars, NoHooks};
use crate::log::panic_text;
use crate::mail::MessageId;
use crate::route::Item;
use crate::spool::message::OpenError;
use crate::spool::{Journal, Message};
use crate::transport::Problem;
use bstr::{BStr, BString, ByteSlice};
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// An address that was not delivered, and why.
#[derive(Clone, Debug)]
pub struct Setback {
    /// The address.
    pub item: Item,
    /// Why.
    pub problem: Problem,
    /// Router (`R=`); empty: none to name.
    pub router: BString,
    /// Transport (`T=`); empty: it was not reached.
    pub transport: BString,
    /// The retry records that this failure touches.
    pub retry: Vec<RetryKey>,
    /// Not to be logged (`disable_logging`, `-Mg`, retry times without the selector).
    pub quiet: bool,
    /// The retry records of all its hosts have run out.
    pub expired: bool,
    /// It was deferred until the retry rules gave it up.
    pub timed_out: bool,
    /// Which one it is of this attempt: notices name the latest first.
    pub nth: usize,
}

/// A retry record that a failure touches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryKey {
    /// The key.
    pub key: BString,
    /// What the pattern of a retry rule is matched with: the host, or the address.
    pub subject: BString,
    /// Second subject: the address's domain, for hosts.
    pub other: Option<BString>,
    /// The error concerns this message: its age counts.
    pub by_message: bool,
    /// A host's record: it is kept when the address times out.
    pub host: bool,
}

/// What one attempt knows.
pub struct Attempt<'e> {
    /// Surroundings.
    pub env: &'e Env,
    /// Why it is tried.
    pub how: How,
    /// The message, locked.
    pub message: Message,
    /// For all expansions of this attempt.
    pub context: Context<'static>,
    /// When it began.
    pub now: SystemTime,
    /// Addresses for local transports; the last is delivered first, as Exim does.
    pub local: Vec<Item>,
    /// The same for remote transports.
    pub remote: Vec<Item>,
    /// What is left for later; the last is named first.
    pub deferred: Vec<Setback>,
    /// What failed; the last is named first.
    pub failed: Vec<Setback>,
    /// Keys of what was finished in this attempt and is not in the journal yet.
    pub unjournaled: Vec<BString>,
    /// Items that were finished, for their parents.
    pub finished: Vec<Item>,
    /// Keys that a delivery was tried for.
    pub seen: HashSet<BString>,
    /// The same addresses by other ways: they are finished when the first is.
    pub twins: Vec<Item>,
    /// Lines for the message's own log, written only if the message stays.
    pub message_log: Vec<u8>,
    /// The journal, once it was needed.
    pub journal: Option<Journal>,
    /// Freeze the message at the end, with these words in the log.
    pub freeze: Option<BString>,
    /// Something of -H has changed.
    pub changed: bool,
    /// Messages about this one that it sees to itself.
    pub own_mail: Vec<MessageId>,
    setbacks: usize,
}

/// How long somebody who only looks at a message may take: about 2.5 s in all, in pauses that grow from this ...
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// ... to this. Who has it longer delivers it.
const LONGEST_PAUSE: Duration = Duration::from_millis(1280);

/// Delivers the message of this id. Whatever goes wrong with one message is logged and stays with it: a panic too, so
/// that a queue run goes on with the next.
pub fn deliver(env: &Env, id: &MessageId, how: How) -> Delivery {
    ::log::debug!(target: "deliver", "delivering {id} as {how:?}");
    if env.log().is_shown() {
        let run =
            if how.queue_run { format!(" (queue run pid {})", std::process::id()) } else { String::new() };
        env.log().remark(format!("delivering {id}{run}"));
    }
    without_panic(env, id, || match Message::open(&env.layout, id) {
        Ok(message) => deliver_open(env, message, how),
        Err(error) => refuse(env, id, how, &error),
    })
}

/// The same for a message that was told to be ready. Whoever has it locked may only look at it (the sweep of the spool,
/// an administrator's command), and nobody will tell of it again: so this waits a while for it.
pub fn deliver_told(env: &Env, id: &MessageId, how: How) -> Delivery {
    let mut pause = FIRST_PAUSE;
    without_panic(env, id, || {
        loop {
            match Message::open(&env.layout, id) {
                Ok(message) => return deliver_open(env, message, how),
                Err(OpenError::Locked) if pause <= LONGEST_PAUSE => {
                    std::thread::sleep(pause);
                    pause *= 2;
                }
                Err(error) => return refuse(env, id, how, &error),
            }
        }
    })
}

/// What deliveries share is behind locks, and whole whenever they are free: a panic ends one of them alone.
fn without_panic(env: &Env, id: &MessageId, work: impl FnOnce() -> Delivery) -> Delivery {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|cause| {
        let text = format!("internal error in a delivery: {}", panic_text(&*cause));
        env.log().panic(line(id, &text).as_bstr());
        Delivery::Deferred
    })
}

/// Delivers a message that is locked already (its receiver hands it over).
pub fn deliver_open(env: &Env, message: Message, how: How) -> Delivery {
    let mut attempt = Attempt::new(env, message, how);
    match freeze::check(&mut attempt) {
        freeze::Check::Go => {}
        freeze::Check::Skip(delivery) => return delivery,
    }
    if how.first_only && !attempt.message.envelope.first_time {
        return Delivery::Skipped;
    }
    routing::route_all(&mut attempt);
    local::deliver_all(&mut attempt);
    if !how.local_only {
        remote::deliver_all(&mut attempt);
    } else {
        remote::postpone_all(&mut attempt);
    }
    let delivery = finish::finish(&mut attempt);
    let own_mail = std::mem::take(&mut attempt.own_mail);
    drop(attempt); // and its lock: what comes now has nothing to do with this message
    for id in own_mail {
        deliver_told(env, &id, How { own_mail: how.own_mail, ..How::default() });
    }
    delivery
}

fn refuse(env: &Env, id: &MessageId, how: How, error: &OpenError) -> Delivery {
    match error {
        OpenError::Gone if damaged::lacks_data(env, id) => return damaged::pass_over(env, id, how, error),
        OpenError::Gone => {
            if !how.queue_run {
                env.log().write(
                    crate::log::Which::Main,
                    line(id, &format!("Spool file {id}-D not found")).as_bstr(),
                );
            }
        }
        OpenError::Locked => {
            let text = line(id, "Spool file is locked (another process is handling this message)");
            let skip = crate::log::Selector::SkipDelivery;
            env.log().optional(skip, crate::log::Which::Main, text.as_bstr());
        }
        OpenError::Format { .. } | OpenError::Io(_) => return damaged::pass_over(env, id, how, error),
    }
    Delivery::Skipped
}

/// `id text`
pub fn line(id: &MessageId, text: &str) -> BString {
    format!("{id} {text}").into()
}

impl<'e> Attempt<'e> {
    fn new(env: &'e Env, message: Message, how: How) -> Self {
        let mut context = Context::new(Arc::clone(&env.globals), &NoHooks);
        let envelope = &message.envelope;
        context.session.origin = envelope.origin.clone();
        context.session.caller_uid = envelope.uid;
        context.session.caller_gid = envelope.gid;
        let headers: u64 = message.headers.iter().map(|header| header.text.len() as u64).sum();
        context.message = MessageVars {
            id: Some(message.id.clone()),
            sender: Some(envelope.sender.clone()),
            return_path: Some(envelope.sender.to_bytes()),
            headers: Arc::new(message.headers.clone()),
            body_size: message.body_size,
            size: headers + 1 + message.body_size,
            body_lines: envelope.body_lines,
            body_zeros: envelope.body_zeros,
            max_received_line: envelope.max_received_line,
            recipients: envelope.recipients.iter().map(|recipient| recipient.address.clone()).collect(),
            originator_uid: envelope.uid,
            originator_gid: envelope.gid,
            received: Some(envelope.received),
            deliver_retry: !envelope.first_time,
            queue_running: how.queue_run,
            ..MessageVars::default()
        };
        context.dynamic.borrow_mut().acl_variables = envelope.acl_variables.clone();
        Self {
            env,
            how,
            message,
            context,
            now: SystemTime::now(),
            local: Vec::new(),
            remote: Vec::new(),
            deferred: Vec::new(),
            failed: Vec::new(),
            unjournaled: Vec::new(),
            finished: Vec::new(),
            seen: HashSet::new(),
            twins: Vec::new(),
            message_log: Vec::new(),
            journal: None,
            freeze: None,
            changed: false,
            own_mail: Vec::new(),
            setbacks: 0,
        }
    }

    /// Counts setbacks.
    pub fn next_setback(&mut self) -> usize {
        self.setbacks += 1;
        self.setbacks
    }

    /// Time since the message came in.
    pub fn age(&self) -> Duration {
        self.now.duration_since(self.message.envelope.received).unwrap_or_default()
    }

    /// Seconds since 1970 of a time.
    pub fn seconds(time: SystemTime) -> i64 {
        time.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
    }

    /// Reverse path of an item: its `errors_to`, else the sender.
    pub fn errors_to(&self, item: &Item) -> BString {
        item.errors_to.clone().unwrap_or_else(|| self.message.envelope.sender.to_bytes())
    }

    /// Is this key finished, in this attempt or an earlier one?
    pub fn is_done(&self, unique: &BStr) -> bool {
        self.message.envelope.done.contains(unique)
    }

    /// An address is finished. It goes into the journal with the next [`Attempt::journal`].
    pub fn finish(&mut self, item: Item) {
        self.unjournaled.push(item.unique());
        self.finished.push(item);
    }

    /// Writes what was finished into -J, on the disk: from now on a crash does not deliver it again.
    pub fn write_journal(&mut self) {
        if self.unjournaled.is_empty() {
            return;
        }
        let written = match &mut self.journal {
            Some(journal) => journal.note(&self.unjournaled),
            None => Journal::open(&self.message).and_then(|mut journal| {
                let noted = journal.note(&self.unjournaled);
                self.journal = Some(journal);
                noted
            }),
        };
        if let Err(error) = written {
            let text = line(&self.message.id, &format!("failed to write journal: {error}"));
            self.env.log().panic(text.as_bstr());
        }
        self.message.envelope.done.extend(self.unjournaled.drain(..));
        self.changed = true;
    }

    /// A line of the message's own log.
    pub fn note(&mut self, text: &[u8]) {
        let stamp = self.env.log().stamp(SystemTime::now());
        self.message_log.extend_from_slice(stamp.as_bytes());
        self.message_log.extend_from_slice(text);
        self.message_log.push(b'\n');
    }
}
