//! The option `log_selector`: which optional lines and fields are written (spec section "Reducing or
//! increasing what is logged").

use bstr::{BString, ByteSlice};

macro_rules! selectors {
    ($($variant:ident $name:literal $default:literal $doc:literal;)*) => {
        /// One log selector.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Selector { $(#[doc = $doc] $variant,)* }

        /// Name, selector, and whether it is on by default.
        pub const ALL: &[(&str, Selector, bool)] = &[$(($name, Selector::$variant, $default),)*];
    };
}

selectors! {
    EightBitMime "8bitmime" false "`M8S=` on arrival lines";
    AclWarnSkipped "acl_warn_skipped" true "a `warn` statement skipped for a temporary error";
    AddressRewrite "address_rewrite" false "address rewriting";
    AllParents "all_parents" false "all parents on delivery lines";
    Arguments "arguments" false "command line arguments";
    ConnectionId "connection_id" false "`Ci=`";
    ConnectionReject "connection_reject" true "rejected connections";
    DelayDelivery "delay_delivery" true "immediate delivery delayed";
    DeliverTime "deliver_time" false "`DT=`";
    DeliverySize "delivery_size" false "`S=` on delivery lines";
    Dkim "dkim" true "`DKIM=` on arrival lines";
    DkimVerbose "dkim_verbose" false "a line for each DKIM signature";
    Dmarc "dmarc" false "`DMARC` mark";
    DmarcVerbose "dmarc_verbose" false "`DMARC=`";
    DnslistDefer "dnslist_defer" true "temporary errors of DNS lists";
    Dnssec "dnssec" false "`DS`";
    Etrn "etrn" true "ETRN commands";
    HostLookupFailed "host_lookup_failed" true "failed host lookups";
    IdentTimeout "ident_timeout" false "time-outs of ident calls";
    IncomingInterface "incoming_interface" false "`I=`";
    IncomingPort "incoming_port" false "the peer's port";
    LostIncomingConnection "lost_incoming_connection" true "lost connections and time-outs";
    Millisec "millisec" false "milliseconds in times";
    MsgId "msg_id" true "`id=`";
    MsgIdCreated "msg_id_created" false "`id*=` where it was made here";
    OutgoingInterface "outgoing_interface" true "`I=` on delivery lines";
    OutgoingPort "outgoing_port" false "the remote port on delivery lines";
    Pid "pid" false "`[pid]` after the time stamp";
    Pipelining "pipelining" false "`L`";
    ProtocolDetail "protocol_detail" false "`PS=`";
    Proxy "proxy" false "`PRX=`";
    QueueRun "queue_run" true "start and end of queue runs";
    QueueTime "queue_time" false "`QT=` on delivery lines";
    QueueTimeExclusive "queue_time_exclusive" false "`QT=` without the time of reception";
    QueueTimeOverall "queue_time_overall" false "`QT=` on `Completed` lines";
    ReceiveTime "receive_time" false "`RT=`";
    ReceivedRecipients "received_recipients" false "`for ...` on arrival lines";
    ReceivedSender "received_sender" false "`from ...` on arrival lines";
    RejectedHeader "rejected_header" true "headers in the reject log";
    RejectedHeaders "rejected_headers" true "the same by its older name";
    RetryDefer "retry_defer" true "retry time not reached";
    ReturnPathOnDelivery "return_path_on_delivery" false "`P=` on delivery lines";
    SenderOnDelivery "sender_on_delivery" false "`F=` on delivery lines";
    SenderVerifyFail "sender_verify_fail" true "failed sender verification";
    SizeReject "size_reject" true "messages that are too big";
    SkipDelivery "skip_delivery" true "messages skipped in a queue run";
    SmtpConfirmation "smtp_confirmation" true "`C=`";
    SmtpConnection "smtp_connection" false "connections";
    SmtpIncompleteTransaction "smtp_incomplete_transaction" false "aborted transactions";
    SmtpMailauth "smtp_mailauth" false "AUTH= of MAIL";
    SmtpNoMail "smtp_no_mail" false "sessions without MAIL";
    SmtpProtocolError "smtp_protocol_error" false "protocol errors";
    SmtpSyntaxError "smtp_syntax_error" false "syntax errors";
    Spf "spf" false "`SPF` mark";
    SpfVerbose "spf_verbose" false "`SPF=`";
    Subject "subject" false "`T=` on arrival lines";
    TlsCertificateVerified "tls_certificate_verified" true "`CV=`";
    TlsCipher "tls_cipher" true "`X=`";
    TlsOcsp "tls_ocsp" false "`OCSP=` (oxim only): what became of the certificate status";
    TlsOnConnect "tls_on_connect" false "other protocol names for TLS on connect";
    TlsPeerdn "tls_peerdn" false "`DN=`";
    TlsResumption "tls_resumption" false "`*` after `X=`";
    TlsSni "tls_sni" false "`SNI=`";
    UnknownInList "unknown_in_list" false "failed lookups in lists";
}

/// Selectors that no line or field follows yet. `+all` may hold them; who names one is told.
const NOT_BUILT: &[Selector] = &[
    Selector::Arguments,
    Selector::ConnectionId,
    Selector::ProtocolDetail,
    Selector::QueueTimeExclusive,
    Selector::TlsOnConnect,
    Selector::UnknownInList,
];

/// The names in a setting that are switched on and have no effect yet.
pub fn not_built(text: &[u8]) -> Vec<&'static str> {
    let named = |selector: &Selector| {
        let name = selector.name();
        text.rsplit_str("+").any(|after| {
            let after = after.trim_start();
            after.strip_prefix(name.as_bytes()).is_some_and(|rest| !rest.first().is_some_and(is_name_byte))
        })
    };
    let on =
        |selector: &&Selector| named(selector) && Selectors::parse(text).is_ok_and(|set| set.has(**selector));
    NOT_BUILT.iter().filter(on).map(|selector| selector.name()).collect()
}

fn is_name_byte(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || *byte == b'_'
}

impl Selector {
    /// Its name.
    pub fn name(self) -> &'static str {
        ALL[self as usize].0
    }
}

/// A set of selectors.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Selectors(u128);

impl std::fmt::Debug for Selectors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = ALL.iter().filter(|(_, selector, _)| self.has(*selector)).map(|(name, ..)| name);
        f.debug_list().entries(names).finish()
    }
}

/// A wrong `log_selector`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// A name without sign before it.
    #[error("malformed log_selector setting: + or - expected but found \"{0}\"")]
    NoSign(BString),
    /// No such name.
    #[error("unknown log_selector setting: {sign}{name}")]
    Unknown {
        /// `+` or `-`
        sign: char,
        /// The name as written.
        name: BString,
    },
}

impl Default for Selectors {
    fn default() -> Self {
        let mut set = Self(0);
        for (_, selector, default) in ALL {
            if *default {
                set.add(*selector);
            }
        }
        set
    }
}

impl Selectors {
    /// Everything.
    pub fn all() -> Self {
        let mut set = Self(0);
        ALL.iter().for_each(|(_, selector, _)| set.add(*selector));
        set
    }
    /// True if this selector is on.
    pub fn has(self, selector: Selector) -> bool {
        self.0 & (1 << selector as u8) != 0
    }
    /// Turns one on.
    pub fn add(&mut self, selector: Selector) {
        self.0 |= 1 << selector as u8;
    }
    fn remove(&mut self, selector: Selector) {
        self.0 &= !(1 << selector as u8);
    }
    /// Reads `+name -name ...` over the default; white space separates, and may follow a sign.
    pub fn parse(text: &[u8]) -> Result<Self, SelectorError> {
        let mut set = Self::default();
        let mut rest = text.trim();
        while let Some(&sign) = rest.first() {
            if sign != b'+' && sign != b'-' {
                return Err(SelectorError::NoSign(rest.into()));
            }
            let after = rest[1..].trim_start();
            let length = after.iter().take_while(|b| is_name_byte(b)).count();
            set.change(sign == b'+', &after[..length])?;
            rest = after[length..].trim_start();
        }
        Ok(set)
    }
    fn change(&mut self, on: bool, name: &[u8]) -> Result<(), SelectorError> {
        if name == b"all" {
            *self = if on { Self::all() } else { Self(0) };
            return Ok(());
        }
        let found = ALL.iter().find(|(known, ..)| known.as_bytes() == name);
        let unknown = || SelectorError::Unknown { sign: if on { '+' } else { '-' }, name: name.into() };
        let mut selector = found.ok_or_else(unknown)?.1;
        if selector == Selector::RejectedHeaders {
            selector = Selector::RejectedHeader;
        }
        if on {
            self.add(selector)
        } else {
            self.remove(selector)
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_add_to_and_take_from_the_default() {
        let set = Selectors::parse(b"+subject -retry_defer + tls_sni").unwrap();
        assert!(set.has(Selector::Subject) && set.has(Selector::TlsSni) && set.has(Selector::TlsCipher));
        assert!(!set.has(Selector::RetryDefer) && !set.has(Selector::Pid));
        assert!(!Selectors::parse(b"-all").unwrap().has(Selector::MsgId));
        assert!(!Selectors::parse(b"-rejected_headers").unwrap().has(Selector::RejectedHeader));
        assert!(Selectors::parse(b"subject").is_err());
        let wrong = Selectors::parse(b"+subjekt").unwrap_err();
        assert_eq!(wrong.to_string(), "unknown log_selector setting: +subjekt");
    }

    #[test]
    fn a_selector_without_effect_is_found_where_it_is_named_and_on() {
        assert_eq!(not_built(b"+pid + arguments +unknown_in_list"), ["arguments", "unknown_in_list"]);
        assert!(not_built(b"+all -arguments +tls_on_connectx").is_empty());
        assert!(not_built(b"+arguments -arguments").is_empty());
    }

    #[test]
    fn all_63_names_of_exim_and_ours_are_known() {
        assert_eq!(ALL.len(), 64);
    }
}
