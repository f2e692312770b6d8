//! The conditions that test a list: `match_domain`, `match_address`, `match_local_part`, `match_ip`.
//!
//! Their list is not expanded: outside text cannot become one.

use super::evaluate_condition::argument;
use super::{ExpandError, failed};
use crate::expand::Context;
use crate::matching::{self, HostSubject, Match, MatchError};
use crate::syntax::tree::Tree;
use crate::syntax::{Position, Template};
use bstr::ByteSlice;

/// Is the first argument in the list of the second? `$value` gets the data of a match.
pub fn test(name: &str, arguments: &[Tree], context: &Context) -> Result<bool, ExpandError> {
    let subject = argument(arguments, 0, context)?;
    let text = arguments.get(1).and_then(Tree::literal).unwrap_or_default();
    let list = Template::literal(text, &Position::nowhere("expansion"));
    let answer = match name {
        "match_domain" => matching::domain(context, &subject, &list),
        "match_address" => matching::address(context, &subject, &list),
        "match_local_part" => matching::local_part(context, &subject, &list, false),
        _ => {
            let address = match subject.bytes().to_str().unwrap_or_default() {
                "" => None,
                text => match text.parse() {
                    Ok(address) => Some(address),
                    Err(_) => return failed(format!("\"{}\" is not an IP address", subject.bytes())),
                },
            };
            matching::ip(context, &HostSubject { address, name: None }, &list)
        }
    };
    match answer {
        Ok(Match::Yes(value)) => {
            context.dynamic.borrow_mut().value = value;
            Ok(true)
        }
        Ok(Match::No) => Ok(false),
        Err(MatchError::Defer(why)) => Err(ExpandError::Defer(incomplete(text, &why))),
        // The list itself was expanded before; one that it names was not.
        Err(MatchError::Unexpanded) => {
            Err(ExpandError::Defer(incomplete(text, &MatchError::Unexpanded.to_string())))
        }
        Err(MatchError::Failed(why)) => failed(incomplete(text, &why)),
    }
}

fn incomplete(list: &[u8], why: &str) -> String {
    format!("unable to complete match against \"{}\": {why}", list.as_bstr())
}
