//! Retry rules: when to try again, and when to give up (spec chapter "Retry configuration").
//!
//! Reading the rules and computing times is pure: the clock is an argument. The records are in `hints`; losing
//! them costs needless tries, never mail.

use super::message::{Attempt, RetryKey, Setback};
use crate::config::ConfigError;
use crate::expand::Context;
use crate::hints::RetryRecord;
use crate::matching::{self, Match};
use crate::syntax::{Located, Position, Template};
use crate::text::Value;
use crate::transport::Problem;
use bstr::{BStr, BString, ByteSlice};

/// Exim's error numbers that retry rules and log lines know.
pub mod errno {
    /// 4xx to RCPT; the detail holds two digits of the code.
    pub const RCPT_4XX: i32 = -44;
    /// 4xx to MAIL.
    pub const MAIL_4XX: i32 = -45;
    /// 4xx to DATA or after it.
    pub const DATA_4XX: i32 = -46;
    /// Authentication failed.
    pub const AUTH_FAILED: i32 = -42;
    /// TLS was required and could not be had.
    pub const TLS_REQUIRED: i32 = -38;
    /// A file or pipe has no transport.
    pub const BAD_TRANSPORT: i32 = -30;
    /// A host's address could not be looked up.
    pub const DNS: i32 = -32;
    /// A connection was lost.
    pub const CONNECTION_LOST: i32 = -18;
    /// Quota.
    pub const QUOTA: i32 = -22;
    /// Retry time of routing not reached.
    pub const ROUTE_RETRY: i32 = -52;
    /// Retry time of a local delivery not reached.
    pub const LOCAL_RETRY: i32 = -53;
    /// Retry time of all hosts not reached.
    pub const HOST_RETRY: i32 = -54;
    /// `hold_domains`
    pub const HELD: i32 = -23;
    /// `queue_domains`
    pub const QUEUED: i32 = -56;
}

/// All rules in order.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    pattern: Template,
    error: ErrorName,
    senders: Option<Template>,
    steps: Vec<Step>,
}

/// Which errors a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ErrorName {
    Any,
    AuthFailed,
    /// The command's number and the two digits (`x` any).
    Smtp(i32, [u8; 2]),
    LostConnection,
    Lookup,
    /// 0: any; `A` or `M`: how the host was found.
    Refused(u8),
    Timeout(u8),
    TimeoutConnect(u8),
    TlsRequired,
    Quota(i64),
}

/// One step of a rule: until `cutoff` seconds after the first failure, try each `interval` seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Step {
    letter: u8,
    cutoff: i64,
    interval: i64,
    /// In thousandths.
    factor: i64,
}

impl Rules {
    /// Reads the lines of the retry section.
    pub fn compile(lines: &[Located<BString>]) -> Result<Self, Vec<ConfigError>> {
        let mut rules = Vec::new();
        let mut errors = Vec::new();
        for line in lines {
            match compile_line(line.value.as_bstr(), &line.at) {
                Ok(rule) => rules.push(rule),
                Err(message) => errors.push(ConfigError {
                    at: line.at.clone(),
                    message,
                    line: Some(line.value.clone()),
                    unsupported: false,
                }),
            }
        }
        if errors.is_empty() { Ok(Self { rules }) } else { Err(errors) }
    }

    /// The steps for this failure; none: there is no rule, and the failure is for good.
    fn find(&self, context: &Context, key: &RetryKey, problem: &Problem) -> Option<&[Step]> {
        let matches = |subject: &BString, rule: &Rule| {
            let subject = Value::tainted(subject.clone());
            matches!(matching::address(context, &subject, &rule.pattern), Ok(Match::Yes(_)))
        };
        let sender_matches = |rule: &Rule| match &rule.senders {
            None => true,
            Some(list) => {
                let sender = context.message.sender.clone().unwrap_or_default();
                let sender = Value::tainted(sender.to_bytes());
                matches!(matching::address(context, &sender, list), Ok(Match::Yes(_)))
            }
        };
        self.rules
            .iter()
            .find(|rule| {
                rule.error.matches(problem)
                    && (matches(&key.subject, rule)
                        || key.other.as_ref().is_some_and(|other| matches(other, rule)))
                    && sender_matches(rule)
            })
            .map(|rule| rule.steps.as_slice())
    }
}

fn compile_line(text: &BStr, at: &Position) -> Result<Rule, String> {
    let mut rest = text.as_bytes();
    let pattern = next_word(&mut rest).ok_or("missing pattern in retry rule")?;
    let error = next_word(&mut rest).ok_or("missing error type in retry rule")?;
    let mut senders = None;
    if rest.starts_with(b"senders") {
        let after = rest[b"senders".len()..].trim_start();
        rest = after.strip_prefix(b"=").ok_or("\"=\" expected after \"senders\"")?.trim_start();
        let list = next_word(&mut rest).unwrap_or_default();
        senders = Some(Template::parse(&list, at).map_err(|error| error.to_string())?);
    }
    let steps: Result<Vec<Step>, String> =
        rest.split_str(";").map(ByteSlice::trim).filter(|step| !step.is_empty()).map(compile_step).collect();
    Ok(Rule {
        pattern: Template::parse(&pattern, at).map_err(|error| error.to_string())?,
        error: ErrorName::parse(error.as_bstr())
            .ok_or_else(|| format!("unknown or malformed retry error \"{error}\""))?,
        senders,
        steps: steps?,
    })
}

/// The next word; quotes around it are taken off.
fn next_word(rest: &mut &[u8]) -> Option<BString> {
    let text = rest.trim_start();
    if text.is_empty() {
        return None;
    }
    if let Some(quoted) = text.strip_prefix(b"\"") {
        let end = quoted.find_byte(b'"').unwrap_or(quoted.len());
        *rest = quoted.get(end + 1..).unwrap_or_default().trim_start();
        return Some(quoted[..end].into());
    }
    let end = text.find_byteset(b" \t").unwrap_or(text.len());
    *rest = text[end..].trim_start();
    Some(text[..end].into())
}

fn compile_step(text: &[u8]) -> Result<Step, String> {
    let mut parts = text.split_str(",").map(ByteSlice::trim);
    let letter = parts.next().unwrap_or_default();
    if !matches!(letter, b"F" | b"G" | b"H") {
        return Err("unknown retry rule letter".into());
    }
    let mut next = |fits: fn(&[u8]) -> Option<i64>| {
        let text = parts.next().ok_or("comma expected")?;
        if text.contains(&b' ') {
            return Err("semicolon expected");
        }
        fits(text).ok_or("bad parameters for retry rule")
    };
    let cutoff = next(seconds)?;
    let interval = next(seconds)?;
    let factor = if letter == b"F" { 1000 } else { next(thousandths)? };
    if parts.next().is_some() {
        return Err("semicolon expected".into());
    }
    if interval <= 0 || cutoff <= 0 || (letter != b"F" && factor <= 1000) {
        return Err("bad parameters for retry rule".into());
    }
    Ok(Step { letter: letter[0], cutoff, interval, factor })
}

fn seconds(text: &[u8]) -> Option<i64> {
    let time = crate::text::interval::parse(text)?;
    i64::try_from(time.as_secs()).ok()
}

fn thousandths(text: &[u8]) -> Option<i64> {
    let (whole, part) = text.split_once_str(".").unwrap_or((text, b""));
    let whole: i64 = whole.to_str().ok()?.parse().ok()?;
    let digits = [part, b"000"].concat();
    let part: i64 = digits[..3].to_str().ok()?.parse().ok()?;
    whole.checked_mul(1000)?.checked_add(part)
}

impl ErrorName {
    fn parse(text: &BStr) -> Option<Self> {
        let smtp = |number: i32, rest: &[u8]| {
            let digits: [u8; 2] = rest.try_into().ok()?;
            let good = |digit: u8| digit.is_ascii_digit() || digit == b'x';
            digits.iter().all(|digit| good(*digit)).then_some(Self::Smtp(number, digits))
        };
        Some(match text.as_bytes() {
            b"*" => Self::Any,
            b"auth_failed" => Self::AuthFailed,
            b"lost_connection" => Self::LostConnection,
            b"lookup" => Self::Lookup,
            b"refused" => Self::Refused(0),
            b"refused_A" => Self::Refused(b'A'),
            b"refused_MX" => Self::Refused(b'M'),
            b"timeout" => Self::Timeout(0),
            b"timeout_A" => Self::Timeout(b'A'),
            b"timeout_MX" => Self::Timeout(b'M'),
            b"timeout_connect" => Self::TimeoutConnect(0),
            b"timeout_connect_A" => Self::TimeoutConnect(b'A'),
            b"timeout_connect_MX" => Self::TimeoutConnect(b'M'),
            b"tls_required" => Self::TlsRequired,
            b"quota" => Self::Quota(0),
            other => {
                if let Some(rest) = other.strip_prefix(b"rcpt_4") {
                    return smtp(errno::RCPT_4XX, rest);
                }
                if let Some(rest) = other.strip_prefix(b"mail_4") {
                    return smtp(errno::MAIL_4XX, rest);
                }
                if let Some(rest) = other.strip_prefix(b"data_4") {
                    return smtp(errno::DATA_4XX, rest);
                }
                return other.strip_prefix(b"quota_").and_then(seconds).map(Self::Quota);
            }
        })
    }

    fn matches(self, problem: &Problem) -> bool {
        let how = (problem.more_errno & 0xff) as u8;
        let found_as = |letter: u8| letter == 0 || letter == how;
        match self {
            Self::Any => true,
            Self::AuthFailed => problem.errno == errno::AUTH_FAILED,
            Self::LostConnection => problem.errno == errno::CONNECTION_LOST,
            Self::Lookup => problem.errno == errno::DNS,
            Self::TlsRequired => problem.errno == errno::TLS_REQUIRED,
            Self::Refused(letter) => problem.errno == libc::ECONNREFUSED && found_as(letter),
            Self::Timeout(letter) => problem.errno == libc::ETIMEDOUT && found_as(letter),
            Self::TimeoutConnect(letter) => {
                problem.errno == libc::ETIMEDOUT && problem.more_errno & 0x100 != 0 && found_as(letter)
            }
            Self::Quota(age) => {
                (problem.errno == errno::QUOTA || matches!(problem.errno, libc::EDQUOT | libc::ENOSPC))
                    && i64::from(problem.more_errno) >= age
            }
            Self::Smtp(number, digits) => {
                let code = (problem.more_errno >> 8) & 0xff;
                let code = [b'0' + (code / 10 % 10) as u8, b'0' + (code % 10) as u8];
                problem.errno == number
                    && digits.iter().zip(code).all(|(wanted, digit)| *wanted == b'x' || *wanted == digit)
            }
        }
    }
}

/// The next try and whether the last step has run out.
fn next_try(
    steps: &[Step],
    first_failed: i64,
    last: Option<&RetryRecord>,
    now: i64,
    most: i64,
) -> (i64, bool) {
    let elapsed = now - first_failed;
    let current = steps.iter().find(|step| elapsed < step.cutoff);
    let expired = current.is_none();
    let Some(step) = current.or(steps.last()) else { return (now, true) };
    let wait = match step.letter {
        b'F' => step.interval,
        _ => {
            let before = last.map_or(0, |record| record.next_try - record.last_try);
            let mut wait = step.interval;
            while wait <= before && wait < most {
                wait = (wait.saturating_mul(step.factor) / 1000).max(wait + 1);
            }
            if step.letter == b'H' { between(step.interval, wait, now) } else { wait }
        }
    };
    (now + wait.min(most), expired)
}

/// Somewhere between the two; the clock's low digits are random enough to spread hosts of a cluster.
fn between(low: i64, high: i64, now: i64) -> i64 {
    let spread = (high - low).max(0) + 1;
    let mixed = now.wrapping_mul(6_364_136_223_846_793_005).rotate_left(29) ^ i64::from(std::process::id());
    low + mixed.rem_euclid(spread)
}

/// The record of a key, unless it is too old to mean anything.
pub fn record(attempt: &Attempt, key: &BStr) -> Option<RetryRecord> {
    let expire = attempt.env.globals.main.time("retry_data_expire").as_secs();
    let now = Attempt::seconds(attempt.now);
    attempt.env.hints.retry(key).filter(|record| expire == 0 || now - record.last_try < expire as i64)
}

/// Must this key wait? Not when the last rule has run out, and not when this message is older than the rule allows:
/// then it is tried once more.
pub fn is_waiting(attempt: &Attempt, key: &BStr) -> bool {
    let now = Attempt::seconds(attempt.now);
    record(attempt, key)
        .is_some_and(|record| now < record.next_try && !record.expired && !is_overdue(attempt, key, &record))
}

/// Has the message been here for longer than the rule of this failure allows?
pub fn is_overdue(attempt: &Attempt, key: &BStr, record: &RetryRecord) -> bool {
    let retry =
        RetryKey { key: key.into(), subject: subject_of(key), other: None, by_message: false, host: false };
    let problem = Problem { errno: record.errno, more_errno: record.more_errno, ..Problem::default() };
    let Some(steps) = attempt.env.retry.find(&attempt.context, &retry, &problem) else { return true };
    let age = i64::try_from(attempt.age().as_secs()).unwrap_or(i64::MAX);
    steps.last().is_none_or(|step| age >= step.cutoff)
}

/// What the pattern of a rule is matched with, from the key of a record: the address, or `*@` and the domain or host.
fn subject_of(key: &BStr) -> BString {
    let text = key.splitn_str(2, ":").nth(1).unwrap_or_default();
    let text = text.find(":<").map_or(text, |sender| &text[..sender]);
    if text.contains(&b'@') {
        return text.into();
    }
    let name = text.find_byte(b':').map_or(text, |end| &text[..end]);
    [&b"*@"[..], name].concat().into()
}

/// Writes what a failure means for its records; true: all have run out, the address is given up.
pub fn update(attempt: &Attempt, setback: &Setback) -> bool {
    if setback.retry.is_empty() {
        return false;
    }
    let mut all_expired = true;
    for key in &setback.retry {
        all_expired &= update_one(attempt, key, &setback.problem);
    }
    all_expired
}

/// One record; true: its rule has run out.
pub fn update_one(attempt: &Attempt, key: &RetryKey, problem: &Problem) -> bool {
    let hints = &attempt.env.hints;
    let Some(steps) = attempt.env.retry.find(&attempt.context, key, problem) else { return true };
    let now = Attempt::seconds(attempt.now);
    let received = Attempt::seconds(attempt.message.envelope.received);
    let last = record(attempt, key.key.as_bstr());
    let mut first_failed = last.as_ref().map_or(now, |record| record.first_failed);
    if key.by_message {
        first_failed = first_failed.min(received);
    }
    let most = i64::try_from(attempt.env.globals.main.time("retry_interval_max").as_secs()).unwrap_or(0);
    let most = if most == 0 { 86_400 } else { most };
    let (next, expired) = next_try(steps, first_failed, last.as_ref(), now, most);
    let cutoff = steps.last().map_or(0, |step| step.cutoff);
    let too_long_here = now - received >= cutoff;
    if too_long_here && !key.host {
        // Others for the same address are not to wait because of this message.
        hints.remove_retry(key.key.as_bstr());
        return true;
    }
    log::debug!(target: "retry", "{}: next try in {} s, expired: {expired}", key.key, next - now);
    hints.put_retry(
        key.key.as_bstr(),
        &RetryRecord {
            first_failed,
            last_try: now,
            next_try: next,
            expired,
            errno: problem.errno,
            more_errno: problem.more_errno,
            text: problem.text.clone(),
        },
    );
    expired || too_long_here
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Rules {
        let line = Located { value: text.into(), at: Position::nowhere("test") };
        Rules::compile(&[line]).unwrap()
    }

    #[test]
    fn the_default_rule_waits_longer_and_longer_and_ends_after_four_days() {
        let rules = rules("* * F,2h,15m; G,16h,1h,1.5; F,4d,6h");
        let steps = &rules.rules[0].steps;
        assert_eq!(next_try(steps, 1000, None, 1000, 86_400), (1900, false));
        let last = RetryRecord { last_try: 9000, next_try: 9000 + 3600, ..RetryRecord::default() };
        assert_eq!(next_try(steps, 0, Some(&last), 12_700, 86_400), (12_700 + 5400, false));
        assert_eq!(next_try(steps, 0, Some(&last), 17 * 3600, 86_400), (17 * 3600 + 6 * 3600, false));
        assert_eq!(next_try(steps, 0, Some(&last), 4 * 86_400, 86_400), (4 * 86_400 + 6 * 3600, true));
    }

    #[test]
    fn the_subject_of_a_record_is_its_address_domain_or_host() {
        assert_eq!(subject_of("T:127.0.0.1:127.0.0.1:9:1xVUu5-00034b-1P".into()), "*@127.0.0.1");
        assert_eq!(subject_of("R:later@rem.example:<sender@lab.example>".into()), "later@rem.example");
        assert_eq!(subject_of("T:joe@lab.example".into()), "joe@lab.example");
        assert_eq!(subject_of("R:lab.example".into()), "*@lab.example");
    }

    #[test]
    fn error_names_match_what_they_say() {
        let problem = |errno, more_errno| Problem { errno, more_errno, ..Problem::default() };
        let name = |text: &str| ErrorName::parse(text.into()).unwrap();
        assert!(name("rcpt_4xx").matches(&problem(-44, 51 << 8)));
        assert!(name("rcpt_451").matches(&problem(-44, 51 << 8)));
        assert!(!name("rcpt_452").matches(&problem(-44, 51 << 8)));
        assert!(name("refused_A").matches(&problem(libc::ECONNREFUSED, i32::from(b'A'))));
        assert!(!name("refused_MX").matches(&problem(libc::ECONNREFUSED, i32::from(b'A'))));
        assert!(ErrorName::parse("nonsense".into()).is_none());
    }

    #[test]
    fn a_rule_may_be_for_certain_senders_and_have_no_steps() {
        let rules = rules("*   rcpt_4xx   senders=:   F,1h,30m");
        assert!(rules.rules[0].senders.is_some());
        let line = Located { value: "x.example quota_5d".into(), at: Position::nowhere("test") };
        assert!(Rules::compile(&[line]).unwrap().rules[0].steps.is_empty());
        let line = Located { value: "* * X,1h,1m".into(), at: Position::nowhere("test") };
        assert!(Rules::compile(&[line]).is_err());
    }
}
