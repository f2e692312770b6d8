//! What went wrong in a session, in Exim's words, and whose fault it was: the host's, the message's or
//! one recipient's (spec chapter "SMTP processing", "Errors in outgoing SMTP").

use super::connection::Trouble;
use crate::mail::Reply;
use crate::transport::{Host, Outcome, Problem};
use bstr::{BStr, BString, ByteSlice};
use std::io;

/// Exim's numbers for what has no errno; tools and retry rules know them.
pub mod exim_errno {
    /// The peer closed the connection.
    pub const CLOSED: i32 = -18;
    /// Malformed reply.
    pub const FORMAT: i32 = -19;
    /// No usable address.
    pub const HOST_LOOKUP: i32 = -32;
    /// The DNS gave no answer that can be used now.
    pub const DNS_DEFER: i32 = -36;
    /// The TLS session failed.
    pub const TLS_FAILURE: i32 = -37;
    /// TLS is required and not to be had.
    pub const TLS_REQUIRED: i32 = -38;
    /// Authentication failed.
    pub const AUTH_FAIL: i32 = -42;
    /// 4xx to RCPT.
    pub const RCPT_4XX: i32 = -44;
    /// 4xx to MAIL.
    pub const MAIL_4XX: i32 = -45;
    /// 4xx to DATA or the end of data.
    pub const DATA_4XX: i32 = -46;
    /// A host of the transport is this host.
    pub const LOCAL_HOST: i32 = -50;
}

/// Whose problem it is: what is tried again when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// No message goes to this host for a while.
    Host,
    /// This message does not go to this host for a while.
    Message,
    /// This recipient only.
    Recipient,
}

/// A problem, whose it is, and whether it is for good.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Whose.
    pub scope: Scope,
    /// For good: the addresses fail.
    pub permanent: bool,
    /// The DNS keeps us from the host: the address's line does not name it, as with Exim.
    pub of_dns: bool,
    /// What the log and the bounce show.
    pub problem: Problem,
}

impl Failure {
    /// A problem with a text of our own; `errno` is the system's or Exim's.
    pub fn new(scope: Scope, errno: i32, text: impl Into<BString>) -> Self {
        let problem = Problem {
            text: text.into(),
            errno,
            host_problem: scope == Scope::Host,
            message_problem: scope == Scope::Message,
            ..Problem::default()
        };
        Self { scope, permanent: false, of_dns: false, problem }
    }

    /// A reply that was not the one hoped for. `errno_4xx`: what a temporary one counts as.
    pub fn reply(scope: Scope, stage: &[u8], reply: &Reply, errno_4xx: i32) -> Self {
        let mut text = BString::from("SMTP error from remote mail server after ");
        text.extend_from_slice(stage);
        text.extend_from_slice(b": ");
        text.extend_from_slice(&with_codes(reply));
        let permanent = reply.code / 100 == 5;
        let mut failure = Self::new(scope, if permanent { 0 } else { errno_4xx }, text);
        failure.permanent = permanent;
        // Retry rules tell 4xx codes apart by their last two digits.
        failure.problem.more_errno = i32::from(reply.code % 100);
        failure
    }

    /// No reply, or no socket any more.
    pub fn trouble(scope: Scope, stage: &[u8], trouble: &Trouble) -> Self {
        let stage = stage.as_bstr();
        match trouble {
            Trouble::Closed => Self::new(
                scope,
                exim_errno::CLOSED,
                format!("Remote host closed connection in response to {stage}"),
            ),
            Trouble::TimedOut => Self::new(scope, libc::ETIMEDOUT, format!("SMTP timeout after {stage}")),
            Trouble::Malformed(line) => {
                let mut text = BString::from(format!("Malformed SMTP reply in response to {stage}: "));
                text.extend_from_slice(line);
                Self::new(scope, exim_errno::FORMAT, text)
            }
            Trouble::Tls(text) => {
                Self::new(scope, exim_errno::TLS_FAILURE, format!("TLS error on connection (recv): {text}"))
            }
            Trouble::Io(error) => {
                Self::new(scope, error.raw_os_error().unwrap_or(libc::EIO), format!("after {stage}"))
            }
        }
    }

    /// What the host said in a form that can be shown.
    pub fn printing(mut self, top_bit_prints: bool) -> Self {
        self.problem.text = printing(&self.problem.text, top_bit_prints);
        self
    }

    /// No connection: refused, unreachable, timed out.
    pub fn connect(error: &io::Error) -> Self {
        let errno = match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => libc::ETIMEDOUT,
            _ => error.raw_os_error().unwrap_or(libc::EIO),
        };
        Self::new(Scope::Host, errno, "")
    }

    /// The same problem, known to be with this host and under this TLS session.
    pub fn at(mut self, host: &Host, tls: Option<&crate::mail::envelope::TlsInfo>) -> Self {
        // A connection that never stood names no host in the address's line, as with Exim.
        if !self.problem.text.is_empty() && !self.of_dns {
            self.problem.host = Some(host.clone());
            self.problem.tls = tls.cloned();
        }
        self
    }

    /// What it means for an address.
    pub fn outcome(&self) -> Outcome {
        if self.permanent {
            Outcome::Failed(self.problem.clone())
        } else {
            Outcome::Deferred(self.problem.clone())
        }
    }

    /// The main-log line about the host; none where Exim writes none.
    pub fn host_line(&self, host: &Host) -> Option<BString> {
        let logged = match self.scope {
            Scope::Host => self.problem.errno != exim_errno::TLS_FAILURE,
            Scope::Message => !self.permanent,
            Scope::Recipient => false,
        };
        logged.then(|| {
            let mut line = BString::from("H=");
            line.extend_from_slice(&host_field(host));
            if !self.problem.text.is_empty() {
                line.extend_from_slice(b": ");
                // One line of the log: the lines of a response are told apart by two characters.
                line.extend_from_slice(&self.problem.text.replace("\n", "\\n"));
            }
            if self.problem.errno > 0 {
                let error = crate::sys::errno_words(self.problem.errno);
                line.extend_from_slice(if self.problem.text.is_empty() { b" " } else { b": " });
                line.extend_from_slice(error.as_bytes());
            }
            line
        })
    }
}

/// `name [address]`, as in `H=`.
pub fn host_field(host: &Host) -> BString {
    let mut field = host.name.clone();
    if let Some(address) = host.address {
        field.extend_from_slice(format!(" [{address}]").as_bytes());
    }
    field
}

/// The reply as it came, each line with its code.
pub fn with_codes(reply: &Reply) -> BString {
    let wire = reply.to_wire();
    let lines: Vec<&BStr> = wire.lines().map(ByteSlice::as_bstr).collect();
    bstr::join("\n", lines).into()
}

/// A text as logs and bounces show it: what does not print as `\ooo`, lines stay lines.
pub fn printing(text: &[u8], top_bit_prints: bool) -> BString {
    let lines: Vec<BString> =
        text.split_str("\n").map(|line| crate::expand::printing(line, top_bit_prints)).collect();
    bstr::join("\n", lines).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_host_says_is_shown_without_control_characters_and_eight_bit_only_if_wanted() {
        let said = b"550-a\\b h\xc3\xa9\n550 \xff no\x01";
        assert_eq!(printing(said, false), "550-a\\b h\\303\\251\n550 \\377 no\\001");
        assert_eq!(printing(said, true), b"550-a\\b h\xc3\xa9\n550 \xff no\\001".as_bstr());
    }

    fn host() -> Host {
        Host {
            name: "mx.example".into(),
            address: "192.0.2.1".parse().ok(),
            port: None,
            preference: -1,
            secure: false,
            randomized: false,
        }
    }

    #[test]
    fn texts_are_exims() {
        let failure = Failure::reply(Scope::Recipient, b"RCPT TO:<b@d>", &Reply::new(550, "no\nway"), -44);
        assert_eq!(
            failure.problem.text,
            "SMTP error from remote mail server after RCPT TO:<b@d>: 550-no\n550 way"
        );
        assert!(failure.permanent && failure.host_line(&host()).is_none());
        let failure = Failure::trouble(Scope::Host, b"initial connection", &Trouble::TimedOut);
        assert_eq!(
            failure.host_line(&host()).unwrap(),
            "H=mx.example [192.0.2.1]: SMTP timeout after initial connection: Connection timed out"
        );
        let refused = Failure::connect(&io::Error::from_raw_os_error(libc::ECONNREFUSED));
        assert_eq!(refused.host_line(&host()).unwrap(), "H=mx.example [192.0.2.1] Connection refused");
        assert!(refused.at(&host(), None).problem.host.is_none());
    }
}
