//! STARTTLS (RFC 3207), and TLS from the first byte.
//!
//! Everything that can fail without the peer is done before 220 is sent, so that the peer hears 454 and
//! may go on in clear. Input sent with STARTTLS is an error: it would be read as if it came over TLS.

use super::command::Command;
use super::session::{Next, Session};
use super::stream::{Connection, TlsHandshake};
use crate::acl::{Place, Verdict};
use crate::log::Which;
use crate::mail::Reply;
use crate::metrics::{Counter, Counters, Side};

impl<'h> Session<'_, 'h> {
    pub(super) fn starttls(&mut self, command: &Command) -> Next {
        if !self.tls_advertised {
            return self.protocol_error(command, 503, "STARTTLS command used when not advertised");
        }
        if self.context.session.origin.tls.is_some() {
            // reached where tls_remember_esmtp keeps what was advertised in clear
            let peer = self.peer(false);
            let line = format!("TLS error on connection from {peer} (STARTTLS received after TLS started): ");
            self.log(Which::Main, &line);
            return self.reply(&Reply::new(554, "Already in TLS"));
        }
        let answer = self.ask_acl(Place::Starttls, None);
        if let Some(answer) = &answer
            && answer.verdict != Verdict::Accept
        {
            // what follows the verb is named, and nothing does
            return self.reject(Place::Starttls, answer, b"STARTTLS ");
        }
        // whatever was said in clear is forgotten (RFC 3207 section 4.2)
        self.reset_transaction();
        let Some(handshake) = self.prepare_tls(false) else {
            return self.reply(&Reply::new(454, "TLS currently unavailable"));
        };
        if self.wire.has_input() {
            self.log_rejection(&format!(
                "input sent with STARTTLS before TLS was started: {}",
                self.peer(true)
            ));
            return self.reply_and_close(&Reply::new(554, "Security failure"), "synchronization-error");
        }
        if let Next::Close(reason) = self.reply(&Reply::new(220, "TLS go ahead")) {
            return Next::Close(reason);
        }
        if self.wire.flush().is_err() {
            return Next::Close("connection-lost");
        }
        self.shake_hands(handshake)
    }

    /// TLS on connect: before the banner. An error closes the connection without a word.
    pub(super) fn start_tls_on_connect(&mut self) -> Next {
        let Some(handshake) = self.prepare_tls(true) else { return Next::Close("tls-failed") };
        self.shake_hands(handshake)
    }

    fn prepare_tls(&mut self, on_connect: bool) -> Option<Box<dyn TlsHandshake + 'h>> {
        let acceptor = self.server.tls.clone()?;
        match acceptor.prepare(&self.context, on_connect) {
            Ok(handshake) => Some(handshake),
            Err(why) => {
                let line = format!("TLS error on connection from {} {why}", self.peer(false));
                self.log(Which::Main, &line);
                None
            }
        }
    }

    fn shake_hands(&mut self, handshake: Box<dyn TlsHandshake + '_>) -> Next {
        let Some(stream) = self.wire.connection.take_clear() else { return Next::Close("tls-failed") };
        match handshake.run(stream, self.wire.time) {
            Ok(session) => {
                self.counters().handshake(Side::In, &session.info);
                self.wire.connection = Connection::Secured(session.transport);
                let origin = &mut self.context.session.origin;
                origin.tls = Some(session.info);
                origin.helo = None;
                origin.helo_verified = false;
                // Against RFC 3207: for clients that do not say EHLO again.
                if !self.context.globals.main.bool("tls_remember_esmtp") {
                    self.greeted = false;
                    self.esmtp = false;
                    self.tls_advertised = false;
                    self.pipelining_advertised = false;
                }
                self.counts.tls_started();
                self.set_protocol();
                Next::Command
            }
            Err(why) => {
                self.counters().count(Counter::InTlsFailed);
                self.log(Which::Main, &format!("TLS error on connection from {} {why}", self.peer(false)));
                Next::Close("tls-failed")
            }
        }
    }

    fn counters(&self) -> &Counters {
        &self.context.globals.counters
    }

    /// TLS is there, not started yet, wanted for this host, and the connection can carry it.
    pub(super) fn may_start_tls(&self) -> bool {
        self.server.tls.is_some()
            && self.context.session.origin.tls.is_none()
            && matches!(self.wire.connection, Connection::Clear(_))
            // Exim offers it where the list cannot be tested, and so do we: the other way is in clear.
            && self.ask_host_list("tls_advertise_hosts").unwrap_or(true)
    }
}
