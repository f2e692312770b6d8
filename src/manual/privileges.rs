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
//! delivery worker.
//!
//! Where no daemon runs, a message is left in `drop/`, and nothing else is done. The installed program is set-gid oxim for
//! this alone: the group is laid down before anything is read, is given up for good by every call that is not a message
//! of the installed configuration (no `-C`, no `-D`), and is taken up for the system calls that make and rename the one
//! file. The directory (mode 2730) lets its group put files in, and neither list nor read them. The daemon takes in
//! regular files with one name, of the directory's group and of bounded length; the owner of the file is the caller,
//! never an admin user, and what is written in it counts as little as what a caller of the socket says. Whoever made this
//! program do something else before the group is given up would have what the group has: read the queue and the logs,
//! and ask the daemon for what is an admin user's. A group of its own for the directory would leave only the disk to
//! fill; a packager who wants that gives `drop/` and the program such a group, and the daemon's user that group too.
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
