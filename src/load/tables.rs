//! The option tables of all sections, gathered for the reader of the configuration, which knows no driver.

use crate::config::{Tables, main_options};
use crate::log::selector;
use crate::syntax::acl_words::Word;
use crate::syntax::lookup_type::LOOKUP_TYPES;
use crate::syntax::names;
use crate::{acl, auth, route, transport};
use std::sync::LazyLock;

/// All tables of this build.
pub fn tables() -> Tables {
    Tables {
        main: main_options::MAIN,
        router_generic: route::options::GENERIC,
        routers: route::options::DRIVERS,
        transport_generic: transport::options::GENERIC,
        transports: transport::options::DRIVERS,
        authenticator_generic: auth::options::GENERIC,
        authenticators: auth::options::DRIVERS,
        ocsp: cfg!(ocsp_stapling),
        log_selectors: &LOG_SELECTORS,
        expansion_items: &ITEMS,
        expansion_operators: &OPERATORS,
        expansion_conditions: &CONDITIONS,
        expansion_variables: &VARIABLES,
        acl_conditions: &ACL_CONDITIONS,
        acl_modifiers: &ACL_MODIFIERS,
        lookups: &LOOKUPS,
        features: FEATURES,
    }
}

/// Names that are gathered once from the tables of their owners; only what is built is named.
type Names = LazyLock<Vec<&'static str>>;

static LOG_SELECTORS: Names = LazyLock::new(|| selector::ALL.iter().map(|(name, ..)| *name).collect());
static ITEMS: Names = LazyLock::new(|| built(names::ITEM_NAMES, names::ITEMS_NOT_YET));
static OPERATORS: Names = LazyLock::new(|| built(names::OPERATOR_NAMES, names::OPERATORS_NOT_YET));
static VARIABLES: Names = LazyLock::new(|| built(names::VARIABLE_NAMES, names::VARIABLES_NOT_YET));
static CONDITIONS: Names = LazyLock::new(|| built(names::CONDITION_NAMES, names::CONDITIONS_NOT_YET));
static LOOKUPS: Names =
    LazyLock::new(|| LOOKUP_TYPES.iter().filter(|def| def.supported).map(|def| def.name).collect());
static ACL_CONDITIONS: Names = LazyLock::new(|| acl_words(false));
static ACL_MODIFIERS: Names = LazyLock::new(|| acl_words(true));

fn built(all: &[&'static str], not_yet: &[&str]) -> Vec<&'static str> {
    all.iter().copied().filter(|name| !not_yet.contains(name)).collect()
}

fn acl_words(modifiers: bool) -> Vec<&'static str> {
    let built = Word::ALL.iter().filter(|word| !acl::NOT_BUILT.contains(word));
    built.filter(|word| word.is_modifier() == modifiers).map(|word| word.name()).collect()
}

/// What is built, as `_HAVE_*` macros name it.
const FEATURES: &[&str] = match (crate::tls::OCSP, crate::tls::ALPN) {
    (true, true) => &[
        "DANE",
        "DNSSEC",
        "GNUTLS",
        "IPV6",
        "OCSP",
        "TLS",
        "TLS_ALPN",
        "TLS_CA_CACHE",
        "TLS_OCSP",
        "TLS_OCSP_LIST",
        "TLS_RESUME",
        "TLS1_3",
        "TRANSPORT_APPEND_MAILDIR",
    ],
    (true, false) => &[
        "DANE",
        "DNSSEC",
        "GNUTLS",
        "IPV6",
        "OCSP",
        "TLS",
        "TLS_CA_CACHE",
        "TLS_OCSP",
        "TLS_OCSP_LIST",
        "TLS_RESUME",
        "TLS1_3",
        "TRANSPORT_APPEND_MAILDIR",
    ],
    (false, true) => &[
        "DANE",
        "DNSSEC",
        "GNUTLS",
        "IPV6",
        "TLS",
        "TLS_ALPN",
        "TLS_CA_CACHE",
        "TLS_RESUME",
        "TLS1_3",
        "TRANSPORT_APPEND_MAILDIR",
    ],
    (false, false) => &[
        "DANE",
        "DNSSEC",
        "GNUTLS",
        "IPV6",
        "TLS",
        "TLS_CA_CACHE",
        "TLS_RESUME",
        "TLS1_3",
        "TRANSPORT_APPEND_MAILDIR",
    ],
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
