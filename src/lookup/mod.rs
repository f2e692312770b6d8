//! Lookups, one file for each type.
//!
//! Specification: chapter "File and database lookups". This file has what all single-key types share: partial
//! matching, defaults, `ret=key`, and the cache.
mod cdb;
mod dnsdb;
mod dsearch;
mod iplsearch;
mod line_file;
mod lsearch;
mod passwd;
mod sqlite;
mod wildlsearch;

use crate::config::written::ListKind;
use crate::expand::Context;
use crate::syntax::LookupType;
use crate::syntax::lookup_type::{KeyDefault, Partial};
use crate::text::Value;
use bstr::{BString, ByteSlice};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Answers that one context keeps: more than a message needs, less than a peer could fill memory with.
const MAX_KEPT: usize = 1000;

/// What a cached answer of a named list is kept under: kind, name, subject, and whether case counts.
pub type ListKey = (ListKind, BString, BString, bool);

/// Answers kept for the life of a context: by type, file and key; and of named lists.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    /// The answers; none: not there.
    pub answers: HashMap<(BString, BString, BString), Option<Value>>,
    lists: HashMap<ListKey, Option<Option<Value>>>,
}

impl Cache {
    /// A named list's answer, if it is known: none inside: no match; else the data.
    pub fn list(&self, key: &ListKey) -> Option<Option<Option<Value>>> {
        self.lists.get(key).cloned()
    }
    /// Keeps a named list's answer.
    pub fn put_list(&mut self, key: ListKey, answer: Option<Option<Value>>) {
        if self.lists.len() >= MAX_KEPT {
            self.lists.clear();
        }
        self.lists.insert(key, answer);
    }
    fn put(&mut self, key: (BString, BString, BString), answer: Option<Value>) {
        if self.answers.len() >= MAX_KEPT {
            self.answers.clear();
        }
        self.answers.insert(key, answer);
    }
}

/// Why a lookup gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// Try later.
    #[error("{0}")]
    Defer(String),
    /// It cannot work as written.
    #[error("{0}")]
    Failed(String),
}

impl From<std::io::Error> for LookupError {
    fn from(error: std::io::Error) -> Self {
        Self::Defer(crate::sys::system_words(&error))
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The data.
    pub value: Value,
    /// After a partial match: the wild and the fixed part of the key.
    pub partial: Option<(BString, BString)>,
}

/// Looks `key` up in `file`, with all that the type's decorations ask for; none: it is not there.
pub fn single_key(
    context: &Context,
    kind: &LookupType,
    file: &Value,
    key: &Value,
) -> Result<Option<Found>, LookupError> {
    let path =
        file.to_path("filename for search:").map_err(|error| LookupError::Failed(error.to_string()))?;
    if key.is_empty() {
        return Ok(None);
    }
    let search = Search { context, kind, file: &path };
    let text = key.bytes();
    let whole = || kind.partial.is_some().then(|| (BString::default(), text.into()));
    let mut found = search.key(text)?.map(|value| Found { value, partial: whole() });
    if found.is_none()
        && let Some(partial) = &kind.partial
    {
        found = search.partial(text, partial)?;
    }
    if found.is_none() {
        found = search.defaults(text)?;
    }
    let what = if found.is_some() { "found" } else { "not found" };
    log::debug!(target: "lookup", "{} in {}: {what}", text.as_bstr(), path.display());
    let by_key = kind.option("ret") == Some(b"key");
    Ok(found.map(|found| match by_key {
        true => Found { value: Value::clean(text), ..found },
        false => found,
    }))
}

struct Search<'s, 'h> {
    context: &'s Context<'h>,
    kind: &'s LookupType,
    file: &'s Path,
}

impl Search<'_, '_> {
    /// One key as it is, through the cache.
    fn key(&self, key: &[u8]) -> Result<Option<Value>, LookupError> {
        use std::os::unix::ffi::OsStrExt;
        let name = self.kind.def.name;
        let ret = self.kind.option("ret").unwrap_or_default();
        let filter = self.kind.option("filter").unwrap_or_default();
        let decorated = bstr::concat([name.as_bytes(), b",", ret, b",", filter]);
        let place = (decorated.into(), self.file.as_os_str().as_bytes().into(), key.into());
        let cache = self.kind.option("cache").unwrap_or_default();
        let (read, write) = (!matches!(cache, b"no" | b"no_rd"), !matches!(cache, b"no" | b"no_wr"));
        if read && let Some(answer) = self.context.dynamic.borrow().cache.answers.get(&place) {
            return Ok(answer.clone());
        }
        let answer = self.read(key)?;
        if write {
            self.context.dynamic.borrow_mut().cache.put(place, answer.clone());
        }
        Ok(answer)
    }

    fn read(&self, key: &[u8]) -> Result<Option<Value>, LookupError> {
        let full = self.kind.option("ret") == Some(b"full");
        match self.kind.def.name {
            "lsearch" => lsearch::find(self.file, key, full),
            "wildlsearch" => wildlsearch::find(self.context, self.file, key, full, true),
            "nwildlsearch" => wildlsearch::find(self.context, self.file, key, full, false),
            "iplsearch" => iplsearch::find(self.file, key, full),
            "dsearch" => dsearch::find(self.kind, self.file, key),
            "cdb" => cdb::find(self.file, key),
            other => Err(not_yet(other)),
        }
    }

    /// Keys with components taken from their start and the affix put there.
    fn partial(&self, key: &[u8], partial: &Partial) -> Result<Option<Found>, LookupError> {
        let mut rest = key;
        let mut first = true;
        loop {
            // An empty affix would only try the key itself again.
            if !(first && partial.affix.is_empty()) {
                let wild = key[..key.len() - rest.len()].strip_suffix(b".").unwrap_or_default();
                let attempt = bstr::concat([partial.affix.as_slice(), rest]);
                if let Some(value) = self.key(&attempt)? {
                    return Ok(Some(Found { value, partial: Some((wild.into(), rest.into())) }));
                }
            }
            first = false;
            let Some(dot) = rest.find_byte(b'.') else { break };
            let shorter = &rest[dot + 1..];
            let components = shorter.split(|b| *b == b'.').filter(|part| !part.is_empty()).count();
            if components < partial.minimum.max(1) {
                break;
            }
            rest = shorter;
        }
        if partial.minimum > 0 {
            return Ok(None);
        }
        let last = match partial.affix.as_slice() {
            b"" => return Ok(None),
            [_] => partial.affix.as_slice(),
            affix => affix.strip_suffix(b".").unwrap_or(affix),
        };
        Ok(self.key(last)?.map(|value| Found { value, partial: Some((key.into(), "".into())) }))
    }

    /// `*@domain` and `*`.
    fn defaults(&self, key: &[u8]) -> Result<Option<Found>, LookupError> {
        if self.kind.default == KeyDefault::None {
            return Ok(None);
        }
        if self.kind.default == KeyDefault::StarAt
            && let Some(at) = key.rfind_byte(b'@')
        {
            let domain = bstr::concat([&b"*"[..], &key[at..]]);
            if let Some(value) = self.key(&domain)? {
                return Ok(Some(Found { value, partial: self.all_wild(key) }));
            }
        }
        Ok(self.key(b"*")?.map(|value| Found { value, partial: self.all_wild(key) }))
    }

    /// With `partial`, a default makes the whole key the wild part.
    fn all_wild(&self, key: &[u8]) -> Option<(BString, BString)> {
        self.kind.partial.is_some().then(|| (key.into(), BString::default()))
    }
}

/// Asks a query-style type; none: it has no answer.
pub fn query(context: &Context, kind: &LookupType, query: &Value) -> Result<Option<Found>, LookupError> {
    let answer = match kind.def.name {
        "passwd" => passwd::find(context, query.bytes())?,
        "dnsdb" => dnsdb::find(context, query.bytes())?,
        "sqlite" => sqlite::find(context, kind, query)?,
        other => return Err(not_yet(other)),
    };
    Ok(answer.map(|value| Found { value, partial: None }))
}

fn not_yet(name: &str) -> LookupError {
    LookupError::Failed(format!("\"{name}\" is known but not supported yet"))
}

/// Opens a file of a single-key type; `what` is Exim's name of the search in its error text.
fn open(path: &Path, what: &str) -> Result<std::fs::File, LookupError> {
    crate::sys::files::open_without_waiting(path).map_err(|error| not_opened(path, what, &error))
}

fn not_opened(path: &Path, what: &str, error: &std::io::Error) -> LookupError {
    let path: PathBuf = path.into();
    LookupError::Failed(format!(
        "failed to open {} for {what}: {}",
        path.display(),
        crate::sys::system_words(error)
    ))
}
