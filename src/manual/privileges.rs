//! Who runs as whom, and what each could do if it were taken over.
//!
//! | process | uid | reads | if an attacker ran code in it |
//! |---|---|---|---|
//! | master | root | its configuration, fixed-size orders | everything; so it reads no mail, no network, no lookup |
//! | SMTP worker | oxim | the network, the spool | can read and forge queued mail; cannot order a user child |
//! | delivery worker | oxim | the spool, other servers' replies | can act as any user for whom a router or transport of the configuration may run, never as root or one of `never_users` |
//! | user child | the recipient | one order, one message body | what that user may |
//!
//! # Start
//!
//! With root's rights (root itself, or a set-uid copy) the steps are, in this order: descriptors 0 to 2
//! are made valid and others closed, the environment is cleaned; arguments are parsed; trust is decided
//! (who calls, which file `-C` names, which macros `-D` sets); without trust all set-id rights are dropped
//! for good; the configuration file is opened once and its owner, group and mode are checked on the open
//! descriptor; only then it is read.
//!
//! Without any rights a program of the installed kind hands its arguments and standard input to the daemon
//! over a socket; the kernel says who is at the other end. A daemon without root runs everything under its own
//! uid and carries out orders for that uid only. Admin users list the queue and change messages over the same socket;
//! who they are is decided by the daemon from what the kernel says, and deliveries they ask for are passed on to the
//! delivery worker. Where no daemon runs, a program without rights refuses to take mail in.
//!
//! # Orders
//!
//! The user child holds an order against the master's configuration before it becomes anybody: a fixed `user`, `group`,
//! `file`, `directory` or `command` (its whole path) literally; `check_local_user`: anyone in the user data base, with
//! the primary group; an expanded `user`: anyone but root, `never_users` and oxim; an expanded `group`: the user's
//! primary one or one from 1000 on, never a system group; supplementary groups: the user's own, and only where
//! `initgroups` is set. A path that is expanded, or comes from a .forward, is not foretold: there the user's own
//! rights are the limit.
//!
//! # What remains
//!
//! The workers share one uid, so a taken-over SMTP worker can write into the queue; what it writes is
//! delivered by the rules of the configuration, as mail that came over SMTP would be. It cannot name a
//! recipient's program or file: those come from the configuration, which the master reads by itself.
