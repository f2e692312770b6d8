//! The table of operators: name to function. One family a file: `op_*`.

use super::{ExpandError, eval};
use super::{
    op_address, op_arithmetic, op_base, op_digest, op_file, op_ip, op_list, op_mime, op_quote, op_string,
    op_time, op_utf8,
};
use crate::expand::Context;
use crate::syntax::tree::{Operator, Part};
use crate::text::Value;

/// What an operator works with.
pub struct Call<'c, 'h> {
    /// What was written after the name and an underscore.
    pub suffix: Option<&'c [u8]>,
    /// The numbers in it.
    pub numbers: &'c [i64],
    /// The expanded text.
    pub text: Value,
    /// The text is nothing but a variable with a certificate.
    pub certificate: bool,
    /// Where it is expanded.
    pub context: &'c Context<'h>,
}

type Function = fn(Call) -> Result<Value, ExpandError>;

const TABLE: &[(&str, Function)] = &[
    ("address", op_address::address),
    ("addresses", op_address::addresses),
    ("base32", op_base::base32),
    ("base32d", op_base::base32d),
    ("base62", op_base::base62),
    ("base62d", op_base::base62d),
    ("base64", op_base::base64),
    ("base64d", op_base::base64d),
    ("domain", op_address::domain),
    ("escape", op_quote::escape),
    ("escape8bit", op_quote::escape8bit),
    ("eval", op_arithmetic::eval),
    ("eval10", op_arithmetic::eval10),
    ("expand", op_string::expand),
    ("from_utf8", op_utf8::from_utf8),
    ("hash", op_string::hash),
    ("hex2b64", op_base::hex2b64),
    ("hexquote", op_quote::hexquote),
    ("ipv6denorm", op_ip::ipv6denorm),
    ("ipv6norm", op_ip::ipv6norm),
    ("lc", op_string::lc),
    ("length", op_string::length),
    ("listcount", op_list::listcount),
    ("listnamed", op_list::listnamed),
    ("local_part", op_address::local_part),
    ("mask", op_ip::mask),
    ("md5", op_digest::md5),
    ("nhash", op_string::nhash),
    ("quote", op_quote::quote),
    ("quote_local_part", op_quote::quote_local_part),
    ("randint", op_arithmetic::randint),
    ("reverse_ip", op_ip::reverse_ip),
    ("rfc2047", op_mime::rfc2047),
    ("rfc2047d", op_mime::rfc2047d),
    ("rxquote", op_quote::rxquote),
    ("sha1", op_digest::sha1),
    ("sha2", op_digest::sha2),
    ("sha256", op_digest::sha256),
    ("stat", op_file::stat),
    ("strlen", op_string::strlen),
    ("substr", op_string::substr),
    ("time_eval", op_time::time_eval),
    ("time_interval", op_time::time_interval),
    ("uc", op_string::uc),
    ("utf8_domain_from_alabel", op_utf8::domain_from_alabel),
    ("utf8_domain_to_alabel", op_utf8::domain_to_alabel),
    ("utf8_localpart_from_alabel", op_utf8::local_part_from_alabel),
    ("utf8_localpart_to_alabel", op_utf8::local_part_to_alabel),
    ("utf8clean", op_utf8::utf8clean),
    ("xtextd", op_quote::xtextd),
];

/// Applies an operator to its text.
pub fn apply(operator: &Operator, context: &Context) -> Result<Value, ExpandError> {
    let Ok(index) = TABLE.binary_search_by_key(&operator.name, |(name, _)| name) else {
        return eval::not_yet(operator.name);
    };
    let text = match operator.name {
        "listcount" => eval::list(&operator.text, context)?,
        _ => eval::tree(&operator.text, context)?,
    };
    let call = Call {
        suffix: operator.suffix.as_ref().map(|suffix| suffix.as_slice()),
        numbers: &operator.numbers,
        text,
        certificate: is_certificate(operator),
        context,
    };
    TABLE[index].1(call)
}

fn is_certificate(operator: &Operator) -> bool {
    use crate::syntax::names::{CERTIFICATE_VARIABLES, VARIABLE_NAMES};
    use crate::syntax::tree::Variable::Named;
    match operator.text.parts.as_slice() {
        [Part::Variable(Named(index))] => {
            VARIABLE_NAMES.get(*index).is_some_and(|name| CERTIFICATE_VARIABLES.contains(name))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syntax::names::{OPERATOR_NAMES, OPERATORS_NOT_YET};

    #[test]
    fn every_operator_is_built_or_refused() {
        assert!(TABLE.is_sorted_by_key(|(name, _)| name));
        for name in OPERATOR_NAMES {
            let short = ["h", "l", "nh", "s", "str2b64"].contains(name);
            let built = TABLE.iter().any(|(known, _)| known == name);
            assert!(built != (short || OPERATORS_NOT_YET.contains(name)), "{name}");
        }
    }
}
