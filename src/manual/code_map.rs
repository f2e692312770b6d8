//! Where things are, in the order in which a message meets them.
//!
//! The stations of one message are listed in [the crate's page](crate); this page says which folder
//! answers which question.
//!
//! | question | folder |
//! |---|---|
//! | What does a command line ask for? | `cli` |
//! | Who runs as whom, who may talk to whom? | `process` (the table is `process::role`), `as_user`, `sys` |
//! | What stands in the configuration file? | `config` (what was written), `load` (what it means) |
//! | What does an SMTP client say, what does it hear? | `smtp_in`, `acl` |
//! | What happens to a message's headers and body on arrival? | `receive` |
//! | How does it lie on the disk? | `spool` (the state table of its files is `spool`'s page) |
//! | When is it tried? | `queue`, `hints`, `deliver::retry` |
//! | Where does an address go? | `route`, one file for each driver |
//! | How does it get there? | `deliver`, `transport`, one folder or file for each driver |
//! | How is TLS spoken, and a certificate's status proved? | `tls`, `ocsp`; `tls::gnutls` alone names the library |
//! | ... and by itself (`tls_ocsp_fetch`)? | `ocsp::keeper` plans and asks, in the process `process::staple_keeper`; `process::keeper_link` hears it, `process::certificate_status` starts that and writes the log, `ocsp::registry` and `tls::kept` hold what is stapled |
//! | Where does a new proof come from? | `ocsp::obtain`; `cli::ocsp_fetch` is the program for cron, `ocsp::keeper` what does it by itself |
//! | How does a local message come in without a daemon? | `process::drop_box` |
//! | What do `$variable` and `${item}` mean? | `syntax` (text to tree), `expand`, `lookup`, `matching` |
//! | What does the administrator see of a running daemon? | `metrics` (what is counted), `process::openmetrics` (where it is shown), `ocsp::standing` and `cli::certificates` (the table of certificates), `process::elsewhere` (what the delivery worker adds) |
//! | What goes into the logs? | `log`: events, one formatter to Exim's lines |
//!
//! A name of Exim's (acl, router, transport, lookup, retry, spool) means what it means there. A verb of
//! SMTP names the file that handles it: `smtp_in` has one `cmd_*` for each.
//!
//! # Tests
//!
//! | kind | where |
//! |---|---|
//! | unit | at the end of each file |
//! | parity: the same case against exim4 and against oxim | `tests/parity` (its README says how a case is written) |
//! | dialogue: SMTP conversations as text | `tests/dialogue` |
//! | crash: killed at each system call of the commit, and under load; a full disk | `tests/crash.rs` |
//! | TLS and certificate status, row by row | [`super::tls_rows`] names the test of each |
//! | processes, reload, interop, install: the real program | `tests/*.rs`, one file each |
//! | what is used of GnuTLS, against the table of its versions in build.rs | `tests/gnutls_table.rs`, `vendor-check` |
//! | memory and races under valgrind, over the tests of TLS | `tests/valgrind` |
//! | tidy: layers, lengths, the two unsafe rooms | `tests/tidy.rs` |
//! | demonstration | `tests/demo` |
//! | measurement | `benches/mail` |
