//! Operators on plain strings: `lc`, `uc`, `strlen`, `length`, `substr`, `hash`, `nhash`, `expand`.
//!
//! The functions with numbers also serve the items of the same names.

use super::operator::Call;
use super::{ExpandError, expand_text, failed};
use crate::text::Value;

/// Lower case.
pub fn lc(call: Call) -> Result<Value, ExpandError> {
    Ok(call.text.derive(call.text.bytes().to_ascii_lowercase()))
}

/// Upper case.
pub fn uc(call: Call) -> Result<Value, ExpandError> {
    Ok(call.text.derive(call.text.bytes().to_ascii_uppercase()))
}

/// Bytes.
pub fn strlen(call: Call) -> Result<Value, ExpandError> {
    Ok(Value::clean(call.text.bytes().len().to_string()))
}

/// Expands what came out of the first expansion.
pub fn expand(call: Call) -> Result<Value, ExpandError> {
    let result = expand_text(&call.text, call.context);
    let inside = |text: String| format!("internal expansion of \"{}\" failed: {text}", call.text.bytes());
    result.map_err(|error| match error {
        ExpandError::Failed(text) => ExpandError::Failed(inside(text)),
        ExpandError::Forced(text) => ExpandError::Forced(inside(text)),
        other => other,
    })
}

/// `${length_3:text}`.
pub fn length(call: Call) -> Result<Value, ExpandError> {
    let count = call.numbers.first().copied().unwrap_or(0);
    Ok(first_bytes(&call.text, count))
}

/// The first bytes of a text.
pub fn first_bytes(text: &Value, count: i64) -> Value {
    let count = usize::try_from(count).unwrap_or(0).min(text.bytes().len());
    text.derive(&text.bytes()[..count])
}

/// `${substr_1_2:text}`.
pub fn substr(call: Call) -> Result<Value, ExpandError> {
    let start = call.numbers.first().copied().unwrap_or(0);
    Ok(part(&call.text, start, call.numbers.get(1).copied()))
}

/// A part of a text. A negative start counts from the end; without a length, it gives what stands before it.
pub fn part(text: &Value, start: i64, count: Option<i64>) -> Value {
    let all = text.bytes().len() as i64;
    let (from, to) = if start >= 0 {
        (start.min(all), count.map_or(all, |count| start.saturating_add(count)))
    } else {
        let from = all.saturating_add(start);
        match count {
            // What overshoots the start of the text shortens the part.
            Some(count) => (from.max(0), from.saturating_add(count)),
            None => (0, from.max(0)),
        }
    };
    let to = to.clamp(from, all);
    text.derive(&text.bytes()[from as usize..to as usize])
}

/// Characters of the textual hash; Exim's table has `t` before `s`.
const HASH_CHARACTERS: &[u8; 62] = b"abcdefghijklmnopqrtsuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
/// Characters that are used if no limit is given: the lower-case letters.
const HASH_LIMIT: i64 = 26;

/// `${hash_3_62:text}`.
pub fn hash(call: Call) -> Result<Value, ExpandError> {
    let length = call.numbers.first().copied().unwrap_or(0);
    textual_hash(&call.text, length, call.numbers.get(1).copied())
}

/// The textual hash: `length` characters of the first `limit` of the table. Bytes beyond the length are
/// rotated by their value and place, and folded in.
pub fn textual_hash(text: &Value, length: i64, limit: Option<i64>) -> Result<Value, ExpandError> {
    let limit = limit.unwrap_or(HASH_LIMIT);
    if limit > HASH_CHARACTERS.len() as i64 {
        return failed(format!("hash count \"{limit}\" too big"));
    }
    let (length, limit) = (usize::try_from(length).unwrap_or(0), usize::try_from(limit).unwrap_or(0));
    let bytes = text.bytes();
    if length >= bytes.len() {
        return Ok(text.clone());
    }
    if length == 0 || limit == 0 {
        return Ok(text.derive(""));
    }
    let mut sums: Vec<u8> = bytes[..length].to_vec();
    for (index, byte) in bytes.iter().enumerate().skip(length) {
        let by = (usize::from(*byte) + index) & 7;
        sums[index % length] ^= byte.rotate_left(by as u32);
    }
    let out: Vec<u8> = sums.iter().map(|sum| HASH_CHARACTERS[usize::from(*sum) % limit]).collect();
    Ok(text.derive(out))
}

/// `${nhash_8_64:text}`.
pub fn nhash(call: Call) -> Result<Value, ExpandError> {
    numeric_hash(&call.text, call.numbers.first().copied().unwrap_or(0), call.numbers.get(1).copied())
}

/// Weights of successive bytes in the numeric hash: the primes below 114, downwards to 3, then again.
const WEIGHTS: [u64; 29] = [
    113, 109, 107, 103, 101, 97, 89, 83, 79, 73, 71, 67, 61, 59, 53, 47, 43, 41, 37, 31, 29, 23, 19, 17, 13,
    11, 7, 5, 3,
];

/// The numeric hash: one number below `first`, or two with a slash between.
pub fn numeric_hash(text: &Value, first: i64, second: Option<i64>) -> Result<Value, ExpandError> {
    let positive = |number: i64| u64::try_from(number).ok().filter(|number| *number > 0);
    let sum: u64 =
        text.bytes().iter().zip(WEIGHTS.iter().cycle()).map(|(byte, weight)| u64::from(*byte) * weight).sum();
    let shown = match (positive(first), second.map(positive)) {
        (Some(first), None) => (sum % first).to_string(),
        (Some(first), Some(Some(second))) => {
            let rest = sum % first.saturating_mul(second);
            format!("{}/{}", rest / second, rest % second)
        }
        _ => return failed("a limit of nhash is not a positive number"),
    };
    Ok(text.derive(shown))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_exim() {
        let hash = |text: &str, length, limit| textual_hash(&Value::clean(text), length, limit).unwrap();
        assert_eq!(hash("monty", 3, None).bytes(), "jmg");
        assert_eq!(hash("monty python", 4, Some(62)).bytes(), "fbWx");
        let number = numeric_hash(&Value::clean("supercalifragilisticexpialidocious"), 8, Some(64)).unwrap();
        assert_eq!(number.bytes(), "6/33");
    }

    #[test]
    fn a_part_with_a_negative_start_counts_from_the_end() {
        let part = |text: &str, start, count| part(&Value::clean(text), start, count).bytes().to_string();
        assert_eq!(part("1234567", -5, Some(2)), "34");
        assert_eq!(part("12", -5, Some(2)), "");
        assert_eq!(part("12", -3, Some(2)), "1");
        assert_eq!(part("abcde", -1, None), "abcd");
        assert_eq!(part("abc", 7, Some(2)), "");
    }
}
