//! Messages of our own making (bounces, warnings, reports of bad submissions) go in by the same steps.

use super::accept::accept;
use super::new_mail::{Arrival, Caller, Controls, Draft, NewMail, Outcome, Station, Verdict};
use crate::expand::Context;
use crate::expand::context::NoHooks;
use crate::mail::{MessageId, Recipient};
use crate::upward::{NewMessage, Submit};
use bstr::BString;
use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::SystemTime;

/// Takes our own messages into the spool.
pub struct OwnMessages {
    station: Station,
    login: BString,
}

impl OwnMessages {
    /// `login`: the name of the user that oxim runs as, for `U=` and the envelope.
    pub fn new(station: Station, login: impl Into<BString>) -> Self {
        Self { station, login: login.into() }
    }
}

impl Submit for OwnMessages {
    fn submit(&self, new: NewMessage) -> io::Result<MessageId> {
        let globals = self.station.globals.clone();
        let mut context = Context::new(globals.clone(), &NoHooks);
        let origin = &mut context.session.origin;
        origin.ident = Some(self.login.clone());
        origin.protocol = "local".into();
        origin.local = true;
        let caller = Caller {
            login: self.login.clone(),
            uid: globals.oxim_uid,
            gid: globals.oxim_gid,
            full_name: BString::default(),
            trusted: true,
        };
        let attached = new.attach.clone().map(|(file, at, length)| Attached { file, at, left: length });
        let text = Cursor::new(new.text.clone());
        let mut source: Box<dyn io::BufRead> = match attached {
            Some(attached) => Box::new(BufReader::new(text.chain(attached))),
            None => Box::new(text),
        };
        let mail = mail_of(new, caller);
        let mut take_it = |_: &mut Context, _: Draft| Verdict::Accept;
        match accept(&self.station, &mut context, mail, &mut *source, &mut take_it) {
            Outcome::Accepted { id, .. } => Ok(id),
            Outcome::Refused { reply, .. } => Err(io::Error::other(reply.text.to_string())),
        }
    }
}

fn mail_of(new: NewMessage, caller: Caller) -> NewMail {
    let recipient = |address| Recipient { address, ..Recipient::default() };
    NewMail {
        arrival: Arrival::Local,
        caller,
        sender: new.sender.clone(),
        raw_sender: new.sender,
        sender_set_untrusted: false,
        recipients: new.recipients.into_iter().map(recipient).collect(),
        extract: None,
        body_8bitmime: 0,
        smtputf8: false,
        dsn_envid: None,
        dsn_ret: 0,
        allow_unqualified_sender: true,
        allow_unqualified_recipient: true,
        dot_ends: false,
        started: SystemTime::now(),
        controls: Controls { queue_only: new.unannounced, ..Controls::default() },
        add_headers: Vec::new(),
        remove_headers: Vec::new(),
        about: new.about,
        local_error: new.local_error,
        pipelining: BString::default(),
    }
}

/// A part of a file, read with `pread`: the descriptor may be shared.
struct Attached {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Read for Attached {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = self.file.read_at(&mut buffer[..wanted], self.at)?;
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}
