//! The peer as log lines name it: `H=name (helo) [1.2.3.4] U=ident`.
//!
//! Specification: chapter "Log files", and lines recorded from Exim.

use crate::mail::Origin;
use bstr::BString;

/// `name (helo) [address]`, as `$sender_fullhost`; empty without a host.
pub fn full_host(origin: &Origin) -> BString {
    let Some(host) = origin.host else { return BString::default() };
    let address = format!("[{}]", host.ip());
    let helo = origin.helo.as_ref().filter(|helo| !helo.is_empty());
    match (&origin.host_name, helo) {
        (None, None) => address.into(),
        (None, Some(helo)) => format!("({helo}) {address}").into(),
        (Some(name), None) => format!("{name} {address}").into(),
        (Some(name), Some(helo)) if name.eq_ignore_ascii_case(helo) => format!("{name} {address}").into(),
        (Some(name), Some(helo)) => format!("{name} ({helo}) {address}").into(),
    }
}

/// The peer in a log line; `label` puts `H=` before a host. A local caller is `U=login`, or `login`.
pub fn host_and_ident(origin: &Origin, label: bool) -> BString {
    let host = full_host(origin);
    let ident = origin.ident.as_ref().filter(|ident| !ident.is_empty());
    match (host.is_empty(), ident) {
        (true, Some(ident)) if label => format!("U={ident}").into(),
        (true, Some(ident)) => ident.clone(),
        (true, None) => "local".into(),
        (false, ident) => {
            let mut text = format!("{}{host}", if label { "H=" } else { "" });
            if let Some(ident) = ident {
                text.push_str(&format!(" U={ident}"));
            }
            text.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helo_name_that_is_not_the_hosts_stands_in_brackets() {
        let host = Some("192.0.2.1:4000".parse().unwrap());
        let mut origin = Origin { host, ..Origin::default() };
        assert_eq!(host_and_ident(&origin, true), "H=[192.0.2.1]");
        origin.helo = Some("client.ex".into());
        assert_eq!(host_and_ident(&origin, true), "H=(client.ex) [192.0.2.1]");
        origin.host_name = Some("client.ex".into());
        assert_eq!(host_and_ident(&origin, false), "client.ex [192.0.2.1]");
        origin.host_name = Some("other.ex".into());
        assert_eq!(host_and_ident(&origin, false), "other.ex (client.ex) [192.0.2.1]");
        let local = Origin { ident: Some("joe".into()), ..Origin::default() };
        assert_eq!(host_and_ident(&local, true), "U=joe");
    }
}
