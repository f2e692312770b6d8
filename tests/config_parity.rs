//! What Exim prints for configurations, recorded from Debian's exim4 4.96 into tests/config, and what oxim prints.
//!
//! `OXIM_RECORD=exim4 cargo test --test config_parity` records again (as root, since some cases are asked by `nobody`).

use bstr::BString;
use oxim::cli::info::{Asker, Listing};
use oxim::config::MacroOverrides;
use oxim::load::{self, tables::tables};
use std::collections::HashSet;
use std::path::Path;
use std::process::Command;

const CASES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/config/cases.txt");

/// Options that 4.99 has and 4.96 has not, or the other way round.
const NOT_IN_BOTH: &str = include_str!("config/not-in-4.96.txt");

struct Case {
    arguments: String,
    config: String,
    expected: Answer,
}

#[derive(Debug, PartialEq)]
struct Answer {
    code: i32,
    output: String,
}

fn cases(text: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    for block in text.split("\n=== ").skip(1) {
        let (arguments, rest) = block.split_once('\n').unwrap();
        let (config, answer) = match rest.strip_prefix("--- ") {
            Some(answer) => ("", answer),
            None => rest.split_once("\n--- ").unwrap(),
        };
        let (code, output) = answer.split_once('\n').unwrap_or((answer, ""));
        cases.push(Case {
            arguments: arguments.to_owned(),
            config: format!("{config}\n"),
            expected: Answer { code: code.trim().parse().unwrap(), output: output.trim_end().to_owned() },
        });
    }
    cases
}

/// The arguments after `-bP`, `-D` macros, and who asks.
fn arguments(line: &str) -> (Vec<BString>, MacroOverrides, Asker) {
    let mut asker = Asker { admin: true, names: true };
    let (mut macros, mut names) = (Vec::new(), Vec::new());
    for word in line.split(' ') {
        match word {
            "nobody" => asker.admin = false,
            "-n" => asker.names = false,
            "-bP" => {}
            _ => match word.strip_prefix("-D").and_then(|word| word.split_once('=')) {
                Some((name, value)) => macros.push((name.into(), value.into())),
                None => names.push(word.into()),
            },
        }
    }
    (names, MacroOverrides(macros), asker)
}

fn ask_oxim(case: &Case) -> Answer {
    let (names, overrides, asker) = arguments(&case.arguments);
    let tables = tables();
    let mut opener = |path: &Path| Ok(std::fs::read(path).ok());
    let bytes = case.config.as_bytes();
    let (written, errors) = load::read(Path::new("c.conf"), bytes, &overrides, &mut opener);
    let Some(mut written) = written else {
        let error = errors.iter().find(|error| !error.unsupported).unwrap();
        let text = error.message.split(" (the ").next().unwrap();
        return Answer { code: 1, output: format!("error in line {}: {text}", error.at.line) };
    };
    written.fill_names("h.example");
    let mut output = Vec::new();
    let listing = Listing { written: &written, tables: &tables, asker };
    let known = listing.print(&names, &mut output).unwrap();
    Answer { code: i32::from(!known), output: String::from_utf8(output).unwrap().trim_end().to_owned() }
}

fn ask_exim(exim: &str, case: &Case) -> Answer {
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    std::process::Command::new("chmod").arg("755").arg(dir.path()).status().unwrap();
    std::fs::write(dir.path().join("c.conf"), &case.config).unwrap();
    let (user, arguments) = match case.arguments.strip_prefix("nobody ") {
        Some(arguments) => ("nobody", arguments),
        None => ("root", case.arguments.as_str()),
    };
    let command = format!("cd {} && exec {exim} -C c.conf {arguments}", dir.path().display());
    let command = command.replace("-C c.conf", &format!("-C {}/c.conf", dir.path().display()));
    let ran = Command::new("su").args([user, "-s", "/bin/sh", "-c", &command]).output().unwrap();
    let errors = String::from_utf8_lossy(&ran.stderr).into_owned();
    let code = ran.status.code().unwrap();
    let mut output = String::from_utf8_lossy(&ran.stdout).trim_end().to_owned();
    if let Some((_, error)) = errors.split_once("Exim configuration error") {
        let (place, text) = error.split_once(":\n").unwrap();
        let line = place.trim().strip_prefix("in line ").and_then(|place| place.split(' ').next());
        let text = text.trim_start().lines().next().unwrap();
        output = format!("error in line {}: {text}", line.unwrap_or("?"));
    }
    Answer { code, output: output.replace(&format!("{}/", dir.path().display()), "") }
}

fn record(exim: &str) {
    let text = std::fs::read_to_string(CASES).unwrap();
    let mut recorded = text.split("\n=== ").next().unwrap().to_owned();
    for case in cases(&text) {
        let Answer { code, output } = ask_exim(exim, &case);
        recorded += &format!("\n=== {}\n{}--- {code}\n{output}", case.arguments, case.config);
    }
    std::fs::write(CASES, recorded + "\n").unwrap();
}

/// Lines that need not be equal: options of one version only, and the version.
fn comparable(answer: &Answer) -> Answer {
    let unequal: HashSet<&str> = NOT_IN_BOTH.lines().filter(|line| !line.starts_with('#')).collect();
    let kept = answer.output.lines().filter(|line| {
        let name = line.split(' ').next().unwrap();
        !unequal.contains(name.strip_prefix("no_").unwrap_or(name))
            && !line.starts_with("# Exim Configuration")
    });
    Answer { code: answer.code, output: kept.collect::<Vec<_>>().join("\n").trim_end().to_owned() }
}

#[test]
fn every_main_option_of_exim_is_known() {
    let text = std::fs::read_to_string(CASES).unwrap();
    let all = cases(&text).into_iter().find(|case| case.arguments == "-bP all").unwrap();
    let known = |name: &str| tables().main.iter().any(|def| def.name == name);
    let names = all.expected.output.lines().map(|line| line.split(' ').next().unwrap());
    let unknown: Vec<&str> = names.filter(|name| !known(name.strip_prefix("no_").unwrap_or(name))).collect();
    assert_eq!(unknown, ["no_drop_cr", "local_scan_path"], "these two are gone since 4.96");
}

#[test]
fn configurations_are_printed_and_refused_as_exim_does() {
    if let Ok(exim) = std::env::var("OXIM_RECORD") {
        record(&exim);
    }
    let text = std::fs::read_to_string(CASES).unwrap();
    let mut different = Vec::new();
    for case in cases(&text) {
        let (mut expected, mut got) = (comparable(&case.expected), comparable(&ask_oxim(&case)));
        if let Some(message) = expected.output.strip_prefix("error in line ?: ") {
            // Exim does not know the line; we do.
            got.output = got.output.split_once(": ").map_or(String::new(), |(_, text)| text.to_owned());
            expected.output = message.to_owned();
        }
        if expected != got {
            different
                .push(format!("{}\n{}\nexpected {expected:#?}\ngot {got:#?}", case.arguments, case.config));
        }
    }
    assert!(different.is_empty(), "{} cases differ:\n{}", different.len(), different.join("\n"));
}
