//! The walk through a tree.

use super::{ExpandError, evaluate_condition, failed, header, operator, variable};
use super::{item_call, item_certificate, item_extract, item_list, item_lookup};
use crate::expand::Context;
use crate::syntax::tree::{Branches, Item, Otherwise, Part, Tree};
use crate::text::Value;
use bstr::ByteSlice;

/// Longest value of one expansion, in bytes: a message of the default `message_size_limit` read by
/// `${readfile` fits; what grows without end (`${map`, `${sg`) is stopped.
pub const MAX_LENGTH: usize = 64 * 1024 * 1024;

/// Expands a tree.
pub fn tree(tree: &Tree, context: &Context) -> Result<Value, ExpandError> {
    match tree.parts.as_slice() {
        [Part::Literal(text)] => Ok(Value::clean(text.clone())),
        [only] => part(only, context),
        parts => {
            let mut out = Value::default();
            for each in parts {
                match each {
                    Part::Literal(text) => out.push_clean(text),
                    _ => out.push(&part(each, context)?),
                }
                check_length(out.bytes())?;
            }
            Ok(out)
        }
    }
}

/// Refuses what grew too long.
pub fn check_length(text: &[u8]) -> Result<(), ExpandError> {
    if text.len() > MAX_LENGTH {
        return failed(format!("result of expansion is longer than {MAX_LENGTH} bytes"));
    }
    Ok(())
}

fn part(part: &Part, context: &Context) -> Result<Value, ExpandError> {
    match part {
        Part::Literal(text) => Ok(Value::clean(text.clone())),
        Part::Capture(number) => {
            let dynamic = context.dynamic.borrow();
            Ok(dynamic.captures.get(*number as usize).cloned().flatten().unwrap_or_default())
        }
        Part::Variable(name) => variable::value(name, context).map(Option::unwrap_or_default),
        Part::Header(name) => header::value(name, context),
        Part::Operator(call) => operator::apply(call, context),
        Part::Item(each) => item(each, context),
    }
}

fn item(item: &Item, context: &Context) -> Result<Value, ExpandError> {
    match item {
        Item::If { condition, branches } => {
            let saved = Saved::of(context);
            let holds = evaluate_condition::holds(condition, context)?;
            let value = choose("if", holds, branches, Value::clean("true"), context)?;
            drop(saved);
            Ok(value)
        }
        Item::Lookup { kind, key, data, branches } => {
            item_lookup::lookup(kind, key.as_ref(), data, branches, context)
        }
        Item::Extract { form, arguments, fail } => item_extract::extract(*form, arguments, *fail, context),
        Item::ListExtract { number, list, branches } => {
            item_extract::list_extract(number, list, branches, context)
        }
        Item::CertificateField { field, certificate, branches } => {
            item_certificate::extract(field, certificate, branches, context)
        }
        Item::Env { key, branches } => item_call::env(key, branches, context),
        Item::Filter { list, condition } => item_list::filter(list, condition, context),
        Item::Map { list, text } => item_list::map(list, text, context),
        Item::Reduce { list, start, text } => item_list::reduce(list, start, text, context),
        Item::Sort { list, comparator, extractor } => item_list::sort(list, comparator, extractor, context),
        Item::Call { name, arguments } => item_call::call(name, arguments, context),
    }
}

/// One of the two strings of a conditional item; `own` is the item's own text.
pub fn choose(
    item: &str,
    holds: bool,
    branches: &Branches,
    own: Value,
    context: &Context,
) -> Result<Value, ExpandError> {
    if holds {
        return match &branches.yes {
            Some(yes) => tree(yes, context),
            None => Ok(own),
        };
    }
    match &branches.no {
        Otherwise::Nothing => Ok(Value::default()),
        Otherwise::Text(no) => tree(no, context),
        Otherwise::Fail => Err(ExpandError::Forced(format!("\"{item}\" failed and \"fail\" requested"))),
    }
}

/// [`choose`] for an item that found (or did not find) a value: `$value` while the first string is expanded.
pub fn choose_with_value(
    item: &str,
    found: Option<Value>,
    branches: &Branches,
    context: &Context,
) -> Result<Value, ExpandError> {
    let Some(value) = found else { return choose(item, false, branches, Value::default(), context) };
    if branches.yes.is_none() {
        return Ok(value);
    }
    let _saved = Saved::of(context);
    context.dynamic.borrow_mut().value = Some(value);
    choose(item, true, branches, Value::default(), context)
}

/// `$value` and the captures as they were; they come back when it is dropped.
pub struct Saved<'c, 'h> {
    context: &'c Context<'h>,
    value: Option<Value>,
    captures: Vec<Option<Value>>,
}

impl<'c, 'h> Saved<'c, 'h> {
    /// Remembers them.
    pub fn of(context: &'c Context<'h>) -> Self {
        let dynamic = context.dynamic.borrow();
        Self { context, value: dynamic.value.clone(), captures: dynamic.captures.clone() }
    }
}

impl Drop for Saved<'_, '_> {
    fn drop(&mut self) {
        let mut dynamic = self.context.dynamic.borrow_mut();
        dynamic.value = self.value.take();
        dynamic.captures = std::mem::take(&mut self.captures);
    }
}

/// `$item` as it was; it comes back when this is dropped.
pub struct SavedItem<'c, 'h> {
    context: &'c Context<'h>,
    item: Option<Value>,
}

impl<'c, 'h> SavedItem<'c, 'h> {
    /// Remembers it.
    pub fn of(context: &'c Context<'h>) -> Self {
        Self { context, item: context.dynamic.borrow().item.clone() }
    }
}

impl Drop for SavedItem<'_, '_> {
    fn drop(&mut self) {
        self.context.dynamic.borrow_mut().item = self.item.take();
    }
}

/// A list argument: expanded, and safe to split. A separator that outside text could choose is refused.
pub fn list(list: &Tree, context: &Context) -> Result<Value, ExpandError> {
    use crate::text::list::List;
    let value = tree(list, context)?;
    let named = List::names_separator(value.bytes());
    if named && value.is_tainted() && !List::names_separator(list.literal_start()) {
        return failed(format!(
            "attempt to use tainted string '{}' as a list separator",
            value.bytes().as_bstr()
        ));
    }
    Ok(value)
}

/// The error of what is known but not built.
pub fn not_yet<T>(name: &str) -> Result<T, ExpandError> {
    failed(format!("\"{name}\" is known but not supported yet"))
}
