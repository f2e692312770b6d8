//! `passwd`: the user data base; the answer has the form of a line of /etc/passwd without name and password.

use super::LookupError;
use crate::expand::Context;
use crate::text::Value;
use bstr::BString;
use std::os::unix::ffi::OsStrExt;

/// The entry of a login name.
pub fn find(context: &Context, name: &[u8]) -> Result<Option<Value>, LookupError> {
    let Some(user) = context.globals.users.by_name(name)? else { return Ok(None) };
    let mut text = BString::from(format!("*:{}:{}:", user.uid, user.gid));
    for (index, field) in
        [user.gecos.as_slice(), user.home.as_os_str().as_bytes(), user.shell.as_os_str().as_bytes()]
            .into_iter()
            .enumerate()
    {
        if index > 0 {
            text.push(b':');
        }
        text.extend_from_slice(field);
    }
    Ok(Some(Value::clean(text)))
}
