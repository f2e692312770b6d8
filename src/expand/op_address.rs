//! Operators on addresses: `address`, `addresses`, `domain`, `local_part`.

use super::ExpandError;
use super::operator::Call;
use crate::mail::{Address, Syntax, parse_address, parse_list};
use crate::text::{Value, list};
use bstr::BString;

/// Everything that `${address:` reads.
const SYNTAX: Syntax =
    Syntax { domain_literals: true, utf8_domains: true, strip_trailing_dot: false, null: false };

fn parsed(text: &[u8]) -> Option<Address> {
    parse_address(text, SYNTAX).ok().map(|parsed| parsed.address)
}

/// The address in a header's text; nothing if there is none.
pub fn address(call: Call) -> Result<Value, ExpandError> {
    let found = parsed(call.text.bytes()).map(|address| address.to_bytes()).unwrap_or_default();
    Ok(call.text.derive(found))
}

/// Its domain.
pub fn domain(call: Call) -> Result<Value, ExpandError> {
    let found = parsed(call.text.bytes()).map(|address| BString::from(address.domain())).unwrap_or_default();
    Ok(call.text.derive(found))
}

/// Its local part.
pub fn local_part(call: Call) -> Result<Value, ExpandError> {
    let found =
        parsed(call.text.bytes()).map(|address| BString::from(address.local_part())).unwrap_or_default();
    Ok(call.text.derive(found))
}

/// All addresses of a header's text as a list; `>x` at its start chooses the separator.
pub fn addresses(call: Call) -> Result<Value, ExpandError> {
    let (separator, text) = match call.text.bytes().as_ref() as &[u8] {
        [b'>', separator, text @ ..] => (*separator, text),
        text => (b':', text),
    };
    let mut builder = list::Builder::new(separator);
    for item in parse_list(text, SYNTAX) {
        if let Ok(parsed) = item.parsed {
            builder.push(&parsed.address.to_bytes());
        }
    }
    Ok(call.text.derive(builder.finish()))
}
