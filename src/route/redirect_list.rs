//! The text of a redirection list to items: addresses, files, pipes, and the special items
//! (spec section "Items in a non-filter redirection list"). Pure, but for `:include:` files, which a
//! closure reads.

use crate::mail::Address;
use crate::mail::address_parse::{Syntax, parse_address};
use bstr::{BStr, BString, ByteSlice};

/// Deepest nesting of `:include:`: a file that includes itself must end.
const INCLUDE_DEPTH_MAX: u32 = 8;

/// Files that one list may include in all: eight levels of a file that includes itself twice are 256 already.
const MOST_INCLUDED: usize = 500;
/// Addresses, files and pipes of one list: each becomes a delivery, and whoever may write a .forward writes the list.
const MOST_ITEMS: usize = 50_000;

/// What may appear in a list.
#[derive(Clone, Debug, Default)]
pub struct Allowed {
    /// `:defer:`
    pub defer: bool,
    /// `:fail:`
    pub fail: bool,
    /// `:blackhole:`
    pub blackhole: bool,
    /// `:include:`
    pub include: bool,
    /// Domain for items that begin with a backslash.
    pub incoming_domain: BString,
    /// Domain for other unqualified items.
    pub qualify_domain: BString,
    /// Malformed items are skipped and told about.
    pub skip_syntax_errors: bool,
}

/// One item of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListItem {
    /// An address, qualified.
    Address(Address),
    /// A file or (with its last slash) a directory.
    File(BString),
    /// A command, without its bar.
    Pipe(BString),
}

/// A whole list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum List {
    /// The items; those that were skipped: the text and what is wrong with it. Not both are empty.
    Items(Vec<ListItem>, Vec<(BString, BString)>),
    /// Nothing of effect: the router declines (also `:unknown:`).
    Nothing,
    /// `:blackhole:`
    Blackhole,
    /// `:fail:` and its text, and the items before it: mail goes to them all the same, as with Exim.
    Fail(BString, Vec<ListItem>),
    /// `:defer:` and its text.
    Defer(BString),
    /// The list is wrong: what the log says after `error in redirect data: `.
    Wrong(BString),
}

/// Reads an included file.
pub type Include<'a> = &'a dyn Fn(&BStr) -> Result<BString, BString>;

/// Reads a list.
pub fn parse(text: &[u8], allowed: &Allowed, include: Include) -> List {
    let mut reader = Reader { allowed, include, items: Vec::new(), skipped: Vec::new(), included: 0 };
    match reader.read(text, 0) {
        Some(end) => end,
        None if reader.items.is_empty() && reader.skipped.is_empty() => List::Nothing,
        None => List::Items(reader.items, reader.skipped),
    }
}

struct Reader<'a> {
    allowed: &'a Allowed,
    include: Include<'a>,
    items: Vec<ListItem>,
    skipped: Vec<(BString, BString)>,
    included: usize,
}

impl Reader<'_> {
    /// Some: the list ends with this, whatever else is in it.
    fn read(&mut self, text: &[u8], depth: u32) -> Option<List> {
        let mut rest = text;
        loop {
            rest = skip_blank(rest);
            if rest.is_empty() {
                return None;
            }
            if let Some(end) = self.special_to_end(rest) {
                return Some(end);
            }
            if self.items.len() + self.skipped.len() >= MOST_ITEMS {
                return Some(List::Wrong(format!("more than {MOST_ITEMS} items").into()));
            }
            let (item, after) = next_item(rest);
            rest = after;
            if let Some(end) = self.item(item, depth) {
                return Some(end);
            }
        }
    }

    /// `:fail:` and `:defer:` take the rest of the line, commas and all.
    fn special_to_end(&mut self, rest: &[u8]) -> Option<List> {
        for (name, allowed) in [(&b":fail:"[..], self.allowed.fail), (b":defer:", self.allowed.defer)] {
            if !rest.starts_with(name) {
                continue; // the end of the line is looked for only where it counts: a list may be one long line
            }
            let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
            let message = &line[name.len()..];
            if !allowed {
                return Some(List::Wrong(format!("\"{}\" is not permitted", line.as_bstr()).into()));
            }
            let message = BString::from(message.trim());
            return Some(match name {
                b":fail:" => List::Fail(message, std::mem::take(&mut self.items)),
                _ => List::Defer(message),
            });
        }
        None
    }

    fn item(&mut self, item: &[u8], depth: u32) -> Option<List> {
        let inner = match item.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")) {
            Some(inner) if !item.is_empty() => unescape(inner),
            _ => BString::from(item),
        };
        let text = inner.trim();
        if text.is_empty() {
            return None;
        }
        // What follows the word is a comment.
        if text.starts_with(b":blackhole:") {
            return Some(if self.allowed.blackhole { List::Blackhole } else { not_permitted(text) });
        }
        if text.starts_with(b":unknown:") {
            self.items.clear();
            return Some(List::Nothing);
        }
        if let Some(path) = text.strip_prefix(b":include:") {
            return self.include_file(path.trim(), depth);
        }
        self.destination(text)
    }

    fn include_file(&mut self, path: &[u8], depth: u32) -> Option<List> {
        if !self.allowed.include {
            return Some(List::Wrong("included files not permitted".into()));
        }
        if depth >= INCLUDE_DEPTH_MAX {
            return Some(List::Wrong(
                format!("too many nested :include: files at {}", path.as_bstr()).into(),
            ));
        }
        if !path.starts_with(b"/") {
            return Some(List::Wrong(
                format!("included file \"{}\" is not an absolute path", path.as_bstr()).into(),
            ));
        }
        self.included += 1;
        if self.included > MOST_INCLUDED {
            return Some(List::Wrong(format!("more than {MOST_INCLUDED} files are included").into()));
        }
        match (self.include)(path.as_bstr()) {
            Ok(text) => self.read(&text, depth + 1),
            Err(message) => Some(List::Wrong(message)),
        }
    }

    fn destination(&mut self, text: &[u8]) -> Option<List> {
        let (bare, backslash) = match text.strip_prefix(b"\\") {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let parsed = parse_address(bare, Syntax::default());
        let is_full = parsed.as_ref().is_ok_and(|found| !found.address.domain().is_empty());
        if !is_full && (text.starts_with(b"|") || text.starts_with(b"/")) {
            self.items.push(match text.strip_prefix(b"|") {
                Some(command) => ListItem::Pipe(command.trim_start().into()),
                None => ListItem::File(text.into()),
            });
            return None;
        }
        match parsed {
            Ok(found) if found.address.domain().is_empty() => {
                let domain =
                    if backslash { &self.allowed.incoming_domain } else { &self.allowed.qualify_domain };
                let address = Address::new(found.address.local_part(), domain.clone());
                self.items.push(ListItem::Address(address));
                None
            }
            Ok(found) => {
                let address = found.address;
                let domain = address.domain().to_ascii_lowercase();
                self.items.push(ListItem::Address(Address::new(address.local_part(), domain)));
                None
            }
            Err(error) if self.allowed.skip_syntax_errors => {
                self.skipped.push((text.into(), error.message));
                None
            }
            Err(error) => Some(List::Wrong(format!("{} in \"{}\"", error.message, text.as_bstr()).into())),
        }
    }
}

fn not_permitted(text: &[u8]) -> List {
    List::Wrong(format!("\"{}\" is not permitted", text.as_bstr()).into())
}

/// White space, commas, and comments (`#` at the start of a line or after a comma).
fn skip_blank(mut text: &[u8]) -> &[u8] {
    loop {
        text = text.trim_start_with(|c| c == ',' || c.is_ascii_whitespace());
        match text.first() {
            Some(b'#') => text = text.find_byte(b'\n').map_or(&[][..], |end| &text[end..]),
            _ => return text,
        }
    }
}

/// The item at the start of `text`, and what follows its comma or line end. Quotes, comments and
/// angle brackets protect commas.
fn next_item(text: &[u8]) -> (&[u8], &[u8]) {
    let mut depth = 0_u32;
    let mut quoted = false;
    let mut escaped = false;
    // The commas of a source route (`@a,@b:x@c`) are between its hosts, not between items.
    let mut in_route = text.starts_with(b"@");
    for (at, &byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b':' => in_route = false,
            b',' if in_route && text[at + 1..].trim_start().starts_with(b"@") => {}
            b'"' => quoted = !quoted,
            b'(' | b'<' if !quoted => depth += 1,
            b')' | b'>' if !quoted => depth = depth.saturating_sub(1),
            b'\n' | b',' if !quoted && depth == 0 => return (text[..at].trim_end(), &text[at + 1..]),
            _ => {}
        }
    }
    (text.trim_end(), &[])
}

fn unescape(text: &[u8]) -> BString {
    let mut plain = BString::default();
    let mut escaped = false;
    for &byte in text {
        if byte == b'\\' && !escaped {
            escaped = true;
        } else {
            plain.push(byte);
            escaped = false;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed() -> Allowed {
        Allowed {
            defer: true,
            fail: true,
            blackhole: true,
            include: true,
            incoming_domain: "in.example".into(),
            qualify_domain: "q.example".into(),
            skip_syntax_errors: false,
        }
    }

    fn read(text: &str) -> List {
        parse(text.as_bytes(), &allowed(), &|path| Ok(format!("from-{path}").into()))
    }

    fn address(local: &str, domain: &str) -> ListItem {
        ListItem::Address(Address::new(local, domain))
    }

    #[test]
    fn a_list_holds_addresses_files_pipes_and_comments() {
        let text = "joe, \\ann,# note\nX@Y.Example\n/var/mail/x, \"|/bin/cat a,b\"";
        let items = vec![
            address("joe", "q.example"),
            address("ann", "in.example"),
            address("X", "y.example"),
            ListItem::File("/var/mail/x".into()),
            ListItem::Pipe("/bin/cat a,b".into()),
        ];
        assert_eq!(read(text), List::Items(items, vec![]));
    }

    #[test]
    fn fail_and_defer_take_the_rest_of_the_line() {
        assert_eq!(read(":fail: gone, really"), List::Fail("gone, really".into(), Vec::new()));
        let before = vec![address("a", "q.example"), ListItem::File("/f".into())];
        assert_eq!(read("a, /f, :fail: gone, b\nc"), List::Fail("gone, b".into(), before));
        assert_eq!(read("a, :defer: later\nb"), List::Defer("later".into()));
        assert_eq!(read("# nothing"), List::Nothing);
        assert_eq!(read(":blackhole:"), List::Blackhole);
    }

    #[test]
    fn a_special_item_that_is_not_allowed_is_an_error_in_exims_words() {
        let list = parse(b":fail: not allowed", &Allowed::default(), &|_| Err("no".into()));
        assert_eq!(list, List::Wrong("\":fail: not allowed\" is not permitted".into()));
    }

    #[test]
    fn a_list_that_never_ends_is_wrong_and_a_long_line_is_read_in_linear_time() {
        let started = std::time::Instant::now();
        let long = "a,".repeat(MOST_ITEMS);
        assert!(matches!(read(&long), List::Items(items, _) if items.len() == MOST_ITEMS));
        assert_eq!(read(&format!("{long}a")), List::Wrong("more than 50000 items".into()));
        let includes_itself = |_: &BStr| Ok(BString::from(":include:/x\n".repeat(20)));
        let list = parse(b":include:/x", &allowed(), &includes_itself);
        assert!(matches!(list, List::Wrong(_)), "{list:?}");
        assert!(started.elapsed() < std::time::Duration::from_secs(10));
    }

    #[test]
    fn a_bad_item_is_named_alone_and_skipped_alone() {
        let wrong = |text: &str| match read(text) {
            List::Wrong(text) => text.to_string(),
            other => panic!("{text}: {other:?}"),
        };
        const MALFORMED: &str = "domain missing or malformed in";
        for (text, shown) in [
            ("ann, bad@@x, bob", "bad@@x"),
            ("\"bad@@x\", bob", "bad@@x"),
            ("ann\nbad@@x # not a comment\nbob", "bad@@x # not a comment"),
        ] {
            assert_eq!(wrong(text), format!("{MALFORMED} \"{shown}\""), "{text}");
        }
        assert!(wrong("ann, <bad@x, bob").ends_with("in \"<bad@x, bob\""), "brackets protect commas");
        let lenient = Allowed { skip_syntax_errors: true, ..allowed() };
        let none = |_: &BStr| Err("no".into());
        let List::Items(items, skipped) = parse(b"bad@@x, bob", &lenient, &none) else { panic!() };
        assert_eq!((items, skipped.len()), (vec![address("bob", "q.example")], 1));
        assert!(matches!(parse(b"bad@@x", &lenient, &none), List::Items(items, _) if items.is_empty()));
    }

    #[test]
    fn an_included_file_is_a_list_of_its_own() {
        assert!(matches!(read(":include:/x"), List::Items(items, _) if items.len() == 1));
    }

    proptest::proptest! {
        #[test]
        fn no_list_breaks_its_reader(text in "([a-z@.]|[,;:|/\\\\\"<>()# \n]|:include:/x|:fail:|\\PC){0,40}", skip: bool) {
            let allowed = Allowed { skip_syntax_errors: skip, ..allowed() };
            let _ = parse(text.as_bytes(), &allowed, &|_| Ok("a, |b, /c".into()));
        }
    }
}
