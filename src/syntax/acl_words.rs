//! The words of ACLs: verbs, conditions and modifiers (one table, for the parser and for messages).

use bstr::BStr;

/// The seven verbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// All conditions met: accept.
    Accept,
    /// All met: temporary rejection.
    Defer,
    /// All met: rejection.
    Deny,
    /// All met: accept, and throw away.
    Discard,
    /// All met: rejection, and the connection is closed.
    Drop,
    /// Any not met: rejection.
    Require,
    /// Never decides.
    Warn,
}

const VERBS: [(&str, Verb); 7] = [
    ("accept", Verb::Accept),
    ("defer", Verb::Defer),
    ("deny", Verb::Deny),
    ("discard", Verb::Discard),
    ("drop", Verb::Drop),
    ("require", Verb::Require),
    ("warn", Verb::Warn),
];

impl Verb {
    /// The verb of this name.
    pub fn of(name: &BStr) -> Option<Self> {
        VERBS.iter().find(|(known, _)| *known == name).map(|(_, verb)| *verb)
    }
    /// Its name.
    pub fn name(self) -> &'static str {
        VERBS.iter().find(|(_, verb)| *verb == self).map_or("", |(name, _)| name)
    }
}

macro_rules! words {
    ($($variant:ident $name:literal $kind:ident,)*) => {
        /// Every condition and modifier that Exim knows; [`Word::name`] is how it is written.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "each is described in the specification under its name")]
        pub enum Word { $($variant,)* }

        impl Word {
            /// All of them.
            pub const ALL: &[Word] = &[$(Word::$variant,)*];
            /// How it is written.
            pub fn name(self) -> &'static str {
                match self { $(Word::$variant => $name,)* }
            }
            /// True for modifiers, which cannot be negated and never fail.
            pub fn is_modifier(self) -> bool {
                match self { $(Word::$variant => words!(@$kind),)* }
            }
        }
    };
    (@condition) => { false };
    (@modifier) => { true };
}

words! {
    Acl "acl" condition,
    AddHeader "add_header" modifier,
    AtrnDomains "atrn_domains" condition,
    Authenticated "authenticated" condition,
    Condition "condition" condition,
    Continue "continue" modifier,
    Control "control" modifier,
    Dcc "dcc" condition,
    Decode "decode" condition,
    Delay "delay" modifier,
    DkimSigners "dkim_signers" condition,
    DkimStatus "dkim_status" condition,
    DmarcStatus "dmarc_status" condition,
    Dnslists "dnslists" condition,
    Domains "domains" condition,
    Encrypted "encrypted" condition,
    Endpass "endpass" modifier,
    Hosts "hosts" condition,
    LocalParts "local_parts" condition,
    LogMessage "log_message" modifier,
    LogRejectTarget "log_reject_target" modifier,
    Logwrite "logwrite" modifier,
    Malware "malware" condition,
    Message "message" modifier,
    MimeRegex "mime_regex" condition,
    Queue "queue" modifier,
    Ratelimit "ratelimit" condition,
    Recipients "recipients" condition,
    Regex "regex" condition,
    RemoveHeader "remove_header" modifier,
    Seen "seen" condition,
    SenderDomains "sender_domains" condition,
    Senders "senders" condition,
    Set "set" modifier,
    Spam "spam" condition,
    Spf "spf" condition,
    SpfGuess "spf_guess" condition,
    Udpsend "udpsend" modifier,
    Verify "verify" condition,
}

impl Word {
    /// The word of this name.
    pub fn of(name: &BStr) -> Option<Self> {
        Self::ALL.iter().copied().find(|word| word.name() == name)
    }
}
