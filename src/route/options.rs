//! Options of routers: generic ones, and those of each driver.
//!
//! Specification: chapters "Generic options for routers" and those of the drivers.

use crate::config::option::Kind::{
    AddressList, Bool, DomainList, Expanded, ExpandedBool, Group, GroupList, HostList, Int, LocalPartList,
    Multiple, Octal, Text, Time, User, UserList,
};
use crate::config::option::{OptionDef, acts, no_effect, refuses};
use crate::config::{DriverDef, Options};

/// Every router driver.
pub const DRIVERS: &[DriverDef] = &[
    DriverDef::built("accept", &[]).with_defaults(derive_accept),
    DriverDef::refused("dnslookup", DNSLOOKUP).with_defaults(derive_generic),
    DriverDef::refused("ipliteral", &[]).with_defaults(derive_generic),
    DriverDef::refused("iplookup", IPLOOKUP).with_defaults(derive_generic),
    DriverDef::built("manualroute", MANUALROUTE).with_defaults(derive_generic),
    DriverDef::refused("queryprogram", QUERYPROGRAM).with_defaults(derive_generic),
    DriverDef::built("redirect", REDIRECT).with_defaults(derive_redirect),
];

/// Options that make what a router does depend on the local part.
const LOCAL_PART_MATTERS: [&str; 6] =
    ["local_parts", "condition", "local_part_prefix", "local_part_suffix", "senders", "require_files"];

/// `retry_use_local_part` is on where routing may depend on the local part.
fn derive_generic(options: &mut Options) {
    let any = LOCAL_PART_MATTERS.iter().any(|name| options.text(name).is_some());
    if any || options.bool("check_local_user") {
        options.put_default("retry_use_local_part", "true");
    }
}

fn derive_accept(options: &mut Options) {
    derive_generic(options);
    options.put_default("log_as_local", "true");
}

/// `check_owner` is on if there is an owner to compare with, `check_group` only if the group may not write.
fn derive_redirect(options: &mut Options) {
    const GROUP_WRITE: i64 = 0o020;
    derive_generic(options);
    let local = options.bool("check_local_user");
    if local || options.text("owners").is_some() {
        options.put_default("check_owner", "true");
    }
    let masked = options.int("modemask") & GROUP_WRITE != 0;
    if options.text("owngroups").is_some() || (local && !masked) {
        options.put_default("check_group", "true");
    }
}

/// Options of every router.
pub const GENERIC: &[OptionDef] = &[
    acts("address_data", Expanded, ""),
    acts("address_test", Bool, "true"),
    acts("cannot_route_message", Expanded, ""),
    acts("caseful_local_part", Bool, "false"),
    acts("check_local_user", Bool, "false"),
    acts("condition", Expanded, ""),
    acts("debug_print", Expanded, ""),
    acts("disable_logging", Bool, "false"),
    acts("dnssec_request_domains", DomainList, "*"),
    acts("dnssec_require_domains", DomainList, ""),
    acts("domains", DomainList, ""),
    acts("driver", Text, ""),
    refuses("dsn_lasthop", Bool, "false"),
    acts("errors_to", Expanded, ""),
    no_effect("expn", Bool, "true", "EXPN is refused to everybody while acl_smtp_expn is not built"),
    acts("fail_verify", Bool, "false"),
    acts("fail_verify_recipient", Bool, "false"),
    acts("fail_verify_sender", Bool, "false"),
    refuses("fallback_hosts", Expanded, ""),
    acts("group", Group, ""),
    acts("headers_add", Expanded, ""),
    acts("headers_remove", Expanded, ""),
    acts("ignore_target_hosts", HostList, ""),
    acts("initgroups", Bool, "false"),
    acts("local_part_prefix", Text, ""),
    acts("local_part_prefix_optional", Bool, "false"),
    acts("local_part_suffix", Text, ""),
    acts("local_part_suffix_optional", Bool, "false"),
    acts("local_parts", LocalPartList, ""),
    acts("log_as_local", Bool, "false"),
    acts("more", ExpandedBool, "true"),
    acts("pass_on_timeout", Bool, "false"),
    acts("pass_router", Text, ""),
    acts("redirect_router", Text, ""),
    acts("require_files", Expanded, ""),
    acts("retry_use_local_part", Bool, "false"),
    acts("router_home_directory", Expanded, ""),
    acts("self", Text, "freeze"),
    acts("senders", AddressList, ""),
    acts("set", Multiple, ""),
    refuses("translate_ip_address", Expanded, ""),
    acts("transport", Expanded, ""),
    acts("transport_current_directory", Expanded, ""),
    acts("transport_home_directory", Expanded, ""),
    acts("unseen", ExpandedBool, "false"),
    acts("user", User, ""),
    acts("verify", Bool, "true"),
    acts("verify_only", Bool, "false"),
    acts("verify_recipient", Bool, "true"),
    acts("verify_sender", Bool, "true"),
];

/// Private options of `dnslookup`.
pub const DNSLOOKUP: &[OptionDef] = &[
    refuses("check_secondary_mx", Bool, "false"),
    refuses("check_srv", Expanded, ""),
    refuses("fail_defer_domains", DomainList, ""),
    refuses("ipv4_only", Expanded, ""),
    refuses("ipv4_prefer", Expanded, ""),
    refuses("mx_domains", DomainList, ""),
    refuses("mx_fail_domains", DomainList, ""),
    refuses("qualify_single", Bool, "true"),
    refuses("rewrite_headers", Bool, "true"),
    refuses("same_domain_copy_routing", Bool, "false"),
    refuses("search_parents", Bool, "false"),
    refuses("srv_fail_domains", DomainList, ""),
    refuses("widen_domains", Text, ""),
];

/// Private options of `manualroute`.
pub const MANUALROUTE: &[OptionDef] = &[
    acts("host_all_ignored", Text, "defer"),
    acts("host_find_failed", Text, "freeze"),
    acts("hosts_randomize", ExpandedBool, "false"),
    acts("route_data", Expanded, ""),
    acts("route_list", Text, ""),
    no_effect("same_domain_copy_routing", Bool, "false", "only the time of routing differs"),
];

/// Private options of `redirect`.
pub const REDIRECT: &[OptionDef] = &[
    acts("allow_defer", Bool, "false"),
    acts("allow_fail", Bool, "false"),
    refuses("allow_filter", Bool, "false"),
    refuses("allow_freeze", Bool, "false"),
    acts("check_ancestor", Bool, "false"),
    acts("check_group", Bool, "false"),
    acts("check_owner", Bool, "false"),
    acts("data", Expanded, ""),
    acts("directory_transport", Expanded, ""),
    acts("file", Expanded, ""),
    acts("file_transport", Expanded, ""),
    refuses("filter_prepend_home", Bool, "true"),
    acts("forbid_blackhole", Bool, "false"),
    refuses("forbid_exim_filter", Bool, "false"),
    acts("forbid_file", Bool, "false"),
    refuses("forbid_filter_dlfunc", Bool, "false"),
    refuses("forbid_filter_existstest", Bool, "false"),
    refuses("forbid_filter_logwrite", Bool, "false"),
    refuses("forbid_filter_lookup", Bool, "false"),
    refuses("forbid_filter_perl", Bool, "false"),
    refuses("forbid_filter_readfile", Bool, "false"),
    refuses("forbid_filter_readsocket", Bool, "false"),
    refuses("forbid_filter_reply", Bool, "false"),
    refuses("forbid_filter_run", Bool, "false"),
    acts("forbid_include", Bool, "false"),
    acts("forbid_pipe", Bool, "false"),
    refuses("forbid_sieve_filter", Bool, "false"),
    acts("forbid_smtp_code", Bool, "false"),
    acts("hide_child_in_errmsg", Bool, "false"),
    acts("ignore_eacces", Bool, "false"),
    acts("ignore_enotdir", Bool, "false"),
    acts("include_directory", Text, ""),
    acts("modemask", Octal, "022"),
    acts("one_time", Bool, "false"),
    acts("owners", UserList, ""),
    acts("owngroups", GroupList, ""),
    acts("pipe_transport", Expanded, ""),
    acts("qualify_domain", Expanded, ""),
    acts("qualify_preserve_domain", Bool, "false"),
    acts("repeat_use", Bool, "true"),
    refuses("reply_transport", Expanded, ""),
    refuses("rewrite", Bool, "true"),
    refuses("sieve_enotify_mailto_owner", Expanded, ""),
    refuses("sieve_inbox", Expanded, "inbox"),
    refuses("sieve_subaddress", Expanded, ""),
    refuses("sieve_useraddress", Expanded, ""),
    refuses("sieve_vacation_directory", Expanded, ""),
    acts("skip_syntax_errors", Bool, "false"),
    refuses("syntax_errors_text", Expanded, ""),
    refuses("syntax_errors_to", Expanded, ""),
];

/// Private options of `queryprogram`.
pub const QUERYPROGRAM: &[OptionDef] = &[
    refuses("command", Expanded, ""),
    refuses("command_group", Group, ""),
    refuses("command_user", User, ""),
    refuses("current_directory", Text, "/"),
    refuses("timeout", Time, "1h"),
];

/// Private options of `iplookup`.
pub const IPLOOKUP: &[OptionDef] = &[
    refuses("hosts", Text, ""),
    refuses("optional", Bool, "false"),
    refuses("port", Int, "0"),
    refuses("protocol", Text, ""),
    refuses("query", Expanded, ""),
    refuses("reroute", Expanded, ""),
    refuses("response_pattern", Text, ""),
    refuses("timeout", Time, "5s"),
];
