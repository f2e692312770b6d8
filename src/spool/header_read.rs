//! The -H file, read: what Exim 4.60 to 4.99 and oxim write (spec chapter "Format of spool files").
//!
//! Lines that begin with a hyphen and are not known are kept as they are, so that a message goes through
//! oxim's hands without loss of what Exim noted in it.

use crate::mail::envelope::{OcspState, Origin, TlsInfo};
use crate::mail::{Address, Envelope, Header, HeaderKind, MessageId, Recipient};
use crate::text::Value;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bstr::{BString, ByteSlice};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What is wrong with a -H file. Exim's log line is `Format error in spool file <id>-H: size=<size>`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct FormatError {
    /// Line, from 1.
    pub line: usize,
    /// What was expected there.
    pub what: &'static str,
}

/// Reads a whole -H file; its first line must name this message.
pub fn read_header_file(id: &MessageId, text: &[u8]) -> Result<(Envelope, Vec<Header>), FormatError> {
    let mut cursor = Cursor { text, at: 0, line: 0 };
    if cursor.next()?.strip_suffix(b"-H") != Some(id.as_str().as_bytes()) {
        return Err(cursor.wrong("the file's own name"));
    }
    let mut envelope = empty_envelope();
    read_originator(&mut cursor, &mut envelope)?;
    read_sender(&mut cursor, &mut envelope)?;
    read_time(&mut cursor, &mut envelope)?;
    let mut tls = TlsInfo::default();
    let first_of_tree = loop {
        let line = cursor.next()?;
        if !line.starts_with(b"-") {
            break line;
        }
        read_variable(&mut cursor, line, &mut envelope, &mut tls)?;
    };
    if !tls.cipher.is_empty() {
        envelope.origin.tls = Some(tls);
    }
    envelope.origin.local = envelope.origin.host.is_none();
    read_done(&mut cursor, first_of_tree, &mut envelope.done)?;
    read_recipients(&mut cursor, &mut envelope.recipients)?;
    if !cursor.next()?.is_empty() {
        return Err(cursor.wrong("a blank line before the headers"));
    }
    let headers = read_headers(&mut cursor)?;
    Ok((envelope, headers))
}

struct Cursor<'t> {
    text: &'t [u8],
    at: usize,
    line: usize,
}

impl<'t> Cursor<'t> {
    fn wrong(&self, what: &'static str) -> FormatError {
        FormatError { line: self.line, what }
    }
    /// The next line, without its end.
    fn next(&mut self) -> Result<&'t [u8], FormatError> {
        self.line += 1;
        let rest = &self.text[self.at..];
        let end = rest.find_byte(b'\n').ok_or_else(|| self.wrong("another line"))?;
        self.at += end + 1;
        Ok(&rest[..end])
    }
    /// `length` bytes, whatever they are.
    fn take(&mut self, length: usize) -> Result<&'t [u8], FormatError> {
        let rest = &self.text[self.at..];
        let part = rest.get(..length).ok_or_else(|| self.wrong("more bytes"))?;
        self.at += length;
        self.line += part.find_iter("\n").count();
        Ok(part)
    }
}

fn empty_envelope() -> Envelope {
    Envelope {
        login: BString::default(),
        uid: 0,
        gid: 0,
        sender: Address::null(),
        received: UNIX_EPOCH,
        received_complete: None,
        warnings_sent: 0,
        first_time: false,
        frozen: None,
        manually_thawed: false,
        sender_set_untrusted: false,
        sender_local: false,
        local_error: false,
        body_8bitmime: 0,
        smtputf8: false,
        body_lines: 0,
        body_zeros: 0,
        max_received_line: 0,
        allow_unqualified_recipient: false,
        allow_unqualified_sender: false,
        local_scan_data: None,
        spam: [None, None, None],
        dsn_envid: None,
        dsn_ret: 0,
        acl_variables: BTreeMap::new(),
        origin: Origin::default(),
        recipients: Vec::new(),
        done: BTreeSet::new(),
        unknown_lines: Vec::new(),
    }
}

fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    text.to_str().ok()?.parse().ok()
}

/// `login uid gid`; a login name may hold spaces.
fn read_originator(cursor: &mut Cursor, envelope: &mut Envelope) -> Result<(), FormatError> {
    let line = cursor.next()?;
    let mut fields = line.rsplitn(3, |byte| *byte == b' ');
    let mut id = || fields.next().and_then(number::<u32>);
    let (gid, uid) = (id(), id());
    let (Some(gid), Some(uid), Some(login)) = (gid, uid, fields.next()) else {
        return Err(cursor.wrong("login, uid and gid"));
    };
    (envelope.login, envelope.uid, envelope.gid) = (login.into(), uid, gid);
    Ok(())
}

fn read_sender(cursor: &mut Cursor, envelope: &mut Envelope) -> Result<(), FormatError> {
    let line = cursor.next()?;
    let inside = line.strip_prefix(b"<").and_then(|rest| rest.strip_suffix(b">"));
    let sender = inside.ok_or_else(|| cursor.wrong("the sender in angle brackets"))?;
    envelope.sender = Address::split(sender);
    Ok(())
}

/// `seconds warnings`
fn read_time(cursor: &mut Cursor, envelope: &mut Envelope) -> Result<(), FormatError> {
    let line = cursor.next()?;
    let (time, warnings) = line.split_once_str(" ").ok_or_else(|| cursor.wrong("time and warnings"))?;
    let (Some(time), Some(warnings)) = (number::<u32>(time), number(warnings)) else {
        return Err(cursor.wrong("time and warnings"));
    };
    envelope.received = UNIX_EPOCH + Duration::from_secs(u64::from(time));
    envelope.warnings_sent = warnings;
    Ok(())
}

/// One line with a hyphen: two hyphens mark outside text, a word in parentheses how it is quoted.
fn read_variable(
    cursor: &mut Cursor,
    line: &[u8],
    envelope: &mut Envelope,
    tls: &mut TlsInfo,
) -> Result<(), FormatError> {
    let tainted = line.starts_with(b"--");
    let mut text = line.trim_start_with(|c| c == '-');
    if text.starts_with(b"(") {
        text = text.split_once_str(")").map_or(text, |(_, rest)| rest);
    }
    let (name, value) = text.split_once_str(" ").unwrap_or((text, b""));
    if matches!(name, b"aclc" | b"aclm") {
        return read_acl_variable(cursor, name[3], value, tainted, envelope);
    }
    if name == b"spool_file_wireformat" {
        return Err(cursor.wrong("a -D file in Unix format (spool_wireformat is not supported)"));
    }
    let known = set_origin(&mut envelope.origin, name, value)
        || set_fact(envelope, name, value)
        || set_flag(envelope, name)
        || set_tls(tls, name, value, tainted);
    if !known {
        envelope.unknown_lines.push(line.into());
    }
    Ok(())
}

fn read_acl_variable(
    cursor: &mut Cursor,
    kind: u8,
    rest: &[u8],
    tainted: bool,
    envelope: &mut Envelope,
) -> Result<(), FormatError> {
    let parts = rest.split_once_str(" ").and_then(|(name, length)| Some((name, number(length)?)));
    let (name, length) = parts.ok_or_else(|| cursor.wrong("name and length of an ACL variable"))?;
    let value = cursor.take(length)?;
    if cursor.take(1)? != b"\n" {
        return Err(cursor.wrong("a line end after an ACL variable"));
    }
    let mut full_name = BString::from([kind].as_slice());
    full_name.extend_from_slice(name);
    envelope.acl_variables.insert(full_name, Value::with_taint(value, tainted));
    Ok(())
}

fn set_origin(origin: &mut Origin, name: &[u8], value: &[u8]) -> bool {
    let text = || Some(BString::from(value));
    match name {
        b"helo_name" => origin.helo = text(),
        b"host_address" => origin.host = address_and_port(value),
        b"host_auth" => origin.authenticator = text(),
        b"host_name" => origin.host_name = text(),
        b"interface_address" => origin.interface = address_and_port(value).map(|at| (at.ip(), at.port())),
        b"ident" => origin.ident = text(),
        b"host_lookup_failed" => origin.host_lookup_failed = true,
        b"host_lookup_deferred" => origin.host_lookup_deferred = true,
        b"received_protocol" => origin.protocol = value.into(),
        b"auth_id" => origin.authenticated_id = text(),
        b"auth_sender" => origin.authenticated_sender = text(),
        _ => return false,
    }
    true
}

/// `[192.0.2.5]:1234`, or `192.0.2.5.1234` of older versions; no port is port 0.
fn address_and_port(text: &[u8]) -> Option<SocketAddr> {
    let text = text.to_str().ok()?;
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let port = port.strip_prefix(':').map_or(Some(0), |port| port.parse().ok())?;
        return Some(SocketAddr::new(address.parse().ok()?, port));
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(SocketAddr::new(address, 0));
    }
    let (address, port) = text.rsplit_once('.')?;
    Some(SocketAddr::new(address.parse().ok()?, port.parse().ok()?))
}

fn set_fact(envelope: &mut Envelope, name: &[u8], value: &[u8]) -> bool {
    let text = || Some(BString::from(value));
    let count = || number(value).unwrap_or_default();
    match name {
        b"received_time_usec" => envelope.received += fraction(value),
        b"received_time_complete" => envelope.received_complete = time_of(value),
        b"body_linecount" => envelope.body_lines = count(),
        b"body_zerocount" => envelope.body_zeros = count(),
        b"max_received_linelength" => envelope.max_received_line = count(),
        b"body_8bitmime" => envelope.body_8bitmime = number(value).unwrap_or_default(),
        b"frozen" => envelope.frozen = time_of(value),
        b"local_scan" => envelope.local_scan_data = text(),
        b"spam_bar" => envelope.spam[0] = text(),
        b"spam_score" => envelope.spam[1] = text(),
        b"spam_score_int" => envelope.spam[2] = text(),
        b"dsn_envid" => envelope.dsn_envid = text(),
        b"dsn_ret" => envelope.dsn_ret = number(value).unwrap_or_default(),
        _ => return false,
    }
    true
}

fn set_flag(envelope: &mut Envelope, name: &[u8]) -> bool {
    let flag = match name {
        b"allow_unqualified_recipient" => &mut envelope.allow_unqualified_recipient,
        b"allow_unqualified_sender" => &mut envelope.allow_unqualified_sender,
        b"deliver_firsttime" => &mut envelope.first_time,
        b"manual_thaw" => &mut envelope.manually_thawed,
        b"sender_set_untrusted" => &mut envelope.sender_set_untrusted,
        b"localerror" => &mut envelope.local_error,
        b"local" => &mut envelope.sender_local,
        b"smtputf8" => &mut envelope.smtputf8,
        _ => return false,
    };
    *flag = true;
    true
}

fn set_tls(tls: &mut TlsInfo, name: &[u8], value: &[u8], tainted: bool) -> bool {
    match name {
        b"tls_certificate_verified" => tls.certificate_verified = true,
        b"tls_cipher" => {
            tls.bits = value.rsplit_once_str(":").and_then(|(_, bits)| number(bits)).unwrap_or_default();
            tls.cipher = value.into();
        }
        b"tls_peerdn" => tls.peer_dn = Value::with_taint(value, tainted),
        b"tls_peercert" => tls.peer_certificate = from_pem_line(value),
        b"tls_ourcert" => tls.our_certificate = from_pem_line(value),
        b"tls_sni" => tls.sni = Some(Value::with_taint(value, tainted)),
        b"tls_ocsp" => tls.ocsp = ocsp_state(value),
        b"tls_resumption" => {
            let bits = value.first().map_or(0, |letter| letter.wrapping_sub(b'A'));
            (tls.resumed, tls.tickets) = (bits & 0x10 != 0, bits & 0x0e);
        }
        b"tls_ver" => tls.version = value.into(),
        _ => return false,
    }
    true
}

fn ocsp_state(value: &[u8]) -> OcspState {
    match value {
        b"1" => OcspState::NoResponse,
        b"2" => OcspState::NotVerified,
        b"3" => OcspState::Failed,
        b"4" => OcspState::Verified,
        _ => OcspState::NotRequested,
    }
}

/// DER of a certificate from PEM whose line ends are written as `\n`; empty if it is none.
fn from_pem_line(line: &[u8]) -> Vec<u8> {
    let base64: Vec<u8> = line
        .replace("\\n", "\n")
        .lines()
        .filter(|part| !part.starts_with(b"-----"))
        .flatten()
        .copied()
        .collect();
    STANDARD.decode(base64).unwrap_or_default()
}

/// `.222048` as microseconds.
fn fraction(text: &[u8]) -> Duration {
    let micros = text.strip_prefix(b".").filter(|digits| digits.len() == 6).and_then(number::<u64>);
    Duration::from_micros(micros.unwrap_or(0))
}

/// `1795443564` or `1795443564.222918`.
fn time_of(text: &[u8]) -> Option<SystemTime> {
    let (seconds, micros) = match text.find_byte(b'.') {
        Some(dot) => (&text[..dot], fraction(&text[dot..])),
        None => (text, Duration::ZERO),
    };
    Some(UNIX_EPOCH + Duration::from_secs(u64::from(number::<u32>(seconds)?)) + micros)
}

/// The tree of addresses that are done. Each line announces up to two more.
fn read_done(cursor: &mut Cursor, first: &[u8], done: &mut BTreeSet<BString>) -> Result<(), FormatError> {
    if first == b"XX" {
        return Ok(());
    }
    let mut line = first;
    let mut to_come: usize = 1;
    loop {
        let branch = |letter: u8| match letter {
            b'Y' => Some(1),
            b'N' => Some(0),
            _ => None,
        };
        let (Some([left, right, b' ']), Some(address)) = (line.get(..3), line.get(3..)) else {
            return Err(cursor.wrong("a line of the tree of non-recipients"));
        };
        let (Some(left), Some(right)) = (branch(*left), branch(*right)) else {
            return Err(cursor.wrong("Y or N in the tree of non-recipients"));
        };
        done.insert(address.into());
        to_come = to_come - 1 + left + right;
        if to_come == 0 {
            return Ok(());
        }
        line = cursor.next()?;
    }
}

fn read_recipients(cursor: &mut Cursor, recipients: &mut Vec<Recipient>) -> Result<(), FormatError> {
    let line = cursor.next()?;
    let count: usize = number(line).ok_or_else(|| cursor.wrong("the number of recipients"))?;
    for _ in 0..count {
        let line = cursor.next()?;
        recipients.push(recipient(line).ok_or_else(|| cursor.wrong("a recipient"))?);
    }
    Ok(())
}

/// One recipient; the fields after the address are counted from the line's end, since a quoted local part
/// may hold spaces.
fn recipient(line: &[u8]) -> Option<Recipient> {
    let Some((rest, length, parent, flags)) = recipient_tail(line) else {
        return (!line.is_empty())
            .then(|| Recipient { address: Address::split(line), ..Recipient::default() });
    };
    let mut found = Recipient { parent: usize::try_from(parent).ok(), ..Recipient::default() };
    let (mut rest, errors_to) = take_text(rest, length)?;
    found.errors_to = errors_to;
    if flags & 2 != 0 {
        let (before, numbers) = rest.rsplit_once_str(" ")?;
        let (length, dsn_flags) = numbers.split_once_str(",")?;
        found.dsn_flags = number(dsn_flags)?;
        (rest, found.orcpt) = take_text(before, number(length)?)?;
    }
    found.address = Address::split(rest);
    Some(found)
}

/// The end of a long form: ` length,parent#flags`; none if the line is just an address.
fn recipient_tail(line: &[u8]) -> Option<(&[u8], usize, i64, u32)> {
    let (before, tail) = line.rsplit_once_str(" ")?;
    let (numbers, flags) = tail.split_once_str("#")?;
    let (length, parent) = numbers.split_once_str(",")?;
    let flags: u32 = number(flags)?;
    (flags & 1 != 0).then_some(())?;
    Some((before, number(length)?, number(parent)?, flags))
}

/// Splits ` text` of this length off the end.
fn take_text(line: &[u8], length: usize) -> Option<(&[u8], Option<BString>)> {
    let start = line.len().checked_sub(length)?;
    let (before, text) = line.split_at(start);
    let rest = before.strip_suffix(b" ")?;
    Some((rest, (length > 0).then(|| text.into())))
}

fn read_headers(cursor: &mut Cursor) -> Result<Vec<Header>, FormatError> {
    let mut headers = Vec::new();
    while cursor.at < cursor.text.len() {
        let line = cursor.line + 1;
        let wrong = |what| FormatError { line, what };
        let digits = cursor.text[cursor.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let size = number::<usize>(&cursor.text[cursor.at..cursor.at + digits]);
        let size = size.filter(|_| digits >= 3).ok_or(wrong("the size of a header"))?;
        cursor.at += digits;
        let letter = cursor.take(2)?;
        let kind = kind_of(letter[0]).filter(|_| letter[1] == b' ');
        let kind = kind.ok_or(wrong("the letter of a header"))?;
        let text = cursor.take(size)?;
        if !text.ends_with(b"\n") {
            return Err(wrong("a header that ends where its size says"));
        }
        headers.push(Header { kind, text: text.into() });
    }
    Ok(headers)
}

fn kind_of(letter: u8) -> Option<HeaderKind> {
    Some(match letter {
        b'B' => HeaderKind::Bcc,
        b'C' => HeaderKind::Cc,
        b'F' => HeaderKind::From,
        b'I' => HeaderKind::Id,
        b'P' => HeaderKind::Received,
        b'R' => HeaderKind::ReplyTo,
        b'S' => HeaderKind::Sender,
        b'T' => HeaderKind::To,
        b'*' => HeaderKind::Deleted,
        b' ' => HeaderKind::Other,
        _ => return None,
    })
}
