//! Options of transports: generic ones, and those of each driver.
//!
//! Specification: chapters "Generic options for transports" and those of the drivers.

use crate::config::option::Kind::{
    AddressList, Bool, DomainList, Expanded, ExpandedBool, ExpandedInt, Group, HostList, Int, Octal,
    RewriteRules, Size, Text, Time, User,
};
use crate::config::option::{OptionDef, acts, no_effect, only_as, refuses};
use crate::config::{DriverDef, Options};

/// Every transport driver.
pub const DRIVERS: &[DriverDef] = &[
    DriverDef::built("appendfile", APPENDFILE).with_defaults(derive_appendfile),
    DriverDef::refused("autoreply", AUTOREPLY),
    DriverDef::refused("lmtp", LMTP),
    DriverDef::refused("pipe", PIPE).with_defaults(derive_pipe),
    DriverDef::refused("queuefile", QUEUEFILE),
    DriverDef::built("smtp", SMTP).with_defaults(derive_smtp),
];

const MBOX_PREFIX: &str = "From ${if def:return_path{$return_path}{MAILER-DAEMON}} ${tod_bsdinbox}\\n";

/// How the message is framed: a batch, one file each (no frame), or mbox.
fn derive_appendfile(options: &mut Options) {
    let one_file_each = options.bool("maildir_format")
        || options.bool("mailstore_format")
        || options.text("directory").is_some();
    if options.bool("use_bsmtp") {
        derive_batch(options);
    } else if !one_file_each {
        options.put_default("check_string", "From ");
        options.put_default("escape_string", ">From ");
        options.put_default("message_prefix", MBOX_PREFIX);
        options.put_default("message_suffix", "\\n");
    }
    if options.bool("mbx_format") {
        options.put_default("use_mbx_lock", "true");
        options.put_default("use_lockfile", "false");
    }
}

fn derive_pipe(options: &mut Options) {
    if options.bool("use_bsmtp") {
        derive_batch(options);
    } else {
        options.put_default("message_prefix", MBOX_PREFIX);
        options.put_default("message_suffix", "\\n");
    }
}

/// Batched SMTP: dots at line starts are doubled.
fn derive_batch(options: &mut Options) {
    options.put_default("check_string", ".");
    options.put_default("escape_string", "..");
}

fn derive_smtp(options: &mut Options) {
    options.put_default("retry_use_local_part", "false");
    let protocol = options.plain("protocol").unwrap_or_default();
    match protocol.as_slice() {
        b"smtps" => options.put_default("port", "smtps"),
        b"lmtp" => options.put_default("port", "lmtp"),
        _ => {}
    }
}

/// Options of every transport.
pub const GENERIC: &[OptionDef] = &[
    acts("body_only", Bool, "false"),
    acts("current_directory", Expanded, ""),
    acts("debug_print", Expanded, ""),
    acts("delivery_date_add", Bool, "false"),
    acts("disable_logging", Bool, "false"),
    acts("driver", Text, ""),
    acts("envelope_to_add", Bool, "false"),
    refuses("event_action", Expanded, ""),
    acts("group", Group, ""),
    acts("headers_add", Expanded, ""),
    acts("headers_only", Bool, "false"),
    acts("headers_remove", Expanded, ""),
    refuses("headers_rewrite", RewriteRules, ""),
    acts("home_directory", Expanded, ""),
    acts("initgroups", Bool, "false"),
    refuses("max_parallel", ExpandedInt, ""),
    acts("message_size_limit", Expanded, ""),
    acts("rcpt_include_affixes", Bool, "false"),
    acts("retry_use_local_part", Bool, "true"),
    acts("return_path", Expanded, ""),
    acts("return_path_add", Bool, "false"),
    refuses("shadow_condition", Expanded, ""),
    refuses("shadow_transport", Text, ""),
    refuses("transport_filter", Expanded, ""),
    refuses("transport_filter_timeout", Time, "5m"),
    acts("user", User, ""),
];

/// Private options of `appendfile`.
pub const APPENDFILE: &[OptionDef] = &[
    no_effect("*expand_maildir_use_size_file", Text, "", "only printed, as Exim does"),
    acts("allow_fifo", Bool, "false"),
    acts("allow_symlink", Bool, "false"),
    refuses("batch_id", Expanded, ""),
    refuses("batch_max", Int, "1"),
    acts("check_group", Bool, "false"),
    acts("check_owner", Bool, "true"),
    acts("check_string", Text, ""),
    acts("create_directory", Bool, "true"),
    acts("create_file", Text, "anywhere"),
    acts("directory", Expanded, ""),
    acts("directory_file", Expanded, "q${base62:$tod_epoch}-$inode"),
    acts("directory_mode", Octal, "0700"),
    acts("escape_string", Text, ""),
    acts("file", Expanded, ""),
    refuses("file_format", Text, ""),
    acts("file_must_exist", Bool, "false"),
    acts("lock_fcntl_timeout", Time, "0s"),
    refuses("lock_flock_timeout", Time, "0s"),
    acts("lock_interval", Time, "3s"),
    acts("lock_retries", Int, "10"),
    acts("lockfile_mode", Octal, "0600"),
    acts("lockfile_timeout", Time, "30m"),
    refuses("mailbox_filecount", Expanded, ""),
    refuses("mailbox_size", Expanded, ""),
    acts("maildir_format", Bool, "false"),
    refuses("maildir_quota_directory_regex", Text, "^(?:cur|new|\\..*)$"),
    acts("maildir_retries", Int, "10"),
    acts("maildir_tag", Expanded, ""),
    refuses("maildir_use_size_file", ExpandedBool, "false"),
    refuses("maildirfolder_create_regex", Text, ""),
    refuses("mailstore_format", Bool, "false"),
    refuses("mailstore_prefix", Expanded, ""),
    refuses("mailstore_suffix", Expanded, ""),
    refuses("mbx_format", Bool, "false"),
    acts("message_prefix", Expanded, ""),
    acts("message_suffix", Expanded, ""),
    acts("mode", Octal, "0600"),
    acts("mode_fail_narrower", Bool, "true"),
    refuses("notify_comsat", Bool, "false"),
    refuses("quota", Expanded, ""),
    refuses("quota_directory", Expanded, ""),
    refuses("quota_filecount", Expanded, ""),
    refuses("quota_is_inclusive", Bool, "true"),
    refuses("quota_size_regex", Text, ""),
    refuses("quota_warn_message", Expanded, ""),
    refuses("quota_warn_threshold", Expanded, ""),
    refuses("use_bsmtp", Bool, "false"),
    acts("use_crlf", Bool, "false"),
    acts("use_fcntl_lock", Bool, "true"),
    acts("use_flock_lock", Bool, "false"),
    acts("use_lockfile", Bool, "true"),
    refuses("use_mbx_lock", Bool, "false"),
];

/// Private options of `autoreply`.
pub const AUTOREPLY: &[OptionDef] = &[
    refuses("bcc", Expanded, ""),
    refuses("cc", Expanded, ""),
    refuses("file", Expanded, ""),
    refuses("file_expand", Bool, "false"),
    refuses("file_optional", Bool, "false"),
    refuses("from", Expanded, ""),
    refuses("headers", Expanded, ""),
    refuses("log", Expanded, ""),
    refuses("mode", Octal, "0600"),
    refuses("never_mail", AddressList, ""),
    refuses("once", Expanded, ""),
    refuses("once_file_size", Int, "0"),
    refuses("once_repeat", Expanded, ""),
    refuses("reply_to", Expanded, ""),
    refuses("return_message", Bool, "false"),
    refuses("subject", Expanded, ""),
    refuses("text", Expanded, ""),
    refuses("to", Expanded, ""),
];

/// Private options of `lmtp`.
pub const LMTP: &[OptionDef] = &[
    refuses("batch_id", Expanded, ""),
    refuses("batch_max", Int, "1"),
    refuses("command", Expanded, ""),
    refuses("ignore_quota", Bool, "false"),
    refuses("socket", Expanded, ""),
    refuses("timeout", Time, "5m"),
];

/// Private options of `pipe`.
pub const PIPE: &[OptionDef] = &[
    refuses("allow_commands", Expanded, ""),
    refuses("batch_id", Expanded, ""),
    refuses("batch_max", Int, "1"),
    refuses("check_string", Text, ""),
    refuses("command", Expanded, ""),
    refuses("environment", Expanded, ""),
    refuses("escape_string", Text, ""),
    refuses("force_command", Bool, "false"),
    refuses("freeze_exec_fail", Bool, "false"),
    refuses("freeze_signal", Bool, "false"),
    refuses("ignore_status", Bool, "false"),
    refuses("log_defer_output", Bool, "false"),
    refuses("log_fail_output", Bool, "false"),
    refuses("log_output", Bool, "false"),
    refuses("max_output", Size, "20K"),
    refuses("message_prefix", Expanded, ""),
    refuses("message_suffix", Expanded, ""),
    refuses("path", Expanded, "/bin:/usr/bin"),
    refuses("permit_coredump", Bool, "false"),
    refuses("pipe_as_creator", Bool, "false"),
    refuses("restrict_to_path", Bool, "false"),
    refuses("return_fail_output", Bool, "false"),
    refuses("return_output", Bool, "false"),
    refuses("temp_errors", Text, "75:73"),
    refuses("timeout", Time, "1h"),
    refuses("timeout_defer", Bool, "false"),
    refuses("umask", Octal, "022"),
    refuses("use_bsmtp", Bool, "false"),
    refuses("use_classresources", Bool, "false"),
    refuses("use_crlf", Bool, "false"),
    refuses("use_shell", Bool, "false"),
];

/// Private options of `queuefile`.
pub const QUEUEFILE: &[OptionDef] = &[refuses("directory", Expanded, "")];

/// Private options of `smtp`.
pub const SMTP: &[OptionDef] = &[
    refuses("address_retry_include_sender", Bool, "true"),
    acts("allow_localhost", Bool, "false"),
    refuses("arc_sign", Expanded, ""),
    refuses("authenticated_sender", Expanded, ""),
    refuses("authenticated_sender_force", Bool, "false"),
    acts("command_timeout", Time, "5m"),
    acts("connect_timeout", Time, "5m"),
    acts("connection_max_messages", Int, "500"),
    acts("dane_require_tls_ciphers", Expanded, ""),
    acts("data_timeout", Time, "5m"),
    refuses("delay_after_cutoff", Bool, "true"),
    refuses("dkim_canon", Expanded, ""),
    refuses("dkim_domain", Expanded, ""),
    refuses("dkim_hash", Expanded, "sha256"),
    refuses("dkim_identity", Expanded, ""),
    refuses("dkim_private_key", Expanded, ""),
    refuses("dkim_selector", Expanded, ""),
    refuses("dkim_sign_headers", Expanded, ""),
    refuses("dkim_strict", Expanded, ""),
    refuses("dkim_timestamps", Expanded, ""),
    refuses("dns_qualify_single", Bool, "true"),
    refuses("dns_search_parents", Bool, "false"),
    acts("dnssec_request_domains", DomainList, "*"),
    acts("dnssec_require_domains", DomainList, ""),
    refuses("dscp", Expanded, ""),
    acts("fallback_hosts", Expanded, ""),
    acts("final_timeout", Time, "10m"),
    refuses("gethostbyname", Bool, "false"),
    acts("gnutls_compat_mode", Bool, "false"),
    acts("helo_data", Expanded, "$primary_hostname"),
    refuses(
        "host_name_extract",
        Expanded,
        "${if and {{match{$host}{.outlook.com\\$}} {match{$item}{\\N^250-([\\w.]+)\\s\\N}}} {$1}}",
    ),
    acts("hosts", Expanded, ""),
    acts("hosts_avoid_esmtp", HostList, ""),
    acts("hosts_avoid_pipelining", HostList, ""),
    acts("hosts_avoid_tls", HostList, ""),
    acts("hosts_max_try", Int, "5"),
    refuses("hosts_max_try_hardlimit", Int, "50"),
    acts("hosts_nopass_tls", HostList, ""),
    acts("hosts_noproxy_tls", HostList, ""),
    acts("hosts_override", Bool, "false"),
    refuses("hosts_pipe_connect", HostList, ""),
    acts("hosts_randomize", ExpandedBool, "false"),
    acts("hosts_request_ocsp", HostList, "*"),
    acts("hosts_require_alpn", HostList, ""),
    refuses("hosts_require_auth", HostList, ""),
    acts("hosts_require_dane", HostList, ""),
    acts("hosts_require_ocsp", HostList, ""),
    acts("hosts_require_status", HostList, ""),
    acts("hosts_require_tls", HostList, ""),
    refuses("hosts_try_auth", HostList, ""),
    only_as("hosts_try_chunking", HostList, "*", ""),
    acts("hosts_try_dane", HostList, "*"),
    only_as("hosts_try_fastopen", HostList, "*", ""),
    only_as("hosts_try_prdr", HostList, "*", ""),
    no_effect(
        "hosts_verify_avoid_tls",
        HostList,
        "",
        "it acts on callouts and cutthrough delivery alone, and an ACL that asks for one of them is refused",
    ),
    acts("interface", Expanded, ""),
    acts("keepalive", Bool, "true"),
    refuses("lmtp_ignore_quota", Bool, "false"),
    acts("max_rcpt", ExpandedInt, "100"),
    acts("message_linelength_limit", Int, "998"),
    acts("multi_domain", ExpandedBool, "true"),
    acts("port", Expanded, "smtp"),
    acts("protocol", Text, "smtp"),
    refuses("retry_include_ip_address", ExpandedBool, "true"),
    refuses("serialize_hosts", HostList, ""),
    acts("size_addition", Int, "1024"),
    refuses("socks_proxy", Expanded, ""),
    acts("tls_alpn", Expanded, ""),
    acts("tls_certificate", Expanded, ""),
    acts("tls_crl", Expanded, ""),
    acts("tls_dh_min_bits", Int, "1024"),
    acts("tls_privatekey", Expanded, ""),
    acts("tls_require_ciphers", Expanded, ""),
    acts("tls_resumption_hosts", HostList, ""),
    acts("tls_sni", Expanded, ""),
    acts("tls_tempfail_tryclear", Bool, "true"),
    acts("tls_try_verify_hosts", HostList, "*"),
    acts("tls_verify_cert_hostnames", HostList, "*"),
    acts("tls_verify_certificates", Expanded, "system"),
    acts("tls_verify_hosts", HostList, ""),
    refuses("utf8_downconvert", ExpandedInt, "-1"),
];
