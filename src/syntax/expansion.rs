//! Expansion text to a tree: strings, variables, headers, operators.
//!
//! Specification: chapter "String expansions". Pure; the words of the errors are Exim's. Items are in
//! `expansion_item`, conditions in `expansion_condition`.

use super::SyntaxError;
use super::names::{self, VARIABLE_NAMES};
use super::tree::{HeaderForm, HeaderName, Operator, Part, Tree, Variable};
use bstr::{BString, ByteSlice};

/// How deep items may stand in one another: the parser and the evaluation recurse, and a thread's stack is
/// finite. Exim's own configurations stay below 20.
pub const MAX_NESTING: u32 = 100;

/// Something that is known but not supported yet, met in a string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// Its name.
    pub name: String,
    /// Byte offset in the text.
    pub offset: usize,
}

/// Parses a whole string.
pub fn parse(text: &[u8]) -> Result<(Tree, Vec<Unsupported>), SyntaxError> {
    let mut parser = Parser { text, at: 0, depth: 0, unsupported: Vec::new() };
    let tree = parser.tree(Ends::WithText)?;
    Ok((tree, parser.unsupported))
}

/// Parses a condition that stands alone: the text after `${if`, as in a filter's or a test's use.
pub fn parse_condition(text: &[u8]) -> Result<super::tree::Condition, SyntaxError> {
    let mut parser = Parser { text, at: 0, depth: 0, unsupported: Vec::new() };
    parser.condition()
}

/// Where a string ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ends {
    /// With the text; a closing brace is text.
    WithText,
    /// At the closing brace, which is taken too.
    AtBrace,
}

pub(super) struct Parser<'t> {
    pub(super) text: &'t [u8],
    pub(super) at: usize,
    pub(super) depth: u32,
    pub(super) unsupported: Vec<Unsupported>,
}

impl<'t> Parser<'t> {
    pub(super) fn error<T>(&self, message: impl Into<String>) -> Result<T, SyntaxError> {
        Err(SyntaxError { message: message.into(), offset: self.at.min(self.text.len()) })
    }
    pub(super) fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }
    pub(super) fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }
    pub(super) fn skip_space(&mut self) {
        while self.peek().is_some_and(|b| b.is_ascii_whitespace()) {
            self.at += 1;
        }
    }
    pub(super) fn rest(&self) -> &'t [u8] {
        &self.text[self.at.min(self.text.len())..]
    }
    /// Bytes as long as they fit.
    pub(super) fn take_while(&mut self, fits: impl Fn(u8) -> bool) -> &'t [u8] {
        let rest = self.rest();
        let end = rest.iter().position(|b| !fits(*b)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }
    pub(super) fn not_yet(&mut self, table: &[&str], name: &str, offset: usize) {
        if table.contains(&name) {
            self.unsupported.push(Unsupported { name: name.into(), offset });
        }
    }

    /// A string up to its end.
    pub(super) fn tree(&mut self, ends: Ends) -> Result<Tree, SyntaxError> {
        self.depth += 1;
        if self.depth > MAX_NESTING {
            return self.error("expansion items are nested too deeply");
        }
        let mut tree = Tree::default();
        let mut literal = BString::default();
        loop {
            literal.extend_from_slice(self.take_while(|b| !matches!(b, b'\\' | b'$' | b'}')));
            match self.peek() {
                Some(b'\\') => self.escape(&mut literal)?,
                Some(b'$') => {
                    if !literal.is_empty() {
                        tree.parts.push(Part::Literal(std::mem::take(&mut literal)));
                    }
                    let part = self.dollar()?;
                    tree.parts.push(part);
                }
                Some(_) if ends == Ends::AtBrace => {
                    self.at += 1;
                    break;
                }
                Some(brace) => {
                    self.at += 1;
                    literal.push(brace);
                }
                None if ends == Ends::AtBrace => return self.unclosed(&tree),
                None => break,
            }
        }
        if !literal.is_empty() {
            tree.parts.push(Part::Literal(literal));
        }
        self.depth -= 1;
        Ok(tree)
    }

    /// A header's name runs to white space or a colon: it easily takes the closing brace with it.
    fn unclosed<T>(&self, tree: &Tree) -> Result<T, SyntaxError> {
        let header = matches!(tree.parts.last(), Some(Part::Header(header)) if header.name.contains(&b'}'));
        let hint = if header { " - could be header name not terminated by colon" } else { "" };
        self.error(format!("missing }} at end of string{hint}"))
    }

    /// A string in which only backslashes count: the list of `match_domain`.
    pub(super) fn unexpanded(&mut self) -> Result<Tree, SyntaxError> {
        let mut literal = BString::default();
        loop {
            literal.extend_from_slice(self.take_while(|b| !matches!(b, b'\\' | b'}')));
            match self.peek() {
                Some(b'\\') => self.escape(&mut literal)?,
                Some(_) => break,
                None => return self.error("missing } at end of string"),
            }
        }
        self.at += 1;
        Ok(Tree { parts: vec![Part::Literal(literal)] })
    }

    /// A backslash and what it stands for.
    fn escape(&mut self, out: &mut BString) -> Result<(), SyntaxError> {
        self.at += 1;
        let Some(byte) = self.peek() else { return self.error("\\ at end of string") };
        self.at += 1;
        match byte {
            b'N' => {
                let rest = self.rest();
                let end = rest.find(b"\\N").unwrap_or(rest.len());
                out.extend_from_slice(&rest[..end]);
                self.at = (self.at + end + 2).min(self.text.len());
            }
            b'b' => out.push(0x08),
            b'f' => out.push(0x0c),
            b'v' => out.push(0x0b),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'x' => out.push(self.digits(16, 2, 0)),
            b'0'..=b'7' => {
                let octal = self.digits(8, 2, u32::from(byte - b'0'));
                out.push(octal);
            }
            other => out.push(other),
        }
        Ok(())
    }

    /// Up to `most` digits, after those already in `value`; too large values keep their low byte.
    fn digits(&mut self, radix: u32, most: usize, mut value: u32) -> u8 {
        for _ in 0..most {
            let Some(digit) = self.peek().and_then(|b| char::from(b).to_digit(radix)) else { break };
            value = value * radix + digit;
            self.at += 1;
        }
        (value & 0xff) as u8
    }

    /// What a dollar starts.
    fn dollar(&mut self) -> Result<Part, SyntaxError> {
        let start = self.at;
        self.at += 1;
        match self.peek() {
            Some(b) if b.is_ascii_digit() => Ok(Part::Capture(self.capture_number())),
            Some(b) if b.is_ascii_alphabetic() => self.plain_name(),
            Some(b'{') => {
                self.at += 1;
                self.braced(start)
            }
            _ => self.error("$ not followed by letter, digit, or {"),
        }
    }

    fn capture_number(&mut self) -> u32 {
        let digits = self.take_while(|b| b.is_ascii_digit());
        digits.to_str().ok().and_then(|text| text.parse().ok()).unwrap_or(u32::MAX)
    }

    /// `$name` or `$h_name:`.
    fn plain_name(&mut self) -> Result<Part, SyntaxError> {
        if let Some(header) = self.header() {
            return Ok(Part::Header(header));
        }
        let name = self.take_while(is_name);
        match variable(name) {
            Ok(variable) => {
                self.not_yet(names::VARIABLES_NOT_YET, &name.to_str_lossy(), self.at);
                Ok(Part::Variable(variable))
            }
            Err(hint) => self.error(format!("unknown variable name \"{}\"{hint}", name.as_bstr())),
        }
    }

    /// A reference to headers, if the name begins like one.
    pub(super) fn header(&mut self) -> Option<HeaderName> {
        const FORMS: [(&str, HeaderForm); 8] = [
            ("h_", HeaderForm::Decoded),
            ("header_", HeaderForm::Decoded),
            ("bh_", HeaderForm::Bare),
            ("bheader_", HeaderForm::Bare),
            ("rh_", HeaderForm::Raw),
            ("rheader_", HeaderForm::Raw),
            ("lh_", HeaderForm::List),
            ("lheader_", HeaderForm::List),
        ];
        let rest = self.rest();
        let (prefix, form) = FORMS.iter().find(|(prefix, _)| rest.starts_with(prefix.as_bytes()))?;
        self.at += prefix.len();
        let name = self.take_while(|b| b.is_ascii_graphic() && b != b':');
        self.take(b':');
        Some(HeaderName { form: *form, name: name.to_ascii_lowercase().into() })
    }

    /// What stands in `${...}`; `start` is the place of the dollar.
    fn braced(&mut self, start: usize) -> Result<Part, SyntaxError> {
        match self.peek() {
            Some(b) if b.is_ascii_digit() => {
                let number = self.capture_number();
                if !self.take(b'}') {
                    return self.error("} expected after number");
                }
                return Ok(Part::Capture(number));
            }
            Some(b) if b.is_ascii_alphabetic() => {}
            _ => return self.error("letter or digit expected after ${"),
        }
        let name_start = self.at;
        let name = self.take_while(|b| is_name(b) || b == b'-');
        if let Some(item) = names::find(names::ITEM_NAMES, name) {
            self.not_yet(names::ITEMS_NOT_YET, item, start);
            return Ok(Part::Item(Box::new(self.item(item)?)));
        }
        match self.peek() {
            Some(b'}') => {
                self.at += 1;
                self.not_yet(names::VARIABLES_NOT_YET, &name.to_str_lossy(), start);
                variable(name).map(Part::Variable).or_else(|hint| {
                    self.error(format!("unknown variable in \"${{{}}}\"{hint}", name.as_bstr()))
                })
            }
            Some(b':') => {
                self.at += 1;
                self.operator(name, start).map(|operator| Part::Operator(Box::new(operator)))
            }
            _ => {
                let name = self.text[name_start..self.at].as_bstr();
                self.error(format!(
                    "\"${{{name}\" is not a known operator (or a }} is missing in a variable reference)"
                ))
            }
        }
    }

    /// `name_1_2:text}`, after the colon.
    fn operator(&mut self, written: &[u8], start: usize) -> Result<Operator, SyntaxError> {
        let Some((name, suffix)) = names::find_operator(written) else {
            return self.error(format!("unknown expansion operator \"{}\"", written.as_bstr()));
        };
        self.not_yet(names::OPERATORS_NOT_YET, name, start);
        if suffix.is_empty() && matches!(name, "h" | "l" | "nh" | "s") {
            return self.error(format!("missing values after {name}"));
        }
        let name = match name {
            "h" => "hash",
            "l" => "length",
            "nh" => "nhash",
            "s" => "substr",
            "str2b64" => "base64",
            name => name,
        };
        let numbers = match name {
            "hash" | "length" | "nhash" | "substr" => self.operator_numbers(name, suffix, written)?,
            _ => Vec::new(),
        };
        let text = self.tree(Ends::AtBrace)?;
        Ok(Operator { name, suffix: suffix.get(1..).map(BString::from), numbers, text })
    }

    /// The numbers of `substr_-1_2`; only the first of `substr` may be negative.
    fn operator_numbers(&self, name: &str, suffix: &[u8], written: &[u8]) -> Result<Vec<i64>, SyntaxError> {
        let wrong = || SyntaxError {
            message: format!("non-digit after underscore in \"{}\"", written.as_bstr()),
            offset: self.at,
        };
        if suffix.is_empty() {
            return Ok(Vec::new());
        }
        let most = if name == "length" { 1 } else { 2 };
        let mut numbers = Vec::new();
        for (index, word) in suffix[1..].split(|b| *b == b'_').enumerate() {
            let signed = index == 0 && name == "substr";
            let digits = if signed { word.strip_prefix(b"-").unwrap_or(word) } else { word };
            let empty = index > 0 || suffix.len() > 1;
            if (digits.is_empty() && empty) || !digits.iter().all(u8::is_ascii_digit) || index >= most {
                return Err(wrong());
            }
            let number: i64 = digits.to_str_lossy().parse().unwrap_or(0);
            numbers.push(if digits.len() == word.len() { number } else { -number });
        }
        Ok(numbers)
    }
}

pub(super) fn is_name(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}

/// The variable of this name; the error is Exim's hint, often empty.
pub(super) fn variable(name: &[u8]) -> Result<Variable, &'static str> {
    if let Some(index) = names::index_of(VARIABLE_NAMES, name) {
        return Ok(Variable::Named(index));
    }
    if name.starts_with(b"r_") {
        return Ok(Variable::Router(name.into()));
    }
    let Some(acl) = name.strip_prefix(b"acl_") else { return Err("") };
    if !matches!(acl.first(), Some(b'c' | b'm')) {
        return Err(" (user-defined ACL variables must start acl_c or acl_m)");
    }
    match acl.get(1) {
        None => Ok(Variable::Acl(acl.into())),
        Some(b) if b.is_ascii_digit() || *b == b'_' => Ok(Variable::Acl(acl.into())),
        Some(_) => Err(" (6th character of a user-defined ACL variable must be a digit or underscore)"),
    }
}
