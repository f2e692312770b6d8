//! What ACLs change besides their verdict: controls and header lines, for the connection and for the message.

use crate::mail::{Address, Header};
use bstr::BString;

/// For the rest of the connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionEffects {
    /// `control = enforce_sync` / `no_enforce_sync`; none: as the option `smtp_enforce_sync` says.
    pub enforce_sync: Option<bool>,
    /// `control = no_pipelining`: EHLO does not advertise it.
    pub no_pipelining: bool,
    /// `control = no_multiline_responses`.
    pub no_multiline_responses: bool,
    /// `control = no_delay_flush`: replies are not sent before a delay.
    pub no_delay_flush: bool,
}

/// For the message that is being received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageEffects {
    /// `add_header`, in the order given, without duplicates. Taken (and emptied) by whoever adds them:
    /// before the DATA ACL runs, and again after it.
    pub headers_to_add: Vec<AddedHeader>,
    /// `remove_header`: names; `*` at the end matches the rest.
    pub headers_to_remove: Vec<BString>,
    /// `control = queue`: accepted, and no delivery is started.
    pub queue_only: bool,
    /// `control = freeze`.
    pub freeze: Option<Freeze>,
    /// `control = submission`.
    pub submission: Option<Submission>,
    /// `control = suppress_local_fixups`.
    pub suppress_local_fixups: bool,
    /// An ACL discarded all recipients: which (`MAIL`, `DATA`, `non-SMTP`).
    pub discarded_by: Option<&'static str>,
}

/// One header line to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedHeader {
    /// Where it goes.
    pub place: HeaderPlace,
    /// Name, text and line end.
    pub header: Header,
}

/// Where an added header line goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeaderPlace {
    /// `:at_end:` After all headers.
    #[default]
    AtEnd,
    /// `:at_start:` Before all headers.
    AtStart,
    /// `:after_received:` After the first block of Received: headers.
    AfterReceived,
    /// `:at_start_rfc:` Before the first header that is neither Received: nor Resent-.
    AtStartRfc,
}

/// `control = freeze`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freeze {
    /// `/no_tell` on every one of them: `freeze_tell` is not obeyed.
    pub no_tell: bool,
}

/// `control = submission` (spec section "Submission mode").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Submission {
    /// `/sender_retain`.
    pub sender_retain: bool,
    /// `/domain=`: set but empty means that `$authenticated_id` holds the domain.
    pub domain: Option<BString>,
    /// `/name=`.
    pub name: Option<BString>,
}

/// What is kept of a failed `verify = sender`, for the reply and the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SenderVerifyFailure {
    /// The address that did not verify.
    pub address: Address,
    /// Why, for the peer.
    pub message: BString,
    /// Why, for the log.
    pub log_message: BString,
    /// It may verify later.
    pub temporary: bool,
}
