//! Warnings that a message is late (`delay_warning`), as Exim 4.96 writes them.

use super::bounce::{boundary, from_header, named, own_headers, references, status_of, status_start};
use super::message::Attempt;
use super::report;
use crate::mail::HeaderKind;
use crate::upward::NewMessage;
use bstr::{BString, ByteSlice};
use std::time::Duration;

/// Below this a delay is told in minutes, above it in hours.
const HOURS_FROM: u64 = 2 * 3600;

/// Sends a warning if one more of `delay_warning`'s times has passed.
pub fn send_if_due(attempt: &mut Attempt) {
    let times = attempt.env.globals.main.times("delay_warning").to_vec();
    let passed = count_passed(&times, attempt.age());
    let sent = attempt.message.envelope.warnings_sent;
    if passed <= sent || attempt.message.envelope.sender.is_null() || !is_wanted(attempt) {
        return;
    }
    let delay = delay_of(&times, passed);
    match send(attempt, delay) {
        Ok(()) => {
            attempt.message.envelope.warnings_sent = passed;
            attempt.changed = true;
            attempt.deliver_own_mail();
        }
        Err(error) => {
            let line = format!("{} failed to send a warning message: {error}", attempt.message.id);
            attempt.env.log().panic(line.as_bytes().as_bstr());
        }
    }
}

/// How many warnings are due at this age: one for each time, then one for each further interval as long as
/// the last two were apart; a list of one time is that interval.
fn count_passed(times: &[Duration], age: Duration) -> u32 {
    let listed = times.iter().take_while(|time| !time.is_zero() && age > **time).count();
    let mut count = u32::try_from(listed).unwrap_or(u32::MAX);
    if listed == times.len() && listed > 0 {
        let last = times[listed - 1];
        let step = match listed {
            1 => last,
            _ => last.saturating_sub(times[listed - 2]),
        };
        if !step.is_zero() {
            let more = (age - last).as_secs() / step.as_secs().max(1);
            count = count.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
        }
    }
    count
}

fn delay_of(times: &[Duration], passed: u32) -> Duration {
    let index = (passed as usize).saturating_sub(1);
    match times.get(index) {
        Some(time) => *time,
        None => {
            let last = times.last().copied().unwrap_or_default();
            let step = times.len().checked_sub(2).map_or(last, |before| last.saturating_sub(times[before]));
            last + step * u32::try_from(index + 1 - times.len()).unwrap_or(u32::MAX)
        }
    }
}

/// `delay_warning_condition`'s default: none for lists and automatic mail.
fn is_wanted(attempt: &Attempt) -> bool {
    const LISTS: &[&[u8]] =
        &[b"list-id", b"list-post", b"list-subscribe", b"list-unsubscribe", b"list-owner", b"list-help"];
    let contains = |text: &[u8], words: &[&[u8]]| {
        let lower = text.to_ascii_lowercase();
        words.iter().any(|word| lower.contains_str(word))
    };
    !attempt.message.headers.iter().filter(|header| header.kind != HeaderKind::Deleted).any(|header| {
        let name = header.name().to_ascii_lowercase();
        LISTS.contains(&name.as_slice()) && !header.body().trim().is_empty()
            || name == b"precedence" && contains(header.body(), &[b"bulk", b"list", b"junk"])
            || name == b"auto-submitted" && contains(header.body(), &[b"auto-generated", b"auto-replied"])
    })
}

/// `24 hours`, `30 minutes`
fn show(delay: Duration) -> String {
    let seconds = delay.as_secs();
    if seconds < HOURS_FROM {
        format!("{} minutes", seconds / 60)
    } else {
        format!("{} hours", seconds / 3600)
    }
}

fn send(attempt: &mut Attempt, delay: Duration) -> std::io::Result<()> {
    let to = attempt.message.envelope.sender.clone();
    let boundary = boundary(attempt);
    let delay = show(delay);
    let id = &attempt.message.id;
    let mut text = Vec::new();
    if let Some(reply_to) = attempt.env.globals.main.plain("errors_reply_to").filter(|text| !text.is_empty())
    {
        text.extend_from_slice(format!("Reply-To: {reply_to}\n").as_bytes());
    }
    text.extend_from_slice(
        format!(
            "Auto-Submitted: auto-replied\nFrom: {}\nTo: {}\n",
            from_header(&attempt.context),
            to.to_bytes()
        )
        .as_bytes(),
    );
    text.extend(references(attempt));
    text.extend_from_slice(
        format!(
            "Content-Type: multipart/report; report-type=delivery-status; boundary={boundary}\n\
             MIME-Version: 1.0\nSubject: Warning: message {id} delayed {delay}\n\n"
        )
        .as_bytes(),
    );
    text.extend(people_part(attempt, &boundary, &delay));
    text.extend(status_start(attempt, &boundary));
    for setback in attempt.deferred.iter().rev() {
        text.extend(status_of(setback, "delayed", "4.0.0"));
        text.push(b'\n');
    }
    text.extend_from_slice(format!("--{boundary}\nContent-type: text/rfc822-headers\n\n").as_bytes());
    text.extend(own_headers(attempt));
    text.extend_from_slice(format!("\n\n--{boundary}--\n").as_bytes());
    attempt.submit(NewMessage { recipients: vec![to], text, ..NewMessage::default() })
}

fn people_part(attempt: &Attempt, boundary: &str, delay: &str) -> Vec<u8> {
    let host = &attempt.env.globals.primary_hostname;
    let mut text = BString::from(format!(
        "--{boundary}\nContent-type: text/plain; charset=us-ascii\n\n\
         This message was created automatically by mail delivery software.\n\
         A message that you sent has not yet been delivered to one or more of its\n\
         recipients after more than {delay} on the queue on {host}.\n\n\
         The message identifier is:     {}\n",
        attempt.message.id
    ));
    for (name, label) in
        [("Subject", "The subject of the message is: "), ("Date", "The date of the message is:    ")]
    {
        let header = attempt.message.headers.iter().find(|header| {
            header.kind != HeaderKind::Deleted && header.name().eq_ignore_ascii_case(name.as_bytes())
        });
        if let Some(header) = header {
            text.extend_from_slice(label.as_bytes());
            text.extend_from_slice(header.body().trim_start());
        }
    }
    let one = attempt.deferred.len() == 1;
    text.extend_from_slice(if one {
        b"\nThe address to which the message has not yet been delivered is:\n\n"
    } else {
        b"\nThe addresses to which the message has not yet been delivered are:\n\n"
    });
    for setback in attempt.deferred.iter().rev() {
        let (lines, open) = named(attempt, &setback.item);
        text.extend_from_slice(&lines);
        if open && setback.problem.errno <= 0 && !setback.problem.text.is_empty() {
            let reason = report::reason(&setback.problem);
            text.extend_from_slice(format!("    Delay reason: {reason}\n").as_bytes());
        }
    }
    text.extend_from_slice(
        b"\nNo action is required on your part. Delivery attempts will continue for\n\
          some time, and this warning may be repeated at intervals if the message\n\
          remains undelivered. Eventually the mail delivery software will give up,\n\
          and when that happens, the message will be returned to you.\n\n",
    );
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_time_is_the_interval_and_a_list_goes_on_with_its_last_step() {
        let hour = Duration::from_secs(3600);
        assert_eq!(count_passed(&[hour * 24], hour * 23), 0);
        assert_eq!(count_passed(&[hour * 24], hour * 25), 1);
        assert_eq!(count_passed(&[hour * 24], hour * 100), 4);
        assert_eq!(delay_of(&[hour * 24], 4), hour * 96);
        assert_eq!(count_passed(&[hour * 4, hour * 8], hour * 9), 2);
        assert_eq!(count_passed(&[hour * 4, hour * 8], hour * 17), 4);
        assert_eq!(delay_of(&[hour * 4, hour * 8], 4), hour * 16);
        assert_eq!(show(hour * 24), "24 hours");
        assert_eq!(show(Duration::from_secs(1)), "0 minutes");
    }
}
