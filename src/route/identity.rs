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
    let local = user.map(|user| (user.uid, Some(user.gid)));
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
    let Some(template) = &router.group else {
        return match named {
            Some((_, None)) => {
                let text = format!("user set without group for {} router", router.name);
                Err(Trouble::defer(router.name.as_bstr(), text))
            }
            _ => Ok(named.and_then(|(uid, gid)| Some((uid, gid?)))),
        };
    };
    let name = expand::expand(template, context)
        .map_err(|error| expand_trouble(router, template, "group", &error))?;
    let gid =
        find_group(name.bytes(), context).map_err(|text| Trouble::defer(router.name.as_bstr(), text))?;
    Ok(named.map(|(uid, _)| (uid, gid)))
}

/// uid and gid of a user written by name or number.
///
/// A number that is nobody's has no group: oxim's own, which may read the spool, is not for it.
pub fn find_user(name: &BStr, context: &Context) -> Result<(u32, Option<u32>), BString> {
    if let Some(uid) = number(name) {
        let entry = context.globals.users.by_uid(uid).map_err(|error| BString::from(error.to_string()))?;
        let own = (uid == context.globals.oxim_uid).then_some(context.globals.oxim_gid);
        return Ok((uid, entry.map(|entry| entry.gid).or(own)));
    }
    match context.globals.users.by_name(name) {
        Ok(Some(entry)) => Ok((entry.uid, Some(entry.gid))),
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
