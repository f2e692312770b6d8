//! Dates: header lines (RFC 5322 section 3.3) and log time stamps, in a zone that is given.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::time::SystemTime;

/// The zone that dates are written in: the option `timezone`, else `TZ` or `/etc/localtime`.
/// A zone that is not known is UTC, as the C library has it.
pub fn zone(name: Option<&str>) -> TimeZone {
    match name {
        None => TimeZone::system(),
        Some("" | "UTC" | "utc" | "GMT") => TimeZone::UTC,
        Some(name) => from_file(name).or_else(|| TimeZone::posix(name).ok()).unwrap_or(TimeZone::UTC),
    }
}

/// A zone of the system's data base.
fn from_file(name: &str) -> Option<TimeZone> {
    let name = name.trim_start_matches(':');
    let path = std::path::Path::new("/usr/share/zoneinfo").join(name);
    TimeZone::tzif(name, &std::fs::read(path).ok()?).ok()
}

fn at(time: SystemTime, zone: &TimeZone) -> jiff::ZonedDateTime {
    // A clock outside the years that jiff knows is shown as the start of 1970.
    Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned_datetime(zone.clone())
}

fn show(time: SystemTime, zone: &TimeZone, format: &str) -> String {
    at(time, zone).strftime(format).to_string()
}

/// `Mon, 23 Nov 2026 14:19:24 +0000` (`$tod_full`).
pub fn full(time: SystemTime, zone: &TimeZone) -> String {
    show(time, zone, "%a, %d %b %Y %H:%M:%S %z")
}

/// `2026-11-23 14:19:24` (`$tod_log`), with ` +0000` if `with_zone` and `.123` if `milliseconds`.
pub fn log(time: SystemTime, zone: &TimeZone, with_zone: bool, milliseconds: bool) -> String {
    let format = match (milliseconds, with_zone) {
        (false, false) => "%Y-%m-%d %H:%M:%S",
        (false, true) => "%Y-%m-%d %H:%M:%S %z",
        (true, false) => "%Y-%m-%d %H:%M:%S.%3f",
        (true, true) => "%Y-%m-%d %H:%M:%S.%3f %z",
    };
    show(time, zone, format)
}

/// `Mon Nov 23 14:19:24 2026` (`$tod_bsdinbox`: the `From ` line of a mailbox).
pub fn bsd_inbox(time: SystemTime, zone: &TimeZone) -> String {
    show(time, zone, "%a %b %d %H:%M:%S %Y")
}

/// `Nov 23 14:19:24 2026 CET` (`${certextract{notafter}`). UTC is called GMT there, as with Exim.
pub fn certificate(time: SystemTime, zone: &TimeZone) -> String {
    let name = if *zone == TimeZone::UTC { "GMT" } else { "%Z" };
    show(time, zone, &format!("%b %e %H:%M:%S %Y {name}"))
}

/// `20261123` (`$tod_logfile`, `%D` of log file names).
pub fn log_file_day(time: SystemTime, zone: &TimeZone) -> String {
    show(time, zone, "%Y%m%d")
}

/// `202611` (`%M` of log file names).
pub fn log_file_month(time: SystemTime, zone: &TimeZone) -> String {
    show(time, zone, "%Y%m")
}

/// `+0000` (`$tod_zone`).
pub fn zone_offset(time: SystemTime, zone: &TimeZone) -> String {
    show(time, zone, "%z")
}

/// `20261123141924Z`, always UTC (`$tod_zulu`).
pub fn zulu(time: SystemTime) -> String {
    show(time, &TimeZone::UTC, "%Y%m%d%H%M%SZ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn dates_have_exims_forms() {
        let time = UNIX_EPOCH + Duration::new(1_795_443_564, 222_048_000);
        let utc = zone(Some("UTC"));
        assert_eq!(full(time, &utc), "Mon, 23 Nov 2026 14:19:24 +0000");
        assert_eq!(log(time, &utc, true, true), "2026-11-23 14:19:24.222 +0000");
        assert_eq!(bsd_inbox(time, &utc), "Mon Nov 23 14:19:24 2026");
        assert_eq!(zulu(time), "20261123141924Z");
        let early = UNIX_EPOCH + Duration::from_secs(5);
        assert_eq!(full(early, &utc), "Thu, 01 Jan 1970 00:00:05 +0000");
    }
}
