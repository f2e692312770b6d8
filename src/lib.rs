//! oxim: a mail transfer agent that takes Exim's place.
//!
//! # The way of one message
//!
//! ```text
//!  1 process/master           binds the ports as root, starts the roles
//!  2 process/smtp_worker      accepts; one thread per connection
//!  3 smtp_in/session          greeting and command loop, one cmd_* file per verb
//!  4 smtp_in/cmd_rcpt         asks acl/run: accept, deny, defer
//!  5 smtp_in/cmd_data         354, then
//!  6 receive/accept           body -> fixup -> scan -> data ACL -> commit
//!  7 spool/commit             -D, then -H by rename, fsync: the message is ours; only now 250 goes out
//!  8 queue/handoff            one datagram "message id is ready" to the delivery worker
//!  9 process/delivery_worker  takes the lock; one pool thread per message
//! 10 deliver/message          all addresses of one message
//! 11 route/chain              routers in order, one file per driver; a transport is assigned
//! 12 deliver/local | deliver/remote
//! 13 process/user_child -> transport/appendfile/maildir   (as the recipient's uid)
//!    transport/smtp/session                               (in the pool thread)
//! 14 deliver/finish           journal, retry or bounce, remove from the spool
//! ```
//!
//! Beside it, and never in its way: `process/staple_keeper` fetches proofs of certificates' status (and revocation lists)
//! under a uid of its own; what it finds is checked by `ocsp/registry` and stapled by station 3's TLS.
//!
//! # Layers
//!
//! A file uses only its own folder, folders of lower layers, and folders to the left in its own
//! layer; `tests/tidy.rs` holds every file to it.
//!
//! ```text
//! 0  sys, tls::gnutls                     the two unsafe rooms; they know nothing of mail
//! 1  text, syntax, mail, metrics, log, dns  values; expansion and ACL text to trees (pure); small services
//! 2  config                               written configuration: options as data, positions; parses, never acts
//! 3  ocsp, tls, hints                     get expanded values or an expand closure, never expand by themselves
//! 4  expand, lookup, matching             the string language: one ring, a declared exception
//! 5  spool, auth, as_user                 disk format; authenticators; the orders that need a user's rights
//! 6  transport, route, acl                policy and drivers, one file each
//! 7  receive, deliver                     one message in, one message out
//! 8  smtp_in, queue                       one connection; all messages
//! 9  load, process, cli                   written configuration to meant one; roles and privileges; entry
//! ```
//!
//! (`ocsp` stands left of `tls`: a TLS unit holds a proof that was checked by `ocsp`, and the
//! fetcher of proofs speaks HTTP without TLS.)
//!
//! Calls upward go only through the traits in [`upward`].
#![deny(unsafe_code)]

pub mod manual;
#[allow(unsafe_code, reason = "room 1: system calls that have no safe wrapper")]
pub mod sys;

pub mod dns;
pub mod log;
pub mod mail;
pub mod metrics;
pub mod syntax;
pub mod text;

pub mod config;

pub mod hints;
pub mod ocsp;
pub mod tls;

pub mod expand;
pub mod lookup;
pub mod matching;

pub mod as_user;
pub mod auth;
pub mod spool;

pub mod acl;
pub mod route;
pub mod transport;

pub mod deliver;
pub mod receive;

pub mod queue;
pub mod smtp_in;

pub mod cli;
pub mod load;
pub mod process;

pub mod upward;
