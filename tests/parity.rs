//! Parity: what exim4 4.96 was recorded to do, oxim does (DESIGN.md section 7).
//!
//! `cargo test --test parity [-- WORD...]` plays the cases whose name or mode holds every word.
//! `OXIM_RECORD=exim4` plays them with exim4 and writes the expectations (`tests/parity/record`).
//! `OXIM_REQUIRE_ROOT=1`: what cannot be played without root fails in place of being skipped.

#[path = "support/parity/mod.rs"]
mod parity;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

use parity::case::{self, Case};
use parity::normalise::masked_percent;
use parity::one_user;
use parity::play::play;
use parity::world::{Mode, Program, Workshop};

/// A case of which more than this share is masked proves too little.
const MOST_MASKED_PERCENT: usize = 20;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    if std::env::args().any(|a| a == "--list") {
        println!("parity: test");
        return ExitCode::SUCCESS;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity");
    let records = std::env::var("OXIM_RECORD").is_ok_and(|v| v == "exim4");
    let program = if records { Program::Exim4 } else { Program::Oxim };
    let modes = match modes(records) {
        Ok(modes) => modes,
        Err(why) => {
            println!("parity: FAILED: {why}");
            return ExitCode::FAILURE;
        }
    };
    let workshop = match Workshop::new(program, Path::new(env!("CARGO_BIN_EXE_oxim"))) {
        Ok(workshop) => workshop,
        Err(e) => {
            println!("parity: FAILED: cannot set up: {e}");
            return ExitCode::FAILURE;
        }
    };
    let mut jobs = Vec::new();
    for file in case_files(&root) {
        let name = file.strip_prefix(&root).unwrap_or(&file).with_extension("").display().to_string();
        for mode in &modes {
            if words.iter().all(|w| name.contains(w.as_str()) || mode.name() == w) {
                jobs.push((file.clone(), name.clone(), *mode));
            }
        }
    }
    let one_user = one_user::cannot(&root);
    if jobs.is_empty() {
        println!("parity: FAILED: no case and mode holds all of these words: {}", words.join(" "));
        return ExitCode::FAILURE;
    }
    let run = Run { not_yet: not_yet(&root), one_user, records, workshop, done: Mutex::new(Vec::new()) };
    run.all(jobs)
}

/// The modes that can be played here.
fn modes(records: bool) -> Result<Vec<Mode>, String> {
    let root = nix::unistd::geteuid().is_root();
    let namespace = root
        && std::process::Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|s| s.success());
    match (namespace, records) {
        (true, true) => Ok(vec![Mode::SetUid]),
        (true, false) => Ok(vec![Mode::SetUid, Mode::Daemon]),
        (false, true) => Err("recording needs root and mount namespaces".into()),
        (false, false) if std::env::var_os("OXIM_REQUIRE_ROOT").is_some() => {
            Err("root and mount namespaces are required here".into())
        }
        (false, false) => {
            println!("parity: SKIPPED the modes setuid and daemon: they need root and mount namespaces");
            Ok(vec![Mode::OneUser])
        }
    }
}

enum Outcome {
    Passed,
    Skipped(String),
    Recorded(bool),
    Failed(String),
}

struct Run {
    /// Case and mode (`*`: all) that cannot pass yet, and why.
    not_yet: BTreeMap<(String, String), String>,
    /// Cases that cannot be played under one uid, and why.
    one_user: BTreeMap<String, String>,
    records: bool,
    workshop: Workshop,
    done: Mutex<Vec<(String, bool)>>,
}

impl Run {
    fn all(&self, jobs: Vec<(PathBuf, String, Mode)>) -> ExitCode {
        let started = Instant::now();
        let total = jobs.len();
        let queue = Mutex::new(jobs.into_iter());
        std::thread::scope(|scope| {
            for _ in 0..std::thread::available_parallelism().map_or(2, |n| n.get().max(2)) {
                scope.spawn(|| {
                    loop {
                        let job = queue.lock().ok().and_then(|mut q| q.next());
                        let Some((file, name, mode)) = job else { break };
                        self.one(&file, &name, mode);
                    }
                });
            }
        });
        let done = self.done.lock().map(|d| d.clone()).unwrap_or_default();
        let failed = done.iter().filter(|(_, ok)| !ok).count();
        println!("parity: {total} plays, {failed} failed, {:.1} s", started.elapsed().as_secs_f32());
        if failed == 0 && done.len() == total { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn one(&self, file: &Path, name: &str, mode: Mode) {
        let result = self.outcome(file, name, mode);
        let modes: &[&str] = match mode {
            // what cannot pass in the others need not pass here, and may
            Mode::OneUser => &["oneuser", "*", "daemon", "setuid"],
            _ => &[mode.name(), "*"],
        };
        let listed = modes.iter().find_map(|m| self.not_yet.get(&(name.to_owned(), (*m).to_owned())));
        let (ok, text) = match (result, listed) {
            // a race: it is listed until the cause is found, and passes now and then
            (Outcome::Passed, Some(why)) if why.starts_with("sometimes") => (true, "ok".into()),
            (Outcome::Passed, Some(_)) if mode == Mode::OneUser => (true, "ok".into()),
            (Outcome::Passed, Some(_)) => (false, "passes, but is listed in not_yet.txt: take it out".into()),
            (Outcome::Passed, None) => (true, "ok".into()),
            (Outcome::Recorded(false), _) => (true, "recorded, no change".into()),
            (Outcome::Recorded(true), _) => (true, "recorded, CHANGED".into()),
            (Outcome::Skipped(why), _) => (true, format!("SKIPPED: {why}")),
            (Outcome::Failed(_), Some(why)) if std::env::var_os("OXIM_SHOW_NOT_YET").is_none() => {
                (true, format!("not yet: {why}"))
            }
            (Outcome::Failed(why), Some(_)) => (true, format!("not yet:\n{why}")),
            (Outcome::Failed(why), None) => (false, format!("FAILED\n{why}")),
        };
        if let Ok(mut done) = self.done.lock() {
            println!("parity {name} [{}] ... {text}", mode.name());
            done.push((name.to_owned(), ok));
        }
    }

    fn outcome(&self, file: &Path, name: &str, mode: Mode) -> Outcome {
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(e) => return Outcome::Failed(e.to_string()),
        };
        let case = match case::parse(&text) {
            Ok(case) => case,
            Err(why) => return Outcome::Failed(why),
        };
        if case.needs_root && mode == Mode::OneUser {
            return Outcome::Skipped("needs root".into());
        }
        if let Some(why) = self.one_user.get(name).filter(|_| mode == Mode::OneUser) {
            return Outcome::Skipped(format!("needs root: {why}"));
        }
        if !self.records && !case.modes.is_empty() && !case.modes.iter().any(|m| m == mode.name()) {
            return Outcome::Skipped("not in this mode".into());
        }
        let got = match play(&self.workshop, name, &case, mode) {
            Ok(got) => got,
            Err(why) => return Outcome::Failed(why),
        };
        let masked = masked_percent(&got);
        if masked > MOST_MASKED_PERCENT {
            return Outcome::Failed(format!("{masked} % of the text is masked:\n{got}"));
        }
        let expectation = file.with_extension("expected");
        let recorded = fs::read_to_string(&expectation).unwrap_or_default();
        if self.records {
            // a race that is listed: the same lines in another order are no change
            let races = self.not_yet.get(&(name.to_owned(), mode.name().to_owned()));
            let races = races.is_some_and(|why| why.starts_with("sometimes:"));
            let changed = recorded != got && !(races && same_lines(&recorded, &got));
            if changed && fs::write(&expectation, &got).is_err() {
                return Outcome::Failed(format!("cannot write {}", expectation.display()));
            }
            return Outcome::Recorded(changed);
        }
        let (recorded, got) = match mode {
            Mode::OneUser => {
                (expected(&recorded, &case).map(|text| one_user::fold(&text)), one_user::fold(&got))
            }
            _ => (expected(&recorded, &case), got),
        };
        match recorded {
            Ok(wanted) if wanted == got => Outcome::Passed,
            Ok(wanted) => Outcome::Failed(difference(&wanted, &got)),
            Err(why) => Outcome::Failed(why),
        }
    }
}

/// Whether two texts differ only in the order of their lines.
fn same_lines(a: &str, b: &str) -> bool {
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    sorted(a) == sorted(b)
}

/// The recording with the annotated differences put in.
fn expected(recorded: &str, case: &Case) -> Result<String, String> {
    let mut lines: Vec<String> = recorded.lines().map(str::to_owned).collect();
    for change in &case.differences {
        let n = change.recorded.len();
        let mut places: Vec<usize> = (0..=lines.len().saturating_sub(n))
            .filter(|i| lines.get(*i..i + n) == Some(&change.recorded[..]))
            .collect();
        if places.is_empty() {
            return Err(format!(
                "the lines of the difference \"{}\" are not in the recording",
                change.reason
            ));
        }
        places.reverse();
        for place in places {
            lines.splice(place..place + n, change.ours.iter().cloned());
        }
    }
    Ok(lines.join("\n") + "\n")
}

/// A line difference: `-` recorded, `+` what came, with a little context.
fn difference(wanted: &str, got: &str) -> String {
    let wanted: Vec<&str> = wanted.lines().collect();
    let got: Vec<&str> = got.lines().collect();
    let common = longest_common(&wanted, &got);
    let (mut i, mut j, mut text) = (0, 0, String::new());
    let mut section = "";
    for (a, b) in common.into_iter().chain([(wanted.len(), got.len())]) {
        if i < a || j < b {
            text.push_str(&format!("  @ {section}\n"));
        }
        wanted[i..a].iter().for_each(|l| text.push_str(&format!("  -{l}\n")));
        got[j..b].iter().for_each(|l| text.push_str(&format!("  +{l}\n")));
        if let Some(line) = wanted.get(a).filter(|l| l.starts_with("=== ")) {
            section = line;
        }
        (i, j) = (a + 1, b + 1);
    }
    text
}

/// Positions of a longest common subsequence; both texts are a few hundred lines at most.
fn longest_common(a: &[&str], b: &[&str]) -> Vec<(usize, usize)> {
    let mut table = vec![vec![0u32; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            let skip = table[i + 1][j].max(table[i][j + 1]);
            table[i][j] = if a[i] == b[j] { table[i + 1][j + 1] + 1 } else { skip };
        }
    }
    let (mut i, mut j, mut pairs) = (0, 0, Vec::new());
    while i < a.len() && j < b.len() {
        if a[i] == b[j] {
            pairs.push((i, j));
            (i, j) = (i + 1, j + 1);
        } else if table[i + 1][j] >= table[i][j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    pairs
}

/// `not_yet.txt`: `CASE MODE: reason`, one a line; MODE may be `*`.
fn not_yet(root: &Path) -> BTreeMap<(String, String), String> {
    let text = fs::read_to_string(root.join("not_yet.txt")).unwrap_or_default();
    let lines = text.lines().filter(|l| !l.trim().is_empty() && !l.starts_with('#'));
    lines
        .filter_map(|line| {
            let (place, reason) = line.split_once(": ")?;
            let (case, mode) = place.split_once(' ')?;
            Some(((case.to_owned(), mode.trim().to_owned()), reason.to_owned()))
        })
        .collect()
}

fn case_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in fs::read_dir(directory).into_iter().flatten().flatten().map(|e| e.path()) {
        if path.is_dir() {
            files.extend(case_files(&path));
        } else if path.extension().is_some_and(|e| e == "case") {
            files.push(path);
        }
    }
    files.sort();
    files
}
