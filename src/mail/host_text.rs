//! The peer in words: `$sender_fullhost`, `$sender_rcvhost`, and the fields `H=`, `I=`, `U=` of log lines.
//! (Forms recorded from Exim.)

use super::Origin;
use bstr::{BStr, BString, ByteSlice};
use std::net::SocketAddr;

/// `[192.0.2.5]`, with `:port` if wanted (selector `incoming_port`) and known.
fn address(host: SocketAddr, with_port: bool) -> String {
    if with_port && host.port() != 0 {
        format!("[{}]:{}", host.ip(), host.port())
    } else {
        format!("[{}]", host.ip())
    }
}

/// The HELO name, where it tells more than name and address do.
fn telling_helo(origin: &Origin) -> Option<&BStr> {
    let helo = origin.helo.as_ref().filter(|helo| !helo.is_empty())?;
    let is_name = origin.host_name.as_ref().is_some_and(|name| name.eq_ignore_ascii_case(helo));
    (!is_name).then(|| helo.as_bstr())
}

/// `name (helo) [address]`; empty without a host.
pub fn full_host(origin: &Origin, with_port: bool) -> BString {
    let Some(host) = origin.host else { return BString::default() };
    let mut text = BString::default();
    if let Some(name) = &origin.host_name {
        text.extend_from_slice(name);
        text.push(b' ');
    }
    if let Some(helo) = telling_helo(origin) {
        text.push(b'(');
        text.extend_from_slice(helo);
        text.extend_from_slice(b") ");
    }
    text.extend_from_slice(address(host, with_port).as_bytes());
    text
}

/// What stands after `from` in a Received: line; empty without a host.
pub fn received_host(origin: &Origin, with_port: bool) -> BString {
    let Some(host) = origin.host else { return BString::default() };
    let plain_address = format!("[{}]", host.ip());
    let helo =
        telling_helo(origin).filter(|helo| origin.host_name.is_some() || *helo != plain_address.as_str());
    let mut comment: Vec<u8> = Vec::new();
    if origin.host_name.is_some() {
        comment.extend_from_slice(address(host, with_port).as_bytes());
    } else if with_port && host.port() != 0 {
        comment.extend_from_slice(format!("port={}", host.port()).as_bytes());
    }
    let ident = origin.ident.as_ref().filter(|ident| !ident.is_empty());
    for (name, value) in [("helo=", helo), ("ident=", ident.map(|ident| ident.as_bstr()))] {
        if let Some(value) = value {
            if !comment.is_empty() {
                comment.push(b' ');
            }
            comment.extend_from_slice(name.as_bytes());
            comment.extend_from_slice(value);
        }
    }
    let mut text = origin.host_name.clone().unwrap_or_else(|| plain_address.into());
    if !comment.is_empty() {
        let fold = origin.host_name.is_some() && helo.is_some();
        text.extend_from_slice(if fold { b"\n\t(" } else { b" (" });
        text.extend_from_slice(&comment);
        text.push(b')');
    }
    text
}

/// What log lines show of the peer's fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostFields {
    /// Selector `incoming_port`.
    pub port: bool,
    /// Selector `incoming_interface`: `I=`.
    pub interface: bool,
}

/// `H=name (helo) [address]:port I=[address]:port U=ident`; for a local caller only `U=login`.
pub fn host_fields(origin: &Origin, fields: HostFields) -> BString {
    let mut text = BString::default();
    if origin.host.is_some() {
        text.extend_from_slice(b"H=");
        text.extend_from_slice(&full_host(origin, fields.port));
        if let Some((address, port)) = origin.interface.filter(|_| fields.interface) {
            text.extend_from_slice(format!(" I=[{address}]:{port}").as_bytes());
        }
    }
    if let Some(ident) = origin.ident.as_ref().filter(|ident| !ident.is_empty()) {
        if !text.is_empty() {
            text.push(b' ');
        }
        text.extend_from_slice(b"U=");
        text.extend_from_slice(ident);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(name: &str, helo: &str, ident: &str) -> Origin {
        let optional = |text: &str| (!text.is_empty()).then(|| BString::from(text));
        Origin {
            host: "192.0.2.5:1234".parse().ok(),
            host_name: optional(name),
            helo: optional(helo),
            ident: optional(ident),
            ..Origin::default()
        }
    }

    #[test]
    fn received_lines_name_the_peer_as_exim_does() {
        for (name, helo, ident, without, with) in [
            ("h.ex", "H.ex", "", "h.ex ([192.0.2.5])", "h.ex ([192.0.2.5]:1234)"),
            ("h.ex", "h.ex", "i", "h.ex ([192.0.2.5] ident=i)", "h.ex ([192.0.2.5]:1234 ident=i)"),
            ("h.ex", "o", "", "h.ex\n\t([192.0.2.5] helo=o)", "h.ex\n\t([192.0.2.5]:1234 helo=o)"),
            ("", "o", "i", "[192.0.2.5] (helo=o ident=i)", "[192.0.2.5] (port=1234 helo=o ident=i)"),
            ("", "[192.0.2.5]", "", "[192.0.2.5]", "[192.0.2.5] (port=1234)"),
        ] {
            let origin = origin(name, helo, ident);
            assert_eq!(received_host(&origin, false), without);
            assert_eq!(received_host(&origin, true), with);
        }
    }

    #[test]
    fn log_lines_name_the_peer_as_exim_does() {
        assert_eq!(full_host(&origin("", "[192.0.2.5]", ""), false), "([192.0.2.5]) [192.0.2.5]");
        assert_eq!(full_host(&origin("h.ex", "o", ""), true), "h.ex (o) [192.0.2.5]:1234");
        let mut peer = origin("h.ex", "h.ex", "i");
        peer.interface = Some((std::net::Ipv4Addr::new(192, 0, 2, 1).into(), 25));
        let fields = HostFields { interface: true, ..HostFields::default() };
        assert_eq!(host_fields(&peer, fields), "H=h.ex [192.0.2.5] I=[192.0.2.1]:25 U=i");
        peer.host = None;
        assert_eq!(host_fields(&peer, fields), "U=i");
    }
}
