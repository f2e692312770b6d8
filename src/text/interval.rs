//! Exim's time intervals: `1w2d3h4m5s`.
//!
//! Specification: section "Time intervals". Units may be written in any order and may be larger than the
//! next unit (`90m`); printing always gives the shortest form, with `0s` for nothing.

use std::time::Duration;

const UNITS: [(u8, u64); 5] = [(b'w', 604_800), (b'd', 86_400), (b'h', 3_600), (b'm', 60), (b's', 1)];

/// Reads an interval; none if the whole text is not one.
pub fn parse(text: &[u8]) -> Option<Duration> {
    if text.is_empty() {
        return None;
    }
    let mut seconds = 0u64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let number: u64 = std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
        let unit = rest.get(digits)?.to_ascii_lowercase();
        let (_, length) = UNITS.iter().find(|(letter, _)| *letter == unit)?;
        seconds = seconds.checked_add(number.checked_mul(*length)?)?;
        rest = &rest[digits + 1..];
    }
    Some(Duration::from_secs(seconds))
}

/// Prints an interval as `-bP` does; fractions of a second are left out.
pub fn print(interval: Duration) -> String {
    let mut seconds = interval.as_secs();
    if seconds == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (letter, length) in UNITS {
        let count = seconds / length;
        seconds %= length;
        if count > 0 {
            text.push_str(&count.to_string());
            text.push(char::from(letter));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_the_shortest_form_of_what_was_written() {
        for (written, printed) in [
            ("90m", "1h30m"),
            ("36h", "1d12h"),
            ("0s", "0s"),
            ("7d", "1w"),
            ("1w2d3h4m5s", "1w2d3h4m5s"),
            ("1s1s", "2s"),
        ] {
            assert_eq!(print(parse(written.as_bytes()).unwrap()), printed);
        }
    }

    #[test]
    fn text_that_is_no_interval_is_refused() {
        for text in ["", "3", "x", "3x", "3h x", "-3h", "h", "99999999999999999999w"] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }
}
