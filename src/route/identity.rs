//! Users and groups that the configuration names: the identity a router gives to a local delivery.

use super::generic::Generic;
use super::item::Trouble;
use super::precondition::expand_trouble;
use crate::expand::context::UserEntry;
use crate::expand::{self, Context};
use bstr::{BStr, BString, ByteSlice};

/// uid and gid that a router gives to the transport: `user` and `group`, else the local user's.
pub fn identity(
    router: &Generic,
    user: Option<&UserEntry>,
    context: &Context,
) -> Result<Option<(u32, u32)>, Trouble> {
    let local = user.map(|user| (user.uid, user.gid));
    let named = match &router.user {
        None => local,
        Some(template) => {
            let name = expand::expand(template, context)
                .map_err(|error| expand_trouble(router, template, "user", &error))?;
            Some(
                find_user(name.bytes(), context)
                    .map_err(|text| Trouble::defer(router.name.as_bstr(), text))?,
            )
        }
    };
    let Some(template) = &router.group else { return Ok(named) };
    let name = expand::expand(template, context)
        .map_err(|error| expand_trouble(router, template, "group", &error))?;
    let gid =
        find_group(name.bytes(), context).map_err(|text| Trouble::defer(router.name.as_bstr(), text))?;
    Ok(named.map(|(uid, _)| (uid, gid)))
}

/// uid and gid of a user written by name or number.
pub fn find_user(name: &BStr, context: &Context) -> Result<(u32, u32), BString> {
    if let Some(uid) = number(name) {
        let entry = context.globals.users.by_uid(uid).map_err(|error| BString::from(error.to_string()))?;
        return Ok((uid, entry.map_or(context.globals.oxim_gid, |entry| entry.gid)));
    }
    match context.globals.users.by_name(name) {
        Ok(Some(entry)) => Ok((entry.uid, entry.gid)),
        Ok(None) => Err(format!("User \"{name}\" not found").into()),
        Err(error) => Err(format!("User \"{name}\" could not be looked up: {error}").into()),
    }
}

/// gid of a group written by name or number.
pub fn find_group(name: &BStr, context: &Context) -> Result<u32, BString> {
    if let Some(gid) = number(name) {
        return Ok(gid);
    }
    match context.globals.users.group(name) {
        Ok(Some(gid)) => Ok(gid),
        Ok(None) => Err(format!("Group \"{name}\" not found").into()),
        Err(error) => Err(format!("Group \"{name}\" could not be looked up: {error}").into()),
    }
}

fn number(text: &BStr) -> Option<u32> {
    text.to_str().ok()?.parse().ok()
}
