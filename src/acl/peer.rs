//! The peer as log lines name it: `H=name (helo) [1.2.3.4] U=ident`.
//!
//! Specification: chapter "Log files", and lines recorded from Exim.

use crate::log::line::full_host_as_selected;
use crate::log::{Selector, Selectors};
use crate::mail::Origin;
use bstr::BString;

/// The peer in a log line, with port and interface as selected; `label` puts `H=` before a host. A local caller
/// is `U=login`, or `login`.
pub fn host_and_ident(origin: &Origin, selectors: Selectors, label: bool) -> BString {
    let ident = origin.ident.as_ref().filter(|ident| !ident.is_empty());
    if origin.host.is_none() {
        return match ident {
            Some(ident) if label => format!("U={ident}").into(),
            Some(ident) => ident.clone(),
            None => "local".into(),
        };
    }
    let mut text = BString::from(if label { "H=" } else { "" });
    text.extend_from_slice(&full_host_as_selected(origin, selectors));
    if let Some((address, port)) = origin.interface.filter(|_| selectors.has(Selector::IncomingInterface)) {
        text.extend_from_slice(format!(" I=[{address}]:{port}").as_bytes());
    }
    if let Some(ident) = ident {
        text.extend_from_slice(format!(" U={ident}").as_bytes());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host_and_ident(origin: &Origin, label: bool) -> BString {
        super::host_and_ident(origin, Selectors::default(), label)
    }

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
