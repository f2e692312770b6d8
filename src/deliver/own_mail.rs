//! Messages about the message that is being delivered (bounces, warnings, notices), and when they are delivered.
//!
//! [`OwnMail::AtOnce`] nests deliveries, at most three deep: a bounce has no sender, so that all it may bring about is
//! a notice that it was frozen, and about a notice there is none.

use super::env::{How, OwnMail};
use super::message::{Attempt, deliver_told};
use crate::mail::Address;
use crate::upward::NewMessage;
use std::io;

impl Attempt<'_> {
    /// Commits a message about this one to the spool. [`Attempt::deliver_own_mail`] comes next, once what it tells of is
    /// settled.
    pub fn submit(&mut self, new: NewMessage) -> io::Result<()> {
        let announced = self.how.own_mail == OwnMail::Announced;
        let queue_only = self.env.globals.main.bool("queue_only");
        let id = self.env.submit.submit(NewMessage {
            sender: Address::null(),
            about: Some(self.message.id.clone()),
            unannounced: !announced || queue_only,
            ..new
        })?;
        if self.how.own_mail == OwnMail::AtOnce || (self.how.own_mail == OwnMail::After && !queue_only) {
            self.own_mail.push(id);
        }
        Ok(())
    }

    /// Delivers what was submitted, if whoever waits for this message waits for that too.
    pub fn deliver_own_mail(&mut self) {
        if self.how.own_mail != OwnMail::AtOnce || self.own_mail.is_empty() {
            return;
        }
        // It may take its time: a crash meanwhile must not bounce these addresses once more.
        self.write_journal();
        for id in std::mem::take(&mut self.own_mail) {
            deliver_told(self.env, &id, How { own_mail: OwnMail::AtOnce, ..How::default() });
        }
    }
}
