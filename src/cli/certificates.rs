//! `--certificates`: the table of certificates that the daemon shows, and how it stands with their status and with the
//! revocation lists that certificates of peers are held against.
//!
//! Only the daemon knows: what it has loaded for virtual hosts, what its staple keeper has fetched and when it asks
//! again. So it is asked over the submission socket, by root too.

use super::Program;
use crate::ocsp::registry::Report;
use crate::ocsp::standing::{CertificateStanding, ListStanding, Standings, State, UnusableFile};
use crate::process::submit_socket::{self, Call};
use crate::sys::identity::{self, Rights};
use anyhow::anyhow;
use jiff::Timestamp;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::SystemTime;

/// Asks the daemon; gives its exit code.
pub fn ask(program: &Program, call: &Call) -> anyhow::Result<i32> {
    super::submission::check_possible(&program.invocation)?;
    // The daemon is to see who calls, not whose program it is.
    if !identity::is_plain() {
        identity::become_user(&Rights::of_caller()?)?;
    }
    let spool = &program.globals.spool_directory;
    submit_socket::call(spool, call)?.ok_or_else(|| {
        anyhow!(
            "oxim: no daemon of this build takes calls for the spool {}: certificates are what a running daemon shows",
            spool.display()
        )
    })
}

/// The table for people: aligned columns, a dash for what there is not.
pub fn write_table(standings: &Standings, out: &mut dyn Write) -> io::Result<()> {
    if standings.certificates.is_empty() {
        writeln!(out, "no certificate has been loaded yet")?;
    } else {
        write_rows(COLUMNS, standings.certificates.iter().map(row), out)?;
    }
    if !standings.lists.is_empty() {
        writeln!(out)?;
        write_rows(LIST_COLUMNS, standings.lists.iter().map(list_row), out)?;
    }
    if !standings.unusable.is_empty() {
        writeln!(out)?;
        write_rows(FILE_COLUMNS, standings.unusable.iter().map(file_row), out)?;
    }
    if standings.unusable_left_out > 0 {
        writeln!(out, "and {} more such files", standings.unusable_left_out)?;
    }
    if let Some(why) = &standings.incomplete {
        writeln!(out, "\n{}", cell(why))?;
    }
    Ok(())
}

fn write_rows<const N: usize>(
    names: [&str; N],
    cells: impl Iterator<Item = [String; N]>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut rows = vec![names.map(str::to_owned)];
    rows.extend(cells);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}  "); // a String takes everything
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

const COLUMNS: [&str; 13] = [
    "SUBJECT",
    "SERIAL",
    "STATUS",
    "SOURCE",
    "MUST-STAPLE",
    "NOT-AFTER",
    "THIS-UPDATE",
    "NEXT-UPDATE",
    "NEXT-ATTEMPT",
    "SUCCESSES",
    "FAILURES",
    "FILE",
    "LAST-ERROR",
];

const LIST_COLUMNS: [&str; 11] = [
    "CRL-ISSUER",
    "STATUS",
    "SIDE",
    "SOURCE",
    "THIS-UPDATE",
    "NEXT-UPDATE",
    "NEXT-ATTEMPT",
    "SUCCESSES",
    "FAILURES",
    "PLACE",
    "LAST-ERROR",
];

const FILE_COLUMNS: [&str; 5] = ["UNUSABLE-FILE", "SIDE", "OPTION", "IN-USE", "ERROR"];

fn file_row(file: &UnusableFile) -> [String; 5] {
    [
        cell(&file.file),
        file.side.name().to_owned(),
        cell(&file.option),
        if file.former_in_use { "former" } else { "nothing" }.to_owned(),
        cell(&file.error),
    ]
}

fn list_row(list: &ListStanding) -> [String; 11] {
    let report = list.report.as_ref();
    [
        cell(&list.issuer),
        list.state.name().to_owned(),
        list.side.name().to_owned(),
        list.source.name().to_owned(),
        date(list.this_update),
        date(list.next_update),
        date(report.and_then(|report| report.next_attempt)),
        count(report, |report| report.successes),
        count(report, |report| report.failures),
        cell(&list.place),
        cell(list.last_error()),
    ]
}

fn count(report: Option<&Report>, number: fn(&Report) -> u64) -> String {
    report.map_or_else(|| "-".to_owned(), |report| number(report).to_string())
}

fn row(standing: &CertificateStanding) -> [String; 13] {
    let certificate = &standing.certificate;
    let report = standing.report.as_ref();
    let next_attempt = report.and_then(|report| report.next_attempt);
    [
        cell(&certificate.subject),
        certificate.serial.clone(),
        standing.state.name().to_owned(),
        standing.source.name().to_owned(),
        if certificate.demands_staple { "yes" } else { "no" }.to_owned(),
        date(Some(certificate.not_after)),
        date(standing.this_update),
        date(standing.next_update),
        date(next_attempt),
        count(report, |report| report.successes),
        count(report, |report| report.failures),
        cell(&standing.file.to_string()),
        cell(standing.last_error()),
    ]
}

/// A text in a column: of one line, and nothing that a terminal would obey.
fn cell(text: &str) -> String {
    match text {
        "" => "-".to_owned(),
        text => text.chars().map(|c| if c.is_control() { '?' } else { c }).collect(),
    }
}

/// RFC 3339, in UTC and seconds.
fn rfc3339(time: SystemTime) -> Option<String> {
    Some(Timestamp::try_from(time).ok()?.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

fn date(time: Option<SystemTime>) -> String {
    time.and_then(rfc3339).unwrap_or_else(|| "-".to_owned())
}

/// The same for programs: one JSON object (RFC 8259), whose names stay what they are.
pub fn write_json(standings: &Standings, out: &mut dyn Write) -> io::Result<()> {
    let array = |objects: Vec<String>| match objects.is_empty() {
        true => "[]".to_owned(),
        false => format!("[\n{}\n]", objects.join(",\n")),
    };
    let certificates = array(standings.certificates.iter().map(object).collect());
    let lists = array(standings.lists.iter().map(list_object).collect());
    let unusable = array(standings.unusable.iter().map(file_object).collect());
    let more = standings.unusable_left_out;
    let incomplete = optional(standings.incomplete.as_deref().unwrap_or_default());
    writeln!(
        out,
        "{{\"certificates\":{certificates},\"crls\":{lists},\"unusable_files\":{unusable},\
         \"unusable_files_left_out\":{more},\"incomplete\":{incomplete}}}"
    )
}

fn file_object(file: &UnusableFile) -> String {
    members(&[
        ("file", optional(&file.file)),
        ("side", string(file.side.name())),
        ("option", string(&file.option)),
        ("former_in_use", file.former_in_use.to_string()),
        ("error", string(&file.error)),
    ])
}

fn list_object(list: &ListStanding) -> String {
    let report = list.report.as_ref();
    members(&[
        ("issuer", string(&list.issuer)),
        ("status", string(list.state.name())),
        ("side", string(list.side.name())),
        ("source", string(list.source.name())),
        ("place", string(&list.place)),
        ("this_update", time(list.this_update)),
        ("next_update", time(list.next_update)),
        ("next_attempt", time(report.and_then(|report| report.next_attempt))),
        ("successes", number(report.map(|report| report.successes))),
        ("failures", number(report.map(|report| report.failures))),
        ("last_error", optional(list.last_error())),
    ])
}

fn object(standing: &CertificateStanding) -> String {
    let certificate = &standing.certificate;
    let report = standing.report.as_ref();
    let revoked = match standing.state {
        State::Revoked(since) => Some(since),
        _ => None,
    };
    members(&[
        ("subject", string(&certificate.subject)),
        ("issuer", string(&certificate.issuer)),
        ("serial", string(&certificate.serial)),
        ("not_after", time(Some(certificate.not_after))),
        ("must_staple", certificate.demands_staple.to_string()),
        ("status", string(standing.state.name())),
        ("revoked_since", time(revoked)),
        ("source", string(standing.source.name())),
        ("file", optional(&standing.file.to_string())),
        ("responder", optional(report.map_or("", |report| &report.source))),
        ("this_update", time(standing.this_update)),
        ("next_update", time(standing.next_update)),
        ("next_attempt", time(report.and_then(|report| report.next_attempt))),
        ("successes", number(report.map(|report| report.successes))),
        ("failures", number(report.map(|report| report.failures))),
        ("last_error", optional(standing.last_error())),
    ])
}

fn members(all: &[(&str, String)]) -> String {
    let all: Vec<String> = all.iter().map(|(name, value)| format!("{}:{value}", string(name))).collect();
    format!("{{{}}}", all.join(","))
}

fn number(number: Option<u64>) -> String {
    number.map_or_else(|| "null".to_owned(), |number| number.to_string())
}

fn optional(text: &str) -> String {
    if text.is_empty() { "null".to_owned() } else { string(text) }
}

fn time(time: Option<SystemTime>) -> String {
    time.and_then(rfc3339).map_or_else(|| "null".to_owned(), |text| string(&text))
}

fn string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c)); // a String takes everything
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ocsp::standing::{CertificateFacts, Source};
    use std::time::{Duration, UNIX_EPOCH};

    fn standing(subject: &str) -> CertificateStanding {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        CertificateStanding {
            certificate: CertificateFacts {
                subject: subject.into(),
                issuer: "CN=ca".into(),
                serial: "0A".into(),
                not_after: at(1_800_000_000),
                demands_staple: true,
            },
            source: Source::Both,
            file: "/etc/proof.der".into(),
            state: State::Good,
            this_update: Some(at(1_700_000_000)),
            next_update: Some(at(1_700_086_400)),
            report: Some(Report {
                source: "http://r/".into(),
                next_attempt: None,
                successes: 3,
                failures: 1,
                last_error: "tryLater\u{1b}[2J".into(),
            }),
        }
    }

    #[test]
    fn the_table_has_a_line_for_each_certificate_and_nothing_that_a_terminal_obeys() {
        let mut out = Vec::new();
        let certificates = vec![standing("CN=mx"), standing("CN=longer.example\n")];
        write_table(&Standings { certificates, ..Standings::default() }, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        let place = |line: &str, word: &str| line.find(word).unwrap();
        assert_eq!(place(lines[0], "SERIAL"), place(lines[1], "0A"));
        assert_eq!(place(lines[1], "good"), place(lines[2], "good"));
        assert!(lines[2].starts_with("CN=longer.example?  0A      good    both    yes"), "{text}");
        assert!(lines[1].ends_with("3          1         /etc/proof.der  tryLater?[2J"), "{text}");
        assert!(lines[1].contains("2023-11-14T22:13:20Z  2023-11-15T22:13:20Z  -  "), "{text}");
    }

    #[test]
    fn what_is_not_known_is_null_and_every_text_is_quoted() {
        let mut out = Vec::new();
        write_json(&Standings::default(), &mut out).unwrap();
        let nothing =
            b"{\"certificates\":[],\"crls\":[],\"unusable_files\":[],\"unusable_files_left_out\":0,\
                        \"incomplete\":null}\n";
        assert_eq!(out, nothing);
        let bare = CertificateStanding {
            report: None,
            file: "".into(),
            state: State::Revoked(UNIX_EPOCH),
            ..standing("CN=\"\\\u{1}\n\u{7f}é")
        };
        assert_eq!(
            object(&bare),
            "{\"subject\":\"CN=\\\"\\\\\\u0001\\n\\u007fé\",\"issuer\":\"CN=ca\",\"serial\":\"0A\",\
             \"not_after\":\"2027-01-15T08:00:00Z\",\"must_staple\":true,\"status\":\"revoked\",\
             \"revoked_since\":\"1970-01-01T00:00:00Z\",\"source\":\"both\",\"file\":null,\"responder\":null,\
             \"this_update\":\"2023-11-14T22:13:20Z\",\"next_update\":\"2023-11-15T22:13:20Z\",\"next_attempt\":null,\
             \"successes\":null,\"failures\":null,\"last_error\":null}"
        );
    }
}
