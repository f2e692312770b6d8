//! The names of the string language: items, operators, conditions and variables.
//!
//! One table of each kind feeds the parser, the macros `_EXP_ITEM_*`, `_EXP_OP_*`, `_EXP_COND_*` and
//! `_EXP_VAR_*`, and (through tests) the tables of functions in `expand`. Specification: chapter "String
//! expansions". What is in a `NOT_YET` table is parsed, and refused where it is used.

pub use super::variable_names::{VARIABLE_NAMES, VARIABLES_NOT_YET};
use bstr::ByteSlice;

/// Items: `${name ...`.
pub const ITEM_NAMES: &[&str] = &[
    "acl",
    "authresults",
    "certextract",
    "dlfunc",
    "env",
    "extract",
    "filter",
    "hash",
    "hmac",
    "if",
    "imapfolder",
    "length",
    "listextract",
    "listquote",
    "lookup",
    "map",
    "nhash",
    "perl",
    "prvs",
    "prvscheck",
    "readfile",
    "readsocket",
    "reduce",
    "run",
    "sg",
    "sort",
    "srs_encode",
    "substr",
    "tr",
];

/// Items that are known but not supported yet.
pub const ITEMS_NOT_YET: &[&str] =
    &["authresults", "dlfunc", "imapfolder", "perl", "readsocket", "run", "srs_encode"];

/// Variables that hold a certificate: what `${certextract` takes.
pub const CERTIFICATE_VARIABLES: [&str; 4] =
    ["tls_in_ourcert", "tls_in_peercert", "tls_out_ourcert", "tls_out_peercert"];

/// Operators: `${name:text}`, also with numbers: `${name_3:text}`.
pub const OPERATOR_NAMES: &[&str] = &[
    "address",
    "addresses",
    "base32",
    "base32d",
    "base62",
    "base62d",
    "base64",
    "base64d",
    "domain",
    "escape",
    "escape8bit",
    "eval",
    "eval10",
    "expand",
    "from_utf8",
    "h",
    "hash",
    "headerwrap",
    "hex2b64",
    "hexquote",
    "ipv6denorm",
    "ipv6norm",
    "l",
    "lc",
    "length",
    "listcount",
    "listnamed",
    "local_part",
    "mask",
    "md5",
    "nh",
    "nhash",
    "quote",
    "quote_local_part",
    "randint",
    "reverse_ip",
    "rfc2047",
    "rfc2047d",
    "rxquote",
    "s",
    "sha1",
    "sha2",
    "sha256",
    "sha3",
    "stat",
    "str2b64",
    "strlen",
    "substr",
    "time_eval",
    "time_interval",
    "uc",
    "utf8_domain_from_alabel",
    "utf8_domain_to_alabel",
    "utf8_localpart_from_alabel",
    "utf8_localpart_to_alabel",
    "utf8clean",
    "xtextd",
];

/// Operators that are known but not supported yet.
pub const OPERATORS_NOT_YET: &[&str] = &["headerwrap", "sha3"];

/// Conditions of `${if`.
pub const CONDITION_NAMES: &[&str] = &[
    "<",
    "<=",
    "=",
    "==",
    ">",
    ">=",
    "acl",
    "and",
    "bool",
    "bool_lax",
    "crypteq",
    "def",
    "eq",
    "eqi",
    "exists",
    "first_delivery",
    "forall",
    "forall_json",
    "forall_jsons",
    "forany",
    "forany_json",
    "forany_jsons",
    "ge",
    "gei",
    "gt",
    "gti",
    "inbound_srs",
    "inlist",
    "inlisti",
    "isip",
    "isip4",
    "isip6",
    "ldapauth",
    "le",
    "lei",
    "lt",
    "lti",
    "match",
    "match_address",
    "match_domain",
    "match_ip",
    "match_local_part",
    "or",
    "pam",
    "queue_running",
    "radius",
    "saslauthd",
];

/// Conditions that are known but not supported yet.
pub const CONDITIONS_NOT_YET: &[&str] = &["crypteq", "inbound_srs", "ldapauth", "pam", "radius", "saslauthd"];

/// Position of a name in one of the sorted tables.
pub fn index_of(table: &[&'static str], name: &[u8]) -> Option<usize> {
    table.binary_search_by(|entry| entry.as_bytes().cmp(name)).ok()
}

/// The table's own copy of a name.
pub fn find(table: &[&'static str], name: &[u8]) -> Option<&'static str> {
    index_of(table, name).map(|index| table[index])
}

/// The operator of a written name, with what follows the name: `substr_1_2` is `substr` and `_1_2`.
pub fn find_operator(written: &[u8]) -> Option<(&'static str, &[u8])> {
    if let Some(name) = find(OPERATOR_NAMES, written) {
        return Some((name, b""));
    }
    let end = written.find_byte(b'_')?;
    find(OPERATOR_NAMES, &written[..end]).map(|name| (name, &written[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_sorted_so_that_names_are_found() {
        for table in [ITEM_NAMES, OPERATOR_NAMES, CONDITION_NAMES, VARIABLE_NAMES] {
            assert!(table.is_sorted());
        }
        for (part, whole) in [
            (ITEMS_NOT_YET, ITEM_NAMES),
            (OPERATORS_NOT_YET, OPERATOR_NAMES),
            (CONDITIONS_NOT_YET, CONDITION_NAMES),
            (VARIABLES_NOT_YET, VARIABLE_NAMES),
        ] {
            assert!(part.iter().all(|name| whole.contains(name)));
        }
    }

    #[test]
    fn numbers_after_an_operator_are_told_from_a_name_with_an_underscore() {
        assert_eq!(find_operator(b"substr_1_2"), Some(("substr", &b"_1_2"[..])));
        assert_eq!(find_operator(b"quote_local_part"), Some(("quote_local_part", &b""[..])));
        assert_eq!(find_operator(b"quote_mysql"), Some(("quote", &b"_mysql"[..])));
        assert_eq!(find_operator(b"foo_1"), None);
    }
}
