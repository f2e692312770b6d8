//! The option tables of all sections, gathered for the reader of the configuration, which knows no driver.

use crate::config::{Tables, main_options};
use crate::{auth, route, transport};

/// All tables of this build.
pub const fn tables() -> Tables {
    Tables {
        main: main_options::MAIN,
        router_generic: route::options::GENERIC,
        routers: route::options::DRIVERS,
        transport_generic: transport::options::GENERIC,
        transports: transport::options::DRIVERS,
        authenticator_generic: auth::options::GENERIC,
        authenticators: auth::options::DRIVERS,
        ocsp: cfg!(feature = "ocsp"),
        log_selectors: LOG_SELECTORS,
        expansion_items: &[],
        expansion_operators: &[],
        expansion_conditions: &[],
        expansion_variables: &[],
        acl_conditions: &[],
        acl_modifiers: &[],
        lookups: &["lsearch"],
        features: FEATURES,
    }
}

/// Every log selector; `tls_ocsp` is oxim's own.
const LOG_SELECTORS: &[&str] = &[
    "8bitmime",
    "acl_warn_skipped",
    "address_rewrite",
    "all_parents",
    "arguments",
    "connection_id",
    "connection_reject",
    "delay_delivery",
    "deliver_time",
    "delivery_size",
    "dkim",
    "dkim_verbose",
    "dmarc",
    "dmarc_verbose",
    "dnslist_defer",
    "dnssec",
    "etrn",
    "host_lookup_failed",
    "ident_timeout",
    "incoming_interface",
    "incoming_port",
    "lost_incoming_connection",
    "millisec",
    "msg_id",
    "msg_id_created",
    "outgoing_interface",
    "outgoing_port",
    "pid",
    "pipelining",
    "protocol_detail",
    "proxy",
    "queue_run",
    "queue_time",
    "queue_time_exclusive",
    "queue_time_overall",
    "receive_time",
    "received_recipients",
    "received_sender",
    "rejected_header",
    "rejected_headers",
    "retry_defer",
    "return_path_on_delivery",
    "sender_on_delivery",
    "sender_verify_fail",
    "size_reject",
    "skip_delivery",
    "smtp_confirmation",
    "smtp_connection",
    "smtp_incomplete_transaction",
    "smtp_mailauth",
    "smtp_no_mail",
    "smtp_protocol_error",
    "smtp_syntax_error",
    "spf",
    "spf_verbose",
    "subject",
    "tls_certificate_verified",
    "tls_cipher",
    "tls_ocsp",
    "tls_on_connect",
    "tls_peerdn",
    "tls_resumption",
    "tls_sni",
    "unknown_in_list",
];

/// What is built, as `_HAVE_*` macros name it.
const FEATURES: &[&str] = if cfg!(feature = "ocsp") {
    &["GNUTLS", "IPV6", "OCSP", "TLS", "TLS_OCSP", "TLS1_3"]
} else {
    &["GNUTLS", "IPV6", "TLS", "TLS1_3"]
};

#[cfg(test)]
mod tests {
    use super::tables;
    use crate::config::{OptionDef, value};

    #[test]
    fn every_default_is_a_value_of_its_kind_and_tables_are_sorted() {
        let tables = tables();
        let mut all: Vec<&[OptionDef]> =
            vec![tables.main, tables.router_generic, tables.transport_generic, tables.authenticator_generic];
        for drivers in [tables.routers, tables.transports, tables.authenticators] {
            all.extend(drivers.iter().map(|driver| driver.options));
        }
        let mut wrong = Vec::new();
        for table in all {
            assert!(table.is_sorted_by_key(|def| def.name));
            for def in table.iter().filter(|def| !def.default.is_empty()) {
                if value::read_default(def.kind, def.default).is_none() {
                    wrong.push((def.name, def.default));
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}
