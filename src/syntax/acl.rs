//! ACL text to statements: pure, with positions.
//!
//! Specification: chapter "Access control lists", sections "Format of an ACL" to "ACL conditions". A
//! statement is a verb and its conditions and modifiers in order; names are case-sensitive. Whether a
//! word may stand in the place where the ACL runs is asked when it runs (`acl::place`), as in Exim,
//! since one ACL may serve several places.

use super::acl_words::{Verb, Word};
use super::{Located, Position, Template};
use bstr::{BStr, BString, ByteSlice};

/// One verb with what is written for it.
#[derive(Clone, Debug)]
pub struct Statement {
    /// What happens if all conditions are met.
    pub verb: Verb,
    /// Conditions and modifiers in order.
    pub items: Vec<Item>,
    /// Where the verb stands.
    pub at: Position,
}

/// One condition or modifier.
#[derive(Clone, Debug)]
pub struct Item {
    /// Which one.
    pub word: Word,
    /// `!` before a condition.
    pub negated: bool,
    /// For `set`: the variable, without `acl_` (`c0`, `m_x`).
    pub variable: BString,
    /// What follows `=`; empty for `endpass`.
    pub argument: Template,
}

/// A line that is no part of an ACL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct AclSyntaxError {
    /// Exim's words.
    pub message: String,
    /// Where.
    pub at: Position,
}

/// Parses the logical lines of one ACL; every line at fault is told.
pub fn parse(lines: &[Located<BString>]) -> Result<Vec<Statement>, Vec<AclSyntaxError>> {
    let mut statements: Vec<Statement> = Vec::new();
    let mut errors = Vec::new();
    for line in lines {
        if let Err(message) = parse_line(line, &mut statements) {
            errors.push(AclSyntaxError { message, at: line.at.clone() });
        }
    }
    if errors.is_empty() { Ok(statements) } else { Err(errors) }
}

/// Parses an ACL that is written in place of a name (`acl_smtp_vrfy = accept`), with `\n` between lines.
/// `what` names the source in messages.
pub fn parse_inline(text: &BStr, at: &Position) -> Result<Vec<Statement>, Vec<AclSyntaxError>> {
    let lines: Vec<Located<BString>> = text
        .lines()
        .map(|line| line.trim())
        .filter(|line| !line.is_empty() && !line.starts_with(b"#"))
        .map(|line| Located { value: line.into(), at: at.clone() })
        .collect();
    parse(&lines)
}

fn parse_line(line: &Located<BString>, statements: &mut Vec<Statement>) -> Result<(), String> {
    let text = line.value.trim().as_bstr();
    let mut rest = text;
    let mut negated = take_negation(&mut rest);
    let mut name = take_name(&mut rest);
    if let Some(verb) = Verb::of(name) {
        if negated {
            return Err(format!("malformed ACL line \"{text}\""));
        }
        statements.push(Statement { verb, items: Vec::new(), at: line.at.clone() });
        if rest.is_empty() {
            return Ok(());
        }
        negated = take_negation(&mut rest);
        name = take_name(&mut rest);
    }
    let Some(statement) = statements.last_mut() else {
        return Err(format!("unknown ACL verb \"{name}\" in \"{text}\""));
    };
    let Some(word) = Word::of(name) else {
        return Err(format!("unknown ACL condition/modifier in \"{text}\""));
    };
    let item = parse_item(word, negated, rest, statement.verb, &line.at)?;
    statement.items.push(item);
    Ok(())
}

fn parse_item(word: Word, negated: bool, mut rest: &BStr, verb: Verb, at: &Position) -> Result<Item, String> {
    let name = word.name();
    if negated && word.is_modifier() {
        return Err(format!("ACL error: negation is not allowed with \"{name}\""));
    }
    if word == Word::Endpass {
        if !matches!(verb, Verb::Accept | Verb::Discard) {
            return Err(format!("ACL error: \"endpass\" is not allowed with \"{}\"", verb.name()));
        }
        rest = b"".as_bstr();
    }
    let mut variable = BString::default();
    if word == Word::Set {
        variable = take_variable(&mut rest)?;
    }
    if word != Word::Endpass {
        let kind = if word.is_modifier() { "modifier" } else { "condition" };
        rest = rest
            .strip_prefix(b"=")
            .map(|value| value.trim_start().as_bstr())
            .ok_or_else(|| format!("\"=\" missing after ACL \"{name}\" {kind}"))?;
    }
    let argument = Template::parse(rest, at)
        .map_err(|error| format!("{error} in ACL \"{name}\" argument \"{rest}\""))?;
    Ok(Item { word, negated, variable, argument })
}

fn take_negation(rest: &mut &BStr) -> bool {
    match rest.strip_prefix(b"!") {
        Some(after) => {
            *rest = after.trim_start().as_bstr();
            true
        }
        None => false,
    }
}

/// Takes letters, digits and underscores, and the white space after them.
fn take_name<'a>(rest: &mut &'a BStr) -> &'a BStr {
    let end = rest.iter().position(|b| !b.is_ascii_alphanumeric() && *b != b'_').unwrap_or(rest.len());
    let (name, after) = rest.split_at(end);
    *rest = after.trim_start().as_bstr();
    name.as_bstr()
}

fn take_variable(rest: &mut &BStr) -> Result<BString, String> {
    let fault =
        |why: &str| format!("invalid variable name after \"set\" in ACL modifier \"set {rest}\" ({why})");
    let Some(after) = rest.strip_prefix(b"acl_c").or_else(|| rest.strip_prefix(b"acl_m")) else {
        return Err(fault("must start \"acl_c\" or \"acl_m\""));
    };
    if !after.first().is_some_and(|b| b.is_ascii_digit() || *b == b'_') {
        return Err(fault("digit or underscore must follow acl_c or acl_m"));
    }
    let end = rest.iter().position(|b| !b.is_ascii_alphanumeric() && *b != b'_').unwrap_or(rest.len());
    let name = rest[4..end].into();
    *rest = rest[end..].trim_start().as_bstr();
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_text(text: &str) -> Result<Vec<Statement>, String> {
        parse_inline(text.into(), &Position::nowhere("test")).map_err(|errors| errors[0].message.clone())
    }

    #[test]
    fn a_statement_has_its_conditions_in_order_with_their_negation() {
        let acl = parse_text("deny !hosts = a : b\n  message = no\n! verify= recipient\naccept").unwrap();
        assert_eq!(acl.len(), 2);
        assert_eq!(acl[0].verb, Verb::Deny);
        let words: Vec<_> = acl[0].items.iter().map(|item| (item.word, item.negated)).collect();
        assert_eq!(words, [(Word::Hosts, true), (Word::Message, false), (Word::Verify, true)]);
        assert_eq!(acl[0].items[0].argument.text(), "a : b");
        assert!(acl[1].items.is_empty());
    }

    #[test]
    fn faults_are_told_in_exims_words() {
        let cases = [
            ("acept hosts = *", "unknown ACL verb \"acept\" in \"acept hosts = *\""),
            ("accept foo = bar", "unknown ACL condition/modifier in \"accept foo = bar\""),
            ("accept , hosts = a", "unknown ACL condition/modifier in \"accept , hosts = a\""),
            ("accept hosts", "\"=\" missing after ACL \"hosts\" condition"),
            ("accept message", "\"=\" missing after ACL \"message\" modifier"),
            ("accept !message = x", "ACL error: negation is not allowed with \"message\""),
            ("deny endpass", "ACL error: \"endpass\" is not allowed with \"deny\""),
            ("!accept hosts = a", "malformed ACL line \"!accept hosts = a\""),
            (
                "accept set foo = 1",
                "invalid variable name after \"set\" in ACL modifier \"set foo = 1\" (must start \"acl_c\" or \"acl_m\")",
            ),
            (
                "accept set acl_c-1 = 1",
                "invalid variable name after \"set\" in ACL modifier \"set acl_c-1 = 1\" (digit or underscore must follow acl_c or acl_m)",
            ),
            ("accept set acl_m0 1", "\"=\" missing after ACL \"set\" modifier"),
        ];
        for (text, message) in cases {
            assert_eq!(parse_text(text).unwrap_err(), message, "{text}");
        }
    }

    #[test]
    fn set_keeps_the_name_of_its_variable() {
        let acl = parse_text("warn set acl_c_auth = yes").unwrap();
        assert_eq!(acl[0].items[0].variable, "c_auth");
        assert_eq!(acl[0].items[0].argument.text(), "yes");
    }
}
