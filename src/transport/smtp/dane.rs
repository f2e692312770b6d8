//! Which hosts DANE is tried with or required for, and the question that is then put to the DNS (RFC 7672 section 2.2).
//!
//! | the host's address | its TLSA records | tried (`hosts_try_dane`) | required (`hosts_require_dane`) |
//! |---|---|---|---|
//! | not secure | not asked for | as without DANE | the address fails |
//! | secure | secure, one can be used | its certificate must fit | the same |
//! | secure | secure, none can be used | TLS, whosever certificate it is | the host is deferred |
//! | secure | not secure, or none | as without DANE | the address fails |
//! | secure | cannot be had now | the host is deferred: to go on without them is what an attacker hopes for | the same |

use super::policy::Reader;
use super::trouble::{Failure, Scope, exim_errno};
use crate::config::Options;
use crate::dns::Answer;
use crate::expand::Context;
use crate::tls::dane::Dane;
use crate::transport::Host;
use bstr::BString;

/// What the options wish for a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Neither of them has the host.
    Nothing,
    /// `hosts_try_dane`
    Try,
    /// `hosts_require_dane`
    Require,
}

/// What the DNS demands of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Nothing: DANE is not in use.
    Nothing,
    /// TLS with whomever: there are records, but none that can be used. The name is the TLSA base domain.
    Encryption(BString),
    /// TLS with a certificate that fits.
    Certificate(Dane),
}

impl Wish {
    /// For a host that is to be reached.
    pub fn of(reader: &Reader<'_>) -> Result<Self, Failure> {
        if reader.matches("hosts_require_dane")? {
            return Ok(Self::Require);
        }
        Ok(if reader.matches("hosts_try_dane")? { Self::Try } else { Self::Nothing })
    }

    /// DANE may decide about a session with this host: it has a secure address, or has to have one.
    pub fn may_decide(self, host: &Host) -> bool {
        self == Self::Require || self == Self::Try && host.secure
    }
}

impl Demand {
    /// DANE is in use.
    pub fn is_made(&self) -> bool {
        *self != Self::Nothing
    }

    /// `$tls_out_tlsa_usage`
    pub fn usages(&self) -> u8 {
        match self {
            Self::Certificate(dane) => dane.usages(),
            Self::Nothing | Self::Encryption(_) => 0,
        }
    }

    /// Asks for the TLSA records of a host, where the options wish it. `log` takes a line.
    pub fn of(
        options: &Options,
        host: &Host,
        context: &Context,
        log: &dyn Fn(&[u8]),
    ) -> Result<Self, Failure> {
        let reader = Reader { options, context, host };
        let wish = Wish::of(&reader)?;
        if wish == Wish::Nothing {
            return Ok(Self::Nothing);
        }
        if !host.secure {
            let text = format!("DANE error: {} lookup not DNSSEC", host.name);
            return if wish == Wish::Require { Err(failed(text)) } else { Ok(Self::Nothing) };
        }
        // Neither a question nor a server name ends in a dot.
        let base = BString::from(host.name.strip_suffix(b".").unwrap_or(&host.name));
        let name = format!("_{}._tcp.{base}", reader.port()?);
        let records = match context.globals.dns.tlsa(name.as_bytes()) {
            Answer::Found { records, secure: true, .. } => records,
            Answer::Found { .. } => {
                log(format!("DANE error: TLSA lookup for {} not DNSSEC", host.name).as_bytes());
                return Self::absent(wish);
            }
            Answer::NoData | Answer::NoName => return Self::absent(wish),
            Answer::TryLater(why) => {
                ::log::debug!(target: "tls", "{name} TLSA: {why}");
                return Err(deferred("DANE error: tlsa lookup DEFER"));
            }
        };
        match Dane::new(&records, base.clone()) {
            Some(dane) => Ok(Self::Certificate(dane)),
            // Exim 4.96 sends the message to whomever; its documentation promises a certificate that fits.
            None if wish == Wish::Require => Err(deferred("DANE error: no TLSA record that can be used")),
            None => Ok(Self::Encryption(base)),
        }
    }

    fn absent(wish: Wish) -> Result<Self, Failure> {
        if wish == Wish::Require {
            Err(failed("DANE error: tlsa lookup FAIL".into()))
        } else {
            Ok(Self::Nothing)
        }
    }
}

/// The host waits.
fn deferred(text: &str) -> Failure {
    Failure { of_dns: true, ..Failure::new(Scope::Host, exim_errno::DNS_DEFER, text) }
}

/// The address fails: what the DNS says now is what it will say.
fn failed(text: String) -> Failure {
    Failure { of_dns: true, permanent: true, ..Failure::new(Scope::Message, 0, text) }
}
