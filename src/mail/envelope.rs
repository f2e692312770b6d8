//! The envelope of a message and where it came from: all that the spool's -H file holds above the headers.

use super::Address;
use crate::text::Value;
use bstr::BString;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

/// Certificate status of a session: the values of `$tls_in_ocsp` and `$tls_out_ocsp`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum OcspState {
    /// 0: nobody asked
    #[default]
    NotRequested = 0,
    /// 1: asked, no response
    NoResponse = 1,
    /// 2: a response, not verified
    NotVerified = 2,
    /// 3: a response that failed verification
    Failed = 3,
    /// 4: a good response, verified
    Verified = 4,
}

/// What is known of a TLS session: the `tls_in_*` / `tls_out_*` variables and log fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsInfo {
    /// `TLS1.3:ECDHE_X25519__ECDSA_SECP256R1_SHA256__AES_256_GCM:256`: the log's `X=`.
    pub cipher: BString,
    /// Standard (IANA) name of the cipher suite; empty if the library cannot tell.
    pub cipher_std: BString,
    /// `TLS1.3`, `TLS1.2`, ...
    pub version: BString,
    /// Strength in bits.
    pub bits: u32,
    /// The log's `CV=`: the peer's certificate was verified.
    pub certificate_verified: bool,
    /// Verified by DANE (`CV=dane`).
    pub dane: bool,
    /// `$tls_out_tlsa_usage`: a bit for the usage of each TLSA record that could be used.
    pub tlsa_usage: u8,
    /// Distinguished name of the peer's certificate; empty if it sent none.
    pub peer_dn: Value,
    /// The peer's certificate in DER; empty if it sent none.
    pub peer_certificate: Vec<u8>,
    /// Our certificate in DER; empty if we sent none.
    pub our_certificate: Vec<u8>,
    /// Server name indication, lower case.
    pub sni: Option<Value>,
    /// Certificate status.
    pub ocsp: OcspState,
    /// The session was resumed.
    pub resumed: bool,
    /// What else is known of resumption, as in `$tls_in_resumption`: 2, the client asked for a ticket; 4, it offered a session;
    /// 8, the server gave a ticket. (1, it is built in, and 16, resumed, are not kept here.)
    pub tickets: u8,
    /// TLS from the first byte, without STARTTLS.
    pub on_connect: bool,
}

impl TlsInfo {
    /// `$tls_in_resumption` and `$tls_out_resumption`.
    pub fn resumption(&self) -> u8 {
        1 | (self.tickets & 0x0e) | if self.resumed { 0x10 } else { 0 }
    }
}

/// Where a message came from: the peer and how it spoke.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The peer's address and port; none for a local submission without `-oMa`.
    pub host: Option<SocketAddr>,
    /// Verified host name (`$sender_host_name`).
    pub host_name: Option<BString>,
    /// HELO argument as given (`$sender_helo_name`).
    pub helo: Option<BString>,
    /// RFC 1413 or `-oMt` ident (`$sender_ident`); the login name for local submissions.
    pub ident: Option<BString>,
    /// Address and port the peer connected to.
    pub interface: Option<(IpAddr, u16)>,
    /// `$received_protocol`: `local`, `smtp`, `esmtps`, ...
    pub protocol: BString,
    /// Authenticator that accepted (`$sender_host_authenticated`).
    pub authenticator: Option<BString>,
    /// `$authenticated_id`.
    pub authenticated_id: Option<BString>,
    /// `$authenticated_sender`.
    pub authenticated_sender: Option<BString>,
    /// A host lookup was tried and failed for good / for now.
    pub host_lookup_failed: bool,
    /// A host lookup was deferred.
    pub host_lookup_deferred: bool,
    /// HELO was verified.
    pub helo_verified: bool,
    /// TLS, if the message came over it.
    pub tls: Option<TlsInfo>,
    /// Hosts without address: the message came from a local process.
    pub local: bool,
}

/// One recipient of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recipient {
    /// Where it is to go.
    pub address: Address,
    /// `errors_to` of a one-time redirection.
    pub errors_to: Option<BString>,
    /// Index of the recipient a one-time redirection replaced.
    pub parent: Option<usize>,
    /// DSN ORCPT (RFC 3461).
    pub orcpt: Option<BString>,
    /// DSN NOTIFY flags, as the spool writes them: never 2, success 4, failure 8, delay 16.
    pub dsn_flags: u32,
}

/// The envelope: -H above the headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Login name, uid and gid of the process that received the message (`originator`).
    pub login: BString,
    /// Its uid.
    pub uid: u32,
    /// Its gid.
    pub gid: u32,
    /// Reverse path; the null address for bounces.
    pub sender: Address,
    /// When the message was received.
    pub received: SystemTime,
    /// Time taken to receive it, if measured.
    pub received_complete: Option<SystemTime>,
    /// Delay warnings sent so far.
    pub warnings_sent: u32,
    /// The first delivery has not been tried yet (`-deliver_firsttime`).
    pub first_time: bool,
    /// Frozen, since when (`-frozen`).
    pub frozen: Option<SystemTime>,
    /// Thawed by hand (`-manual_thaw`).
    pub manually_thawed: bool,
    /// The caller was not trusted to set the sender (`-sender_set_untrusted`).
    pub sender_set_untrusted: bool,
    /// Sender is local (`-sender_local`).
    pub sender_local: bool,
    /// No local error message is to be sent (`-localerror`).
    pub local_error: bool,
    /// `BODY=8BITMIME` or the -B option: 7 or 8 (`-body_8bitmime`), 0 not given.
    pub body_8bitmime: u8,
    /// SMTPUTF8 was asked for.
    pub smtputf8: bool,
    /// Lines in the body.
    pub body_lines: u64,
    /// NUL bytes in the body.
    pub body_zeros: u64,
    /// Longest line received, in bytes without its end.
    pub max_received_line: u64,
    /// `-allow_unqualified_recipient`, `-allow_unqualified_sender`.
    pub allow_unqualified_recipient: bool,
    /// See above.
    pub allow_unqualified_sender: bool,
    /// Text of local_scan.
    pub local_scan_data: Option<BString>,
    /// Spam score of content scanning (three texts), kept for tools.
    pub spam: [Option<BString>; 3],
    /// DSN ENVID and RET (RFC 3461).
    pub dsn_envid: Option<BString>,
    /// 0 none, 1 FULL, 2 HDRS.
    pub dsn_ret: u8,
    /// ACL variables by name without `acl_`, such as `c0`, `m_x`.
    pub acl_variables: BTreeMap<BString, Value>,
    /// The peer.
    pub origin: Origin,
    /// Recipients in order.
    pub recipients: Vec<Recipient>,
    /// Addresses that need no delivery any more (the -H file's tree plus -J), as written there.
    pub done: BTreeSet<BString>,
    /// Lines of the -H file that we do not know, kept as they are for Exim's sake.
    pub unknown_lines: Vec<BString>,
}
