//! Conditions of `${if`: comparing, joining, lists. Single tests are in `condition_test`.

use super::eval::{self, SavedItem};
use super::{ExpandError, condition_test, failed, header, json, variable};
use crate::expand::Context;
use crate::syntax::tree::{Condition, Relation, Tree};
use crate::text::{Value, list};
use bstr::{BString, ByteSlice};
use std::cmp::Ordering;

/// Does it hold?
pub fn holds(condition: &Condition, context: &Context) -> Result<bool, ExpandError> {
    match condition {
        Condition::Not(inner) => holds(inner, context).map(|held| !held),
        Condition::All(conditions) => {
            for each in conditions {
                if !holds(each, context).map_err(|error| error.inside("\"and{...}\" condition"))? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        Condition::Any(conditions) => {
            for each in conditions {
                if holds(each, context).map_err(|error| error.inside("\"or{...}\" condition"))? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Condition::Numbers { relation, sides } => {
            let left = number(eval::tree(&sides.0, context)?.bytes())?;
            let right = number(eval::tree(&sides.1, context)?.bytes())?;
            Ok(relates(*relation, left.cmp(&right)))
        }
        Condition::Strings { relation, caseless, sides } => {
            let left = eval::tree(&sides.0, context)?;
            let right = eval::tree(&sides.1, context)?;
            Ok(relates(*relation, compare(left.bytes(), right.bytes(), *caseless)))
        }
        Condition::Defined(name) => {
            Ok(variable::value(name, context)?.is_some_and(|value| !value.is_empty()))
        }
        Condition::HeaderDefined(name) => Ok(header::exists(name, context)),
        Condition::Each { name, list, condition } => each(name, list, condition, context),
        Condition::Test { name, arguments } => condition_test::test(name, arguments, context),
    }
}

/// Does this order fit the relation?
pub fn relates(relation: Relation, order: Ordering) -> bool {
    match relation {
        Relation::Equal => order.is_eq(),
        Relation::Less => order.is_lt(),
        Relation::LessOrEqual => order.is_le(),
        Relation::Greater => order.is_gt(),
        Relation::GreaterOrEqual => order.is_ge(),
    }
}

/// Byte order, or that of the lower-case letters.
pub fn compare(left: &[u8], right: &[u8], caseless: bool) -> Ordering {
    if !caseless {
        return left.cmp(right);
    }
    left.iter().map(u8::to_ascii_lowercase).cmp(right.iter().map(u8::to_ascii_lowercase))
}

/// A number as conditions read it: a sign, decimal digits, K, M or G; empty is 0.
pub fn number(text: &[u8]) -> Result<i64, ExpandError> {
    let word = text.trim();
    if word.is_empty() {
        return Ok(0);
    }
    let signed = word.strip_prefix(b"-").or_else(|| word.strip_prefix(b"+")).unwrap_or(word);
    let digits = signed.iter().take_while(|b| b.is_ascii_digit()).count();
    if digits == 0 {
        return failed(format!("integer expected but \"{}\" found", text.as_bstr()));
    }
    let shift = match &signed[digits..] {
        b"" => 0,
        b"k" | b"K" => 10,
        b"m" | b"M" => 20,
        b"g" | b"G" => 30,
        _ => return failed(format!("invalid integer \"{}\"", text.as_bstr())),
    };
    let too_large = || {
        let text = text.as_bstr();
        ExpandError::Failed(format!("absolute value of integer \"{text}\" is too large (overflow)"))
    };
    let size: i64 = signed[..digits].to_str_lossy().parse().map_err(|_| too_large())?;
    let size = size.checked_mul(1 << shift).ok_or_else(too_large)?;
    Ok(if word[0] == b'-' { -size } else { size })
}

/// `forany`, `forall` and their JSON forms; `forall` of an empty list does not hold.
fn each(name: &str, items: &Tree, condition: &Condition, context: &Context) -> Result<bool, ExpandError> {
    let value = eval::list(items, context)?;
    let (stop_at, elements): (bool, Vec<BString>) = match name.split_once('_') {
        None => (name == "forany", list::items(value.bytes()).collect()),
        Some((kind, form)) => {
            let elements = json::elements(value.bytes()).map_err(ExpandError::Failed)?;
            let elements: Option<Vec<BString>> = match form {
                "jsons" => elements.into_iter().map(json::string_content).collect(),
                _ => Some(elements.into_iter().map(BString::from).collect()),
            };
            let Some(elements) = elements else {
                return failed("missing '\"' wrapping string result for extract jsons");
            };
            (kind == "forany", elements)
        }
    };
    let _saved = SavedItem::of(context);
    let mut last = false;
    for element in elements {
        context.dynamic.borrow_mut().item = Some(value.derive(element));
        last = holds(condition, context).map_err(|error| error.inside(&format!("\"{name}\" condition")))?;
        if last == stop_at {
            return Ok(stop_at);
        }
    }
    Ok(last)
}

/// The text of one argument.
pub fn argument(arguments: &[Tree], index: usize, context: &Context) -> Result<Value, ExpandError> {
    arguments.get(index).map_or_else(|| Ok(Value::default()), |tree| eval::tree(tree, context))
}
