//! Reading Rust well enough for the rules of `tests/tidy.rs`: code and comments apart, strings
//! emptied, and where each function begins and ends.

use std::fs;
use std::path::{Path, PathBuf};

/// One source file, each view with the same lines as the file.
pub struct Source {
    /// Below the repository's root.
    pub path: PathBuf,
    pub text: String,
    /// The text with comments and the insides of strings blanked out.
    pub code: String,
    /// Only the comments, everything else blanked out.
    pub comments: String,
}

/// Every Rust file below a folder of the repository.
pub fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    collect(&root.join(folder), &mut paths);
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let (code, comments) = split(&text);
            let path = path.strip_prefix(root).unwrap_or(&path).to_path_buf();
            Source { path, text, code, comments }
        })
        .collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()) {
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|e| e == "rs") {
            paths.push(path);
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Code,
    LineComment,
    BlockComment(usize),
    /// A string that ends with a quote and this many `#`; `None`: one with escapes.
    Text(Option<usize>),
}

/// Code and comments of a Rust text, each with blanks where the other is.
pub fn split(text: &str) -> (String, String) {
    let chars: Vec<char> = text.chars().collect();
    let (mut code, mut comments) = (String::new(), String::new());
    let (mut state, mut i) = (State::Code, 0);
    while i < chars.len() {
        let rest = &chars[i..];
        let (next, length, is_code) = step(state, rest, i.checked_sub(1).map(|p| chars[p]));
        let in_comment = matches!(state, State::LineComment | State::BlockComment(_))
            || matches!(next, State::LineComment | State::BlockComment(_));
        for c in &rest[..length] {
            let keep_break = *c == '\n';
            code.push(if is_code || keep_break { *c } else { ' ' });
            comments.push(if in_comment || keep_break { *c } else { ' ' });
        }
        state = next;
        i += length;
    }
    (code, comments)
}

/// What comes next: the new state, how many characters belong to it, and whether they are code.
fn step(state: State, rest: &[char], before: Option<char>) -> (State, usize, bool) {
    let starts = |text: &str| text.chars().zip(rest).filter(|(a, b)| a == *b).count() == text.len();
    match state {
        State::Code if starts("//") => (State::LineComment, 2, false),
        State::Code if starts("/*") => (State::BlockComment(1), 2, false),
        State::Code if rest[0] == '"' => (State::Text(None), 1, true),
        State::Code if rest[0] == 'r' && !before.is_some_and(is_word_but_b) => match raw_string(rest) {
            Some(hashes) => (State::Text(Some(hashes)), hashes + 2, true),
            None => (State::Code, 1, true),
        },
        State::Code if rest[0] == '\'' => (State::Code, character(rest), true),
        State::Code => (State::Code, 1, true),
        State::LineComment if rest[0] == '\n' => (State::Code, 1, true),
        State::LineComment => (State::LineComment, 1, false),
        State::BlockComment(depth) if starts("/*") => (State::BlockComment(depth + 1), 2, false),
        State::BlockComment(1) if starts("*/") => (State::Code, 2, false),
        State::BlockComment(depth) if starts("*/") => (State::BlockComment(depth - 1), 2, false),
        State::BlockComment(depth) => (State::BlockComment(depth), 1, false),
        State::Text(None) if rest[0] == '\\' => (State::Text(None), rest.len().min(2), false),
        State::Text(None) if rest[0] == '"' => (State::Code, 1, true),
        State::Text(Some(n))
            if rest[0] == '"' && rest[1..].iter().take(n).filter(|c| **c == '#').count() == n =>
        {
            (State::Code, 1 + n, true)
        }
        State::Text(kind) => (State::Text(kind), 1, false),
    }
}

fn is_word_but_b(c: char) -> bool {
    (c.is_alphanumeric() || c == '_') && c != 'b' && c != 'c'
}

/// Number of `#` when `r"` or `r#"` begins here.
fn raw_string(rest: &[char]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
    (rest.get(1 + hashes) == Some(&'"')).then_some(hashes)
}

/// Length of a character literal; 1 for the quote of a lifetime.
fn character(rest: &[char]) -> usize {
    match (rest.get(1), rest.get(2)) {
        (Some('\\'), _) => rest[2..].iter().skip(1).position(|c| *c == '\'').map_or(1, |n| n + 4),
        (Some(_), Some('\'')) => 3,
        _ => 1,
    }
}

/// A function: its name, its first line and its last line (from 1).
pub struct Function {
    pub name: String,
    pub first: usize,
    pub last: usize,
}

/// The functions of a file's code that have a body.
pub fn functions(code: &str) -> Vec<Function> {
    let lines: Vec<&str> = code.lines().collect();
    let mut found = Vec::new();
    for (n, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        if let Some(last) = end_of_body(&lines[n..]) {
            found.push(Function { name, first: n + 1, last: n + 1 + last });
        }
    }
    found
}

fn function_name(line: &str) -> Option<String> {
    let at = line.find("fn ")?;
    let before = line[..at].trim_end();
    let is_declaration = before.is_empty()
        || before.split_whitespace().all(|w| {
            w.starts_with("pub")
                || w.ends_with(')')
                || ["const", "unsafe", "extern", "async", "\"C\"", "\" \""].contains(&w)
        });
    let name: String = line[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (is_declaration && !name.is_empty()).then_some(name)
}

/// Lines from a function's first to its closing brace; none when `;` ends it first.
fn end_of_body(lines: &[&str]) -> Option<usize> {
    let (mut depth, mut round) = (0usize, 0usize);
    for (n, line) in lines.iter().enumerate() {
        for c in line.chars() {
            match c {
                '(' | '[' => round += 1,
                ')' | ']' => round = round.saturating_sub(1),
                '{' => depth += 1,
                '}' if depth <= 1 => return Some(n),
                '}' => depth -= 1,
                ';' if depth == 0 && round == 0 => return None,
                _ => {}
            }
        }
    }
    None
}
