//! Exim's lists: items between separators.
//!
//! A list may begin with `<x`, which makes `x` the separator; a separator written twice is a character of the
//! item (not for control characters); white space around items is ignored; an empty item at the end is none.
//! Specification: section "List construction".

use bstr::{BString, ByteSlice};

/// A list in its two parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct List<'t> {
    /// The separator.
    pub separator: u8,
    text: &'t [u8],
}

impl<'t> List<'t> {
    /// Reads the separator, if the list begins with one.
    pub fn new(text: &'t [u8]) -> Self {
        let text = text.trim_start();
        match text {
            [b'<', separator, rest @ ..] if separator.is_ascii_punctuation() || is_control(*separator) => {
                Self { separator: *separator, text: rest }
            }
            _ => Self { separator: b':', text },
        }
    }
    /// True if the list begins with its separator.
    pub fn names_separator(text: &[u8]) -> bool {
        matches!(text.trim_start(), [b'<', s, ..] if s.is_ascii_punctuation() || is_control(*s))
    }
    /// The items.
    pub fn items(self) -> Items<'t> {
        Items { separator: self.separator, rest: self.text }
    }
}

/// The items of a list.
pub fn items(text: &[u8]) -> Items<'_> {
    List::new(text).items()
}

fn is_control(byte: u8) -> bool {
    byte.is_ascii_control() && byte != 0
}

/// Items, one by one.
#[derive(Clone, Debug)]
pub struct Items<'t> {
    separator: u8,
    rest: &'t [u8],
}

impl Items<'_> {
    /// White space before an item; a separator is none, even if it is a tab or a newline.
    fn skip_space(&mut self) {
        let space = self.rest.iter().take_while(|b| b.is_ascii_whitespace() && **b != self.separator).count();
        self.rest = &self.rest[space..];
    }
}

impl Iterator for Items<'_> {
    type Item = BString;

    fn next(&mut self) -> Option<BString> {
        self.skip_space();
        if self.rest.is_empty() {
            return None;
        }
        let mut item = BString::default();
        loop {
            let end = self.rest.find_byte(self.separator).unwrap_or(self.rest.len());
            item.extend_from_slice(&self.rest[..end]);
            self.rest = self.rest.get(end + 1..).unwrap_or_default();
            let doubled = self.rest.first() == Some(&self.separator) && !is_control(self.separator);
            if !doubled {
                break;
            }
            item.push(self.separator);
            self.rest = &self.rest[1..];
        }
        let kept = item.trim_end().len();
        item.truncate(kept);
        Some(item)
    }
}

/// Builds a list.
#[derive(Clone, Debug)]
pub struct Builder {
    separator: u8,
    text: BString,
    any: bool,
}

impl Builder {
    /// An empty list with this separator.
    pub fn new(separator: u8) -> Self {
        Self { separator, text: BString::default(), any: false }
    }
    /// Appends an item; separators in it are doubled.
    pub fn push(&mut self, item: &[u8]) {
        if self.any {
            self.text.push(self.separator);
            if item.is_empty() || item[0] == self.separator {
                self.text.push(b' ');
            }
        }
        self.any = true;
        quote_into(&mut self.text, item, self.separator);
    }
    /// The list.
    pub fn finish(self) -> BString {
        self.text
    }
}

/// Doubles the separators in an item.
pub fn quote_into(out: &mut BString, item: &[u8], separator: u8) {
    for byte in item {
        out.push(*byte);
        if *byte == separator {
            out.push(separator);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(text: &str) -> Vec<String> {
        items(text.as_bytes()).map(|item| item.to_string()).collect()
    }

    #[test]
    fn items_are_trimmed_and_doubled_separators_are_characters() {
        assert_eq!(split("a b : c\n:d"), ["a b", "c", "d"]);
        assert_eq!(split("127.0.0.1 : ::::1"), ["127.0.0.1", "::1"]);
        assert_eq!(split("a:::b"), ["a:", "b"]);
        assert_eq!(split("<; a;;b; c ;"), ["a;b", "c"]);
        assert_eq!(split("<\n a\nb\n c\n"), ["a", "b", "c"]);
        assert_eq!(split("<\n a\n\nb"), ["a", "", "b"]);
    }

    #[test]
    fn empty_items_count_but_not_at_the_end() {
        assert_eq!(split(""), [""; 0]);
        assert_eq!(split("  "), [""; 0]);
        assert_eq!(split(":"), [""]);
        assert_eq!(split(": :a"), ["", "", "a"]);
        assert_eq!(split("a: :"), ["a", ""]);
        assert_eq!(split(" : : "), ["", ""]);
    }

    #[test]
    fn only_punctuation_and_control_characters_separate() {
        assert_eq!(split("<a bac"), ["<a bac"]);
        assert_eq!(split("<1 b1c"), ["<1 b1c"]);
    }

    proptest! {
        #[test]
        fn a_built_list_is_read_back(
            words in prop::collection::vec("[a-z:;,]([a-z:;, ]*[a-z:;,])?", 1..6),
            separator in prop::sample::select(b":;,".to_vec()),
        ) {
            let mut builder = Builder::new(separator);
            words.iter().for_each(|word| builder.push(word.as_bytes()));
            let built = builder.finish();
            let list = [&[b'<', separator, b' '][..], &built].concat();
            let back: Vec<String> = items(&list).map(|item| item.to_string()).collect();
            prop_assert_eq!(back, words);
        }
    }
}
