//! What goes into `accept` and what comes out.

use crate::expand::context::Globals;
use crate::log::Log;
use crate::mail::{Address, Header, IdGenerator, MessageId, Recipient, Reply};
use crate::spool::Layout;
use crate::upward::Announce;
use bstr::BString;
use std::sync::Arc;
use std::time::SystemTime;

/// What is the same for all messages that a role takes in.
#[derive(Clone)]
pub struct Station {
    /// The configuration.
    pub globals: Arc<Globals>,
    /// The spool.
    pub layout: Layout,
    /// The logs.
    pub log: Arc<Log>,
    /// Message ids: one generator for each process.
    pub ids: Arc<IdGenerator>,
    /// Whom to tell of a new message.
    pub announce: Arc<dyn Announce>,
}

/// How a message comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// SMTP over TCP: nothing is fixed up without `control = submission`.
    Smtp,
    /// SMTP on standard input (`-bs`, `-bS`): locally originated.
    LocalSmtp,
    /// A message on standard input (`-bm`, `-t`): locally originated; refusals are told by the command line.
    Local,
}

/// Who calls: the process that gives us the message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// Its login name (for TCP: oxim's own).
    pub login: BString,
    /// Its uid.
    pub uid: u32,
    /// Its gid.
    pub gid: u32,
    /// Full name for `From:` and `Sender:` lines that are made here: `-F`, or else from the password file; but
    /// empty if a trusted caller gave the sender with `-f` and no `-F` (then no name goes with that address).
    pub full_name: BString,
    /// May set sender and headers freely (trusted user); true for TCP.
    pub trusted: bool,
}

/// `control = submission` (spec section "Submission mode for non-local messages").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Submission {
    /// `/sender_retain`
    pub sender_retain: bool,
    /// `/domain=`: none is `qualify_domain`, empty takes `$authenticated_id` as the whole address.
    pub domain: Option<BString>,
    /// `/name=`
    pub name: BString,
}

/// Controls that ACLs have set so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Controls {
    /// `freeze`
    pub freeze: bool,
    /// `queue_only` / `queue`
    pub queue_only: bool,
    /// It is an ACL that wants it so: the log says that.
    pub queued_by_acl: bool,
    /// `submission`
    pub submission: Option<Submission>,
    /// `suppress_local_fixups`
    pub suppress_local_fixups: bool,
    /// The ACL that discarded all recipients before DATA (`MAIL`), for the log.
    pub discarded_by: Option<&'static str>,
}

/// Where `add_header` puts a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// After all headers; `:at_end:` and the default.
    #[default]
    AtEnd,
    /// Before all headers, our Received: included (`:at_start:`).
    AtStart,
    /// After our and other Received: lines at the top (`:after_received:`).
    AfterReceived,
    /// Before the first header that is not Received:, Resent- or such (`:at_start_rfc:`).
    AtStartRfc,
}

/// A header line that an ACL adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderAddition {
    /// Where.
    pub place: Place,
    /// `Name: text\n`.
    pub text: BString,
}

/// `-t`: recipients are taken from To:, Cc: and Bcc:.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extract {
    /// Addresses given as arguments, which are taken away from the extracted ones
    /// (`extract_addresses_remove_arguments`) or added to them.
    pub arguments: Vec<Address>,
    /// Which of the two.
    pub remove_arguments: bool,
}

/// A message that is about to come in. Session values (`origin`) and ACL variables are taken from the
/// [`Context`](crate::expand::Context) that is passed beside it.
#[derive(Clone, Debug)]
pub struct NewMail {
    /// How it comes in.
    pub arrival: Arrival,
    /// Who calls.
    pub caller: Caller,
    /// Reverse path, qualified.
    pub sender: Address,
    /// The reverse path before rewriting, for the selector `received_sender`; as a rule the same.
    pub raw_sender: Address,
    /// An untrusted caller chose the sender (`-f`, allowed by `untrusted_set_sender`).
    pub sender_set_untrusted: bool,
    /// Recipients, qualified; more come from the headers if `extract` is set.
    pub recipients: Vec<Recipient>,
    /// `-t`.
    pub extract: Option<Extract>,
    /// `BODY=`: 0 not given, 7, 8.
    pub body_8bitmime: u8,
    /// `SMTPUTF8`.
    pub smtputf8: bool,
    /// `ENVID=`.
    pub dsn_envid: Option<BString>,
    /// `RET=`: 0 not given, 1 FULL, 2 HDRS.
    pub dsn_ret: u8,
    /// Unqualified addresses in headers are qualified (`sender_unqualified_hosts`; local without `-bnq`).
    pub allow_unqualified_sender: bool,
    /// As above, `recipient_unqualified_hosts`.
    pub allow_unqualified_recipient: bool,
    /// A line that holds only a dot ends the message (local without `-i`). SMTP sources end themselves.
    pub dot_ends: bool,
    /// When the message began to come in (MAIL, or start of the process).
    pub started: SystemTime,
    /// What ACLs before DATA have set.
    pub controls: Controls,
    /// Header lines added by ACLs before DATA.
    pub add_headers: Vec<HeaderAddition>,
    /// Names of header lines removed by ACLs before DATA.
    pub remove_headers: Vec<BString>,
    /// Bounce: the message it is about (`R=`).
    pub about: Option<MessageId>,
    /// Do not bounce this message (`-localerror`).
    pub local_error: bool,
    /// The pipelining field of the arrival line: `L`, `L.`, `L-` ...; empty: none.
    pub pipelining: BString,
}

/// A message whose header and body are there, shown to the ACL (data, not_smtp).
#[derive(Debug)]
pub struct Draft<'a> {
    /// Its id.
    pub id: &'a MessageId,
    /// Header lines, fixed up; `$h_...` show the same. Changes go through `add_headers`.
    pub headers: &'a [Header],
    /// Size of headers and body in bytes.
    pub size: u64,
    /// Controls: may be changed.
    pub controls: &'a mut Controls,
    /// Lines to add: may be added to.
    pub add_headers: &'a mut Vec<HeaderAddition>,
    /// Names to remove (lower or upper case, `*` at the end matches the rest): may be added to.
    pub remove_headers: &'a mut Vec<BString>,
    /// -D, open for reading; the body starts after its first line.
    pub data: &'a std::fs::File,
}

/// What the ACL says of a [`Draft`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Take it.
    Accept,
    /// Take it, tell the peer so, and throw it away (`discard`); the words that the log shows after
    /// `=> blackhole`, such as `(DATA ACL discarded recipients)`, are made here, but for the ACL's own text.
    Discard(Option<BString>),
    /// Take it but answer this (`fakereject`, `fakedefer`).
    Fake(Reply),
    /// Refuse: this is the answer. The ACL has logged it already.
    Refuse(Reply),
}

/// Why a message was refused; local callers choose their words by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The ACL said so.
    Acl,
    /// Larger than `message_size_limit`.
    TooBig,
    /// Header section larger than `header_maxsize`, or a line than `header_line_maxsize`.
    HeadersTooBig,
    /// `-t`, and no recipient was found.
    NoRecipients,
    /// `-t`, and what is there are no addresses; the texts are in the reply, a line each.
    BadAddress,
    /// No room in the spool, or it cannot be written; temporary.
    Spool,
    /// An option could not be expanded; temporary.
    Configuration,
    /// The peer is gone or silent.
    Lost,
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the spool (or was discarded as the ACL said): ours.
    Accepted {
        /// Its id, for `250 OK id=...`.
        id: MessageId,
        /// Size as logged, in bytes.
        size: u64,
        /// The answer to give in place of `250 OK id=...` (fakereject).
        reply: Option<Reply>,
        /// Its first delivery may start now; false if it is frozen or queued by an ACL.
        deliver_now: bool,
    },
    /// It is not: nothing is left of it. Logged.
    Refused {
        /// Why.
        why: Refusal,
        /// The answer for SMTP; its text serves local callers too.
        reply: Reply,
        /// True if the source was not read to its end: an SMTP session must close.
        must_close: bool,
    },
}
