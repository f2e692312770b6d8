//! Operators between bases: `base32`, `base62`, `base64` and back, `hex2b64`.

use super::operator::Call;
use super::{ExpandError, failed};
use crate::text::Value;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bstr::{BString, ByteSlice};

const DIGITS32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const DIGITS62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Digits of a message id's first part: what `base62` fills up to.
const WIDTH62: usize = 6;

fn to_base(mut number: u64, digits: &[u8]) -> Vec<u8> {
    let base = digits.len() as u64;
    let mut text = Vec::new();
    while number > 0 {
        text.push(digits[(number % base) as usize]);
        number /= base;
    }
    text.reverse();
    text
}

fn from_base(text: &[u8], digits: &[u8]) -> Option<u64> {
    text.iter().try_fold(0u64, |number, byte| {
        let digit = digits.find_byte(*byte)?;
        Some(number.wrapping_mul(digits.len() as u64).wrapping_add(digit as u64))
    })
}

fn decimal(call: &Call, operator: &str) -> Result<u64, ExpandError> {
    let text = call.text.bytes();
    if text.is_empty() {
        return Ok(0);
    }
    let number = if text.iter().all(u8::is_ascii_digit) { text.to_str_lossy().parse().ok() } else { None };
    number.ok_or_else(|| {
        ExpandError::Failed(format!(
            "argument for {operator} operator is \"{text}\", which is not a decimal number"
        ))
    })
}

/// Decimal to base 32; zero is nothing.
pub fn base32(call: Call) -> Result<Value, ExpandError> {
    Ok(Value::clean(to_base(decimal(&call, "base32")?, DIGITS32)))
}

/// Base 32 to decimal.
pub fn base32d(call: Call) -> Result<Value, ExpandError> {
    digits_to_decimal(&call, DIGITS32, 32)
}

/// Decimal to base 62, the last six digits.
pub fn base62(call: Call) -> Result<Value, ExpandError> {
    let text = to_base(decimal(&call, "base62")?, DIGITS62);
    let padded = [vec![b'0'; WIDTH62], text].concat();
    Ok(Value::clean(&padded[padded.len() - WIDTH62..]))
}

/// Base 62 to decimal.
pub fn base62d(call: Call) -> Result<Value, ExpandError> {
    digits_to_decimal(&call, DIGITS62, 62)
}

fn digits_to_decimal(call: &Call, digits: &[u8], base: u32) -> Result<Value, ExpandError> {
    let text = call.text.bytes();
    match from_base(text, digits) {
        Some(number) => Ok(Value::clean(number.to_string())),
        None => failed(format!(
            "argument for base{base}d operator is \"{text}\", which is not a base {base} number"
        )),
    }
}

/// Base 64 (of a certificate: of its DER).
pub fn base64(call: Call) -> Result<Value, ExpandError> {
    Ok(call.text.derive(STANDARD.encode(call.text.bytes())))
}

/// Base 64 decoded; white space does not count.
pub fn base64d(call: Call) -> Result<Value, ExpandError> {
    let text: BString =
        call.text.bytes().iter().copied().filter(|b| !b.is_ascii_whitespace()).collect::<Vec<u8>>().into();
    match STANDARD.decode(&text) {
        Ok(bytes) => Ok(call.text.derive(bytes)),
        Err(_) => {
            failed(format!("string \"{}\" is not well-formed for \"base64d\" operator", call.text.bytes()))
        }
    }
}

/// Hexadecimal digits to base 64.
pub fn hex2b64(call: Call) -> Result<Value, ExpandError> {
    let text = call.text.bytes();
    if !text.iter().all(u8::is_ascii_hexdigit) {
        return failed(format!("\"{text}\" is not a hex string"));
    }
    if text.len() % 2 == 1 {
        return failed(format!("\"{text}\" contains an odd number of characters"));
    }
    let digit = |b: u8| char::from(b).to_digit(16).unwrap_or(0) as u8;
    let bytes: Vec<u8> = text.chunks(2).map(|pair| digit(pair[0]) * 16 + digit(pair[1])).collect();
    Ok(call.text.derive(STANDARD.encode(bytes)))
}
