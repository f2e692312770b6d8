//! Conditions of `${if`.
//!
//! Specification: section "Expansion conditions". A condition ends before the strings of its item.

use super::SyntaxError;
use super::expansion::{Ends, Parser, is_name, variable};
use super::names;
use super::tree::{Condition, Relation, Tree};
use bstr::ByteSlice;

/// Bytes of the text that are shown where a condition was expected, as Exim does.
const SHOWN: usize = 16;

impl Parser<'_> {
    /// One condition, with its negation.
    pub(super) fn condition(&mut self) -> Result<Condition, SyntaxError> {
        self.depth += 1;
        if self.depth > super::expansion::MAX_NESTING {
            return self.error("expansion items are nested too deeply");
        }
        self.skip_space();
        let mut negated = false;
        while self.take(b'!') {
            negated = !negated;
            self.skip_space();
        }
        let condition = self.positive_condition()?;
        self.depth -= 1;
        Ok(if negated { Condition::Not(Box::new(condition)) } else { condition })
    }

    fn positive_condition(&mut self) -> Result<Condition, SyntaxError> {
        let start = self.at;
        let name = self.condition_name()?;
        self.not_yet(names::CONDITIONS_NOT_YET, name, start);
        if let Some(relation) = relation(name) {
            let sides = Box::new(self.two_sides(name)?);
            return Ok(match name.as_bytes()[0] {
                b'<' | b'=' | b'>' => Condition::Numbers { relation, sides },
                _ => Condition::Strings { relation, caseless: name.ends_with('i'), sides },
            });
        }
        match name {
            "def" => self.defined(),
            "and" => Ok(Condition::All(self.group(name)?)),
            "or" => Ok(Condition::Any(self.group(name)?)),
            "first_delivery" | "queue_running" => Ok(Condition::Test { name, arguments: Vec::new() }),
            "acl" | "saslauthd" => self.wrapped_arguments(name),
            "forall" | "forany" | "forall_json" | "forany_json" | "forall_jsons" | "forany_jsons" => {
                self.each(name)
            }
            "bool" | "bool_lax" | "exists" | "isip" | "isip4" | "isip6" | "ldapauth" | "pam" | "radius" => {
                self.require_brace(name)?;
                self.at += 1;
                Ok(Condition::Test { name, arguments: vec![self.tree(Ends::AtBrace)?] })
            }
            _ => {
                let (first, second) = self.two_sides(name)?;
                Ok(Condition::Test { name, arguments: vec![first, second] })
            }
        }
    }

    fn condition_name(&mut self) -> Result<&'static str, SyntaxError> {
        let name = match self.peek() {
            Some(b'<' | b'=' | b'>') => {
                let start = self.at;
                self.at += 1;
                self.take(b'=');
                &self.text[start..self.at]
            }
            _ => self.take_while(is_name),
        };
        if name.is_empty() {
            let rest = self.rest();
            let shown = rest[..rest.len().min(SHOWN)].as_bstr();
            return self.error(format!("condition name expected, but found \"{shown}\""));
        }
        match names::find(names::CONDITION_NAMES, name) {
            Some(name) => Ok(name),
            None => self.error(format!("unknown condition \"{}\"", name.as_bstr())),
        }
    }

    fn require_brace(&mut self, name: &str) -> Result<(), SyntaxError> {
        self.skip_space();
        if self.peek() == Some(b'{') {
            return Ok(());
        }
        self.error(format!("missing {{ after \"{name}\""))
    }

    fn two_sides(&mut self, name: &str) -> Result<(Tree, Tree), SyntaxError> {
        self.require_brace(name)?;
        self.at += 1;
        let first = self.tree(Ends::AtBrace)?;
        self.skip_space();
        if !self.take(b'{') {
            return self.error(format!("missing 2nd string in {{}} after \"{name}\""));
        }
        let second = match name {
            "match_address" | "match_domain" | "match_ip" | "match_local_part" => self.unexpanded()?,
            _ => self.tree(Ends::AtBrace)?,
        };
        Ok((first, second))
    }

    fn defined(&mut self) -> Result<Condition, SyntaxError> {
        if !self.take(b':') {
            return self.error("\":\" expected after \"def\"");
        }
        if let Some(header) = self.header() {
            if header.name.iter().any(|b| matches!(b, b'{' | b'}')) {
                return self
                    .error("missing or misplaced { or } - could be header name not terminated by colon");
            }
            return Ok(Condition::HeaderDefined(header));
        }
        let name = self.take_while(is_name);
        if name.is_empty() {
            return self.error("variable name omitted after \"def:\"");
        }
        self.not_yet(names::VARIABLES_NOT_YET, &name.to_str_lossy(), self.at);
        match variable(name) {
            Ok(variable) => Ok(Condition::Defined(variable)),
            Err(hint) => self.error(format!("unknown variable \"{}\" after \"def:\"{hint}", name.as_bstr())),
        }
    }

    /// The conditions of `and` and `or`, each in its braces.
    fn group(&mut self, name: &str) -> Result<Vec<Condition>, SyntaxError> {
        self.require_brace(name)?;
        self.at += 1;
        let mut conditions = Vec::new();
        loop {
            self.skip_space();
            if self.take(b'}') {
                return Ok(conditions);
            }
            if !self.take(b'{') {
                return self.error(format!(
                    "each subcondition inside an \"{name}{{...}}\" condition must be in its own {{}}"
                ));
            }
            let inside = |error: SyntaxError| error.inside(&format!("\"{name}{{...}}\" condition"));
            conditions.push(self.condition().map_err(inside)?);
            self.skip_space();
            if !self.take(b'}') {
                return self.error(format!("missing }} at end of condition inside \"{name}\" group"));
            }
        }
    }

    fn each(&mut self, name: &'static str) -> Result<Condition, SyntaxError> {
        self.require_brace(name)?;
        self.at += 1;
        let list = self.tree(Ends::AtBrace)?;
        self.require_brace(name)?;
        self.at += 1;
        let inside = |error: SyntaxError| error.inside(&format!("\"{name}\" condition"));
        let condition = Box::new(self.condition().map_err(inside)?);
        self.skip_space();
        if !self.take(b'}') {
            return self.error(format!("missing }} at end of condition inside \"{name}\""));
        }
        Ok(Condition::Each { name, list, condition })
    }

    /// `acl{{name}{argument}...}`.
    fn wrapped_arguments(&mut self, name: &'static str) -> Result<Condition, SyntaxError> {
        /// A name and nine arguments; saslauthd takes fewer.
        const MOST: usize = 10;
        self.require_brace(name)?;
        self.at += 1;
        let mut arguments = Vec::new();
        while let Some(tree) = self.argument()? {
            arguments.push(tree);
        }
        if arguments.is_empty() || arguments.len() > MOST || !self.take(b'}') {
            return self.error(format!("too few arguments or bracketing error for {name}"));
        }
        Ok(Condition::Test { name, arguments })
    }
}

/// The relation of a comparing condition.
pub fn relation(name: &str) -> Option<Relation> {
    Some(match name {
        "=" | "==" | "eq" | "eqi" => Relation::Equal,
        "<" | "lt" | "lti" => Relation::Less,
        "<=" | "le" | "lei" => Relation::LessOrEqual,
        ">" | "gt" | "gti" => Relation::Greater,
        ">=" | "ge" | "gei" => Relation::GreaterOrEqual,
        _ => return None,
    })
}
