//! HELO and EHLO (RFC 5321 section 4.1.1.1).

use super::command::{Command, Verb};
use super::session::{Next, Session};
use crate::acl::{Place, Verdict};
use crate::expand::printing;
use crate::mail::Reply;
use crate::matching::host_name;
use crate::matching::{self, Match};
use crate::text::Value;
use bstr::{BString, ByteSlice};

impl Session<'_, '_> {
    pub(super) fn helo(&mut self, command: &Command) -> Next {
        let word = command.word();
        if let Err(next) = self.check_helo_syntax(word, command) {
            return next;
        }
        if let Err(next) = self.verify_helo(word, command) {
            return next;
        }
        let answer = self.ask_acl(Place::Helo, None);
        if let Some(answer) = &answer
            && answer.verdict != Verdict::Accept
        {
            self.context.session.origin.helo = None;
            let helo = command.argument;
            // the log names the rejected name as the peer's, as it was when the ACL ran
            self.context.session.origin.helo = Some(helo.into());
            let next = self.reject(Place::Helo, answer, format!("EHLO or HELO {helo}").as_bytes());
            self.context.session.origin.helo = None;
            self.greeted = false;
            return next;
        }
        self.reset_transaction();
        self.greeted = true;
        self.esmtp = command.verb == Verb::Ehlo;
        self.pipelining_advertised = false;
        self.tls_advertised = false;
        self.set_protocol();
        // One line, however long the name.
        let greeting = match answer.and_then(|answer| answer.message) {
            Some(message) => self.word(250, &self.first_line(message)).reply,
            None => Reply::new(250, self.helo_greeting()),
        };
        let reply = if self.esmtp { self.ehlo_reply(greeting) } else { greeting };
        self.reply(&reply)
    }

    /// A name or an address literal, unless the host may send junk.
    fn check_helo_syntax(&mut self, word: &str, command: &Command) -> Result<(), Next> {
        let argument = command.argument;
        let allowed = self.context.globals.main.plain("helo_allow_chars").unwrap_or_default();
        if !is_helo_name(argument, &allowed) && !self.host_in("helo_accept_junk_hosts") {
            let shown = if argument.is_empty() { "(no argument given)".into() } else { self.shown(argument) };
            self.log_rejection(&format!(
                "rejected {word} from {}: syntactically invalid argument(s): {shown}",
                self.peer(false)
            ));
            let text = format!("Syntactically invalid {word} argument(s)");
            return Err(self.count_quietly(command, &Reply::new(501, text)));
        }
        Ok(())
    }

    fn verify_helo(&mut self, word: &str, command: &Command) -> Result<(), Next> {
        let helo: BString = command.argument.into();
        self.context.session.origin.helo = Some(helo.clone());
        self.context.session.origin.helo_verified = false;
        if !self.is_tcp() {
            return Ok(());
        }
        if self.context.session.origin.host_name.is_none() && self.is_our_name(&helo) {
            self.look_up_host();
        }
        let must = self.host_in("helo_verify_hosts");
        if !must && !self.host_in("helo_try_verify_hosts") {
            return Ok(());
        }
        let Some(host) = self.context.session.origin.host else { return Ok(()) };
        self.look_up_host();
        let name = self.context.session.origin.host_name.clone();
        let matches = host_name::helo_matches(&*self.context.globals.dns, &helo, host.ip(), name.as_ref());
        self.context.session.origin.helo_verified = matches.clone().unwrap_or(false);
        if self.context.session.origin.helo_verified || !must {
            return Ok(());
        }
        let temporary = matches.is_err();
        let how = if temporary { "temporarily rejected" } else { "rejected" };
        let line = format!("{how} \"{word} {helo}\" from {}", self.peer(false));
        self.log_rejection(&line);
        self.context.session.origin.helo = None;
        self.greeted = false;
        Err(self.reply(&if temporary {
            Reply::new(451, "Temporary local problem - please try later")
        } else {
            Reply::new(550, format!("{word} argument does not match calling host"))
        }))
    }

    /// The peer gives our own name or address: its true name is looked up (`helo_lookup_domains`).
    fn is_our_name(&self, helo: &BString) -> bool {
        let Some(list) = self.context.globals.main.text("helo_lookup_domains") else { return false };
        matches!(matching::domain(&self.context, &Value::tainted(helo.clone()), list), Ok(Match::Yes(_)))
    }

    fn first_line(&self, message: BString) -> BString {
        let first = message.lines().next().unwrap_or_default();
        if first.len() < message.len() {
            let shown = printing(&message, false);
            self.log_panic(&format!(
                "EHLO/HELO response must not contain newlines: message truncated: {shown}"
            ));
        }
        first.into()
    }

    fn helo_greeting(&self) -> BString {
        let origin = &self.context.session.origin;
        let helo = origin.host_name.as_ref().or(origin.helo.as_ref()).filter(|helo| !helo.is_empty());
        let mut called = match (helo, origin.host) {
            (Some(helo), None) => helo.to_string(),
            (Some(helo), Some(host)) => format!("{helo} [{}]", host.ip()),
            (None, None) => String::new(),
            (None, Some(host)) => format!("[{}]", host.ip()),
        };
        if let Some(ident) = &origin.ident {
            called = if called.is_empty() { ident.to_string() } else { format!("{ident} at {called}") };
        }
        format!("{} Hello {called}", self.active_hostname()).into()
    }

    /// The extensions that are built, in Exim's order. What is not built is not advertised.
    fn ehlo_reply(&mut self, greeting: Reply) -> Reply {
        let mut text = greeting.text;
        let mut add = |line: &str| {
            text.push(b'\n');
            text.extend_from_slice(line.as_bytes());
        };
        match self.size_limit {
            0 => add("SIZE"),
            limit => add(&format!("SIZE {limit}")),
        }
        if self.context.globals.main.bool("accept_8bitmime") {
            add("8BITMIME");
        }
        if self.context.globals.main.written("acl_smtp_vrfy").is_some() {
            add("VRFY");
        }
        if self.host_in("pipelining_advertise_hosts") && !self.runner.session_effects().no_pipelining {
            self.pipelining_advertised = true;
            add("PIPELINING");
        }
        if self.may_start_tls() {
            self.tls_advertised = true;
            add("STARTTLS");
        }
        add("HELP");
        Reply::new(greeting.code, text)
    }

    /// `$received_protocol`, from how the session speaks now.
    pub(super) fn set_protocol(&mut self) {
        let tls = self.context.session.origin.tls.is_some();
        let base = match (self.esmtp, tls) {
            (false, false) => "smtp",
            (false, true) => "smtps",
            (true, false) => "esmtp",
            (true, true) => "esmtps",
        };
        let local = if self.is_remote() { "" } else { "local-" };
        let origin = &mut self.context.session.origin;
        // -oMaa: authenticated without AUTH.
        let authenticated = if self.esmtp && origin.authenticator.is_some() { "a" } else { "" };
        origin.protocol = format!("{local}{base}{authenticated}").into();
    }
}

/// Letters, digits, dots, hyphens and what is allowed besides; or `[...]` with an address.
fn is_helo_name(name: &[u8], allowed: &[u8]) -> bool {
    if let Some(literal) = name.strip_prefix(b"[") {
        let Some(literal) = literal.strip_suffix(b"]") else { return false };
        let literal = literal.strip_prefix(b"IPv6:").or(literal.strip_prefix(b"IPv4:")).unwrap_or(literal);
        return literal.to_str().is_ok_and(|text| text.parse::<std::net::IpAddr>().is_ok());
    }
    !name.is_empty()
        && name.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-') || allowed.contains(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helo_takes_names_and_literals_and_no_junk() {
        for good in ["client.ex", "a-b.c", "[1.2.3.4]", "[IPv6:::1]", "1.2.3.4"] {
            assert!(is_helo_name(good.as_bytes(), b""), "{good}");
        }
        for bad in ["", "caf\u{e9}.ex", "a_b.c", "[1.2.3", "foo bar", "[x]", "a@b"] {
            assert!(!is_helo_name(bad.as_bytes(), b""), "{bad}");
        }
        assert!(is_helo_name(b"a_b.c", b"_"));
    }
}
