//! Unqualified addresses in header lines get a domain (spec section "Unqualified addresses"); the line is folded
//! where Exim folds it.

use crate::mail::{Header, HeaderKind, Syntax, parse_list};
use bstr::BString;

/// A header that has grown past this many bytes, since its start or since it was folded here, is folded after
/// the next separator.
const FOLD_AFTER: usize = 40;

/// Which domains unqualified addresses get; none: they stay.
#[derive(Clone, Copy, Debug)]
pub(super) struct Domains<'a> {
    /// For From:, Reply-To:, Sender:.
    pub sender: Option<&'a [u8]>,
    /// For To:, Cc:, Bcc:.
    pub recipient: Option<&'a [u8]>,
}

/// Qualifies in place: a changed header stays, marked as deleted, before the new one.
pub(super) fn qualify_headers(headers: &mut Vec<Header>, domains: Domains, syntax: Syntax) {
    let mut at = 0;
    while at < headers.len() {
        let domain = match headers[at].kind {
            HeaderKind::From | HeaderKind::ReplyTo | HeaderKind::Sender => domains.sender,
            HeaderKind::To | HeaderKind::Cc | HeaderKind::Bcc => domains.recipient,
            _ => None,
        };
        if let Some(text) = domain.and_then(|domain| qualified(&headers[at], domain, syntax)) {
            let kind = headers[at].kind;
            headers[at].kind = HeaderKind::Deleted;
            headers.insert(at + 1, Header { kind, text });
            at += 1;
        }
        at += 1;
    }
}

/// The header with its unqualified addresses qualified; none if nothing changes.
fn qualified(header: &Header, domain: &[u8], syntax: Syntax) -> Option<BString> {
    let body = header.body();
    let name_length = header.text.len() - body.len();
    let unqualified: Vec<_> = parse_list(body, syntax)
        .into_iter()
        .filter_map(|item| Some((item.span, item.parsed.ok()?)))
        .filter(|(_, parsed)| parsed.address.is_unqualified())
        .collect();
    if unqualified.is_empty() {
        return None;
    }
    let mut text = BString::from(&header.text[..name_length]);
    let mut done = 0;
    let mut line_start = 0;
    for (item, parsed) in unqualified {
        text.extend_from_slice(&body[done..parsed.span.start]);
        text.extend_from_slice(&parsed.address.qualified(domain).to_bytes());
        done = parsed.span.end;
        // What follows the item: the rest of it, its separator and white space.
        let rest_of_item = item.end - done;
        let separators = separators_after(&body[item.end..]);
        text.extend_from_slice(&body[done..done + rest_of_item + separators]);
        done += rest_of_item + separators;
        let more = body[done..].first().is_some_and(|byte| *byte != b'\n');
        if text.len() - line_start > FOLD_AFTER && separators > 0 && more {
            line_start = text.len() + 1;
            text.extend_from_slice(b"\n\t");
        }
    }
    text.extend_from_slice(&body[done..]);
    Some(text)
}

/// Separators and the white space around them, up to a line end.
fn separators_after(text: &[u8]) -> usize {
    let length = text.iter().take_while(|byte| b" \t,;".contains(byte)).count();
    if text[..length].contains(&b',') { length } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bstr::ByteSlice;

    fn qualify(line: &str) -> String {
        let mut headers = vec![Header::new(format!("{line}\n"))];
        let domain = Some(&b"test.example"[..]);
        let domains = Domains { sender: domain, recipient: domain };
        qualify_headers(&mut headers, domains, Syntax::default());
        headers.pop().map(|header| header.text.trim_end().as_bstr().to_string()).unwrap_or_default()
    }

    #[test]
    fn header_lines_are_qualified_and_folded_as_exim_does() {
        for (line, qualified) in [
            ("To: a, b", "To: a@test.example, b@test.example"),
            ("To: a, b, c, d", "To: a@test.example, b@test.example, c@test.example, \n\td@test.example"),
            ("Cc: a, b@c (d), G: q, w@e;", "Cc: a@test.example, b@c (d), G: q@test.example, \n\tw@e;"),
            (
                "To: c, aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa@b",
                "To: c@test.example, aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa@b",
            ),
            ("To: a,\n b,\n c", "To: a@test.example,\n b@test.example,\n c@test.example"),
            (
                "Cc: a,b,c,d,e,f,g",
                "Cc: a@test.example,b@test.example,c@test.example,\n\td@test.example,e@test.example,\
                 f@test.example,\n\tg@test.example",
            ),
            ("Cc: a  ,  b  ,  c", "Cc: a@test.example  ,  b@test.example  ,  \n\tc@test.example"),
            ("To: \"x\" <a> (c), b (d)", "To: \"x\" <a@test.example> (c), b@test.example (d)"),
            ("Reply-To: a (b)", "Reply-To: a@test.example (b)"),
            ("To: \"a", "To: \"a"),
            ("To: a b, c", "To: a b, c@test.example"),
            ("To: G:a,b;,c", "To: G:a@test.example,b@test.example;,c@test.example"),
            ("To: (a), b,,c", "To: (a), b@test.example,,c@test.example"),
            ("To: <>, b", "To: <>, b@test.example"),
            ("Subject: a", "Subject: a"),
            ("To: x@y", "To: x@y"),
        ] {
            assert_eq!(qualify(line), qualified, "{line}");
        }
    }
}
