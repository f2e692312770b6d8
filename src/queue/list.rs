//! The list of the queue (`-bp` and its family), in Exim's form to the letter.

use crate::mail::{Envelope, Header, HeaderKind};
use crate::spool::layout::file_name;
use crate::spool::message::{OpenError, read_header};
use crate::spool::{Layout, scan};

use std::collections::HashSet;
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

/// What is listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// `-bpc`: just the number.
    pub count: bool,
    /// `-bpr`: not sorted by age.
    pub unsorted: bool,
    /// `-bpa`: generated addresses that were delivered too.
    pub all: bool,
    /// `-bpu`: undelivered addresses only.
    pub undelivered: bool,
    /// `-bpi`: ids only.
    pub ids: bool,
}

/// Writes the list. Messages that come or go meanwhile may be in it or not.
pub fn list(layout: &Layout, listing: Listing, now: SystemTime, out: &mut dyn Write) -> io::Result<()> {
    let entries = scan::scan(layout)?;
    if listing.count {
        return writeln!(out, "{}", entries.len());
    }
    for entry in entries {
        if listing.ids {
            writeln!(out, "{}", entry.id)?;
            continue;
        }
        match read_header(&entry.directory, &entry.id) {
            Ok((envelope, headers)) => {
                let data = entry.directory.join(file_name(&entry.id, 'D'));
                let start = entry.id.as_str().len() as u64 + 3;
                let size = match std::fs::metadata(data) {
                    Ok(meta) => message_size(&headers, meta.len().saturating_sub(start)),
                    // Done meanwhile (-H goes first), or a message that has lost its body: shown without size.
                    Err(_) if !entry.directory.join(file_name(&entry.id, 'H')).exists() => continue,
                    Err(_) => 0,
                };
                write_entry(out, &entry, &envelope, size, listing, now)?;
            }
            Err(OpenError::Gone) => {}
            Err(error) => write_broken(out, &entry, &error)?,
        }
    }
    Ok(())
}

/// Bytes as they count in Exim's lists: headers that are not deleted, a blank line, the body.
pub fn message_size(headers: &[Header], body: u64) -> u64 {
    let headers: usize = headers
        .iter()
        .filter(|header| header.kind != HeaderKind::Deleted)
        .map(|header| header.text.len())
        .sum();
    headers as u64 + 1 + body
}

fn write_entry(
    out: &mut dyn Write,
    entry: &scan::Entry,
    envelope: &Envelope,
    size: u64,
    listing: Listing,
    now: SystemTime,
) -> io::Result<()> {
    let age = now.duration_since(envelope.received).unwrap_or_default();
    let frozen = if envelope.frozen.is_some() { " *** frozen ***" } else { "" };
    let caller = match envelope.sender_set_untrusted {
        true => format!(" ({})", envelope.login),
        false => String::new(),
    };
    writeln!(
        out,
        "{} {} {} <{}>{caller}{frozen}",
        show_age(age),
        show_size(size),
        entry.id,
        envelope.sender.to_bytes()
    )?;
    let mut shown = HashSet::new();
    for recipient in &envelope.recipients {
        let address = recipient.address.to_bytes();
        let done = envelope.done.contains(&address);
        if !done || !listing.undelivered {
            let mark = if done { "D" } else { " " };
            writeln!(out, "        {mark} {address}")?;
        }
        shown.insert(address);
    }
    if listing.all {
        for address in envelope.done.iter().filter(|address| !shown.contains(*address)) {
            writeln!(out, "       +D {address}")?;
        }
    }
    writeln!(out)
}

fn write_broken(out: &mut dyn Write, entry: &scan::Entry, error: &OpenError) -> io::Result<()> {
    let what = match error {
        OpenError::Format { size, .. } => format!("spool format error: size={size}"),
        other => format!("spool read error: {other}"),
    };
    writeln!(out, "      {}\n    *** {what} ***\n", entry.id)
}

/// ` 0m`, `26h`, ` 4d`
fn show_age(age: Duration) -> String {
    let minutes = age.as_secs() / 60;
    if minutes <= 90 {
        return format!("{minutes:>2}m");
    }
    let hours = (minutes + 30) / 60;
    if hours <= 72 { format!("{hours:>2}h") } else { format!("{:>2}d", (hours + 12) / 24) }
}

/// Five characters: `  342`, ` 1.5K`, `  12K`, ` 3.4M`.
fn show_size(size: u64) -> String {
    const K: u64 = 1024;
    const M: u64 = K * K;
    match size {
        0 => "     ".into(),
        _ if size < K => format!("{size:>5}"),
        _ if size < 10 * K => format!("{:>4.1}K", size as f64 / K as f64),
        _ if size < M => format!("{:>4}K", (size + K / 2) / K),
        _ if size < 10 * M => format!("{:>4.1}M", size as f64 / M as f64),
        _ => format!("{:>4}M", (size + M / 2) / M),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_sizes_have_the_width_of_exims() {
        let minutes = |count: u64| show_age(Duration::from_secs(count * 60));
        assert_eq!([minutes(0), minutes(90), minutes(120), minutes(60 * 100)], [" 0m", "90m", " 2h", " 4d"]);
        assert_eq!(show_size(342), "  342");
        assert_eq!(show_size(1568), " 1.5K");
        assert_eq!(show_size(12_345), "  12K");
        assert_eq!(show_size(3_500_000), " 3.3M");
    }
}
