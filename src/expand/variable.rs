//! The table of variables: name to function.
//!
//! Names come from `syntax::names`; each is in exactly one of the tables of the `variable_*` files, or in
//! [`NEVER_SET`] (the documentation says that they are empty outside a feature that is not built), or it is
//! refused where it is used (`VARIABLES_NOT_YET`).

use super::{ExpandError, eval};
use super::{
    variable_address, variable_config, variable_message, variable_session, variable_time, variable_tls,
};
use crate::expand::Context;
use crate::syntax::names::VARIABLE_NAMES;
use crate::syntax::tree::Variable;
use crate::text::Value;
use std::sync::LazyLock;

/// Reads one variable; none: unset.
pub type Getter = fn(&Context) -> Option<Value>;

/// One row of a table.
pub type Row = (&'static str, Getter);

/// Empty until the feature that sets them runs, as the documentation says of each; the text is what they
/// hold before.
const NEVER_SET: &[(&str, &str)] = &[
    ("auth1", ""),
    ("auth2", ""),
    ("auth3", ""),
    ("auth4", ""),
    ("av_failed", "0"),
    ("callout_address", ""),
    ("csa_status", ""),
    ("dnslist_domain", ""),
    ("dnslist_matched", ""),
    ("dnslist_text", ""),
    ("dnslist_value", ""),
    ("event_data", ""),
    ("event_defer_errno", "0"),
    ("event_name", ""),
    ("ldap_dn", ""),
    ("mailstore_basename", ""),
    ("malware_name", ""),
    ("prdr_requested", "no"),
    ("proxy_external_address", ""),
    ("proxy_external_port", "0"),
    ("proxy_local_address", ""),
    ("proxy_local_port", "0"),
    ("proxy_session", "no"),
    ("queue_name", ""),
    ("regex_match_string", ""),
    ("regex1", ""),
    ("regex2", ""),
    ("regex3", ""),
    ("regex4", ""),
    ("regex5", ""),
    ("regex6", ""),
    ("regex7", ""),
    ("regex8", ""),
    ("regex9", ""),
    ("sender_rate", ""),
    ("sender_rate_limit", ""),
    ("sender_rate_period", ""),
    ("spam_action", ""),
    ("spam_bar", ""),
    ("spam_report", ""),
    ("spam_score", ""),
    ("spam_score_int", ""),
    ("srs_recipient", ""),
    ("thisaddress", ""),
    ("verify_mode", ""),
];

/// What a name of the table stands for.
#[derive(Clone, Copy)]
enum Source {
    Get(Getter),
    Fixed(&'static str),
    NotYet,
}

static SOURCES: LazyLock<Vec<Source>> =
    LazyLock::new(|| VARIABLE_NAMES.iter().map(|name| source(name)).collect());

fn tables() -> impl Iterator<Item = &'static Row> {
    [
        variable_address::TABLE,
        variable_config::TABLE,
        variable_message::TABLE,
        variable_session::TABLE,
        variable_time::TABLE,
        variable_tls::TABLE,
    ]
    .into_iter()
    .flatten()
}

fn source(name: &str) -> Source {
    if let Some((_, getter)) = tables().find(|(known, _)| *known == name) {
        return Source::Get(*getter);
    }
    match NEVER_SET.iter().find(|(known, _)| *known == name) {
        Some((_, text)) => Source::Fixed(text),
        None => Source::NotYet,
    }
}

/// The value of a variable; none: unset, which reads as empty.
pub fn value(variable: &Variable, context: &Context) -> Result<Option<Value>, ExpandError> {
    match variable {
        Variable::Acl(name) => Ok(context.dynamic.borrow().acl_variables.get(name).cloned()),
        Variable::Router(name) => Ok(context.address.router_variables.get(name).cloned()),
        Variable::Named(index) => match SOURCES.get(*index).copied().unwrap_or(Source::NotYet) {
            Source::Get(getter) => Ok(getter(context)),
            Source::Fixed(text) => Ok(Some(Value::clean(text))),
            Source::NotYet => eval::not_yet(VARIABLE_NAMES.get(*index).copied().unwrap_or_default()),
        },
    }
}

/// A number of our own making.
pub fn number(value: impl ToString) -> Option<Value> {
    Some(Value::clean(value.to_string()))
}

/// Text of a peer or user; none if it is empty.
pub fn outside(text: &[u8]) -> Option<Value> {
    (!text.is_empty()).then(|| Value::tainted(text))
}

/// Text of our own making; none if it is empty.
pub fn own(text: &[u8]) -> Option<Value> {
    (!text.is_empty()).then(|| Value::clean(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syntax::names::VARIABLES_NOT_YET as NOT_YET;

    #[test]
    fn every_variable_has_a_value_or_is_refused_and_none_is_in_two_tables() {
        for name in VARIABLE_NAMES {
            let rows = tables().filter(|(known, _)| known == name).count();
            let fixed = NEVER_SET.iter().filter(|(known, _)| known == name).count();
            let refused = NOT_YET.iter().filter(|known| *known == name).count();
            assert_eq!(rows + fixed + refused, 1, "{name}");
        }
    }

    #[test]
    fn tables_hold_no_name_that_the_language_does_not_know() {
        let all = tables().map(|(name, _)| *name).chain(NEVER_SET.iter().map(|(name, _)| *name));
        for name in all.chain(NOT_YET.iter().copied()) {
            assert!(VARIABLE_NAMES.contains(&name), "{name}");
        }
    }
}
