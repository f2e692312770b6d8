//! The rows of the specification of TLS and certificate status, and the tests that fail if a row is broken.
//!
//! A name `file::test` is a test of `tests/file.rs` (or of the module of that name in `src`); `7-tls/case` is a parity
//! case. `tests/tidy.rs` checks that each of them is there. Client and server tests run under TLS 1.2 and 1.3.
//!
//! # Server
//!
//! | row | what holds | tests |
//! |---|---|---|
//! | S0 | without a certificate a self-signed one is used, Exim's words stand in the log (at start), nothing is stapled | `tls_server::without_a_certificate_a_self_signed_one_is_made_and_nothing_is_stapled`, `tls_daemon::without_a_certificate_the_daemon_says_so_before_it_says_that_it_started` |
//! | S1 | a proof goes out only if asked for; empty, unset, forced failure: none; another failure names the option | `tls_server::who_does_not_ask_gets_nothing_and_it_shows`, `tls_server::an_unset_empty_or_forced_option_means_no_staple_and_another_failure_names_the_option`, `7-tls/ocsp_server`, `settings::forced_failure_and_empty_are_unset_and_other_failures_name_the_option` |
//! | S2 | certificate and staple follow the server name, together, lists too; hostile names reach no path | `tls_lists::a_list_of_lists_by_server_name_shows_each_name_its_own`, `tls_server::certificate_and_staple_follow_the_server_name_together`, `tls_server::a_hostile_server_name_reaches_no_path_and_harms_nobody`, `settings::a_server_name_cannot_leave_its_directory`, `tls_names::a_hello_in_any_number_of_records_is_understood_and_one_that_is_cut_off_anywhere_is_refused`, `tls_names::extensions_without_measure_and_names_without_end_harm_nobody_and_fill_no_log` |
//! | S3 | replaced files of all five kinds (certificate, key, proof, authorities or a directory of them, revocation lists) are used within a second, in any order, links on the way followed; running sessions go on; a pair that does not fit is never shown. A thread looks twice a second and loads; who shakes hands meanwhile is given the former and waits for no disk. A file that goes or is spoilt leaves the former in use, and is told | `tls_load::while_certificate_key_and_proof_are_replaced_no_handshake_fails_and_nothing_is_mixed_or_stale`, `tls_files::replaced_authorities_and_revocation_lists_are_used_within_a_second_and_sessions_go_on`, `tls_files::a_directory_of_authorities_is_looked_at_file_by_file_links_included`, `tls_files::a_turned_link_on_the_way_replaces_authorities_and_revocation_lists`, `tls_files::a_file_that_goes_or_is_spoilt_leaves_the_former_in_use_and_is_told`, `cache::who_asks_while_a_value_is_loaded_anew_gets_the_former_and_never_waits`, `tls_files::replaced_proof_certificate_and_key_are_used_within_a_second`, `tls_files::between_two_renames_the_former_pair_goes_on`, `tls_files::a_turned_link_on_the_way_replaces_certificate_key_and_proof_and_leaves_sessions_alone`, `tls_files::one_unit_serves_many_threads_while_its_proof_is_replaced`, `cache::a_turned_symbolic_link_on_the_way_is_a_change` |
//! | S4 | several certificates side by side, each with its own proof; DER, or PEM after its prefix, which holds until the next; an item for each certificate, and one that is empty or not there is no proof. A response for several certificates goes out if the first of its entries is the leaf's: GnuTLS's clients look at no other, and refuse the handshake (measured; openssl's and curl find theirs). Otherwise it is row S5, another proof being taken if there is one | `tls_lists::each_client_gets_the_certificate_it_can_check_with_that_certificates_proof`, `tls_lists::proofs_in_another_order_than_the_certificates_are_not_stapled_to_the_wrong_one`, `tls_lists::a_prefix_holds_until_the_next`, `tls_lists::lists_of_different_lengths_are_told_and_missing_keys_are_an_error_in_exims_words`, `tls_lists::the_second_pair_of_a_list_is_named_if_it_cannot_be_used`, `tls_lists::one_response_for_several_certificates_goes_out_once_with_the_leaf`, `tls_combined::gnutls_refuses_the_handshake_if_the_first_entry_is_of_another_certificate_and_openssl_does_not_mind`, `tls_combined::a_response_that_speaks_of_another_certificate_first_is_not_stapled_and_told_with_the_reason`, `tls_combined::another_proof_beside_it_is_stapled_whichever_lasts_longer`, `tls_combined::one_that_was_fetched_is_not_used_and_what_it_says_of_a_revocation_is_heard`, `7-tls/certificate_lists`, `tls_server::a_proof_in_pem_needs_its_prefix`, `proofs::a_prefix_holds_until_the_next_and_the_first_format_is_der`, `proofs::an_empty_item_leaves_its_certificate_without_a_proof` |
//! | S5 | an unusable proof of each kind is left out, told once for each change of state; revoked: panic log too | `tls_server::an_unusable_proof_is_not_stapled_and_told_once_with_file_and_reason`, `tls_server::a_proof_that_cannot_be_read_is_told_with_the_systems_reason`, `tls_server::each_change_of_a_proofs_state_is_told_once_however_many_handshakes_there_are`, `tls_server::a_revoked_proof_is_for_the_panic_log`, `interop::a_revoked_proof_is_never_stapled_and_starttls_goes_on` |
//! | S6 | the ends of a proof, to the second; the signer's end; a file's proof that was too early (or a clock that was wrong) is judged again when its time has come | `tls_server::a_proof_ends_at_its_next_update_and_begins_five_minutes_before_its_this_update`, `tls_server::a_proof_ends_with_the_certificate_that_signed_it`, `tls_server::a_files_proof_that_runs_out_while_it_is_in_use_is_not_stapled_any_more`, `tls_server::a_proof_that_comes_into_its_time_is_stapled_though_its_file_is_as_it_was`, `proof::a_proof_is_not_shown_a_second_past_its_next_update`, `proof::a_clock_may_be_five_minutes_behind_the_responders`, `staple_keeper::a_worker_that_retires_staples_its_proof_to_its_end_and_not_a_moment_longer` |
//! | S7 | the three signers; others are S5; byte for byte | `tls_server::the_bytes_go_out_as_they_came`, `tls_server::a_good_proof_is_stapled_and_openssl_sees_it_too`, `tls_server::a_leaf_of_the_root_itself_finds_its_issuer_in_the_proof_or_among_the_trusted`, `tls_stream::gnutls_cli_trusts_the_server_and_its_staple` |
//! | S8 | under TLS 1.3 a proof for each certificate of the chain, from a file with several in PEM or fetched; under TLS 1.2 the leaf's. One that cannot be used is told and leaves the others in their right; without the leaf's nothing goes out. A root's word on an intermediate goes out only with the root's certificate inside or in the chain: GnuTLS's clients refuse the chain otherwise. Loaded into second credentials (GnuTLS 3.6.3 or later), which are used only as long as their proofs are the newest | `tls_lists::a_whole_chain_is_stapled_under_tls_1_3_and_the_leaf_alone_under_tls_1_2`, `tls_lists::fetched_proofs_of_a_whole_chain_are_stapled_and_a_revocation_stops_them_at_once`, `tls_lists::beside_a_stapled_chain_the_other_certificate_of_the_list_has_its_own_proof`, `tls_lists::a_proof_of_the_intermediate_that_cannot_be_used_is_told_and_the_leafs_goes_out_alone`, `tls_lists::a_proof_of_the_intermediate_goes_out_only_if_clients_find_its_signer_in_it_or_in_the_chain`, `tls_lists::without_a_usable_proof_of_the_leaf_that_of_the_intermediate_stays_here`, `tls_lists::proofs_of_a_chain_are_replaced_and_run_out_one_by_one` |
//! | S9 | a virtual host without a proof has no staple, and that aborts nothing | `tls_server::certificate_and_staple_follow_the_server_name_together` |
//! | S10 | `$tls_in_ocsp`, the same under both versions. A server staples only what it has verified, so 2 and 3 are the client's | `tls_daemon::the_state_of_the_status_is_in_variables_and_lines_under_both_versions`, `tls_client::without_trust_or_verification_a_good_staple_is_not_called_verified`, `tls_client::an_expired_staple_does_not_stop_a_delivery_that_only_requests_one` |
//! | S11 | must-staple is recognised, in a list for each certificate: a warning of the check, the panic log at start | `tls_lists::a_certificate_without_a_proof_in_the_list_has_none_and_its_promise_is_for_the_panic_log`, `tls_lists::the_promise_of_a_certificate_that_a_server_name_chose_is_for_the_panic_log_once`, `tls_daemon::a_must_staple_certificate_without_a_proof_is_warned_of_by_the_check_and_told_at_start`, `tls_server::a_must_staple_certificate_without_a_proof_is_for_the_panic_log`, `tls_server::a_must_staple_certificate_with_a_proof_is_quiet`, `der::features_are_read_number_by_number` |
//! | S12 | a handshake after the first touches neither disk nor network; bounded caches: 1,024 units of some 15 KiB for each certificate, so that a thousand virtual hosts fit; looking at their files costs a few hundredths of a processor | `tls_hosts::many_virtual_hosts_with_lists_stay_small_and_each_is_watched`, `cache::a_value_is_loaded_once_for_all_who_ask_at_once_and_others_do_not_wait_for_it`, `tls_daemon::after_the_first_a_handshake_touches_neither_disk_nor_network`, `cache::a_watched_file_is_looked_at_by_the_watcher_not_by_who_asks`, `cache::names_that_peers_make_up_do_not_grow_the_cache`, `cache::the_least_recently_used_value_makes_room`, `tls_server::a_name_without_certificate_ends_the_handshake_and_is_told_once`, `tls_hostile::two_thousand_handshakes_good_and_bad_leave_memory_and_threads_as_they_were`, `tls_names::names_that_peers_make_up_cost_neither_memory_nor_lines_and_others_are_served_meanwhile` |
//!
//! # Proofs that come by themselves (`tls_ocsp_fetch`)
//!
//! What happens in each kind of trouble is [the fault table](super::fault_table); who the keeper is and what it may,
//! [the page on privileges](super::privileges).
//!
//! | what holds | tests |
//! |---|---|
//! | a proof is fetched, stored and stapled; nothing is logged while all is well, and nothing at all happens without a URL | `staple_keeper::a_proof_is_fetched_stored_and_stapled_without_anybodys_doing_and_without_a_line_in_the_log`, `staple_keeper::without_a_url_nobody_is_asked_and_nothing_is_said` |
//! | stored proofs are stapled from the first connection, the responder being dead; they are checked before | `staple_keeper::after_a_restart_with_the_responder_gone_the_first_client_gets_the_stored_proof`, `tls_kept::what_an_earlier_run_has_stored_is_stapled_at_the_first_handshake_if_it_holds` |
//! | usable is not due: a proof past half of its life goes out while the responder is dead, up to its end; a line for each change | `staple_keeper::a_responder_that_is_dead_at_renewal_costs_nothing_before_the_proof_ends_and_each_change_has_its_line`, `tls_kept::each_change_of_state_is_told_once_and_a_good_start_not_at_all` |
//! | of the file's proof and the fetched one that goes out which lasts longer; after a revocation neither | `tls_kept::of_the_files_proof_and_the_fetched_one_that_is_stapled_which_may_be_shown_longer`, `tls_kept::a_revoked_certificate_has_no_staple_whatever_the_file_says_and_the_panic_log_hears_of_it_once`, `staple_keeper::a_revoked_certificate_is_told_to_the_panic_log_once_and_nothing_is_stapled` |
//! | known by issuer and serial number: never shown with another certificate | `staple_keeper::the_proof_of_a_replaced_certificate_is_never_shown_with_the_new_one` |
//! | a disk that is full or a store that cannot be used stops nothing | `keeper_runner::a_disk_that_fails_loses_no_proof_and_is_told_once`, `staple_keeper::a_store_that_cannot_be_used_stops_neither_mail_nor_stapling_and_the_daemon_says_what_to_do`, `staple_keeper::a_keeper_that_begins_anew_and_finds_its_store_gone_goes_on_without` |
//! | keeper and worker may die | `staple_keeper::a_killed_keeper_stops_neither_stapling_nor_mail_and_the_next_one_goes_on`, `staple_keeper::a_killed_smtp_worker_comes_back_with_its_proofs_and_its_link` |
//! | every element of the chain whose issuer is known (a leaf whose is not, though somebody could be asked, is told); listed files before anybody asks for them | `tls_kept::each_element_of_the_chain_whose_issuer_is_known_is_looked_after_and_the_named_responder_is_the_leafs`, `staple_keeper::listed_files_have_their_proofs_before_the_first_client_names_them`, `listed::a_pattern_finds_files_in_many_directories_and_nothing_else`, `tls_kept::a_certificate_whose_issuer_is_not_known_is_told_if_somebody_could_be_asked` |
//! | must-staple: the first connection waits for the proof, not for ever (S11): at a start all do, for ten seconds; later those to a virtual host or a new certificate, five seconds for each certificate in all, and nobody else | `staple_keeper::a_certificate_that_demands_a_proof_has_it_before_the_first_connection_is_served`, `staple_keeper::the_first_client_of_a_virtual_host_that_demands_a_proof_has_it_though_nobody_listed_the_host`, `staple_keeper::the_first_client_of_a_replaced_certificate_that_demands_a_proof_has_it`, `staple_keeper::a_dead_responder_costs_the_first_clients_of_a_host_that_demands_a_proof_a_moment_and_nobody_else_anything`, `tls_kept::who_comes_before_the_first_word_on_a_certificate_that_demands_a_proof_waits_for_it`, `tls_kept::nobody_waits_for_a_keeper_that_is_not_there_for_a_responder_that_nobody_named_or_for_less_than_a_promise` |
//! | reload, `http_proxy` of the daemon's environment | `staple_keeper::a_reload_turns_it_on_and_off_and_the_proxy_of_the_environment_reaches_the_keeper` |
//! | with `tls_crl_fetch` too: a certificate of our own that its authority's list names is told to the panic log | `tls_crl_fetch::a_certificate_of_our_own_that_a_list_names_is_told_to_the_panic_log_once` |
//! | mistakes in the options have file, line and cure | `fetching::constant_mistakes_are_refused_where_they_stand_with_the_cure`, `fetching::what_is_to_be_fetched_is_yes_no_or_files_and_nothing_else` |
//!
//! # The program for cron and timers (`ocsp_fetch`)
//!
//! | what holds | tests |
//! |---|---|
//! | it fetches if forced, if there is no file, or if its time has passed: that is set ahead to before the proof's end by `-m` per cent of what is left | `ocsp_fetch::a_good_answer_is_written_as_it_came_and_is_not_fetched_again_before_it_is_due`, `ocsp_fetch::a_proof_by_a_delegate_is_due_before_the_delegates_end`, `proof_file::a_proof_is_due_before_its_end_by_a_part_of_what_is_left` |
//! | and if what is there is no good proof for the certificate, as after a renewal (ours: the time alone would leave the new certificate without for days) | `ocsp_fetch::what_lies_there_is_due_at_once_if_it_is_no_proof_for_the_certificate` |
//! | nothing but a good answer takes the old file's place, and a failure says why | `ocsp_fetch::whatever_the_responder_does_the_old_proof_stays_and_the_reason_is_told`, `ocsp_fetch::what_is_asked_wrongly_is_refused_before_anybody_is_asked` |
//! | written beside its place and renamed; mode and owner stay; two runs do not disturb each other | `ocsp_fetch::mode_and_place_of_the_old_file_are_kept`, `proof_file::a_run_that_is_writing_is_not_disturbed_and_what_a_killed_one_left_is_used_again` |
//! | the certificate's own responder, `http_proxy`, openssl's responder and check | `ocsp_fetch::the_responder_is_the_one_that_the_certificate_names`, `ocsp_fetch::the_proxy_of_the_environment_is_asked_for_the_whole_url`, `ocsp_fetch::openssls_responder_is_understood_and_openssl_verifies_the_file` |
//! | options as getopt reads them | `ocsp_fetch::letters_may_stand_together_and_a_value_at_its_letter`, `ocsp_fetch::options_are_read_and_what_is_wrong_is_named` |
//!
//! # Client
//!
//! | row | what holds | tests |
//! |---|---|---|
//! | C1 | asked for by default, its absence stops nothing; not asked for: the ClientHello has no status_request | `tls_client::the_client_hello_carries_status_request_only_when_it_is_asked_for`, `tls_client::not_requested_means_that_the_server_is_not_asked`, `tls_client::no_staple_is_refused_where_it_is_required_and_let_through_where_it_is_requested`, `tls_client::an_expired_staple_does_not_stop_a_delivery_that_only_requests_one`; with DANE: `dane_daemon::a_status_is_asked_for_unless_the_leaf_alone_is_in_dns_and_nobody_said_otherwise` |
//! | C2 | text and number of the error, the next host, never clear text | `tls_daemon::a_host_without_a_good_staple_is_passed_over_for_the_next_and_nothing_goes_in_clear`, `tls_client::a_revoked_certificate_is_refused_as_revoked`, `7-tls/ocsp_client`, `7-tls/require_tls`, `interop::oxim_defers_to_an_exim_that_staples_nothing` |
//! | C3 | without verification never 4; the check warns | `tls_client::without_trust_or_verification_a_good_staple_is_not_called_verified`, `tls_daemon::the_check_of_a_configuration_warns_of_a_required_status_that_nothing_can_satisfy`, `warnings::a_required_status_without_verification_or_required_tls_is_warned_of` |
//! | C4 | GnuTLS's whole verdict and ours | see below; `tls_client::a_good_staple_does_not_help_a_certificate_of_an_untrusted_authority`, `tls_client::a_must_staple_certificate_without_a_good_staple_is_not_verified`, `tls_client::a_certificate_for_another_host_is_not_verified` |
//! | C4, chains | with TLS 1.3 what is stapled for the certificates above the leaf has to be as good | `tls_chain::good_proofs_of_leaf_and_intermediate_are_verified`, and the table of chains below |
//! | C5 | `$tls_out_ocsp`, the selector `tls_ocsp` | `tls_daemon::the_state_of_the_status_is_in_variables_and_lines_under_both_versions` |
//! | C6 | a session that is gone on with keeps its verdict, up to the end of what it was found good by, and never serves another requirement or other files | `tls_resumption::a_resumed_session_keeps_its_verdict_in_both_versions`, `tls_resumption::past_the_end_of_its_proof_a_whole_handshake_is_made`, `tls_resumption::a_requirement_is_never_met_by_the_session_of_a_lesser_one`, `tls_resumption::replaced_trust_ends_what_was_verified_with_it`, `tls_resumption::a_refused_session_is_not_kept`, `tls_resumption::without_the_option_nothing_is_kept`, `tls_resumption::oxims_server_resumes_only_where_it_offers_it_and_keeps_the_clients_verdict`, `resume::a_session_is_used_once_for_its_purpose_and_as_long_as_what_it_was_found_good_by`, `resume::what_is_kept_is_bounded`, `resume::a_ticket_key_lives_six_hours_and_is_not_shared_between_wishes`, `7-tls/resumption_server`, `7-tls/resumption_client` |
//! | C7 | a failed check of certificate or status is recorded by host and requirement, where a status or DANE is required | `tls_retry::a_failed_status_check_does_not_hold_back_deliveries_that_do_not_require_it`, `tls_retry::the_next_host_is_tried_and_the_record_says_which_host_and_requirement_it_is_about`, `dane_daemon::a_failure_of_dane_holds_back_only_who_asks_for_dane` |
//! | B1, B2, B3 | the matrix of GnuTLS versions, and without OCSP | `tls_without_ocsp::a_certificate_is_verified_and_its_status_is_never_asked`, `tls_without_ocsp::nothing_is_stapled_to_who_asks`, `info::options_of_certificate_status_are_unknown_where_it_is_compiled_out`, `info::the_version_has_the_lines_of_exim_4_97_and_claims_only_what_works`; `vendor-check/run` |
//!
//! # What may be stapled to a client (measured with GnuTLS 3.7.9)
//!
//! | staple | GnuTLS alone | here | test |
//! |---|---|---|---|
//! | none | nothing said | refused if required | `tls_client::no_staple_is_refused_where_it_is_required_and_let_through_where_it_is_requested` |
//! | good: by the issuer, its certificate inside or not, by its delegate, CertID by SHA-256 | good | verified | `tls_client::a_good_staple_by_the_issuer_is_verified`, `tls_client::a_good_staple_with_the_issuers_certificate_inside_is_verified`, `tls_client::a_good_staple_by_a_delegate_is_verified`, `tls_client::a_good_staple_that_names_the_certificate_by_sha256_is_verified` |
//! | revoked, by a delegate, expired too | bad | refused as revoked | `tls_client::a_revoked_certificate_is_refused_as_revoked`, `tls_client::a_revoked_certificate_is_refused_as_revoked_when_the_delegate_says_so`, `tls_client::a_revocation_counts_though_its_proof_has_expired` |
//! | expired | bad | refused | `tls_client::an_expired_staple_is_refused` |
//! | no nextUpdate | good for 15 days | refused | `tls_client::a_staple_without_an_end_is_refused_whatever_its_age` |
//! | unknown | **good** | refused | `tls_client::an_unknown_status_is_refused_although_gnutls_accepts_it` |
//! | from the future | **good** | refused | `tls_client::a_staple_from_the_future_is_refused_although_gnutls_accepts_it` |
//! | tryLater, unauthorized (unsigned) | **good** | refused | `tls_client::unsigned_answers_of_a_responder_are_refused_although_gnutls_accepts_them` |
//! | another certificate's, the issuer's own | bad | refused | `tls_client::the_staple_of_another_certificate_is_refused`, `tls_client::a_serial_number_of_another_issuer_is_another_certificate` |
//! | truncated, random, PEM, bad signature | bad | refused | `tls_client::what_is_no_response_is_refused`, `tls_client::a_bad_signature_is_refused` |
//! | empty | breaks TLS 1.3 | never sent | `tls_client::an_empty_staple_is_none_and_breaks_no_handshake` |
//! | two entries, ours second | bad | not verified | `tls_client::a_staple_whose_first_entry_is_for_another_certificate_is_not_called_verified` |
//! | two entries, ours first; both ours, one revoked | the first counts | the worst counts | `tls_client::a_staple_with_entries_for_other_certificates_behind_ours_is_verified`, `tls_client::of_several_entries_for_the_certificate_the_worst_counts` |
//! | a delegate without the key purpose, or not inside | bad | refused | `tls_client::a_delegate_without_the_key_purpose_or_without_its_certificate_is_refused` |
//! | by an authority that is not trusted | bad | refused | `tls_client::a_staple_by_an_authority_that_is_not_trusted_is_refused` |
//! | by, or delegated by, any other trusted authority | **good** | refused | `tls_client::a_staple_by_another_trusted_authority_is_refused_although_gnutls_accepts_it` |
//!
//! # The other options of TLS
//!
//! | option | what holds | tests |
//! |---|---|---|
//! | `tls_require_ciphers` | a priority string, both sides; a wrong one is told with its place, `454` on the server | `7-tls/ciphers_server`, `7-tls/ciphers_client`, `7-tls/out_failures`, `priority::a_wrong_priority_string_is_refused_with_its_place` |
//! | `tls_verify_hosts`, `tls_try_verify_hosts`, `tls_verify_certificates` of the server | asked for, tried, required; `CV=`, `DN=`, `verify = certificate` | `7-tls/client_certificates` |
//! | the same and `tls_verify_cert_hostnames` of the client | file, directory, `system`, `system,cache`, neither option set; a change of the system's authorities is one | `7-tls/verify_client`, `7-tls/out_missing`, `trust::the_systems_authorities_are_followed_where_they_are_loaded` |
//! | the host lists of these, where they cannot be expanded | the panic log says so; TLS is offered all the same, nobody is favoured, and where a certificate may be required there is `454` | `9-options/host_lists_unexpandable` |
//! | `tls_certificate`, `tls_privatekey` of the client | shown if asked for; refused by the server, under TLS 1.3 at the first read | `7-tls/client_shows` |
//! | `tls_sni` | sent, in variables and lines; the server's certificate follows | `7-tls/sni_client` |
//! | `tls_alpn`, `hosts_require_alpn` | one name of ours, or none; required | `7-tls/alpn_server`, `7-tls/alpn_client`, `tls_options::a_protocol_name_that_is_required_has_to_be_agreed_on_even_if_none_is_offered` |
//! | `tls_dhparam`, `tls_dh_max_bits`, `tls_dh_min_bits` | names, `none`, `historic`, files, files that are made | `7-tls/dhparam`, `7-tls/dhparam_made`, `7-tls/dh_min_bits`, `7-tls/dh_too_small`, `dh::every_group_of_the_table_is_a_group_to_gnutls_and_has_the_bits_of_its_document`, `dh::old_groups_are_warned_of_and_the_weakest_in_the_panic_log`, `dh::a_file_that_is_not_there_is_made_once_but_not_by_a_check` |
//! | `tls_tempfail_tryclear` | after a refusal and after a handshake that failed | `7-tls/starttls_refused_by_server`, `7-tls/tryclear` |
//! | `tls_remember_esmtp`, `tls_on_connect_ports` | | `7-tls/remember_esmtp`, `7-tls/on_connect_ports`, `7-tls/tls_on_connect` |
//! | `tls_early_banner_hosts` | the banner comes before the client's part of a TLS 1.3 handshake, never where its certificate matters | `tls_options::the_banner_comes_early_where_tls_early_banner_hosts_says_so` |
//! | `gnutls_compat_mode` | both sides | `7-tls/compat_mode`, `tls_options::in_compatibility_mode_a_client_takes_a_certificate_that_is_made_for_something_else` |
//! | `hosts_nopass_tls`, `hosts_noproxy_tls` | a session with TLS serves one message | `kept_connections::a_tls_session_serves_one_message_where_the_options_say_so_and_a_clear_one_more` |
//! | `tls_eccurve` | without effect, as with any Exim that is built with GnuTLS; it is not even expanded | `7-tls/eccurve` |
//! | `hosts_verify_avoid_tls` | without effect: it acts on callouts and cutthrough delivery, and an ACL that asks for one of them is refused | `7-tls/verify_avoid_tls`, `acl::hosts_verify_avoid_tls_is_without_effect_as_long_as_what_it_acts_on_is_refused` |
//! | `gnutls_allow_auto_pkcs11` | `pkcs11:` URLs for certificates and keys, on both sides; without it no module is loaded, and with it only where one is asked for | `7-tls/tokens`, `tls_tokens::a_certificate_from_a_token_is_shown_with_its_chain_and_its_proof_and_the_key_stays_there`, `tls_tokens::a_key_in_a_token_serves_a_certificate_in_a_file_and_many_threads_at_once`, `tls_tokens::a_client_shows_a_certificate_from_a_token`, `tls_tokens::without_gnutls_allow_auto_pkcs11_no_module_is_loaded_and_the_log_names_the_option`, `tls_tokens::where_no_token_is_named_no_module_is_loaded_though_it_might_be`, `tls_tokens::a_url_whose_colons_are_not_doubled_is_told_with_the_cure` |
//! | `$tls_*`, `${certextract`, `encrypted`, lines of rejections | | `7-tls/variables`, `7-tls/certextract`, `7-tls/certextract_errors`, `7-tls/encrypted`, `7-tls/rejections` |
//!
//! # Other programs at the other end
//!
//! Each under TLS 1.2 and under TLS 1.3.
//!
//! | who | tests |
//! |---|---|
//! | gnutls-cli and `openssl s_client` before oxim's server | `interop::gnutls_cli_is_content_with_the_staple`, `interop::openssl_sees_and_verifies_the_staple_under_both_versions` |
//! | Debian's exim4 with `hosts_require_ocsp` before oxim's server: with a staple, and without | `interop::exim_sends_to_oxim_and_requires_its_staple`, `interop::exim_defers_to_an_oxim_that_has_nothing_to_staple` |
//! | oxim with `hosts_require_ocsp` before exim4: with a staple, and without | `interop::oxim_sends_to_exim_and_requires_its_staple`, `interop::oxim_defers_to_an_exim_that_staples_nothing` |
//! | oxim with `hosts_require_ocsp` before `openssl s_server -status_file`, whose answers are openssl's own: good; revoked, unknown, expired, another certificate's, none | `interop::oxim_sends_to_an_openssl_server_whose_staple_is_good`, `interop::oxim_refuses_an_openssl_server_with_any_other_staple_before_it_says_a_word` |
//!
//! # DANE (RFC 7671, RFC 7672)
//!
//! Which records demand what stands in `src/tls/dane.rs`, what the options make of the answers of the DNS in the table of
//! `src/transport/smtp/dane.rs`. There is no libdane in this: it brings
//! libunbound, a second resolver with limits and a root key of its own, into every process that speaks TLS. The answers are
//! those of the resolver that resolv.conf names, and they count as genuine only where that file has `trust-ad`
//! (resolv.conf(5)): which says that the resolver verifies, and that the way to it is safe, as it is to one on this host.
//!
//! | what holds | tests |
//! |---|---|
//! | DANE-EE: certificate or key, whole or by digest; neither name nor issuer nor time counts | `tls_dane::a_leaf_is_known_by_each_selector_and_matching_type`, `tls_dane::of_a_leaf_in_dns_neither_name_nor_issuer_nor_time_counts`, `7-tls/dane_try` |
//! | DANE-TA: an authority that was sent, or stands whole in the record; the way to it and the name count, and nothing that only lies beside it | `tls_dane::an_authority_is_known_by_each_selector_and_matching_type_wherever_it_stands_in_the_chain`, `tls_dane::an_authority_that_was_not_sent_is_trusted_only_if_it_stands_whole_in_the_record`, `tls_dane::under_an_authority_the_name_counts`, `tls_dane::a_certificate_that_was_sent_beside_the_chain_anchors_nothing`, `tls_dane::a_leaf_is_not_its_own_authority` |
//! | one record that fits is enough; unusable ones are passed over; the stronger of two digests decides | `tls_dane::while_keys_are_rolled_over_one_record_that_fits_is_enough`, `tls_dane::usages_that_need_public_authorities_are_unusable_and_others_beside_them_count`, `tls_dane::of_two_digests_of_the_same_kind_the_stronger_decides`, `dane::only_records_that_smtp_can_use_are_used`, `dane::the_stronger_digest_of_the_same_thing_counts_and_whole_data_besides` |
//! | no secure address, no secure records, none at all: as without DANE, or the address fails where DANE is required; records that cannot be had now defer the host, those that cannot be used demand TLS | `7-tls/dane_try`, `7-tls/dane_require`, `7-tls/dane_without_starttls`, `stub::tlsa_records_are_found_at_the_end_of_an_alias_whose_name_is_told` |
//! | unusable records leave the certificate to `tls_verify_hosts` and its kin | `dane_daemon::records_that_cannot_be_used_demand_tls_and_leave_the_certificate_to_the_options` |
//! | the resolver's word counts only with `trust-ad`; the check warns of `hosts_require_dane` without it | `stub::without_trust_in_the_name_server_nothing_is_secure_and_its_word_is_not_asked_for`, `warnings::required_dane_is_warned_of_where_no_name_server_is_trusted`, `7-tls/dnssec_untrusted` |
//! | `dnssec_request_domains`, `dnssec_require_domains`; aliases; MX look-ups; `hosts` of the transport | `7-tls/dnssec_domains` |
//! | witness: `openssl s_client` takes and refuses the same of 196 pairs of a chain and records; exim4 in the parity cases | `tls_dane::openssl_takes_the_same_chains_by_the_same_records` |
//! | `dane_require_tls_ciphers`, and the options that DANE takes the place of | `7-tls/dane_options` |
//! | TLS from the first byte; names with a dot at the end | `dane_daemon::tls_from_the_first_byte_is_judged_as_well`, `dane_daemon::a_host_that_is_written_with_a_dot_at_its_end_is_asked_for_without` |
//! | status: asked for and verified by the chain that the records vouch for; a revocation and the promise of must-staple count under an authority | `tls_dane::a_staple_is_verified_by_the_chain_that_the_records_vouch_for`, `tls_dane::a_must_staple_certificate_has_to_keep_its_word_under_an_authority_only` |
//! | neither a kept connection nor a session that is gone on with serves another demand; each domain has its connection | `dane_daemon::a_connection_is_kept_for_the_same_demand_of_the_dns_and_no_other`, `dane_daemon::under_dane_each_domain_has_a_connection_of_its_own`, `tls_dane::sessions_are_gone_on_with_under_the_same_records_only_and_judged_again`, `dane::who_demands_the_same_in_another_order_is_equal` |
//!
//! # What may be stapled for a chain (leaf, intermediate; measured with GnuTLS 3.7.9)
//!
//! TLS 1.2 carries the leaf's alone.
//!
//! | staples | GnuTLS alone | here | test |
//! |---|---|---|---|
//! | leaf good, intermediate good | good | verified | `tls_chain::good_proofs_of_leaf_and_intermediate_are_verified` |
//! | leaf good, intermediate none | good | verified | `tls_chain::what_is_not_stapled_for_an_intermediate_is_not_missed` |
//! | leaf good, intermediate revoked | bad, yet "checked" | refused as revoked | `tls_chain::a_revoked_intermediate_is_a_revocation_although_the_leaf_is_good` |
//! | leaf good, intermediate expired; **unknown, from the future, tryLater** | bad; **good** | refused if required | `tls_chain::an_unfit_proof_of_the_intermediate_is_a_failed_state` |
//! | leaf good, the intermediate's by the root, named by its key, without its certificate | bad (it does not find the signer) | not verified | `tls_chain::an_intermediates_proof_whose_signer_gnutls_cannot_find_leaves_the_state_unverified` |
//! | leaf none, expired, another's; intermediate good | "checked" | refused if required | `tls_chain::a_good_proof_of_the_intermediate_does_not_make_up_for_the_leafs` |
//! | must-staple intermediate and leaf: both, one, none; TLS 1.2 | good with both, under 1.3 | the same | `tls_chain::a_must_staple_intermediate_needs_its_proof_and_so_tls_1_3` |
//! | must-staple intermediate, plain leaf | bad | not verified | `tls_chain::a_certificate_that_promises_less_than_its_must_staple_issuer_is_not_verified` |
//! | leaf sent without its intermediate | bad | not verified | `tls_chain::a_leaf_without_its_intermediate_is_not_verified_whatever_is_stapled` |
//!
//! # Revocation lists
//!
//! | what holds | tests |
//! |---|---|
//! | a list is believed if it is complete, signed by the issuer, and in time | `crl::a_list_of_the_issuer_tells_who_is_revoked_and_since_when`, `crl::a_list_of_another_issuer_or_with_a_bad_signature_is_refused`, `crl::a_list_that_is_not_complete_proves_nothing`, `crl::a_list_of_a_part_speaks_only_of_its_part`, `crl::the_times_of_a_list_are_those_of_a_proof`, `crl::a_weak_signature_algorithm_is_refused` |
//! | a list costs its bytes and four more for each entry, and time in proportion (GnuTLS 3.7.9: 164 s and 310 MB for 100,000 entries) | `crl::half_a_million_entries_are_read_and_asked_in_a_moment` |
//! | `tls_crl` of the client: revoked, unfit, no list, a directory; followed within a second | `tls_revocation::a_server_whose_certificate_a_list_names_is_refused_as_revoked`, `tls_revocation::a_list_that_proves_nothing_does_not_pass_for_one_that_revokes_nobody`, `tls_revocation::an_old_list_still_revokes_and_a_newer_one_beside_it_still_vouches`, `tls_revocation::of_an_issuer_without_a_list_nothing_is_said`, `tls_revocation::a_certificate_with_its_issuers_own_name_does_not_keep_lists_from_being_asked`, `tls_revocation::an_authority_does_not_hide_behind_another_certificate_of_its_name_and_key`, `tls_revocation::the_issuer_of_a_certificate_whose_weak_signature_is_allowed_is_asked_for_its_list_too`, `tls_revocation::a_directory_of_lists_in_pem_and_der_is_read_and_followed`, `tls_revocation::a_list_that_cannot_be_used_does_not_pass_for_none`, `tls_revocation::a_list_of_a_directory_that_is_spoilt_stays_in_use_as_it_was`, `tls_revocation::a_directory_with_more_files_than_are_read_is_an_error` |
//! | `tls_crl` of the server | `tls_revocation::a_client_whose_certificate_a_list_names_is_refused_as_revoked`, `tls_revocation::a_server_uses_a_replaced_list_within_a_second`, `7-tls/crl_server` |
//! | `hosts_require_status`: a good staple, or a list; a revocation in either counts | `tls_revocation::a_status_may_be_a_staple_and_a_revocation_in_either_counts`, `tls_revocation::a_status_may_be_a_list_of_tls_crl`, `tls_revocation::a_list_of_another_part_is_no_status` |
//! | lists are fetched where a verified certificate says; until one is there the host waits | `tls_revocation::a_list_that_is_not_there_yet_is_asked_for_and_the_next_attempt_succeeds`, `tls_revocation::nothing_is_asked_for_at_the_word_of_a_certificate_that_is_not_verified`, `tls_crl_fetch::the_first_attempt_waits_for_the_list_and_a_later_one_succeeds`, `tls_crl_fetch::a_revoked_server_gets_nothing_and_a_dead_address_is_told` |
//!
//! # The staple keeper
//!
//! What it does in each kind of trouble stands in [the fault table](super::fault_table), each cell with its test.
//!
//! | what holds | tests |
//! |---|---|
//! | usable is not due: asked at half of the life, by chance up to a fifth earlier; past half it is stapled while the responder is down | `schedule::a_new_proof_is_due_at_half_of_its_life_or_a_little_earlier`, `schedule::usable_is_not_due`, `keeper_runner::a_proof_is_fetched_told_stored_and_served_after_a_start_while_the_responder_is_down` |
//! | pauses after failures double up to an hour, and never end after the proof in hand | `schedule::pauses_after_failures_double_up_to_an_hour_and_begin_anew_after_a_success`, `schedule::a_proof_for_years_is_asked_for_again_within_a_week` |
//! | what is stored is checked again, and belongs to one certificate | `keeper_runner::what_lies_in_the_store_is_checked_again_and_never_given_to_another_certificate`, `keeper_engine::what_the_store_had_is_told_at_once_and_asked_for_when_it_is_due` |
//! | a disk that fails loses nothing | `keeper_runner::a_disk_that_fails_loses_no_proof_and_is_told_once`, `store::a_failed_write_leaves_what_was_there_and_no_rubbish` |
//! | a revocation takes the place of the proof; an older answer does not undo it | `keeper_runner::a_revocation_takes_the_place_of_the_proof_on_the_disk`, `keeper_engine::a_revocation_takes_the_place_of_the_proof_and_an_older_good_answer_does_not_undo_it` |
//! | one responder that hangs delays no other; two questions at once at each, 64 in all | `keeper_runner::two_questions_at_once_are_the_most_for_a_responder_and_one_that_hangs_delays_no_other`, `queue::one_responder_that_hangs_delays_no_other`, `queue::any_number_of_responders_that_hang_leaves_room_for_those_that_answer` |
//! | no responder: nothing to do, nothing said; the configured one wins | `keeper_engine::a_certificate_without_a_responder_is_nothing_to_do_and_nothing_is_said`, `keeper_runner::the_configured_responder_wins_over_the_certificates_own` |
//! | GET up to 255 bytes, else POST; `http_proxy`; IPv6 | `http::the_longest_get_has_255_bytes`, `keeper_runner::a_long_question_goes_by_post_over_a_proxy_it_names_the_whole_url_and_ipv6_is_spoken` |
//! | one question for each connection, openssl's responder among those asked (1,000 times in `make check-long`) | `keeper_runner::openssls_responder_is_asked_many_times_and_every_answer_is_understood` |
//! | a thousand certificates within bounds of memory, connections and work | `keeper_scale::a_thousand_certificates_are_kept_for_weeks_within_bounds_of_memory_connections_and_work`, `keeper_scale::the_proofs_of_many_virtual_hosts_are_fetched_by_few_threads_over_few_connections`, `keeper_scale::there_is_an_end_to_what_is_looked_after_and_whoever_is_refused_is_told` |
//! | revocation lists on the same schedule, four at once | `keeper_runner::a_revocation_list_is_fetched_checked_stored_and_told_from_the_disk_to_who_comes_later` |
//! | a clock that is set does no harm | `keeper_engine::a_clock_that_is_set_back_by_years_and_forth_again_does_no_harm` |
//!
//! # Seen by the administrator
//!
//! | what holds | test |
//! |---|---|
//! | `--certificates` tells each certificate with its proof, or why there is none; a certificate is told once it was shown | `certificates::each_certificate_is_told_with_its_proof_or_why_there_is_none`, `certificates::certificates_are_listed_once_they_were_shown`, `standing::the_proof_that_may_be_shown_longer_is_told_of_with_all_its_sources` |
//! | what the keeper fetched or failed to fetch, its attempts, its next one | `certificates::what_the_keeper_fetched_is_told_with_its_attempts_and_counted_over_its_death`, `certificates::a_responder_that_fails_is_told_with_its_reason_and_counted` |
//! | the revocation lists in use | `certificates::revocation_lists_in_use_are_listed_and_counted_down` |
//! | administrators alone are told, by the daemon's own judgement | `certificates::only_an_administrator_is_told_and_only_by_a_daemon` |
//! | the numbers are OpenMetrics to the letter, and have handshakes by version and verdict as server and as client | `admin::handshakes_are_counted_by_version_and_by_what_came_of_them`, `certificates::the_numbers_have_each_certificates_proof_and_the_verdicts_of_handshakes`, `certificates::deliveries_over_tls_are_counted_by_version_and_verdict_too`, `admin::the_reader_of_the_tests_refuses_what_breaks_the_format` |
//! | no counter goes back, no reload leaves a collector without an answer | `admin::messages_are_counted_and_the_counts_outlive_workers_and_reloads`, `admin::a_reload_never_leaves_a_collector_without_an_answer` |
//! | only this host is told | `place::a_path_or_a_loopback_port_is_a_place_and_nothing_that_others_can_reach`, `admin::a_place_for_the_numbers_that_cannot_be_is_refused_with_its_cure` |
//!
//! # Peers that mean harm
//!
//! | what | test |
//! |---|---|
//! | text sent with STARTTLS, or after `go ahead` in clear | `tls_hostile::what_is_sent_with_starttls_is_an_error_and_never_a_command` |
//! | clear text after close_notify, in BDAT too | `tls_hostile::what_follows_the_end_of_tls_in_clear_is_not_answered`, `tls_stream::what_follows_close_notify_in_clear_is_never_read` |
//! | a handshake that stalls, drips or floods | `tls_hostile::a_handshake_that_stalls_or_drips_ends_with_smtp_receive_timeout`, `tls_stream::a_peer_that_drips_its_handshake_cannot_put_off_its_end`, `transport::what_is_there_is_taken_at_the_deadline_but_not_long_after_it` |
//! | certificates whose keys take seconds for each signature, in a chain or a proof | `tls_slow_keys::a_chain_of_slow_keys_costs_no_more_than_gnutls_itself_takes`, `tls_slow_keys::a_proof_with_slow_keys_inside_is_not_signed_by_anybody` |
//! | a peer that never reads | `tls_stream::a_peer_that_stops_reading_makes_writes_time_out`, `tls_stream::after_a_write_that_timed_out_nothing_more_is_sent` |
//! | an end without close_notify, a reset, or what is no record, between commands and within the text: Exim's lines | `7-tls/lost_in_tls` |
//! | renegotiation | `tls_hostile::renegotiation_is_refused` |
//! | nonsense and 64 KiB of it as a ClientHello | `tls_hostile::hellos_without_sense_or_measure_are_refused` |
//! | a reset in any phase | `tls_hostile::a_reset_in_any_phase_costs_only_its_own_session` |
//! | many sessions at once, many after each other | `tls_hostile::handshakes_count_as_connections_and_the_limit_holds`, `tls_hostile::two_thousand_handshakes_good_and_bad_leave_memory_and_threads_as_they_were` |
