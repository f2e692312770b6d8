//! Addresses as they are written in SMTP commands and header lines (RFC 5321 section 4.1.2, RFC 5322
//! sections 3.4 and 4.4), with Exim's tolerance and in Exim's words for what is wrong.
//!
//! Accepted beyond the RFCs, as Exim does: empty components in local parts (`.a..b.`), backslash
//! quoting outside quotes, eight-bit local parts, unquoted dots in phrases, source routes (ignored).

use super::Address;
use bstr::{BString, ByteSlice};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

/// Longest address, in bytes: RFC 5321 section 4.5.3.1.3 allows 256 for a path with its brackets.
pub const ADDRESS_MAX: usize = 256;
/// Bytes of the rest of the text that an error message shows.
const REST_SHOWN: usize = 32;
/// Deepest nesting of comments: a peer must not choose the depth of our work.
const COMMENT_DEPTH_MAX: usize = 32;

/// What is allowed where an address is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Syntax {
    /// `user@[192.0.2.1]` (`allow_domain_literals`).
    pub domain_literals: bool,
    /// Bytes above 127 in domains (`allow_utf8_domains`, SMTPUTF8).
    pub utf8_domains: bool,
    /// One dot at the end of a domain is ignored (`strip_trailing_dot`).
    pub strip_trailing_dot: bool,
    /// `<>` is the null address.
    pub null: bool,
}

/// Why a text is no address, in Exim's words: what stands after `501 <x>: `.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct AddressError {
    /// The words; they may hold bytes of the address.
    pub message: BString,
}

/// An address found in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The address, without comments, route and phrase; the case of the domain is kept.
    pub address: Address,
    /// Where local part and domain stand in the text (comments between them included), for rewriting.
    pub span: Range<usize>,
}

/// One item of a list of addresses in a header line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListItem {
    /// Where the item stands in the header's body, white space trimmed.
    pub span: Range<usize>,
    /// The address (its span counts from the start of the header's body), or what is wrong.
    pub parsed: Result<Parsed, AddressError>,
}

/// Reads the one address of a text: `<path>`, `local@domain` or `Phrase <path>`.
pub fn parse_address(text: &[u8], syntax: Syntax) -> Result<Parsed, AddressError> {
    let mut reader =
        Reader { text, at: 0, syntax, end: 0, local_part: BString::default(), domain: BString::default() };
    let span = reader.mailbox()?;
    reader.skip();
    if reader.at < text.len() {
        return Err(reader.may_not_follow());
    }
    let address = Address::new(reader.local_part, reader.domain);
    check_length(&address)?;
    Ok(Parsed { address, span })
}

/// Reads the addresses of a header's body (From:, To:, Cc: ...): a list with commas, with groups
/// (`name: a, b;`). Empty items are left out; each other item is given, right or wrong.
pub fn parse_list(body: &[u8], syntax: Syntax) -> Vec<ListItem> {
    let mut items = Vec::new();
    let mut at = 0;
    let mut in_group = false;
    while at < body.len() {
        let end = item_end(body, at, in_group);
        let stop = body.get(end).copied();
        if stop == Some(b':') {
            in_group = true;
        } else {
            push_item(&mut items, body, at..end, syntax);
        }
        if stop == Some(b';') {
            in_group = false;
        }
        at = end + 1;
    }
    items
}

fn push_item(items: &mut Vec<ListItem>, body: &[u8], span: Range<usize>, syntax: Syntax) {
    let text = &body[span.clone()];
    let lead = text.len() - text.trim_start().len();
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return;
    }
    let start = span.start + lead;
    let parsed = parse_address(trimmed, syntax).map(|mut parsed| {
        parsed.span = parsed.span.start + start..parsed.span.end + start;
        parsed
    });
    items.push(ListItem { span: start..start + trimmed.len(), parsed });
}

/// The offset of the comma, semicolon or group colon that ends the item which starts at `from`.
fn item_end(body: &[u8], from: usize, in_group: bool) -> usize {
    let mut at = from;
    let mut angle = false;
    let mut seen_at = false;
    let mut literal = false;
    while at < body.len() {
        match body[at] {
            b'\\' => at += 1,
            b'"' => at = quoted_end(body, at).unwrap_or(body.len()) - 1,
            b'(' => at = comment_end(body, at).unwrap_or(body.len()) - 1,
            b'[' => literal = true,
            b']' => literal = false,
            b'<' => angle = true,
            b'>' => angle = false,
            b'@' => seen_at = true,
            b',' if !angle && !literal => return at,
            b';' if !angle && !literal && in_group => return at,
            b':' if !angle && !literal && !seen_at && !in_group => return at,
            _ => {}
        }
        at += 1;
    }
    body.len()
}

/// The offset after the quoted string that opens at `from`; none if it never closes.
fn quoted_end(text: &[u8], from: usize) -> Option<usize> {
    let mut at = from + 1;
    while at < text.len() {
        match text[at] {
            b'\\' => at += 1,
            b'"' => return Some(at + 1),
            _ => {}
        }
        at += 1;
    }
    None
}

/// The offset after the comment that opens at `from`; none if it never closes or nests too deep.
fn comment_end(text: &[u8], from: usize) -> Option<usize> {
    let mut depth = 0;
    let mut at = from;
    while at < text.len() {
        match text[at] {
            b'\\' => at += 1,
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
        if depth > COMMENT_DEPTH_MAX {
            return None;
        }
    }
    None
}

fn check_length(address: &Address) -> Result<(), AddressError> {
    let text = address.to_bytes();
    if text.len() <= ADDRESS_MAX {
        return Ok(());
    }
    let mut message = BString::from("address is ridiculously long: ");
    message.extend_from_slice(&text[..64]);
    message.extend_from_slice(b"...");
    Err(AddressError { message })
}

fn error(message: &str) -> AddressError {
    AddressError { message: message.into() }
}

/// True for what may stand in a word without quotes.
fn is_atom(byte: u8) -> bool {
    byte > b' ' && byte != 127 && !b"()<>@,;:\\\"[].".contains(&byte)
}

struct Reader<'t> {
    text: &'t [u8],
    at: usize,
    /// After the last byte of a word or label.
    end: usize,
    syntax: Syntax,
    local_part: BString,
    domain: BString,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// Passes white space and comments. A comment that does not close is passed to the end of the text.
    fn skip(&mut self) {
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                b'(' => self.at = comment_end(self.text, self.at).unwrap_or(self.text.len()),
                _ => return,
            }
        }
    }

    fn may_not_follow(&self) -> AddressError {
        let rest = &self.text[self.at..];
        let mut message = BString::from("malformed address: ");
        message.extend_from_slice(&rest[..rest.len().min(REST_SHOWN)]);
        message.extend_from_slice(b" may not follow ");
        message.extend_from_slice(&self.text[..self.at]);
        AddressError { message }
    }

    /// The whole: gives the span of `local@domain`.
    fn mailbox(&mut self) -> Result<Range<usize>, AddressError> {
        self.skip();
        let start = self.at;
        match self.peek() {
            None => return Err(error("empty address")),
            Some(b'<') => return self.angle_path(),
            Some(b'@') => {
                self.source_route()?;
                return self.local_at_domain(false);
            }
            _ => {}
        }
        let local_part = self.local_part()?;
        match self.peek() {
            None => {
                self.local_part = local_part;
                Ok(start..self.end.max(start))
            }
            Some(b'@') => {
                self.local_part = local_part;
                self.at += 1;
                self.domain()?;
                Ok(start..self.end.max(start))
            }
            _ => self.phrase_then_path(),
        }
    }

    /// After the first words of a phrase: the rest of it, then `<path>`.
    fn phrase_then_path(&mut self) -> Result<Range<usize>, AddressError> {
        loop {
            self.skip();
            if self.peek() == Some(b'<') {
                return self.angle_path();
            }
            self.local_part().map_err(|mut wrong| {
                wrong.message.extend_from_slice(b" (expected word or \"<\")");
                wrong
            })?;
        }
    }

    fn angle_path(&mut self) -> Result<Range<usize>, AddressError> {
        self.at += 1;
        self.skip();
        if self.peek() == Some(b'>') && self.syntax.null {
            self.at += 1;
            return Ok(self.at - 1..self.at - 1);
        }
        let routed = self.peek() == Some(b'@');
        if routed {
            self.source_route()?;
        }
        let span = self.local_at_domain(true)?;
        if routed && self.domain.is_empty() {
            return Err(error("domain missing in source-routed address"));
        }
        match self.peek() {
            Some(b'>') => self.at += 1,
            None => return Err(error("'>' missing at end of address")),
            Some(_) => return Err(self.may_not_follow()),
        }
        Ok(span)
    }

    /// `@a,@b:`, which is read and forgotten (RFC 5321 appendix C).
    fn source_route(&mut self) -> Result<(), AddressError> {
        loop {
            self.at += 1;
            self.domain()?;
            if self.peek() != Some(b',') {
                break;
            }
            self.at += 1;
            self.skip();
            if self.peek() != Some(b'@') {
                return Err(error("colon expected after route list"));
            }
        }
        self.domain.clear();
        match self.peek() {
            Some(b':') => self.at += 1,
            None | Some(b'>') => return Err(error("no local part")),
            Some(_) => return Err(error("colon expected after route list")),
        }
        self.skip();
        Ok(())
    }

    fn local_at_domain(&mut self, in_angle: bool) -> Result<Range<usize>, AddressError> {
        let start = self.at;
        self.local_part = self.local_part()?;
        match self.peek() {
            Some(b'@') => {
                self.at += 1;
                self.domain()?;
            }
            Some(b'>') if in_angle => {}
            _ => {
                let mut message = BString::from("\"@\" or \".\" expected after \"");
                message.extend_from_slice(&self.local_part);
                message.push(b'"');
                return Err(AddressError { message });
            }
        }
        Ok(start..self.end.max(start))
    }

    /// Words with dots between them; empty words are let through if there is at least one dot or word.
    fn local_part(&mut self) -> Result<BString, AddressError> {
        let mut local_part = BString::default();
        self.skip();
        loop {
            let before = local_part.len();
            self.word(&mut local_part)?;
            let empty_word = local_part.len() == before;
            self.skip();
            if self.peek() == Some(b'.') {
                local_part.push(b'.');
                self.at += 1;
                self.end = self.at;
                self.skip();
            } else if empty_word && local_part.is_empty() {
                return Err(error("missing or malformed local part"));
            } else {
                return Ok(local_part);
            }
        }
    }

    /// One quoted string or atom (backslash pairs included), as written.
    fn word(&mut self, into: &mut BString) -> Result<(), AddressError> {
        let start = self.at;
        if self.peek() == Some(b'"') {
            self.at =
                quoted_end(self.text, self.at).ok_or_else(|| error("unmatched doublequote in local part"))?;
        } else {
            while let Some(byte) = self.peek() {
                if byte == b'\\' {
                    self.at = (self.at + 2).min(self.text.len());
                } else if is_atom(byte) {
                    self.at += 1;
                } else {
                    break;
                }
            }
        }
        into.extend_from_slice(&self.text[start..self.at]);
        if self.at > start {
            self.end = self.at;
        }
        Ok(())
    }

    /// Labels with dots, or a literal in brackets.
    fn domain(&mut self) -> Result<(), AddressError> {
        self.skip();
        self.domain.clear();
        if self.peek() == Some(b'[') {
            return self.domain_literal();
        }
        loop {
            if !self.peek().is_some_and(|byte| self.starts_label(byte)) {
                let stripped = self.syntax.strip_trailing_dot && self.domain.ends_with(b".");
                if stripped {
                    self.domain.pop();
                }
                return if stripped { Ok(()) } else { Err(error("domain missing or malformed")) };
            }
            while let Some(byte) = self.peek().filter(|byte| self.starts_label(*byte) || *byte == b'-') {
                self.domain.push(byte);
                self.at += 1;
            }
            self.end = self.at;
            self.skip();
            if self.peek() != Some(b'.') {
                return Ok(());
            }
            self.domain.push(b'.');
            self.at += 1;
            self.skip();
        }
    }

    fn starts_label(&self, byte: u8) -> bool {
        byte.is_ascii_alphanumeric() || (byte > 127 && self.syntax.utf8_domains)
    }

    fn domain_literal(&mut self) -> Result<(), AddressError> {
        if !self.syntax.domain_literals {
            return Err(error("domain literals not allowed"));
        }
        let rest = &self.text[self.at..];
        let Some(close) = rest.find_byte(b']') else {
            return Err(error("domain missing or malformed"));
        };
        if !is_ip_literal(&rest[1..close]) {
            return Err(error("domain missing or malformed"));
        }
        self.domain = rest[..=close].into();
        self.at += close + 1;
        self.end = self.at;
        self.skip();
        Ok(())
    }
}

/// The inside of an address literal (RFC 5321 section 4.1.3): IPv4, or IPv6 with or without its tag.
fn is_ip_literal(inside: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(inside) else { return false };
    let six = match text.split_at_checked(5) {
        Some((tag, rest)) if tag.eq_ignore_ascii_case("ipv6:") => rest,
        _ => text,
    };
    text.parse::<Ipv4Addr>().is_ok() || six.parse::<Ipv6Addr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> Result<String, String> {
        path_bytes(text.as_bytes())
    }

    fn path_bytes(text: &[u8]) -> Result<String, String> {
        parse_address(text, Syntax::default())
            .map(|parsed| parsed.address.to_string())
            .map_err(|wrong| wrong.to_string())
    }

    #[test]
    fn paths_are_read_as_exim_reads_them() {
        for (written, meant) in [
            ("<fo..o@bar>", "fo..o@bar"),
            ("<\"fo o\"@bar>", "\"fo o\"@bar"),
            ("<(c)foo@bar>", "foo@bar"),
            ("<foo@bar (c)>", "foo@bar"),
            ("<f\\\"oo@bar>", "f\\\"oo@bar"),
            ("<\"foo\\\"x\"@bar>", "\"foo\\\"x\"@bar"),
            ("<\"abc\".\"def\"@bar>", "\"abc\".\"def\"@bar"),
            ("<abc.\"def x\"@bar>", "abc.\"def x\"@bar"),
            ("<é@bar>", "é@bar"),
            ("< foo @ bar >  ", "foo@bar"),
            ("<foo\\@x@bar>", "foo\\@x@bar"),
            ("<foo@BAR.Example>", "foo@BAR.Example"),
            ("<@a,@b:foo@bar>", "foo@bar"),
            ("<foo.(c)bar@baz.(d)com>", "foo.bar@baz.com"),
            ("foo (c) @bar", "foo@bar"),
            ("<\"\" @bar>", "\"\"@bar"),
            ("a. b <foo@bar>", "foo@bar"),
            ("\"a\"b <foo@bar>", "foo@bar"),
            ("@foo:bar@x", "bar@x"),
            ("<foo@bar-->", "foo@bar--"),
            ("<\\@bar>", "\\@bar"),
            ("<.foo@bar>", ".foo@bar"),
        ] {
            assert_eq!(path(written).as_deref(), Ok(meant), "{written}");
        }
    }

    #[test]
    fn errors_are_in_exims_words() {
        let expected_word = "missing or malformed local part (expected word or \"<\")";
        for (written, words) in [
            ("<foo@>", "domain missing or malformed"),
            ("<@foo>", "no local part"),
            ("<>", "missing or malformed local part"),
            ("foo@bar baz", "malformed address: baz may not follow foo@bar "),
            ("<foo@b_ar>", "malformed address: _ar> may not follow <foo@b"),
            ("<foo@[1.2.3.4]>", "domain literals not allowed"),
            ("<fo o@bar>", "\"@\" or \".\" expected after \"fo\""),
            ("<\"fo@bar>", "unmatched doublequote in local part"),
            ("<foo@bar", "'>' missing at end of address"),
            ("<foo@bar (c>", "'>' missing at end of address"),
            ("<foo@bar>x", "malformed address: x may not follow <foo@bar>"),
            ("<foo@-bar>", "domain missing or malformed"),
            ("<foo@bar.>", "domain missing or malformed"),
            ("<foo@bar..com>", "domain missing or malformed"),
            ("<@a,foo@bar>", "colon expected after route list"),
            ("<@a:@b:foo@bar>", "missing or malformed local part"),
            ("<foo", "\"@\" or \".\" expected after \"foo\""),
            ("<@>", "domain missing or malformed"),
            ("foo bar", expected_word),
            ("a,b <foo@bar>", expected_word),
            ("foo>", expected_word),
            ("a \"b <foo@bar>", "unmatched doublequote in local part (expected word or \"<\")"),
            ("a@b <foo@bar>", "malformed address: <foo@bar> may not follow a@b "),
            ("(a)", "empty address"),
            ("<(c foo@bar>", "missing or malformed local part"),
            ("<foo\x7f@bar>", "\"@\" or \".\" expected after \"foo\""),
            ("<foo@bar@baz>", "malformed address: @baz> may not follow <foo@bar"),
            (
                "<r@t> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;q@w",
                "malformed address: NOTIFY=SUCCESS,DELAY ORCPT=rfc82 may not follow <r@t> ",
            ),
        ] {
            assert_eq!(path(written), Err(words.to_owned()), "{written}");
        }
    }

    #[test]
    fn an_address_of_more_than_256_bytes_is_ridiculous() {
        assert!(path(&format!("<{}@bar>", "l".repeat(252))).is_ok());
        let wrong = path(&format!("<{}@bar>", "l".repeat(253)));
        assert_eq!(wrong, Err(format!("address is ridiculously long: {}...", "l".repeat(64))));
    }

    #[test]
    fn a_header_list_gives_each_address_with_its_place() {
        let body = b" a (c) <b@c>, \"x, y\" <d@e>, group: f@g, h; , bad bad";
        let items = parse_list(body, Syntax::default());
        let texts: Vec<_> = items.iter().map(|item| body[item.span.clone()].as_bstr().to_string()).collect();
        assert_eq!(texts, ["a (c) <b@c>", "\"x, y\" <d@e>", "f@g", "h", "bad bad"]);
        let first = items[0].parsed.as_ref().unwrap();
        assert_eq!(&body[first.span.clone()], b"b@c");
        assert!(items[4].parsed.is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_fall_over(text in proptest::collection::vec(any::<u8>(), 0..80)) {
            let syntax = Syntax { domain_literals: true, utf8_domains: true, ..Syntax::default() };
            let _ = parse_address(&text, syntax);
            for item in parse_list(&text, syntax) {
                prop_assert!(item.span.end <= text.len());
            }
        }

        #[test]
        fn a_parsed_address_parses_to_itself(text in "[ -~]{0,40}") {
            if let Ok(parsed) = parse_address(text.as_bytes(), Syntax::default()) {
                let again = parse_address(&parsed.address.to_bytes(), Syntax::default());
                prop_assert_eq!(again.map(|parsed| parsed.address), Ok(parsed.address));
            }
        }
    }
}
