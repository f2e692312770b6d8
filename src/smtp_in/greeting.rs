//! The start of a session: what is known of the peer, whether it is welcome, the banner.

use super::session::{Next, Session};
use crate::acl::{Place, Verdict};
use crate::expand::{ExpandError, expand};
use crate::log::Selector;
use crate::mail::Reply;
use crate::matching::host_name;
use crate::text::interval;
use bstr::{BString, ByteSlice};
use std::time::Duration;

impl Session<'_, '_> {
    /// Everything up to the banner.
    pub(super) fn greet(&mut self) -> Next {
        if let Err(why) = self.expand_session_options() {
            self.log_panic(&why);
            return self.close_421("Service not available - closing connection", "");
        }
        if self.is_tcp() {
            if self.host_in("host_reject_connection") {
                if self.context.globals.log.selectors().has(Selector::ConnectionReject) {
                    let peer = self.peer(false);
                    self.log_rejection(&format!("refused connection from {peer} (host_reject_connection)"));
                }
                return self.reply_and_close(&Reply::new(554, "SMTP service not available"), "");
            }
            if self.host_in("host_lookup") {
                self.look_up_host();
            }
        }
        let answer = self.ask_acl(Place::Connect, None);
        if let Some(answer) = &answer
            && answer.verdict != Verdict::Accept
        {
            let reply = self.log_and_word_rejection(answer, b"connection in \"connect\" ACL", "", false);
            return self.reply_and_close(&reply, "");
        }
        if self.tls_on_connect
            && let Next::Close(reason) = self.start_tls_on_connect()
        {
            return Next::Close(reason);
        }
        self.send_banner(answer.and_then(|answer| answer.message))
    }

    fn send_banner(&mut self, message: Option<BString>) -> Next {
        let banner = match message {
            Some(message) => self.word(220, message.trim_end()).reply,
            None => match self.expand_banner() {
                Ok(text) => Reply::new(220, text),
                Err(None) => return Next::Close(""),
                Err(Some(why)) => {
                    self.log_panic(&why);
                    return self.close_421("Service not available - closing connection", "");
                }
            },
        };
        // A peer that talks before the banner is out of step, too.
        if self.is_tcp() && self.enforces_sync() && self.wire.has_input() {
            return self.reject_early_talk();
        }
        self.welcomed = true;
        self.reply(&banner)
    }

    fn expand_banner(&self) -> Result<BString, Option<String>> {
        let Some(template) = self.context.globals.main.text("smtp_banner") else {
            return Ok(self.active_hostname());
        };
        match expand(template, &self.context) {
            Ok(text) => Ok(text.into_bytes()),
            Err(ExpandError::Forced(_)) => Err(None),
            Err(error) => {
                Err(Some(format!("Expansion of \"{}\" (smtp_banner) failed: {error}", template.text())))
            }
        }
    }

    /// Options whose value holds for the whole connection.
    fn expand_session_options(&mut self) -> Result<(), String> {
        if let Some(time) = self.expand_receive_time()? {
            self.wire.time = time;
        }
        self.size_limit = self.expand_number("message_size_limit")?;
        self.recipients_max = usize::try_from(self.expand_number("recipients_max")?).unwrap_or(usize::MAX);
        if let Some(template) = self.context.globals.main.text("smtp_active_hostname").cloned() {
            match expand(&template, &self.context) {
                Ok(name) => self.context.session.smtp_active_hostname = name.into_bytes(),
                Err(ExpandError::Forced(_)) => {}
                Err(error) => {
                    return Err(format!(
                        "failed to expand \"{}\" (smtp_active_hostname): {error}",
                        template.text()
                    ));
                }
            }
        }
        let name = self.active_hostname();
        self.context.session.smtp_active_hostname = name;
        Ok(())
    }

    /// `smtp_receive_timeout`; none: what is set already holds.
    fn expand_receive_time(&self) -> Result<Option<Duration>, String> {
        let main = &self.context.globals.main;
        let Some(template) = main.text("smtp_receive_timeout") else {
            return Ok(Some(main.time("smtp_receive_timeout")).filter(|time| !time.is_zero()));
        };
        let value = expand(template, &self.context).map_err(|error| {
            format!("failed to expand \"{}\" (smtp_receive_timeout): {error}", template.text())
        })?;
        let time = interval::parse(value.bytes())
            .ok_or_else(|| format!("bad time value \"{}\" for smtp_receive_timeout", value.bytes()))?;
        Ok((!time.is_zero()).then_some(time))
    }

    /// `$sender_host_name`, once.
    pub(super) fn look_up_host(&mut self) {
        let Some(host) = self.context.session.origin.host else { return };
        if self.context.session.host_name_looked_up {
            return;
        }
        self.context.session.host_name_looked_up = true;
        let found = host_name::look_up_and_log(&self.context, host.ip());
        host_name::set_name(&mut self.context.session.origin, found);
    }
}
