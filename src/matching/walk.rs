//! The way through a list: negation, named lists, files, and the switches `+caseful`, `+include_unknown` and kin.

use super::{Match, MatchError, expand_list};
use crate::config::written::ListKind;
use crate::expand::Context;
use crate::text::{Value, list};
use bstr::{BString, ByteSlice};
use std::io::Read;

/// Deepest nesting of named lists in one another: more is a loop.
const MAX_NAMED: u32 = 20;
/// Longest file of a list, in bytes; larger lists belong in a lookup.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// What one item says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It matches, with this data.
    Yes(Option<Value>),
    /// It does not.
    No,
    /// It needs a name or address that does not exist.
    Unknown,
}

impl From<bool> for Answer {
    fn from(matches: bool) -> Self {
        if matches { Self::Yes(None) } else { Self::No }
    }
}

/// What items mean, for one kind of list and one subject.
pub trait Item {
    /// Does the item match? It is neither empty of meaning nor negated nor a named list nor a file.
    fn matches(&self, item: &Value, state: &State) -> Result<Answer, MatchError>;
}

/// What a switch in a list does with names that are not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unknown {
    /// The list does not match (or, for temporary errors, has no answer).
    #[default]
    Stops,
    /// The list matches.
    Included,
    /// The item counts as not matching.
    Ignored,
}

/// Switches that items of a list set.
#[derive(Clone, Copy, Debug, Default)]
pub struct State {
    /// Local parts are compared as written.
    pub caseful: bool,
    /// Names that do not exist.
    pub unknown: Unknown,
    /// Names that are not known now.
    pub deferred: Unknown,
    /// Nesting of named lists.
    pub depth: u32,
    /// The items come from a file: no further files.
    pub in_file: bool,
}

/// One subject on its way through lists of one kind.
pub struct Walk<'w, 'h> {
    /// Where lists are expanded.
    pub context: &'w Context<'h>,
    /// The kind of list.
    pub kind: ListKind,
    /// What items mean.
    pub item: &'w dyn Item,
    /// What the cache of answers calls the subject.
    pub subject: &'w Value,
}

impl Walk<'_, '_> {
    /// Walks an expanded list.
    pub fn list(&self, text: &Value, mut state: State) -> Result<Match, MatchError> {
        let mut ends_negated = false;
        for item in list::items(text.bytes()) {
            if self.switch(&item, text.is_tainted(), &mut state) {
                continue;
            }
            if let Some(decided) = self.signed(&text.derive(item), &state, &mut ends_negated)? {
                return Ok(decided);
            }
        }
        Ok(if ends_negated { Match::Yes(None) } else { Match::No })
    }

    /// Takes `+caseful` and kin; outside text has no power over them.
    fn switch(&self, item: &[u8], tainted: bool, state: &mut State) -> bool {
        let hosts = self.kind == ListKind::Host;
        let letters = matches!(self.kind, ListKind::Address | ListKind::LocalPart);
        match item {
            _ if tainted || state.in_file => return false,
            b"+caseful" if letters => state.caseful = true,
            b"+include_unknown" if hosts => state.unknown = Unknown::Included,
            b"+ignore_unknown" if hosts => state.unknown = Unknown::Ignored,
            b"+include_defer" if hosts => state.deferred = Unknown::Included,
            b"+ignore_defer" if hosts => state.deferred = Unknown::Ignored,
            _ => return false,
        }
        true
    }

    /// One item with its sign; none: the list goes on.
    fn signed(
        &self,
        item: &Value,
        state: &State,
        ends_negated: &mut bool,
    ) -> Result<Option<Match>, MatchError> {
        let text = item.bytes();
        let positive = text.strip_prefix(b"!").map(|rest| rest.trim_start());
        *ends_negated = positive.is_some();
        let bare = item.derive(positive.unwrap_or(text));
        let answer = match self.positive(&bare, state) {
            Err(error @ (MatchError::Defer(_) | MatchError::Unexpanded)) => match state.deferred {
                Unknown::Stops => return Err(error),
                Unknown::Included => Answer::Yes(None),
                Unknown::Ignored => Answer::No,
            },
            other => other?,
        };
        let answer = match (answer, state.unknown) {
            (Answer::Unknown, Unknown::Stops) => return Ok(Some(Match::No)),
            (Answer::Unknown, Unknown::Included) => return Ok(Some(Match::Yes(None))),
            (Answer::Unknown, Unknown::Ignored) => Answer::No,
            (known, _) => known,
        };
        log::debug!(target: "lists", "{text}: {}", if matches!(answer, Answer::Yes(_)) { "yes" } else { "no" });
        Ok(match answer {
            Answer::Yes(_) if *ends_negated => Some(Match::No),
            Answer::Yes(data) => Some(Match::Yes(data)),
            _ => None,
        })
    }

    fn positive(&self, item: &Value, state: &State) -> Result<Answer, MatchError> {
        let text = item.bytes();
        match text.first() {
            Some(b'+') if self.kind != ListKind::Address || !text.contains(&b'@') => self.named(item, state),
            Some(b'/') if !state.in_file => self.file(item, state),
            _ => self.item.matches(item, state),
        }
    }

    /// `+name`
    fn named(&self, item: &Value, state: &State) -> Result<Answer, MatchError> {
        let kind = match self.kind {
            ListKind::Domain => "domain",
            ListKind::Host => "host",
            ListKind::Address => "address",
            ListKind::LocalPart => "local part",
        };
        let text = item.to_clean("named list").map_err(|error| MatchError::Failed(error.to_string()))?;
        let name: BString = text[1..].into();
        let Some(named) = self.context.globals.lists.get(&(self.kind, name.clone())) else {
            return Err(MatchError::Defer(format!("unknown named {kind} list \"{text}\"")));
        };
        if state.depth >= MAX_NAMED {
            return Err(MatchError::Failed(format!("named {kind} list \"{text}\" names itself")));
        }
        let cached = named.cache || self.is_fixed(&name, 0);
        let key = (self.kind, name, self.subject.bytes().to_owned(), state.caseful);
        if cached && let Some(answer) = self.context.dynamic.borrow().cache.list(&key) {
            return Ok(answer.map_or(Answer::No, Answer::Yes));
        }
        let inner = State { depth: state.depth + 1, caseful: state.caseful, ..State::default() };
        let answer = match expand_list(self.context, &named.items)? {
            Some(text) => self.list(&text, inner)?,
            None => Match::No,
        };
        let answer = match answer {
            Match::Yes(data) => Some(data),
            Match::No => None,
        };
        if cached {
            self.context.dynamic.borrow_mut().cache.put_list(key, answer.clone());
        }
        Ok(answer.map_or(Answer::No, Answer::Yes))
    }

    /// Is the named list, with all that it names, always the same?
    fn is_fixed(&self, name: &[u8], depth: u32) -> bool {
        let Some(named) = self.context.globals.lists.get(&(self.kind, name.into())) else { return false };
        if depth > MAX_NAMED || !named.items.is_literal() {
            return false;
        }
        let inner = |item: BString| match item.trim_start_with(|c| c == '!' || c == ' ').strip_prefix(b"+") {
            Some(inner) => self.is_fixed(inner, depth + 1) || is_switch(inner),
            None => true,
        };
        named.items.as_literal().is_some_and(|text| list::items(text).all(inner))
    }

    /// A file of items, one a line.
    fn file(&self, item: &Value, state: &State) -> Result<Answer, MatchError> {
        let path = item.to_path("filename").map_err(|error| MatchError::Failed(error.to_string()))?;
        let unreadable = |error: std::io::Error| {
            let why = nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(0)).desc();
            let name = path.display();
            MatchError::Defer(format!("failed to open {name} when checking \"{name}\": {why}"))
        };
        let file = crate::sys::files::open_without_waiting(&path).map_err(unreadable)?;
        let mut text = Vec::new();
        file.take(MAX_FILE).read_to_end(&mut text).map_err(unreadable)?;
        let inner = State { in_file: true, ..*state };
        let mut ends_negated = false;
        for line in text.lines() {
            let line = self.without_comment(line).trim();
            if line.is_empty() {
                continue;
            }
            match self.signed(&Value::clean(line), &inner, &mut ends_negated)? {
                Some(Match::Yes(data)) => return Ok(Answer::Yes(data)),
                Some(Match::No) => return Ok(Answer::No),
                None => {}
            }
        }
        Ok(Answer::from(ends_negated))
    }

    /// Local parts may hold `#`: there, a comment starts only after white space.
    fn without_comment<'l>(&self, line: &'l [u8]) -> &'l [u8] {
        let loose = matches!(self.kind, ListKind::Domain | ListKind::Host);
        let start = line
            .iter()
            .enumerate()
            .position(|(at, b)| *b == b'#' && (loose || at == 0 || line[at - 1].is_ascii_whitespace()));
        &line[..start.unwrap_or(line.len())]
    }
}

fn is_switch(name: &[u8]) -> bool {
    matches!(name, b"caseful" | b"include_unknown" | b"ignore_unknown" | b"include_defer" | b"ignore_defer")
}
