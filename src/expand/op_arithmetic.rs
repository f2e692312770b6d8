//! Arithmetic: `eval`, `eval10`, `randint`.
//!
//! 64-bit integers; division by zero and overflow are errors. Priorities are those of C.

use super::evaluate_condition::number;
use super::operator::Call;
use super::{ExpandError, failed};
use crate::text::Value;
use bstr::ByteSlice;

/// Deepest nesting of parentheses and signs: the text may come from outside.
const MAX_DEPTH: u32 = 100;

/// Decimal, octal and hexadecimal numbers.
pub fn eval(call: Call) -> Result<Value, ExpandError> {
    evaluate(&call, false)
}

/// Decimal numbers only.
pub fn eval10(call: Call) -> Result<Value, ExpandError> {
    evaluate(&call, true)
}

fn evaluate(call: &Call, decimal: bool) -> Result<Value, ExpandError> {
    let text = call.text.bytes();
    let mut sum = Sum { text, at: 0, decimal, depth: 0 };
    let result = sum.level(LOWEST).and_then(|value| {
        sum.skip_space();
        if sum.at < text.len() { Err(sum.wrong_end()) } else { Ok(value) }
    });
    match result {
        Ok(value) => Ok(Value::clean(value.to_string())),
        Err(what) => failed(format!(
            "error in expression evaluation: {what} (after processing \"{}\")",
            text[..sum.at.min(text.len())].as_bstr()
        )),
    }
}

/// Operators of one priority, the weakest first.
const LEVELS: [&[&str]; 6] = [&["|"], &["^"], &["&"], &["<<", ">>"], &["+", "-"], &["*", "/", "%"]];
const LOWEST: usize = 0;

struct Sum<'t> {
    text: &'t [u8],
    at: usize,
    decimal: bool,
    depth: u32,
}

impl Sum<'_> {
    fn skip_space(&mut self) {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }

    fn wrong_end(&self) -> &'static str {
        "expecting operator"
    }

    fn level(&mut self, level: usize) -> Result<i64, &'static str> {
        let Some(operators) = LEVELS.get(level) else { return self.operand() };
        let mut left = self.level(level + 1)?;
        loop {
            self.skip_space();
            let rest = &self.text[self.at..];
            let Some(operator) = operators.iter().find(|name| rest.starts_with(name.as_bytes())) else {
                return Ok(left);
            };
            self.at += operator.len();
            let right = self.level(level + 1)?;
            left = apply(operator, left, right)?;
        }
    }

    fn operand(&mut self) -> Result<i64, &'static str> {
        self.skip_space();
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("expression is nested too deeply");
        }
        let value = match self.text.get(self.at) {
            Some(b'-') => {
                self.at += 1;
                self.operand()?.checked_neg().ok_or("overflow in negation")?
            }
            Some(b'+') => {
                self.at += 1;
                self.operand()?
            }
            Some(b'~') => {
                self.at += 1;
                !self.operand()?
            }
            Some(b'(') => {
                self.at += 1;
                let value = self.level(LOWEST)?;
                self.skip_space();
                if self.text.get(self.at) != Some(&b')') {
                    return Err("expecting closing parenthesis");
                }
                self.at += 1;
                value
            }
            Some(b) if b.is_ascii_digit() => self.number(),
            _ => return Err("expecting number or opening parenthesis"),
        };
        self.depth -= 1;
        Ok(value)
    }

    /// A number with K, M or G; one that is too large is the largest, as in C.
    fn number(&mut self) -> i64 {
        let rest = &self.text[self.at..];
        let (radix, start) = match rest {
            [b'0', b'x' | b'X', digit, ..] if !self.decimal && digit.is_ascii_hexdigit() => (16, 2),
            [b'0', ..] if !self.decimal => (8, 0),
            _ => (10, 0),
        };
        let digits = rest[start..].iter().take_while(|b| char::from(**b).is_digit(radix)).count();
        let text = rest[start..start + digits].to_str_lossy();
        let value = i64::from_str_radix(&text, radix).unwrap_or(i64::MAX);
        self.at += start + digits;
        let factor: i64 = match self.text.get(self.at) {
            Some(b'k' | b'K') => 1 << 10,
            Some(b'm' | b'M') => 1 << 20,
            Some(b'g' | b'G') => 1 << 30,
            _ => return value,
        };
        self.at += 1;
        value.saturating_mul(factor)
    }
}

fn apply(operator: &str, left: i64, right: i64) -> Result<i64, &'static str> {
    match operator {
        "|" => Ok(left | right),
        "^" => Ok(left ^ right),
        "&" => Ok(left & right),
        "<<" => u32::try_from(right).ok().and_then(|by| left.checked_shl(by)).ok_or("overflow in shift"),
        ">>" => u32::try_from(right).ok().and_then(|by| left.checked_shr(by)).ok_or("overflow in shift"),
        "+" => left.checked_add(right).ok_or("overflow in sum"),
        "-" => left.checked_sub(right).ok_or("overflow in difference"),
        "*" => left.checked_mul(right).ok_or("overflow in product"),
        "/" if right == 0 => Err("divide by zero"),
        "/" => left.checked_div(right).ok_or("overflow in quotient"),
        _ if right == 0 => Err("modulo by zero"),
        _ => Ok(left.wrapping_rem(right)),
    }
}

/// A number below the given one, from the system's random source.
pub fn randint(call: Call) -> Result<Value, ExpandError> {
    let limit = number(call.text.bytes())?;
    if limit <= 0 {
        return failed(format!("randint limit \"{}\" is not a positive number", call.text.bytes()));
    }
    use std::hash::{BuildHasher, Hasher};
    // Seeded by the system for each table; the specification asks for no quality beyond that.
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    Ok(Value::clean((random % limit.unsigned_abs()).to_string()))
}
