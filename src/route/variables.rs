//! What a router sees of an address: `$local_part`, `$domain`, `$r_...`, `$address_data` and their kin.

use super::generic::Generic;
use super::item::{Item, Trouble, ancestors};
use super::precondition::{expand_trouble, items};
use crate::expand::context::AddressVars;
use crate::expand::{self, Context, ExpandError};
use crate::syntax::Template;
use crate::text::Value;
use bstr::ByteSlice;

/// The variables of one address before a router looks at it.
pub fn set_variables(router: &Generic, item: &Item, context: &mut Context) {
    let mut local_part = item.address.unquoted_local_part();
    if !router.caseful_local_part {
        local_part.make_ascii_lowercase();
    }
    let top = ancestors(item).last();
    context.address = AddressVars {
        local_part: Some(Value::tainted(local_part)),
        domain: Some(Value::tainted(item.address.domain().to_ascii_lowercase())),
        original: Some(top.map_or_else(|| item.address.clone(), |ancestor| ancestor.seen.clone())),
        parent: item.parent.as_ref().map(|ancestor| ancestor.seen.clone()),
        address_data: item.address_data.clone(),
        router_name: router.name.clone(),
        self_hostname: item.self_hostname.clone(),
        router_variables: item.variables.clone(),
        ..AddressVars::default()
    };
}

/// `set` and `address_data`; false: the router declines.
pub fn set_data(router: &Generic, item: &mut Item, context: &mut Context) -> Result<bool, Trouble> {
    for list in &router.variables {
        for setting in items(list.text(), b';') {
            let (name, value) = setting.split_once_str("=").unwrap_or((setting.as_bytes(), b""));
            let template = Template::parse(value.trim(), list.at())
                .map_err(|error| Trouble::defer(router.name.as_bstr(), error.to_string()))?;
            match expand::expand(&template, context) {
                Ok(value) => {
                    item.variables.insert(name.trim().into(), value.clone());
                    context.address.router_variables.insert(name.trim().into(), value);
                }
                Err(ExpandError::Forced(_)) => return Ok(false),
                Err(error) => return Err(expand_trouble(router, &template, "set", &error)),
            }
        }
    }
    let Some(template) = &router.address_data else { return Ok(true) };
    match expand::expand(template, context) {
        Ok(value) => {
            item.address_data = Some(value.clone());
            context.address.address_data = Some(value);
            Ok(true)
        }
        Err(ExpandError::Forced(_)) => Ok(false),
        Err(error) => Err(expand_trouble(router, template, "address_data", &error)),
    }
}
