//! Items that walk a list: `filter`, `map`, `reduce`, `sort`.

use super::eval::{self, Saved, SavedItem};
use super::evaluate_condition::{self, compare, number, relates};
use super::{ExpandError, failed};
use crate::expand::Context;
use crate::syntax::names::{CONDITION_NAMES, find};
use crate::syntax::relation;
use crate::syntax::tree::{Condition, Relation, Tree};
use crate::text::Value;
use crate::text::list::{Builder, List};
use std::cmp::Ordering;

/// `${filter`: the items that meet the condition.
pub fn filter(list: &Tree, condition: &Condition, context: &Context) -> Result<Value, ExpandError> {
    let all = eval::list(list, context)?;
    let items = List::new(all.bytes());
    let mut kept = Builder::new(items.separator);
    let _saved = (SavedItem::of(context), Saved::of(context));
    for item in items.items() {
        context.dynamic.borrow_mut().item = Some(all.derive(item.clone()));
        if evaluate_condition::holds(condition, context)
            .map_err(|error| error.inside("\"filter\" condition"))?
        {
            kept.push(&item);
        }
    }
    Ok(all.derive(kept.finish()))
}

/// `${map`: each item made anew.
pub fn map(list: &Tree, text: &Tree, context: &Context) -> Result<Value, ExpandError> {
    let all = eval::list(list, context)?;
    let items = List::new(all.bytes());
    let mut made = Builder::new(items.separator);
    let mut tainted = all.is_tainted();
    let _saved = SavedItem::of(context);
    let mut length = 0;
    for item in items.items() {
        context.dynamic.borrow_mut().item = Some(all.derive(item));
        let value = eval::tree(text, context).map_err(|error| error.inside("\"map\" item"))?;
        tainted |= value.is_tainted();
        length += value.bytes().len();
        if length > eval::MAX_LENGTH {
            return failed("result of expansion is too long");
        }
        made.push(value.bytes());
    }
    Ok(Value::with_taint(made.finish(), tainted))
}

/// `${reduce`: one value from all items.
pub fn reduce(list: &Tree, start: &Tree, text: &Tree, context: &Context) -> Result<Value, ExpandError> {
    let all = eval::list(list, context)?;
    let mut value = eval::tree(start, context)?;
    let _saved = (SavedItem::of(context), Saved::of(context));
    for item in List::new(all.bytes()).items() {
        {
            let mut dynamic = context.dynamic.borrow_mut();
            dynamic.item = Some(all.derive(item));
            dynamic.value = Some(value);
        }
        value = eval::tree(text, context).map_err(|error| error.inside("\"reduce\" item"))?;
    }
    Ok(value)
}

/// How `${sort` compares.
struct Order {
    relation: Relation,
    numbers: bool,
    caseless: bool,
}

impl Order {
    fn of(name: &[u8]) -> Result<Self, ExpandError> {
        let Some(name) = find(CONDITION_NAMES, name) else {
            return failed(format!("unknown comparator \"{}\" for sort", bstr::BStr::new(name)));
        };
        match relation(name) {
            Some(Relation::Equal) | None => failed("comparator not handled for sort"),
            Some(relation) => {
                Ok(Self { relation, numbers: name.starts_with(['<', '>']), caseless: name.ends_with('i') })
            }
        }
    }

    /// What is no number stands before nothing, as Exim has it.
    fn before(&self, left: &Value, right: &Value) -> bool {
        let order: Ordering = match self.numbers {
            true => match (number(left.bytes()), number(right.bytes())) {
                (Ok(left), Ok(right)) => left.cmp(&right),
                _ => return false,
            },
            false => compare(left.bytes(), right.bytes(), self.caseless),
        };
        relates(self.relation, order)
    }
}

/// `${sort`: an item goes before the first one that it must stand before.
pub fn sort(
    list: &Tree,
    comparator: &Tree,
    extractor: &Tree,
    context: &Context,
) -> Result<Value, ExpandError> {
    let all = eval::list(list, context)?;
    let order = Order::of(eval::tree(comparator, context)?.bytes())?;
    let items = List::new(all.bytes());
    let mut sorted: Vec<(Value, bstr::BString)> = Vec::new();
    let _saved = SavedItem::of(context);
    for item in items.items() {
        context.dynamic.borrow_mut().item = Some(all.derive(item.clone()));
        let key = eval::tree(extractor, context).map_err(|error| error.inside("\"sort\" item"))?;
        let mut place = sorted.len();
        for (index, (other, _)) in sorted.iter().enumerate() {
            if order.before(&key, other) {
                place = index;
                break;
            }
        }
        sorted.insert(place, (key, item));
    }
    let mut made = Builder::new(items.separator);
    sorted.iter().for_each(|(_, item)| made.push(item));
    Ok(all.derive(made.finish()))
}
