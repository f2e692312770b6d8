//! The option tables of all sections, gathered for the reader of the configuration, which knows no driver.

use crate::config::{Tables, main_options};
use crate::log::selector;
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
        log_selectors: &LOG_SELECTORS,
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

/// The names of the log selectors.
const LOG_SELECTORS: [&str; selector::ALL.len()] = {
    let mut names = [""; selector::ALL.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = selector::ALL[index].0;
        index += 1;
    }
    names
};

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
