//! Who runs as whom, and what each could do if it were taken over.
//!
//! | process | uid | reads | if an attacker ran code in it |
//! |---|---|---|---|
//! | master | root | its configuration, fixed-size orders | everything; so it reads no mail, no network, no lookup |
//! | SMTP worker | oxim | the network, the spool | can read and forge queued mail, and write to the logs (and where a constant `tls_dhparam` names a file that is not there yet, in that directory); nowhere else (Landlock: `process::confinement`); cannot order a user child |
//! | delivery worker | oxim | the spool, other servers' replies | can act as any user for whom a router or transport of the configuration may run, never as root or one of `never_users` |
//! | staple keeper | a user of its own (KEEPER_USER) | responders' answers | can fill its store, and keep proofs from being fetched; what it hands on is checked again, it sees neither configuration nor mail, and with Landlock it writes nowhere else and reads nothing of the spool |
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
//! A role is executed with root's rights and gives them up itself, before it hears anything: the kernel then keeps
//! others of the same uid out of its memory from the first moment. (A process that gets its uid before `exec` can be
//! looked into until it forbids that, by whoever broke into the other worker.)
//!
//! # Orders
//!
//! The user child holds an order against the master's configuration before it becomes anybody.
//!
//! - The way: the router hands addresses to that transport (`transport`, a rule of manualroute, `file_transport` ...).
//! - The user: a fixed `user` literally; `check_local_user`: anyone in the user data base, with the primary group; an
//!   expanded `user`: anyone but root, `never_users` and oxim.
//! - Groups: a fixed `group` literally; an expanded one: the user's primary one or one from 1000 on, never a system group;
//!   supplementary groups: the user's own, and only where `initgroups` is set.
//! - Paths: a fixed `file`, `directory` or `command` (its whole path) literally; of one that is expanded, what is written
//!   around its variables, without `..`. A list is read where `file` says, or where it may `:include:`.
//! - Modes and switches of appendfile: as they are written.
//!
//! What a variable stands for is not foretold, nor is a path that comes from a .forward: there the user's own rights are
//! the limit.
//!
//! # The staple keeper
//!
//! Where `tls_ocsp_fetch` asks for it, one process of each configuration generation fetches proofs and revocation lists.
//! It reads what strangers send, so it has a uid of its own, no supplementary group, and neither the configuration (which
//! may hold passwords) nor any socket but its links. A root's daemon without that user runs without a
//! keeper, and a keeper whose store is somebody else's, or gone, works without one (so whoever can spoil the store stops
//! nothing by it); both are told with the cure. Without root all is one uid, and Landlock alone keeps it from the spool. Its store is `ocsp/` below the spool directory (mode 2750, oxim's group reads it): root makes it through
//! descriptors, and gives away only what it has just made.
//!
//! It is linked with the workers by pairs of sockets. The master alone makes them and hands over both ends, and another
//! pair after a death on either side, or to a worker that asks since its own was cut: nobody need ask who is at the
//! other end, and there is no socket in the file system that somebody could put another one in place of. Neither end
//! believes the other. What is long travels in sealed memfds of bounded length; a flood or nonsense ends the link,
//! which comes again after pauses that grow up to an hour; text for logs is one line; what was found is checked by
//! `ocsp::registry` before it is stapled; and nobody waits for it but a start with a must-staple certificate, ten
//! seconds, and the first clients of one that was loaded later, five seconds for each certificate in all.
//! The master waits for it never.
//!
//! # Modules of tokens
//!
//! With `gnutls_allow_auto_pkcs11`, GnuTLS loads the system's PKCS#11 modules into a worker that is to show a certificate
//! out of a token: the SMTP worker for a server's, the delivery worker for a client's. They are foreign code with all that
//! the worker may, and may need to write (locks, a device), so the SMTP worker is then not confined by Landlock. The key
//! stays in the token; who has taken the worker over can have it sign as long as that lasts, and cannot take it along.
//! Without the option no process loads a module; master, staple keeper and user children never do.
//!
//! # Bounds
//!
//! Nobody can have all of anything for ever. A uid has a third of the places at the submission socket, a tenth is kept
//! for root and oxim, the rest wait in line. A uid has 24 of the 32 threads of the delivery worker; an order has a time
//! that follows from what it does, a user child one of some hours, a child that writes a line for the master one of
//! seconds. Files that others may have put there are opened without waiting, so that a FIFO stops nobody. A thread that
//! a role cannot do without ends the role when it dies; the master starts it anew.
//!
//! # What shows it
//!
//! | claim | test |
//! |---|---|
//! | roles have given up root before they do anything | `every_role_runs_as_oxim_and_a_message_goes_all_the_way`, `rights_once_given_up_do_not_come_back` |
//! | nobody of the same uid looks into a role | `others_of_oxims_uid_never_look_into_a_role_not_even_while_it_starts` |
//! | an SMTP worker orders nothing | `an_smtp_worker_that_orders_a_user_child_is_killed_and_nothing_it_says_counts_any_more` |
//! | no role holds the master | `a_role_that_floods_the_master_is_killed`, `a_child_that_never_ends_is_given_up`, `descriptors_that_do_not_fit_are_refused_and_none_stays_open` |
//! | orders are for whom the configuration names | `nobody_but_whom_the_configuration_names_is_ever_acted_as`, `no_group_is_had_that_the_configuration_does_not_give`, `the_number_that_changes_nothing_is_no_user` |
//! | ... and for what it names | `a_path_has_the_shape_that_is_written`, `an_order_of_another_mode_or_switch_than_the_configurations_is_refused`, `what_a_list_includes_is_read_where_the_configuration_allows_it`, `a_fixed_command_is_meant_with_its_whole_path` |
//! | a user child is one identity's and ends with its orders | `a_child_serves_one_identity_and_ends_when_no_more_orders_come` |
//! | every order ends, and one user has not all threads | `every_order_has_an_end`, `a_child_that_nobody_waits_for_any_more_is_ended_whatever_its_user_does`, `one_uid_whose_orders_do_not_end_leaves_places_to_all_others` |
//! | a FIFO stops nobody | `a_fifo_in_place_of_a_forward_file_or_a_directory_stops_nobody`, `a_fifo_stops_no_reader` |
//! | no name out of a message leads out of a mailbox | `no_name_that_a_message_may_choose_leads_out_of_the_mailbox` |
//! | one user has not all submissions | `a_user_who_fills_the_submission_socket_stops_no_other`, `one_uid_never_takes_the_places_of_others_and_root_gets_in_after_all` |
//! | nobody who asks for numbers keeps others away, or hangs | `clients_that_say_nothing_or_too_much_do_not_keep_others_away`, `a_file_that_is_too_short_or_could_become_so_is_not_mapped` |
//! | certificates are told to administrators alone | `only_an_administrator_is_told_and_only_by_a_daemon` |
//! | the staple keeper has a uid of its own and nothing but its store | `as_root_the_keeper_has_a_uid_of_its_own_without_groups_and_only_its_store_is_its`, `who_fetches_proofs_has_no_right_to_spool_or_mail_and_nobody_else_runs_as_it`, `what_is_confined_reads_nothing_of_the_spool_and_writes_only_to_the_store`, `without_its_user_mail_flows_and_the_daemon_says_what_to_do`, `a_store_that_cannot_be_used_stops_neither_mail_nor_stapling_and_the_daemon_says_what_to_do` |
//! | it is linked with its own generation's workers alone | `a_role_that_begins_is_linked_with_the_keeper_of_its_generation_and_with_nobody_else` |
//! | what it says is bounded and checked, and nobody waits for it | `what_the_keeper_tells_is_heard_and_a_flood_or_nonsense_ends_it`, `a_keeper_that_does_not_read_holds_nobody_up_and_loses_nothing`, `nothing_else_is_read`, `a_report_cannot_break_the_line_of_a_log`, `what_proves_nothing_is_not_taken`, `what_an_earlier_run_has_stored_is_stapled_at_the_first_handshake_if_it_holds` |
//! | what it is told is bounded | `a_worker_that_sends_nonsense_or_too_much_is_not_heard_any_more_and_the_others_are`, `lengths_and_descriptors_that_do_not_fit_are_refused` |
//! | dead, it stops nothing | `a_keeper_that_cannot_begin_stops_nothing_and_a_start_does_not_wait_for_it`, `a_killed_keeper_stops_neither_stapling_nor_mail_and_the_next_one_goes_on` |
//! | modules of tokens are loaded where one is asked for, and with the option alone | `a_certificate_from_a_token_is_shown_with_its_chain_and_its_proof_and_the_key_stays_there`, `without_gnutls_allow_auto_pkcs11_no_module_is_loaded_and_the_log_names_the_option`, `where_no_token_is_named_no_module_is_loaded_though_it_might_be`, `a_configuration_whose_writes_nobody_foresees_is_not_confined` |
//! | `--role` is for the master alone | `a_role_cannot_be_started_by_hand` |
//! | a set-uid start forgets what its caller prepared | `a_callers_timers_signals_and_limits_are_forgotten` |
//! | a panic ends one connection or message, or the role | `beyond_the_limit_a_connection_hears_421_and_a_panic_ends_only_its_own`, `a_panic_frees_its_place_and_is_told`, `a_process_whose_vital_thread_dies_does_not_linger`, `a_fault_in_hearing_costs_the_link_and_the_next_one_is_taken_up` |
//!
//! # What remains
//!
//! The workers share one uid, so a taken-over SMTP worker can write into the queue, the logs and the hints, and end the
//! other worker (the master starts it again); what it writes is delivered by the rules of the configuration, as mail that
//! came over SMTP would be. It cannot name a recipient's program or file: those come from the configuration, which the
//! master reads by itself.
//!
//! Every role, the staple keeper too, has the memory of the counters that `openmetrics_listen` shows, and can write what
//! it likes there: numbers may lie after a break-in, and nothing but a reader of numbers believes them. The memory's
//! size is sealed, so that no role ends another by cutting it off. Whoever connects to the numbers is read with a limit
//! and a deadline, and only on this host; a few are served at once, and who has been there longest gives way.
//!
//! A taken-over worker can have the staple keeper ask for what it likes: it makes certificates that name URLs of its choice,
//! and the keeper sends a question (GET or POST, over HTTP) to each, at most [`crate::ocsp::registry::MAX_ENTRIES`] of them at
//! a time, as the schedule allows. But a worker has the network anyway; what it gains is the keeper's address of origin,
//! which is the same host's. It hears of the answers only what passes the check.
//!
//! A taken-over keeper can hold back proofs until those in hand end, hand out old ones that are still in time, and connect to
//! whom it likes. It cannot make a proof: that takes the authority's key. With `hosts_require_status` it can defer mail by
//! holding back lists.
//!
//! A taken-over delivery worker can read a local user's files where a router reads that user's .forward and the list may
//! `:include:` (`forbid_include` ends that), and write into them where a transport takes its path from a .forward.

#[cfg(test)]
mod tests {
    use std::path::Path;

    fn sources(directory: &Path, into: &mut String) {
        for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                sources(&path, into);
            } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with(file!()) {
                into.push_str(&std::fs::read_to_string(&path).unwrap());
            }
        }
    }

    #[test]
    fn every_claim_names_tests_that_exist() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut all = String::new();
        ["src", "tests"].iter().for_each(|name| sources(&root.join(name), &mut all));
        let rows = include_str!("privileges.rs").split("# What shows it").nth(1).unwrap();
        let rows = rows.split("# What remains").next().unwrap();
        let tests: Vec<&str> = rows.split('`').skip(1).step_by(2).filter(|name| name.contains('_')).collect();
        assert!(tests.len() > 20, "{tests:?}");
        for test in tests {
            assert!(all.contains(&format!("fn {test}()")), "no test {test}");
        }
    }
}
