//! Operators on time intervals: `time_eval`, `time_interval`.

use super::operator::Call;
use super::{ExpandError, failed};
use crate::text::{Value, interval};
use bstr::ByteSlice;
use std::time::Duration;

/// `2d4h5m` to seconds.
pub fn time_eval(call: Call) -> Result<Value, ExpandError> {
    match interval::parse(call.text.bytes()) {
        Some(time) => Ok(Value::clean(time.as_secs().to_string())),
        None => failed(format!(
            "string \"{}\" is not an Exim time interval in \"time_eval\" operator",
            call.text.bytes()
        )),
    }
}

/// Seconds to `2d4h5m`.
pub fn time_interval(call: Call) -> Result<Value, ExpandError> {
    let text = call.text.bytes();
    let seconds: Option<u64> = if text.is_empty() {
        Some(0)
    } else if text.iter().all(u8::is_ascii_digit) {
        text.to_str_lossy().parse().ok()
    } else {
        None
    };
    match seconds {
        Some(seconds) => Ok(Value::clean(interval::print(Duration::from_secs(seconds)))),
        None => failed(format!("string \"{text}\" is not a positive number in \"time_interval\" operator")),
    }
}
