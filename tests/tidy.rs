//! The rules of STYLE.md and DESIGN.md section 3 that a machine can check.
//!
//! A rule that is broken names each place as `file:line`. The order of layers is read from the
//! table in `src/lib.rs`, so the picture there and the code cannot drift apart.

#[path = "support/tidy/mod.rs"]
mod tidy;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use tidy::{Source, functions, sources};

/// Longest file, in lines; tables of options are excepted.
const LONGEST_FILE: usize = 600;
/// Longest function, in lines.
const LONGEST_FUNCTION: usize = 100;
/// Folders that may hold `unsafe`.
const UNSAFE_ROOMS: [&str; 2] = ["src/sys", "src/tls/gnutls"];
/// Names that say nothing about what a module is for.
const EMPTY_NAMES: [&str; 8] = ["util", "utils", "common", "helpers", "helper", "misc", "manager", "stuff"];

fn fail_if_any(rule: &str, places: Vec<String>) {
    assert!(places.is_empty(), "{rule}:\n  {}", places.join("\n  "));
}

fn everywhere() -> Vec<Source> {
    let mut all = sources("src");
    all.extend(sources("tests"));
    all
}

/// Calls `place` for each line of the chosen view that `is_bad`.
fn lines_where(view: &str, path: &Path, is_bad: impl Fn(&str) -> bool) -> Vec<String> {
    let bad = view.lines().enumerate().filter(|(_, line)| is_bad(line));
    bad.map(|(n, _)| format!("{}:{}", path.display(), n + 1)).collect()
}

/// Whether the word stands in the text with no letter, digit or `_` on either side.
fn has_word(text: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        !text[..at].chars().next_back().is_some_and(is_part)
            && !text[at + word.len()..].chars().next().is_some_and(is_part)
    })
}

/// The layers of `src/lib.rs`: for each the folders from left to right.
fn layers() -> Vec<Vec<String>> {
    let lib =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap_or_default();
    let mut layers = Vec::new();
    for line in lib.lines().filter_map(|l| l.strip_prefix("//! ")) {
        let Some(rest) = line.strip_prefix(&format!("{}  ", layers.len())) else { continue };
        let names = rest.split("  ").next().unwrap_or_default();
        layers.push(names.split(',').map(|name| name.trim().to_owned()).collect());
    }
    layers
}

/// The folder a file belongs to, as the table names it; none for entry, manual and the traits.
fn folder_of(path: &Path) -> Option<String> {
    let mut parts = path.components().map(|c| c.as_os_str().to_string_lossy()).skip(1);
    let first = parts.next()?.trim_end_matches(".rs").to_owned();
    match first.as_str() {
        "lib" | "main" | "manual" | "upward" => None,
        "tls" if parts.next().is_some_and(|p| p.starts_with("gnutls")) => Some("tls::gnutls".into()),
        _ => Some(first),
    }
}

/// The folders that a file names with `crate::`, with their lines.
fn used_folders(code: &str) -> BTreeSet<(usize, String)> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let line = code[..at].matches('\n').count() + 1;
        let rest = &code[at + "crate::".len()..];
        for path in heads(rest) {
            let folder = if path.starts_with("tls::gnutls") {
                "tls::gnutls"
            } else {
                path.split("::").next().unwrap_or("")
            };
            found.insert((line, folder.to_owned()));
        }
    }
    found
}

/// The first two names of the path that begins here, or of each path of a group in braces.
fn heads(rest: &str) -> Vec<String> {
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    if !rest.starts_with('{') {
        return vec![rest.chars().take_while(|c| is_path(*c)).collect()];
    }
    let (mut depth, mut current, mut found) = (0, String::new(), Vec::new());
    for c in rest.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => break,
            '}' => depth -= 1,
            ',' if depth == 1 => found.push(std::mem::take(&mut current)),
            c if depth == 1 && is_path(c) => current.push(c),
            _ => {}
        }
    }
    found.push(current);
    found.retain(|path| !path.is_empty() && path != "self");
    found
}

#[test]
fn a_file_uses_only_its_own_folder_lower_layers_and_folders_to_its_left() {
    let layers = layers();
    assert_eq!(layers.len(), 10, "the table of layers in src/lib.rs could not be read");
    let place = |folder: &str| {
        layers.iter().enumerate().find_map(|(layer, names)| {
            names.iter().position(|name| name == folder).map(|column| (layer, column))
        })
    };
    let mut places = Vec::new();
    for source in sources("src") {
        let Some(own) = folder_of(&source.path) else { continue };
        let Some((layer, column)) = place(&own) else {
            places.push(format!("{}: {own} is not in the table of layers", source.path.display()));
            continue;
        };
        for (line, used) in used_folders(&source.code) {
            let Some((used_layer, used_column)) = place(&used) else { continue };
            // expansion, lookups and matching call each other: the one ring, declared in lib.rs
            let is_ring = layer == 4 && used_layer == 4;
            let is_allowed =
                used == own || is_ring || used_layer < layer || (used_layer == layer && used_column < column);
            if !is_allowed {
                places.push(format!("{}:{line}: {own} uses {used}", source.path.display()));
            }
        }
    }
    fail_if_any("a file may not use a folder of a higher layer, or to its right", places);
}

#[test]
fn no_file_is_longer_than_600_lines_but_tables_of_options() {
    let mut places = Vec::new();
    for source in everywhere() {
        let length = source.text.lines().count();
        let is_table = source.path.file_name().is_some_and(|n| n.to_string_lossy().contains("options"));
        if length > LONGEST_FILE && !is_table {
            places.push(format!("{}: {length} lines", source.path.display()));
        }
    }
    fail_if_any("a file is split by idea before it has more than 600 lines", places);
}

#[test]
fn no_function_is_longer_than_100_lines() {
    let mut places = Vec::new();
    for source in everywhere() {
        for function in functions(&source.code) {
            let length = function.last + 1 - function.first;
            if length > LONGEST_FUNCTION {
                let path = source.path.display();
                places.push(format!("{path}:{}: {} has {length} lines", function.first, function.name));
            }
        }
    }
    fail_if_any("a function has at most 100 lines", places);
}

#[test]
fn every_file_begins_with_its_purpose() {
    let missing = everywhere().into_iter().filter(|s| !s.text.starts_with("//!"));
    fail_if_any("the first line is a //! comment", missing.map(|s| s.path.display().to_string()).collect());
}

#[test]
fn unsafe_stands_only_in_the_two_rooms_and_says_why_it_is_sound() {
    let mut places = Vec::new();
    for source in everywhere() {
        let in_room = UNSAFE_ROOMS
            .iter()
            .any(|room| source.path.starts_with(room) || source.path.starts_with(format!("{room}.rs")));
        let lines: Vec<&str> = source.code.lines().collect();
        let comments: Vec<&str> = source.comments.lines().collect();
        for (n, line) in lines.iter().enumerate().filter(|(_, line)| has_word(line, "unsafe")) {
            let at = format!("{}:{}", source.path.display(), n + 1);
            let needs_reason = ["unsafe {", "unsafe impl"].iter().any(|form| line.contains(form));
            if !in_room {
                places.push(format!("{at}: outside the two rooms"));
            } else if needs_reason && !is_explained(&lines, &comments, n) {
                places.push(format!("{at}: no // SAFETY: in front of it"));
            }
        }
    }
    fail_if_any("unsafe", places);
}

/// Whether a `SAFETY:` comment stands on the line, or above it with only the statement's own
/// beginning, attributes and further unsafe lines of one group in between.
fn is_explained(lines: &[&str], comments: &[&str], n: usize) -> bool {
    for back in (n.saturating_sub(12)..=n).rev() {
        if comments[back].contains("SAFETY:") {
            return true;
        }
        let code = lines[back].trim();
        let ends_statement = code.ends_with(';') || code == "}";
        if back != n && ends_statement && !has_word(code, "unsafe") {
            return false;
        }
    }
    false
}

#[test]
fn nothing_is_left_to_do() {
    let mut places = Vec::new();
    for source in everywhere().iter().filter(|s| !s.path.ends_with("tests/tidy.rs")) {
        places.extend(lines_where(&source.code, &source.path, |l| {
            l.contains("todo!(") || l.contains("unimplemented!(")
        }));
        let marks = ["FIXME", "XXX", "TODO", "HACK"];
        places.extend(lines_where(&source.comments, &source.path, |l| marks.iter().any(|m| has_word(l, m))));
    }
    fail_if_any("what is not built refuses in words and is listed, it is not marked in the code", places);
}

#[test]
fn an_ignored_test_says_why() {
    let mut places = Vec::new();
    for source in everywhere() {
        places.extend(lines_where(&source.code, &source.path, |l| l.trim() == "#[ignore]"));
    }
    fail_if_any("#[ignore] needs a reason", places);
}

#[test]
fn nothing_changes_under_the_feet_of_other_threads() {
    let mut places = Vec::new();
    // sys::environment cleans the environment before there is a second thread
    for source in sources("src").iter().filter(|s| !s.path.ends_with("src/sys/environment.rs")) {
        places.extend(lines_where(&source.code, &source.path, |l| {
            has_word(l, "static mut") || l.contains("env::set_var(") || l.contains("env::remove_var(")
        }));
    }
    fail_if_any("no mutable static, no change of the environment", places);
}

#[test]
fn a_module_is_named_after_what_it_is_for() {
    let mut places = Vec::new();
    for source in sources("src") {
        let parts = source
            .path
            .components()
            .map(|c| c.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned());
        if parts.into_iter().any(|part| EMPTY_NAMES.contains(&part.as_str())) {
            places.push(source.path.display().to_string());
        }
    }
    fail_if_any("util, common, helpers, misc and manager are no names", places);
}

#[test]
fn every_dependency_says_why_it_is_there() {
    let text =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap_or_default();
    let mut places = Vec::new();
    let mut in_dependencies = false;
    for (n, line) in text.lines().enumerate() {
        if let Some(section) = line.strip_prefix('[') {
            in_dependencies = section.trim_end_matches(']').ends_with("dependencies");
        } else if in_dependencies && line.contains('=') && !line.trim_start().starts_with('#') {
            let reason = line.rsplit_once('#').map_or("", |(_, reason)| reason.trim());
            if reason.is_empty() {
                places.push(format!("Cargo.toml:{}: {line}", n + 1));
            }
        }
    }
    fail_if_any("a dependency has its reason behind it", places);
}

#[test]
fn every_test_that_the_manual_names_for_a_row_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("src/manual/tls_rows.rs")).expect("the page");
    let sources = everywhere();
    let is_there = |name: &str| match name.split_once("::") {
        Some((file, test)) => sources.iter().any(|source| {
            let is_folder = source.path.ends_with(Path::new(file).join("mod.rs"));
            let is_file = is_folder || source.path.file_stem().is_some_and(|stem| stem == file);
            let starts = ["#[test]\nfn", "#[test]\n    fn"];
            is_file && starts.iter().any(|start| source.code.contains(&format!("{start} {test}()")))
        }),
        None => root.join("tests/parity").join(format!("{name}.case")).exists(),
    };
    let is_name = |word: &str| {
        word.contains("::") || (word.contains('/') && word.starts_with(|c: char| c.is_ascii_digit()))
    };
    let mut places = Vec::new();
    let mut count = 0;
    for (n, line) in page.lines().enumerate().skip(5) {
        for name in line.split('`').skip(1).step_by(2).filter(|word| is_name(word)) {
            count += 1;
            if !is_there(name) {
                places.push(format!("src/manual/tls_rows.rs:{}: {name}", n + 1));
            }
        }
    }
    assert!(count > 60, "the page names only {count} tests");
    fail_if_any("a test that the manual names exists", places);
}

#[test]
fn the_scanner_tells_code_from_comments_and_strings() {
    let text = "let a = \"// no { \\\" comment\"; // unsafe {\nlet b = r#\"unsafe \" \"#; /* x /* y */ z */ let c = '{';\nfn f<'a>(x: &'a str) { '\\''; }\n";
    let (code, comments) = tidy::split(text);
    assert!(!code.contains("unsafe") && !code.contains('y') && !code.contains("comment"));
    assert!(comments.contains("unsafe {") && comments.contains("x /* y */ z") && !comments.contains("let"));
    assert_eq!(code.lines().count(), text.lines().count());
    let found = functions("fn a(x: [u8; 3]) {\n  if x {\n  }\n}\nfn b();\npub const fn c() { }\n");
    let found: Vec<_> = found.iter().map(|f| (f.name.as_str(), f.first, f.last)).collect();
    assert_eq!(found, [("a", 1, 4), ("c", 6, 6)]);
    let used: Vec<_> =
        used_folders("use crate::{mail::Address, tls::gnutls::x, text::{a, b}};\ncrate::log::x();")
            .into_iter()
            .collect();
    let names: Vec<_> = used.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(names, ["mail", "text", "tls::gnutls", "log"]);
}
