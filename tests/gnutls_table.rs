//! What build.rs lets through of GnuTLS: exactly the names of its tables that the version had, and the code uses those.
//!
//! The bindings are those of this build. `vendor-check/` runs the first test again for the bindings of every version
//! that the tables name and of the last one before it (`OXIM_GNUTLS_BINDINGS` is the directory they were written to).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

type Version = Vec<u32>;

/// The tables as build.rs wrote them beside the bindings.
struct Table {
    version: Version,
    stapling: bool,
    /// Functions, variables, types and constants, with the version that brought them.
    names: BTreeMap<String, Version>,
}

impl Table {
    fn read(directory: &Path) -> Self {
        let path = directory.join("gnutls_table.txt");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            line.unwrap_or_else(|| panic!("{}: no {key:?}", path.display())).trim().to_owned()
        };
        let names = text.lines().filter_map(|line| {
            let (kind, rest) = line.split_once(' ')?;
            let (since, name) = rest.split_once(' ')?;
            ["name", "constant"].contains(&kind).then(|| (name.to_owned(), version(since)))
        });
        Self {
            version: version(&value("version ")),
            stapling: value("stapling ") == "true",
            names: names.collect(),
        }
    }

    /// The names that a build against that version may see.
    fn exposed(&self) -> BTreeSet<String> {
        let is_status =
            |name: &str| name.to_lowercase().contains("ocsp") || name == "GNUTLS_E_NO_CERTIFICATE_STATUS";
        let had = |name: &str, since: &Version| *since <= self.version && (self.stapling || !is_status(name));
        self.names.iter().filter(|(name, since)| had(name, since)).map(|(name, _)| name.clone()).collect()
    }
}

fn version(text: &str) -> Version {
    text.trim()
        .split('.')
        .map(|part| part.parse().unwrap_or_else(|_| panic!("{text:?} is no version")))
        .collect()
}

/// Where build.rs wrote what is to be looked at.
fn directory() -> PathBuf {
    std::env::var_os("OXIM_GNUTLS_BINDINGS").map_or_else(|| env!("OUT_DIR").into(), PathBuf::from)
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The words of a text.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c| !is_word(c)).filter(|word| !word.is_empty())
}

/// The names that are declared so. The bindings are one long line where no rustfmt is installed.
fn declared(bindings: &str, kinds: &[&str]) -> BTreeSet<String> {
    let words: Vec<&str> = words(bindings).collect();
    let declarations = words.windows(4).filter(|at| at[0] == "pub" && kinds.contains(&at[1]));
    declarations.map(|at| if at[2] == "mut" { at[3] } else { at[2] }.to_owned()).collect()
}

#[test]
fn the_bindings_have_exactly_the_names_of_the_table_that_the_version_had() {
    let directory = directory();
    let table = Table::read(&directory);
    let bindings = fs::read_to_string(directory.join("gnutls_sys.rs")).expect("the bindings");
    let exposed = table.exposed();
    assert!(exposed.len() > 100, "the table has {} names for {:?}", exposed.len(), table.version);

    let values = declared(&bindings, &["fn", "const", "static"]);
    let types = declared(&bindings, &["type", "struct", "union", "enum"]);
    let missing: Vec<_> =
        exposed.iter().filter(|name| !values.contains(*name) && !types.contains(*name)).collect();
    assert!(missing.is_empty(), "{:?} had these, and they are hidden: {missing:?}", table.version);
    let too_many: Vec<_> = values.difference(&exposed).collect();
    assert!(too_many.is_empty(), "{:?} did not have these, and they are there: {too_many:?}", table.version);

    // A type that is not in the table is there only because a declaration of a name in the table needs it.
    let mut uses: BTreeMap<&str, usize> = BTreeMap::new();
    words(&bindings).for_each(|word| *uses.entry(word).or_default() += 1);
    let alone =
        types.difference(&exposed).filter(|name| uses.get(name.as_str()).is_none_or(|count| *count < 2));
    assert_eq!(alone.collect::<Vec<_>>(), Vec::<&String>::new());
    let late = types.iter().filter(|name| table.names.contains_key(*name) && !exposed.contains(*name));
    assert_eq!(late.collect::<Vec<_>>(), Vec::<&String>::new());
}

/// `sys::NAME` in the room that names GnuTLS, with the file.
fn used_names() -> BTreeMap<String, PathBuf> {
    let room = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tls/gnutls");
    let mut used = BTreeMap::new();
    for entry in fs::read_dir(room).expect("the room").flatten() {
        let text = fs::read_to_string(entry.path()).expect("a source");
        for (at, _) in text.match_indices("sys::") {
            let rest = &text[at + "sys::".len()..];
            if text[..at].chars().next_back().is_some_and(|c| is_word(c) && c != '_') {
                continue; // nix::sys::
            }
            let name: String = rest.chars().take_while(|c| is_word(*c)).collect();
            if name.to_lowercase().starts_with("gnutls_") {
                used.insert(name, entry.path());
            }
        }
    }
    used
}

#[test]
fn the_code_names_nothing_of_gnutls_outside_of_the_table_and_the_table_nothing_that_it_does_not_use() {
    let table = Table::read(&directory());
    let used = used_names();
    let strangers: Vec<_> = used.iter().filter(|(name, _)| !table.names.contains_key(*name)).collect();
    assert!(strangers.is_empty(), "not in the tables of build.rs: {strangers:?}");
    // An enumeration is named for its constants' sake.
    let is_value = |name: &str| !name.ends_with("_t") && !name.ends_with("_flags");
    let idle: Vec<_> =
        table.names.keys().filter(|name| is_value(name) && !used.contains_key(*name)).collect();
    assert!(idle.is_empty(), "in a table of build.rs, and used nowhere: {idle:?}");
}
