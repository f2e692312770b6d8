//! Where an ACL runs, and which words may be used there.
//!
//! Recorded from Exim, word by word and place by place; an ACL that uses a word in the wrong place
//! gives an error (a temporary rejection), as in Exim.

use crate::syntax::acl_words::Word;

macro_rules! places {
    ($($variant:ident $option:literal $name:literal,)*) => {
        /// The places where an ACL can run; each belongs to one main option.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "each is the main option that `Place::option` names")]
        pub enum Place { $($variant,)* }

        impl Place {
            /// All of them.
            pub const ALL: &[Place] = &[$(Place::$variant,)*];
            /// The main option that names the ACL.
            pub fn option(self) -> &'static str {
                match self { $(Place::$variant => $option,)* }
            }
            /// As Exim's messages call it.
            pub fn name(self) -> &'static str {
                match self { $(Place::$variant => $name,)* }
            }
            const fn bit(self) -> u32 {
                1 << self as u32
            }
        }
    };
}

places! {
    Connect "acl_smtp_connect" "connection",
    Helo "acl_smtp_helo" "EHLO or HELO",
    Mail "acl_smtp_mail" "MAIL",
    Mailauth "acl_smtp_mailauth" "MAILAUTH",
    Rcpt "acl_smtp_rcpt" "RCPT",
    Predata "acl_smtp_predata" "PREDATA",
    Data "acl_smtp_data" "DATA",
    DataPrdr "acl_smtp_data_prdr" "PRDR",
    Mime "acl_smtp_mime" "MIME",
    Dkim "acl_smtp_dkim" "DKIM",
    Starttls "acl_smtp_starttls" "STARTTLS",
    Auth "acl_smtp_auth" "AUTH",
    Vrfy "acl_smtp_vrfy" "VRFY",
    Expn "acl_smtp_expn" "EXPN",
    Etrn "acl_smtp_etrn" "ETRN",
    Quit "acl_smtp_quit" "QUIT",
    Notquit "acl_smtp_notquit" "not-QUIT",
    NotSmtp "acl_not_smtp" "non-SMTP",
    NotSmtpStart "acl_not_smtp_start" "non-SMTP-start",
    NotSmtpMime "acl_not_smtp_mime" "non-SMTP-MIME",
    Atrn "acl_smtp_atrn" "ATRN",
    Wellknown "acl_smtp_wellknown" "WELLKNOWN",
}

/// A set of places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places(u32);

const fn set(places: &[Place]) -> Places {
    let mut bits = 0;
    let mut i = 0;
    while i < places.len() {
        bits |= places[i].bit();
        i += 1;
    }
    Places(bits)
}

impl Places {
    const EVERYWHERE: Places = Places(u32::MAX);
    const fn but(self, places: &[Place]) -> Places {
        Places(self.0 & !set(places).0)
    }
    /// Is the place in the set?
    pub fn contains(self, place: Place) -> bool {
        self.0 & place.bit() != 0
    }
}

const NON_SMTP: &[Place] = &[Place::NotSmtp, Place::NotSmtpStart, Place::NotSmtpMime];
/// A message is being received, the envelope is known or growing.
const RECEIVING: Places = set(&[
    Place::Mail,
    Place::Rcpt,
    Place::Predata,
    Place::Data,
    Place::DataPrdr,
    Place::Mime,
    Place::Dkim,
    Place::NotSmtp,
    Place::NotSmtpStart,
    Place::NotSmtpMime,
]);
/// The headers are there.
const HEADERS: Places = set(&[Place::Data, Place::NotSmtp]);

/// Where a condition or modifier may be used.
pub fn places_of(word: Word) -> Places {
    match word {
        Word::Authenticated => Places::EVERYWHERE.but(NON_SMTP).but(&[Place::Connect, Place::Helo]),
        Word::Domains | Word::LocalParts => set(&[Place::Rcpt, Place::Vrfy, Place::DataPrdr]),
        Word::Recipients => set(&[Place::Rcpt, Place::DataPrdr]),
        Word::Encrypted => Places::EVERYWHERE.but(NON_SMTP).but(&[Place::Helo]),
        Word::Hosts => Places::EVERYWHERE.but(NON_SMTP),
        Word::SenderDomains | Word::Senders | Word::AddHeader | Word::RemoveHeader => RECEIVING,
        Word::Queue => Places::EVERYWHERE.but(&[Place::Data, Place::NotSmtp]),
        Word::Delay => Places::EVERYWHERE.but(&[Place::Notquit]),
        Word::Regex | Word::Spam | Word::Malware => {
            set(&[Place::Data, Place::DataPrdr, Place::Mime, Place::NotSmtp, Place::NotSmtpMime])
        }
        Word::MimeRegex | Word::Decode => set(&[Place::Mime, Place::NotSmtpMime]),
        Word::DkimSigners | Word::DkimStatus => set(&[Place::Dkim]),
        _ => Places::EVERYWHERE,
    }
}

/// Where `verify = <this>` may be used.
pub fn places_of_verify(what: &str) -> Places {
    match what {
        "recipient" => set(&[Place::Rcpt]),
        "sender" => RECEIVING,
        "header_syntax" | "header_sender" | "header_names_ascii" | "not_blind" => HEADERS,
        _ => Places::EVERYWHERE,
    }
}

/// Where `control = <this>` may be used.
pub fn places_of_control(what: &str) -> Places {
    match what {
        "freeze" | "queue" => RECEIVING,
        "submission" => set(&[Place::Mail, Place::Rcpt, Place::Predata]),
        "suppress_local_fixups" => set(&[Place::Mail, Place::Rcpt, Place::Predata, Place::NotSmtpStart]),
        "caseful_local_part" | "caselower_local_part" => set(&[Place::Rcpt]),
        "dkim_disable_verify" => Places::EVERYWHERE.but(NON_SMTP).but(&[Place::Data]),
        _ => Places::EVERYWHERE.but(NON_SMTP),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recipient_is_known_at_rcpt_and_the_headers_only_after_data() {
        assert!(places_of(Word::Domains).contains(Place::Rcpt));
        assert!(!places_of(Word::Domains).contains(Place::Data));
        assert!(places_of_verify("header_syntax").contains(Place::NotSmtp));
        assert!(!places_of_verify("header_syntax").contains(Place::Rcpt));
        assert!(!places_of_control("submission").contains(Place::Data));
        assert!(places_of_control("suppress_local_fixups").contains(Place::NotSmtpStart));
    }
}
