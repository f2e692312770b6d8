//! One SMTP connection: greeting, command loop, one `cmd_*` file for each verb.
//!
//! Specification: RFC 5321, RFC 2920 (PIPELINING), RFC 1870 (SIZE), RFC 6152 (8BITMIME), RFC 3207
//! (STARTTLS), and the chapter "SMTP processing"; reply texts and log lines are those recorded from Exim.
//!
//! The entry points are [`serve`] (a TCP connection, in a thread of its own) and [`serve_stdio`] (`-bs`).
pub mod stream;

use crate::acl::Acls;
use crate::receive::{Caller, Station};
use crate::upward::Verifier;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What all sessions of one configuration share.
#[derive(Clone)]
pub struct Server {
    /// Configuration, spool, logs, message ids, and whom to tell of a new message.
    pub station: Station,
    /// The ACLs.
    pub acls: Arc<Acls>,
    /// Address verification.
    pub verifier: Arc<dyn Verifier + Send + Sync>,
    /// TLS, if it is configured: built by the process from the credentials.
    pub tls: Option<Arc<dyn stream::TlsAcceptor>>,
    /// Set when the process is to end: sessions answer 421 at their next command and close.
    pub stop: Arc<AtomicBool>,
}

/// A TCP connection as it was accepted.
#[derive(Clone, Copy, Debug)]
pub struct Connected {
    /// The peer.
    pub peer: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
    /// Connections open when it came (`$smtp_count_at_connection_start`), itself included.
    pub count: u32,
    /// TLS from the first byte (`tls_on_connect_ports`, `-tls-on-connect`).
    pub tls_on_connect: bool,
    /// `smtp_accept_queue` is passed: messages are queued and not delivered at once.
    pub queue_only: bool,
}

/// How `-bs` was called.
#[derive(Clone, Debug)]
pub struct LocalCall {
    /// Who calls.
    pub caller: Caller,
    /// `$sender_ident`: the login name, or `-oMt`.
    pub ident: bstr::BString,
    /// `-oMa` and kin: the peer that a trusted caller names.
    pub origin: Option<crate::mail::Origin>,
    /// `-odq` and kin: messages are queued and not delivered at once.
    pub queue_only: bool,
}
