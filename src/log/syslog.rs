//! Lines to syslog (spec section "Logging to syslog"; RFC 3164), as datagrams to `/dev/log`.

use super::sink::Which;
use bstr::{BStr, ByteSlice};
use std::os::unix::net::UnixDatagram;

/// Longest part of a line in one datagram, so that it stays below RFC 3164's 1024 bytes.
const PART_MAX: usize = 870;
/// Where the system's syslog listens.
const SOCKET: &str = "/dev/log";

/// How to write to syslog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyslogSettings {
    /// Facility number, already shifted (`syslog_facility`; LOG_MAIL is 16).
    pub facility: u8,
    /// `syslog_processname`.
    pub process_name: String,
    /// `syslog_pid`.
    pub with_pid: bool,
    /// `syslog_timestamp`: our time stamp stands in the line too.
    pub with_timestamp: bool,
    /// `syslog_duplication`: lines of the reject and panic log that are also main-log lines are written again.
    pub duplication: bool,
}

impl Default for SyslogSettings {
    fn default() -> Self {
        Self {
            facility: 16,
            process_name: "exim".into(),
            with_pid: true,
            with_timestamp: true,
            duplication: true,
        }
    }
}

/// Sends one entry; split at line ends and at 870 bytes. Errors are not told: syslog has nobody to tell.
pub fn send(settings: &SyslogSettings, which: Which, pid: u32, entry: &BStr) {
    let Ok(socket) = UnixDatagram::unbound() else { return };
    let severity = match which {
        Which::Main => 6,
        Which::Reject => 5,
        Which::Panic => 1,
    };
    for part in parts(entry) {
        let mut datagram =
            format!("<{}>{}", settings.facility | severity, settings.process_name).into_bytes();
        if settings.with_pid {
            datagram.extend_from_slice(format!("[{pid}]").as_bytes());
        }
        datagram.extend_from_slice(b": ");
        datagram.extend_from_slice(&part);
        let _ = socket.send_to(&datagram, SOCKET);
    }
}

/// The entry in parts, each marked `[n/m]` (cut for length) or `[n\m]` (cut at a line end).
fn parts(entry: &BStr) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    for line in entry.lines() {
        let mut chunks = line.chunks(PART_MAX).peekable();
        if chunks.peek().is_none() {
            pieces.push((line, b'\\'));
        }
        while let Some(chunk) = chunks.next() {
            pieces.push((chunk, if chunks.peek().is_some() { b'/' } else { b'\\' }));
        }
    }
    if let [(only, _)] = pieces.as_slice() {
        return vec![only.to_vec()];
    }
    let total = pieces.len();
    let mut parts = Vec::with_capacity(total);
    let mut before = b'/';
    for (number, (piece, after)) in pieces.into_iter().enumerate() {
        let mark = if number + 1 == total { before } else { after };
        let mut part = format!("[{}{}{total}] ", number + 1, char::from(mark)).into_bytes();
        part.extend_from_slice(piece);
        parts.push(part);
        before = after;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_and_many_lined_entries_are_cut_and_counted() {
        assert_eq!(parts("one".into()), [b"one".to_vec()]);
        let long = "x".repeat(900);
        let cut = parts(long.as_str().into());
        assert!(cut[0].starts_with(b"[1/2] xxx") && cut[1].starts_with(b"[2/2] x"));
        let lines = parts("a\nb\nc".into());
        assert_eq!(lines[0], b"[1\\3] a");
        assert_eq!(lines[2], b"[3\\3] c");
    }
}
