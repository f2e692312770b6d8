//! Classes of bugs that mail servers had, and what excludes each class here.
//!
//! | class | example | what excludes it |
//! |---|---|---|
//! | memory written outside its bounds, or after it was freed | CVE-2018-6789 (base64), CVE-2019-15846 (SNI), CVE-2020-28007..26, CVE-2026-45185 (text after close_notify) | safe Rust; `unsafe` only in `sys` and `tls::gnutls`, each block with its reason (`tests/tidy.rs`); clear text and TLS are types that own the connection, so no buffer outlives its session |
//! | outside text expanded as a template | CVE-2019-10149 (`${run` in a recipient) | templates are parsed when the configuration is read; a value is never parsed again, and `Tainted` text cannot become a path or a template |
//! | smuggled messages | CVE-2023-51766 | over TCP only CR LF `.` CR LF ends a message (`tests/parity/4-receiving/only_crlf_dot_ends_data`) |
//! | commands before STARTTLS counted after it | CVE-2011-0411 and many | the TLS session starts with an empty buffer; text behind STARTTLS is an error |
//! | rights kept too long, files opened by name twice | CVE-2020-28008, -28014 | one order of start (see [`super::privileges`]); files are checked on the open descriptor |
//! | environment and arguments of a set-uid program | CVE-2016-1531, CVE-2020-28010 | nothing is set-uid; where it is, and where the program is set-gid for `drop/`, descriptors and environment come first |
//! | growth without end | CVE-2022-37452 and many | a named limit on everything that a peer can grow |
//! | mail lost in a crash | – | the commit is a state table; the program is killed at each system call of it (`tests/crash.rs`) |
