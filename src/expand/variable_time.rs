//! Variables of the time of day: `$tod_*`.

use super::variable::{Row, number};
use crate::expand::Context;
use crate::mail::date;
use crate::text::Value;
use jiff::tz::TimeZone;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Name to value.
pub const TABLE: &[Row] = &[
    ("tod_bsdinbox", |c| Some(Value::clean(date::bsd_inbox(now(c), &zone(c))))),
    ("tod_epoch", |c| number(since_epoch(c).as_secs())),
    ("tod_epoch_l", |c| number(since_epoch(c).as_micros())),
    ("tod_full", |c| Some(Value::clean(date::full(now(c), &zone(c))))),
    ("tod_log", |c| Some(Value::clean(date::log(now(c), &zone(c), false, false)))),
    ("tod_logfile", |c| Some(Value::clean(date::log_file_day(now(c), &zone(c))))),
    ("tod_zone", |c| Some(Value::clean(date::zone_offset(now(c), &zone(c))))),
    ("tod_zulu", |c| Some(Value::clean(date::zulu(now(c))))),
];

fn now(context: &Context) -> SystemTime {
    context.now.unwrap_or_else(SystemTime::now)
}

fn since_epoch(context: &Context) -> Duration {
    now(context).duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The zone of the option `timezone`, else the system's.
pub(super) fn zone(context: &Context) -> TimeZone {
    let main = &context.globals.main;
    let name = main.def("timezone").and_then(|_| main.plain("timezone"));
    date::zone(name.map(|name| name.to_string()).as_deref())
}
