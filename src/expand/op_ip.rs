//! Operators on IP addresses: `mask`, `reverse_ip`, `ipv6norm`, `ipv6denorm`.

use super::operator::Call;
use super::{ExpandError, failed};
use crate::text::Value;
use bstr::ByteSlice;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

fn parse(text: &[u8]) -> Option<IpAddr> {
    text.to_str().ok()?.parse().ok()
}

fn as_v6(call: &Call) -> Result<Ipv6Addr, ExpandError> {
    match parse(call.text.bytes()) {
        Some(IpAddr::V6(address)) => Ok(address),
        Some(IpAddr::V4(address)) => Ok(address.to_ipv6_mapped()),
        None => failed(format!("\"{}\" is not an IP address", call.text.bytes())),
    }
}

/// Groups of hexadecimal digits; the first longest run of zero groups, even of one, is `::`.
fn normal(address: Ipv6Addr) -> String {
    let groups = address.segments();
    let (mut start, mut longest) = (0, 0);
    for from in 0..8 {
        let run = groups[from..].iter().take_while(|group| **group == 0).count();
        if run > longest {
            (start, longest) = (from, run);
        }
    }
    let hexadecimal =
        |groups: &[u16]| groups.iter().map(|group| format!("{group:x}")).collect::<Vec<_>>().join(":");
    if longest == 0 {
        return hexadecimal(&groups);
    }
    format!("{}::{}", hexadecimal(&groups[..start]), hexadecimal(&groups[start + longest..]))
}

fn whole(address: Ipv6Addr, between: &str) -> String {
    address.segments().iter().map(|group| format!("{group:04x}")).collect::<Vec<_>>().join(between)
}

/// Eight groups of four digits.
pub fn ipv6denorm(call: Call) -> Result<Value, ExpandError> {
    Ok(call.text.derive(whole(as_v6(&call)?, ":")))
}

/// The shortest form.
pub fn ipv6norm(call: Call) -> Result<Value, ExpandError> {
    Ok(call.text.derive(normal(as_v6(&call)?)))
}

/// The bits of a mask, as a number of all bits.
fn keep(bits: u32, width: u32) -> u128 {
    if bits == 0 { 0 } else { u128::MAX << (width - bits) }
}

/// The address without its host bits.
pub fn masked(address: IpAddr, bits: u32) -> IpAddr {
    match address {
        IpAddr::V4(v4) => Ipv4Addr::from(u32::from(v4) & keep(bits.min(32), 32) as u32).into(),
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) & keep(bits.min(128), 128)).into(),
    }
}

/// How a masked address is written as a key: dots instead of colons, since a colon ends a key in a file.
pub fn key_form(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => whole(v6, "."),
    }
}

/// `address/bits`; `mask_n` writes IPv6 in its shortest form.
pub fn mask(call: Call) -> Result<Value, ExpandError> {
    let text = call.text.bytes();
    let (address, bits) = match text.split_once_str("/") {
        Some((address, bits)) => (address, Some(bits)),
        None => (text.as_ref(), None),
    };
    let Some(address) = parse(address) else { return failed(format!("\"{text}\" is not an IP address")) };
    let Some(bits) = bits else { return failed(format!("missing mask value in \"{text}\"")) };
    let width = if address.is_ipv4() { 32 } else { 128 };
    let digits = !bits.is_empty() && bits.iter().all(u8::is_ascii_digit);
    if !digits {
        return failed(format!("\"{text}\" is not an IP address"));
    }
    let bits: u32 = bits.to_str_lossy().parse().unwrap_or(u32::MAX);
    if bits > width {
        return failed(format!("mask value too big in \"{text}\""));
    }
    let shown = match (masked(address, bits), call.suffix) {
        (IpAddr::V6(v6), Some(b"n")) => normal(v6),
        (address, _) => key_form(address),
    };
    Ok(call.text.derive(format!("{shown}/{bits}")))
}

/// The form in which DNS names an address: reversed bytes or nibbles, with dots.
pub fn reversed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.octets().iter().rev().map(u8::to_string).collect::<Vec<_>>().join("."),
        IpAddr::V6(v6) => {
            let nibbles = v6.octets().into_iter().rev().flat_map(|byte| [byte & 15, byte >> 4]);
            nibbles.map(|nibble| format!("{nibble:x}")).collect::<Vec<_>>().join(".")
        }
    }
}

/// [`reversed`] of the text.
pub fn reverse_ip(call: Call) -> Result<Value, ExpandError> {
    match parse(call.text.bytes()) {
        Some(address) => Ok(call.text.derive(reversed(address))),
        None => failed(format!("reverse_ip() not given an IP address [{}]", call.text.bytes())),
    }
}
