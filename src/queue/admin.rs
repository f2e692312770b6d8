//! What an administrator does to messages of the queue (`-M...`), with Exim's texts.

use super::view;
use crate::deliver::{self, Env, How};
use crate::log::{Event, Which};
use crate::mail::address_parse::{Syntax, parse_address};
use crate::mail::{Address, MessageId, Recipient};
use crate::spool::layout::file_name;
use crate::spool::message::OpenError;
use crate::spool::{Message, commit, message_log};
use crate::sys::system_words;
use bstr::{BStr, BString, ByteSlice};
use std::io::{self, Write};
use std::time::SystemTime;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// `-M`: deliver now, retry times overridden, frozen or not.
    Deliver,
    /// `-Mc`: deliver, retry times respected.
    DeliverIfDue,
    /// `-Mrm`
    Remove,
    /// `-Mf`
    Freeze,
    /// `-Mt`
    Thaw,
    /// `-Mg`
    GiveUp,
    /// `-Mar`
    AddRecipients,
    /// `-Mes`
    EditSender,
    /// `-Mmd`
    MarkDelivered,
    /// `-Mmad`
    MarkAllDelivered,
    /// `-Mvh`
    ViewHeader,
    /// `-Mvb`
    ViewBody,
    /// `-Mvl`
    ViewLog,
    /// `-Mvc`
    ViewCopy,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    /// Login name, for the log.
    pub login: &'a BStr,
    /// Removes what he handed in himself.
    pub uid: u32,
    /// May do everything.
    pub admin: bool,
}

impl Who<'_> {
    /// Of a message that is there; whether one is there is no secret in Exim.
    fn may(&self, act: Act, message: &Message) -> bool {
        self.admin || (act == Act::Remove && message.envelope.uid == self.uid)
    }
}

/// Does it to one message. False: the exit code is 1.
pub fn act(
    env: &Env,
    act: Act,
    id: &MessageId,
    addresses: &[BString],
    who: Who,
    out: &mut dyn Write,
) -> io::Result<bool> {
    let force = How { force: true, thaw: true, ..How::default() };
    match act {
        Act::ViewHeader | Act::ViewBody | Act::ViewLog if !who.admin => return denied(act, out),
        Act::ViewHeader => return view::file(&env.layout, id, 'H', out),
        Act::ViewBody => return view::file(&env.layout, id, 'D', out),
        Act::ViewLog => return view::log(&env.layout, id, out),
        Act::ViewCopy if who.admin => {
            return match view::copy_error(&env.layout, id) {
                Some(error) => refused(env, act, id, who, &error, out),
                None => view::copy(&env.layout, id, out),
            };
        }
        Act::Deliver | Act::DeliverIfDue => {
            deliver::deliver(env, id, if act == Act::Deliver { force } else { How::default() });
            return Ok(true);
        }
        _ => {}
    }
    let message = match Message::open(&env.layout, id) {
        Ok(message) => message,
        Err(error) => return refused(env, act, id, who, &error, out),
    };
    if !who.may(act, &message) {
        return denied(act, out);
    }
    let by = who.login;
    let mut change = Change { env, message, by, out };
    match act {
        Act::Freeze => change.freeze(),
        Act::Thaw => change.thaw(),
        Act::Remove => change.remove(),
        Act::GiveUp => {
            change.log(&format!("cancelled by {by}"));
            change.message.envelope.frozen = None;
            deliver::deliver_open(env, change.message, How { give_up: true, ..force });
            Ok(true)
        }
        Act::AddRecipients => change.add_recipients(addresses),
        Act::EditSender => change.edit_sender(addresses),
        Act::MarkDelivered => change.mark(addresses),
        Act::MarkAllDelivered => change.mark_all(),
        _ => Ok(true),
    }
}

fn denied(act: Act, out: &mut dyn Write) -> io::Result<bool> {
    writeln!(out, "Permission denied")?;
    end_of_words(act, out)?;
    Ok(false)
}

/// `-Mmad` ends with a blank line, whatever it said.
fn end_of_words(act: Act, out: &mut dyn Write) -> io::Result<()> {
    if act == Act::MarkAllDelivered { writeln!(out) } else { Ok(()) }
}

/// A message that cannot be opened: an admin user's `-Mrm` takes its files away all the same, unless somebody
/// delivers it now.
fn refused(
    env: &Env,
    act: Act,
    id: &MessageId,
    who: Who,
    error: &OpenError,
    out: &mut dyn Write,
) -> io::Result<bool> {
    let removing = act == Act::Remove && who.admin;
    match error {
        OpenError::Locked => {
            writeln!(out, "Message {id} is locked")?;
            return Ok(false);
        }
        OpenError::Gone => {
            let line = format!("{id} Spool file {id}-D not found");
            env.log().write(Which::Main, line.as_bytes().as_bstr());
            if act == Act::GiveUp {
                return Ok(true);
            }
            writeln!(out, "Spool data file for {id} does not exist")?;
            end_of_words(act, out)?;
            if removing {
                writeln!(out, "Continuing, to ensure all files removed")?;
                say_bad_header(id, view::header_error(&env.layout, id).as_ref(), removing, out)?;
            }
        }
        OpenError::Format { .. } | OpenError::Io(_) if act == Act::GiveUp => {
            env.log().write(Which::Main, format!("{id} {error}").as_bytes().as_bstr());
            return Ok(true);
        }
        OpenError::Format { .. } | OpenError::Io(_) => say_bad_header(id, Some(error), removing, out)?,
    }
    if !removing {
        return Ok(false);
    }
    let removed = remove_files(env, id);
    if removed {
        env.log().write(Which::Main, format!("{id} removed by {}", who.login).as_bytes().as_bstr());
        env.log().write(Which::Main, format!("{id} Completed").as_bytes().as_bstr());
    }
    let or_not = if matches!(error, OpenError::Gone) { " or did not exist" } else { "" };
    writeln!(out, "Message {id} has been removed{or_not}")?;
    // The exit code tells that not all was as it should be.
    Ok(false)
}

/// What is wrong with -H, if anything is.
fn say_bad_header(
    id: &MessageId,
    error: Option<&OpenError>,
    removing: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    match error {
        None => return Ok(()),
        Some(OpenError::Format { name, .. }) => writeln!(out, "Spool format error for {name}")?,
        Some(OpenError::Io(error)) => {
            let words = system_words(error);
            writeln!(out, "Spool read error for {id}-H: {words}")?;
        }
        Some(_) => writeln!(out, "Spool read error for {id}-H: No such file or directory")?,
    }
    if removing { writeln!(out, "Continuing to ensure all files removed") } else { Ok(()) }
}

/// -H first: without it there is no message.
fn remove_files(env: &Env, id: &MessageId) -> bool {
    let mut removed = false;
    for place in env.layout.places_of(id) {
        for letter in ['H', 'J', 'D'] {
            removed |= std::fs::remove_file(place.join(file_name(id, letter))).is_ok();
        }
    }
    let _ = message_log::remove(&env.layout, id);
    removed
}

/// A message that is open, and who changes it.
struct Change<'a> {
    env: &'a Env,
    message: Message,
    by: &'a BStr,
    out: &'a mut dyn Write,
}

impl Change<'_> {
    fn log(&self, text: &str) {
        self.env.log().event(&Event::About { id: &self.message.id, text: text.as_bytes().as_bstr() });
    }

    fn say(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "Message {} {text}", self.message.id)
    }

    fn note(&self, text: &str) {
        let stamp = self.env.log().stamp(SystemTime::now());
        let line = format!("{stamp}{text}");
        let _ = message_log::append(&self.env.layout, &self.message.id, line.as_bytes());
    }

    fn freeze(&mut self) -> io::Result<bool> {
        if self.message.envelope.frozen.is_some() {
            self.say("is already frozen")?;
            return Ok(false);
        }
        self.message.envelope.frozen = Some(SystemTime::now());
        self.message.envelope.manually_thawed = false;
        commit::rewrite(&self.message)?;
        self.say("is now frozen")?;
        self.log(&format!("frozen by {}", self.by));
        Ok(true)
    }

    fn thaw(&mut self) -> io::Result<bool> {
        if self.message.envelope.frozen.is_none() {
            self.say("is not frozen")?;
            return Ok(false);
        }
        self.message.envelope.frozen = None;
        self.message.envelope.manually_thawed = true;
        commit::rewrite(&self.message)?;
        self.say("is no longer frozen")?;
        self.log(&format!("unfrozen by {}", self.by));
        Ok(true)
    }

    fn remove(&mut self) -> io::Result<bool> {
        commit::remove(&self.message)?;
        let _ = message_log::remove(&self.env.layout, &self.message.id);
        self.say("has been removed")?;
        self.log(&format!("removed by {}", self.by));
        self.log("Completed");
        Ok(true)
    }

    fn add_recipients(&mut self, addresses: &[BString]) -> io::Result<bool> {
        let mut added = Vec::new();
        for text in addresses {
            match address_of(text) {
                Ok(address) => {
                    self.log(&format!("recipient <{}> added by {}", address.to_bytes(), self.by));
                    added.push(Recipient { address, ..Recipient::default() });
                }
                Err(problem) => return self.bad("error while adding recipient", &problem),
            }
        }
        self.message.envelope.recipients.extend(added);
        self.modified()
    }

    fn edit_sender(&mut self, addresses: &[BString]) -> io::Result<bool> {
        let text = addresses.first().cloned().unwrap_or_default();
        let sender = if text == "<>" { Ok(Address::null()) } else { address_of(&text) };
        match sender {
            Ok(sender) => {
                self.log(&format!("sender address changed to <{}> by {}", sender.to_bytes(), self.by));
                self.message.envelope.sender = sender;
                self.modified()
            }
            Err(problem) => self.bad("error while editing sender", &problem),
        }
    }

    fn mark(&mut self, addresses: &[BString]) -> io::Result<bool> {
        for text in addresses {
            let known = self
                .message
                .envelope
                .recipients
                .iter()
                .any(|recipient| recipient.address.to_bytes() == *text);
            if !known {
                let problem = format!("{text} is not a recipient: message not updated");
                return self.bad("error while marking as delivered", &problem);
            }
        }
        for text in addresses {
            self.log(&format!("address <{text}> marked delivered by {}", self.by));
            self.message.envelope.done.insert(text.clone());
        }
        self.modified()
    }

    fn mark_all(&mut self) -> io::Result<bool> {
        let all: Vec<BString> =
            self.message.envelope.recipients.iter().map(|recipient| recipient.address.to_bytes()).collect();
        for text in all {
            self.log(&format!("address <{text}> marked delivered by {}", self.by));
            self.message.envelope.done.insert(text);
        }
        self.modified()?;
        end_of_words(Act::MarkAllDelivered, self.out)?;
        Ok(true)
    }

    fn modified(&mut self) -> io::Result<bool> {
        commit::rewrite(&self.message)?;
        self.note(&format!("message modified by {}", self.by));
        self.say("has been modified")?;
        Ok(true)
    }

    fn bad(&mut self, what: &str, problem: &str) -> io::Result<bool> {
        self.say(&format!("- {what}:\n  {problem}"))?;
        Ok(false)
    }
}

/// An address that must have a domain.
fn address_of(text: &BString) -> Result<Address, String> {
    match parse_address(text, Syntax::default()) {
        Ok(parsed) if parsed.address.domain().is_empty() => {
            Err(format!("bad address {text}: domain missing"))
        }
        Ok(parsed) => Ok(parsed.address),
        Err(error) => Err(format!("bad address {text}: {}", error.message)),
    }
}
