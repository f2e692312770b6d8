//! The option tables tell the truth (DESIGN.md, decision 3): what `Acts` is read by the code and
//! shown by a test.
//!
//! A main option is shown where a case or a test sets it in the main part of a configuration, a
//! router's below `begin routers`, a transport's below `begin transports`. Texts of Rust tests count
//! for every section that they name.

use oxim::config::{Effect, OptionDef};
use oxim::load::tables::tables;
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What no test from outside can show, each with its reason.
const NOT_SHOWN: &[(&str, &str)] = &[
    ("debug_print", "only seen with -d, whose texts are no interface"),
    ("hosts_randomize", "what it does is left to chance: unit tests of both shuffles"),
    ("maildir_retries", "needs two deliveries that make the same name"),
    ("tcp_nodelay", "a flag of the socket that nothing outside of its process sees"),
];

/// At most this many options may go without a test.
const MOST_NOT_SHOWN: usize = 5;

/// The sections that have options.
const SECTIONS: [&str; 3] = ["main", "routers", "transports"];

#[test]
fn every_option_that_acts_is_shown_by_a_test() {
    assert!(NOT_SHOWN.len() < MOST_NOT_SHOWN);
    let shown = shown_options();
    let missing: Vec<String> = acting()
        .into_iter()
        .filter(|(_, name)| !NOT_SHOWN.iter().any(|(not_shown, _)| not_shown == name))
        .filter(|(section, name)| !shown.contains(&(*section, (*name).to_owned())))
        .map(|(section, name)| format!("{section}: {name}"))
        .collect();
    assert!(missing.is_empty(), "{} options no test shows:\n  {}", missing.len(), missing.join("\n  "));
}

#[test]
fn every_option_that_acts_is_read_by_the_code() {
    let mut code = String::new();
    for path in files_below("src", "rs") {
        if !is_option_table(&path) {
            let text = fs::read_to_string(&path).unwrap_or_default();
            code.push_str(without_tests(&path, &text));
        }
    }
    let unread: Vec<&str> = acting()
        .into_iter()
        .map(|(_, name)| name)
        .filter(|name| *name != "driver" && !code.contains(&format!("\"{name}\"")))
        .collect();
    assert!(unread.is_empty(), "options nobody reads:\n  {}", unread.join("\n  "));
}

#[test]
fn the_list_of_what_is_not_shown_names_only_options_that_act() {
    let names: Vec<&str> = acting().into_iter().map(|(_, name)| name).collect();
    for (name, _) in NOT_SHOWN {
        assert!(names.contains(name), "{name} does not act");
    }
}

/// Section and name of every option that acts, those of refused drivers left out.
fn acting() -> Vec<(&'static str, &'static str)> {
    let tables = tables();
    let mut found = names("main", tables.main);
    found.extend(names("routers", tables.router_generic));
    found.extend(names("transports", tables.transport_generic));
    for (section, drivers) in [("routers", tables.routers), ("transports", tables.transports)] {
        for driver in drivers.iter().filter(|driver| driver.supported) {
            found.extend(names(section, driver.options));
        }
    }
    found
}

fn names(section: &'static str, table: &'static [OptionDef]) -> Vec<(&'static str, &'static str)> {
    table.iter().filter(|def| def.effect == Effect::Acts).map(|def| (section, def.name)).collect()
}

/// What tests set: section and name.
fn shown_options() -> HashSet<(&'static str, String)> {
    let mut shown = HashSet::new();
    for folder in ["src", "tests"] {
        for path in files_below(folder, "rs") {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let tests = if folder == "tests" { text.as_str() } else { only_tests(&path, &text) };
            if !path.ends_with("tests/options.rs") {
                for word in words(tests) {
                    shown.extend(SECTIONS.map(|section| (section, word.to_owned())));
                }
            }
        }
    }
    for extension in ["case", "conf"] {
        for path in files_below("tests", extension) {
            note_settings(&fs::read_to_string(&path).unwrap_or_default(), &mut shown);
        }
    }
    shown
}

/// The settings of the configurations in a case or a configuration file.
fn note_settings(text: &str, shown: &mut HashSet<(&'static str, String)>) {
    let mut section = Some("main");
    for line in text.lines() {
        if line.starts_with("=== ") {
            section = Some("main");
        } else if let Some(name) = line.trim().strip_prefix("begin ") {
            section = SECTIONS.into_iter().find(|known| *known == name.trim());
        } else if let Some(section) = section {
            let line = line.trim().trim_start_matches("hide ");
            let name = line.split(|c: char| !is_name(c)).next().unwrap_or_default();
            shown.insert((section, name.to_owned()));
            for negation in ["no_", "not_"] {
                shown.extend(name.strip_prefix(negation).map(|name| (section, name.to_owned())));
            }
        }
    }
}

fn words(text: &str) -> HashSet<&str> {
    text.split(|c: char| !is_name(c)).filter(|word| !word.is_empty()).collect()
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn is_option_table(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().contains("options"))
}

/// A file's tests stand at its end, or in a file of their own.
fn split_at_tests<'a>(path: &Path, text: &'a str) -> (&'a str, &'a str) {
    if path.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs") {
        return ("", text);
    }
    text.split_at(text.find("#[cfg(test)]\nmod ").unwrap_or(text.len()))
}

fn without_tests<'a>(path: &Path, text: &'a str) -> &'a str {
    split_at_tests(path, text).0
}

fn only_tests<'a>(path: &Path, text: &'a str) -> &'a str {
    split_at_tests(path, text).1
}

fn files_below(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    collect(Path::new(folder), extension, &mut files);
    files
}

fn collect(folder: &Path, extension: &str, files: &mut Vec<PathBuf>) {
    for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            collect(&path, extension, files);
        } else if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
}
