//! The -H file, written (spec chapter "Format of spool files"; recorded from Exim 4.96).

use crate::mail::envelope::{OcspState, Origin, TlsInfo};
use crate::mail::{Envelope, Header, MessageId, Recipient};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bstr::{BString, ByteSlice};
use std::time::{SystemTime, UNIX_EPOCH};

/// The whole -H file of a message.
pub fn header_file(id: &MessageId, envelope: &Envelope, headers: &[Header]) -> Vec<u8> {
    let text_size: usize = headers.iter().map(|header| header.text.len() + 8).sum();
    let mut out = Lines { out: Vec::with_capacity(1024 + text_size) };
    out.raw(&[id.as_str().as_bytes(), b"-H"]);
    let numbers = format!(" {} {}", envelope.uid, envelope.gid);
    out.raw(&[&envelope.login, numbers.as_bytes()]);
    out.raw(&[b"<", &envelope.sender.to_bytes(), b">"]);
    write_times(&mut out, envelope);
    write_origin(&mut out, &envelope.origin);
    write_acl_variables(&mut out, envelope);
    write_body_facts(&mut out, envelope);
    write_authenticated(&mut out, &envelope.origin);
    write_flags(&mut out, envelope);
    if let Some(tls) = &envelope.origin.tls {
        write_tls(&mut out, tls);
    } else {
        out.raw(&[b"-tls_resumption A"]);
    }
    out.flag("smtputf8", envelope.smtputf8);
    if let Some(envid) = &envelope.dsn_envid {
        out.raw(&[b"-dsn_envid ", envid]);
    }
    if envelope.dsn_ret != 0 {
        out.raw(&[b"-dsn_ret ", envelope.dsn_ret.to_string().as_bytes()]);
    }
    for line in &envelope.unknown_lines {
        out.raw(&[line]);
    }
    write_done(&mut out, envelope);
    out.raw(&[envelope.recipients.len().to_string().as_bytes()]);
    for recipient in &envelope.recipients {
        out.raw(&[&recipient_line(recipient)]);
    }
    out.raw(&[]);
    for header in headers {
        let size = format!("{:03}{} ", header.text.len(), char::from(header.kind.letter()));
        out.out.extend_from_slice(size.as_bytes());
        out.out.extend_from_slice(&header.text);
    }
    out.out
}

struct Lines {
    out: Vec<u8>,
}

impl Lines {
    fn raw(&mut self, parts: &[&[u8]]) {
        for part in parts {
            self.out.extend_from_slice(part);
        }
        self.out.push(b'\n');
    }
    /// `-name value`, `--name value` if it came from outside. No line end can get in.
    fn text(&mut self, name: &str, value: &[u8], tainted: bool) {
        let one_line = value.replace("\n", " ");
        self.raw(&[if tainted { b"--" } else { b"-" }, name.as_bytes(), b" ", &one_line]);
    }
    fn optional(&mut self, name: &str, value: Option<&BString>, tainted: bool) {
        if let Some(value) = value {
            self.text(name, value, tainted);
        }
    }
    fn number(&mut self, name: &str, value: u64) {
        self.raw(&[b"-", name.as_bytes(), b" ", value.to_string().as_bytes()]);
    }
    fn flag(&mut self, name: &str, set: bool) {
        if set {
            self.raw(&[b"-", name.as_bytes()]);
        }
    }
}

/// Seconds and microseconds since 1970.
fn seconds(time: SystemTime) -> (u64, u32) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    (since.as_secs(), since.subsec_micros())
}

fn write_times(out: &mut Lines, envelope: &Envelope) {
    let (secs, micros) = seconds(envelope.received);
    out.raw(&[format!("{secs} {}", envelope.warnings_sent).as_bytes()]);
    out.raw(&[format!("-received_time_usec .{micros:06}").as_bytes()]);
    if let Some(complete) = envelope.received_complete {
        let (secs, micros) = seconds(complete);
        out.raw(&[format!("-received_time_complete {secs}.{micros:06}").as_bytes()]);
    }
}

fn write_origin(out: &mut Lines, origin: &Origin) {
    out.optional("helo_name", origin.helo.as_ref(), true);
    if let Some(host) = origin.host {
        out.text("host_address", bracketed(host.ip(), host.port()).as_bytes(), false);
    }
    out.optional("host_auth", origin.authenticator.as_ref(), false);
    out.optional("host_name", origin.host_name.as_ref(), true);
    if let Some((address, port)) = origin.interface {
        out.text("interface_address", bracketed(address, port).as_bytes(), false);
    }
    out.optional("ident", origin.ident.as_ref(), !origin.local);
    if !origin.protocol.is_empty() {
        out.text("received_protocol", &origin.protocol, false);
    }
}

fn write_authenticated(out: &mut Lines, origin: &Origin) {
    out.optional("auth_id", origin.authenticated_id.as_ref(), !origin.local);
    out.optional("auth_sender", origin.authenticated_sender.as_ref(), !origin.local);
}

/// `[192.0.2.5]:1234`, as Exim 4.90 and later write it.
fn bracketed(address: std::net::IpAddr, port: u16) -> String {
    format!("[{address}]:{port}")
}

fn write_acl_variables(out: &mut Lines, envelope: &Envelope) {
    for (name, value) in &envelope.acl_variables {
        let Some((kind, rest)) = name.split_first().filter(|(kind, _)| matches!(kind, b'c' | b'm')) else {
            continue;
        };
        let dashes: &[u8] = if value.is_tainted() { b"--acl" } else { b"-acl" };
        let length = value.bytes().len().to_string();
        out.raw(&[dashes, &[*kind], b" ", rest, b" ", length.as_bytes()]);
        out.raw(&[value.bytes()]);
    }
}

fn write_body_facts(out: &mut Lines, envelope: &Envelope) {
    out.number("body_linecount", envelope.body_lines);
    out.number("max_received_linelength", envelope.max_received_line);
    if envelope.body_zeros > 0 {
        out.number("body_zerocount", envelope.body_zeros);
    }
}

fn write_flags(out: &mut Lines, envelope: &Envelope) {
    out.flag("allow_unqualified_recipient", envelope.allow_unqualified_recipient);
    out.flag("allow_unqualified_sender", envelope.allow_unqualified_sender);
    out.flag("deliver_firsttime", envelope.first_time);
    if let Some(since) = envelope.frozen {
        out.number("frozen", seconds(since).0);
    }
    out.flag("host_lookup_deferred", envelope.origin.host_lookup_deferred);
    out.flag("host_lookup_failed", envelope.origin.host_lookup_failed);
    out.flag("local", envelope.sender_local);
    out.flag("localerror", envelope.local_error);
    out.optional("local_scan", envelope.local_scan_data.as_ref(), true);
    for (name, value) in ["spam_bar", "spam_score", "spam_score_int"].iter().zip(&envelope.spam) {
        out.optional(name, value.as_ref(), true);
    }
    out.flag("manual_thaw", envelope.manually_thawed);
    out.flag("sender_set_untrusted", envelope.sender_set_untrusted);
    if envelope.body_8bitmime != 0 {
        out.number("body_8bitmime", u64::from(envelope.body_8bitmime));
    }
}

fn write_tls(out: &mut Lines, tls: &TlsInfo) {
    out.flag("tls_certificate_verified", tls.certificate_verified);
    out.text("tls_cipher", &tls.cipher, false);
    if !tls.peer_certificate.is_empty() {
        out.text("tls_peercert", &pem_line(&tls.peer_certificate), true);
    }
    if !tls.peer_dn.is_empty() {
        out.text("tls_peerdn", tls.peer_dn.bytes(), true);
    }
    if let Some(sni) = &tls.sni {
        out.text("tls_sni", sni.bytes(), true);
    }
    if !tls.our_certificate.is_empty() {
        out.text("tls_ourcert", &pem_line(&tls.our_certificate), false);
    }
    if tls.ocsp != OcspState::NotRequested {
        out.number("tls_ocsp", tls.ocsp as u64);
    }
    out.text("tls_resumption", &[b'A' + tls.resumption()], false);
    out.text("tls_ver", &tls.version, false);
}

/// A certificate as PEM on one line, line ends written as `\n`.
fn pem_line(der: &[u8]) -> BString {
    let text = STANDARD.encode(der);
    let mut line = BString::from("-----BEGIN CERTIFICATE-----\\n");
    for part in text.as_bytes().chunks(64) {
        line.extend_from_slice(part);
        line.extend_from_slice(b"\\n");
    }
    line.extend_from_slice(b"-----END CERTIFICATE-----\\n");
    line
}

/// The addresses that are done, as the balanced tree that Exim reads.
fn write_done(out: &mut Lines, envelope: &Envelope) {
    let sorted: Vec<&BString> = envelope.done.iter().collect();
    if sorted.is_empty() {
        out.raw(&[b"XX"]);
    } else {
        write_tree(out, &sorted);
    }
}

fn write_tree(out: &mut Lines, sorted: &[&BString]) {
    let middle = (sorted.len() - 1) / 2;
    let (left, right) = (&sorted[..middle], &sorted[middle + 1..]);
    let letter = |part: &[&BString]| if part.is_empty() { b'N' } else { b'Y' };
    out.raw(&[&[letter(left), letter(right), b' '], sorted[middle]]);
    for part in [left, right] {
        if !part.is_empty() {
            write_tree(out, part);
        }
    }
}

/// `address`, or `address orcpt length,dsn errors_to length,parent#3`.
fn recipient_line(recipient: &Recipient) -> Vec<u8> {
    let mut line: Vec<u8> = recipient.address.to_bytes().into();
    if recipient.errors_to.is_none() && recipient.parent.is_none() && recipient.dsn_flags == 0 {
        return line;
    }
    let empty = BString::default();
    let orcpt = recipient.orcpt.as_ref().unwrap_or(&empty);
    let errors_to = recipient.errors_to.as_ref().unwrap_or(&empty);
    let parent = recipient.parent.map_or(-1, |parent| parent as i64);
    line.push(b' ');
    line.extend_from_slice(orcpt);
    line.extend_from_slice(format!(" {},{} ", orcpt.len(), recipient.dsn_flags).as_bytes());
    line.extend_from_slice(errors_to);
    line.extend_from_slice(format!(" {},{parent}#3", errors_to.len()).as_bytes());
    line
}
