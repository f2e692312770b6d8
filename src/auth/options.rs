//! Options of authenticators: generic ones, and those of each driver.
//!
//! Specification: chapters "SMTP authentication" and those of the drivers.

use crate::config::DriverDef;
use crate::config::option::Kind::{Bool, Expanded, Text};
use crate::config::option::{OptionDef, acts, refuses};

/// Every authenticator driver.
pub const DRIVERS: &[DriverDef] = &[
    DriverDef::refused("cram_md5", CRAM_MD5),
    DriverDef::refused("cyrus_sasl", CYRUS_SASL),
    DriverDef::refused("dovecot", DOVECOT),
    DriverDef::refused("external", EXTERNAL),
    DriverDef::refused("gsasl", GSASL),
    DriverDef::refused("heimdal_gssapi", HEIMDAL_GSSAPI),
    DriverDef::refused("plaintext", PLAINTEXT),
    DriverDef::refused("spa", SPA),
    DriverDef::refused("tls", TLS),
];

/// Options of every authenticator.
pub const GENERIC: &[OptionDef] = &[
    refuses("client_condition", Expanded, ""),
    refuses("client_set_id", Expanded, ""),
    acts("driver", Text, ""),
    refuses("public_name", Text, ""),
    refuses("server_advertise_condition", Expanded, ""),
    refuses("server_condition", Expanded, ""),
    refuses("server_debug_print", Expanded, ""),
    refuses("server_mail_auth_condition", Expanded, ""),
    refuses("server_set_id", Expanded, ""),
];

/// Private options of `cram_md5`.
pub const CRAM_MD5: &[OptionDef] = &[
    refuses("client_name", Expanded, ""),
    refuses("client_secret", Expanded, ""),
    refuses("server_secret", Expanded, ""),
];

/// Private options of `cyrus_sasl`.
pub const CYRUS_SASL: &[OptionDef] = &[
    refuses("server_hostname", Expanded, "$primary_hostname"),
    refuses("server_mech", Text, ""),
    refuses("server_realm", Expanded, ""),
    refuses("server_service", Text, "smtp"),
];

/// Private options of `dovecot`.
pub const DOVECOT: &[OptionDef] = &[refuses("server_socket", Text, ""), refuses("server_tls", Bool, "false")];

/// Private options of `external`.
pub const EXTERNAL: &[OptionDef] = &[
    refuses("client_send", Expanded, ""),
    refuses("server_param2", Expanded, ""),
    refuses("server_param3", Expanded, ""),
];

/// Private options of `gsasl`.
pub const GSASL: &[OptionDef] = &[
    refuses("client_authz", Expanded, ""),
    refuses("client_channelbinding", Bool, "false"),
    refuses("client_password", Expanded, ""),
    refuses("client_spassword", Expanded, ""),
    refuses("client_username", Expanded, ""),
    refuses("server_channelbinding", Bool, "false"),
    refuses("server_hostname", Expanded, ""),
    refuses("server_key", Expanded, ""),
    refuses("server_mech", Text, ""),
    refuses("server_password", Expanded, ""),
    refuses("server_realm", Expanded, ""),
    refuses("server_scram_iter", Expanded, "4096"),
    refuses("server_scram_salt", Expanded, ""),
    refuses("server_service", Text, "smtp"),
    refuses("server_skey", Expanded, ""),
];

/// Private options of `heimdal_gssapi`.
pub const HEIMDAL_GSSAPI: &[OptionDef] = &[
    refuses("server_hostname", Expanded, ""),
    refuses("server_keytab", Expanded, ""),
    refuses("server_service", Expanded, "smtp"),
];

/// Private options of `plaintext`.
pub const PLAINTEXT: &[OptionDef] = &[
    refuses("client_ignore_invalid_base64", Bool, "false"),
    refuses("client_send", Expanded, ""),
    refuses("server_prompts", Expanded, ""),
];

/// Private options of `spa`.
pub const SPA: &[OptionDef] = &[
    refuses("client_domain", Expanded, ""),
    refuses("client_password", Expanded, ""),
    refuses("client_username", Expanded, ""),
    refuses("server_password", Expanded, ""),
];

/// Private options of `tls`.
pub const TLS: &[OptionDef] = &[
    refuses("server_param", Expanded, ""),
    refuses("server_param1", Expanded, ""),
    refuses("server_param2", Expanded, ""),
    refuses("server_param3", Expanded, ""),
];
