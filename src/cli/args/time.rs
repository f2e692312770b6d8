//! Times and addresses as options give them.

use super::UsageError;
use bstr::{BString, ByteSlice};
use std::net::IpAddr;
use std::time::Duration;

/// A time such as `1w2d3h4m5s` or a number of seconds (section "Time intervals"); none if malformed.
pub(super) fn interval(text: &[u8]) -> Option<Duration> {
    let mut rest = text;
    let mut seconds: u64 = 0;
    if rest.is_empty() {
        return None;
    }
    for (unit, size) in [(b'w', 604_800u64), (b'd', 86_400), (b'h', 3_600), (b'm', 60), (b's', 1)] {
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 {
            break;
        }
        let number: u64 = rest[..digits].to_str().ok()?.parse().ok()?;
        match rest.get(digits) {
            Some(letter) if *letter == unit => rest = &rest[digits + 1..],
            None if unit == b's' || digits == rest.len() => {
                rest = &[];
                seconds = seconds.checked_add(number)?;
                break;
            }
            _ => continue,
        }
        seconds = seconds.checked_add(number.checked_mul(size)?)?;
    }
    rest.is_empty().then(|| Duration::from_secs(seconds))
}

/// `1.2.3.4`, `1.2.3.4.25`, `[1.2.3.4]:25`, and the same for IPv6; port 0 if there is none.
pub(super) fn host_and_port(text: &BString) -> Result<(IpAddr, u16), UsageError> {
    let refusal = || UsageError::new(format!("exim abandoned: \"{text}\" is not an IP address"));
    let plain = text.to_str().map_err(|_| refusal())?;
    split_port(plain).ok_or_else(refusal)
}

pub(super) fn split_port(text: &str) -> Option<(IpAddr, u16)> {
    if let Some(inner) = text.strip_prefix('[') {
        let (address, port) = inner.split_once(']')?;
        let port = match port.strip_prefix(':') {
            Some(port) => port.parse().ok()?,
            None if port.is_empty() => 0,
            None => return None,
        };
        return address.parse().ok().map(|address| (address, port));
    }
    if let Ok(address) = text.parse() {
        return Some((address, 0));
    }
    let (address, port) = text.rsplit_once('.')?;
    Some((address.parse().ok()?, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_add_up_and_anything_else_is_refused() {
        assert_eq!(interval(b"30m"), Some(Duration::from_secs(1800)));
        assert_eq!(interval(b"1d2h3s"), Some(Duration::from_secs(93_603)));
        assert_eq!(interval(b"90"), Some(Duration::from_secs(90)));
        for bad in ["", "x", "5x", "1m1h", "-5"] {
            assert_eq!(interval(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn addresses_carry_a_port_in_either_form() {
        let v4: IpAddr = "10.9.8.7".parse().unwrap();
        assert_eq!(split_port("10.9.8.7"), Some((v4, 0)));
        assert_eq!(split_port("10.9.8.7.1234"), Some((v4, 1234)));
        assert_eq!(split_port("[10.9.8.7]:1234"), Some((v4, 1234)));
        assert_eq!(split_port("::1.25"), Some(("::1".parse().unwrap(), 25)));
        assert_eq!(split_port("1.2.3"), None);
    }
}
