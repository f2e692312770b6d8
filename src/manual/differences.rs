//! Where oxim does not do what Exim 4.96 (the recorded one) does, each with its reason and its test.
//!
//! A difference that a parity case meets stands in the case, as a section `=== differs REASON` with the
//! recorded lines and ours; `grep -r 'differs' tests/parity` lists all. The others:
//!
//! | what | Exim | oxim | why | test |
//! |---|---|---|---|---|
//! | a stapled proof that is expired, revoked, malformed, for another certificate | `454`, or it is sent | left out, TLS goes on, a log line | a forgotten cron job must not stop mail; a wrong proof helps nobody | [`super::tls_rows`] S5; `make demo` step 2 |
//! | a staple that says "unknown", is unsigned, or is signed by another trusted authority | accepted by `hosts_require_ocsp` | refused | it proves nothing | [`super::tls_rows`], what may be stapled; `make demo` step 3 |
//! | a proof past its nextUpdate | sent for 300 s more (OpenSSL builds) | not sent | clients that check refuse the handshake for it, but take none | [`super::tls_rows`] S6 |
//! | a certificate, key or list of authorities that is taken away or spoilt while the daemon runs | `454` from then on | the former goes on, a log line; a restart refuses | mail must not stop for a tool that failed half-way | [`super::tls_rows`] S3 |
//! | proofs of whole chains under TLS 1.3 | as the file has them | only those that are good, and that a client can check: a root's word on an intermediate goes out only with the root's certificate in it or in the chain | GnuTLS's clients refuse the whole chain otherwise | [`super::tls_rows`] S8 |
//! | `tls_privatekey` that expands to nothing, or fails by force | `(cert/key setup: out of keys)` | the key is looked for in the certificate's file | as documented; a defect of 4.96 | `tls_lists::a_key_list_that_is_empty_means_the_files_of_the_certificates` |
//! | `$tls_in_ocsp` under TLS 1.3 | 1 although the staple went out | 4 | the same state under 1.2 and 1.3 | [`super::tls_rows`] S10 |
//! | `hosts_require_ocsp` without `hosts_require_tls` | the message goes in clear where the status check fails | never in clear; the check of the configuration warns | who wants a proof wants no clear text | [`super::tls_rows`] C2, C3 |
//! | `tls_crl`: a list that is out of date, unsigned or not of the issuer; a delta | believed (GnuTLS) | the certificate is not verified, the log says why; a delta is left out; a revocation in an old list still counts | a list that an attacker holds back must not hide what newer ones say | [`super::tls_rows`], revocation lists; `7-tls/crl_server` |
//! | `tls_crl`: a directory | only with OpenSSL, and then each issuer needs a list | each file in it that is a list, PEM or DER; an issuer without one is not asked about, as with one file | lists come one by one | [`super::tls_rows`], revocation lists |
//! | a resumed session of a client | `hosts_require_ocsp` fails; sessions are kept in a data base | the verdict is kept with the session, up to the end of the proof; sessions are in the delivery worker's memory only | a requirement must not depend on chance, and a session's secrets on a disk | [`super::tls_rows`] C6 |
//! | the session of a certificate that failed to be verified, where it did not have to be | kept, and gone on with | not kept | what goes on should have been good at its beginning | `tls_resumption::a_refused_session_is_not_kept` |
//! | `tls_crl` of the smtp transport that cannot be loaded | `(gnutls_certificate_set_x509_crl_file): Error while reading file.` | the file, the option and the reason | an administrator has to find it | – |
//! | `hosts_require_tls`, `hosts_require_ocsp` or `ignore_target_hosts` that cannot be expanded | as if they were not set: the message may go in clear | the host or address is deferred | what may be required is not waived by a mistake | – |
//! | `tls_verify_hosts` that cannot be expanded | as if it were not set | `454` | the same | `9-options/host_lists_unexpandable` |
//! | blanks around `tls_require_ciphers` of the server, and in a list of `tls_alpn` with a separator of its own | TLS fails | they do not matter, as in other lists | – | – |
//! | retry record of a host that fails a required status | keyed by host | by host and what is required of its TLS | another transport may not need what this one does | [`super::tls_rows`] C7 |
//! | a TLSA record of usage 2 with a whole certificate, which the server does not send | refused | serves as the authority, if it issued what was sent | RFC 7671 5.2 allows it; nobody but the zone's owner can say it | `tls_dane::an_authority_that_was_not_sent_is_trusted_only_if_it_stands_whole_in_the_record` |
//! | TLSA records with SHA-256 and SHA-512 of the same usage and selector | each counts | only those with SHA-512 count | RFC 7671 9 | `tls_dane::of_two_digests_of_the_same_kind_the_stronger_decides` |
//! | TLSA records of which none can be used, with `tls_verify_hosts` | TLS, the certificate is not verified | it has to be good all the same | the documentation says that these options are replaced where DANE can be used | `dane_daemon::records_that_cannot_be_used_demand_tls_and_leave_the_certificate_to_the_options` |
//! | `hosts_request_ocsp` at its default, with records of the leaf and of an authority | always asked for | asked for; not asked for where records of the leaf alone are used | as documented | [`super::tls_rows`] C1 |
//! | the log selector `dnssec`, `$sender_host_dnssec`, `$sender_helo_dnssec` | `DS` in lines of deliveries and arrivals | in lines of deliveries; of who sends to us nothing is said, the variables are `no` | not built yet | `7-tls/dnssec_domains` |
//! | message ids | 16 characters in 4.96 | 23, as since 4.97; `MESSAGE_IDS=short` for the old form | several messages of one process in one second | `mail::message_id` |
//! | errors in a configuration | the first | all, each with file, line, text and nearest known name; what only a driver can see (a missing `route_list`) once its options can be read | one run to mend a file, and no error that only follows from another | `config` |
//! | a router's `condition` that cannot be expanded | 4.96 skips the router | the address is deferred, as documented | mail must not go another way because a file is away | `3-expansion/failures` |
//! | `${ipv6norm:...}` in the middle of a text | the rest of the text is lost | the text goes on | a defect of 4.96 | `3-expansion/operators` |
//! | a damaged -H | a line in the main log at each attempt | counts as frozen: named once for each change of the file, in the panic log too; `-M` and `-qff` try it again | an administrator must see it, and not miss it among others | `5-spool/corrupt_header_is_frozen` |
//! | a damaged -H older than `keep_malformed` (4 days) | the message is removed | it is kept until somebody mends or removes it | what a newer Exim wrote, or a disk garbled, may still be read by a human | `5-spool/corrupt_header_is_frozen` |
//! | a message whose -D is not there | never mentioned by queue runs | the same as a damaged -H | nothing may be lost without a word | `5-spool/body_is_missing` |
//! | message data that comes a byte at a time | waited for without end, as long as each byte is in time | given up (`421`, the same log line as a time-out) once all waits are over half an hour and the average is below 100 bytes/s | every wait has a deadline | `smtp_in::data_reader` |
//! | `hosts_require_alpn` of the smtp transport without `tls_alpn` | 4.96 asks for nothing | the host is deferred, as documented | a requirement that nothing can meet must show | `tls_options` |
//! | `tls_early_banner_hosts` | not in 4.96 | as documented since 4.98 | – | `tls_options` |
//! | `exim.dev.20160529.1` to `.3` and `default` in `tls_dhparam` | primes of Exim's own | the group `ffdhe2048` of RFC 7919, as strong; with GnuTLS 3.6 or later Exim offers that too | Exim's numbers are in no document | `7-tls/dhparam` |
//! | a deprecated group in `tls_dhparam` | warned of in each connection | warned of when it is loaded | one line for each change of state | `7-tls/dh_min_bits` |
//! | a `pkcs11:` URL without `gnutls_allow_auto_pkcs11` | Debian's 4.96 loads the modules all the same: it is built without that option's code | no module is loaded; the log names the option | as documented; a module is foreign code | `tls_tokens` |
//! | a `pkcs11:` URL | the certificate alone is shown; a PIN in it stands in log lines | the issuers that the token has are shown too; logs have the URL without what follows `?` | clients need the chain, and nobody the PIN | `7-tls/tokens` |
//! | a token whose contents change | seen by the next connection | seen at a reload (SIGHUP) or restart, or when another file of the same certificate changes | a token has no time of change, and a handshake should not wait for it | – |
//! | `hosts_noproxy_tls` | TLS is ended and begun anew on the same connection | the connection is closed after its message | there is no proxy process; few servers go on in clear after TLS | `kept_connections` |
//! | an option that is known but not built | – | the start is refused, file and line | silence would be a lie | `load` |
//! | a name in banner, `Received:` and HELP | Exim and its version | oxim and its own; `MAILER_NAME=Exim` for the old text | it is not Exim | build settings |
//! | a connection to another host | closed after the messages that wait for that host | kept two seconds for the next message (`connection_max_messages` at most); then, and when the daemon stops, QUIT | a burst of messages costs one handshake | `kept_connections` |
//! | EHLO answered 421 | HELO is tried, and finds the connection closed | QUIT; the log has the 421 | the peer said that it closes (RFC 5321 section 3.8) | `transport::smtp::session` |
//! | a command line of more than 16384 bytes | what does not fit is the next command | `500 Line too long`, once | nobody may put a command into the tail of a line | `smtp_in::wire` |
//! | control characters in what an ACL says | stand in the log as they are | `\ooo`, as in all lines | a log is shown on terminals | `log::sink` |
//! | hints | Berkeley DB | SQLite | safe between processes, can be read with a tool | `hints` |
//! | processes | one for each connection and each delivery | threads in four processes | cost; see `make bench` | – |
