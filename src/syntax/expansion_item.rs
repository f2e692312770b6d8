//! Expansion items: `${name ...}`.
//!
//! Specification: section "Expansion items". Each function starts after the name and ends after the
//! closing brace.

use super::SyntaxError;
use super::expansion::{Ends, Parser, is_name};
use super::lookup_type::LookupType;
use super::names::{CERTIFICATE_VARIABLES, VARIABLE_NAMES};
use super::tree::{Branches, ExtractForm, Item, Otherwise, Part, Tree, Variable};
use bstr::ByteSlice;

/// Fewest and most arguments of the items whose arguments are just expanded.
fn argument_counts(name: &str) -> (usize, usize) {
    match name {
        "acl" => (1, 10),
        "authresults" | "imapfolder" => (1, 1),
        "dlfunc" => (2, 10),
        "hash" | "nhash" | "prvs" | "prvscheck" | "substr" => (2, 3),
        "length" | "listquote" => (2, 2),
        "perl" => (1, 9),
        "readfile" => (1, 2),
        "readsocket" => (2, 5),
        "run" => (1, 3),
        _ => (3, 3),
    }
}

impl Parser<'_> {
    /// The item `name`, up to and with its closing brace.
    pub(super) fn item(&mut self, name: &'static str) -> Result<Item, SyntaxError> {
        match name {
            "if" => {
                let condition = self.condition()?;
                Ok(Item::If { condition, branches: self.branches(name)? })
            }
            "lookup" => self.lookup(),
            "extract" => self.extract(),
            "listextract" => {
                let number = self.numbered_argument(name, 1)?;
                let list = self.numbered_argument(name, 2)?;
                Ok(Item::ListExtract { number, list, branches: self.branches(name)? })
            }
            "env" => {
                let Some(key) = self.argument()? else { return self.error("missing '{' for arg 1 of env") };
                Ok(Item::Env { key, branches: self.branches(name)? })
            }
            "filter" | "map" | "reduce" => self.over_list(name),
            "sort" => self.sort(),
            "certextract" => self.certificate_field(),
            "run" => self.loose_call(name),
            _ => self.call(name),
        }
    }

    /// A string in braces, if one follows.
    pub(super) fn argument(&mut self) -> Result<Option<Tree>, SyntaxError> {
        self.skip_space();
        if !self.take(b'{') {
            return Ok(None);
        }
        self.tree(Ends::AtBrace).map(Some)
    }

    fn numbered_argument(&mut self, item: &str, number: u32) -> Result<Tree, SyntaxError> {
        match self.argument()? {
            Some(tree) => Ok(tree),
            None => self.error(format!("missing '{{' for arg {number} of {item}")),
        }
    }

    fn call(&mut self, name: &'static str) -> Result<Item, SyntaxError> {
        let (fewest, most) = argument_counts(name);
        let mut arguments = Vec::new();
        while arguments.len() < most {
            match self.argument()? {
                Some(tree) => arguments.push(tree),
                None if arguments.len() < fewest => {
                    return self.error(format!("Not enough arguments for '{name}' (min is {fewest})"));
                }
                None => break,
            }
        }
        self.skip_space();
        if self.peek() == Some(b'{') {
            return self.error(format!("Too many arguments for '{name}' (max is {most})"));
        }
        if !self.take(b'}') {
            return self.error(format!("missing '}}' after '{name}'"));
        }
        Ok(Item::Call { name, arguments })
    }

    /// Items that are not supported yet and have forms of their own: strings in braces and words, up to the end.
    fn loose_call(&mut self, name: &'static str) -> Result<Item, SyntaxError> {
        let mut arguments = Vec::new();
        loop {
            self.take_while(|b| is_name(b) || b == b',' || b.is_ascii_whitespace());
            match self.argument()? {
                Some(tree) => arguments.push(tree),
                None if self.take(b'}') => return Ok(Item::Call { name, arguments }),
                None => return self.error(format!("missing '}}' after '{name}'")),
            }
        }
    }

    /// The two strings of a conditional item and its closing brace.
    pub(super) fn branches(&mut self, item: &str) -> Result<Branches, SyntaxError> {
        self.skip_space();
        if self.take(b'}') {
            return Ok(Branches::default());
        }
        let Some(yes) = self.argument()? else {
            return self.branches_error("'yes' part did not start with '{'");
        };
        self.skip_space();
        let no = match self.peek() {
            Some(b'{') => self.argument()?.map_or(Otherwise::Nothing, Otherwise::Text),
            Some(b'}') => Otherwise::Nothing,
            _ => {
                self.fail_word(item)?;
                Otherwise::Fail
            }
        };
        self.skip_space();
        if !self.take(b'}') {
            return self.branches_error("did not close with '}'");
        }
        Ok(Branches { yes: Some(yes), no })
    }

    fn branches_error<T>(&self, what: &str) -> Result<T, SyntaxError> {
        let rest = self.rest().as_bstr();
        self.error(format!(
            "curly-bracket problem in conditional yes/no parsing: {what}\n remaining string is '{rest}'"
        ))
    }

    fn fail_word(&mut self, item: &str) -> Result<(), SyntaxError> {
        if self.take_while(is_name) == b"fail" {
            return Ok(());
        }
        self.error(format!("syntax error in \"{item}\" item - \"fail\" expected"))
    }

    fn lookup(&mut self) -> Result<Item, SyntaxError> {
        let start = self.at;
        let key = self.argument()?;
        self.skip_space();
        let written = self.take_while(|b| b != b'{' && !b.is_ascii_whitespace());
        if matches!(written.first(), None | Some(b'*')) {
            return self.error("missing lookup type");
        }
        let kind = match LookupType::parse(written) {
            Ok(kind) => kind,
            Err(message) => return self.error(message),
        };
        let name = kind.def.name;
        match (&key, kind.def.single_key) {
            (None, true) => {
                return self.error(format!("missing {{key}} for single-key \"{name}\" lookup"));
            }
            (Some(_), false) => {
                return self.error(format!(
                    "a single key was given for lookup type \"{name}\", which is not a single-key lookup type"
                ));
            }
            _ => {}
        }
        if !kind.def.supported {
            self.unsupported.push(super::expansion::Unsupported { name: name.into(), offset: start });
        }
        let Some(data) = self.argument()? else {
            return self.error("missing '{' for lookup file-or-query arg");
        };
        Ok(Item::Lookup { kind, key, data, branches: self.branches("lookup")? })
    }

    /// `${extract`: how many strings it has depends on its key, which may be known only when it is expanded.
    fn extract(&mut self) -> Result<Item, SyntaxError> {
        self.skip_space();
        let form = match self.rest() {
            rest if rest.starts_with(b"jsons") => ExtractForm::JsonString,
            rest if rest.starts_with(b"json") => ExtractForm::Json,
            _ => ExtractForm::Plain,
        };
        self.at += match form {
            ExtractForm::Plain => 0,
            ExtractForm::Json => 4,
            ExtractForm::JsonString => 5,
        };
        let key = self.numbered_argument("extract", 1)?;
        let fields = form == ExtractForm::Plain && key.literal().is_some_and(is_number);
        let mut arguments = vec![key, self.numbered_argument("extract", 2)?];
        if fields {
            arguments.push(self.numbered_argument("extract", 3)?);
        }
        while let Some(tree) = self.argument()? {
            if arguments.len() == 5 {
                return self.branches_error("did not close with '}'");
            }
            arguments.push(tree);
        }
        let fixed = if fields { 3 } else { 2 };
        let word = self.peek().is_some_and(|b| b != b'}');
        if word && arguments.len() == fixed {
            return self.branches_error("'yes' part did not start with '{'");
        }
        if word {
            self.fail_word("extract")?;
            self.skip_space();
        }
        if !self.take(b'}') {
            return self.branches_error("did not close with '}'");
        }
        Ok(Item::Extract { form, arguments, fail: word })
    }

    /// `${certextract`: its second string is nothing but the name of a variable with a certificate.
    fn certificate_field(&mut self) -> Result<Item, SyntaxError> {
        let Some(field) = self.argument()? else {
            return self.error("missing '{' for field arg of certextract");
        };
        let start = self.at;
        let Some(argument) = self.argument()? else {
            return self.error("missing '{' for cert variable arg of certextract");
        };
        let [Part::Variable(Variable::Named(index))] = argument.parts.as_slice() else {
            self.at = start;
            return self.error("second argument of \"certextract\" must be a certificate variable");
        };
        let name = VARIABLE_NAMES.get(*index).copied().unwrap_or_default();
        if !CERTIFICATE_VARIABLES.contains(&name) {
            self.at = start;
            return self.error(format!("\"{name}\" is not a certificate"));
        }
        Ok(Item::CertificateField { field, certificate: argument, branches: self.branches("certextract")? })
    }

    fn over_list(&mut self, name: &'static str) -> Result<Item, SyntaxError> {
        let Some(list) = self.argument()? else {
            return self.error(format!("missing '{{' for first arg of {name}"));
        };
        let start = match name {
            "reduce" => match self.argument()? {
                Some(tree) => tree,
                None => return self.error("missing '{' for second arg of reduce"),
            },
            _ => Tree::default(),
        };
        self.skip_space();
        if self.peek() != Some(b'{') {
            return self.error(format!("missing '{{' for last arg of {name}"));
        }
        let inside = |error: SyntaxError| error.inside(&format!("\"{name}\" item"));
        let item = if name == "filter" {
            self.at += 1;
            let condition = self.condition().map_err(inside)?;
            self.skip_space();
            if !self.take(b'}') {
                return self.error(
                    "missing } at end of condition or expression inside \"filter\"; could be an unquoted } in the content",
                );
            }
            Item::Filter { list, condition }
        } else {
            let text = self.argument().map_err(inside)?.unwrap_or_default();
            if name == "map" { Item::Map { list, text } } else { Item::Reduce { list, start, text } }
        };
        self.skip_space();
        if !self.take(b'}') {
            return self.error(format!("missing }} at end of \"{name}\""));
        }
        Ok(item)
    }

    fn sort(&mut self) -> Result<Item, SyntaxError> {
        let Some(list) = self.argument()? else { return self.error("missing '{' for list arg of sort") };
        let Some(comparator) = self.argument()? else {
            return self.error("missing '{' for comparator arg of sort");
        };
        let Some(extractor) = self.argument()? else {
            return self.error("missing '{' for extractor arg of sort");
        };
        self.skip_space();
        if !self.take(b'}') {
            return self.error("missing } at end of \"sort\"");
        }
        Ok(Item::Sort { list, comparator, extractor })
    }
}

/// Digits, with a sign and white space around: what makes `${extract` count fields.
pub fn is_number(text: &[u8]) -> bool {
    let text = text.trim();
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}
