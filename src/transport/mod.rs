//! Transports: how a message leaves. One file or folder for each driver.
//!
//! A transport gets a [`Job`] (one message, some of its addresses) and gives one [`Outcome`] for each address.
//! It never touches the spool's control files, the retry hints or the logs: `deliver` does.
pub mod options;

pub mod appendfile;
pub mod dnssec;
pub mod registry;
pub mod smtp;
pub mod write_message;

pub use registry::{Driver, Registry, Remote, Transport};

use crate::expand::Context;
use crate::mail::Address;
use crate::mail::envelope::TlsInfo;
use crate::spool::Message;
use crate::text::Value;
use bstr::BString;
use std::net::IpAddr;

/// One host that a router gave for an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its name as routed.
    pub name: BString,
    /// Its address; none if it could not be found.
    pub address: Option<IpAddr>,
    /// The port, if the router gave one.
    pub port: Option<u16>,
    /// MX preference; -1 if it was not from an MX record.
    pub preference: i32,
    /// DNSSEC vouched for it.
    pub secure: bool,
    /// Hosts of one group with equal `preference` may be tried in any order (`hosts_randomize`).
    pub randomized: bool,
}

/// One address that is to be delivered now.
#[derive(Clone, Debug)]
pub struct JobAddress {
    /// The address as it goes to the wire or mailbox.
    pub address: Address,
    /// Variables for expansions of the transport's options for this address.
    pub variables: crate::expand::context::AddressVars,
    /// `$domain_data`, `$local_part_data` of its routing.
    pub domain_data: Option<Value>,
    /// See above.
    pub local_part_data: Option<Value>,
    /// A file, directory (ends with `/`) or pipe command (starts with `|`) from a redirection.
    pub redirected: Option<Value>,
    /// DSN ORCPT and NOTIFY (RFC 3461).
    pub orcpt: Option<BString>,
    /// See above.
    pub dsn_flags: u32,
}

/// Header lines to add and names of headers to remove, expanded when a session stands.
pub type LateHeaders<'a> = Box<dyn Fn(&Context) -> Result<(Vec<BString>, Vec<BString>), Problem> + 'a>;

/// One message and those of its addresses that go together.
pub struct Job<'a> {
    /// The message; its headers are as spooled, before the additions and removals below.
    pub message: &'a Message,
    /// The addresses; at least one.
    pub addresses: Vec<JobAddress>,
    /// Return path for the wire and `Return-path:`.
    pub return_path: BString,
    /// Header lines to add (`name: text\n`), from routers.
    pub headers_add: Vec<BString>,
    /// Names of headers to remove, lower case, from routers; a trailing `*` matches the rest.
    pub headers_remove: Vec<BString>,
    /// In place of the two above for a remote delivery: what they say may depend on the session (`$tls_out_*`).
    pub late_headers: Option<LateHeaders<'a>>,
    /// Hosts from the router; empty for local transports or if the transport has its own.
    pub hosts: Vec<Host>,
    /// The context of the delivery (message and session set; address variables of the first address).
    pub context: &'a Context<'a>,
    /// uid and gid for a local delivery.
    pub user: Option<(u32, u32)>,
}

/// What became of one address.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Delivered.
    Delivered(Delivered),
    /// Not now.
    Deferred(Problem),
    /// Never.
    Failed(Problem),
}

/// Of a delivery: what the log line shows.
#[derive(Clone, Debug, Default)]
pub struct Delivered {
    /// Host, for remote transports.
    pub host: Option<Host>,
    /// TLS, for remote transports.
    pub tls: Option<TlsInfo>,
    /// Response to the end of data (`C=`).
    pub confirmation: BString,
    /// The file or directory written, or command run (for the log of redirected deliveries).
    pub local_target: Option<BString>,
    /// Bytes sent or written (`S=` on delivery with the selector `delivery_size`).
    pub size: u64,
    /// `P=` and other fields a transport wants in the line, ready-made, such as `DN="..."`.
    pub used_chunking: bool,
    /// The connection was used before (`*` after the address).
    pub continued: bool,
    /// Pipelining was used (`L`).
    pub pipelined: bool,
    /// PRDR was used.
    pub prdr: bool,
    /// Our address and port, for `I=` with the selector `outgoing_interface`.
    pub interface: Option<(IpAddr, u16)>,
}

/// Of a delivery that did not happen.
#[derive(Clone, Debug, Default)]
pub struct Problem {
    /// Text for the log and the bounce: `SMTP error from remote mail server after RCPT TO:<x>: 550 no`.
    pub text: BString,
    /// errno as Exim logs it in brackets `(110)`: system numbers, or Exim's negative ones (-18 ...); 0: none.
    pub errno: i32,
    /// Exim's more_errno: for retry rules (the SMTP code's two digits, 'A' or 'M', minutes of quota).
    pub more_errno: i32,
    /// Host the problem is with, for `H=`.
    pub host: Option<Host>,
    /// TLS of the session, if there was one.
    pub tls: Option<TlsInfo>,
    /// True: the problem is the host's (retry keyed by host), not the address's.
    pub host_problem: bool,
    /// The problem concerns only deliveries to this host with this TLS requirement ([`Remote::requirement`]).
    pub requirement: Option<BString>,
    /// True: the problem is this message's at this host (retry keyed by host and message id).
    pub message_problem: bool,
    /// Our own machinery failed: nothing is known of host or mailbox, and no retry time is set.
    pub our_fault: bool,
    /// Text for the peer's or user's eyes in a bounce, if it differs.
    pub user_text: Option<BString>,
    /// An option has a value that it cannot have: the panic log is told too.
    pub of_configuration: bool,
    /// The message is to be frozen or other special treatment was asked for.
    pub freeze: bool,
}

/// What one host did to a message.
#[derive(Clone, Debug)]
pub struct HostReport {
    /// The host.
    pub host: Host,
    /// The problem that was the host's or the message's at this host; none: it answered as it should.
    pub problem: Option<Problem>,
}

/// What a remote delivery came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// One for each address of the job, in order.
    pub outcomes: Vec<Outcome>,
    /// One for each host that was tried, in order: what the retry hints are made from.
    pub hosts: Vec<HostReport>,
}
