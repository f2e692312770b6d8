//! `${prvs` and `${prvscheck`: signed return paths (BATV, "prvs" scheme).
//!
//! A signed address is `prvs=KDDDSSSSSS=local@domain`: the key's number, the day it ends (days since 1970,
//! modulo 1000), and six digits of HMAC-SHA1 over `KDDDlocal@domain`.

use super::{ExpandError, eval, failed, op_digest};
use crate::expand::Context;
use crate::syntax::tree::Tree;
use crate::text::Value;
use bstr::{BString, ByteSlice};
use std::time::{SystemTime, UNIX_EPOCH};

/// Days that a signature holds.
const LIFETIME: u64 = 7;
/// Days are counted modulo this.
const CYCLE: u64 = 1000;
/// Digits of the signature.
const DIGITS: usize = 6;

/// `${prvs{address}{secret}{key number}}`.
pub fn sign(
    address: &Value,
    secret: &Value,
    key: Option<&Value>,
    context: &Context,
) -> Result<Value, ExpandError> {
    let text = address.bytes();
    let qualified = text.rfind_byte(b'@').is_some_and(|at| at > 0 && at + 1 < text.len());
    if !qualified {
        return failed("prvs first argument must be a qualified email address");
    }
    let key = match key.map(|key| key.bytes().as_bytes()) {
        None | Some(b"") => b'0',
        Some([digit]) if digit.is_ascii_digit() => *digit,
        Some(_) => return failed("prvs third argument must be a single digit"),
    };
    let day = (today(context) + LIFETIME) % CYCLE;
    let head = format!("{}{day:03}", char::from(key));
    let signature = signature(&head, text, secret)?;
    Ok(address.derive(bstr::concat([b"prvs=", head.as_bytes(), &signature, b"=", text.as_bytes()])))
}

/// `${prvscheck{address}{secret}{text}}`: the second and third string are expanded when what they need is known.
pub fn check(arguments: &[Tree], context: &Context) -> Result<Value, ExpandError> {
    let [signed, secret, rest @ ..] = arguments else {
        return failed("Not enough arguments for 'prvscheck' (min is 2)");
    };
    let signed = eval::tree(signed, context)?;
    let Some(parts) = split(signed.bytes()) else { return Ok(Value::default()) };
    let address = signed.derive(parts.address);
    {
        let mut dynamic = context.dynamic.borrow_mut();
        dynamic.prvscheck_address = Some(address.clone());
        dynamic.prvscheck_keynum = Some(Value::clean(parts.head[..1].to_vec()));
        dynamic.prvscheck_result = None;
    }
    let secret = eval::tree(secret, context)?;
    let head = parts.head.to_str_lossy();
    let good = signature(&head, parts.address, &secret)? == parts.signature
        && holds(head[1..].parse().unwrap_or(0), today(context) % CYCLE);
    context.dynamic.borrow_mut().prvscheck_result = good.then(|| Value::clean("1"));
    let text = match rest.first() {
        Some(tree) => eval::tree(tree, context)?,
        None => Value::default(),
    };
    let mut dynamic = context.dynamic.borrow_mut();
    dynamic.prvscheck_address = None;
    dynamic.prvscheck_keynum = None;
    Ok(if text.is_empty() { address } else { text })
}

/// A signed address in its parts.
struct Parts<'t> {
    head: &'t [u8],
    signature: &'t [u8],
    address: &'t [u8],
}

fn split(text: &[u8]) -> Option<Parts<'_>> {
    let rest = text.get(..5).filter(|start| start.eq_ignore_ascii_case(b"prvs=")).map(|_| &text[5..])?;
    let (tag, address) = rest.split_once_str("=")?;
    if tag.len() != 4 + DIGITS || !address.rfind_byte(b'@').is_some_and(|at| at > 0 && at + 1 < address.len())
    {
        return None;
    }
    let (head, signature) = tag.split_at(4);
    let good = head.iter().all(u8::is_ascii_digit) && signature.iter().all(u8::is_ascii_hexdigit);
    good.then_some(Parts { head, signature, address })
}

/// Is the last day still to come? Both days are counted modulo 1000.
fn holds(last: u64, today: u64) -> bool {
    last >= today || (last + CYCLE - today) <= LIFETIME
}

fn signature(head: &str, address: &[u8], secret: &Value) -> Result<BString, ExpandError> {
    let signed = Value::clean(bstr::concat([head.as_bytes(), address]));
    let whole = op_digest::hmac(&Value::clean("sha1"), secret, &signed)?;
    Ok(whole.bytes()[..DIGITS].into())
}

fn today(context: &Context) -> u64 {
    let now = context.now.unwrap_or_else(SystemTime::now);
    now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / 86_400)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_the_one_of_exim() {
        // Recorded from exim4 on 2026-11-23.
        let signature = signature("1787", b"a@b.c", &Value::clean("secret")).unwrap();
        assert_eq!(signature, "03bdca");
    }

    #[test]
    fn only_the_form_of_a_signed_address_is_one() {
        assert!(split(b"prvs=178703bdca=a@b.c").is_some());
        for text in ["a@b.c", "prvs=178703bdcaa=a@b.c", "prvs=x78703bdca=a@b.c", "prvs=178703bdca=a", "prvs="]
        {
            assert!(split(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn a_signature_holds_until_its_day_across_the_turn_of_the_count() {
        assert!(holds(787, 780) && holds(780, 780) && !holds(779, 780) && !holds(180, 780));
        assert!(holds(2, 998) && !holds(6, 998));
    }
}
